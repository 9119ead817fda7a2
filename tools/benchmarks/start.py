"""CPU seconds from nothing to the first scrape of the demo that has models on it.

The command `demo` starts, polls its simulated API and is scraped as soon as it says that it is ready; user
and system time count. It is compared with a Python that only imports the libraries which the exporter is
built on.
"""

import sys
from collections.abc import Iterator

from tools.benchmarks.exporters import exporter
from tools.benchmarks.processes import fetch
from tools.benchmarks.processes import run as run_command
from tools.benchmarks.results import Figure, Goal, Result

NAME = "start"
_IMPORTS = "httptools, httpx, prometheus_client, pydantic_settings, structlog, tenacity, yaml"


def run() -> Iterator[Result]:
    """Measure the start."""
    yield measure(rounds=5)


def measure(rounds: int) -> Result:
    """Start the demo and the bare imports in turn."""
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(_demo())
        theirs.append(_imports())
    return Result(
        NAME,
        "start to first scrape in the demo",
        "s",
        Figure.of("this exporter", ours),
        (Figure.of("importing its libraries", theirs),),
        Goal(1.0),
    )


def _demo() -> float:
    with exporter("demo") as process:
        page = fetch(process.url)
        used = process.cpu()
    if b"cohere_finetuned_model_status{" not in page:
        raise RuntimeError("the demo is ready but shows no model")
    return used


def _imports() -> float:
    return float(run_command(sys.executable, "-c", f"import time, {_IMPORTS}; print(time.process_time())"))
