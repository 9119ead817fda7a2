"""When the next poll begins, and how old a list may be until then.

`PAUSES` is the table of the states: each kind of outcome has its own pause to the next poll, which doubles
while outcomes of that kind go on; another kind begins anew, and so does a new key. Where the API asked for a
longer pause (Retry-After), it is kept to, up to an hour. The interval is the setting, longer where the rate
limit, the quota or the list itself takes longer.
"""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from exporter.clock import Clock
from exporter.errors import (
    ApiError,
    Forbidden,
    Gone,
    PaginationLimitExceeded,
    PaymentRequired,
    QuotaSpent,
    Unauthorized,
)
from exporter.model import Status
from exporter.polling.allowance import LONGEST_RETRY_AFTER, RequestAllowance
from exporter.polling.quota import Quota


class Pause(NamedTuple):
    """The seconds from a poll to the next, and the most to which they double; both are the interval if None.

    The most is never less than the interval.
    """

    first: float | None = None
    most: float | None = None


GOOD = Pause()
PASSES = Pause(first=60.0)  # by itself: rate limit, server, timeout, connection, an odd answer, a bug
PAUSES: Mapping[type[ApiError], Pause] = {
    Unauthorized: Pause(most=900.0),
    Forbidden: Pause(most=900.0),
    PaymentRequired: Pause(most=900.0),
    Gone: Pause(most=600.0),
    PaginationLimitExceeded: Pause(most=600.0),
    QuotaSpent: Pause(most=3600.0),
}
# Unlike any other, these statuses pass by themselves.
UNDER_WAY = frozenset({Status.QUEUED, Status.FINETUNING, Status.DEPLOYING_API})
STALE_AFTER_INTERVALS = 5
RESOLUTION = 1e-3  # seconds; a wait for less might not move a clock


def asked_to_wait(error: ApiError | None) -> float:
    """Return the seconds for which the API asked to be left alone, counted from its answer."""
    return min(error.retry_after or 0.0, LONGEST_RETRY_AFTER) if error else 0.0


def doubled(first: float, times: int, most: float) -> float:
    """Return `first`, doubled so many times, up to `most`."""
    return min(first * 2.0 ** min(times, 20), most)


class Backoff:
    """Counts outcomes of one kind in a row; those that pass are one kind."""

    def __init__(self) -> None:
        self._kind: type[ApiError] | None = None
        self._repeated = 0

    def pause(self, error: ApiError | None, interval: float) -> float:
        """Return the seconds from this outcome to the next try; None is a good outcome."""
        kind = None if error is None else type(error) if type(error) in PAUSES else ApiError
        row = GOOD if kind is None else PAUSES.get(kind, PASSES)
        self._repeated = self._repeated + 1 if kind is self._kind else 0
        self._kind = kind
        return doubled(row.first or interval, self._repeated, max(row.most or 0.0, interval))


class Freshness:
    """How old a list may be; `setting` is the user's limit in seconds, None: five intervals.

    Age counts from the start of the list's first request, so neither latency nor sleep makes data younger.
    The limit is never shorter than what two good polls take, so that no list is dropped before its successor
    can come: not while that comes page by page, either, however long it takes. It has room for a backoff, in
    which no successor is asked for. What was dropped stays dropped.
    """

    def __init__(self, clock: Clock, *, interval: float, setting: float | None) -> None:
        self._clock = clock
        self._setting = setting
        self._interval = interval
        self._listed_at: float | None = None
        self.stale_after = self._promised = self._usual = self._limit(0.0)

    def _limit(self, duration: float) -> float:
        """Return the limit where a list takes so long."""
        interval = max(self._interval, duration)
        wanted = STALE_AFTER_INTERVALS * interval if self._setting is None else self._setting
        return max(wanted, 2 * interval + duration)

    def listed(self, began: float, interval: float) -> None:
        """Take note that a good list has come, when it began, and of the interval to the next one."""
        duration = self._clock.monotonic() - began
        self._listed_at, self._interval = began, max(interval, duration)
        self.stale_after = self._promised = self._usual = self._limit(duration)

    def goes_on(self, began: float) -> None:
        """Take note that the list begun at `began` has brought a page."""
        if self.is_fresh(self._listed_at):
            self.stale_after = max(self.stale_after, self._limit(self._clock.monotonic() - began))

    def failed(self, pause: float) -> None:
        """Take note that the next list comes after a pause; what it is longer than the interval is added."""
        self.stale_after = self._promised  # the pages that came are worth nothing
        if self.is_fresh(self._listed_at):
            self.stale_after = self._promised = self._usual + max(pause - self._interval, 0.0)

    def is_fresh(self, listed_at: float | None) -> bool:
        """Return whether a list whose first request was sent at `listed_at` may be shown now."""
        return listed_at is not None and self._clock.monotonic() - listed_at < self.stale_after

    @property
    def left(self) -> float:
        """The seconds until the last list is dropped, rounded up; infinity when none is shown."""
        if self._listed_at is None or not self.is_fresh(self._listed_at):
            return math.inf
        return max(self._listed_at + self.stale_after - self._clock.monotonic(), RESOLUTION)


