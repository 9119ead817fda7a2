"""The two endpoints of the API: every model there is, and the training steps of one."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote

from exporter.cohere import wire
from exporter.cohere.lenient import LABEL_LIMIT
from exporter.cohere.pagination import CIRCLE, BeyondBounds, Bounds, PageCache, Pages, count_idle
from exporter.cohere.step_reading import NO_STEPS, Cursor, StepChain, StepReading
from exporter.cohere.transport import Endpoint, Observer, Transport
from exporter.errors import Gone, InvalidResponse, PaginationLimitExceeded, QuotaSpent
from exporter.model import FinetunedModel, StepRow, TrainingProgress
from exporter.runtime.worker import Worker

MODELS_PATH = "/v1/finetuning/finetuned-models"
LARGE_PAGE = 1000  # steps asked for per page where the API's own page does not hold a run
BOUNDS_OF_ALL_STEPS = Bounds(pages=10_000, size=2 << 30, values=200_000_000)  # of a model; they go to a disk
_NOTHING_NEW = f"the list goes in a circle: {CIRCLE} pages without a new"


class _UnusableId(InvalidResponse):
    """An id that the API gave but would not know again."""

    advice = "Nothing to do here: the API gave a model an id that is too long or not text. Others are read."


@dataclass(frozen=True, slots=True)
class Listing:
    """All models of the API, each id once, and the pages it took."""

    models: tuple[FinetunedModel, ...]
    pages: int


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
        self._pages = Pages(transport, observer, worker)
        self._page_size = page_size
        self._large_page = 0 if page_size else LARGE_PAGE
        self._saves_calls = saves_calls
        self._metric_limit = metric_limit
        self._read_steps = partial(wire.read_steps, only=metrics)
        self._list_pages = PageCache(wire.read_models)

    async def list_models(self) -> Listing:
        """List every model the key has access to."""
        models: dict[str, FinetunedModel] = {}
        count = repeated = 0
        self._list_pages.begin()
        chain = self._pages.follow(
            Endpoint.LIST_FINETUNED_MODELS,
            MODELS_PATH,
            self._list_pages.read,
            page_size=self._page_size,
        )
        async with aclosing(chain) as pages:
            async for page, _ in pages:
                count += 1
                known = len(models)
                for model in page.items:
                    if model.id in models:
                        self._pages.reject("duplicate_model", "id")
                    # The list may shift between two pages; what was read last is the newest.
                    models[model.id] = model
                is_known = bool(page.items) and len(models) == known
                repeated = count_idle(repeated, f"{_NOTHING_NEW} model", is_idle=is_known)
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
            chain = StepChain(model_id, known, cursor)
            with suppress(Gone, InvalidResponse):  # a token does not live for ever
                await self._follow(chain, cursor.page_size, cursor.token)
                if chain.goes_on(known):
                    return chain.reading(self._metric_limit)
        chain = StepChain(model_id, known, Cursor(seen=cursor.seen), is_whole=is_whole)
        await self._follow_from_the_start(chain, cursor.page_size)
        return chain.reading(self._metric_limit)

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
                        empty = count_idle(empty, NO_STEPS, is_idle=not page.items)
                        brought = hash(tuple((row.step, row.at) for row in page.items))
                        is_known = bool(page.items) and brought in seen
                        repeated = count_idle(repeated, f"{_NOTHING_NEW} step", is_idle=is_known)
                        seen.add(brought)
                        yield page.items
            except InvalidResponse as error:
                if size == self._page_size or isinstance(error, PaginationLimitExceeded):
                    raise
                refusal = error
            else:
                return

    async def _follow_from_the_start(self, chain: StepChain, last_size: int) -> None:
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

    async def _follow(self, chain: StepChain, page_size: int, token: str = "") -> None:
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
        except BeyondBounds:
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

    async def _follow_larger(self, chain: StepChain) -> bool:
        """Begin again with larger pages, if the API gives any; return whether that was the whole chain."""
        if not self._large_page or chain.pages > 1:
            return False
        larger = StepChain(chain.model_id, chain.known, chain.begin, is_whole=chain.wants_all)
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
    ) -> AsyncGenerator[tuple[wire.Page[StepRow], str]]:
        if not _is_whole(model_id):
            raise _UnusableId("a model whose id had to be truncated or repaired cannot be asked for")
        return self._pages.follow(
            Endpoint.LIST_TRAINING_STEP_METRICS,
            f"{MODELS_PATH}/{_segment(model_id)}/training-step-metrics",
            self._read_steps,
            page_size=page_size,
            token=token,
            bounds=bounds,
            model_id=model_id,
        )


def _is_whole(model_id: str) -> bool:
    """Return whether the API would know this id, and no other model by it."""
    return len(model_id) < LABEL_LIMIT and "\ufffd" not in model_id


def _segment(model_id: str) -> str:
    """Percent-encode an id for the path; `.` and `..` too, which would otherwise climb it."""
    encoded = quote(model_id, safe="")
    return encoded if encoded.strip(".") else encoded.replace(".", "%2E")
