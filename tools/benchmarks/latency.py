"""Wall time of a poll when each answer of the API takes its time.

A new exporter lists the models on one page and reads the step metrics of each. The ideal is the number of
calls, divided by the eight that may be under way at once, times the latency. It leaves out that the list must
come before the rest.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tools.benchmarks import inside
from tools.benchmarks.exporters import polling_options
from tools.benchmarks.fleets import FULL
from tools.benchmarks.inside import OURS
from tools.benchmarks.processes import fetch, python
from tools.benchmarks.results import Figure, Goal, Result

NAME = "latency"
CONCURRENCY = 8


@dataclass(frozen=True)
class Case:
    """So many models, behind a latency in seconds."""

    models: int
    latency: float
    rounds: int


CASES = (Case(400, 0.05, rounds=3), Case(160, 0.2, rounds=2))


def run() -> Iterator[Result]:
    """Measure every case."""
    for case in CASES:
        yield measure(case)


def measure(case: Case) -> Result:
    """Measure one case."""
    with python("tools.benchmarks.api", FULL, str(case.models)) as api:
        fetch(f"{api.url}/-/control?latency={case.latency}")
        options = [*polling_options(api.url, steps=True), f"--cohere.concurrency={CONCURRENCY}"]
        findings = inside.ask(inside.WALLS, rounds=case.rounds, options=options)
    calls = 1 + case.models
    return Result(
        NAME,
        f"{calls} calls of {1000 * case.latency:.0f} ms",
        "s",
        Figure.of(OURS, [one[OURS] for one in findings]),
        (Figure.of("ideal", [calls / CONCURRENCY * case.latency]),),
        Goal(1.1, on_ratio=True),
    )
