"""Whose step metrics are read, when, how many at once, and what stays when that fails."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from structlog.testing import capture_logs

from exporter.cohere.step_reading import Cursor, StepReading
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
from exporter.model import FinetunedModel, Status, StepRow, StepRows, TrainingProgress
from exporter.polling.readings import LONGEST_BACKOFF, REREAD
from exporter.polling.step_metrics import StepMetrics
from tests.conftest import FakeClock

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

INTERVAL = 60.0
HOUR = 3600.0
LONG_AGO = 1.0
REFUSALS = [Unauthorized("x"), Forbidden("x"), PaymentRequired("x"), RateLimited("x")]
FAILURES = [ServerError("x"), Timeout("x"), ConnectionFailed("x"), InvalidResponse("x"), *REFUSALS]


def model(id_: str, status: str = Status.FINETUNING, updated_at: float | None = LONG_AGO) -> FinetunedModel:
    return FinetunedModel(id=id_, status=status, updated_at=updated_at)


def fleet(count: int, status: str = Status.FINETUNING) -> list[FinetunedModel]:
    return [model(f"m{number:03}", status) for number in range(count)]


class World:
    """Step metrics over a fake API on a fake clock; remembers who was asked, when."""

    def __init__(self, clock: FakeClock, *, concurrency: int = 9) -> None:
        self.clock = clock
        self.answers: dict[str, StepReading | TrainingProgress | Exception | None] = {}
        self.takes: dict[str, float] = {}
        self.asked: list[tuple[float, str]] = []
        self.known: dict[str, TrainingProgress | None] = {}
        self.cursors: dict[str, Cursor | None] = {}
        self.whole: list[bool] = []
        self.in_flight = self.most_in_flight = 0
        self.failures: Counter[str] = Counter()
        self.rows: list[StepRows] = []
        self.changes = 0
        self.started = clock.monotonic()
        self.metrics = StepMetrics(
            self,
            clock=clock,
            concurrency=concurrency,
            on_change=self._changed,
            on_rows=self.rows.append,
            on_failure=lambda reason: self.failures.update([reason]),
        )

    def _changed(self) -> None:
        self.changes += 1

    async def training_steps(
        self,
        model_id: str,
        known: TrainingProgress | None = None,
        cursor: Cursor | None = None,
        *,
        is_whole: bool = False,
    ) -> StepReading:
        self.asked.append((self.clock.monotonic() - self.started, model_id))
        self.known[model_id], self.cursors[model_id] = known, cursor
        self.whole.append(is_whole)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if seconds := self.takes.get(model_id, self.takes.get("", 0.0)):
                await self.clock.sleep(seconds)
        finally:
            self.in_flight -= 1
        answer = self.answers.get(model_id, self.answers.get("", TrainingProgress(step=1)))
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, StepReading) else StepReading(answer, [])

    def listed(self, *models: FinetunedModel, limit: int | None = None, interval: float = INTERVAL) -> None:
        self.metrics.listed(models, interval=interval, limit=limit)

    async def read(self, *models: FinetunedModel) -> list[str]:
        """List these models, read what is due, and return who was asked."""
        before = len(self.asked)
        self.listed(*models)
        await self.metrics.drain()
        return [model_id for _, model_id in self.asked[before:]]

    async def run(self, seconds: float, *models: FinetunedModel) -> list[tuple[float, str]]:
        """List these models each interval for so long; return who was asked in that time, and when."""
        before = len(self.asked)
        running = asyncio.create_task(self.metrics.run())
        end = self.clock.monotonic() + seconds - 0.001
        while self.clock.monotonic() < end:
            self.listed(*models)
            await self.clock.advance(min(INTERVAL, end - self.clock.monotonic()))
        running.cancel()
        await asyncio.wait({running})
        await self.clock.advance(0.001)
        return self.asked[before:]

    async def times(self, seconds: float, *models: FinetunedModel) -> list[float]:
        """Do the same; return when somebody was asked, counted from now."""
        begin = self.clock.monotonic() - self.started
        return [at - begin for at, _ in await self.run(seconds, *models)]


@pytest.fixture
def world(clock: FakeClock) -> World:
    return World(clock)


# Who is read, and when.


async def test_a_model_in_training_is_read_once_an_interval(world: World) -> None:
    assert await world.times(5 * INTERVAL, model("a")) == pytest.approx([0.0, 60.0, 120.0, 180.0, 240.0])


@pytest.mark.parametrize("status", [s for s in Status if s not in (Status.FINETUNING, Status.QUEUED)])
async def test_a_model_long_at_rest_is_read_once(world: World, status: str) -> None:
    assert await world.times(4 * HOUR, model("a", status)) == [0.0]


async def test_a_model_of_a_status_nobody_knows_is_at_rest(world: World) -> None:
    assert await world.times(4 * HOUR, model("a", "STATUS_NEW")) == [0.0]


async def test_a_model_in_the_queue_is_never_read(world: World) -> None:
    assert await world.times(HOUR, model("a", Status.QUEUED)) == []


@pytest.mark.parametrize("status", [Status.READY, Status.FAILED, Status.DEPLOYING_API])
@pytest.mark.parametrize("before", [Status.FINETUNING, Status.QUEUED])
async def test_a_model_that_comes_to_rest_is_read_again_less_and_less_often(
    world: World, before: str, status: str
) -> None:
    await world.run(10 * INTERVAL, model("a", before))
    assert await world.times(10 * HOUR, model("a", status)) == pytest.approx([0.0, *REREAD], abs=1)
    assert world.whole[-1], "the last reading goes to the last page"


async def test_a_model_that_came_to_rest_a_short_while_before_the_start_is_read_again_too(
    world: World,
) -> None:
    fresh = model("a", Status.READY, updated_at=world.clock.time() - HOUR)
    assert await world.times(10 * HOUR, fresh) == pytest.approx([0.0, *REREAD], abs=1)


@pytest.mark.parametrize(
    ("gap", "times"), [(0.5 * HOUR, [0.0, 1800.0, REREAD[-1]]), (3 * HOUR, [0.0, REREAD[-1]])]
)
async def test_a_quota_spares_the_readings_between_two_lists(
    world: World, gap: float, times: list[float]
) -> None:
    running = asyncio.create_task(world.metrics.run())
    for _ in range(24):
        world.listed(model("a", Status.READY, updated_at=None), limit=5, interval=gap)
        await world.clock.advance(gap)
    running.cancel()
    await asyncio.wait({running})
    assert [at for at, _ in world.asked] == pytest.approx(times, abs=1)


async def test_a_row_that_comes_late_is_shown_and_looked_for_again(world: World) -> None:
    await world.run(INTERVAL, model("a"))
    running = asyncio.create_task(world.run(10 * HOUR, model("a", Status.READY)))
    await world.clock.advance(50 * 60.0)
    world.answers["a"] = TrainingProgress(step=2)
    await world.clock.advance(10 * HOUR)
    times = [at - INTERVAL for at, _ in (await running)]
    assert world.metrics.progress("a") == TrainingProgress(step=2)
    assert times == pytest.approx([0.0, *REREAD, *(REREAD[-1] + after for after in REREAD)], abs=1)


@pytest.mark.parametrize("change", [{"status": Status.PAUSED}, {"updated_at": 2.0}, {"updated_at": None}])
async def test_a_model_at_rest_that_changes_is_read_once_more(
    world: World, change: dict[str, object]
) -> None:
    resting = model("a", Status.READY)
    await world.run(INTERVAL, resting)
    changed = replace(resting, **change)  # type: ignore[arg-type]
    assert await world.times(4 * HOUR, changed) == [0.0]


async def test_other_changes_of_a_model_at_rest_cost_no_call(world: World) -> None:
    resting = model("a", Status.READY)
    await world.run(INTERVAL, resting)
    assert await world.run(HOUR, replace(resting, name="new", last_used=9.0)) == []


async def test_a_model_in_training_that_changes_is_read_no_more_often(world: World) -> None:
    await world.read(model("a"))
    assert await world.read(model("a", updated_at=2.0)) == []


async def test_a_model_in_training_that_changes_with_each_list_is_read_no_less_often(world: World) -> None:
    running = asyncio.create_task(world.metrics.run())
    for number in range(10):
        world.listed(model("a", updated_at=1.0 + number))
        await world.clock.advance(INTERVAL)
    running.cancel()
    assert [at for at, _ in world.asked] == pytest.approx([INTERVAL * number for number in range(10)])


async def test_a_reading_that_is_not_complete_goes_on_a_minute_later_where_it_ended(world: World) -> None:
    cursor = Cursor("next", 50)
    world.answers["a"] = StepReading(TrainingProgress(step=1), [], cursor=cursor, is_complete=False)
    await world.run(INTERVAL, model("a", Status.READY))
    world.answers["a"] = TrainingProgress(step=9)
    assert await world.times(INTERVAL, model("a", Status.READY)) == [0.0]
    assert world.cursors["a"] == cursor
    assert world.metrics.progress("a") == TrainingProgress(step=9)
    assert not any(world.whole)


@pytest.mark.parametrize("status", [Status.FINETUNING, Status.READY])
async def test_a_reading_that_is_never_complete_and_brings_nothing_is_not_repeated_at_once(
    world: World, status: str
) -> None:
    world.answers["a"] = StepReading(
        TrainingProgress(step=1), [], cursor=Cursor("next", 50), is_complete=False
    )
    times = await world.times(3 * HOUR, model("a", status))
    assert all(later - earlier >= INTERVAL - 0.001 for earlier, later in pairwise(times[1:]))


# How many, and in which order.


@pytest.mark.parametrize(("concurrency", "most"), [(1, 1), (2, 1), (8, 7)])
async def test_one_place_is_left_for_the_list(clock: FakeClock, concurrency: int, most: int) -> None:
    world = World(clock, concurrency=concurrency)
    world.takes[""] = 1.0
    await world.run(INTERVAL, *fleet(30))
    assert world.most_in_flight == most


async def test_readings_that_take_longer_than_an_interval_go_on_without_a_gap(clock: FakeClock) -> None:
    world = World(clock, concurrency=2)
    world.takes[""] = 7.0
    times = await world.times(20 * INTERVAL, *fleet(20))
    assert [b - a for a, b in pairwise(times)] == pytest.approx([7.0] * (len(times) - 1))
    counts = Counter(model_id for _, model_id in world.asked)
    assert max(counts.values()) - min(counts.values()) <= 1


async def test_a_slow_model_holds_up_no_other(world: World) -> None:
    world.takes = {"slow": 250.0, "": 0.1}
    times = await world.run(20 * INTERVAL, model("slow"), model("quick"))
    # Lists that come during its reading are worth one more, after it.
    assert Counter(model_id for _, model_id in times) == {"quick": 20, "slow": 5}


async def test_models_in_training_and_at_rest_take_turns(clock: FakeClock) -> None:
    world = World(clock, concurrency=1)
    asked = await world.read(*fleet(20, Status.READY), model("t1"), model("t2"))
    assert [model_id for model_id in asked[:4] if model_id.startswith("t")] == ["t1", "t2"]


async def test_a_quota_s_limit_is_kept_and_starves_neither_kind(world: World) -> None:
    models = [*fleet(5, Status.READY), model("t1"), model("t2")]
    for _ in range(12):
        world.listed(*models, limit=1)
        await world.metrics.drain()
        await world.clock.advance(INTERVAL)
    counts = Counter(model_id for _, model_id in world.asked)
    assert sum(counts.values()) == 12
    assert len(counts) == 7


async def test_a_quota_that_is_spent_during_a_reading_is_no_failure_of_the_model(world: World) -> None:
    world.answers["a"] = QuotaSpent("spent")
    assert await world.read(model("a"), model("b")) in (["a", "b"], ["b", "a"])
    assert not world.failures
    assert world.metrics.errors == []
    world.answers["a"] = TrainingProgress(step=3)
    assert "a" in await world.read(model("a"), model("b"))


# What is known.


async def test_what_is_known_goes_along_with_the_next_reading(world: World) -> None:
    first = TrainingProgress(step=3, metrics={"loss": 0.5})
    world.answers["a"] = StepReading(first, [], cursor=Cursor("last", 50))
    await world.run(2 * INTERVAL, model("a"))
    assert (world.known["a"], world.cursors["a"]) == (first, Cursor("last", 50))
    assert world.metrics.progress("a") == first
    assert world.changes == 1, "nothing new is no news"


async def test_new_rows_are_handed_on(world: World) -> None:
    rows = [StepRow(3, 30.0, {"loss": 0.5})]
    world.answers["a"] = StepReading(TrainingProgress(step=3), rows, missed=7, is_new_run=True)
    await world.read(model("a"))
    assert world.rows == [StepRows(model=model("a"), rows=rows, missed=7, is_new_run=True)]


async def test_of_a_model_that_rests_for_good_no_rows_are_remembered(world: World) -> None:
    cursor = Cursor("last", 50, seen=bytes(48))
    world.answers["a"] = StepReading(TrainingProgress(step=1), [], cursor=cursor)
    await world.run(INTERVAL, model("a"))
    await world.run(2 * HOUR, model("a", Status.READY))
    assert len(world.asked) == 6
    last = world.cursors["a"]
    assert last
    assert len(last.seen) == 48, "while it is read again"
    await world.run(INTERVAL, model("a", Status.READY, updated_at=2.0))
    last = world.cursors["a"]
    assert last == cursor
    assert len(last.seen) == 16


async def test_rows_that_come_late_are_news_although_they_change_no_progress(world: World) -> None:
    await world.read(model("a"))
    await world.clock.advance(INTERVAL)
    world.answers["a"] = StepReading(TrainingProgress(step=1), [StepRow(0, 30.0, {})])
    await world.read(model("a"))
    assert world.changes == 2


async def test_a_refused_model_that_left_counts_no_more_towards_a_refusal_of_all(clock: FakeClock) -> None:
    world = World(clock)
    for left in ("a", "b"):
        world.answers[left] = Unauthorized("x")
        assert await world.read(model(left)) == [left]
    world.answers["c"] = Unauthorized("x")
    assert await world.read(model("c")) == ["c"]
    assert await world.read(model("c"), model("d")) == ["d"], "one model that is listed was refused"


@pytest.mark.parametrize(
    "statuses",
    [
        [Status.QUEUED],
        [Status.FAILED, Status.QUEUED],
        [Status.FAILED, Status.QUEUED, Status.FINETUNING],
        [Status.FAILED, Status.FINETUNING],
        [Status.READY, Status.FINETUNING],
    ],
)
async def test_a_run_that_begins_anew_inherits_nothing(world: World, statuses: Sequence[str]) -> None:
    world.answers["a"] = TrainingProgress(step=290)
    await world.read(model("a"))
    world.answers["a"] = None
    for status in statuses:
        await world.read(model("a", status))
    assert world.metrics.progress("a") is None


async def test_a_reading_of_the_run_before_is_dropped(world: World) -> None:
    world.takes["a"] = 10.0
    world.answers["a"] = TrainingProgress(step=290)
    running = asyncio.create_task(world.metrics.run())
    world.listed(model("a"))
    await world.clock.advance(5.0)
    world.listed(model("a", Status.QUEUED))
    world.listed(model("a"))
    await world.clock.advance(6.0)
    assert world.metrics.progress("a") is None
    world.answers["a"] = TrainingProgress(step=0)
    await world.clock.advance(INTERVAL)
    assert world.metrics.progress("a") == TrainingProgress(step=0)
    running.cancel()


@pytest.mark.parametrize("status", [Status.READY, Status.FINETUNING])
@pytest.mark.parametrize("odd", [None, Gone("HTTP 404", status=404)])
async def test_one_odd_answer_ends_nothing(world: World, status: str, odd: Exception | None) -> None:
    await world.read(model("a", Status.FINETUNING))
    await world.clock.advance(INTERVAL)
    world.answers["a"] = odd
    assert await world.read(model("a", status)) == ["a"]
    assert world.metrics.progress("a") == TrainingProgress(step=1)
    world.answers["a"] = TrainingProgress(step=2)
    await world.run(2 * INTERVAL, model("a", status))
    assert world.metrics.progress("a") == TrainingProgress(step=2)


@pytest.mark.parametrize("answer", [None, Gone("HTTP 404", status=404)])
async def test_that_a_model_long_at_rest_has_no_rows_is_asked_about_once_more(
    world: World, answer: Exception | None
) -> None:
    world.answers["a"] = answer
    once_more = REREAD[-1] - REREAD[-2]
    assert await world.times(4 * HOUR, model("a", Status.FAILED)) == pytest.approx([0.0, once_more])
    assert world.metrics.errors == []


@pytest.mark.parametrize("odd", [None, Gone("HTTP 404", status=404)])
async def test_one_odd_answer_about_a_model_long_at_rest_does_not_hide_its_rows(
    world: World, odd: Exception | None
) -> None:
    world.answers["a"] = odd
    await world.run(INTERVAL, model("a", Status.READY))
    world.answers["a"] = TrainingProgress(step=9)
    await world.run(HOUR, model("a", Status.READY))
    assert world.metrics.progress("a") == TrainingProgress(step=9)


# Failures.


@pytest.mark.parametrize("error", [*FAILURES, ValueError("a bug")])
async def test_a_failure_keeps_what_is_known_and_is_counted(world: World, error: Exception) -> None:
    await world.read(model("a"))
    await world.clock.advance(INTERVAL)
    world.answers["a"] = error
    await world.read(model("a"))
    assert world.metrics.progress("a") == TrainingProgress(step=1)
    reason = error.reason if isinstance(error, ApiError) else "internal_error"
    assert world.failures == {reason: 1}
    assert [each.reason for each in world.metrics.errors] == [reason]


@pytest.mark.parametrize("error", FAILURES)
@pytest.mark.parametrize("bad", [1, 2, 5])
async def test_models_that_fail_hold_up_no_other(world: World, bad: int, error: Exception) -> None:
    models = fleet(20)
    world.takes[""] = 0.2
    for each in models[:bad]:
        world.answers[each.id] = error
    asked = Counter(model_id for _, model_id in await world.run(12 * INTERVAL, *models))
    healthy = [asked[each.id] for each in models[bad:]]
    # Two that are refused at once may look like all, for a minute and once.
    assert min(healthy) >= (11 if bad > 1 and error in REFUSALS else 12)


@pytest.mark.parametrize("interval", [1.0, 60.0, 7200.0])
async def test_a_model_that_keeps_failing_is_asked_less_and_less_often(world: World, interval: float) -> None:
    world.answers["a"] = ServerError("x")
    running = asyncio.create_task(world.metrics.run())
    world.listed(model("a"), interval=interval)
    await world.clock.advance(20_000.0)
    running.cancel()
    times = [at for at, _ in world.asked]
    gaps = [b - a for a, b in pairwise(times)]
    first = min(interval, 60.0)
    assert gaps == pytest.approx(
        [min(first * 2**n, max(interval, LONGEST_BACKOFF)) for n in range(len(gaps))]
    )


@pytest.mark.parametrize(
    ("error", "status"),
    [
        *((error, Status.FINETUNING) for error in REFUSALS),
        *((FAILURES[0], status) for status in (Status.FINETUNING, Status.READY)),
    ],
)
async def test_a_failure_of_everybody_costs_a_handful_of_calls(
    world: World, error: Exception, status: str
) -> None:
    world.answers[""] = error
    world.takes[""] = 0.1
    asked = await world.run(6 * HOUR, *fleet(100, status))
    assert max(Counter(at // 60 for at, _ in asked if at > 60).values()) <= 4
    lasting = isinstance(error, Unauthorized | Forbidden | PaymentRequired)
    later = [at for at, _ in asked if at > 2 * HOUR]  # each was tried
    assert len(later) <= (4 * 18 if lasting else 250)


@pytest.mark.parametrize("error", [*REFUSALS, ServerError("x")])
@pytest.mark.parametrize("count", [40, 100])
async def test_the_one_good_model_is_read_once_each_was_tried(
    world: World, error: Exception, count: int
) -> None:
    *failing, good = fleet(count)
    world.answers.update((model.id, error) for model in failing)
    asked = await world.run(2 * HOUR, *failing, good)
    tries_a_pause = 1 if isinstance(error, RateLimited) else 4
    assert next(at for at, model_id in asked if model_id == good.id) <= INTERVAL * count / tries_a_pause


@pytest.mark.parametrize("error", [Unauthorized("x"), ServerError("x")])
@pytest.mark.parametrize(("count", "bad"), [(12, 9), (40, 20)])
async def test_whatever_share_of_the_models_fails_the_others_are_read(
    world: World, error: Exception, count: int, bad: int
) -> None:
    models = fleet(count)
    world.takes[""] = 0.2
    for each in models[:bad]:
        world.answers[each.id] = error
    await world.run(HOUR, *models)
    asked = Counter(model_id for _, model_id in await world.run(HOUR, *models))
    assert min(asked[each.id] for each in models[bad:]) == 60


async def test_after_a_refusal_of_everybody_all_are_read_again(world: World) -> None:
    world.answers[""] = Forbidden("x")
    await world.run(3 * HOUR, *fleet(50))
    world.answers[""] = TrainingProgress(step=1)
    asked = await world.run(LONGEST_BACKOFF + INTERVAL, *fleet(50))
    assert {model_id for _, model_id in asked} == {each.id for each in fleet(50)}


async def test_a_new_key_ends_every_backoff(world: World) -> None:
    world.answers[""] = Unauthorized("x")
    await world.run(HOUR, *fleet(50))
    world.answers[""] = TrainingProgress(step=1)
    world.metrics.resume()
    assert len(await world.read(*fleet(50))) == 50


@pytest.mark.parametrize("error", [kind("x", retry_after=1000.0) for kind in (RateLimited, ServerError)])
async def test_a_model_is_left_alone_for_as_long_as_the_api_asks(world: World, error: Exception) -> None:
    world.answers["a"] = error
    assert await world.times(1500.0, model("a")) == pytest.approx([0.0, 1000.0])


async def test_a_failure_is_no_end_of_a_model_at_rest(world: World) -> None:
    world.answers["a"] = Timeout("x")
    await world.run(HOUR, model("a", Status.READY))
    world.answers["a"] = TrainingProgress(step=5)
    await world.run(2 * LONGEST_BACKOFF, model("a", Status.READY))
    assert world.metrics.progress("a") == TrainingProgress(step=5)


async def test_the_log_names_the_first_model_that_fails_and_says_when_none_does(world: World) -> None:
    world.answers = {"a": ServerError("HTTP 500: x", trace_id="t"), "b": Timeout("y")}
    with capture_logs() as lines:
        await world.run(10 * INTERVAL, model("a"), model("b"))
        world.answers.clear()
        await world.run(LONGEST_BACKOFF, model("a"), model("b"))
    told = [line for line in lines if line["log_level"] != "debug"]
    assert [line["event"] for line in told] == [
        "step metrics cannot be read; last good values stay",
        "step metrics cannot be read; last good values stay",
        "step metrics can be read again",
    ]
    assert {line["reason"] for line in told[:2]} == {"server_error", "timeout"}, "once for each reason"
    assert (told[0]["model_id"], told[0]["reason"], told[0]["trace_id"]) == ("a", "server_error", "t")
    assert told[0]["advice"]


async def test_a_bug_has_its_traceback_and_names_the_model(world: World) -> None:
    world.answers[""] = ValueError("a bug")
    with capture_logs() as lines:
        await world.run(10 * INTERVAL, *fleet(20))
    bugs = [line for line in lines if line["log_level"] == "error"]
    assert len(bugs) > 10
    assert all(line["model_id"] and line["exc_info"] for line in bugs)


@pytest.mark.parametrize(
    "after", [[], [model("m", Status.QUEUED)]], ids=["the model left", "its run is over"]
)
async def test_a_reading_that_comes_too_late_is_ended(
    world: World, clock: FakeClock, after: list[FinetunedModel]
) -> None:
    world.takes["m"] = HOUR
    world.listed(model("m"))
    reading = asyncio.create_task(world.metrics.drain())
    await clock.advance(1.0)
    assert world.in_flight == 1
    world.listed(*after)
    await clock.advance(1.0)
    await reading
    assert world.in_flight == 0
    assert (world.rows, world.metrics.errors, world.metrics.progress("m")) == ([], [], None)


async def test_new_models_that_are_refused_do_not_keep_the_pauses_short(world: World) -> None:
    world.answers[""] = Forbidden("x")
    models = fleet(40)
    await world.run(2 * HOUR, *models)
    asked = 0
    for number in range(60):
        models.append(model(f"new-{number}"))
        asked += len(await world.run(INTERVAL, *models))
    assert asked <= 60 + 4 * 5
