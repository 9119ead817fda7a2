"""docs/soak.md and its charts, written from the results of a long run.

The results stand beside the page as soak.json, and the page follows from them alone, so a test can hold one
to the other.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from docs.tables import markdown
from tools.benchmarks import machine
from tools.soak import chart
from tools.soak.clients import VISITORS
from tools.soak.results import Report, trend_cells
from tools.soak.schedule import LATER, LIST, ROWS, STEPS
from tools.soak.watch import EXPLAINED_BY

DOCS = Path(__file__).parents[2] / "docs"
CHARTS = {
    "memory": ("Memory of {days} days", ("resident memory", "allocated blocks")),
    "handles": ("Files, threads and tasks of {days} days", ("open files", "threads", "tasks")),
}

_PAGE = """<!-- Written by `python -m tools.soak --write` from soak.json; do not edit. -->
# Soak

A month of the exporter's life among faults and clients, in minutes. `make soak` runs it; the tests
run its first hours, or with `SOAK_DAYS=1` in the environment a day of it. It ends with 1 when anything below
does not hold.

The figures below are of one run of {days} days on {machine}.

## What runs

The exporter as `serve` runs it, its poll loop, its HTTP client and its pages, over real sockets of the
loopback. It polls every 60 seconds, with at most 16 requests a minute and four at once, an API whose models
are queued, train, step, end, fail and vanish; others change their name every day and their status every
three hours, also to one that is in no specification; each training run has a metric of its own name. The
steps of half of the models come newest first, those of the others oldest first, in pages of four, or up to
ten if asked for.

Time is virtual: it stands still while code runs and jumps to the next timer when nothing does.
Deadlines, pauses and time limits of connections all follow it. So an hour of silence costs nothing, a slow
machine changes nothing but the order of what happens at once, and every rule can be checked to the twentieth
of a second.

Everything is one process, the API and the clients too: what they hold is in the figures of memory, files
and tasks, and would show if it grew.

### Faults

{fault_count} of them a day, every day alike, each for a minute to an hour, most with calm between them:

{faults}

### Clients

{clients}

Besides, now and then somebody scrapes in the middle of a poll, and the history of a model is written every
three hours. Each scrape is read strictly, one of forty by prometheus_client's parsers too.{curves}

## What must hold

- **Polls.** Each begins when it is due, within 0.05 s: an interval after the last began, at once when that
  took longer, after the documented pause when the API refused, within a second of a new key. None that
  meets no fault fails, and none within a fault is good; the reason counted is the one of the fault.
- **Truth.** Each scrape shows exactly the models, names and statuses that the API listed at the last good
  poll, each with exactly one status, and the steps that the API gave; past five minutes without a good poll,
  and the backoff in force, none.
- **Training steps.** Each sample of `/metrics/steps` and of a history is a step of its model at its own time.
  What `/metrics` shows as the highest step of a model comes on a page of steps in time, or is counted in
  `cohere_exporter_training_steps_missed_total`. A history that the API does not refuse is whole.
- **Requests.** No 60 seconds have more than the limit. What the exporter sent, what the API received and
  what `cohere_exporter_api_requests_total` says is the same number for each endpoint, compared every hour.
- **Nothing else happens.** No unhandled exception, forgotten task or warning of the interpreter; no line of
  the log at `warn` or above but these, each only where a fault explains it: {messages}. No secret in the
  log or on a page.
- **Nothing grows.** Every hour, when nothing is under way, memory, files, threads and tasks are measured.
  The median of the last quarter of the run is above that of the first by no more than the table grants; the
  first day is left out.

## What was seen

{verdict}

{counts}

Reasons of the failed polls: {reasons}.

{trends}

![Memory](images/soak-memory.svg)

![Files, threads and tasks](images/soak-handles.svg)

## On a budget

{budget_days} days on the {calls:,} calls a month of a trial key, among the same models, without faults and
clients:

{budget}

## What it does not say

- The API is on the loopback and without TLS, and answers at once or not at all for a long time; a clock
  that never goes on while somebody works does not show what happens when work itself is slow. The
  [benchmarks](benchmarks.md) do.
