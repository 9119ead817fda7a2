"""What the signals that ask for an end do, from the program's first line to its last.

    phase                     SIGTERM, SIGINT, SIGHUP               exit code
    ────────────────────────  ────────────────────────────────────  ─────────────────────────
    start, and all of check   the process ends at once              0; for check 128 + signal
    serving                   it stops in order, within seconds     0
    stopping                  the process ends at once              128 + signal

Nothing heavy is imported here: these handlers stand before anything else is. They take no lock and wait for
nothing, so they work whatever the program is doing. A SIGHUP that nohup has turned off stays off.
"""

import os
import signal
from collections.abc import Callable
from types import FrameType

LONGEST_END = 4.0  # seconds
_Handler = Callable[[int, FrameType | None], object]


def ending() -> list[signal.Signals]:
    """Give the signals that ask this process for an end."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGTERM, signal.SIGINT, *([] if ignored else [signal.SIGHUP])]


def end_at_once(code: int | None = None) -> None:
    """From now on, end the process at the first signal, with `code`, or 128 and the signal's number."""
    _handle(lambda number, _: os._exit(128 + number if code is None else code))


def end_in_time() -> None:
    """From now on, end the process in time after the first signal, and at once with a second."""

    def first(_number: int, _frame: FrameType | None) -> None:
        end_at_once()
        signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
        signal.setitimer(signal.ITIMER_REAL, LONGEST_END)

    _handle(first)


def _handle(handler: _Handler) -> None:
    for number in ending():
        signal.signal(number, handler)
