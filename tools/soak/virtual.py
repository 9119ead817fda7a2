"""An event loop in virtual time: it jumps to the next timer when nobody works.

Somebody works while a callback is ready, a thread has something to do, or `is_busy` says that bytes are on
their way. Work itself takes no time but a microsecond for each turn of the loop.
"""

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
TURN = 1e-6  # seconds; time must go on for those who wait for less than a float can tell
STUCK = 60.0  # real seconds
_GLANCE = 0.005  # real seconds


class _Selector(selectors.DefaultSelector):
    """Waits for sockets, or moves `now`."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.threads = 0
        self.is_busy: Callable[[], bool] = bool
        self.on_turn: Callable[[], None] = lambda: None
        self._waited = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += TURN
        self.on_turn()
        ready = super().select(0)
        if ready or timeout == 0:
            self._waited = 0.0
            return ready
        if timeout is None or self.threads or self.is_busy():
            return self._wait()
        self._waited = 0.0
        self.now += timeout
        return []

    def _wait(self) -> list[tuple[selectors.SelectorKey, int]]:
        self._waited += _GLANCE
        if self._waited > STUCK:
            raise TimeoutError(f"what is under way has not gone on for {STUCK:.0f} s")
        return super().select(_GLANCE)


class VirtualLoop(asyncio.SelectorEventLoop):
    """The event loop; time begins at 0.

    `is_busy` tells whether something is under way that needs no timer to go on; `on_turn` is called at each
    turn.
    """

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def watch(self, *, is_busy: Callable[[], bool], on_turn: Callable[[], None]) -> None:
        """Ask `is_busy` and call `on_turn` from now on."""
        self._virtual.is_busy, self._virtual.on_turn = is_busy, on_turn

    def time(self) -> float:
        """Return the seconds since the beginning."""
        return self._virtual.now

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Do it as every loop does, and let time stand still meanwhile."""
        future = super().run_in_executor(executor, func, *args)
        self._virtual.threads += 1
        future.add_done_callback(self._thread_is_done)
        return future

    def _thread_is_done(self, _future: asyncio.Future[Any]) -> None:
        self._virtual.threads -= 1


class VirtualClock:
    """The exporter's clock on the running loop; the wall time is `unix` at the beginning, and may jump."""

    def __init__(self, unix: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._unix = unix
        self.jump = 0.0

    def monotonic(self) -> float:
        """Return the seconds since the beginning."""
        return self._loop.time()

    def time(self) -> float:
        """Return Unix seconds as the machine believes them to be."""
        return self.true_time() + self.jump

    def true_time(self) -> float:
        """Return Unix seconds as everybody else knows them."""
        return self._unix + self._loop.time()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)