class PollSchedule:
    """The times in force, in seconds; while a poll lasts longer than they say, they grow with it."""

    def __init__(
        self,
        clock: Clock,
        *,
        interval: float,
        idle_interval: float | None = None,
        stale_after: float | None = None,
        quota: Quota,
        allowance: RequestAllowance,
    ) -> None:
        self._clock = clock
        self._setting = interval
        self._idle_setting = interval if idle_interval is None else idle_interval
        self._quota = quota
        self._allowance = allowance
        self._backoff = Backoff()
        self._readings = 0
        self._has_step_metrics = False
        self._list_seconds = 0.0
        self._is_busy: bool | None = None  # None: nothing was listed yet
        self._began = self._next_at = clock.monotonic()
        self.regular = self._last_interval = self._interval()
        self.freshness = Freshness(clock, interval=self.regular, setting=stale_after)

    @property
    def next_at(self) -> float:
        """When the next poll begins, on the monotonic clock; at the earliest now."""
        return max(self._next_at, self._clock.monotonic())

    @property
    def interval(self) -> float:
        """The seconds from the start of a poll to that of the next."""
        return max(self._last_interval, self._clock.monotonic() - self._began)

    def began(self) -> float:
        """Take note that a poll begins; return when, on the monotonic clock."""
        self._began = self._clock.monotonic()
        self._plan(self._began + self.regular)
        self._allowance.list_began(lambda: self.freshness.goes_on(self._began))
        return self._began

    def _plan(self, next_at: float) -> None:
        self._next_at = next_at
        self._allowance.plan(due=self.next_at, interval=self.regular)

    def listed(
        self, statuses: Iterable[str], *, pages: int, readings: int, has_step_metrics: bool
    ) -> int | None:
        """Take note of the statuses of a good list, and of the models to be read in each interval.

        `has_step_metrics` is whether any may be read, be it once. Return how many may be read in this
        interval; None: any number.
        """
        self._quota.listed(pages)
        self._readings = readings
        self._has_step_metrics = has_step_metrics
        self._list_seconds = self._clock.monotonic() - self._began
        self._is_busy = any(status in UNDER_WAY for status in statuses)
        self.regular = self._interval()
        # Step metrics begin before the poll ends, and must leave room for lists at this interval.
        self._plan(self._began + self.regular)
        self.freshness.listed(self._began, self.regular)
        return self._quota.readings(self.regular)

    def ended(self, error: ApiError | None) -> None:
        """Take note of how the poll ended, and plan the next, at the earliest a millisecond from now."""
        if error:
            self.regular = self._interval()
        pause = self._backoff.pause(error, self.regular)
        if pause < self.regular and not self._quota.can_list():
            pause = self.regular
        earliest = self._clock.monotonic() + max(asked_to_wait(error), RESOLUTION)
        self._plan(max(self._began + pause, earliest))
        if error:
            self.freshness.failed(max(pause, asked_to_wait(error)))
        self._last_interval = self.next_at - self._began
        self._allowance.list_ended()

    def forget_failures(self) -> None:
        """Begin anew: what stood in the way may be gone."""
        self._backoff = Backoff()
        self._allowance.reopen()

    def _interval(self) -> float:
        """Return the interval by what the limits allow now."""
        return max(
            self._idle_setting if self._is_busy is False else self._setting,
            self._quota.interval(self._readings, is_busy=bool(self._is_busy)),
            self._allowance.least_interval(self._list_seconds, has_step_metrics=self._has_step_metrics),
        )
