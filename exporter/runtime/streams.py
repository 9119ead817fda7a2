"""The standard streams, which others may have closed, filled or left unread.

A pipe that nobody empties fills up, and the next write to it waits, for ever: with the event loop in it, no
scrape and no probe would be answered any more. So the log is written only where there is room for it. What
people are shown may wait for them, but fails in one line.
"""

import os
import select
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TextIO

_STANDARD_ERROR = 2
_PATIENCE = 0.1  # seconds that a reader of the log may be late
_SULK = 10.0  # seconds for which one that was later is not waited for again
_PIECE = select.PIPE_BUF  # bytes; so many find room wherever poll() says that there is any (POSIX)


def open_streams() -> None:
    """Open on nothing what was closed, lest a socket take its number and receive what is printed."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STANDARD_ERROR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    # Python has none for what was closed.
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115 - for as long as the process
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115


def show(text: str) -> int:
    """Print a text on standard output; give 0, or 1 when it cannot be written."""
    try:
        sys.stdout.write(f"{text}\n")
    except OSError as error:
        return _unwritten(error)
    return flush()


def flush() -> int:
    """Send on its way what was printed; give 0, or 1 when it cannot be written."""
    try:
        sys.stdout.flush()
    except OSError as error:
        return _unwritten(error)
    return 0


def say(words: str) -> None:
    """Print words on standard error, if it takes them."""
    with suppress(OSError):
        sys.stderr.write(f"{words}\n")


def _unwritten(error: OSError) -> int:
    if isinstance(error, BrokenPipeError):
        return 0  # whoever read it has seen enough
    say(f"cannot write to standard output: {error.strerror}")
    return 1


class Outlet:
    """Writes lines to the descriptor of a text stream, in its encoding; OSError when there is no room."""

    def __init__(self, stream: TextIO) -> None:
        self._descriptor = stream.fileno()
        self._encoding = stream.encoding
        self._room = select.poll()
        self._room.register(self._descriptor, select.POLLOUT)
        self._sulks_until = 0.0
        self._is_torn = False

    def write(self, line: str) -> None:
        """Write a line, whole or, when room for the rest does not come, its beginning."""
        # What follows half a line begins a new one.
        data = memoryview((b"\n" if self._is_torn else b"") + line.encode(self._encoding, errors="replace"))
        while data:
            self._wait_for_room()
            data = data[os.write(self._descriptor, data[:_PIECE]) :]
            self._is_torn = bool(data)

    def _wait_for_room(self) -> None:
        patience = _PATIENCE if time.monotonic() >= self._sulks_until else 0.0
        if not self._room.poll(patience * 1000):
            self._sulks_until = time.monotonic() + _SULK
            raise BlockingIOError("nobody reads")
