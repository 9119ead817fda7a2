"""Worlds that the exporter polls in virtual time: a fleet that trains, an API with faults, what was seen.

Everything a world does is written down before it begins, so what must be shown at any moment is known
without knowing how the exporter reads. Each value of a metric names its model, run and row. Times are seconds
from the beginning of the world.
"""

import asyncio
import gc
import json
import math
import random
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from types import FunctionType, ModuleType
from typing import Any, NamedTuple
from unittest.mock import patch
from urllib.parse import unquote

import httpx
from structlog.testing import capture_logs

from exporter.app import Exporter
from exporter.exposition import Format
from exporter.model import ModelState, PollOutcome, Snapshot, Status, TrainingProgress
from exporter.settings import ApiKey, load
from tests.leaping import START, UNIX_OFFSET, LeapingLoop, LoopClock, SuspendedClock
from tests.talking_api import STEPS, Fault, Job, TalkingApi, answer, row_of, token_of

EPSILON = 1e-3
LIST = ""  # in the place of a model's id
MODEL_ID = re.compile('model_id="([^"]*)"')
METRICS = {"loss": 1, "accuracy": 3, "rare": 40}  # on each row, on each third, on each fortieth
MOST_RUNS, MOST_ROWS = 8, 1 << 20
LATE_ROWS = 3


