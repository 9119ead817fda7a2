"""Small files that people give: a key, a configuration.

A device or a log given by mistake does not fill the memory, and what is read again and again is never waited
for: a pipe would hold the event loop until somebody writes into it.
"""

import os
import stat
from pathlib import Path


class Unreadable(Exception):
    """The file cannot be read; the message says why, and repeats neither its name nor its content."""


def read_again(path: Path, largest: int) -> bytes:
    """Return the content of a file that can be read many times; raise Unreadable beyond `largest` bytes."""
    return _read(path, largest, os.O_NONBLOCK)


def read_once(path: Path, largest: int) -> bytes:
    """Return the same of a file that is read but once, and may be the pipe a shell makes of `<(…)`."""
    return _read(path, largest, 0)


def _read(path: Path, largest: int, flags: int) -> bytes:
    def opened(name: str, mode: int) -> int:
        return os.open(name, mode | flags)

    try:
        with open(path, "rb", opener=opened) as stream:
            mode = os.fstat(stream.fileno()).st_mode
            if flags and not stat.S_ISREG(mode):
                raise Unreadable("a pipe cannot be read again" if stat.S_ISFIFO(mode) else "not a file")
            content = stream.read(largest + 1)
    except OSError as error:
        raise Unreadable(error.strerror or "not a file") from None
    if len(content) > largest:
        raise Unreadable(f"larger than {largest >> 10} KiB")
    return content
