"""How long scrapes take while the exporter reads and renders a fleet that changes wholly, against at rest.

Scrapes (text, gzip) come at a fixed pace, 40 a second, each on a connection of its own, and are timed from
when they were due; p99 is the time that 99 % of them kept to. A poll begins every second, or as soon as the
one before has ended. For the rounds at rest the API holds back its list, so nothing is polled.
"""

import asyncio
from collections.abc import Iterator

from tools.benchmarks.exporters import Pair, polled
from tools.benchmarks.fleets import LEAN, Fleet
from tools.benchmarks.load import GZIP, headers, paced
from tools.benchmarks.processes import fetch
from tools.benchmarks.results import Figure, Goal, Result, percentile

NAME = "during-poll"
RATE = 40.0
POLLING, RESTING = "changing=1&hold=0", "hold=1"


def run() -> Iterator[Result]:
    """Measure the large fleet."""
    yield measure(Fleet(LEAN, 10_000), rounds=5, seconds=5.0)


def measure(fleet: Fleet, rounds: int, seconds: float) -> Result:
    """Take turns between polling and rest."""
    times: dict[str, list[float]] = {POLLING: [], RESTING: []}
    with polled(fleet, interval="1s") as pair:
        size = len(fetch(pair.exporter.url, headers(GZIP)))
        for _ in range(rounds):
            for state, seen in times.items():
                taken = _scrape(pair, state, seconds, at_least=size // 2)
                seen.append(1000 * percentile(taken, 99))
    return Result(
        NAME,
        f"p99 of a scrape during polls, {fleet.count:,} models",
        "ms",
        Figure.of("this exporter, polling", times[POLLING]),
        (Figure.of("this exporter, at rest", times[RESTING]),),
        Goal(2.5, on_ratio=True),
        f"{fleet.series:,} series, {size / 1024:,.0f} KiB",
    )


def _scrape(pair: Pair, state: str, seconds: float, at_least: int) -> list[float]:
    pair.control(state)
    if state == RESTING:
        pair.exporter.settle()
    else:
        pair.wait_for_list()
    scrapes = asyncio.run(paced(pair.exporter.url, GZIP, rate=RATE, seconds=seconds))
    if any(scrape.size < at_least for scrape in scrapes):
        raise RuntimeError("a page is smaller than it should be")
    return [scrape.seconds for scrape in scrapes]