class Row(NamedTuple):
    """What a value of a metric says of itself."""

    model: int
    run: int
    metric: str
    number: int

    @property
    def value(self) -> float:
        names = list(METRICS)
        key = (self.model * MOST_RUNS + self.run) * len(names) + names.index(self.metric)
        return float(key * MOST_ROWS + self.number)

    @classmethod
    def of(cls, value: float) -> "Row":
        key, number = divmod(int(value), MOST_ROWS)
        rest, metric = divmod(key, len(METRICS))
        return cls(*divmod(rest, MOST_RUNS), list(METRICS)[metric], number)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training run: a row each `every` seconds; the last ones come `late` seconds after its end."""

    queued: float
    trains: float
    rests: float
    first: float = 5.0
    every: float = 10.0
    late: float = 0.0
    first_step: int = 0
    stride: int = 10
    ends_as: str = Status.READY

    def rows(self, now: float) -> int:
        """Return how many rows the API gives."""
        recorded = min(now, self.rests) - self.trains - self.first
        rows = max(math.floor(recorded / self.every) + 1, 0)
        if not self.late or now >= self.rests + self.late:
            return rows
        return min(rows, self.rows(math.inf) - LATE_ROWS)

    def step(self, number: int) -> int:
        return self.first_step + self.stride * number

    def recorded_at(self, number: int) -> float:
        return self.trains + self.first + self.every * number

    def status(self, now: float) -> str:
        if now < self.trains:
            return Status.QUEUED
        return Status.FINETUNING if now < self.rests else self.ends_as


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model of the API; `runs` one after the other."""

    index: int
    id: str
    name: str
    runs: Sequence[Run]
    away: Sequence[tuple[float, float]] = ()  # from when to when it is not there
    renamed_at: float = math.inf
    was_updated: bool = False  # and says so: when its run came to rest
    endless: str = ""  # its pages of step metrics: "empty" ones after the last, or "rows" without end

    def is_there(self, now: float) -> bool:
        return not any(begin <= now < end for begin, end in self.away)

    def was_away(self, begin: float, end: float) -> bool:
        return any(left <= end and begin <= back for left, back in self.away)

    def name_at(self, now: float) -> str:
        return self.name if now < self.renamed_at else f"{self.name}, renamed"

    def run(self, now: float) -> tuple[int, Run]:
        """Return the latest run, and its number."""
        begun = [(number, run) for number, run in enumerate(self.runs) if run.queued <= now]
        return begun[-1] if begun else (0, self.runs[0])

    def status(self, now: float) -> str:
        return self.run(now)[1].status(now)

    def truth(self, now: float) -> TrainingProgress | None:
        """Return what the API's rows come to."""
        number, run = self.run(now)
        count = run.rows(now)
        if not count:
            return None
        latest = {name: (count - 1) // each * each for name, each in METRICS.items()}
        return TrainingProgress(
            step=run.step(count - 1),
            step_at=run.recorded_at(count - 1) + UNIX_OFFSET + START,
            metrics={name: Row(self.index, number, name, row).value for name, row in latest.items()},
            metric_steps={name: run.step(row) for name, row in latest.items()},
            lowest={name: Row(self.index, number, name, 0).value for name in latest},
            highest={name: Row(self.index, number, name, row).value for name, row in latest.items()},
        )


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """What goes wrong with answers: those of the list, or step metrics of `ids`.

    `hits` are the numbers of the answers concerned, counted from 0 for each model; None: all of them.
    """

    begins: float = -math.inf
    ends: float = math.inf
    with_list: bool = False
    with_steps: bool = False
    ids: frozenset[str] | None = None
    fault: Fault | None = None
    seconds: float = 0.0
    hits: Collection[int] | None = None

    def concerns(self, model_id: str, now: float) -> bool:
        if not self.begins <= now < self.ends:
            return False
        if model_id == LIST:
            return self.with_list
        return self.with_steps and (self.ids is None or model_id in self.ids)


@dataclass(frozen=True, kw_only=True)
class World:
    """All that is given: the models, how the API answers, and how the exporter is set up."""

    models: Sequence[Model]
    flags: Mapping[str, Any] = field(default_factory=dict)
    page_size: int = 50
    rows_per_page: int = 50
    largest_page: int = 0
    order: str = "ascending"  # of models and of rows: or descending, or none
    list_seconds: float = 0.0
    steps_seconds: float = 0.0
    rendering_seconds: float = 0.0
    troubles: Sequence[Trouble] = ()
    restarts: Sequence[float] = ()
    suspends: Mapping[float, float] = field(default_factory=dict)  # when, and for how long
    jumps: Mapping[float, float] = field(default_factory=dict)  # of the wall clock: when, and how far
    looks: Sequence[float] = ()  # when the page is looked at
    looks_at_boundaries: bool = False  # just before and after the last list grows too old
    lasts: float = 600.0
    most_calls: int = 300  # after which it ends

    def _repr_pretty_(self, printer: Any, _: bool) -> None:
        # Hypothesis warns of an argument that takes more than 30 kB to write, and warnings are errors.
        fleet = "".join(f"{model}, " for model in self.models[:20]) + "…" * (len(self.models) > 20)
        others = {name: value for name, value in vars(self).items() if name != "models"}
        printer.text(f"World(models=[{fleet}], **{others})")

    @property
    def interval(self) -> float:
        return float(self.flags.get("--poll.interval", 60.0))


@dataclass
class Call:
    """A request as the API saw it; `model_id` is `LIST` for a page of the list."""

    at: float
    model_id: str
    is_first: bool  # of a chain of pages
    answered_at: float = math.inf
    fault: Fault | None = None

    @property
    def retry_after(self) -> float:
        fields = dict(self.fault.headers) if self.fault else {}
        return float(fields.get("retry-after", 0.0))


@dataclass(frozen=True)
class Listed:
    """A list that the API said to its end."""

    began: float
    ended: float
    models: Mapping[str, tuple[str, str]]  # name and status by id


@dataclass(frozen=True)
class Poll:
    """A poll as it ended, and the times in force then."""

    began: float
    ended: float
    reason: str | None
    interval: float
    stale_after: float
    next_at: float
    wall: float  # Unix seconds at the end
    lists: int  # that the API had said by then
    shown: Snapshot | None


@dataclass(frozen=True)
class Look:
    """What a scrape gave."""

    at: float
    shown: Snapshot | None
    stale_after: float
    next_at: float | None
    lists: int
    polls: int
    page: Mapping[str, float]


class ScriptedApi(TalkingApi):
    """Says what is true now, unless there is trouble; remembers each call and each whole list."""

    def __init__(self, world: World, clock: LoopClock) -> None:
        super().__init__(clock.monotonic)
        self.world = world
        self.calls: list[Call] = []
        self.lists: list[Listed] = []
        self.enough = asyncio.Event()
        self.page_size = world.page_size
        order = in_order(range(len(world.models)), world.order)
        self._models = {world.models[number].id: world.models[number] for number in order}
        self._met = Counter[tuple[int, str]]()
        self._list_began = 0.0

    @property
    def now(self) -> float:
        return self._time() - START

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode().partition("?")[0]
        model_id = unquote(path.removesuffix(STEPS).rpartition("/")[2]) if path.endswith(STEPS) else LIST
        call = Call(self.now, model_id, "page_token" not in request.url.params)
        self.calls.append(call)
        if len(self.calls) > self.world.most_calls:
            self.enough.set()
        if model_id == LIST and call.is_first:
            self._list_began = call.at
            self.listed_at = None
        try:
            return await self._answer(call, request)
        finally:
            call.answered_at = self.now

    async def _answer(self, call: Call, request: httpx.Request) -> httpx.Response:
        seconds = self.world.list_seconds if call.model_id == LIST else self.world.steps_seconds
        for number, trouble in enumerate(self.world.troubles):
            if trouble.concerns(call.model_id, call.at):
                hit = self._met[number, call.model_id]
                self._met[number, call.model_id] += 1
                if trouble.hits is None or hit in trouble.hits:
                    call.fault = trouble.fault or call.fault
                    seconds += trouble.seconds
        response = None if call.fault else await super().__call__(request)
        if seconds:
            await asyncio.sleep(seconds)
        if call.fault or response is None:
            assert call.fault
            return await call.fault.answer(request)
        if call.model_id == LIST and self.listed_at is not None:
            said = {model_id: (job.name, job.status) for model_id, job in self.listed.items()}
            self.lists.append(Listed(self._list_began, self.now, said))
        return response

    def _page(self, start: int) -> tuple[Sequence[Job], int]:
        now = self.now
        there = [model for model in self._models.values() if not model.away or model.is_there(now)]
        return [job_of(model, now) for model in there[start : start + self.page_size]], len(there)

    def _say_steps(self, request: httpx.Request, model_id: str, start: int) -> httpx.Response:
        model, now = self._models.get(model_id), self.now
        if model is None or not model.is_there(now):
            return answer(b"{}")
        number, run = model.run(now)
        asked = int(request.url.params.get("page_size", 0))
        size = min(asked, self.world.largest_page) or self.world.rows_per_page
        rows = in_order(range(run.rows(now)), self.world.order)
        page = range(start, start + size) if model.endless == "rows" else rows[start : start + size]
        said = [
            row_of(
                run.step(row),
                {name: Row(model.index, number, name, row).value for name in names_of(row)},
                created_at=run.recorded_at(row) + START + UNIX_OFFSET,
            )
            for row in page
        ]
        token = str(start + size) if model.endless else token_of(start + size, len(rows))
        return answer(json.dumps({"step_metrics": said, "next_page_token": token}).encode())


def in_order(numbers: Iterable[int], order: str) -> list[int]:
    """Return ascending numbers in another order; "none" is one that nobody would take for an order."""
    if order == "none":
        return sorted(numbers, key=lambda number: number * 2_654_435_761 % (1 << 32))
    return list(numbers)[:: -1 if order == "descending" else 1]


def names_of(row: int) -> list[str]:
    """Return the metrics that a row has."""
    return [name for name, each in METRICS.items() if row % each == 0]


def job_of(model: Model, now: float) -> Job:
    created = int(START + UNIX_OFFSET) - 10**6 + model.index
    updated = int(START + UNIX_OFFSET + model.run(now)[1].rests) if model.was_updated else None
    return Job(model.id, model.name_at(now), model.status(now), created, updated, "secret")


class Life:
    """A world, lived through: what was asked, listed, polled, published and seen."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.loop = LeapingLoop()
        self.errors: list[Mapping[str, Any]] = []  # that nobody caught
        self.loop.set_exception_handler(lambda _, context: self.errors.append(context))
        self.clock = SuspendedClock(self.loop) if world.suspends else LoopClock(self.loop)
        self.api = ScriptedApi(world, self.clock)
        self.polls: list[Poll] = []
        self.published: list[tuple[float, Snapshot]] = []
        self.looks: list[Look] = []
        self.starts: list[float] = []
        self.log: list[Mapping[str, Any]] = []
        self.exporter = self._build()

    @property
    def now(self) -> float:
        return self.clock.monotonic() - START

    @cached_property
    def shown(self) -> list[dict[str, ModelState]]:
        """What each snapshot shows, by the model's id, after the life."""
        return [{state.model.id: state for state in snapshot.states} for _, snapshot in self.published]

    def live(self) -> "Life":
        """Live through the world."""
        random.seed(0)  # the jitter of two lives is one
        # A long world need not look at the key each second.
        looks = patch("exporter.polling.poller.KEY_CHECK_INTERVAL", max(self.world.lasts / 1000, 1.0))
        with capture_logs() as lines, self._closing(), looks:
            self.loop.work_takes = self.world.rendering_seconds
            self.loop.run_until_complete(self._live())
        self.log = list(lines)
        unexpected = [line for line in lines if "unexpected" in line["event"]]
        assert not unexpected, unexpected
        assert not self.errors, self.errors
        return self

    @contextmanager
    def _closing(self) -> Iterator[None]:
        try:
            yield
        finally:
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()

    def _build(self) -> Exporter:
        flags = [f"{flag}={value}" for flag, value in self.world.flags.items()]
        flags += ["--web.disable-exporter-metrics", "--training.steps-window=0", "--models.limit=0"]
        flags += ["--cohere.base-url=http://api.test"]

        def open_http(base_url: httpx.URL, **_: object) -> httpx.AsyncClient:
            return httpx.AsyncClient(
                base_url=base_url, transport=httpx.MockTransport(self.api), timeout=None, trust_env=False
            )

        with patch("exporter.app.open_http", open_http):
            exporter = Exporter(load(flags, {})[1], ApiKey("key"), clock=self.clock, simulated=True)
        self._listen(exporter)
        return exporter

    def _listen(self, exporter: Exporter) -> None:
        """Note each poll as it ends, and each snapshot as soon as it is shown."""
        poll_ended, publish = exporter.telemetry.poll_ended, exporter.exposition.publish

        def ended(outcome: PollOutcome) -> None:
            poll_ended(outcome)
            poller = exporter.poller
            self.polls.append(
                Poll(
                    began=self.now - outcome.duration,
                    ended=self.now,
                    reason=outcome.reason,
                    interval=poller.schedule.interval,
                    stale_after=poller.schedule.freshness.stale_after,
                    next_at=(poller.next_poll_at or 0.0) - self.clock.time() + self.now,
                    wall=self.clock.time(),
                    lists=len(self.api.lists),
                    shown=exporter.exposition.snapshot,
                )
            )
            self._look_at_boundary()

        async def published(snapshot: Snapshot) -> None:
            await publish(snapshot)
            self.published.append((self.now, snapshot))

        exporter.telemetry.poll_ended = ended  # type: ignore[method-assign]
        exporter.exposition.publish = published  # type: ignore[method-assign]

    @property
    def usual_interval(self) -> float:
        return self.exporter.poller.schedule.regular

    async def _live(self) -> None:
        restarts, suspends, jumps = self.world.restarts, self.world.suspends, self.world.jumps
        running = self._start()
        try:
            for at in sorted({*self.world.looks, *restarts, *suspends, *jumps, self.world.lasts}):
                if at > self.world.lasts or await self._is_enough_before(at):
                    break
                if at in restarts:
                    await self._stop(running)
                    self.exporter = self._build()
                    running = self._start()
                self.clock.suspend(suspends.get(at, 0.0))
                self.clock.jump(jumps.get(at, 0.0))
                self.look()
        finally:
            await self._stop(running)

    def _start(self) -> asyncio.Task[None]:
        self.starts.append(self.now)
        return asyncio.create_task(self.exporter.poller.run())

    async def _stop(self, running: asyncio.Task[None]) -> None:
        running.cancel()
        await asyncio.wait({running})
        await self.exporter.http.aclose()

    async def _is_enough_before(self, at: float) -> bool:
        try:
            async with asyncio.timeout(at - self.now):
                await self.api.enough.wait()
        except TimeoutError:
            return False
        return True

    def _look_at_boundary(self) -> None:
        good = [poll.began for poll in self.polls if poll.reason is None]
        if self.world.looks_at_boundaries and good:
            boundary = good[-1] + self.exporter.poller.schedule.freshness.stale_after
            for at in (boundary - EPSILON, boundary + EPSILON):
                self.loop.call_at(at + START, self._look_if_last, len(self.polls))

    def _look_if_last(self, polls: int) -> None:
        if polls == len(self.polls):
            self.look()

    def look(self) -> None:
        """Scrape."""
        poller = self.exporter.poller
        page = b"".join(self.exporter.exposition.chunks(Format.TEXT)).decode()
        next_at = poller.next_poll_at
        self.looks.append(
            Look(
                at=self.now,
                shown=self.exporter.exposition.snapshot,
                stale_after=poller.schedule.freshness.stale_after,
                next_at=None if next_at is None else next_at - self.clock.time() + self.now,
                lists=len(self.api.lists),
                polls=len(self.polls),
                page=series_of(page),
            )
        )


def series_of(page: str) -> dict[str, float]:
    """Return each series of a page in the text format, as it is written, and its value."""
    lines = (line.rpartition(" ") for line in page.splitlines() if line and line[0] != "#")
    return {series: float(value) for series, _, value in lines}


def held(life: Life, model_id: str) -> Iterator[tuple[float, ModelState | None]]:
    """Yield what was shown of a model, and until when."""
    ends = [*(at for at, _ in life.published), life.now]
    for states, end in zip(life.shown, ends[1:], strict=True):
        yield end, states.get(model_id)


def texts_held_by(exporter: Exporter) -> set[str]:
    """Return every text that an exporter keeps a hold of, the names of models in its pages, too."""
    found: set[str] = set()
    seen: set[int] = set()
    queue: list[object] = [exporter]
    while queue:
        one = queue.pop()
        if id(one) in seen or isinstance(one, NOT_OF_THE_EXPORTER):
            continue
        seen.add(id(one))
        if isinstance(one, str):
            found.add(one)
        elif isinstance(one, bytes):
            found.update(MODEL_ID.findall(one.decode(errors="replace")))
        else:
            queue += gc.get_referents(one)
    return found


# What a world consists of is seen by the frames of its API, which the end of a world cuts short.
NOT_OF_THE_EXPORTER = (
    type | ModuleType | FunctionType | Life | ScriptedApi | LeapingLoop | World | Model | Trouble | Call
)
