"""How many calls may be made: a ceiling a minute and a budget a month.

Both count requests as they are sent, retries included, and both are strict: no span of a minute, and no month
of this process, ever holds more than its number.
"""

import asyncio
from collections import deque

from exporter.clock import Clock
from exporter.errors import QuotaSpent

MINUTE = 60.0
MONTH = 31 * 86_400.0  # the longest, so that the quota of a shorter month lasts too


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
    """Spreads `calls` over a month (0: no budget).

    The API does not tell how many calls are left, so a month begins when the process does, with the whole
    budget, and is followed by the next.
    """

    def __init__(self, calls: int, clock: Clock) -> None:
        self._clock = clock
        self._calls = calls
        self._left = calls
        self._ends_at = clock.monotonic() + MONTH

    def spend(self) -> None:
        """Take one call; raise `QuotaSpent` when none is left this month."""
        if not self._calls:
            return
        self._renew()
        if not self._left:
            raise QuotaSpent(f"the budget of {self._calls} calls a month (--cohere.calls-per-month) is spent")
        self._left -= 1

    def pace(self, calls: int) -> float:
        """Give the seconds over which `calls` must be spread for the rest of the budget to last the month."""
        if not self._calls:
            return 0.0
        self._renew()
        seconds_left = self._ends_at - self._clock.monotonic()
        return min(seconds_left, calls * seconds_left / self._left) if self._left else seconds_left

    def _renew(self) -> None:
        while self._clock.monotonic() >= self._ends_at:
            self._left = self._calls
            self._ends_at += MONTH
