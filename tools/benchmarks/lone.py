"""CPU time of a process that is scraped once a second, for each scrape.

Everything the process does in that second counts. All contestants are scraped in the same seconds, one after
the other, as Prometheus does it: a connection that stays open, OpenMetrics, gzip. Before that, the exporter
is watched for a while without scrapes.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from http.client import HTTPConnection
from itertools import pairwise
from urllib.parse import urlsplit

from tools.benchmarks import peers
from tools.benchmarks.exporters import polled
from tools.benchmarks.fleets import LEAN, Fleet
from tools.benchmarks.processes import Process
from tools.benchmarks.results import Figure, Result

NAME = "lone-scrape"
PROMETHEUS = {
    "Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "Accept-Encoding": "gzip",
}
SMALL, LARGE = 1_000, 10_000
_SECOND = 1.0


def run() -> Iterator[Result]:
    """Measure both fleets."""
    return compare(Fleet(LEAN, SMALL), Fleet(LEAN, LARGE), rounds=10)


def compare(small: Fleet, large: Fleet, rounds: int) -> Iterator[Result]:
    """Measure two fleets; prometheus_client's server has the small one, the large would take too long."""
    with ExitStack() as stack:
        pairs = [stack.enter_context(polled(fleet)) for fleet in (small, large)]
        library = stack.enter_context(peers.client_server(pairs[0]))
        node = stack.enter_context(peers.node_exporter())
        ours = [pair.exporter for pair in pairs]
        idle = _watch(ours, (), rounds // 2)
        used = _watch([*ours, library, node], [*ours, library, node], rounds)
    ordinary = _figure("node_exporter", used[node])
    for fleet, one in zip((small, large), ours, strict=True):
        others = [ordinary, _figure("this exporter, not scraped", idle[one])]
        if fleet is small:
            others.append(_figure("prometheus_client's server", used[library]))
        yield Result(
            NAME,
            f"{fleet.count:,} models",
            "ms",
            _figure("this exporter", used[one]),
            tuple(others),
            note=f"{fleet.series:,} series",
        )


def _figure(name: str, seconds: Sequence[float]) -> Figure:
    return Figure.of(name, [1000 * second for second in seconds])


def _watch(
    watched: Sequence[Process], scraped: Sequence[Process], rounds: int
) -> Mapping[Process, Sequence[float]]:
    """Scrape every second; return the CPU seconds that each process watched used in each of them."""
    connections = [(HTTPConnection(urlsplit(one.url).netloc, timeout=60), one) for one in scraped]
    totals = {one: [one.cpu()] for one in watched}
    begin = time.monotonic()
    for number in range(1, rounds + 1):
        for connection, _ in connections:
            connection.request("GET", "/metrics", headers=PROMETHEUS)
            connection.getresponse().read()
        time.sleep(max(0.0, begin + number * _SECOND - time.monotonic()))
        for one, seen in totals.items():
            seen.append(one.cpu())
    for connection, _ in connections:
        connection.close()
    return {one: [after - before for before, after in pairwise(seen)] for one, seen in totals.items()}
