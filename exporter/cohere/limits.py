"""How many calls may be made: a ceiling a minute and a budget a month.

Both count requests as they are sent, retries included, and both are strict: no span of a minute, and no span
of a month in the life of this process, ever holds more than its number.
"""

import asyncio
from collections import Counter, deque

from exporter.clock import Clock
from exporter.errors import QuotaSpent

MINUTE = 60.0
HOUR = 3_600.0
MONTH = 31 * 86_400.0  # the longest, so that the quota of a shorter month lasts too
# Over so long are spare calls spread while something trains: a training takes between an hour and a day, and
# the jobs of an account run one after another (Cohere's documentation), so more may follow.
TRAINING = 3 * 86_400.0
DEAREST_READING = 1 / 8  # of the budget; one that costs more is tried all the same, lest none ever be
GROWTH = 1.25  # how much dearer the next reading may be: the list of steps grows


class RateLimiter:
    """Lets at most `limit` requests pass in any 60 seconds, first come, first served."""

    def __init__(self, limit: int, clock: Clock) -> None:
        self._clock = clock
        self._limit = limit
        self._passed: deque[float] = deque()
        self._held_until = clock.monotonic()
        self._turn = asyncio.Lock()

    async def acquire(self) -> float:
        """Wait until a request may be sent; give the seconds waited."""
        asked = self._clock.monotonic()
        async with self._turn:
            while (pause := self._pause()) > 0:
                await self._clock.sleep(pause)
            now = self._clock.monotonic()
            self._passed.append(now)
            return now - asked

    def hold(self, seconds: float) -> None:
        """Let nothing pass for `seconds`: the API asked for a rest."""
        self._held_until = max(self._held_until, self._clock.monotonic() + seconds)

    def _pause(self) -> float:
        now = self._clock.monotonic()
        while self._passed and self._passed[0] + MINUTE <= now:
            self._passed.popleft()
        is_full = len(self._passed) >= self._limit
        return max(self._held_until, self._passed[0] + MINUTE if is_full else now) - now


class MonthlyBudget:
    """At most `calls` in any span of a month (0: no budget), and how often that lets the API be polled.

    Half of them are an even flow that keeps the list polled, come what may; what the flow will not need
    before spent calls come back, or did not use, is spare. Spare calls go to step metrics, to retries and to
    polling more often, a share of them at a time, so that some are always left. The API does not tell how
    many calls are left and nothing is kept on disk, so a process begins with the whole budget.
    """

    def __init__(self, calls: int, clock: Clock) -> None:
        self._clock = clock
        self._calls = calls
        self._flow = calls / 2 / MONTH
        self._pages = 1
        self._calls_per_reading = 1.0
        self._reading_calls = 0
        self._was_cut_off = False
        self._read_at = clock.monotonic()
        # By the time at which they come back: a month after the end of the hour they were spent in, so that
        # the log stays short whatever the budget.
        self._spent: Counter[float] = Counter()

    @property
    def left(self) -> int:
        """The calls that may be made now."""
        now = self._clock.monotonic()
        while self._spent and (earliest := next(iter(self._spent))) <= now:
            del self._spent[earliest]
        return self._calls - self._spent.total()

    @property
    def has_spare(self) -> bool:
        """Whether there is a call that neither the even flow nor the list under way needs."""
        return not self._calls or self._spare() >= self._pages + 1

    def spend(self, *, spare: bool = False, page: int = 0) -> None:
        """Take one call, a `spare` one for step metrics; raise `QuotaSpent` when there is none.

        `page` counts the pages of a list from 0. A list may have grown by one; pages beyond that must be
        spare, too, for a list without end would take all there is.
        """
        if not self._calls:
            return
        if not self.left or ((spare or page > self._pages) and not self.has_spare):
            self._was_cut_off |= spare
            kept = "; the rest is kept for listing models" if self.left else ""
            budget = f"the budget of {self._calls} calls a month (--cohere.calls-per-month)"
            raise QuotaSpent(f"{budget} is spent{kept}")
        self._reading_calls += spare
        self._spent[(self._clock.monotonic() // HOUR + 1) * HOUR + MONTH] += 1

    def interval(self, pages: int, readings: int, *, is_busy: bool) -> float:
        """Give the seconds from one poll to the next: a list of `pages` pages, and so many `readings`.

        The readings hold up the list by one call at most: where they are many, polls come as often as the
        even flow pays for a list and that call, and each has as many readings as `readings` gives. Without
        that call there would be none once everything spare is spent.
        """
        if not self._calls:
            return 0.0
        # A list that all the calls cannot pay for does not come nearer by waiting.
        self._pages = pages = min(pages, self._calls)
        calls = readings * self._calls_per_reading
        spare = self._spare()
        rate = self._flow + max(spare, 0.0) / (TRAINING if is_busy else MONTH)
        wanted = min((pages + min(calls, 1.0)) / self._flow, (pages + calls) / rate)
        # Not before the even flow and what is spare can pay for the list.
        return max(wanted, (pages - spare) / self._flow)

    def readings(self, interval: float) -> int | None:
        """Give the most models whose step metrics one poll may read, `interval` apart; None: all."""
        if not self._calls:
            return None
        spare = self._spare()
        share = max(interval, self._pages / self._flow) / TRAINING
        # A reading that costs more than that is saved for, over several polls.
        saved = spare * (self._clock.monotonic() - self._read_at) / TRAINING
        calls = max(1.0, spare * share, min(saved, self._calls_per_reading))
        return int(max(0.0, min(spare - self._pages, calls)) / self._calls_per_reading)

    def read(self, models: int) -> None:
        """Learn what a reading costs: so many were begun with the spare calls spent since the last time.

        One takes several calls where the API gives its oldest step metrics first. A reading that is cut off
        for want of calls is a waste of them, so the next waits until there are twice as many.
        """
        if models:
            cost = self._reading_calls / models
            if cost > 1:
                cost *= GROWTH
            if self._was_cut_off:
                cost = 2 * max(cost, self._calls_per_reading)
            # Models differ: the dearer ones are not forgotten at once.
            cost = max(cost, 0.9 * self._calls_per_reading)
            self._calls_per_reading = max(1.0, min(cost, self._calls * DEAREST_READING))
            self._read_at = self._clock.monotonic()
        self._reading_calls, self._was_cut_off = 0, False

    def _spare(self) -> float:
        """Give the calls that the even flow does not need; below 0 it must catch up."""
        return self.left - self._reserve()

    def _reserve(self) -> float:
        """Give the calls that the even flow will need before spent ones come back."""
        now = self._clock.monotonic()
        needed, back = 0.0, 0
        for at, calls in self._spent.items():
            needed = max(needed, self._flow * (at - now) - back)
            back += calls
        return max(needed, self._flow * MONTH - back)
