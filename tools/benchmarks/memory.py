"""Resident memory, at rest and at most.

The exporter has listed the fleet, asked for the step metrics of every model, and polled it twice again with
every model changed, each time scraped plain, gzipped and as OpenMetrics. It is compared with
prometheus_client's server, which has the same models, keeps no page, and was scraped once. "At most" is the
peak of the process's life, start included. Development packages in the same environment add some 5 MiB,
because httpx and structlog import rich where they find it: `make bench` in a fresh clone installs none.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tools.benchmarks import peers
from tools.benchmarks.exporters import polled
from tools.benchmarks.fleets import FULL, LEAN, Fleet
from tools.benchmarks.load import GZIP, PLAIN, headers
from tools.benchmarks.machine import memory
from tools.benchmarks.processes import fetch
from tools.benchmarks.results import Figure, Goal, Result

NAME = "memory"
OPENMETRICS = {"Accept": "application/openmetrics-text;version=1.0.0", "Accept-Encoding": "gzip"}


@dataclass(frozen=True)
class Case:
    """One fleet; the goal is in MiB."""

    fleet: Fleet
    goal: float | None
    interval: str = "2s"


CASES = (
    Case(Fleet(LEAN, 1), 52, interval="1s"),
    Case(Fleet(LEAN, 1_000), 62),
    Case(Fleet(FULL, 1_000), None),
    Case(Fleet(LEAN, 10_000), 125, interval="6s"),
)


def run() -> Iterator[Result]:
    """Measure every case."""
    for case in CASES:
        yield measure(case)


def measure(case: Case, polls: int = 2) -> Result:
    """Measure one fleet: memory at rest, and the most there was."""
    steps = case.fleet.kind == FULL
    # The step metrics of a lean fleet are asked for too: what is known of each model needs its place.
    with polled(case.fleet, interval=case.interval, steps=True) as pair:
        for _ in range(polls):
            pair.control("changing=1&hold=0")
            pair.wait_for_list()
            pair.control("hold=1")  # on a slow machine, one poll would follow the other
            pair.exporter.settle()
            for wanted in (headers(PLAIN), headers(GZIP), OPENMETRICS):
                fetch(pair.exporter.url, wanted)
        ours, our_peak = memory(pair.exporter.pid)
        pair.control("hold=0")
        with peers.client_server(pair, steps=steps) as library:
            fetch(library.url, headers(PLAIN))
            theirs, their_peak = memory(library.pid)
    return Result(
        NAME,
        f"{case.fleet.count:,} {case.fleet.kind} model{'s' if case.fleet.count > 1 else ''}",
        "MiB",
        Figure.of("this exporter", [ours]),
        (
            Figure.of("prometheus_client's server", [theirs]),
            Figure.of("this exporter, at most", [our_peak]),
            Figure.of("prometheus_client's server, at most", [their_peak]),
        ),
        Goal(case.goal) if case.goal else None,
        f"{case.fleet.series:,} series",
    )
