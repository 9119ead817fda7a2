"""How old a list may be: the one place that knows its age, its limit and when it is dropped.

Age counts from the start of the list's first request, so neither latency nor sleep makes data younger. The
limit is never shorter than what two good polls take, so that no list is dropped before its successor can
come, and has room for a backoff, in which no successor is asked for. What was dropped stays dropped.
"""

from exporter.clock import Clock

STALE_AFTER_INTERVALS = 5


class Freshness:
    """The limit in force, in seconds; `setting` is the user's, None: five intervals."""

    def __init__(self, clock: Clock, *, interval: float, setting: float | None) -> None:
        self._clock = clock
        self._setting = setting
        self._listed_at: float | None = None
        self._plan(interval, 0.0)

    def _plan(self, interval: float, duration: float) -> None:
        self._interval = max(interval, duration)
        wanted = STALE_AFTER_INTERVALS * self._interval if self._setting is None else self._setting
        self.stale_after = self._usual = max(wanted, 2 * self._interval + duration)

    def listed(self, began: float, interval: float, duration: float) -> None:
        """Take note of when a good list began, of what it took, and of the interval to the next one."""
        self._listed_at = began
        self._plan(interval, duration)

    def failed(self, pause: float) -> None:
        """Take note that the next list comes after a pause; what it is longer than the interval is added."""
        if self.is_fresh(self._listed_at):
            self.stale_after = self._usual + max(pause - self._interval, 0.0)

    def is_fresh(self, listed_at: float | None) -> bool:
        """Return whether a list whose first request was sent at `listed_at` may be shown now."""
        return listed_at is not None and self._clock.monotonic() - listed_at < self.stale_after
