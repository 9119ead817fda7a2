"""Pages of a list that come back as they were are not read again: of a large fleet, most stay so.

A page is known by the digest of its body, so nothing of the body is kept; the items of an unchanged page are
the very objects of last time, which makes two listings quick to compare.
"""

from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from typing import Generic, NamedTuple, TypeVar

from exporter.cohere.wire import Page, Reject

T = TypeVar("T")
Reader = Callable[[bytes, Reject], Page[T]]


class _CachedPage(NamedTuple, Generic[T]):
    """A page, and how many parts of it were skipped, by kind and name."""

    page: Page[T]
    rejected: Counter[tuple[str, str]]


class PageCache(Generic[T]):
    """The pages of the last listing that was completed, and of the one in progress."""

    def __init__(self, read: Reader[T]) -> None:
        self._read = read
        self._last: dict[bytes, _CachedPage[T]] = {}
        self._current: dict[bytes, _CachedPage[T]] = {}

    def begin(self) -> None:
        """Begin a listing; one before that was not completed is forgotten."""
        self._current = {}

    def complete(self) -> None:
        """Keep the pages of this listing, and no others."""
        self._last = self._current

    def read(self, body: bytes, reject: Reject) -> Page[T]:
        """Return a page; what is skipped is reported each time it comes."""
        digest = sha256(body).digest()
        cached = self._current[digest] = self._last.get(digest) or self._read_anew(body)
        for kind, name in cached.rejected.elements():
            reject(kind, name)
        return cached.page

    def _read_anew(self, body: bytes) -> _CachedPage[T]:
        # Counted, not listed: there may be hundreds of thousands, of a few kinds.
        rejected: Counter[tuple[str, str]] = Counter()
        page = self._read(body, lambda kind, name: rejected.update(((kind, name),)))
        return _CachedPage(page, rejected)
