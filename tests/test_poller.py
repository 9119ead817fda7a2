"""The loop: when it polls, what it asks for, what it publishes, and what it survives."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import pytest
from structlog.testing import capture_logs

from exporter.cohere.client import Listing
from exporter.cohere.step_reading import Cursor, StepReading
from exporter.errors import (
    ApiError,
    ConnectionFailed,
    Forbidden,
    Gone,
    PaginationLimitExceeded,
    PaymentRequired,
    QuotaSpent,
    RateLimited,
    ServerError,
    Unauthorized,
)
from exporter.model import FinetunedModel, PollOutcome, Snapshot, Status, TrainingProgress
from exporter.polling.poller import Poller
from exporter.polling.quota import Quota
from exporter.polling.schedule import RESOLUTION
from tests.conftest import FakeClock, settle
from tests.schedules import schedule_of

pytestmark = pytest.mark.anyio

INTERVAL = 60.0


def model(id_: str, status: str = Status.FINETUNING, **fields: Any) -> FinetunedModel:
    return FinetunedModel(id=id_, name=f"name of {id_}", status=status, **fields)


class Api:
    """A fleet that a test changes between polls; remembers what it was asked, and when."""

    def __init__(self, clock: FakeClock, *models: FinetunedModel) -> None:
        self.models = list(models)
        self.pages = 1
        self.list_error: Exception | None = None
        self.list_takes = 0.0
        self.listed_at: list[float] = []
        self.progress: dict[str, TrainingProgress | Exception | None] = {}
        self.progress_takes = 0.0
        self.asked: list[str] = []
        self.asked_at: list[float] = []
        self.under_way = 0
        self.most_under_way = 0
        self._clock = clock

    async def list_models(self) -> Listing:
        self.listed_at.append(self._clock.monotonic())
        await self._take(self.list_takes)
        if self.list_error:
            raise self.list_error
        return Listing(tuple(self.models), self.pages)

    async def training_steps(
        self,
        model_id: str,
        known: TrainingProgress | None = None,
        cursor: Cursor | None = None,
        *,
        is_whole: bool = False,
    ) -> StepReading:
        self.asked.append(model_id)
        self.asked_at.append(self._clock.monotonic())
        await self._take(self.progress_takes)
        answer = self.progress.get(model_id, TrainingProgress(step=1))
        if isinstance(answer, Exception):
            raise answer
        return StepReading(answer, [])

    async def _take(self, seconds: float) -> None:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            if seconds:
                await self._clock.sleep(seconds)
        finally:
            self.under_way -= 1


class World:
    """A poller between a fake API and lists of what it published and reported."""

    def __init__(
        self, clock: FakeClock, *models: FinetunedModel, api: Api | None = None, **options: Any
    ) -> None:
        self.clock = clock
        self.api = api or Api(clock, *models)
        self.key = "first"
        self.published: list[Snapshot] = []
        self.publish_error: Exception | None = None
        self.publish_takes = 0.0
        self.outcomes: list[PollOutcome] = []
        self.failures: list[str] = []
        names = ("interval", "idle_interval", "stale_after", "quota")
        times = {name: options.pop(name) for name in names if name in options}
        self.poller = Poller(
            self.api,
            schedule=schedule_of(clock, **times),
            publish=self._publish,
            observer=self,
            clock=clock,
            key=lambda: self.key,
            **options,
        )

    async def _publish(self, snapshot: Snapshot) -> None:
        if self.publish_error:
            raise self.publish_error
        if self.publish_takes:
            await self.clock.sleep(self.publish_takes)
        self.published.append(snapshot)

    def poll_ended(self, outcome: PollOutcome) -> None:
        self.outcomes.append(outcome)

    def training_metrics_failed(self, reason: str) -> None:
        self.failures.append(reason)

    @property
    def times(self) -> tuple[float, float]:
        return self.poller.schedule.interval, self.poller.schedule.freshness.stale_after

    async def poll(self) -> Snapshot:
        """Poll once, well, an interval after the last, read what is due, and give what was published."""
        if self.outcomes:
            await self.clock.advance(self.poller.schedule.interval)
        outcome = await self.poller.poll()
        assert outcome.reason is None, outcome
        await self.poller.finish()
        return self.published[-1]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        """Let the loop run; it must still be alive at the end."""
        task = asyncio.create_task(self.poller.run())
        await settle()
        try:
            yield task
            assert not task.done(), "the loop died"
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def pauses(self, seconds: float) -> list[float]:
        """Let the loop run for so long with one key; return the seconds between the starts of polls."""
        with patch("exporter.polling.poller.KEY_CHECK_INTERVAL", INTERVAL):
            async with self.running():
                await self.clock.advance(seconds)
        return [later - earlier for earlier, later in pairwise(self.api.listed_at)]


@pytest.fixture
def world(clock: FakeClock) -> World:
    return World(clock)


# When it polls.


@pytest.mark.parametrize(("interval", "longest"), [(60.0, 1.0), (2.0, 0.2)])
async def test_the_first_poll_comes_almost_at_once_and_not_everywhere_at_once(
    clock: FakeClock, interval: float, longest: float
) -> None:
    worlds = [World(clock, interval=interval) for _ in range(20)]
    tasks = [asyncio.create_task(each.poller.run()) for each in worlds]
    await settle()
    starts = clock.sleeping
    assert all(0 <= start <= longest for start in starts)
    assert len(set(starts)) > 10
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_jump_of_the_wall_clock_changes_nothing(world: World) -> None:
    async with world.running():
        await world.clock.advance(INTERVAL)
        world.clock.unix_offset += 1e7
        await world.clock.advance(INTERVAL)
        world.clock.unix_offset -= 2e7
        await world.clock.advance(3 * INTERVAL)
    gaps = [b - a for a, b in pairwise(world.api.listed_at)]
    assert gaps == pytest.approx([INTERVAL] * len(gaps))
    assert len(gaps) >= 4
    assert all(outcome.duration == 0 for outcome in world.outcomes)


async def test_polls_never_overlap(world: World) -> None:
    world.api.list_takes = 2.5 * INTERVAL
    assert await world.pauses(10 * INTERVAL) == pytest.approx([2.5 * INTERVAL + RESOLUTION] * 3)
    assert world.api.most_under_way == 1


async def test_the_loop_ends_when_cancelled_and_leaves_no_call_behind(clock: FakeClock) -> None:
    world = World(clock, model("a"), model("b"))
    world.api.progress_takes = 1000.0
    before = asyncio.all_tasks()
    async with world.running():
        await clock.advance(5.0)
        assert world.api.under_way == 2
    await settle()
    assert world.api.under_way == 0
    assert asyncio.all_tasks() == before


# What it asks for.


async def test_without_progress_only_the_list_is_asked_for(clock: FakeClock) -> None:
    world = World(clock, model("a"), with_progress=False)
    assert [state.progress for state in (await world.poll()).states] == [None]
    assert world.api.asked == []


async def test_a_list_that_takes_longer_than_an_interval_starves_no_step_metrics(clock: FakeClock) -> None:
    world = World(clock, model("a"))
    world.api.list_takes = 1.5 * INTERVAL
    async with world.running():
        await clock.advance(10 * INTERVAL)
    assert "a" in world.api.asked


# What it publishes.


async def test_a_list_is_published_at_once_and_step_metrics_follow_together(clock: FakeClock) -> None:
    world = World(clock, *(model(f"m{n}") for n in range(5)))
    world.api.progress = {f"m{n}": TrainingProgress(step=n) for n in range(5)}
    world.api.progress_takes = 0.1
    async with world.running():
        await clock.advance(1.0)
        assert [state.progress for state in world.published[0].states] == [None] * 5
        await clock.advance(2.0)
    assert [state.progress for state in world.published[-1].states] == list(world.api.progress.values())
    assert len(world.published) == 2


async def test_to_finish_waits_for_what_is_being_published(clock: FakeClock) -> None:
    world = World(clock, model("a"))
    world.api.progress["a"] = TrainingProgress(step=3)
    world.api.progress_takes = 0.1
    async with world.running():
        await clock.advance(1.0)
        world.publish_takes = 10.0
        await clock.advance(2.0)  # the step is being published by the loop
        assert world.published[-1].states[0].progress is None
        finishing = asyncio.create_task(world.poller.finish())
        await settle()
        assert not finishing.done()
        await clock.advance(20.0)
        await finishing
        assert world.published[-1].states[0].progress == TrainingProgress(step=3)


async def test_every_status_is_counted_zeros_included(clock: FakeClock) -> None:
    world = World(clock, model("a"), model("b"), model("c", Status.READY), model("d", "STATUS_NEW"))
    snapshot = await world.poll()
    expected = {status.value: 0 for status in Status} | {
        "STATUS_FINETUNING": 2,
        "STATUS_READY": 1,
        "STATUS_NEW": 1,
    }
    assert dict(snapshot.status_counts) == expected


async def test_an_empty_account_is_a_good_poll(world: World) -> None:
    snapshot = await world.poll()
    assert snapshot.states == ()
    assert set(snapshot.status_counts.values()) == {0}


# --models.limit


async def test_the_newest_models_stay_within_the_limit(clock: FakeClock) -> None:
    models = [
        model("undated"),
        *(
            model(f"m{n}", Status.READY if n % 2 else Status.FINETUNING, created_at=float(n))
            for n in range(1, 6)
        ),
    ]
    world = World(clock, *models, models_limit=3)
    snapshot = await world.poll()
    assert [state.model.id for state in snapshot.states] == ["m5", "m4", "m3"]
    assert snapshot.dropped == 3
    assert snapshot.status_counts["STATUS_READY"] == 3
    assert snapshot.status_counts["STATUS_FINETUNING"] == 3
    assert sorted(world.api.asked) == ["m3", "m4", "m5"], "dropped models cost calls"


async def test_the_order_of_models_does_not_hang_on_the_order_of_the_list(clock: FakeClock) -> None:
    models = [model("b"), model("a"), model("d", created_at=1.0), model("c", created_at=1.0)]
    world = World(clock, *models)
    first = await world.poll()
    world.api.models.reverse()
    assert await world.poll() == first
    assert [state.model.id for state in first.states] == ["c", "d", "a", "b"]


# How it fails.


async def test_a_list_that_fails_publishes_nothing(clock: FakeClock) -> None:
    world = World(clock, model("a"))
    world.api.list_error = ServerError("HTTP 500: no", status=500)
    await world.poller.poll()
    assert (world.published, world.api.asked) == ([], [])
    assert [outcome.reason for outcome in world.outcomes] == ["server_error"]


async def test_that_data_is_stale_is_logged_once_at_that_moment_during_a_poll_too(clock: FakeClock) -> None:
    world = World(clock, model("a"))

    def lines() -> int:
        return len([line for line in log if line["event"].startswith("data is stale")])

    with capture_logs() as log:
        async with world.running():
            await clock.advance(30.0)
            world.api.list_takes = 500.0
            await clock.advance(world.api.listed_at[0] + 299.9 - clock.monotonic())
            assert lines() == 0
            await clock.advance(0.2)
            assert lines() == 1
            assert len(world.outcomes) == 1
            await clock.advance(1000.0)
            assert len(world.outcomes) == 3
    assert lines() == 1


@pytest.mark.parametrize("bug", [ValueError("x"), RecursionError(), ExceptionGroup("x", [OSError()])])
async def test_a_bug_in_the_api_s_answer_does_not_end_the_loop(clock: FakeClock, bug: Exception) -> None:
    world = World(clock, model("a"))
    world.api.list_error = bug
    async with world.running():
        await clock.advance(3 * INTERVAL)
        world.api.list_error = None
        await clock.advance(2 * INTERVAL)
    assert world.outcomes[0].reason == "internal_error"
    assert world.outcomes[-1].reason is None
    assert world.published


async def test_a_bug_in_publishing_loses_no_reading(clock: FakeClock) -> None:
    world = World(clock, model("a"))
    world.api.progress["a"] = TrainingProgress(step=3)
    world.api.progress_takes = 10.0
    async with world.running():
        await clock.advance(5.0)
        world.publish_error = RuntimeError("x")
        await clock.advance(20.0)
        world.publish_error = None
        await clock.advance(INTERVAL)
        assert world.published[-1].states[0].progress == TrainingProgress(step=3)


# Outcomes.


async def test_the_outcome_of_a_good_poll(clock: FakeClock) -> None:
    world = World(clock, model("a"))
    world.api.list_takes = 1.5
    async with world.running():
        await clock.advance(1.0 + 1.5)
    expected = PollOutcome(finished_at=world.outcomes[0].finished_at, duration=1.5)
    assert world.outcomes[0] == expected
    assert world.outcomes[0].finished_at == pytest.approx(
        world.api.listed_at[0] + 1.5 + clock.time() - clock.monotonic()
    )
    assert world.poller.outcome is world.outcomes[0]


async def test_the_outcome_of_a_bad_poll_says_what_and_what_to_do(world: World) -> None:
    world.api.list_error = Unauthorized("HTTP 401: invalid api token", status=401)
    outcome = await world.poller.poll()
    assert outcome == PollOutcome(
        finished_at=world.clock.time(),
        duration=0.0,
        reason="unauthorized",
        message="HTTP 401: invalid api token",
        advice=Unauthorized.advice,
    )
    assert world.outcomes == [outcome]
    assert world.poller.outcome is outcome


async def test_there_is_no_outcome_before_the_first_poll(world: World) -> None:
    assert world.poller.outcome is None


# How long it waits after a failure.


@pytest.mark.parametrize(
    ("error", "longest"),
    [
        (Unauthorized("x"), 900.0),
        (Forbidden("x"), 900.0),
        (PaymentRequired("x"), 900.0),
        (Gone("x"), 600.0),
        (PaginationLimitExceeded("x"), 600.0),
        (QuotaSpent("x"), 3600.0),
    ],
)
async def test_what_time_does_not_mend_doubles_the_pause_up_to_its_longest(
    world: World, error: ApiError, longest: float
) -> None:
    world.api.list_error = error
    pauses = await world.pauses(4 * 3600)
    assert pauses == pytest.approx([min(60.0 * 2**n, longest) for n in range(len(pauses))])
    assert pauses[-1] == pytest.approx(longest)


async def test_a_pause_is_never_shorter_than_the_interval(clock: FakeClock) -> None:
    world = World(clock, interval=7200.0)
    world.api.list_error = Unauthorized("x")
    assert await world.pauses(5 * 7200) == pytest.approx([7200.0] * 4)


async def test_a_refusal_after_an_outage_pauses_like_a_first_refusal(world: World) -> None:
    world.api.list_error = ConnectionFailed("x")
    async with world.running():
        await world.clock.advance(5 * INTERVAL)
        world.api.list_error = Gone("HTTP 404: the load balancer knows no backend yet")
        await world.clock.advance(INTERVAL)
        world.api.list_error = None
        await world.clock.advance(2 * INTERVAL)
        assert world.outcomes[-1].reason is None


@pytest.mark.parametrize("error", [Unauthorized("x"), ServerError("x"), QuotaSpent("x", retry_after=3000)])
async def test_a_changed_key_ends_the_pause(world: World, error: ApiError) -> None:
    world.api.list_error = error
    async with world.running():
        await world.clock.advance(2.0)
        polls = len(world.api.listed_at)
        await world.clock.advance(10.0)
        assert len(world.api.listed_at) == polls
        world.key, world.api.list_error = "second", None
        await world.clock.advance(1.5)
        assert len(world.api.listed_at) == polls + 1
        await world.clock.advance(INTERVAL - 2)
        assert len(world.api.listed_at) == polls + 1


async def test_a_changed_key_that_is_refused_too_begins_the_backoff_anew(world: World) -> None:
    world.api.list_error = Unauthorized("x")
    async with world.running():
        await world.clock.advance(5 * INTERVAL)  # pauses of one, two and four intervals
        polls = len(world.api.listed_at)
        world.key = "second"
        await world.clock.advance(1.5)
        assert len(world.api.listed_at) == polls + 1
        await world.clock.advance(INTERVAL)
        assert len(world.api.listed_at) == polls + 2


async def test_a_key_that_changes_while_a_poll_fails_ends_the_pause_too(world: World) -> None:
    world.api.list_error = Unauthorized("x")
    world.api.list_takes = 10.0
    async with world.running():
        await world.clock.advance(5.0)
        world.key, world.api.list_takes = "second", 0.0
        await world.clock.advance(10.0)
        assert len(world.api.listed_at) == 2


async def test_a_changed_key_ends_the_pause_of_step_metrics_alone(clock: FakeClock) -> None:
    world = World(clock, *(model(f"m{n}") for n in range(4)), interval=3600.0)
    world.api.progress = {f"m{n}": Unauthorized("x") for n in range(4)}
    async with world.running():
        await clock.advance(100.0)
        world.api.asked.clear()
        world.key, world.api.progress = "second", {}
        await clock.advance(1.5)
        assert sorted(world.api.asked) == ["m0", "m1", "m2", "m3"]
        assert len(world.api.listed_at) == 1


async def test_a_changed_key_does_not_hurry_polls_that_go_well(world: World) -> None:
    async with world.running():
        await world.clock.advance(2.0)
        world.key = "second"
        await world.clock.advance(INTERVAL - 3)
        assert len(world.api.listed_at) == 1


@pytest.mark.parametrize(
    ("retry_after", "pause"), [(5.0, 60.0), (200.0, 200.0), (3600.0, 3600.0), (1e9, 3600.0), (None, 60.0)]
)
async def test_retry_after_is_respected_up_to_an_hour(
    world: World, retry_after: float | None, pause: float
) -> None:
    world.api.list_error = RateLimited("x", retry_after=retry_after)
    assert (await world.pauses(8000))[0] == pytest.approx(pause)


async def test_retry_after_is_counted_from_the_answer_not_from_the_start_of_the_poll(world: World) -> None:
    world.api.list_takes = 25.0
    world.api.list_error = RateLimited("x", retry_after=60.0)
    assert (await world.pauses(300))[0] == pytest.approx(85.0)


# The budget of calls.


class Share(Quota):
    """A budget that takes so many seconds for each call, twice as many while nothing trains."""

    def __init__(self, seconds: float, readings: int | None = None) -> None:
        super().__init__(0, FakeClock())
        self.seconds = seconds
        self.limit = readings

    def interval(self, readings: int, *, is_busy: bool) -> float:
        return (self.pages + readings) * self.seconds * (1 if is_busy else 2)

    def readings(self, interval: float) -> int | None:
        return self.limit

    def can_list(self) -> bool:
        return False


async def test_only_models_whose_metrics_are_read_count_as_readings(clock: FakeClock) -> None:
    models = (model("a", created_at=2.0), model("b", created_at=1.0))
    limited = World(clock, *models, models_limit=1, quota=Share(100.0))
    await limited.poll()
    assert limited.poller.schedule.interval == 200.0
    without = World(clock, *models, with_progress=False, quota=Share(100.0))
    await without.poll()
    assert without.poller.schedule.interval == 100.0


async def test_a_poll_reads_no_more_models_than_the_budget_allows(clock: FakeClock) -> None:
    for allowed in (0, 2, None):
        world = World(clock, *(model(f"m{n}") for n in range(5)), quota=Share(1.0, readings=allowed))
        await world.poll()
        assert len(world.api.asked) == (5 if allowed is None else allowed)


async def test_a_training_beyond_the_limit_of_models_keeps_a_fleet_busy_and_is_not_read(
    clock: FakeClock,
) -> None:
    models = (model("new", Status.READY, created_at=2.0), model("old", created_at=1.0))
    world = World(clock, *models, models_limit=1, quota=Share(100.0))
    await world.poll()
    assert world.poller.schedule.interval == 100.0
    assert world.api.asked == ["new"]


async def test_a_changed_key_ends_the_pause_of_an_idle_fleet_after_a_failure(clock: FakeClock) -> None:
    world = World(clock, model("a", Status.READY), idle_interval=7200.0)
    async with world.running():
        await clock.advance(10.0)
        world.api.list_error = Unauthorized("x")
        await clock.advance(7200.0)
        assert len(world.api.listed_at) == 2
        world.key, world.api.list_error = "second", None
        await clock.advance(1.5)
        assert len(world.api.listed_at) == 3


async def test_the_outcome_of_a_poll_does_not_wait_for_step_metrics(clock: FakeClock) -> None:
    world = World(clock, model("a"))
    world.api.progress_takes = 40.0
    async with world.running():
        await clock.advance(1.0 + 2.0 + 0.1)
        assert [outcome.reason for outcome in world.outcomes] == [None]
        assert world.poller.last_success_at == world.outcomes[0].finished_at


# Idle fleets.


@pytest.mark.parametrize("jump", [3600.0, -3600.0, 3.2e7, -3.2e7])
async def test_the_next_poll_is_as_far_off_as_before_when_the_wall_clock_jumps(
    world: World, jump: float
) -> None:
    async with world.running():
        await world.clock.advance(20.0)
        announced = world.poller.next_poll_at
        world.clock.unix_offset += jump
        assert announced is not None
        assert world.poller.next_poll_at == pytest.approx(announced + jump)


# How long it takes.


async def test_a_poll_waits_for_nothing_but_the_answers(clock: FakeClock) -> None:
    world = World(clock, *(model(f"m{n}") for n in range(100)), concurrency=8)
    world.api.list_takes, world.api.progress_takes = 0.4, 0.2
    started, poll = clock.monotonic(), asyncio.create_task(world.poll())
    while not poll.done():
        await clock.advance(0.02)
    assert len(world.api.asked) == 100
    assert clock.monotonic() - started == pytest.approx(0.4 + math.ceil(100 / 7) * 0.2, abs=0.03)
