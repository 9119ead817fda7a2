"""The benchmarks, in the order in which they run."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tools.benchmarks import (
    during_poll,
    encrypted,
    json_peer,
    latency,
    lone,
    memory,
    poll_cost,
    start,
    steps,
    throughput,
)
from tools.benchmarks.processes import find
from tools.benchmarks.results import Result


@dataclass(frozen=True)
class Benchmark:
    """One row: what it is called, its title on the page, how it runs, and programs it cannot do without."""

    name: str
    title: str
    run: Callable[[], Iterator[Result]]
    needs: tuple[str, ...] = ()

    def results(self) -> Iterator[Result]:
        """Run it; raises `Missing` when a program is not installed."""
        for program in self.needs:
            find(program)
        return self.run()

    @property
    def text(self) -> str:
        """What it measures and how, as its module says after the first line."""
        return (sys.modules[self.run.__module__].__doc__ or "").partition("\n")[2].strip()


_NGINX, _NODE = "nginx", "prometheus-node-exporter"

BENCHMARKS = (
    Benchmark(throughput.NAME, "Scrapes a second", throughput.run, ("wrk", _NGINX, _NODE)),
    Benchmark(encrypted.NAME, "Scrapes a second within TLS", encrypted.run, ("wrk", _NGINX, "openssl")),
    Benchmark(lone.NAME, "CPU of a lone scrape", lone.run, (_NODE,)),
    Benchmark(during_poll.NAME, "Scrapes during a poll", during_poll.run),
    Benchmark(poll_cost.NAME, "What a poll costs", poll_cost.run),
    Benchmark(latency.NAME, "Wall time of a poll", latency.run),
    Benchmark(memory.NAME, "Memory", memory.run),
    Benchmark(steps.NAME, "Every training step", steps.run),
    Benchmark(start.NAME, "Start", start.run),
    Benchmark(json_peer.NAME, "A day beside json_exporter", json_peer.run, ("json_exporter",)),
)
