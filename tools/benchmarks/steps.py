"""Memory and CPU of /metrics/steps.

Two exporters poll the same simulated API every 30 s, one of them with `--training.steps-window=0`. Models in
training have a row of five values every 10 s, and had an hour's worth of them before the exporters started,
which is more than may be on offer. Memory is looked at two minutes later, the peak being that of the whole
life; CPU is that of the minute after, without scrapes, and then that of scrapes one after the other. What
the most values on offer take is measured in this process.
"""

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from exporter.clock import SystemClock
from exporter.demo import serve_api
from exporter.exposition import Format
from exporter.exposition.training_steps import VALUES_LIMIT, StepExposition
from exporter.model import FinetunedModel, StepRow, StepRows
from exporter.simulator import Job, Plan, Simulator, at_rest, start_job
from exporter.simulator.catalogue import CHAT
from exporter.web.server import listen
from tools.benchmarks.exporters import exporter, polling_options, shows_steps
from tools.benchmarks.lone import PROMETHEUS
from tools.benchmarks.machine import memory
from tools.benchmarks.processes import Process, fetch, python, wait_until
from tools.benchmarks.results import Figure, Result

NAME = "steps"
TRAINING, AT_REST = 1_000, 10_000
WITHOUT = "without /metrics/steps"
_ROW_SECONDS = 10.0
_HOUR = 3600.0
_NAMES = ("accuracy", "cross_entropy", "generation_accuracy", "generation_cross_entropy")


def run() -> Iterator[Result]:
    """Measure as many values as are ever on offer, and a large fleet."""
    yield asyncio.run(bound())
    yield from measure(TRAINING, AT_REST)


async def bound() -> Result:
    """Measure what the most values that are held take in this process, with their pages in both formats."""
    clock = SystemClock()
    steps = StepExposition(clock=clock, window=_HOUR, worker=asyncio.to_thread, on_missed=lambda _: None)
    for format_ in Format:
        await steps.chunks(format_, gzipped=True)  # from now on it is kept up to date
    before, _ = memory(os.getpid())
    for number in range(1_000):
        rows = [
            StepRow(row, clock.time() - 10 * row, {name: number + row / len(name) for name in _NAMES})
            for row in range(VALUES_LIMIT // 5_000)
        ]
        steps.offer(StepRows(model=FinetunedModel(id=f"{number:036}", name=f"chat-v{number}"), rows=rows))
    held, _ = memory(os.getpid())
    await steps.publish()
    after, _ = memory(os.getpid())
    others = (Figure.of("the rows without the pages", [held - before]),)
    case = f"memory of {VALUES_LIMIT:,} values, the most on offer"
    return Result(NAME, case, "MiB", Figure.of("rows, and pages in both formats", [after - before]), others)


def measure(
    training: int, at_rest_: int, *, interval: str = "30s", minutes: float = 1.0, scrapes: int = 20
) -> Iterator[Result]:
    """Measure one fleet, for so many minutes after twice as many."""
    case = f"{training:,} models in training, {at_rest_:,} at rest"
    with ExitStack() as stack:
        api = stack.enter_context(python("tools.benchmarks.steps", str(training), str(at_rest_)))
        options = [*polling_options(api.url, steps=True), f"--poll.interval={interval}"]
        ours = stack.enter_context(exporter("serve", *options))
        theirs = stack.enter_context(exporter("serve", *options, "--training.steps-window=0"))
        for each in (ours, theirs):
            wait_until(partial(_shows, each, training + at_rest_), 1800)
        for page in (f"{ours.url}/steps", ours.url, theirs.url):
            fetch(page, PROMETHEUS)  # from now on it is kept up to date
        time.sleep(120 * minutes)
        yield Result(NAME, f"memory, {case}", "MiB", *_memory(ours, theirs))
        spent = [-each.cpu() for each in (ours, theirs)]
        time.sleep(60 * minutes)
        spent = [(before + each.cpu()) / minutes for before, each in zip(spent, (ours, theirs), strict=True)]
        polling, other = Figure.of("this exporter", spent[:1]), Figure.of(WITHOUT, spent[1:])
        yield Result(NAME, f"CPU of a minute's polls, {case}", "s", polling, (other,))
        steps, metrics = (_scrapes(ours, path, scrapes) for path in ("/steps", ""))
        note = f"{_kib(ours, '/steps')} and {_kib(ours, '')} KiB"
        yield Result(NAME, f"CPU of a scrape, gzip, {case}", "ms", steps, (metrics,), note=note)


def _shows(process: Process, models: int) -> bool:
    time.sleep(5)  # the page is large, and this is not what is measured
    return shows_steps(process) == models


def _memory(ours: Process, theirs: Process) -> tuple[Figure, tuple[Figure, ...]]:
    (now, peak), (other_now, other_peak) = memory(ours.pid), memory(theirs.pid)
    return Figure.of("this exporter", [now]), (
        Figure.of(WITHOUT, [other_now]),
        Figure.of("this exporter, at most", [peak]),
        Figure.of(f"{WITHOUT}, at most", [other_peak]),
    )


def _scrapes(process: Process, path: str, count: int) -> Figure:
    """Return the CPU milliseconds of scrapes; a poll within one makes it the greatest."""
    spent = []
    for _ in range(count):
        before = process.cpu()
        fetch(process.url + path, PROMETHEUS)
        spent.append(1000 * (process.cpu() - before))
    return Figure.of(f"/metrics{path}", spent)


def _kib(process: Process, path: str) -> int:
    return len(fetch(process.url + path, PROMETHEUS)) >> 10


def jobs(training: int, at_rest_: int, now: float) -> list[Job]:
    """Return models at rest, and models that began to train an hour ago."""
    plan = Plan(queue=0, silence=0, training=24 * 60)
    begun = (start_job(CHAT, plan, version=number, created_at=now - _HOUR) for number in range(training))
    rows = round(24 * _HOUR / _ROW_SECONDS)
    return [
        *at_rest(at_rest_, rows=2),
        *(replace(job, row_interval=_ROW_SECONDS, recorded=rows) for job in begun),
    ]


async def main() -> None:
    """Serve the API until ended; the first line of standard output is the port."""
    training, at_rest_ = map(int, sys.argv[1:])
    simulator = Simulator(api_key="", jobs=jobs(training, at_rest_, time.time()))
    async with serve_api(simulator, listen("127.0.0.1", 0)) as server:
        print(server.port, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
