"""How often the API is polled: the settings and the budget → the interval in force.

An idle fleet, in which no model waits, trains or is being deployed, may be polled less often. The interval is
never shorter than its setting; a budget of calls makes it as long as it must. How long old data is kept
follows the interval.
"""

from collections.abc import Sequence
from typing import Protocol

from exporter.errors import ApiError, QuotaSpent
from exporter.model import FinetunedModel, Status

STALE_AFTER_INTERVALS = 5
# Unlike any other, these statuses pass by themselves.
UNDER_WAY = frozenset({Status.QUEUED, Status.FINETUNING, Status.DEPLOYING_API})


class Budget(Protocol):
    """What limits how often the API may be polled."""

    def interval(self, pages: int, readings: int, *, is_busy: bool) -> float:
        """Give the least seconds between polls that list `pages` pages and make so many `readings`."""
        ...

    def readings(self, interval: float) -> int | None:
        """Give the most models whose step metrics one poll may read, `interval` apart; None: all."""
        ...

    def read(self, models: int) -> None:
        """Take note that the readings of so many models have ended."""
        ...


class Pace:
    """The interval in force, in seconds; `listed` tells of the fleet, which is one page until then."""

    def __init__(
        self,
        interval: float,
        *,
        idle_interval: float | None = None,
        stale_after: float | None = None,
        budget: Budget | None = None,
    ) -> None:
        self._setting = interval
        self._interval = interval
        self._idle_interval = interval if idle_interval is None else idle_interval
        self._stale_after = stale_after
        self._budget = budget
        self._pages = 1
        self._readings = 0
        self._is_busy = False
        self.interval = self._promised = self._due_interval()

    @property
    def stale_after(self) -> float:
        """Seconds that a snapshot outlives the last success; at least two intervals.

        The interval is the one from then: failures, which may stretch it, make old data no younger.
        """
        if self._stale_after is None:
            return STALE_AFTER_INTERVALS * self._promised
        return max(self._stale_after, 2 * self._promised)

    @property
    def readings_limit(self) -> int | None:
        """The most models whose step metrics one poll may read; None: all."""
        return self._budget.readings(self.interval) if self._budget else None

    def listed(self, models: Sequence[FinetunedModel], *, pages: int, readings: int) -> None:
        """Take note of the fleet, of the pages it took, and of the step metrics that each poll will read."""
        self._pages, self._readings = pages, readings
        self._is_busy = any(model.status in UNDER_WAY for model in models)
        self._setting = self._interval if self._is_busy else self._idle_interval
        self.interval = self._promised = self._due_interval()

    def read(self, models: int) -> None:
        """Take note that the readings of so many models have ended, well or badly."""
        if self._budget:
            self._budget.read(models)

    def failed(self, error: ApiError) -> None:
        """Take note of a poll that failed.

        A list that the budget could not pay for has more pages than were known. Without a larger guess the
        first pages would be paid for again and again, and the last never.
        """
        if isinstance(error, QuotaSpent) and error.status is None:
            self._pages *= 2
        self.interval = self._due_interval()

    def _due_interval(self) -> float:
        """Give the interval by what is left of the budget now."""
        if not self._budget:
            return self._setting
        least = self._budget.interval(self._pages, self._readings, is_busy=self._is_busy)
        return max(self._setting, least)
