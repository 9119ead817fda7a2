"""Snapshot and table → the bytes of /metrics.

A snapshot is rendered once, in a thread, and swapped in whole, so a scrape finds its bytes ready: it never
waits for a poll or a rendering and never sees half of either. One payload serves both formats. The exporter's
own metrics, rendered at each scrape, continue the text and continue the gzip member too.
"""

import asyncio
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from prometheus_client.exposition import generate_latest as generate_text
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from exporter.clock import Clock
from exporter.exposition.lines import Format
from exporter.exposition.payload import Payload
from exporter.exposition.rendering import Renderer
from exporter.families import FAMILIES
from exporter.model import Snapshot
from exporter.runtime.worker import Worker

__all__ = ["Exposition", "Format", "SelfMetrics", "render"]

SHARED_FOR = 1.0  # seconds


_GENERATORS: Mapping[Format, Callable[[Collector], bytes]] = {
    Format.TEXT: generate_text,
    Format.OPENMETRICS: generate_openmetrics,
}


def render(collector: Collector, format_: Format) -> bytes:
    """Render a collector's families as a whole exposition."""
    return _GENERATORS[format_](collector)


class SelfMetrics:
    """The exporter's own metrics, rendered when asked for; scrapes within a second share one rendering."""

    def __init__(self, collector: Collector, clock: Clock) -> None:
        self._collector = collector
        self._clock = clock
        self._rendered: dict[Format, tuple[float, bytes]] = {}

    def render(self, format_: Format) -> bytes:
        """Return a whole exposition, at most a second old."""
        now = self._clock.monotonic()
        at, text = self._rendered.get(format_, (-math.inf, b""))
        if now - at > SHARED_FOR:
            text = render(self._collector, format_)
            self._rendered[format_] = now, text
        return text


_NOTHING = Payload(())


class _Rendered(NamedTuple):
    """An exposition, and the two parts that it was made of."""

    payload: Payload
    own: bytes
    chunks: Sequence[bytes]


class Exposition:
    """Holds the last good snapshot, rendered; gives none of it once `is_fresh` of its `listed_at` is False.

    `own` returns the exporter's own metrics in a format; they end each exposition.
    """

    def __init__(
        self,
        *,
        is_fresh: Callable[[float | None], bool],
        own: Callable[[Format], bytes] = lambda _: b"",
        exclude: re.Pattern[str] | None = None,
        worker: Worker = asyncio.to_thread,
    ) -> None:
        self._worker = worker
        self._is_fresh = is_fresh
        self._own = own
        families = [family for family in FAMILIES if not (exclude and exclude.fullmatch(family.name))]
        self._renderer = Renderer(families)
        self._snapshot: Snapshot | None = None
        self._payload = _NOTHING
        self._rendered: dict[tuple[Format, bool], _Rendered] = {}
        self._publishing = asyncio.Lock()

    @property
    def snapshot(self) -> Snapshot | None:
        """The snapshot that is served; None before the first and when it is stale."""
        return self._snapshot if self._is_shown() else None

    async def publish(self, snapshot: Snapshot) -> None:
        """Serve `snapshot` from now on; one that says nothing new is not rendered again."""
        async with self._publishing:  # first come, first served: the newest is published last
            # To compare two large fleets takes a while, too.
            self._payload = await self._worker(self._render, snapshot)
            self._snapshot = snapshot
            self._rendered.clear()  # else one that nobody asks for again would keep its snapshot

    def chunks(self, format_: Format, gzipped: bool = False) -> Sequence[bytes]:
        """Return the whole exposition in chunks."""
        own = self._own(format_)
        payload = self._payload if self._is_shown() else _NOTHING
        ready = self._rendered.get((format_, gzipped))
        if ready is None or ready.payload is not payload or ready.own is not own:
            ready = _Rendered(payload, own, payload.chunks(own, gzipped=gzipped))
            self._rendered[format_, gzipped] = ready
        return ready.chunks

    def _render(self, snapshot: Snapshot) -> Payload:
        return self._payload if snapshot == self._snapshot else self._renderer.render(snapshot)

    def _is_shown(self) -> bool:
        return self._snapshot is not None and self._is_fresh(self._snapshot.listed_at)
