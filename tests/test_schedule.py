"""How often the API is polled: idle or busy, with a budget of calls or without, and after a failure."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from exporter.cohere.transport import Endpoint
from exporter.errors import (
    ApiError,
    ConnectionFailed,
    InvalidResponse,
    QuotaSpent,
    RateLimited,
    ServerError,
    Timeout,
    Unauthorized,
)
from exporter.model import FinetunedModel, Status
from exporter.polling.quota import MONTH, Quota
from exporter.polling.schedule import PASSES, PAUSES
from tests.conftest import FakeClock
from tests.schedules import allowance_of, schedule_of

HOUR = 3_600.0


class Polls:
    """Polls that end as a test says, by a schedule."""

    def __init__(self, interval: float, *, clock: FakeClock | None = None, **options: Any) -> None:
        self.schedule = schedule_of(clock or FakeClock(), interval=interval, **options)
        self.readings_limit: int | None = None

    @property
    def interval(self) -> float:
        return self.schedule.regular

    @property
    def stale_after(self) -> float:
        return self.schedule.freshness.stale_after

    def listed(self, models: Sequence[FinetunedModel], *, pages: int, readings: int) -> None:
        self.schedule.began()
        statuses = [model.status for model in models]
        self.readings_limit = self.schedule.listed(
            statuses, pages=pages, readings=readings, has_step_metrics=readings > 0
        )
        self.schedule.ended(None)

    def failed(self, error: ApiError) -> None:
        self.schedule.began()
        self.schedule.ended(error)


def fleet(*statuses: str) -> list[FinetunedModel]:
    return [FinetunedModel(id=f"m{number}", status=status) for number, status in enumerate(statuses)]


# Idle and busy.


@pytest.mark.parametrize("status", [*Status, "STATUS_NEW"])
def test_a_fleet_is_idle_while_nothing_waits_trains_or_is_being_deployed(status: str) -> None:
    polls = Polls(60.0, idle_interval=600.0)
    polls.listed(fleet(Status.READY, status), pages=1, readings=0)
    busy = status in (Status.QUEUED, Status.FINETUNING, Status.DEPLOYING_API)
    assert (polls.interval, polls.stale_after) == ((60.0, 300.0) if busy else (600.0, 3000.0))


def test_before_the_first_list_nobody_knows_that_a_fleet_is_idle() -> None:
    polls = Polls(60.0, idle_interval=600.0)
    polls.failed(Timeout("x"))
    assert polls.interval == 60.0


def test_an_idle_fleet_stays_so_while_polls_fail() -> None:
    polls = Polls(60.0, idle_interval=600.0)
    polls.listed(fleet(), pages=1, readings=0)
    polls.failed(Timeout("x"))
    assert polls.interval == 600.0


@pytest.mark.parametrize(("given_", "in_force"), [(700.0, 1200.0), (5000.0, 5000.0)])
def test_a_stale_after_that_was_set_is_kept_if_two_idle_intervals_fit(given_: float, in_force: float) -> None:
    polls = Polls(60.0, idle_interval=600.0, stale_after=given_)
    assert polls.stale_after == given_
    polls.listed(fleet(), pages=1, readings=0)
    assert polls.stale_after == in_force


# A budget of calls.


def test_polls_tighten_when_something_trains_and_stretch_when_nothing_does(clock: FakeClock) -> None:
    polls = Polls(60.0, quota=Quota(1000, clock), clock=clock)
    intervals = []
    for status in (Status.READY, Status.QUEUED, Status.FINETUNING, Status.DEPLOYING_API, Status.READY):
        polls.listed(fleet(status), pages=1, readings=int(status == Status.FINETUNING))
        intervals.append(polls.interval)
    idle, queued, training, deploying, done = intervals
    assert queued == deploying < training < idle / 2.5
    assert done == idle


def test_a_poll_of_more_calls_comes_later(clock: FakeClock) -> None:
    polls = Polls(60.0, quota=Quota(1000, clock), clock=clock)
    intervals = []
    for pages, readings in ((1, 1), (1, 3), (2, 3)):
        polls.listed(fleet(Status.FINETUNING), pages=pages, readings=readings)
        intervals.append(polls.interval)
    assert intervals == [pytest.approx(calls * intervals[0] / 2) for calls in (2, 4, 5)]


def test_the_idle_interval_holds_beside_a_budget(clock: FakeClock) -> None:
    polls = Polls(60.0, idle_interval=6 * HOUR, quota=Quota(1000, clock), clock=clock)
    polls.listed(fleet(Status.READY), pages=1, readings=0)
    assert polls.interval == 6 * HOUR


@pytest.mark.parametrize("setting", [None, 900.0])
def test_a_backoff_is_added_to_what_may_be_shown_and_not_to_what_is_stale(
    clock: FakeClock, setting: float | None
) -> None:
    polls = Polls(60.0, stale_after=setting, clock=clock)
    polls.listed(fleet(), pages=1, readings=0)
    promised = setting or 300.0
    assert polls.stale_after == promised
    for pause in (60.0, 120.0, 240.0):
        polls.failed(Unauthorized("x"))
        assert polls.stale_after == promised + pause - 60.0
    polls.failed(Timeout("x"))
    assert polls.stale_after == promised
    polls.failed(RateLimited("x", retry_after=1e9))
    assert polls.stale_after == promised + 3600.0 - 60.0
    polls.listed(fleet(), pages=1, readings=0)
    assert polls.stale_after == promised
    clock.now += promised
    polls.failed(RateLimited("x", retry_after=1e9))
    assert polls.stale_after == promised


def test_a_list_that_takes_long_to_fail_makes_old_data_no_younger(clock: FakeClock) -> None:
    polls = Polls(60.0, clock=clock)
    polls.listed(fleet(), pages=1, readings=0)
    polls.schedule.began()
    clock.now += 200.0
    polls.schedule.ended(Timeout("x"))
    assert polls.stale_after == 300.0


@pytest.mark.anyio
@pytest.mark.parametrize("setting", [None, 130.0, 300.0])
async def test_a_list_that_comes_page_by_page_is_waited_for_and_no_more_than_that(
    clock: FakeClock, setting: float | None
) -> None:
    allowance = allowance_of(clock)
    polls = Polls(60.0, clock=clock, stale_after=setting, allowance=allowance)
    polls.listed(fleet(), pages=20, readings=0)
    schedule, listed_at = polls.schedule, clock.monotonic()
    promised = polls.stale_after
    clock.now += 60.0
    schedule.began()
    for page in range(20):
        clock.now += 20.0
        assert schedule.freshness.is_fresh(listed_at)
        assert schedule.next_at == max(listed_at + 120.0, clock.now)
        assert schedule.interval == max(60.0, 20.0 * (page + 1))
        async with allowance.request(Endpoint.LIST_FINETUNED_MODELS, page):
            pass
    assert polls.stale_after >= 3 * 400.0
    schedule.ended(Timeout("x"))
    for _ in range(2):  # what was dropped stays dropped, though pages come again
        assert polls.stale_after == promised
        assert not schedule.freshness.is_fresh(listed_at)
        schedule.began()
        async with allowance.request(Endpoint.LIST_FINETUNED_MODELS, 0):
            pass


def test_a_budget_that_cannot_pay_for_the_list_makes_its_interval_longer(clock: FakeClock) -> None:
    quota = Quota(1000, clock)
    polls = Polls(60.0, quota=quota, clock=clock)
    polls.listed(fleet(), pages=1, readings=0)
    assert polls.stale_after == pytest.approx(5 * MONTH / 1000)
    quota.pages = 2
    polls.failed(QuotaSpent("x"))
    assert polls.stale_after == pytest.approx(6 * MONTH / 1000)


@pytest.mark.parametrize(
    "error", [ServerError("x"), Timeout("x"), ConnectionFailed("x"), InvalidResponse("x"), RateLimited("x")]
)
@pytest.mark.parametrize("interval", [5.0, 60.0, 900.0, 6 * HOUR])
def test_what_time_ends_is_tried_again_after_a_minute_and_then_ever_later_up_to_the_interval(
    error: ApiError, interval: float
) -> None:
    polls = Polls(interval)
    for tries in range(12):
        polls.failed(error)
        assert polls.schedule.interval == min(interval, 60.0 * 2**tries)
    polls.listed(fleet(), pages=1, readings=0)
    polls.failed(error)
    assert polls.schedule.interval == min(interval, 60.0)


def test_a_quota_pays_for_tries_after_a_failure_and_keeps_what_lists_need(clock: FakeClock) -> None:
    polls = Polls(60.0, quota=Quota(1000, clock), clock=clock)
    polls.failed(ServerError("x"))
    assert polls.schedule.interval == 60.0 < polls.interval
    polls = Polls(60.0, quota=Quota(2, clock), clock=clock)
    polls.failed(ServerError("x"))
    assert polls.schedule.interval == polls.interval


@pytest.mark.parametrize("error", [Timeout("x"), RateLimited("x"), QuotaSpent("HTTP 429", status=429)])
def test_other_failures_change_no_interval(clock: FakeClock, error: ApiError) -> None:
    polls = Polls(60.0, quota=Quota(1000, clock), clock=clock)
    before = polls.interval
    polls.failed(error)
    assert polls.interval == before


def test_the_design_has_the_table_of_pauses() -> None:
    lines = (Path(__file__).parents[1] / "docs" / "design.md").read_text(encoding="utf-8").splitlines()
    for kind, pause in PAUSES.items():
        (row,) = [line for line in lines if line.startswith("|") and f"`{kind.__name__}`" in line]
        assert pause.first is None
        assert row.endswith(f"| the interval | {(pause.most or 0) / 60:g} minutes |")
    assert PASSES.first == 60
    assert any(line.startswith("| anything else") and "| a minute, or the interval" in line for line in lines)
