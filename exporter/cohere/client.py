"""The two endpoints of the API, every page of them.

A chain of pages ends as `Endless` when it goes in a circle or beyond its bounds: neither calls nor
memory follow an API without end. Text that is large enough to hold up the event loop is read in a thread.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote

import structlog

from exporter.cohere import wire
from exporter.cohere.memo import Known, Reader, RememberingReader
from exporter.cohere.progress import is_descending, latest
from exporter.cohere.response import ApiResponse
from exporter.cohere.transport import Endpoint, Observer, Transport
from exporter.errors import Endless, InvalidResponse
from exporter.model import FinetunedModel, TrainingProgress
from exporter.runtime.worker import Worker

log = structlog.stdlib.get_logger(__name__)

MODELS_PATH = "/v1/finetuning/finetuned-models"
CIRCLE = 10  # pages in a row without a new model; fewer may come of a list that shifts
P = TypeVar("P")
_READ_IN_THREAD = 256 << 10  # bytes; about 10 ms of reading


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the pages of one chain may come to: their number, bytes, and values as `wire.Page` has them."""

    pages: int
    size: int
    values: int


BOUNDS = {
    Endpoint.LIST_FINETUNED_MODELS: Bounds(pages=1000, size=32 << 20, values=2 * wire.VALUES_LIMIT),
    # One model's metrics must not hold up those of the others, and several models are read at once.
    Endpoint.LIST_TRAINING_STEP_METRICS: Bounds(pages=100, size=8 << 20, values=wire.STEP_VALUES_LIMIT),
}


@dataclass(frozen=True, slots=True)
class Listing:
    """All models of the API, each id once, and the pages it took."""

    models: tuple[FinetunedModel, ...]
    pages: int


class CohereClient:
    """Reads models and their training progress; every method raises `ApiError`."""

    def __init__(
        self,
        transport: Transport,
        *,
        observer: Observer,
        page_size: int = 0,
        metric_limit: int = 0,
        worker: Worker = asyncio.to_thread,
    ) -> None:
        self._transport = transport
        self._observer = observer
        self._page_size = page_size
        self._metric_limit = metric_limit
        self._worker = worker
        self._known: Known[FinetunedModel] = {}

    async def list_models(self) -> Listing:
        """List every model the key has access to."""
        models: dict[str, FinetunedModel] = {}
        count = repeated = 0
        reader = RememberingReader(wire.read_models, self._known)
        listing = self._pages(Endpoint.LIST_FINETUNED_MODELS, MODELS_PATH, reader, placed=True)
        # To the last page: step metrics that hang would hold up each.
        async with self._transport.place(), aclosing(listing) as pages:
            async for page in pages:
                count += 1
                known = len(models)
                for model in page.items:
                    if model.id in models:
                        self._reject("duplicate_model", "id")
                    # The list may shift between two pages; what was read last is the newest.
                    models[model.id] = model
                repeated = repeated + 1 if page.items and len(models) == known else 0
                if repeated == CIRCLE:
                    raise Endless(f"the list goes in a circle: {CIRCLE} pages without a new model")
        self._known = reader.pages
        return Listing(tuple(models.values()), count)

    async def training_progress(
        self, model_id: str, earlier: TrainingProgress | None = None
    ) -> TrainingProgress | None:
        """Give the latest metrics of one model; None when it has none yet.

        `earlier`, what was known before, completes a reading that ends at the first page.
        """
        if not _is_whole(model_id):
            raise InvalidResponse("a model whose id had to be cut or mended cannot be asked for")
        path = f"{MODELS_PATH}/{_segment(model_id)}/training-step-metrics"
        rows: list[wire.StepRow] = []
        pages = self._pages(Endpoint.LIST_TRAINING_STEP_METRICS, path, wire.read_steps)
        async with aclosing(pages):
            async for page in pages:
                rows += page.items
                if page.next_token and is_descending(rows):
                    return latest(rows, limit=self._metric_limit, earlier=earlier)
        return latest(rows, limit=self._metric_limit)

    async def _pages(
        self, endpoint: Endpoint, path: str, read: Reader[P], *, placed: bool = False
    ) -> AsyncGenerator[wire.Page[P], None]:
        query = {"page_size": str(self._page_size)} if self._page_size else {}
        bounds, size, values = BOUNDS[endpoint], 0, 0
        seen: set[str] = set()
        for number in range(bounds.pages):
            answer = await self._transport.get(endpoint, path, query, page=number, placed=placed)
            page = await self._read(read, answer)
            size, values = size + len(answer.body), values + page.values
            if size > bounds.size or values > bounds.values:
                raise Endless(
                    f"the pages together have more than {bounds.values:,} values or {bounds.size >> 20} MiB"
                )
            yield page
            if not page.next_token:
                return
            if page.next_token in seen:
                raise Endless("the list of pages goes in a circle: next_page_token repeats itself")
            seen.add(page.next_token)
            query["page_token"] = page.next_token
        raise Endless(f"the list has no end within {bounds.pages} pages")

    async def _read(self, read: Reader[P], answer: ApiResponse) -> wire.Page[P]:
        try:
            if len(answer.body) < _READ_IN_THREAD:
                return read(answer.body, self._reject)
            return await self._worker(read, answer.body, self._reject)
        except InvalidResponse as error:
            error.trace_id = answer.trace_id
            raise

    def _reject(self, kind: str, name: str) -> None:
        log.debug("part of an answer made no sense and was skipped", kind=kind, name=name)
        self._observer.rejected(kind)


def _is_whole(model_id: str) -> bool:
    """Tell whether the API would know this id, and no other model by it."""
    return len(model_id) < wire.LABEL_LIMIT and "\ufffd" not in model_id


def _segment(model_id: str) -> str:
    """Percent-encode an id for the path; `.` and `..` too, which would otherwise climb it."""
    encoded = quote(model_id, safe="")
    return encoded if encoded.strip(".") else encoded.replace(".", "%2E")
