"""An event loop that never waits: when all its tasks do, time leaps to the next that is due.

Deadlines of asyncio, sleeps and retries keep their order and cost nothing; work for threads is done at once.
So a run is the same each time. When nothing is left that could ever wake, it says so instead of hanging.
"""

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from exporter.clock import SystemClock

START = 1_000.0
UNIX_OFFSET = 1.7e9
# The loop takes a timer for due that is not by so many seconds. Who then waits again for the rest would do so
# for ever where time stands still: some passes after so many turns of the loop in which none did.
RESOLUTION, MOST_TURNS = 1e-9, 20_000


class _Leap(selectors.SelectSelector):
    """Gives no event but those that are there; what it was asked to wait is added to `now`."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self._turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everything waits, and nothing will ever wake it"
        before, self.now = self.now, self.now + max(timeout, 0.0)
        self._turns = self._turns + 1 if self.now == before else 0
        if self._turns > MOST_TURNS:
            self.now += RESOLUTION
        return super().select(0)


class LeapingLoop(asyncio.SelectorEventLoop):
    """Runs on a time of its own; `work_takes` seconds pass where a thread would work."""

    work_takes = 0.0

    def __init__(self) -> None:
        self._leap = _Leap()
        super().__init__(self._leap)

    def time(self) -> float:
        return self._leap.now

    def run_in_executor(  # type: ignore[override] # at once, where a thread would be
        self, _executor: Executor | None, function: Callable[..., Any], *arguments: Any
    ) -> asyncio.Future[Any]:
        future = self.create_future()

        def work() -> None:
            try:
                result = function(*arguments)
            except Exception as error:  # noqa: BLE001 - handed on, as a thread would
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(result)

        if self.work_takes:
            self.call_later(self.work_takes, work)
        else:
            work()
        return future


class LoopClock:
    """The loop's time as the exporter reads it."""

    def __init__(self, loop: LeapingLoop) -> None:
        self._loop = loop
        self._ahead = 0.0  # of the loop, which notices no sleep of the machine
        self.unix_offset = UNIX_OFFSET

    def monotonic(self) -> float:
        return self._loop.time() + self._ahead

    def time(self) -> float:
        return self.monotonic() + self.unix_offset

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def jump(self, seconds: float) -> None:
        """Set the wall clock."""
        self.unix_offset += seconds

    def suspend(self, seconds: float) -> None:
        """Let the machine have slept, which only a `SuspendedClock` can wake from in time."""
        self._ahead += seconds


class SuspendedClock(LoopClock):
    """One that waits in naps, as the machine's does, so that hardly a wait is longer for a sleep."""

    sleep = SystemClock.sleep
