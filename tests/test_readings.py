"""Which models' step metrics are asked for, how many at once, and what stays when that fails."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from exporter.errors import (
    ApiError,
    ConnectionFailed,
    Forbidden,
    Gone,
    InvalidResponse,
    PaymentRequired,
    QuotaSpent,
    RateLimited,
    ServerError,
    Timeout,
    Unauthorized,
)
from exporter.model import FinetunedModel, Status, TrainingProgress
from exporter.readings import Readings
from tests.conftest import FakeClock, settle

pytestmark = pytest.mark.anyio

INTERVAL = 60.0


def model(id_: str, status: str = Status.FINETUNING, updated_at: float | None = 1.0) -> FinetunedModel:
    return FinetunedModel(id=id_, status=status, updated_at=updated_at)


def fleet(count: int, status: str = Status.FINETUNING) -> list[FinetunedModel]:
    return [model(f"m{number:02}", status) for number in range(count)]


class Api:
    """Answers with what a test put in, and remembers what it was asked."""

    def __init__(self, clock: FakeClock) -> None:
        self.answers: dict[str, TrainingProgress | Exception | None] = {}
        self.asked: list[str] = []
        self.asked_at: list[float] = []
        self.earlier: dict[str, TrainingProgress | None] = {}
        self.takes = 0.0
        self.under_way = 0
        self.most_under_way = 0
        self._clock = clock

    async def training_progress(
        self, model_id: str, earlier: TrainingProgress | None = None
    ) -> TrainingProgress | None:
        self.asked.append(model_id)
        self.asked_at.append(self._clock.monotonic())
        self.earlier[model_id] = earlier
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            if self.takes:
                await self._clock.sleep(self.takes)
        finally:
            self.under_way -= 1
        answer = self.answers.get(model_id, TrainingProgress(step=1))
        if isinstance(answer, Exception):
            raise answer
        return answer


class World:
    """Readings over a fake API on a fake clock; failures counted by reason."""

    def __init__(self, clock: FakeClock, *, concurrency: int = 8) -> None:
        self.clock = clock
        self.api = Api(clock)
        self.failures: Counter[str] = Counter()
        self.readings = Readings(self.api, observer=self, clock=clock, concurrency=concurrency)

    def training_metrics_failed(self, reason: str) -> None:
        self.failures[reason] += 1

    async def refresh(self, *models: FinetunedModel) -> list[str]:
        """Refresh at once and give who was asked."""
        before = len(self.api.asked)
        await self.readings.refresh(models, INTERVAL)
        return self.api.asked[before:]

    async def refresh_over_time(self, *models: FinetunedModel) -> list[str]:
        """Refresh with calls that take their time, an interval as deadline, up to the last answer."""
        before = len(self.api.asked)
        started = self.clock.monotonic()
        task = asyncio.create_task(self.readings.refresh(models, INTERVAL))
        await settle()
        while not task.done():
            await self.clock.advance(1.0)
        await task
        await self.clock.advance(max(0.0, started + INTERVAL - self.clock.monotonic()))
        return self.api.asked[before:]

    async def polls_until_asked(self, models: list[FinetunedModel], id_: str, most: int = 20) -> int:
        """Count the polls, an interval apart, until the model is asked for again."""
        for polls in range(1, most + 1):
            await self.clock.advance(INTERVAL)
            if id_ in await self.refresh(*models):
                return polls
        raise AssertionError(f"{id_} was not asked for within {most} polls")


@pytest.fixture
def world(clock: FakeClock) -> World:
    return World(clock)


# Which models are asked for.


async def test_a_model_in_training_is_read_each_time(world: World) -> None:
    assert [await world.refresh(model("a")) for _ in range(3)] == [["a"]] * 3


@pytest.mark.parametrize("status", [s for s in Status if s not in (Status.FINETUNING, Status.QUEUED)])
async def test_a_model_at_rest_is_read_once(world: World, status: str) -> None:
    assert [await world.refresh(model("a", status)) for _ in range(3)] == [["a"], [], []]


async def test_a_model_of_a_status_nobody_knows_is_at_rest(world: World) -> None:
    assert [await world.refresh(model("a", "STATUS_NEW")) for _ in range(2)] == [["a"], []]


async def test_a_model_in_the_queue_is_never_read(world: World) -> None:
    assert await world.refresh(model("a", Status.QUEUED)) == []
    assert await world.refresh(model("a", Status.QUEUED, updated_at=2.0)) == []


async def test_a_model_at_rest_is_read_again_when_its_status_changes(world: World) -> None:
    await world.refresh(model("a", Status.READY))
    assert await world.refresh(model("a", Status.PAUSED)) == ["a"]
    assert await world.refresh(model("a", Status.PAUSED)) == []


@pytest.mark.parametrize("updated_at", [2.0, 0.5, None])
async def test_a_model_at_rest_is_read_again_when_updated_at_changes(
    world: World, updated_at: float | None
) -> None:
    await world.refresh(model("a", Status.READY))
    assert await world.refresh(model("a", Status.READY, updated_at)) == ["a"]
    assert await world.refresh(model("a", Status.READY, updated_at)) == []


async def test_other_changes_of_a_model_at_rest_cost_no_call(world: World) -> None:
    resting = model("a", Status.READY)
    await world.refresh(resting)
    assert await world.refresh(replace(resting, name="new", last_used=9.0)) == []


async def test_the_end_of_training_is_read_once_more(world: World) -> None:
    await world.refresh(model("a", Status.FINETUNING))
    assert await world.refresh(model("a", Status.DEPLOYING_API)) == ["a"]
    assert await world.refresh(model("a", Status.DEPLOYING_API)) == []


async def test_that_a_model_at_rest_has_no_metrics_is_learned_once(world: World) -> None:
    world.api.answers["a"] = None
    assert [await world.refresh(model("a", Status.FAILED)) for _ in range(2)] == [["a"], []]
    assert world.readings.progress(model("a")) is None


async def test_a_fleet_at_rest_costs_nothing_after_its_first_reading(world: World) -> None:
    resting = fleet(20, Status.READY)
    assert sorted(await world.refresh(*resting)) == [each.id for each in resting]
    assert await world.refresh(*resting) == []


async def test_an_empty_fleet_costs_nothing(world: World) -> None:
    assert await world.refresh() == []


# What is known.


async def test_the_progress_read_is_given(world: World) -> None:
    world.api.answers["a"] = TrainingProgress(step=3, metrics={"loss": 0.5})
    assert world.readings.progress(model("a")) is None
    await world.refresh(model("a"))
    assert world.readings.progress(model("a")) == TrainingProgress(step=3, metrics={"loss": 0.5})


async def test_what_was_known_goes_along_with_the_next_call(world: World) -> None:
    first = TrainingProgress(step=3)
    world.api.answers["a"] = first
    await world.refresh(model("a"))
    assert world.api.earlier["a"] is None
    await world.refresh(model("a"))
    assert world.api.earlier["a"] is first


async def test_a_model_that_left_is_forgotten(world: World) -> None:
    await world.refresh(model("a", Status.READY), model("b"))
    await world.refresh(model("b"))
    assert world.readings.progress(model("a", Status.READY)) is None
    assert world.readings.progress(model("b")) is not None
    assert "a" in await world.refresh(model("a", Status.READY), model("b"))


# Failures.


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Forbidden("x"), "forbidden"),
        (Gone("x"), "gone"),
        (ServerError("x"), "server_error"),
        (Timeout("x"), "timeout"),
        (ConnectionFailed("x"), "connection"),
        (InvalidResponse("x"), "invalid_response"),
        (Unauthorized("x"), "unauthorized"),
        (PaymentRequired("x"), "payment_required"),
        (RateLimited("x"), "rate_limited"),
        (QuotaSpent("x"), "rate_limited"),
        (KeyError("a bug"), "invalid_response"),
    ],
)
async def test_a_failure_keeps_the_last_good_reading_and_is_counted(
    world: World, error: Exception, reason: str
) -> None:
    good = TrainingProgress(step=3)
    world.api.answers["a"] = good
    await world.refresh(model("a"))
    world.api.answers["a"] = error
    await world.refresh(model("a"))
    assert world.readings.progress(model("a")) is good
    assert world.failures == {reason: 1}


@pytest.mark.parametrize(
    "error", [ServerError("x"), Timeout("x"), Gone("x"), Forbidden("x"), ValueError("x")]
)
async def test_a_failure_on_one_model_leaves_the_others_alone(world: World, error: Exception) -> None:
    models = fleet(5)
    world.api.answers["m00"] = error
    await world.readings.refresh(models, INTERVAL)
    assert [world.readings.progress(each) is not None for each in models] == [False, True, True, True, True]


@pytest.mark.parametrize(
    "error", [Unauthorized("x"), PaymentRequired("x"), RateLimited("x"), QuotaSpent("x")]
)
async def test_a_failure_that_all_would_meet_ends_the_round(clock: FakeClock, error: ApiError) -> None:
    world = World(clock, concurrency=2)
    models = fleet(10)
    world.api.answers = {each.id: error for each in models}
    await world.readings.refresh(models, INTERVAL)
    assert len(world.api.asked) <= 2


async def test_one_such_failure_stops_the_workers_that_meet_none(clock: FakeClock) -> None:
    world = World(clock, concurrency=2)
    world.api.takes = 1.0
    world.api.answers["m00"] = RateLimited("x")
    assert await world.refresh_over_time(*fleet(10)) == ["m00", "m01"]


async def test_a_round_that_ended_early_goes_on_where_it_ended(clock: FakeClock) -> None:
    world = World(clock, concurrency=1)
    models = fleet(4)
    world.api.answers["m01"] = RateLimited("x")
    assert await world.refresh(*models) == ["m00", "m01"]
    world.api.answers.clear()
    await clock.advance(INTERVAL)
    assert (await world.refresh(*models))[:2] == ["m02", "m03"]


async def test_a_model_at_rest_that_failed_is_read_again(world: World) -> None:
    resting = [model("a", Status.READY)]
    world.api.answers["a"] = ServerError("x")
    await world.refresh(*resting)
    assert await world.polls_until_asked(resting, "a") == 1
    world.api.answers.clear()
    await world.polls_until_asked(resting, "a")
    assert await world.refresh(*resting) == []


async def test_a_model_that_keeps_failing_is_asked_for_more_and_more_seldom(world: World) -> None:
    failing = fleet(1)
    world.api.answers["m00"] = ServerError("x")
    await world.refresh(*failing)
    waits = [await world.polls_until_asked(failing, "m00") for _ in range(8)]
    assert waits == [1, 2, 4, 8, 9, 9, 9, 9]


@pytest.mark.parametrize("kind", [RateLimited, ServerError])
async def test_an_api_that_asks_for_a_rest_is_not_asked_before_it_is_over(
    world: World, kind: type[ApiError]
) -> None:
    models = fleet(1)
    world.api.answers["m00"] = kind("x", retry_after=1.5 * INTERVAL)
    assert await world.refresh(*models) == ["m00"]
    assert await world.polls_until_asked(models, "m00") == 2


@pytest.mark.parametrize("kind", [RateLimited, ServerError])
async def test_an_hour_is_the_longest_rest(world: World, kind: type[ApiError]) -> None:
    models = fleet(1)
    world.api.answers["m00"] = kind("x", retry_after=float("inf"))
    await world.refresh(*models)
    assert await world.polls_until_asked(models, "m00", most=60) == 60


async def test_a_poll_that_comes_a_moment_early_counts_as_one(world: World) -> None:
    world.api.answers["m00"] = ServerError("x")
    await world.refresh(*fleet(1))
    await world.clock.advance(INTERVAL - 1.0)
    assert await world.refresh(*fleet(1)) == ["m00"]


async def test_one_success_ends_the_back_off(world: World) -> None:
    models = fleet(1)
    world.api.answers["m00"] = ServerError("x")
    await world.refresh(*models)
    for _ in range(4):
        await world.polls_until_asked(models, "m00")
    world.api.answers.clear()
    await world.polls_until_asked(models, "m00")
    assert [await world.polls_until_asked(models, "m00") for _ in range(3)] == [1, 1, 1]


async def test_metrics_that_are_gone_are_not_asked_for_before_the_model_changes(world: World) -> None:
    world.api.answers["a"] = Gone("x")
    resting = model("a", Status.DELETED)
    asked = []
    for _ in range(10):
        asked += await world.refresh(resting)
        await world.clock.advance(INTERVAL)
    assert asked == ["a"]
    assert await world.refresh(replace(resting, updated_at=2.0)) == ["a"]


# Order, concurrency, deadline.


@pytest.mark.parametrize("concurrency", [1, 3, 8])
async def test_no_more_calls_are_under_way_than_allowed(clock: FakeClock, concurrency: int) -> None:
    world = World(clock, concurrency=concurrency)
    world.api.takes = 1.0
    assert len(await world.refresh_over_time(*fleet(20))) == 20
    assert world.api.most_under_way == concurrency


async def test_models_in_training_are_read_first(clock: FakeClock) -> None:
    world = World(clock, concurrency=1)
    models = [model("resting", Status.READY), model("training"), model("failed", Status.FAILED)]
    assert (await world.refresh(*models))[0] == "training"


async def test_nothing_begins_after_the_deadline(clock: FakeClock) -> None:
    world = World(clock, concurrency=2)
    world.api.takes = 25.0
    started = clock.monotonic()
    await world.refresh_over_time(*fleet(20))
    assert [at - started for at in world.api.asked_at] == [0.0, 0.0, 25.0, 25.0, 50.0, 50.0]


async def test_a_deadline_that_is_always_too_short_starves_no_model_in_training(clock: FakeClock) -> None:
    world = World(clock, concurrency=1)
    world.api.takes = 20.0
    models = fleet(7)
    asked = [len(await world.refresh_over_time(*models)) for _ in range(7)]
    assert asked == [3] * 7
    assert set(Counter(world.api.asked).values()) == {3}


async def test_a_deadline_that_is_always_too_short_starves_no_model_at_rest(clock: FakeClock) -> None:
    world = World(clock, concurrency=1)
    world.api.takes = 20.0
    models = [*fleet(7), model("resting", Status.READY)]
    for _ in range(10):
        await world.refresh_over_time(*models)
    assert "resting" in world.api.asked


async def test_a_limit_of_one_starves_neither_kind(clock: FakeClock) -> None:
    world = World(clock)
    models = [*fleet(3), *(model(f"resting{number}", Status.READY) for number in range(2))]
    for _ in range(7):
        assert await world.readings.refresh(models, INTERVAL, 1) == 1
        await clock.advance(INTERVAL)
    assert world.api.asked == ["m00", "resting0", "m01", "resting1", "m02", "m00", "m01"]


async def test_a_deadline_that_lets_one_model_be_read_starves_neither_kind(clock: FakeClock) -> None:
    world = World(clock, concurrency=1)
    world.api.takes = INTERVAL
    models = [*fleet(2), model("resting", Status.READY)]
    for _ in range(3):
        await world.refresh_over_time(*models)
    assert set(world.api.asked) == {"m00", "m01", "resting"}


async def test_a_refresh_tells_how_many_models_it_began_to_read(world: World) -> None:
    models = fleet(20)
    assert await world.readings.refresh(models, INTERVAL) == 20
    assert await world.readings.refresh(models, INTERVAL, 3) == 3
    assert await world.readings.refresh([], INTERVAL) == 0
    world.api.answers = {each.id: QuotaSpent("x") for each in models}
    assert await world.readings.refresh(models, INTERVAL) == 1
    assert await world.readings.refresh(models, INTERVAL) == 0


async def test_a_round_that_is_cancelled_leaves_nothing_under_way(world: World) -> None:
    world.api.takes = 1000.0
    task = asyncio.create_task(world.readings.refresh(fleet(3), INTERVAL))
    await settle()
    assert world.api.under_way == 3
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.api.under_way == 0


# The log.


def warnings(lines: list[dict[str, object]]) -> list[object]:
    return [line["event"] for line in lines if line["log_level"] in ("info", "warning", "error")]


async def test_the_log_tells_once_that_readings_begin_to_fail_and_once_that_none_fails(world: World) -> None:
    models = fleet(3)
    answers: list[Callable[[], dict[str, TrainingProgress | Exception | None]]] = [
        dict,
        lambda: {each.id: ServerError("x") for each in models},
        lambda: {each.id: ServerError("x") for each in models},
        lambda: {"m00": ServerError("x")},
        dict,
        dict,
    ]
    told = []
    for answer in answers:
        world.api.answers = answer()
        with capture_logs() as lines:
            await world.refresh(*models)
        told.append(warnings([dict(line) for line in lines]))
        await world.clock.advance(20 * INTERVAL)
    began, ended = ["step metrics cannot be read; last good values stay"], ["step metrics can be read again"]
    assert told == [[], began, [], [], ended, []]


async def test_the_log_shows_a_bug_with_its_traceback(world: World) -> None:
    world.api.answers["m00"] = ZeroDivisionError("x")
    with capture_logs() as lines:
        await world.refresh(*fleet(1))
    assert [line["model_id"] for line in lines if line.get("exc_info")] == ["m00"]


async def test_what_is_kept_of_a_failure_holds_no_answer(clock: FakeClock) -> None:
    world = World(clock)
    failure = InvalidResponse("x")
    failure.__context__ = ValueError("in the middle of it")
    world.api.answers["a"] = failure
    await world.refresh(model("a"))
    (error,) = world.readings.errors
    # The frames of a traceback would hold all that was read, for as long as the error is kept.
    assert (error.__traceback__, error.__context__, error.__cause__) == (None, None, None)
