"""The exporter's poller in a process of its own, polling when told to: what a poll costs, seen from inside.

Started with what to do and its keywords as JSON, it prints a list of JSON with an object for each round. A
heartbeat in the same event loop tells how long the loop was held: by how much a short sleep came late.
"""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from typing import Self

from prometheus_client.exposition import generate_latest

from exporter.app import Exporter
from exporter.clock import SystemClock
from exporter.runtime import log
from exporter.runtime.tuning import tune_interpreter
from exporter.settings import ApiKey, load
from tools.benchmarks.client_server import Collected
from tools.benchmarks.processes import fetch, run

COSTS, WALLS = "costs", "walls"
OURS, JSON, LIBRARY = (
    "this exporter",
    "json.loads of the same pages",
    "prometheus_client writing the page once",
)
HELD, AT_REST = "held", "at rest"
Findings = Sequence[dict[str, float]]
_BEAT = 0.002  # seconds
_REST = 1.0


def ask(what: str, **order: object) -> Findings:
    """Run this module for `COSTS` or `WALLS`, with the keywords of the function; return what it finds."""
    findings: Findings = json.loads(run(sys.executable, "-m", __name__, what, json.dumps(order)))
    return findings


async def costs(options: Sequence[str], rounds: int, pages: Sequence[str]) -> Findings:
    """Poll for the CPU seconds, and again with the heartbeat for the longest hold; the peers take turns.

    `options` are the exporter's flags, `pages` the addresses of the list's pages.
    """
    exporter = _build(options)
    bodies = [fetch(page) for page in pages]
    findings = []
    async with exporter.http:
        await _poll(exporter)
        for _ in range(rounds):
            begin = time.process_time()
            await _poll(exporter)
            own = time.process_time() - begin
            async with Heartbeat() as polling:
                await _poll(exporter)
            async with Heartbeat() as resting:
                await asyncio.sleep(_REST)
            findings.append(
                {OURS: own, HELD: polling.longest, AT_REST: resting.longest, **_peers(exporter, bodies)}
            )
    return findings


async def walls(options: Sequence[str], rounds: int) -> Findings:
    """Return the wall times of first polls, each of which needs the step metrics of every model."""
    findings = []
    for _ in range(rounds):
        exporter = _build(options)
        async with exporter.http:
            begin = time.monotonic()
            await _poll(exporter)
            findings.append({OURS: time.monotonic() - begin})
    return findings


class Heartbeat:
    """The longest that the event loop was held within the block, in seconds."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._beat())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(2 * _BEAT)
        self._task.cancel()

    async def _beat(self) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(_BEAT)
            now = time.monotonic()
            self.longest = max(self.longest, now - last - _BEAT)
            last = now


def _build(options: Sequence[str]) -> Exporter:
    """Build the exporter as the command does."""
    _, settings = load(["serve", *options], {})
    log.configure("error", "logfmt")
    return Exporter(settings, ApiKey(""), clock=SystemClock())


async def _poll(exporter: Exporter) -> None:
    """Poll once, step metrics included; raise RuntimeError when it fails."""
    outcome = await exporter.poller.poll()
    await exporter.poller.finish()
    if outcome.reason or exporter.poller.step_metrics.errors:
        raise RuntimeError(outcome.message or str(exporter.poller.step_metrics.errors[0]))


def _peers(exporter: Exporter, bodies: Sequence[bytes]) -> dict[str, float]:
    snapshot = exporter.exposition.snapshot
    if snapshot is None:
        raise RuntimeError("the exporter has nothing to show")
    begin = time.process_time()
    for body in bodies:
        json.loads(body)
    parsed = time.process_time()
    generate_latest(Collected(snapshot, steps=False))
    return {JSON: parsed - begin, LIBRARY: time.process_time() - parsed}


def main() -> None:
    """Do what the arguments say."""
    what, order = sys.argv[1:]
    tune_interpreter()
    keywords = json.loads(order)
    print(json.dumps(asyncio.run(costs(**keywords) if what == COSTS else walls(**keywords))))


if __name__ == "__main__":
    main()
