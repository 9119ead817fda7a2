"""Measure what polling costs and how fresh the data is; `calls.md` shows it, and a test holds it to that.

Beside the exporter runs the poller that many write first: every list page and the step metrics of every
model, at every interval.
"""

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any, TypeVar

from structlog.testing import capture_logs

from docs.tables import filled
from docs.world import INTERVAL, START, World, naive_poll
from exporter.polling.quota import MONTH
from exporter.simulator import Job, Plan, Status, at_rest, start_job
from exporter.simulator.catalogue import CHAT

T = TypeVar("T")
MINUTE = 60.0
DAY = 86_400.0
IDLE_INTERVAL = 15 * MINUTE
QUOTA = 1000  # calls a month of a trial key
LATER_POLLS = 3  # polls after the first that are looked at; each must cost the same
HOURS_4 = Plan(queue=3, silence=10, training=227, deployment=6)
ALL_THE_TIME = Plan(queue=3, silence=10, training=100 * 24 * 60)


# Calls per day.


def fleet(models: int, training: int) -> list[Job]:
    """Return models at rest and models that have been in training for a day."""
    begun = [
        start_job(CHAT, ALL_THE_TIME, version=number, created_at=START - DAY - number)
        for number in range(training)
    ]
    return [*at_rest(models - training), *begun]


async def calls_of_polls(models: int, training: int) -> tuple[int, int]:
    """Return the exporter's calls in the first poll and in each later one.

    Of many models in training one is counted, and its like are added: each costs the same.
    """
    counted = await _counted(models, min(training, 1))
    if training < 2:
        return counted
    at_rest_alone = await _counted(models, 0)
    first, later = (
        one + (training - 1) * (one - none) for one, none in zip(counted, at_rest_alone, strict=True)
    )
    return first, later


async def _counted(models: int, training: int) -> tuple[int, int]:
    world = World(fleet(models, training))
    first, *later = [await world.poll() for _ in range(1 + LATER_POLLS)]
    if len(set(later)) > 1:
        raise RuntimeError(f"polls of a fleet that does not change differ: {later}")
    return first, later[0]


async def naive_calls(models: int) -> int:
    """Return the calls of one naive poll, for which all models are alike."""
    world = World(fleet(models, 0))
    await naive_poll(world.http)
    return world.requests


