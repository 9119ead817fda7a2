"""Training runs, lived through by the exporter's poller in virtual time, and what scrapers get of them.

A scenario goes on for an hour after the run's end, until the rows that may come late have been asked for. The
page of steps is kept as it was at each moment, so that a real Prometheus can scrape it later.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TypeVar

from structlog.testing import capture_logs

from docs.world import START, World
from exporter.exposition import Format
from exporter.exposition.training_steps import StepExposition
from exporter.model import Snapshot, StepRows
from exporter.polling.readings import REREAD
from exporter.simulator import Job, Plan, at_rest, start_job
from exporter.simulator.catalogue import CHAT

T = TypeVar("T")
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
WINDOW = 120.0  # the default of --training.steps-window
SCRAPE = 60.0
TRIAL = 1000  # calls a month
METRIC = "cross_entropy"
_GRAIN = 5.0  # seconds by which time goes on
_PHASE = 35.0  # seconds from the first poll to the first scrape
_AT_REST = 2  # models beside the one that is trained
_NUMBER = b"cohere_finetuned_model_step_number{"

Point = tuple[int, int]
"""Milliseconds of Unix time, number of the step."""


@dataclass(frozen=True)
class Scenario:
    """One run: how often it has a row, how long it trains, and how often the API is polled."""

    row_interval: float
    minutes: float = 240.0
    interval: float = 60.0
    calls_per_month: int = 0
    is_ascending: bool = False

    @property
    def run(self) -> str:
        """The run in words."""
        length = f"{self.minutes / 60:.0f} hours" if self.minutes > 60 else f"{self.minutes:.0f} minutes"
        order = ", oldest first" if self.is_ascending else ""
        return f"{length}, a row every {self.row_interval:.0f} s{order}"

    @property
    def polls(self) -> str:
        """How often the API is polled, in words."""
        return f"{self.calls_per_month:,} calls a month" if self.calls_per_month else f"{self.interval:.0f} s"


SCENARIOS = (
    Scenario(50),
    Scenario(50, interval=15),
    Scenario(50, calls_per_month=TRIAL),
    Scenario(10),
    Scenario(10, interval=15),
    Scenario(10, calls_per_month=TRIAL),
    Scenario(10, minutes=20, calls_per_month=TRIAL),
    Scenario(10, is_ascending=True),
    Scenario(10, calls_per_month=TRIAL, is_ascending=True),
)


@dataclass
class Lived:
    """What came of a scenario; `pages` are those of /metrics/steps with the time since which each was shown.

    `polled` is what scrapes of /metrics saw: the time of the first that did, and the value. `latest` is the
    longest that a row waited for its first scrape, in seconds.
    """

    rows: Mapping[Point, float]
    polled: dict[Point, tuple[float, float]] = field(default_factory=dict)
    offered: Counter[Point] = field(default_factory=Counter)
    pages: list[tuple[float, bytes]] = field(default_factory=list)
    calls: int = 0
    missed: int = 0
    latest: float = 0.0

    @property
    def polled_share(self) -> float:
        """The share of the rows whose values /metrics showed to a scrape."""
        return len(self.polled) / len(self.rows)

    @property
    def offered_share(self) -> float:
        """The share of the rows that /metrics/steps showed to a scrape, each at its own time."""
        return len(self.offered.keys() & self.rows.keys()) / len(self.rows)


@dataclass
class _Curves(World):
    """A world that also has the page of steps, as the composition root joins them."""

    with_steps: bool = True
    missed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.steps = StepExposition(clock=self.clock, window=WINDOW, worker=_at_once, on_missed=self._miss)

    def _miss(self, rows: int) -> None:
        self.missed += rows

    def _offer(self, new: StepRows) -> None:
        if self.with_steps:
            self.steps.offer(new)

    async def _publish(self, snapshot: Snapshot) -> None:
        await super()._publish(snapshot)
        await self.steps.publish()

    async def page(self) -> bytes:
        """Return /metrics/steps as it is now."""
        return b"".join(await self.steps.chunks(Format.TEXT, gzipped=False))


@cache
def lived(scenario: Scenario, *, with_steps: bool = True) -> Lived:
    """Return what comes of a scenario; without steps nobody is offered a row."""
    with capture_logs():
        return asyncio.run(_live(scenario, with_steps=with_steps))


def figures(scenario: Scenario) -> dict[str, float]:
    """Return what a scenario comes to in virtual time; `extra_calls` are those that the steps cost."""
    life, without = lived(scenario), lived(scenario, with_steps=False)
    return {
        "rows": len(life.rows),
        "polled": life.polled_share,
        "offered": life.offered_share,
        "most_offers": max(life.offered.values()),
        "latest": life.latest,
        "missed": life.missed,
        "calls": life.calls,
        "extra_calls": life.calls - without.calls,
    }


async def _live(scenario: Scenario, *, with_steps: bool) -> Lived:
    job = _job(scenario)
    jobs = [*at_rest(_AT_REST, rows=0), job]
    world = _Curves(
        jobs,
        scenario.calls_per_month,
        ascending_steps=scenario.is_ascending,
        interval=scenario.interval,
        with_steps=with_steps,
    )
    life = Lived(
        {
            (round(job.row_at(row) * 1000), row * 10): job.curve.metrics(row)[METRIC]
            for row in range(job.recorded)
        }
    )
    end = job.row_at(job.recorded) - START + REREAD[-1] + (HOUR if scenario.calls_per_month else 10 * MINUTE)
    poll_at = 0.0
    while world.clock.now < end:
        if world.clock.now >= poll_at:
            await world.poller.poll()
            poll_at = world.clock.now + world.poller.schedule.interval
        await world.poller.finish()
        _look(world, life, job, scenario, await world.page())
        world.clock.now += _GRAIN
    life.calls, life.missed = world.requests, world.missed
    return life


def _job(scenario: Scenario) -> Job:
    plan = Plan(queue=3, silence=10, training=scenario.minutes, deployment=6)
    job = start_job(CHAT, plan, version=12, created_at=START + 10 * MINUTE)
    rows = int(scenario.minutes * 60 / scenario.row_interval)
    return replace(
        job, row_interval=scenario.row_interval, recorded=rows, curve=replace(job.curve, rows=rows)
    )


def _look(world: _Curves, life: Lived, job: Job, scenario: Scenario, page: bytes) -> None:
    """Keep the page when it has changed, and scrape when it is time to."""
    now = world.clock.now
    if not life.pages or life.pages[-1][1] != page:
        life.pages.append((world.clock.time(), page))
    if (now - _PHASE) % scenario.interval == 0:
        _scrape(world, life, job)
    if (now - _PHASE) % SCRAPE == 0:
        for point in points(page):
            if not life.offered[point]:
                life.latest = max(life.latest, world.clock.time() - point[0] / 1000)
            life.offered[point] += 1


def _scrape(world: _Curves, life: Lived, job: Job) -> None:
    """Take from /metrics what there is of the run."""
    states = world.snapshot.states if world.snapshot else ()
    for state in states:
        if state.model.id == job.id and state.progress:
            at = round((state.progress.step_at or 0.0) * 1000)
            seen = world.clock.time(), state.progress.metrics[METRIC]
            life.polled.setdefault((at, state.progress.step), seen)


def points(page: bytes) -> list[Point]:
    """Return the steps of a page in the text format."""
    lines = [line.rsplit(b" ", 2) for line in page.splitlines() if line.startswith(_NUMBER)]
    return [(int(at), int(float(step))) for _, step, at in lines]


async def _at_once(function: Callable[..., T], /, *arguments: object) -> T:
    return function(*arguments)
