"""The table of scenarios against the tests that live through its rows."""

from inspect import getmembers, isfunction, signature

import pytest

from tests import test_hostile_network, test_hostile_times
from tests.hostile.scenarios import NETWORK, SCENARIOS, TIMES

pytestmark = pytest.mark.slow


def test_every_row_is_lived_through_by_the_test_that_it_names() -> None:
    tests = {
        f"{file}::{name}"
        for file, module in ((TIMES, test_hostile_times), (NETWORK, test_hostile_network))
        for name, test in getmembers(module, isfunction)
        if name.startswith("test_") and "row" in signature(test).parameters
    }
    assert {row.test for row in SCENARIOS} == tests


def test_every_row_is_there_once_and_says_something() -> None:
    assert len({row.name for row in SCENARIOS}) == len({row.test for row in SCENARIOS}) == len(SCENARIOS)
    assert all("`" in row.during and "`" in row.after for row in SCENARIOS)
