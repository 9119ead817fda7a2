"""How old a list may be: the one place that knows its age, its limit and when it is dropped.

Age counts from the start of the list's first request, so neither latency nor sleep makes data younger. The
limit is never shorter than what two good polls take, so that no list is dropped before its successor can
come.
"""

from exporter.clock import Clock

STALE_AFTER_INTERVALS = 5


class Freshness:
    """The limit in force, in seconds; `setting` is the user's, None: five intervals."""

    def __init__(self, clock: Clock, *, interval: float, setting: float | None) -> None:
        self._clock = clock
        self._setting = setting
        self.stale_after = 0.0
        self.listed(interval, 0.0)

    def listed(self, interval: float, duration: float) -> None:
        """Take note of a good list: what it took, and the seconds from its start to the next one's.

        Failures change nothing here: they make old data no younger.
        """
        interval = max(interval, duration)
        wanted = STALE_AFTER_INTERVALS * interval if self._setting is None else self._setting
        self.stale_after = max(wanted, 2 * interval + duration)

    def is_fresh(self, listed_at: float | None) -> bool:
        """Return whether a list whose first request was sent at `listed_at` may be shown now."""
        return listed_at is not None and self._clock.monotonic() - listed_at < self.stale_after
