"""Time as the exporter sees it, so that tests can move it."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """The times the exporter reads and the one way it waits."""

    def monotonic(self) -> float:
        """Give seconds since some fixed moment; never goes back."""
        ...

    def time(self) -> float:
        """Give Unix seconds; may jump."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds` on the monotonic clock."""
        ...


class SystemClock:
    """The clocks of the machine."""

    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)
    sleep = staticmethod(asyncio.sleep)
