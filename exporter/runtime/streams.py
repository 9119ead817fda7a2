"""The standard streams, which others may have closed, filled or left unread.

A pipe that is not read fills up, and the next write to it blocks: on the event loop, that would stop every
scrape and every probe. So the log is written without blocking, or not at all. Results for a person may block
until they are read; one that cannot be written is reported in one line.
"""

import os
import select
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TextIO

_STANDARD_ERROR = 2
_TIMEOUT = 0.1  # seconds to wait for whoever reads the log
RETRY_DELAY = 10.0  # seconds after a timeout in which writes do not wait at all
_CHUNK = select.PIPE_BUF  # bytes; a pipe that poll() calls writable takes at least so many (POSIX)


def open_streams() -> None:
    """Reopen closed standard streams on /dev/null, so that no socket gets their descriptor and the output."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STANDARD_ERROR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    # Python has none for what was closed.
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115 - for as long as the process
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115


def print_result(text: str) -> int:
    """Print a text on standard output; return 0, or 1 when it cannot be written."""
    return _print(f"{text}\n")


def flush() -> int:
    """Flush standard output; return 0, or 1 when it cannot be written."""
    return _print("")


def _print(text: str) -> int:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        return 0  # whoever read it has seen enough
    except OSError as error:
        print_error(f"cannot write to standard output: {error.strerror}")
        return 1
    return 0


def print_error(text: str) -> None:
    """Print a text on standard error, if it can be written."""
    with suppress(OSError):
        sys.stderr.write(f"{text}\n")


class NonBlockingStream:
    """Writes lines to the descriptor of a text stream, in its encoding; OSError when that would block."""

    def __init__(self, stream: TextIO) -> None:
        self._descriptor = stream.fileno()
        self._encoding = stream.encoding
        self._writable = select.poll()
        self._writable.register(self._descriptor, select.POLLOUT)
        self._retry_at = 0.0
        self._is_torn = False

    def write(self, line: str) -> None:
        """Write a line; BlockingIOError after a timeout, when some of it may have been written."""
        # What follows an unfinished line begins a new one.
        data = memoryview((b"\n" if self._is_torn else b"") + line.encode(self._encoding, errors="replace"))
        while data:
            self._wait_until_writable()
            data = data[os.write(self._descriptor, data[:_CHUNK]) :]
            self._is_torn = bool(data)

    def _wait_until_writable(self) -> None:
        timeout = _TIMEOUT if time.monotonic() >= self._retry_at else 0.0
        if not self._writable.poll(timeout * 1000):
            self._retry_at = time.monotonic() + RETRY_DELAY
            raise BlockingIOError("nobody reads")
