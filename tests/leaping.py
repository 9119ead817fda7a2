"""An event loop that never waits: when all its tasks do, time leaps to the next that is due.

Deadlines of asyncio, sleeps and retries keep their order and cost nothing; work for threads is done at once.
So a run is the same each time. When nothing is left that could ever wake, it says so instead of hanging.
"""

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

START = 1_000.0
UNIX_OFFSET = 1.7e9


class _Leap(selectors.SelectSelector):
    """Gives no event but those that are there; what it was asked to wait is added to `now`."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everything waits, and nothing will ever wake it"
        self.now += max(timeout, 0.0)
        return super().select(0)


class LeapingLoop(asyncio.SelectorEventLoop):
    """Runs on a time of its own, which is a `Clock`, too."""

    def __init__(self) -> None:
        self._leap = _Leap()
        super().__init__(self._leap)

    def time(self) -> float:
        return self._leap.now

    def run_in_executor(  # type: ignore[override] # at once, where a thread would be
        self, _executor: Executor | None, function: Callable[..., Any], *arguments: Any
    ) -> asyncio.Future[Any]:
        future = self.create_future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:  # noqa: BLE001 - handed on, as a thread would
            future.set_exception(error)
        return future


class LoopClock:
    """The loop's time as the exporter reads it."""

    def __init__(self, loop: LeapingLoop) -> None:
        self.monotonic = loop.time
        self.sleep = asyncio.sleep

    def time(self) -> float:
        return self.monotonic() + UNIX_OFFSET
