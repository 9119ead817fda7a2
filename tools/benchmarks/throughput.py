"""Scrapes a second: the exporter, nginx with the same bytes as a file, and prometheus_client's server.

wrk, with one thread and a few connections that stay open, drives each in turn. nginx (one worker, tuned to
win) serves one scrape of the exporter, saved as it was sent, plain and gzipped: the same bytes up to the
exporter's own metrics at the end, which are live in one and frozen in the other. prometheus_client's server
has the same models in a collector and renders them at each scrape, so it is scraped over one connection; what
its page says of them is compared, byte for byte, before the run. node_exporter serves what it always serves.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from tools.benchmarks import peers
from tools.benchmarks.exporters import polled
from tools.benchmarks.fleets import LEAN, Fleet
from tools.benchmarks.load import GZIP, PLAIN, headers, wrk
from tools.benchmarks.processes import Process, fetch
from tools.benchmarks.results import Figure, Goal, Result

NAME = "throughput"
ROUNDS = 7
SLOW_ROUNDS = 3


@dataclass(frozen=True)
class Case:
    """One row of the benchmark."""

    models: int
    encoding: str
    goal: float
    connections: int = 4
    seconds: int = 1


CASES = (
    Case(1_000, PLAIN, goal=0.9),
    Case(1_000, GZIP, goal=1.0),
    Case(10_000, PLAIN, goal=1.0),
    Case(10_000, GZIP, goal=1.1),
)


def run() -> Iterator[Result]:
    """Measure every case."""
    for models in dict.fromkeys(case.models for case in CASES):
        yield from compare([case for case in CASES if case.models == models])


def compare(cases: list[Case], rounds: int = ROUNDS) -> Iterator[Result]:
    """Measure the cases of one fleet."""
    fleet = Fleet(LEAN, cases[0].models)
    with ExitStack() as stack:
        pair = stack.enter_context(polled(fleet))
        ours = pair.exporter
        nginx = stack.enter_context(peers.nginx(ours.url))
        library = stack.enter_context(peers.client_server(pair))
        node = stack.enter_context(peers.node_exporter())
        contestants = (ours, nginx, library)
        for encoding in (PLAIN, GZIP):
            if len({peers.models_part(fetch(one.url, headers(encoding))) for one in contestants}) != 1:
                raise RuntimeError("the pages compared are not the same")
        for case in cases:
            yield _measure(case, fleet, (*contestants, node), rounds)


def _one_by_one(server: Process, encoding: str) -> float:
    begin = time.monotonic()
    fetch(server.url, headers(encoding))
    return 1 / (time.monotonic() - begin)


def _measure(case: Case, fleet: Fleet, contestants: tuple[Process, ...], rounds: int) -> Result:
    ours, nginx, library, node = contestants
    rates: dict[Process, list[float]] = {ours: [], nginx: []}
    for _ in range(rounds):
        for one, seen in rates.items():
            seen.append(wrk(one.url, case.encoding, connections=case.connections, seconds=case.seconds))
    # A scrape takes the library so long that wrk could count few of them.
    slow = [_one_by_one(library, case.encoding) for _ in range(SLOW_ROUNDS)]
    ordinary = [wrk(node.url, case.encoding, connections=case.connections, seconds=1)]
    size = len(fetch(ours.url, headers(case.encoding)))
    node_size = len(fetch(node.url, headers(case.encoding)))
    return Result(
        NAME,
        f"{case.models:,} models, {case.encoding}",
        "scrapes/s",
        Figure.of("this exporter", rates[ours]),
        (
            Figure.of("nginx, the same bytes as a file", rates[nginx]),
            Figure.of("prometheus_client's server", slow),
            Figure.of(f"node_exporter, its own {node_size / 1024:,.0f} KiB", ordinary),
        ),
        Goal(case.goal, on_ratio=True, at_least=True),
        f"{fleet.series:,} series, {size / 1024:,.0f} KiB, {case.connections} connections",
    )
