"""Time as the exporter sees it, so that tests can move it."""

import asyncio
import math
import time
from functools import partial
from typing import Protocol

LONGEST_NAP = 5.0  # seconds
# On Linux the one that goes on while the machine sleeps.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """The times the exporter reads and the one way it waits."""

    def monotonic(self) -> float:
        """Return seconds since some fixed moment; never goes back."""

    def time(self) -> float:
        """Return Unix seconds; may jump."""

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds` on the monotonic clock."""


class SystemClock:
    """The clocks of the machine; what it slept through has passed, for the age of data and for every wait."""

    monotonic = staticmethod(partial(time.clock_gettime, _STEADY))
    time = staticmethod(time.time)

    async def sleep(self, seconds: float) -> None:
        """Wait in naps: the event loop's own clock stands still while the machine sleeps."""
        due = self.monotonic() + seconds
        await asyncio.sleep(min(seconds, LONGEST_NAP))
        while (left := due - self.monotonic()) > 0:  # noqa: ASYNC110 - no event tells of time
            await asyncio.sleep(min(left, LONGEST_NAP))


class Wakeup:
    """Waits on a clock for a time to come, or for somebody to call earlier."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._called = asyncio.Event()

    def call(self) -> None:
        """Wake everybody who waits now."""
        called, self._called = self._called, asyncio.Event()
        called.set()

    async def wait(self, seconds: float) -> None:
        """Wait for `seconds` (infinity: without end) or until `call`."""
        waits: list[asyncio.Task[object]] = [asyncio.create_task(self._called.wait())]
        if seconds < math.inf:
            waits.append(asyncio.create_task(self._clock.sleep(max(seconds, 0.0))))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
