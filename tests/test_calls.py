"""What docs/calls.md says is measured is measured, by the simulator's counter."""

import asyncio
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from docs.calls import DAY, EXAMPLES, QUOTA, Example, calls_per_day, end_of_training, fleet, live, naive_calls
from docs.world import World, naive_poll
from exporter.app import shows_steps
from exporter.polling.quota import MONTH
from exporter.settings import load
from exporter.simulator import LIST_MODELS, LIST_STEPS
from exporter.simulator.jobs import STEPS_PER_ROW

pytestmark = pytest.mark.slow

CALLS = Path(__file__).parents[1] / "docs" / "calls.md"
ROWS = ("idle", 0), ("one training", 1), ("all training", 3)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with capture_logs():
        yield


def row_of(models: int, state: str) -> tuple[int, int]:
    """Return the calls of the naive poller and of the exporter in a day, as the table has them."""
    row = next(row for row in calls_per_day(fleets=(models,)) if row[1] == state)
    return int(row[2].replace(",", "")), int(row[3].replace(",", ""))


@pytest.mark.parametrize(("state", "training"), ROWS)
def test_polls_cost_what_the_table_says(state: str, training: int) -> None:
    async def polls() -> list[int]:
        world = World(fleet(3, training))
        return [await world.poll() for _ in range(20)]

    first, *later = asyncio.run(polls())
    assert len(set(later)) == 1
    assert first + 1439 * later[0] == row_of(3, state)[1]


def test_what_the_page_excludes_saves_every_call_for_steps() -> None:
    (pattern,) = re.findall(r"--metrics\.exclude='(.+?)'", CALLS.read_text())
    _, settings = load([f"--metrics.exclude={pattern}"], {"COHERE_API_KEY": "k"})
    assert not shows_steps(settings)


def test_the_naive_poller_asks_for_each_page_and_each_model_every_time() -> None:
    async def polls() -> int:
        world = World(fleet(3, 1))
        for _ in range(5):
            await naive_poll(world.http)
        return world.requests

    assert asyncio.run(polls()) == 5 * (1 + 3)
    assert asyncio.run(naive_calls(120)) == 3 + 120
    assert row_of(3, "one training")[0] == 1440 * (1 + 3)


def test_the_exporter_asks_for_each_page_and_each_model_in_training_once_a_poll() -> None:
    async def poll() -> dict[str, int]:
        world = World(fleet(120, 7))
        await world.poll()
        world.simulator.requests.clear()
        await world.poll()
        return dict(world.simulator.requests)

    assert asyncio.run(poll()) == {LIST_MODELS: 3, LIST_STEPS: 7}


@pytest.mark.parametrize("example", EXAMPLES[:6], ids=lambda each: f"{each.models}, {each.trainings}")
def test_a_month_with_a_quota_keeps_to_it_and_is_polled_to_its_end(example: Example) -> None:
    world = asyncio.run(live(example))
    assert QUOTA * 0.8 < world.requests <= QUOTA
    assert world.listed[-1][0] > 30.8 * DAY
    assert all(job.id in world.read for job in world.jobs if end_of_training(job) > 0)


def test_a_fleet_that_always_trains_shares_the_calls_of_a_quota_evenly() -> None:
    world = asyncio.run(live(Example(15, "all, always", always=15)))
    for times in world.read.values():
        gaps = [later - earlier for earlier, later in pairwise([*times, MONTH])]
        assert max(gaps) < 2 * DAY


@pytest.mark.parametrize("ascending_steps", [False, True])
def test_a_month_is_lived_with_the_calls_that_the_client_would_make(
    ascending_steps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of few rows and fewer to a page, so that readings take several, as those of a long run do.
    monkeypatch.setattr("exporter.cohere.client.LARGE_PAGE", 20)
    jobs = [
        replace(job, row_interval=12 * job.row_interval) for job in Example(3, "", every=1.0, always=1).jobs()
    ]

    async def days(*, is_quick: bool) -> World:
        world = World(jobs, calls_per_month=QUOTA, ascending_steps=ascending_steps, is_quick=is_quick)
        while world.clock.now < 2.5 * DAY:
            await world.poll()
        return world

    quick, real = (asyncio.run(days(is_quick=is_quick)) for is_quick in (True, False))
    assert quick.listed == real.listed
    assert quick.read == real.read
    assert quick.requests == real.requests > 100


@pytest.mark.parametrize("ascending_steps", [False, True])
def test_a_training_of_a_month_is_read_to_the_end_whatever_the_order_of_its_steps(
    ascending_steps: bool,
) -> None:
    async def month() -> World:
        # Pages of a thousand rows, as many as come in half a day.
        world = World(fleet(1, 1), calls_per_month=QUOTA, ascending_steps=ascending_steps, is_quick=True)
        while world.clock.now < MONTH:
            await world.poll()
            assert not world.poller.step_metrics.errors
        return world

    world = asyncio.run(month())
    assert world.requests <= QUOTA
    assert world.snapshot is not None
    (state,), (job,) = world.snapshot.states, world.jobs
    assert state.progress is not None
    assert job.row_at(state.progress.step // STEPS_PER_ROW) > world.clock.time() - 0.25 * DAY
    (read,) = world.read.values()
    gaps = [later - earlier for earlier, later in pairwise([*read, MONTH])]
    assert max(gaps) < 0.25 * DAY
