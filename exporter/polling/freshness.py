"""How old a list may be: the one place that knows its age, its limit and when it is dropped.

Age counts from the start of the list's first request, so neither latency nor sleep makes data younger. The
limit is never shorter than what two good polls take, so that no list is dropped before its successor can
come: not while that comes page by page, either, however long it takes. It has room for a backoff, in which
no successor is asked for. What was dropped stays dropped.
"""

import math

from exporter.clock import Clock

STALE_AFTER_INTERVALS = 5
RESOLUTION = 1e-3  # seconds; a wait for less might not move a clock


class Freshness:
    """The limit in force, in seconds; `setting` is the user's, None: five intervals."""

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
