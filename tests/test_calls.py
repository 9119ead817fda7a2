"""What docs/calls.md says is measured is measured: by the simulator's counter, and over a whole day."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
from structlog.testing import capture_logs

from docs.calls import DAY, EXAMPLES, QUOTA, Example, calls_per_day, end_of_training, fleet, live, naive_calls
from docs.world import World, naive_poll
from exporter.polling.quota import MONTH
from exporter.simulator import LIST_MODELS, LIST_STEPS

ROWS = ("idle", 0), ("one training", 1), ("all training", 3)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with capture_logs():
        yield


def rows_of(models: int) -> dict[str, tuple[int, int]]:
    """Give the calls of the naive poller and of the exporter by state, as the table has them."""
    table = list(calls_per_day(fleets=(models,)))
    return {row[1]: (int(row[2].replace(",", "")), int(row[3].replace(",", ""))) for row in table}


@pytest.mark.parametrize(("state", "training"), ROWS)
def test_a_whole_day_of_polls_costs_what_the_table_says(state: str, training: int) -> None:
    async def day() -> int:
        world = World(fleet(3, training))
        while world.clock.now < DAY:
            await world.poll()
        return world.requests

    assert asyncio.run(day()) == rows_of(3)[state][1]


@pytest.mark.parametrize(("state", "training"), ROWS)
def test_the_naive_poller_asks_for_each_page_and_each_model_every_time(state: str, training: int) -> None:
    async def polls() -> int:
        world = World(fleet(3, training))
        for _ in range(5):
            await naive_poll(world.http)
        return world.requests

    assert asyncio.run(polls()) == 5 * (1 + 3)
    assert asyncio.run(naive_calls(120, training)) == 3 + 120
    assert rows_of(3)[state][0] == 1440 * (1 + 3)


def test_the_exporter_asks_for_each_page_and_each_model_in_training_once_a_poll() -> None:
    async def poll() -> dict[str, int]:
        world = World(fleet(120, 7))
        await world.poll()
        world.simulator.requests.clear()
        await world.poll()
        return dict(world.simulator.requests)

    assert asyncio.run(poll()) == {LIST_MODELS: 3, LIST_STEPS: 7}


@pytest.mark.parametrize("example", EXAMPLES[:5], ids=lambda each: f"{each.models}, {each.trainings}")
def test_a_month_with_a_quota_keeps_to_it_and_is_polled_to_its_end(example: Example) -> None:
    world = asyncio.run(live(example))
    assert QUOTA * 0.8 < world.requests <= QUOTA
    assert world.listed[-1][0] > 30.8 * DAY
    assert all(job.id in world.read for job in world.jobs if end_of_training(job) > 0)


@pytest.mark.parametrize("ascending_steps", [False, True])
def test_a_training_of_a_month_is_read_to_the_end_whatever_the_order_of_its_steps(
    ascending_steps: bool,
) -> None:
    async def month() -> World:
        # A row an hour, so that the month ends with 16 pages of them.
        jobs = [replace(job, row_interval=3600.0) for job in fleet(1, 1)]
        world = World(jobs, calls_per_month=QUOTA, ascending_steps=ascending_steps)
        while world.clock.now < MONTH:
            await world.poll()
            assert not world.poller.unread
        return world

    world = asyncio.run(month())
    assert world.requests <= QUOTA
    (read,) = world.read.values()
    gaps = [later - earlier for earlier, later in pairwise([*read, MONTH])]
    assert max(gaps) < (3.5 if ascending_steps else 0.25) * DAY
