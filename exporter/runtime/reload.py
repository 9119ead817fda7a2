"""A value that files hold, read again when one of them changes, without a restart.

What cannot be read changes nothing: the last good value stays in use, whatever went wrong, and reading is
tried again until it works. So no change is lost, not even one that fell into a moment without descriptors or
with a file system that did not answer.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from exporter.runtime.files import Unreadable, read_again
from exporter.runtime.text import printable

T = TypeVar("T")
ReadFile = Callable[[Path], bytes]
RETRY_DELAY = 1.0  # seconds; longer for what takes long to read
_LARGEST = 16 << 20  # bytes
_Stamp = tuple[int, ...] | None


class ReloadError(Exception):
    """A value cannot be used; the message is one line for people, free of secrets."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class Reloader(Generic[T]):
    """Holds what `read` returns; `read` opens its files with the function it is handed, and no others.

    `on_reload` is called after each later reading: with None when the new value is in use, with what is wrong
    once for each failure.
    """

    def __init__(
        self,
        read: Callable[[ReadFile], T],
        on_reload: Callable[[str | None], None] = lambda _: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read for the first time; raise ReloadError when the value cannot be used."""
        self._read = read
        self._on_reload = on_reload
        self._monotonic = monotonic
        self._stamps: dict[Path, _Stamp] = {}
        self._error: str | None = None
        self._retry_at = 0.0
        self.value = self._load()

    def current(self) -> T:
        """Return the value in force, which costs microseconds while no file changes; never raise."""
        if not self._is_due():
            return self.value
        began = self._monotonic()
        try:
            self.value = self._load()
        except ReloadError as error:
            now = self._monotonic()
            # What takes long to read, as a large file does, must not take all the time of others.
            self._retry_at = now + RETRY_DELAY * max(1.0, 20.0 * (now - began))
            if str(error) != self._error:
                self._error = str(error)
                self._on_reload(self._error)
        else:
            self._error = None
            self._on_reload(None)
        return self.value

    def _is_due(self) -> bool:
        if self._error is not None and self._monotonic() >= self._retry_at:
            return True
        return any(_stamp(path) != stamp for path, stamp in self._stamps.items())

    def _load(self) -> T:
        self._stamps = {}
        try:
            return self._read(self._open)
        except OSError as error:  # not of a file, but of memory or of descriptors, say
            raise ReloadError(error.strerror or "cannot be read") from None

    def _open(self, path: Path) -> bytes:
        self._stamps[path] = _stamp(path)  # before it is read, so that no change goes unseen
        return read_file(path)


def read_file(path: Path) -> bytes:
    """Return the content of a small file; raise ReloadError when it cannot be read or is too large."""
    try:
        return read_again(path, _LARGEST)
    except Unreadable as error:
        raise ReloadError(f"cannot read {path}: {error}") from None


def _stamp(path: Path) -> _Stamp:
    """Return what changes when a file does; None when it is not there."""
    try:
        stat = path.stat()
    except (OSError, ValueError):
        return None
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