def calls_per_day(fleets: Sequence[int] = (3, 15, 300)) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the table of calls per day, three for each fleet of so many models."""
    for models in fleets:
        naive = _run(naive_calls(models)) * _polls(INTERVAL)
        for state, training in (("idle", 0), ("one training", 1), ("all training", models)):
            first, later = _run(calls_of_polls(models, training))
            ours = first + (_polls(INTERVAL) - 1) * later
            seldom = first + (_polls(IDLE_INTERVAL if state == "idle" else INTERVAL) - 1) * later
            share = f"{100 * ours / naive:.0f} %"
            yield f"{models} models", state, f"{naive:,}", f"{ours:,}", share, f"{seldom:,}"


def _polls(interval: float) -> int:
    return int(DAY / interval)


# How fresh the data is with a quota.


@dataclass(frozen=True)
class Example:
    """A fleet, and what is trained in it: a new training every `every` days, or `always` so many at once."""

    models: int
    trainings: str
    every: float = 0.0
    always: int = 0
    ascending_steps: bool = False

    def jobs(self) -> list[Job]:
        """Return the models: one of them is trained anew each time, the others rest."""
        # Not in step with the polls: each begins a little later in the day than the one before.
        count = int(MONTH / DAY / self.every) if self.every else 0
        moments = [START + (number * self.every * 1.003 + 0.4) * DAY for number in range(count)]
        recurring = [
            start_job(CHAT, HOURS_4, version=number, created_at=at, leaves_at=at + self.every * DAY)
            for number, at in enumerate(moments)
        ]
        return [*fleet(self.models - bool(moments), self.always), *recurring]


EXAMPLES = (
    Example(3, "none"),
    Example(3, "4 hours, twice a week", every=3.5),
    Example(15, "4 hours, every day", every=1.0),
    Example(15, "4 hours, every day; oldest steps first", every=1.0, ascending_steps=True),
    Example(15, "one, always", always=1),
    Example(15, "all, always", always=15),
    Example(300, "none"),
    Example(300, "4 hours, every day", every=1.0),
)


async def live(example: Example) -> World:
    """Let the exporter poll with a quota for a month."""
    world = World(
        example.jobs(), calls_per_month=QUOTA, ascending_steps=example.ascending_steps, is_quick=True
    )
    while world.clock.now < MONTH:
        await world.poll()
    return world


def freshness() -> Iterator[tuple[str, ...]]:
    """Yield the rows of the table of freshness: a month of each example."""
    for example in EXAMPLES:
        world = _run(live(example))
        idle, busy = (_gaps(world.listed, is_busy=state) for state in (False, True))
        trainings = [job for job in world.jobs if end_of_training(job) > 0]
        seen = [_wait(job, world) for job in world.jobs if job.created_at > START]
        yield (
            f"{example.models} models",
            example.trainings,
            _ages(idle),
            f"{shown(mean(seen))}, {shown(max(seen))}" if seen else "",
            _ages(busy),
            _ages([gap for job in trainings for gap in _unread(job, world)]),
            f"{sum(job.id in world.read for job in trainings)} of {len(trainings)}" if trainings else "",
            f"{world.requests:,}",
        )


def _gaps(listed: Sequence[tuple[float, bool]], *, is_busy: bool) -> list[float]:
    to_the_end = pairwise([*listed, (MONTH, False)])
    return [later - earlier for (earlier, busy), (later, _) in to_the_end if busy is is_busy]


def end_of_training(job: Job) -> float:
    """Return the seconds from the start to the end of a training, the end of the month at most."""
    end = next(later for (_, status), (later, _) in pairwise(job.history) if status == Status.FINETUNING)
    return min(end - START, MONTH)


def _unread(job: Job, world: World) -> list[float]:
    """Return the times between readings of a training, from when it was first seen to its end."""
    if job.id not in world.in_training:
        return []
    times = [world.in_training[job.id], *world.read.get(job.id, []), end_of_training(job)]
    return [later - earlier for earlier, later in pairwise(times)]


def _wait(job: Job, world: World) -> float:
    """Return the seconds from a job's creation to the poll that saw it."""
    created_at = job.created_at - START
    return next(at for at, _ in world.listed if at >= created_at) - created_at


def _ages(gaps: Sequence[float]) -> str:
    """Return mean and greatest age of data that is renewed with these gaps, looked at at any moment."""
    if not gaps:
        return ""
    at_any_moment = sum(gap**2 for gap in gaps) / 2 / sum(gaps)
    return f"{shown(at_any_moment)}, {shown(max(gaps))}"


def shown(seconds: float) -> str:
    """Write a duration to the minute."""
    hours, minutes = divmod(round(seconds / MINUTE), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"


# The page.

TABLES = {
    "calls per day": (
        ("fleet", "state", "naive poller", "exporter", "share", "exporter, `--poll.idle-interval=15m`"),
        calls_per_day,
    ),
    "freshness": (
        (
            "fleet",
            "training runs",
            "age of statuses, idle",
            "a new run is seen after",
            "age of statuses, busy",
            "age of step metrics in training",
            "runs read",
            "calls in the month",
        ),
        freshness,
    ),
}


def calls_page() -> str:
    """Return docs/calls.md with its tables as measured now; all else stays as it is written there."""
    page = (Path(__file__).parent / "calls.md").read_text(encoding="utf-8")
    for name, (header, rows) in TABLES.items():
        lines = [header, ("---", "---", *["---:"] * (len(header) - 2)), *rows()]
        page = filled(page, name, "\n".join(f"| {' | '.join(cells)} |" for cells in lines))
    return page


def _run(work: Coroutine[Any, Any, T]) -> T:
    with capture_logs():
        return asyncio.run(work)
