"""The two endpoints of the API, every page of them.

A chain of pages ends as `InvalidResponse` when it repeats a token or never ends. Text that is large enough to
hold up the event loop is read in a thread.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote

import structlog

from exporter.aside import Aside
from exporter.cohere import wire
from exporter.cohere.memo import Known, Reader, RememberingReader
from exporter.cohere.progress import is_descending, latest
from exporter.cohere.transport import Endpoint, Observer, Transport
from exporter.errors import InvalidResponse
from exporter.model import FinetunedModel, TrainingProgress

log = structlog.stdlib.get_logger(__name__)

MODELS_PATH = "/v1/finetuning/finetuned-models"
PAGES_LIMIT = 1000
P = TypeVar("P")
_READ_IN_THREAD = 256 << 10  # bytes; about 10 ms of reading


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
        aside: Aside = asyncio.to_thread,
    ) -> None:
        self._transport = transport
        self._observer = observer
        self._page_size = page_size
        self._metric_limit = metric_limit
        self._aside = aside
        self._known: Known[FinetunedModel] = {}

    async def list_models(self) -> Listing:
        """List every model the key has access to."""
        models: dict[str, FinetunedModel] = {}
        count = 0
        reader = RememberingReader(wire.read_models, self._known)
        async for page in self._pages(Endpoint.LIST_FINETUNED_MODELS, MODELS_PATH, reader):
            count += 1
            for model in page.items:
                if model.id in models:
                    self._reject("duplicate_model", "id")
                # The list may shift between two pages; what was read last is the newest.
                models[model.id] = model
        self._known = reader.pages
        return Listing(tuple(models.values()), count)

    async def training_progress(
        self, model_id: str, earlier: TrainingProgress | None = None
    ) -> TrainingProgress | None:
        """Give the latest metrics of one model; None when it has none yet.

        `earlier`, what was known before, completes a reading that ends at the first page.
        """
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
        self, endpoint: Endpoint, path: str, read: Reader[P]
    ) -> AsyncGenerator[wire.Page[P], None]:
        query = {"page_size": str(self._page_size)} if self._page_size else {}
        seen: set[str] = set()
        for _ in range(PAGES_LIMIT):
            body = await self._transport.get(endpoint, path, query)
            page = await self._read(read, body)
            yield page
            if not page.next_token:
                return
            if page.next_token in seen:
                raise InvalidResponse("the list of pages goes in a circle: next_page_token repeats itself")
            seen.add(page.next_token)
            query["page_token"] = page.next_token
        raise InvalidResponse(f"the list has no end within {PAGES_LIMIT} pages")

    async def _read(self, read: Reader[P], body: bytes) -> wire.Page[P]:
        if len(body) < _READ_IN_THREAD:
            return read(body, self._reject)
        return await self._aside(read, body, self._reject)

    def _reject(self, kind: str, name: str) -> None:
        log.debug("part of an answer made no sense and was skipped", kind=kind, name=name)
        self._observer.rejected(kind)


def _segment(model_id: str) -> str:
    """Percent-encode an id for the path; `.` and `..` too, which would otherwise climb it."""
    encoded = quote(model_id, safe="")
    return encoded if encoded.strip(".") else encoded.replace(".", "%2E")
