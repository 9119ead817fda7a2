"""docs/benchmarks.md and its charts, written from the results of a full run.

The results stand beside the page as benchmarks.json, and the page follows from them and from the table of
benchmarks alone, so a test can hold one to the other.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from docs.tables import markdown
from tools.benchmarks import chart, machine
from tools.benchmarks.processes import ROOT
from tools.benchmarks.results import Result, goal_text, number, spread, times
from tools.benchmarks.table import BENCHMARKS, Benchmark

DOCS = ROOT / "docs"
CHARTS = {"throughput": "Scrapes a second", "memory": "Resident memory, MiB"}
ONE_SCALE = {"memory"}

_PAGE = """<!-- Written by `python -m tools.benchmarks --write` from benchmarks.json; do not edit. -->
# Benchmarks

What a scrape and a poll cost, beside what one would take instead. `make bench` runs all of it in some twenty
minutes on Linux. Where it compares with them it needs `wrk`, `nginx` and `prometheus-node-exporter` (Debian
packages `wrk`, `nginx-light`, `prometheus-node-exporter`), and json_exporter, which `tools/programs/build.sh
json_exporter` builds; what it cannot run it skips, and says so.

The figures below are of one run on {machine}, which others used too: read the ratios.

## Goals

{goals}

## How to read it

Contestants run in one run on one machine and take turns. A figure is the median of its rounds, followed
by the least and the greatest of them. A ratio is the exporter's figure divided by the other one: for
scrapes a second more is better, for time and memory less. Ratios carry over to other machines better than
figures do.

A *lean* model has 14 series: nine statuses, its info and four timestamps; 10,000 of them are 140,000 series.
A *full* one has hyperparameters and training metrics as well: 39 series on average. The exporter polls a
simulated API, which is a process of its own and whose cost is counted nowhere.

{sections}

## What was done for it

Each change was profiled before and after (py-spy, cProfile) on the machine above, while others used it too.

- **Lines are written here**, once for both formats. prometheus_client's writing was most of a poll of
  10,000 changed models: 4.2 s of CPU became 0.8 s.
- **Pages of the list are known by their digest.** Reading them was most of a poll that found nothing new:
  0.61 s of CPU became 0.06 s.
- **Scrapes within a second share the exporter's own metrics.** Writing them was 64 % of a scrape of 1,000
  models, gzipped: 1,090 scrapes a second became 4,000.
- **One page serves both formats**, in pieces that are never joined: to hold and serve 10,000 full models,
  without a poller, took 208 MiB at most, now 99 MiB.
- **A scrape is one read and one write**, from shared bytes, and a request head that comes again is not
  parsed again: 11 microseconds of Python a scrape became 5, without what asyncio takes.
- **sniffio is installed**, for which httpcore looks at each request. Failed imports were a fifth of a call:
  1.4 ms of CPU became 0.95 ms.

Tried and not kept: `sendfile` from a file in memory, which spares a copy (a bare server took 80
microseconds of CPU for 228 KB instead of 111) but is Linux only and needs three system calls; a faster
compression, of which level 4 saves 20 ms for 10,000 models and makes the page 3 % larger; two threads
for heavy work, in which the allocator kept 20 MiB more.

## What it does not say

- Client and server share the machine over the loopback, so a fast server also waits for its client; where the
  client is the limit, two servers look more alike than they are.
- The simulated API answers at once, or after a fixed time. A real one is slower, varies, and limits calls:
  with 10,000 models the first reading of all step metrics takes as long as that limit allows.
- Nothing here uses TLS but the benchmark that is named after it.
- nginx serves a file that never changes; the exporter's page ends with metrics of its own that do.
- node_exporter collects when it is scraped and serves another page. It is there for the feel of an ordinary
  exporter, not as a rival.
"""


def write(results: Sequence[Result]) -> None:
    """Write page, data and charts."""
    data = {"machine": machine.description(), "results": [result.as_data() for result in results]}
    (DOCS / "benchmarks.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    for path, text in files(data).items():
        path.write_text(text, encoding="utf-8")


def files(data: Mapping[str, Any]) -> Mapping[Path, str]:
    """Return the page and its charts as they follow from the data."""
    results = [Result.from_data(one) for one in data["results"]]
    made = {DOCS / "benchmarks.md": render(data["machine"], results)}
    for name, title in CHARTS.items():
        if own := _of(name, results):
            made[_chart(name)] = chart.svg(title, own, one_scale=name in ONE_SCALE)
    return made


def render(machine_: Mapping[str, str], results: Sequence[Result]) -> str:
    """Return the page."""
    return _PAGE.format(
        machine=", ".join(
            f"{value}" if name == "CPU" else f"{name} {value}" for name, value in machine_.items()
        ),
        goals=_goals(results),
        sections="\n\n".join(_section(benchmark, _of(benchmark.name, results)) for benchmark in BENCHMARKS),
    )


def _goals(results: Iterable[Result]) -> str:
    rows = [
        (
            f"{result.benchmark}: {result.case}",
            goal_text(result, result.goal),
            times(result.judged) if result.goal.on_ratio else f"{number(result.judged)} {result.unit}",
            "met" if result.is_met else "**missed**",
        )
        for result in results
        if result.goal
    ]
    return markdown(("what", "goal", "figure", ""), rows)


def _section(benchmark: Benchmark, results: Sequence[Result]) -> str:
    parts = [f"## {benchmark.title}", benchmark.text]
    if not results:
        return "\n\n".join([*parts, _absence(benchmark)])
    if benchmark.name in CHARTS:
        parts.append(f"![{CHARTS[benchmark.name]}, as bars](images/{_chart(benchmark.name).name})")
    parts.append(markdown(("case", "contestant", "figure", "least to greatest", "ratio"), _rows(results)))
    return "\n\n".join(parts)


def _absence(benchmark: Benchmark) -> str:
    # A program was missing, or the benchmark is younger than the run: the data does not say which.
    needs = f" It needs {', '.join(benchmark.needs)}." if benchmark.needs else ""
    return f"Not measured in this run.{needs}"


def _rows(results: Iterable[Result]) -> Iterable[Sequence[str]]:
    for result in results:
        for figure in (result.ours, *result.others):
            is_ours = figure is result.ours
            case = f"{result.case}" + (f" ({result.note})" if result.note else "") if is_ours else ""
            ratio = "" if is_ours else times(result.ratio(figure))
            yield case, figure.name, f"{number(figure.median)} {result.unit}", spread(figure), ratio


def _of(name: str, results: Iterable[Result]) -> list[Result]:
    return [result for result in results if result.benchmark == name]


def _chart(name: str) -> Path:
    return DOCS / "images" / f"benchmarks-{re.sub('[^a-z]', '-', name)}.svg"
