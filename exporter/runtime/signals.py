"""What the signals that ask for an end do, from the program's first line to its last.

    phase                     SIGTERM, SIGINT, SIGHUP               exit code
    ────────────────────────  ────────────────────────────────────  ─────────────────────────
    start, all of check       the process ends at once, a file      0; for check and history
    and history               that is half written with it          128 + signal
    serving                   it stops in order, within seconds     0
    stopping                  the process ends at once              128 + signal

Nothing heavy is imported here: these handlers are installed before anything else is. They take no lock and
wait for nothing, so they work whatever the program is doing. A SIGHUP that nohup has turned off stays off.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

LONGEST_END = 4.0  # seconds
_Handler = Callable[[int, FrameType | None], object]


def end_at_once(code: int | None = None) -> None:
    """From now on, end the process at the first signal, with `code`, or 128 and the signal's number."""
    _handle(lambda number, _: os._exit(128 + number if code is None else code))


def stop_signal(loop: "asyncio.AbstractEventLoop") -> "asyncio.Future[signal.Signals]":
    """Return a future that ends with the first signal.

    The process ends in time after that one, and at once with a second.
    """
    stopping: asyncio.Future[signal.Signals] = loop.create_future()

    def stop(number: signal.Signals) -> None:
        if not stopping.done():
            stopping.set_result(number)

    def first(_number: int, _frame: FrameType | None) -> None:
        end_at_once()
        signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
        signal.setitimer(signal.ITIMER_REAL, LONGEST_END)

    for number in _ending():
        loop.add_signal_handler(number, stop, number)
    # The loop still wakes and calls `stop`; its own handlers, which do nothing, make room for ones that act
    # even while the loop is held up. More signals than wake it up find its pipe full, which harms nobody.
    _handle(first)
    signal.set_wakeup_fd(signal.set_wakeup_fd(-1), warn_on_full_buffer=False)
    return stopping


@contextmanager
def cleaning_up(clean_up: Callable[[], object]) -> Iterator[None]:
    """Within the block, call `clean_up` before a signal does what it did."""
    before = {number: signal.getsignal(number) for number in _ending()}

    def first(number: int, _frame: FrameType | None) -> None:
        clean_up()
        signal.signal(number, before[signal.Signals(number)])
        signal.raise_signal(number)

    _handle(first)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ending() -> list[signal.Signals]:
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGTERM, signal.SIGINT, *([] if ignored else [signal.SIGHUP])]


def _handle(handler: _Handler) -> None:
    for number in _ending():
        signal.signal(number, handler)
