"""Pages of a list that come back as they were are not read again: of a large fleet, most stay so.

A page is known by the digest of its body, so nothing of the body is kept; the items of an unchanged page are
the very objects of last time, which makes two listings quick to compare.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Generic, TypeVar

from exporter.cohere.wire import Page, Reject

T = TypeVar("T")
Reader = Callable[[bytes, Reject], Page[T]]


@dataclass(frozen=True, slots=True)
class KnownPage(Generic[T]):
    """A page, and how many parts of it were skipped, by kind and name."""

    page: Page[T]
    rejected: Counter[tuple[str, str]]


Known = Mapping[bytes, KnownPage[T]]


class RememberingReader(Generic[T]):
    """Reads the pages of one listing with `read`, but for those that are `known`; `pages` are all of them."""

    def __init__(self, read: Reader[T], known: Known[T]) -> None:
        self._read = read
        self._known = known
        self.pages: dict[bytes, KnownPage[T]] = {}

    def __call__(self, body: bytes, reject: Reject) -> Page[T]:
        """Read a page; what is skipped is reported each time it comes."""
        digest = sha256(body).digest()
        known = self._known.get(digest) or self._read_anew(body)
        self.pages[digest] = known
        for kind, name in known.rejected.elements():
            reject(kind, name)
        return known.page

    def _read_anew(self, body: bytes) -> KnownPage[T]:
        # Counted, not listed: there may be hundreds of thousands, of a few kinds.
        rejected: Counter[tuple[str, str]] = Counter()
        page = self._read(body, lambda kind, name: rejected.update(((kind, name),)))
        return KnownPage(page, rejected)
