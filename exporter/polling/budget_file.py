"""The file that remembers what was spent of the quota, whatever ends the process.

It is replaced as a whole. What goes wrong with it is logged once, counted each time, and never fatal.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

import structlog

from exporter.runtime.files import read_again

log = structlog.stdlib.get_logger(__name__)

NOT_READ = "budget file cannot be read; calls made before are not counted"
NOT_WRITTEN = "budget file cannot be written; a restart will forget calls"
_LARGEST_FILE = 1 << 20


class BudgetFile:
    """Remembers when spent calls come back, in Unix seconds, and the pages of the list; counts errors.

    The pages count only for the `page_size` they were counted with.
    """

    def __init__(self, path: Path, on_failure: Callable[[], None], page_size: int = 0) -> None:
        self._path = path
        self._on_failure = on_failure
        self._page_size = page_size
        self._error = ""

    def load(self) -> tuple[dict[float, int], int]:
        """Return the calls, and the pages of the list; nothing where the file is missing or corrupt."""
        try:
            if not self._path.exists():
                return {}, 1
            content = json.loads(read_again(self._path, _LARGEST_FILE))
            pages = int(content["pages"]) if content.get("page_size", 0) == self._page_size else 1
            return {float(at): int(calls) for at, calls in content["calls"].items()}, pages
        except Exception as error:  # noqa: BLE001 - whatever the file holds
            self.failed(NOT_READ, error)
            return {}, 1

    def save(self, calls: dict[float, int], pages: int) -> bool:
        """Replace the file atomically and return whether it is; a failure is logged once and counted."""
        new = self._path.with_name(f".{self._path.name}.new")
        try:
            spent = {str(at): count for at, count in calls.items()}
            content = {"calls": spent, "pages": pages, "page_size": self._page_size}
            with new.open("w", encoding="ascii") as stream:
                json.dump(content, stream)
                stream.flush()
                os.fsync(stream.fileno())
            new.replace(self._path)
        except OSError as error:
            self.failed(NOT_WRITTEN, error)
            return False
        self._error = ""
        return True

    def failed(self, words: str, error: Exception) -> None:
        """Count a failure, and log the first of its kind."""
        self._on_failure()
        if words != self._error:
            reason = error.strerror if isinstance(error, OSError) else repr(error)
            log.warning(words, file=str(self._path), error=reason)
        self._error = words
