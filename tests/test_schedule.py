"""How often the API is polled: idle or busy, with a budget of calls or without, over months of any life."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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

pytestmark = pytest.mark.slow

HOUR = 3_600.0
DAY = 86_400.0


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
        self.readings_limit = self.schedule.listed(statuses, pages=pages, readings=readings)
        self.schedule.ended(None)

    def failed(self, error: ApiError) -> None:
        self.schedule.began()
        self.schedule.ended(error)


def fleet(*statuses: str) -> list[FinetunedModel]:
    return [FinetunedModel(id=f"m{number}", status=status) for number, status in enumerate(statuses)]


# Idle and busy.


def test_without_anything_special_the_interval_is_the_setting() -> None:
    polls = Polls(60.0)
    assert (polls.interval, polls.stale_after, polls.readings_limit) == (60.0, 300.0, None)
    polls.listed(fleet(Status.READY), pages=1, readings=0)
    assert polls.interval == 60.0


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


# Over months of any life.


@dataclass(frozen=True)
class Episode:
    """A time in which the fleet and the API stay as they are; a reading or list may need some retries."""

    days: float
    training: int = 0
    waiting: bool = False
    resting_unread: int = 0
    retries: int = 0
    is_down: bool = False
    pages_of_steps: int = 1

    @property
    def models(self) -> list[FinetunedModel]:
        statuses = [Status.FINETUNING] * self.training + [Status.QUEUED] * self.waiting
        return fleet(Status.READY, *statuses)


@dataclass
class Life:
    """A process that polls by its pace and spends as the transport does, on a clock of its own."""

    calls: int
    pages: int = 1
    setting: float = 60.0
    spent_at: list[float] = field(default_factory=list)
    listed_at: list[float] = field(default_factory=list)
    read_at: list[float] = field(default_factory=list)
    intervals: list[float] = field(default_factory=list)
    refused: int = 0
    cut_off: int = 0

    def __post_init__(self) -> None:
        self.clock = FakeClock()
        self.quota = Quota(self.calls, self.clock)
        self.polls = Polls(self.setting, quota=self.quota, clock=self.clock)
        self.polls.listed(fleet(), pages=self.pages, readings=0)

    def live(self, episodes: Sequence[Episode], days: float) -> None:
        end = self.clock.monotonic() + days * DAY
        for episode in cycle(episodes):
            episode_end, unread = self.clock.monotonic() + episode.days * DAY, episode.resting_unread
            while self.clock.monotonic() < episode_end:
                unread -= self._poll(episode, unread)
                self.intervals.append(self.polls.interval)
                self.clock.now += self.polls.interval
            if self.clock.monotonic() >= end:
                return

    def _poll(self, episode: Episode, unread: int) -> int:
        """Poll once and give how many models were read."""
        try:
            for page in range(1 if episode.is_down else self.pages):
                self._call(2 if episode.is_down else episode.retries, page=page)
        except QuotaSpent as error:
            self.refused += 1
            self.polls.failed(error)
            return 0
        if episode.is_down:
            self.polls.failed(Timeout("x"))
            return 0
        self.listed_at.append(self.clock.monotonic())
        self.polls.listed(episode.models, pages=self.pages, readings=episode.training)
        wanted = episode.training + unread
        limit = self.polls.readings_limit
        assert limit is not None
        read = sum(self._read(episode) for _ in range(min(wanted, limit)))
        return max(read - episode.training, 0)

    def _read(self, episode: Episode) -> bool:
        """Read one model, as many pages as can be had; return whether there was one."""
        for page in range(episode.pages_of_steps):
            try:
                self._call(episode.retries, discretionary=True, page=page)
            except QuotaSpent:
                if page:
                    break  # what was read is kept
                self.cut_off += 1
                return False
        self.read_at.append(self.clock.monotonic())
        return True

    def _call(self, retries: int, *, page: int = 0, discretionary: bool = False) -> None:
        for attempt in range(1 + retries):
            if attempt and not self.quota.has_discretionary:
                return
            self.quota.spend(discretionary=discretionary, page=page)
            self.spent_at.append(self.clock.monotonic())


EPISODES = st.lists(
    st.builds(
        Episode,
        days=st.sampled_from([0.2, 1.0, 4.0, 15.0, 40.0]),
        training=st.sampled_from([0, 0, 1, 3, 100]),
        waiting=st.booleans(),
        resting_unread=st.sampled_from([0, 20, 300]),
        retries=st.integers(0, 2),
        is_down=st.booleans(),
        pages_of_steps=st.sampled_from([1, 1, 10]),
    ),
    min_size=1,
    max_size=6,
)
LIVES = st.builds(
    Life,
    calls=st.sampled_from([50, 200, 1000]),
    pages=st.integers(1, 6),
    setting=st.sampled_from([60.0, 6 * HOUR]),
)


@settings(max_examples=40, deadline=None)
@given(LIVES, EPISODES)
def test_no_month_has_more_calls_than_the_budget_and_the_list_is_polled_to_its_end(
    life: Life, episodes: list[Episode]
) -> None:
    life.live(episodes, days=70)
    for first, beyond in zip(life.spent_at, life.spent_at[life.calls :], strict=False):
        assert beyond - first >= MONTH
    assert not life.refused
    assert min(life.intervals) >= life.setting
    # The even flow is half of the budget, spread over the month; where something trains, a call of it reads.
    calls = life.pages + any(episode.training for episode in episodes)
    even = MONTH / (life.calls / 2 / calls)
    assert max(life.intervals) <= max(life.setting, 1.001 * even)


@settings(max_examples=5, deadline=None)
@given(EPISODES)
def test_a_training_after_an_idle_month_is_followed_closely_whatever_was_before(
    episodes: list[Episode],
) -> None:
    life = Life(calls=1000)
    life.live(episodes, days=40)
    life.live([Episode(days=31.0)], days=31)
    before = len(life.listed_at)
    life.live([Episode(days=0.25, training=1)], days=0.25)
    gaps = [later - earlier for earlier, later in pairwise(life.listed_at[before:])]
    assert max(gaps) < 0.75 * HOUR


def test_a_list_that_has_grown_beyond_what_is_left_is_soon_paid_for() -> None:
    life = Life(calls=200)
    life.live([Episode(days=40.0, training=3)], days=40)
    life.pages = 6
    before = len(life.listed_at)
    life.live([Episode(days=10.0)], days=10)
    assert life.refused <= 3
    assert len(life.listed_at) - before >= 3


@pytest.mark.parametrize(("training", "pages_of_steps"), [(1, 1), (1, 3), (1, 10), (1, 30), (5, 1), (5, 10)])
def test_a_training_of_a_whole_month_is_read_to_its_end(training: int, pages_of_steps: int) -> None:
    life = Life(calls=1000)
    life.live([Episode(days=31.0, training=training, pages_of_steps=pages_of_steps)], days=31)
    assert len(life.spent_at) <= 1000
    assert life.cut_off <= 1
    gaps = [later - earlier for earlier, later in pairwise([*life.read_at, life.clock.monotonic()])]
    # Every second list, six hours, brings a call for readings, however many pages they could have.
    assert max(gaps) < 6 * HOUR


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


def test_a_month_of_training_uses_nearly_the_whole_budget() -> None:
    life = Life(calls=1000)
    life.live([Episode(days=31.0, training=1)], days=31)
    assert 950 < len(life.spent_at) <= 1000
    life.live([Episode(days=62.0, training=1)], days=62)
    assert len(life.spent_at) > 2800


def test_the_design_has_the_table_of_pauses() -> None:
    lines = (Path(__file__).parents[1] / "docs" / "design.md").read_text(encoding="utf-8").splitlines()
    for kind, pause in PAUSES.items():
        (row,) = [line for line in lines if line.startswith("|") and f"`{kind.__name__}`" in line]
        assert pause.first is None
        assert row.endswith(f"| the interval | {(pause.most or 0) / 60:g} minutes |")
    assert PASSES.first == 60
    assert any(line.startswith("| anything else") and "| a minute, or the interval" in line for line in lines)
