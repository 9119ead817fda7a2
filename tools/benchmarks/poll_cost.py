"""CPU seconds of a poll, and the longest that it holds the event loop.

The exporter polls 10,000 models in a process of its own: a fleet that stays as it is, then one in which every
model was used since the last poll. It is compared with what no poller gets around, reading the same JSON with
Python's own parser, and what prometheus_client needs to write the page once. The loop is watched by a
heartbeat every 2 ms: a hold is by how much one came late. Other processes on the machine cause that too, as
the loop at rest shows.
"""

from collections.abc import Iterator

from tools.benchmarks import inside
from tools.benchmarks.api import MODELS
from tools.benchmarks.exporters import polling_options
from tools.benchmarks.fleets import LEAN, PAGE_SIZE, Fleet
from tools.benchmarks.inside import AT_REST, HELD, JSON, LIBRARY, OURS
from tools.benchmarks.processes import fetch, python
from tools.benchmarks.results import Figure, Goal, Result

NAME = "poll-cost"
LONGEST_HOLD = 50.0  # milliseconds


def run() -> Iterator[Result]:
    """Measure both kinds of poll."""
    return compare(Fleet(LEAN, 10_000), rounds=3)


def compare(fleet: Fleet, rounds: int) -> Iterator[Result]:
    """Measure polls of a fleet that stays and of one that changes."""
    with python("tools.benchmarks.api", fleet.kind, str(fleet.count)) as api:
        pages = [f"{api.url}{MODELS}?page_token={number}" for number in range(-(-fleet.count // PAGE_SIZE))]
        for changing, change in ((0, "unchanged"), (1, "all changed")):
            fetch(f"{api.url}/-/control?changing={changing}")
            findings = inside.ask(
                inside.COSTS, rounds=rounds, options=polling_options(api.url, steps=False), pages=pages
            )
            yield from _results(f"{fleet.count:,} models, {change}", findings)


def _results(case: str, findings: inside.Findings) -> Iterator[Result]:
    def figure(key: str, name: str = "", scale: float = 1.0) -> Figure:
        return Figure.of(name or key, [scale * one[key] for one in findings])

    yield Result(NAME, f"CPU, {case}", "s", figure(OURS), (figure(JSON), figure(LIBRARY)))
    yield Result(
        NAME,
        f"longest hold, {case}",
        "ms",
        figure(HELD, OURS, 1000),
        (figure(AT_REST, "the same loop at rest", 1000),),
        Goal(LONGEST_HOLD),
    )
