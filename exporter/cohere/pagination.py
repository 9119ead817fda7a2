"""The pages of a list, one after another, and those that came back as they were.

A list ends as `PaginationLimitExceeded` when it goes in a circle or beyond its bounds: neither calls nor
memory follow an API without end. Text that is large enough to hold up the event loop is read in a thread, and
of a large fleet most pages are not read again.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Generic, NamedTuple, TypeVar

import structlog

from exporter.cohere.response import ApiResponse
from exporter.cohere.transport import Endpoint, Observer, Transport
from exporter.cohere.wire import STEP_VALUES_LIMIT, VALUES_LIMIT, Page, Reject
from exporter.errors import InvalidResponse, PaginationLimitExceeded
from exporter.runtime.worker import Worker

log = structlog.stdlib.get_logger(__name__)

CIRCLE = 10  # pages in a row without a new model, or a step; fewer may come of a list that shifts
_READ_IN_THREAD = 256 << 10  # bytes; about 10 ms of reading

T = TypeVar("T")
Reader = Callable[[bytes, Reject], Page[T]]


@dataclass(frozen=True, slots=True)
class Bounds:
    """The pages, bytes and values (as `Page` has them) after which a list is followed no further."""

    pages: int
    size: int
    values: int


BOUNDS = {
    Endpoint.LIST_FINETUNED_MODELS: Bounds(pages=1000, size=32 << 20, values=2 * VALUES_LIMIT),
    # One model's metrics must not hold up those of the others, and several models are read at once.
    Endpoint.LIST_TRAINING_STEP_METRICS: Bounds(pages=100, size=8 << 20, values=STEP_VALUES_LIMIT),
}


class BeyondBounds(PaginationLimitExceeded):
    """A list with more pages, bytes or values than are read at once; what was read is good."""


class Pages:
    """Follows lists from page to page."""

    def __init__(self, transport: Transport, observer: Observer, worker: Worker = asyncio.to_thread) -> None:
        self._transport = transport
        self._observer = observer
        self._worker = worker

    async def follow(
        self,
        endpoint: Endpoint,
        path: str,
        read: Reader[T],
        *,
        page_size: int,
        token: str = "",
        bounds: Bounds | None = None,
        **fields: str,
    ) -> AsyncGenerator[tuple[Page[T], str]]:
        """Yield each page with the token it came for; `fields` are added to lines of the log."""
        query = {"page_size": str(page_size)} if page_size else {}
        bounds, size, values = bounds or BOUNDS[endpoint], 0, 0
        seen: set[str] = set()
        for number in range(bounds.pages):
            if token:
                query["page_token"] = token
            response = await self._transport.get(endpoint, path, query, page=number, fields=fields)
            page = await self._read(read, response, fields)
            size, values = size + len(response.body), values + page.values
            yield page, token
            if not page.next_token:
                return
            if size > bounds.size or values > bounds.values:
                raise BeyondBounds(
                    f"the pages together have more than {bounds.values:,} values or {bounds.size >> 20} MiB"
                )
            if page.next_token in seen:
                raise PaginationLimitExceeded(
                    "the list of pages goes in a circle: next_page_token repeats itself"
                )
            seen.add(token := page.next_token)
        raise BeyondBounds(f"the list has no end within {bounds.pages} pages")

    async def _read(self, read: Reader[T], response: ApiResponse, fields: dict[str, str]) -> Page[T]:
        def reject(kind: str, name: str) -> None:
            self.reject(kind, name, **fields)

        try:
            if len(response.body) < _READ_IN_THREAD:
                return read(response.body, reject)
            return await self._worker(read, response.body, reject)
        except InvalidResponse as error:
            error.trace_id = response.trace_id
            raise

    def reject(self, kind: str, name: str, **fields: str) -> None:
        """Report a part of a page that was skipped."""
        log.debug("skipped an invalid part of an API response", kind=kind, name=name, **fields)
        self._observer.rejected(kind)


def count_idle(before: int, problem: str, *, is_idle: bool) -> int:
    """Return how many pages in a row are idle; at `CIRCLE`, raise `PaginationLimitExceeded`."""
    if is_idle and before + 1 == CIRCLE:
        raise PaginationLimitExceeded(problem)
    return before + 1 if is_idle else 0


class _CachedPage(NamedTuple, Generic[T]):
    """A page, and how many parts of it were skipped, by kind and name."""

    page: Page[T]
    rejected: Counter[tuple[str, str]]


class PageCache(Generic[T]):
    """The pages of the last listing that was completed, and of the one in progress.

    A page is known by the digest of its body, so nothing of the body is kept; the items of an unchanged page
    are the very objects of last time, which makes two listings quick to compare.
    """

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
