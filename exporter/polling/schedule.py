"""When the next poll begins: the interval in force, and the backoff after failures.

    the last poll                      pause to the next            doubles, while it goes on, up to
    ─────────────────────────────────  ───────────────────────────  ────────────────────────────────
    was good                           the interval                 -
    failed in a way that passes        a minute, or the interval    the interval
    failed in a way that stays         the interval                 its row in `LASTING`
    was asked to wait (Retry-After)    at least that, up to an hour

Another failure begins anew, and so does a new key. The interval is the setting, longer where the rate limit,
the quota or the list itself takes longer.
"""

from collections.abc import Sequence

from exporter.clock import Clock
from exporter.errors import ApiError, Endless, Forbidden, Gone, PaymentRequired, QuotaSpent, Unauthorized
from exporter.model import FinetunedModel, Status
from exporter.polling.allowance import LONGEST_RETRY_AFTER, RequestAllowance
from exporter.polling.freshness import Freshness
from exporter.polling.quota import Quota

FIRST_RETRY = 60.0  # seconds
MOST_PAGES = 1000  # of a list, as guessed
# What time alone does not end, and the longest pause in seconds.
LASTING: dict[type[ApiError], float] = {
    Unauthorized: 900.0,
    Forbidden: 900.0,
    PaymentRequired: 900.0,
    Gone: 600.0,
    Endless: 600.0,
    QuotaSpent: 3600.0,
}
# Unlike any other, these statuses pass by themselves.
UNDER_WAY = frozenset({Status.QUEUED, Status.FINETUNING, Status.DEPLOYING_API})


def asked_to_wait(error: ApiError | None) -> float:
    """Return the seconds for which the API asked to be left alone, counted from its answer."""
    return min(error.retry_after or 0.0, LONGEST_RETRY_AFTER) if error else 0.0


class Backoff:
    """Counts failures of one kind in a row."""

    def __init__(self) -> None:
        self._kind: type[ApiError] | None = None
        self._repeated = 0

    def pause(self, error: ApiError | None, interval: float) -> float:
        """Return the seconds from this outcome to the next try; None is a good outcome."""
        kind = type(error) if error else None
        row = self._row(kind)
        self._repeated = self._repeated + 1 if row == self._row(self._kind) else 1
        self._kind = kind
        doubled = 2.0 ** min(self._repeated - 1, 20)
        if kind is None:
            return interval
        if kind in LASTING:
            return max(interval, min(interval * doubled, LASTING[kind]))
        return min(interval, FIRST_RETRY * doubled)

    @staticmethod
    def _row(kind: type[ApiError] | None) -> object:
        """Return what counts as one kind: those that pass are one."""
        return kind if kind is None or kind in LASTING else ApiError


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

    def listed(self, models: Sequence[FinetunedModel], *, pages: int, readings: int) -> int | None:
        """Take note of a good list, and of the models whose step metrics are due in each interval.

        Return how many may be read in this interval; None: any number.
        """
        self._duration = self._clock.monotonic() - self._began
        self._pages, self._readings = pages, readings
        self._is_busy = any(model.status in UNDER_WAY for model in models)
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
