"""The pages of the scenarios once more, scraped by real Prometheus servers: what each of them stores.

Hours are compressed: pages are shown `SPEED` times as fast as they came, the times of their samples are moved
alike, and so are Prometheus's scrape interval, its window and the two hours of a block, half of which is how
late it takes a sample without a window.
"""

import asyncio
import json
import math
import re
import time
from bisect import bisect_right
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from docs.world import START
from tests.editions import DEBIAN, EDITIONS, Edition, version
from tests.monitoring import running, text_pages
from tests.programs import ROOT
from tools.curves.scenarios import HOUR, SCRAPE, Lived, Point

SPEED = 120
BLOCK, WINDOW = 2 * HOUR, 6 * HOUR
_STEP = "cohere_finetuned_model_step_number"
_SOON = 2.0  # seconds in which every server sees an empty page first
_REFUSED = (
    "prometheus_target_scrapes_sample_out_of_order_total",
    "prometheus_target_scrapes_sample_out_of_bounds_total",
    "prometheus_target_scrapes_sample_duplicate_timestamp_total",
)


@dataclass(frozen=True)
class Server:
    """One Prometheus: its edition, and whether it has a window for samples out of order."""

    edition: Edition
    has_window: bool

    @property
    def name(self) -> str:
        """Its version, and the window."""
        return f"{_release(self.edition)}, {'6 h' if self.has_window else 'no window'}"


def _release(edition: Edition) -> str:
    if edition is DEBIAN:
        return ".".join((version(edition, "prometheus") or "?").split(".")[:2])
    # Prometheus 3.16 is v0.316 as a module; built from it, the program does not know its version.
    module = (ROOT / "tools/programs/prometheus/go.mod").read_text(encoding="utf-8")
    found = re.search(r"github.com/prometheus/prometheus v0\.(\d)(\d\d)\.", module)
    return f"{found[1]}.{int(found[2])}" if found else edition.name


SERVERS = tuple(Server(edition, has_window) for edition in EDITIONS for has_window in (False, True))


@dataclass(frozen=True)
class Stored:
    """What a server has of each run: the share of its rows; samples it refused, scrapes that failed whole."""

    shares: Sequence[float]
    refused: int
    failed: int


class _Pages:
    """The pages of each run, at compressed times."""

    def __init__(self, lives: Sequence[Lived]) -> None:
        self._begin = math.inf
        self._lives = lives
        self._page = cache(self._render)

    def begin(self) -> None:
        """Let time go on from now."""
        self._begin = time.time() + _SOON
        self._starts = [[self.moved(at * 1000) for at, _ in life.pages] for life in self._lives]

    def moved(self, milliseconds: float) -> int:
        """Return the compressed time, in milliseconds."""
        return round(self._begin * 1000 + (milliseconds - START * 1000) / SPEED)

    def _render(self, run: int, number: int) -> bytes:
        lines = []
        for line in self._lives[run].pages[number][1].splitlines():
            sample, _, at = line.rpartition(b" ")
            lines.append(line if line.startswith(b"#") else b"%s %d" % (sample, self.moved(int(at))))
        return b"".join(line + b"\n" for line in lines)

    def page(self, path: str) -> bytes:
        """Return the page of a run as it is now; the path is its number."""
        if time.time() < self._begin:
            return b""
        run = int(path.strip("/"))
        return self._page(run, bisect_right(self._starts[run], time.time() * 1000) - 1)


async def replay(lives: Sequence[Lived], servers: Sequence[Server] = SERVERS) -> Mapping[str, Stored]:
    """Let every server scrape every run, and return what it has in the end."""
    pages = _Pages(lives)
    async with AsyncExitStack() as stack:
        target = await stack.enter_async_context(text_pages(pages.page))
        urls = [
            await stack.enter_async_context(_prometheus(server, _config(server, target, len(lives))))
            for server in servers
        ]
        pages.begin()
        end = max(pages.moved((life.pages[-1][0] + 10 * SCRAPE) * 1000) for life in lives)
        await asyncio.sleep(end / 1000 - time.time())
        truth = [{(pages.moved(at), step) for at, step in life.rows} for life in lives]
        found = await asyncio.gather(*(_stored(url, truth) for url in urls))
    return dict(zip((server.name for server in servers), found, strict=True))


@asynccontextmanager
async def _prometheus(server: Server, config: Mapping[str, Any]) -> AsyncIterator[str]:
    program = server.edition.find("prometheus")
    if program is None:
        raise FileNotFoundError(f"no Prometheus of the edition {server.edition.name}")
    with TemporaryDirectory() as folder:
        file = f"{folder}/prometheus.yml"
        Path(file).write_text(json.dumps(config))  # noqa: ASYNC240 - a moment before anything runs
        block = f"{BLOCK / SPEED:.0f}s"
        flags = (
            f"--config.file={file}",
            f"--storage.tsdb.path={folder}/data",
            f"--storage.tsdb.min-block-duration={block}",
            f"--storage.tsdb.max-block-duration={block}",
        )
        async with running(str(program), *flags) as url:
            yield url


def _config(server: Server, target: str, runs: int) -> Mapping[str, Any]:
    jobs = [
        {
            "job_name": str(run),
            "metrics_path": f"/{run}",
            "static_configs": [{"targets": [target]}],
        }
        for run in range(runs)
    ]
    interval = f"{1000 * SCRAPE / SPEED:.0f}ms"
    window = f"{WINDOW / SPEED:.0f}s" if server.has_window else "0s"
    return {
        "global": {"scrape_interval": interval, "scrape_timeout": interval},
        "scrape_configs": jobs,
        "storage": {"tsdb": {"out_of_order_time_window": window}},
    }


async def _stored(url: str, truth: Sequence[set[Point]]) -> Stored:
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as client:

        async def ask(query: str) -> list[dict[str, Any]]:
            answer = await client.get("/api/v1/query", params={"query": query})
            series: list[dict[str, Any]] = answer.json()["data"]["result"]
            return series

        points: list[set[Point]] = [set() for _ in truth]
        for series in await ask(f"{_STEP}[20h]"):
            pairs = {(round(at * 1000), int(float(value))) for at, value in series["values"]}
            points[int(series["metric"]["job"])] |= pairs
        failed = await ask("count_over_time((up == 0)[1h:1s])")
        own = (await client.get("/metrics")).text.splitlines()
    return Stored(
        [len(found & rows) / len(rows) for found, rows in zip(points, truth, strict=True)],
        refused=round(sum(float(line.split()[1]) for line in own if line.startswith(_REFUSED))),
        failed=sum(int(float(series["value"][1])) for series in failed),
    )
