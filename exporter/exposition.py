"""Snapshot and table → the bytes of /metrics.

A snapshot is rendered once for each format, in a thread, and swapped in whole, so a scrape finds its bytes
ready: it never waits for a poll or a rendering and never sees half of either. What a scrape adds, the
exporter's own metrics, continues the text, and continues the gzip member too: a member may hold any number of
deflate blocks (RFC 1951), and its checksum can be carried on (RFC 1952).
"""

import asyncio
import re
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import generate_latest as generate_text
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from exporter.clock import Clock
from exporter.families import FAMILIES, Family
from exporter.model import Snapshot

_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # deflate, no name, no time, unknown system
_GZIP_LEVEL = 6
_END = b"# EOF\n"


class Format(Enum):
    """The exposition formats served; the value is the content type."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


_GENERATORS: Mapping[Format, Callable[[Collector], bytes]] = {
    Format.TEXT: generate_text,
    Format.OPENMETRICS: generate_openmetrics,
}


def render(collector: Collector, format_: Format) -> bytes:
    """Render a collector's families as a whole exposition."""
    return _GENERATORS[format_](collector)


class Block:
    """Bytes that begin a page, ready plain and as the beginning of a gzip member."""

    __slots__ = ("_crc", "_gzipped", "_plain")

    def __init__(self, plain: bytes) -> None:
        deflate = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        self._plain = plain
        self._gzipped = _GZIP_HEADER + deflate.compress(plain) + deflate.flush(zlib.Z_SYNC_FLUSH)
        self._crc = zlib.crc32(plain)

    def page(self, rest: bytes, *, gzipped: bool) -> Sequence[bytes]:
        """Give the pieces of the page that this block and `rest` make together."""
        if not gzipped:
            return self._plain, rest
        deflate = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        end = deflate.compress(rest) + deflate.flush()
        size = (len(self._plain) + len(rest)) & 0xFFFF_FFFF
        return self._gzipped, end + struct.pack("<II", zlib.crc32(rest, self._crc), size)


_NOTHING = Block(b"")


class Exposition:
    """Holds the last good snapshot, rendered; gives nothing once it is older than `stale_after()` seconds."""

    def __init__(
        self, *, clock: Clock, stale_after: Callable[[], float], exclude: re.Pattern[str] | None = None
    ) -> None:
        self._clock = clock
        self._stale_after = stale_after
        self._families = [family for family in FAMILIES if not (exclude and exclude.fullmatch(family.name))]
        self._snapshot: Snapshot | None = None
        self._blocks: Mapping[Format, Block] = {}
        self._good_at = 0.0
        self._publishing = asyncio.Lock()

    @property
    def snapshot(self) -> Snapshot | None:
        """The snapshot that is served; None before the first and when it is stale."""
        return self._snapshot if self._is_fresh() else None

    async def publish(self, snapshot: Snapshot) -> None:
        """Serve `snapshot` from now on; one that says nothing new is not rendered again."""
        async with self._publishing:  # first come, first served: the newest is published last
            if snapshot != self._snapshot:
                blocks = await asyncio.to_thread(_render_blocks, self._families, snapshot)
                self._snapshot, self._blocks = snapshot, blocks
            # Step metrics may come long after the list; they make it no younger.
            listed_at = snapshot.listed_at
            self._good_at = self._clock.monotonic() if listed_at is None else listed_at

    def page(self, format_: Format, live: bytes, *, gzipped: bool) -> Sequence[bytes]:
        """Give the pieces of a whole page that ends with `live`, an exposition in the same format."""
        block = self._blocks[format_] if self._is_fresh() else _NOTHING
        return block.page(live, gzipped=gzipped)

    def _is_fresh(self) -> bool:
        return self._snapshot is not None and self._clock.monotonic() - self._good_at <= self._stale_after()


class _OneFamily(Collector):
    def __init__(self, family: Family, snapshot: Snapshot) -> None:
        self._metric = GaugeMetricFamily(family.name, family.help, labels=family.labels)
        for values, value in family.collect(snapshot):
            self._metric.add_metric(values, value)

    def collect(self) -> Iterable[Metric]:
        return (self._metric,)


def _render_blocks(families: Sequence[Family], snapshot: Snapshot) -> Mapping[Format, Block]:
    parts: dict[Format, list[bytes]] = {format_: [] for format_ in Format}
    # Family by family: the samples of a large fleet need far more memory than their text.
    for collector in (_OneFamily(family, snapshot) for family in families):
        for format_, rendered in parts.items():
            rendered.append(render(collector, format_).removesuffix(_END))
    return {format_: Block(b"".join(rendered)) for format_, rendered in parts.items()}
