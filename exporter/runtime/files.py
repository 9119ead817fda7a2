"""Files that people name: small ones that are read, such as a key, and ones that are written whole.

A device or a log given by mistake does not fill the memory, and what is read again and again is never waited
for: a pipe would hold the event loop until somebody writes into it.
"""

import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from exporter.runtime import signals


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


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of `path`, and its mode, at the end of the block.

    Nothing is left of it after an error or a signal. A device or a pipe is written to as it is.
    """
    with suppress(FileNotFoundError):
        path.stat()  # OSError for links in a circle, of which `resolve` says RuntimeError or nothing
    path = path.resolve()  # a link stays, and what it leads to is replaced
    if path.exists() and not path.is_file():
        with path.open("wb") as stream:
            yield stream
        return
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with signals.cleaning_up(lambda: new.unlink(missing_ok=True)):
            with open(new, "xb", opener=_with_mode_of(path)) as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def _with_mode_of(path: Path) -> Callable[[str, int], int]:
    """Return an opener of a file with the mode of another, or where that does not exist, an ordinary one."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return lambda name, flags: os.open(name, flags, 0o666)

    def opened(name: str, flags: int) -> int:
        descriptor = os.open(name, flags, mode)
        os.fchmod(descriptor, mode)  # whatever the umask
        return descriptor

    return opened
