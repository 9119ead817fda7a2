"""When the next poll begins: the interval in force, and the backoff after failures.

`PAUSES` is the table of the states: each kind of outcome has its own pause to the next poll, which doubles
while outcomes of that kind go on; another kind begins anew, and so does a new key. Where the API asked for a
longer pause (Retry-After), it is kept to, up to an hour. The interval is the setting, longer where the rate
limit, the quota or the list itself takes longer.
"""

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
from exporter.polling.freshness import Freshness
from exporter.polling.quota import Quota

MOST_PAGES = 1000  # of a list, as guessed


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


def asked_to_wait(error: ApiError | None) -> float:
    """Return the seconds for which the API asked to be left alone, counted from its answer."""
    return min(error.retry_after or 0.0, LONGEST_RETRY_AFTER) if error else 0.0


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
        first, most = row.first or interval, max(row.most or 0.0, interval)
        return min(first * 2.0 ** min(self._repeated, 20), most)


class PollSchedule:
    """The times in force, in seconds; `next_at` is on the monotonic clock."""

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
        self._setting = self._busy_setting = interval
        self._idle_setting = interval if idle_interval is None else idle_interval
        self._quota = quota
        self._allowance = allowance
        self._backoff = Backoff()
        self._pages, self._readings, self._is_busy = 1, 0, False
        self._began = self._duration = 0.0
        self.regular = self.interval = self._interval()
        self.freshness = Freshness(clock, interval=self.regular, setting=stale_after)
        self.next_at = clock.monotonic()

    def began(self) -> None:
        """Take note that a poll begins."""
        self._began = self._clock.monotonic()
        self.next_at = self._began + self.regular
        self._allowance.list_began()

    def listed(self, statuses: Iterable[str], *, pages: int, readings: int) -> int | None:
        """Take note of the statuses of a good list, and of the models to be read in each interval.

        Return how many may be read in this interval; None: any number.
        """
        self._duration = self._clock.monotonic() - self._began
        self._pages, self._readings = pages, readings
        self._is_busy = any(status in UNDER_WAY for status in statuses)
        self._setting = self._busy_setting if self._is_busy else self._idle_setting
        self.regular = self._interval()
        self.freshness.listed(self._began, self.regular, self._duration)
        return self._quota.readings(self.regular)

    def ended(self, error: ApiError | None) -> None:
        """Take note of how the poll ended, and plan the next."""
        if isinstance(error, QuotaSpent) and error.status is None:
            # The list has more pages than were known; without a larger guess the first ones would be paid
            # for again and again, and the last never.
            self._pages = min(2 * self._pages, MOST_PAGES)
        if error:
            self.regular = self._interval()
        now = self._clock.monotonic()
        pause = self._backoff.pause(error, self.regular)
        if pause < self.regular and not self._quota.can_list():
            pause = self.regular
        self.next_at = max(self._began + pause, now + asked_to_wait(error), now)
        if error:
            self.freshness.failed(max(pause, asked_to_wait(error)))
        self.interval = self.next_at - self._began
        self._allowance.list_ended(due=self.next_at, interval=self.regular, pages=self._pages)

    def forget_failures(self) -> None:
        """Begin anew: what stood in the way may be gone."""
        self._backoff = Backoff()
        self._allowance.reopen()

    def _interval(self) -> float:
        """Return the interval by what the limits allow now."""
        return max(
            self._setting,
            self._quota.interval(self._pages, self._readings, is_busy=self._is_busy),
            self._allowance.least_interval(self._pages, self._readings),
        )
