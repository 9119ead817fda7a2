"""The two endpoints of the API, every page of them.

A chain of pages ends as `PaginationLimitExceeded` when it goes in a circle or beyond its bounds: neither
calls nor memory follow an API without end. Of step metrics that brought anything new whatever was read is
kept, and the next reading goes on from there. Text that is large enough to hold up the event loop is read in
a thread.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote

import structlog

from exporter.cohere import steps, wire
from exporter.cohere.lenient import LABEL_LIMIT
from exporter.cohere.page_cache import PageCache, Reader
from exporter.cohere.response import ApiResponse
from exporter.cohere.transport import Endpoint, Observer, Transport
from exporter.errors import Gone, InvalidResponse, PaginationLimitExceeded, QuotaSpent
from exporter.model import FinetunedModel, StepRow, TrainingProgress
from exporter.runtime.worker import Worker

log = structlog.stdlib.get_logger(__name__)

MOST_NAMES = 20  # of metrics in a line of the log

MODELS_PATH = "/v1/finetuning/finetuned-models"
LARGE_PAGE = 1000  # steps asked for per page where the API's own page does not hold a run
MOST_SKIPPED = 1000  # pages of rows that are known, on the way to new ones
CIRCLE = 10  # pages in a row without a new model, or a step; fewer may come of a list that shifts
P = TypeVar("P")
_READ_IN_THREAD = 256 << 10  # bytes; about 10 ms of reading


@dataclass(frozen=True, slots=True)
class Bounds:
    """The pages, bytes and values (as `wire.Page` has them) after which a chain goes no further."""

    pages: int
    size: int
    values: int


BOUNDS = {
    Endpoint.LIST_FINETUNED_MODELS: Bounds(pages=1000, size=32 << 20, values=2 * wire.VALUES_LIMIT),
    # One model's metrics must not hold up those of the others, and several models are read at once.
    Endpoint.LIST_TRAINING_STEP_METRICS: Bounds(pages=100, size=8 << 20, values=wire.STEP_VALUES_LIMIT),
}
BOUNDS_OF_ALL_STEPS = Bounds(pages=10_000, size=2 << 30, values=200_000_000)  # of a model; they go to a disk


class _BeyondBounds(PaginationLimitExceeded):
    """A chain with more pages, bytes or values than are read at once; what was read is good."""


class _UnusableId(InvalidResponse):
    """An id that the API gave but would not know again."""

    advice = "Nothing to do here: the API gave a model an id that is too long or not text. Others are read."


@dataclass(frozen=True, slots=True)
class Listing:
    """All models of the API, each id once, and the pages it took."""

    models: tuple[FinetunedModel, ...]
    pages: int


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where the next reading begins, with pages of which size, and the rows `seen` by those before it.

    Ascending steps go on at the page that held the newest row, or at the next one (`is_next`) where a reading
    was cut off; others begin at the first page.
    """

    token: str = ""
    page_size: int = 0
    is_next: bool = False
    seen: bytes = field(default=b"", repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class StepReading:
    """What a reading of one model's steps brought; `progress` None when the API has no row of it.

    `rows` are those that were not known; `missed` estimates how many between them and what was known could
    not be read; `is_complete` is False when the newest rows may be still to come.
    """

    progress: TrainingProgress | None
    rows: list[StepRow]
    cursor: Cursor | None = None
    missed: int = 0
    is_new_run: bool = False
    is_complete: bool = True


class CohereClient:
    """Reads models and their training steps; every method raises `ApiError`.

    `page_size` 0 leaves the size of pages to the API, but where a run has more steps than a page, or
    `saves_calls`, larger pages of steps are asked for.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        observer: Observer,
        page_size: int = 0,
        metric_limit: int = 0,
        metrics: re.Pattern[str] | None = None,
        saves_calls: bool = False,
        worker: Worker = asyncio.to_thread,
    ) -> None:
        self._transport = transport
        self._observer = observer
        self._page_size = page_size
        self._large_page = 0 if page_size else LARGE_PAGE
        self._saves_calls = saves_calls
        self._metric_limit = metric_limit
        self._read_steps = partial(wire.read_steps, only=metrics)
        self._worker = worker
        self._list_pages = PageCache(wire.read_models)

    async def list_models(self) -> Listing:
        """List every model the key has access to."""
        models: dict[str, FinetunedModel] = {}
        count = repeated = 0
        self._list_pages.begin()
        reader = self._list_pages.read
        chain = self._pages(Endpoint.LIST_FINETUNED_MODELS, MODELS_PATH, reader, page_size=self._page_size)
        async with aclosing(chain) as pages:
            async for page, _ in pages:
                count += 1
                known = len(models)
                for model in page.items:
                    if model.id in models:
                        self._reject("duplicate_model", "id")
                    # The list may shift between two pages; what was read last is the newest.
                    models[model.id] = model
                repeated = repeated + 1 if page.items and len(models) == known else 0
                if repeated == CIRCLE:
                    raise PaginationLimitExceeded(
                        f"the list goes in a circle: {CIRCLE} pages without a new model"
                    )
        self._list_pages.complete()
        return Listing(tuple(models.values()), count)

    async def training_steps(
        self,
        model_id: str,
        known: TrainingProgress | None = None,
        cursor: Cursor | None = None,
        *,
        is_whole: bool = False,
    ) -> StepReading:
        """Read the steps of one model that are not `known` yet; all of them when nothing is, or `is_whole`.

        `cursor` is that of the last reading of this run. What a reading that is not complete brought is new.
        """
        cursor = cursor or Cursor()
        if cursor.token and known and not is_whole:
            chain = _StepChain(model_id, known, cursor)
            with suppress(Gone, InvalidResponse):  # a token does not live for ever
                await self._follow(chain, cursor.page_size, cursor.token)
                if chain.goes_on(known):
                    return self._reading(chain)
        chain = _StepChain(model_id, known, Cursor(seen=cursor.seen), is_whole=is_whole)
        await self._follow_from_the_start(chain, cursor.page_size)
        return self._reading(chain)

    async def all_steps(self, model_id: str) -> AsyncGenerator[list[StepRow]]:
        """Yield the steps of one model page by page, in the API's order and in large pages if it gives any.

        Some may come twice: the list of pages may shift, and all begin again where a large page is refused.
        """
        refusal: InvalidResponse | None = None
        for size in dict.fromkeys((self._large_page or self._page_size, self._page_size)):
            empty = repeated = 0  # pages in a row
            seen: set[int] = set()  # hashes, since pages would not fit into memory
            try:
                async with aclosing(self._step_pages(model_id, size, bounds=BOUNDS_OF_ALL_STEPS)) as pages:
                    async for page, _ in pages:
                        self._took_smaller(refusal)
                        empty = _count_empty(page, empty)
                        brought = hash(tuple((row.step, row.at) for row in page.items))
                        repeated = repeated + 1 if page.items and brought in seen else 0
                        if repeated == CIRCLE:
                            raise PaginationLimitExceeded(
                                f"the list goes in a circle: {CIRCLE} pages without a new step"
                            )
                        seen.add(brought)
                        yield page.items
            except InvalidResponse as error:
                if size == self._page_size or isinstance(error, PaginationLimitExceeded):
                    raise
                refusal = error
            else:
                return

    def _reading(self, chain: "_StepChain") -> StepReading:
        """Return what a chain comes to, and log what the limit leaves out when it first does."""
        reading, known = chain.reading(self._metric_limit), chain.known
        if (
            reading.progress
            and reading.progress.dropped
            and (reading.is_new_run or not (known and known.dropped))
        ):
            dropped = sorted(
                {name for row in chain.rows for name in row.metrics} - reading.progress.metrics.keys()
            )
            log.warning(
                "training metrics left out by --training.metric-limit; --training.metrics chooses among them",
                model_id=chain.model_id,
                kept=len(reading.progress.metrics),
                dropped=len(dropped),
                names=", ".join(dropped[:MOST_NAMES]) + (", …" if len(dropped) > MOST_NAMES else ""),
            )
        return reading

    async def _follow_from_the_start(self, chain: "_StepChain", last_size: int) -> None:
        needs_large = self._saves_calls or last_size == self._large_page
        size = self._large_page if needs_large and self._large_page else self._page_size
        try:
            await self._follow(chain, size)
        except InvalidResponse as error:
            if not size or size != self._large_page:
                raise
            chain.refusal = error
            chain.rows.clear()
            await self._follow(chain, self._page_size)

    async def _follow(self, chain: "_StepChain", page_size: int, token: str = "") -> None:
        """Read pages from `token` on until the chain is done, in larger pages if there are many."""
        pages = self._step_pages(chain.model_id, page_size, token)
        try:
            async with aclosing(pages):
                async for page, at in pages:
                    self._took_smaller(chain.refusal)
                    chain.take(page, Cursor(at, page_size))
                    if chain.is_done:
                        return
                    if not token and page_size == self._page_size and await self._follow_larger(chain):
                        return
        except _BeyondBounds:
            if chain.may_end_here():
                chain.is_cut_off = True
            elif chain.may_skip():
                chain.skip()
                await self._follow(chain, page_size, chain.next_token)
            else:
                raise
        except QuotaSpent as error:
            if error.status is not None or not chain.cursors or not (token or chain.may_end_here()):
                raise
            chain.is_cut_off = True

    async def _follow_larger(self, chain: "_StepChain") -> bool:
        """Begin again with larger pages, if the API gives any; return whether that was the whole chain."""
        if not self._large_page or chain.pages > 1:
            return False
        larger = _StepChain(chain.model_id, chain.known, chain.begin, is_whole=chain.wants_all)
        try:
            await self._follow(larger, self._large_page)
        except InvalidResponse as error:
            self._took_smaller(error)
            return False
        chain.become(larger)
        return True

    def _took_smaller(self, refusal: InvalidResponse | None) -> None:
        """Ask for no more large pages if the API refused one of a model whose smaller page it gave."""
        if refusal and refusal.status is not None:
            self._large_page = 0

    def _step_pages(
        self, model_id: str, page_size: int, token: str = "", bounds: Bounds | None = None
    ) -> AsyncGenerator[tuple[wire.Page[StepRow], str], None]:
        if not _is_whole(model_id):
            raise _UnusableId("a model whose id had to be truncated or repaired cannot be asked for")
        return self._pages(
            Endpoint.LIST_TRAINING_STEP_METRICS,
            f"{MODELS_PATH}/{_segment(model_id)}/training-step-metrics",
            self._read_steps,
            page_size=page_size,
            token=token,
            model_id=model_id,
            bounds=bounds,
        )

    async def _pages(
        self,
        endpoint: Endpoint,
        path: str,
        read: Reader[P],
        *,
        page_size: int,
        token: str = "",
        model_id: str = "",
        bounds: Bounds | None = None,
    ) -> AsyncGenerator[tuple[wire.Page[P], str], None]:
        """Yield each page with the token it came for."""
        query = {"page_size": str(page_size)} if page_size else {}
        bounds, size, values = bounds or BOUNDS[endpoint], 0, 0
        seen: set[str] = set()
        fields = {"model_id": model_id} if model_id else {}
        for number in range(bounds.pages):
            if token:
                query["page_token"] = token
            answer = await self._transport.get(endpoint, path, query, page=number, fields=fields)
            page = await self._read(read, answer, fields)
            size, values = size + len(answer.body), values + page.values
            yield page, token
            if not page.next_token:
                return
            if size > bounds.size or values > bounds.values:
                raise _BeyondBounds(
                    f"the pages together have more than {bounds.values:,} values or {bounds.size >> 20} MiB"
                )
            if page.next_token in seen:
                raise PaginationLimitExceeded(
                    "the list of pages goes in a circle: next_page_token repeats itself"
                )
            seen.add(token := page.next_token)
        raise _BeyondBounds(f"the list has no end within {bounds.pages} pages")

    async def _read(self, read: Reader[P], answer: ApiResponse, fields: dict[str, Any]) -> wire.Page[P]:
        def reject(kind: str, name: str) -> None:
            self._reject(kind, name, **fields)

        try:
            if len(answer.body) < _READ_IN_THREAD:
                return read(answer.body, reject)
            return await self._worker(read, answer.body, reject)
        except InvalidResponse as error:
            error.trace_id = answer.trace_id
            raise

    def _reject(self, kind: str, name: str, **fields: Any) -> None:
        log.debug("skipped an invalid part of an API response", kind=kind, name=name, **fields)
        self._observer.rejected(kind)


class _StepChain:
    """The pages of one reading, and what they come to."""

    def __init__(
        self, model_id: str, known: TrainingProgress | None, begin: Cursor, *, is_whole: bool = False
    ) -> None:
        self.model_id = model_id
        self.wants_all = is_whole
        self.known = known
        self.begin = begin
        self.next_token = ""
        self.pages = self.empty_pages = 0  # the latter in a row
        self.rows: list[StepRow] = []
        self.cursors: list[Cursor] = []
        self.refusal: InvalidResponse | None = None  # of a large page
        self.is_cut_off = False
        self.is_done = False
        self.is_at_end = False

    def take(self, page: wire.Page[StepRow], cursor: Cursor) -> None:
        """Add a page; the chain is done at its last one, or when the rest is known."""
        self.pages += 1
        self.empty_pages = _count_empty(page, self.empty_pages)
        self.rows += page.items
        if page.items or not self.cursors:
            self.cursors.append(cursor)
        self.next_token = page.next_token
        self.is_at_end = not page.next_token
        self.is_done = self.is_at_end or (
            self.known is not None
            and not self.wants_all
            and steps.is_descending(self.rows)
            and steps.has_newest_of(self.known, self.rows)
        )

    def become(self, other: "_StepChain") -> None:
        """Take the place of another reading of the same steps."""
        self.rows, self.cursors, self.is_cut_off = other.rows, other.cursors, other.is_cut_off
        self.is_done, self.is_at_end, self.next_token = True, other.is_at_end, other.next_token

    def goes_on(self, known: TrainingProgress) -> bool:
        """Return whether the pages from a cursor on belong to the run known."""
        return steps.has_newest_of(known, self.rows) or (
            self.begin.is_next and all(row.step > known.step for row in self.rows)
        )

    def news(self) -> list[StepRow]:
        """Return the rows that no reading of the run known has brought."""
        return steps.unknown_rows(self.known, self.rows, self.begin.seen)

    def may_end_here(self) -> bool:
        """Return whether what was read brought anything new, or shows that there is nothing new."""
        return steps.is_descending(self.rows) or bool(self.news())

    def may_skip(self) -> bool:
        """Return whether all these rows are known, as where a long run begins."""
        is_known = self.known is not None and not self.wants_all
        return is_known and steps.is_ascending(self.rows) and self.pages < MOST_SKIPPED

    def skip(self) -> None:
        """Hold only as many of the rows as show the order."""
        self.rows = self.rows[-2:]

    def reading(self, limit: int) -> StepReading:
        """Return what the rows come to; nothing of the metrics that `limit` leaves out is in it."""
        rows = self.rows
        if not (rows or self._is_resumed):
            return StepReading(None, [])
        is_new_run, kept = self._begin_anew()
        is_descending = steps.is_descending(rows)
        if self.is_cut_off and not (is_descending or self._is_resumed or steps.is_ascending(rows)):
            raise PaginationLimitExceeded(
                "step metrics in no order do not end within the bounds of a reading"
            )
        known = None if self.wants_all and self.is_at_end else self.known
        progress = steps.latest(rows, limit=limit, known=known, kept=kept)
        return StepReading(
            progress,
            steps.within_limit(progress, self.news()),
            replace(self._cursor(), seen=steps.seen(rows, self.begin.seen)),
            missed=steps.missed_rows(self.known, rows) if self.is_cut_off and is_descending else 0,
            is_new_run=is_new_run,
            is_complete=not self.is_cut_off or is_descending,
        )

    def _begin_anew(self) -> tuple[bool, Collection[str]]:
        """Forget what is known if it is of another run; return whether it was, and the metrics kept of it."""
        if self.known is None:
            return False, ()
        if self._is_resumed or not steps.is_new_run(self.known, self.rows, is_whole=self.is_at_end):
            return False, self.known.metrics
        self.known, self.begin = None, Cursor()
        return True, ()

    def _cursor(self) -> Cursor:
        """Return where the next reading begins: new rows are on the last page if they ascend."""
        if steps.is_descending(self.rows):
            return Cursor()
        if self.is_cut_off:
            return replace(self.cursors[-1], token=self.next_token, is_next=True)
        if not self.rows:
            return self.begin
        return self.cursors[-1 if self._is_resumed or steps.is_ascending(self.rows) else 0]

    @property
    def _is_resumed(self) -> bool:
        return bool(self.begin.token)


def _count_empty(page: wire.Page[StepRow], before: int) -> int:
    """Return how many pages in a row have no step; raise `PaginationLimitExceeded` at `CIRCLE`."""
    if page.items:
        return 0
    if before + 1 == CIRCLE:
        raise PaginationLimitExceeded(f"step metrics do not end: {CIRCLE} pages without a step")
    return before + 1


def _is_whole(model_id: str) -> bool:
    """Return whether the API would know this id, and no other model by it."""
    return len(model_id) < LABEL_LIMIT and "\ufffd" not in model_id


def _segment(model_id: str) -> str:
    """Percent-encode an id for the path; `.` and `..` too, which would otherwise climb it."""
    encoded = quote(model_id, safe="")
    return encoded if encoded.strip(".") else encoded.replace(".", "%2E")