- By itself glibc keeps freed buffers of 17 MiB, of answers that were cut off as too large, up to two of
  them for hours: so much higher may the resident memory of a real process be. It is bounded, and comes
  back. The soak makes glibc return what is free before it measures.
- The day repeats itself. It was chosen to meet every reason that a poll can fail with, on the list, on a
  later page and on step metrics; not every mixture of them.
"""


_YOUNGER = """

Training steps, histories and steps that come oldest first are younger than the run told of here. 17 days
with them broke no rule (6,364 scrapes of `/metrics/steps`, 45,503 steps on them, 123 histories). Memory could
not be judged in them: caches of the simulated API, which is in the same process, filled up for a week. They
are emptied before each measurement since."""


def write(long: Report, budgeted: Report) -> None:
    """Write page, data and charts."""
    data = {"machine": machine.description(), "long": long.as_data(), "budgeted": budgeted.as_data()}
    (DOCS / "soak.json").write_text(dump(data), encoding="utf-8")
    for path, text in files(data).items():
        path.write_text(text, encoding="utf-8")


def dump(data: Mapping[str, Any]) -> str:
    """Write the data, a row of samples in each line."""
    long = dict(data["long"])
    rows = ",\n".join(json.dumps(row) for row in long.pop("rows"))
    text = json.dumps({**data, "long": {**long, "rows": "HERE"}}, indent=1)
    return text.replace('"HERE"', f"[\n{rows}\n]") + "\n"


def files(data: Mapping[str, Any]) -> Mapping[Path, str]:
    """Return the page and its charts as they follow from the data."""
    long, budgeted = Report.from_data(data["long"]), Report.from_data(data["budgeted"])
    made = {DOCS / "soak.md": render(data["machine"], long, budgeted)}
    for name, (title, resources) in CHARTS.items():
        heading = title.format(days=long.hours // 24)
        made[DOCS / "images" / f"soak-{name}.svg"] = chart.svg(heading, long, resources)
    return made


def render(machine_: Mapping[str, str], long: Report, budgeted: Report) -> str:
    """Return the page."""
    return _PAGE.format(
        days=long.hours // 24,
        machine=", ".join(
            f"{value}" if name == "CPU" else f"{name} {value}" for name, value in machine_.items()
        ),
        fault_count=len(ROWS),
        faults=_faults(),
        clients=markdown(("who", "asks for", "every"), _visitors()),
        curves="" if "histories written" in long.counts else _YOUNGER,
        messages=", ".join(f"`{message}`" for message in EXPLAINED_BY),
        verdict=_verdict(long),
        counts=markdown(("what", "how many"), _cells(long.counts)),
        reasons=", ".join(f"{count:,} `{reason}`" for reason, count in long.reasons.items()),
        trends=markdown(("", "first quarter", "last quarter", "may grow by", ""), _trends(long)),
        budget_days=budgeted.hours // 24,
        calls=1000,
        budget=markdown(("what", "how many"), _cells(budgeted.counts)),
    )


def _faults() -> str:
    headings = {LIST: "on the list", LATER: "on its second page", STEPS: "on step metrics", "": "besides"}
    return markdown(
        ("where", "what"),
        (
            (heading, "; ".join(row.kind for row in ROWS if row.where == where))
            for where, heading in headings.items()
        ),
    )


def _visitors() -> Iterable[Sequence[str]]:
    for visitor in VISITORS:
        yield visitor.name, f"{visitor.method} {visitor.path}", f"{visitor.every:,.0f} s"


def _verdict(report: Report) -> str:
    if report.is_good:
        return "Nothing was found, and nothing has grown."
    grown = [f"{trend.resource.name} has grown" for trend in report.trends if not trend.is_flat]
    return "\n".join(f"- **{finding}**" for finding in (*report.findings, *grown))


def _cells(counts: Mapping[str, int]) -> Iterable[Sequence[str]]:
    return ((name, f"{count:,}") for name, count in counts.items())


def _trends(report: Report) -> Iterable[Sequence[str]]:
    for trend in report.trends:
        yield trend.resource.name, *trend_cells(trend), "flat" if trend.is_flat else "**has grown**"
