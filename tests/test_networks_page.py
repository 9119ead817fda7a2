"""The page on networks says what tests hold."""

import re

import pytest

from tests.programs import ROOT

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")


def test_each_row_names_a_test_that_exists() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| env")]
    rows = [row for row in rows if not row.startswith("| response |")]
    named = [re.search(r"`(test_\w+\.py)::(test_\w+)` \|$", row) for row in rows]
    assert len(rows) > 20
    for row, name in zip(rows, named, strict=True):
        assert name, row
        assert f"def {name[2]}(" in (ROOT / "tests" / name[1]).read_text(encoding="utf-8"), row
