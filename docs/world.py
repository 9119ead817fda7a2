"""The exporter's poller on a simulated API and a clock that is moved by hand, and beside it a naive poller.

The simulator's counter of requests is the only judge of what either costs. Time is a number here. So that
a month takes seconds, `QuickApi` knows what the client would ask for, and a test holds it to that.
"""

import asyncio
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import httpx

from exporter.cohere import client
from exporter.cohere.client import MODELS_PATH, CohereClient, Listing
from exporter.cohere.step_reading import Cursor, StepReading
from exporter.cohere.transport import Endpoint, Transport
from exporter.errors import QuotaSpent
from exporter.model import FinetunedModel, Snapshot, Status, StepRows, TrainingProgress
from exporter.polling.allowance import RequestAllowance
from exporter.polling.poller import Api, Poller
from exporter.polling.quota import Quota
from exporter.polling.schedule import UNDER_WAY, PollSchedule
from exporter.simulator import Job, Simulator
from exporter.simulator.jobs import STEPS_PER_ROW
from exporter.simulator.paging import DEFAULT_SIZE
from exporter.telemetry import Telemetry
from tests.simulated import transport_of

START = 1_750_000_000.0
INTERVAL = 60.0


class StoppedClock:
    """A clock that stands still until it is moved; who sleeps on it sleeps for ever."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """Return seconds since the start."""
        return self.now

    def time(self) -> float:
        """Return Unix seconds."""
        return START + self.now

    async def sleep(self, seconds: float) -> None:  # noqa: ARG002 - the signature is that of a clock
        """Sleep until cancelled."""
        await asyncio.Event().wait()


class QuickApi:
    """What the client reads of the simulator, without the text of it; each page takes a request.

    As under a quota: step metrics are asked for in the largest pages.
    """

    def __init__(self, simulator: Simulator, allowance: RequestAllowance, *, ascending_steps: bool) -> None:
        self._simulator = simulator
        self._allowance = allowance
        self._ascending = ascending_steps

    async def list_models(self) -> Listing:
        """List the models."""
        now = self._simulator.clock()
        jobs = sorted(self._simulator.fleet.listed(now), key=lambda job: (job.created_at, job.id))
        pages = max(math.ceil(len(jobs) / DEFAULT_SIZE), 1)
        for page in range(pages):
            await self._ask(Endpoint.LIST_FINETUNED_MODELS, page)
        return Listing(tuple(_model(job, now) for job in jobs), pages)

    async def training_steps(
        self,
        model_id: str,
        known: TrainingProgress | None = None,
        cursor: Cursor | None = None,
        *,
        is_whole: bool = False,
    ) -> StepReading:
        """Read as many pages of step metrics as are wanted and can be had."""
        now, size = self._simulator.clock(), client.LARGE_PAGE
        job = self._simulator.fleet.find(model_id, now)
        if job is None:
            raise LookupError(model_id)
        rows, start = len(job.rows(now)), 0
        if self._ascending:
            start = int(cursor.token) if cursor and not is_whole else 0
        elif known and not is_whole:
            start = known.step // STEPS_PER_ROW
        wanted, had = max(math.ceil((rows - start) / size), 1), 0
        try:
            for page in range(wanted):
                await self._ask(Endpoint.LIST_TRAINING_STEP_METRICS, page)
                had += 1
        except QuotaSpent:
            is_known = known and known.step >= (had * size - 1) * STEPS_PER_ROW
            if not had or (self._ascending and not start and is_known):
                raise
        if not rows:
            return StepReading(None, [])
        newest = min(start + had * size, rows) - 1 if self._ascending else rows - 1
        is_cut_off = had < wanted
        place = start + (had - (not is_cut_off)) * size
        return StepReading(
            TrainingProgress(step=newest * STEPS_PER_ROW, step_at=job.row_at(newest)),
            [],
            Cursor(str(place), size, is_cut_off) if self._ascending and place else None,
            is_complete=not (is_cut_off and self._ascending),
        )

    async def _ask(self, endpoint: Endpoint, page: int) -> None:
        async with self._allowance.request(endpoint, page):
            self._simulator.requests[endpoint] += 1


def _model(job: Job, now: float) -> FinetunedModel:
    return FinetunedModel(
        id=job.id,
        status=job.status(now),
        created_at=job.created_at,
        updated_at=job.updated_at(now),
        completed_at=job.completed_at(now),
    )


@dataclass
class World:
    """A simulated API, the exporter that polls it, and when it asked for what."""

    jobs: Iterable[Job]
    calls_per_month: int = 0
    ascending_steps: bool = False
    is_quick: bool = False
    interval: float = INTERVAL
    listed: list[tuple[float, bool]] = field(default_factory=list)
    in_training: dict[str, float] = field(default_factory=dict)
    read: dict[str, list[float]] = field(default_factory=dict)
    snapshot: Snapshot | None = None

    def __post_init__(self) -> None:
        self.clock = StoppedClock()
        self.jobs = list(self.jobs)
        self.simulator = Simulator(
            self.clock.time, api_key="", jobs=self.jobs, ascending_steps=self.ascending_steps
        )
        self.http = httpx.AsyncClient(transport=transport_of(self.simulator), base_url="http://simulated")
        telemetry = Telemetry(version="", revision="", endpoints=Endpoint, rejected_kinds=())
        quota = Quota(self.calls_per_month, self.clock)
        allowance = RequestAllowance(self.clock, requests_per_minute=10**9, concurrency=8, quota=quota)
        transport = Transport(
            self.http,
            key=str,
            timeout=60,
            allowance=allowance,
            observer=telemetry,
            clock=self.clock,
        )
        self._client: Api = (
            QuickApi(self.simulator, allowance, ascending_steps=self.ascending_steps)
            if self.is_quick
            else CohereClient(transport, observer=telemetry, saves_calls=self.calls_per_month > 0)
        )
        self._training: set[str] = set()
        self.poller = Poller(
            self,
            schedule=PollSchedule(self.clock, interval=self.interval, quota=quota, allowance=allowance),
            publish=self._publish,
            observer=telemetry,
            clock=self.clock,
            key=str,
            on_rows=self._offer,
        )

    async def list_models(self) -> Listing:
        """List the models, and note when and whether any is under way, and since when each is in training."""
        listing = await self._client.list_models()
        self.listed.append((self.clock.now, any(model.status in UNDER_WAY for model in listing.models)))
        self._training = {model.id for model in listing.models if model.status == Status.FINETUNING}
        for model_id in self._training:
            self.in_training.setdefault(model_id, self.clock.now)
        return listing

    async def training_steps(
        self,
        model_id: str,
        known: TrainingProgress | None = None,
        cursor: Cursor | None = None,
        *,
        is_whole: bool = False,
    ) -> StepReading:
        """Read step metrics, and note when those of a model in training were read."""
        reading = await self._client.training_steps(model_id, known, cursor, is_whole=is_whole)
        if model_id in self._training:
            self.read.setdefault(model_id, []).append(self.clock.now)
        return reading

    async def _publish(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot

    def _offer(self, new: StepRows) -> None:
        """Take the rows that a reading brought; who wants them overrides this."""

    async def poll(self) -> int:
        """Poll once, wait until the next poll is due, and give the requests the simulator counted."""
        before = self.requests
        outcome = await self.poller.poll()
        if outcome.reason:
            raise RuntimeError(f"a poll failed: {outcome.message}")
        await self.poller.finish()
        self.clock.now += self.poller.schedule.interval
        return self.requests - before

    @property
    def requests(self) -> int:
        """The requests the simulator has counted."""
        return self.simulator.requests.total()


async def naive_poll(http: httpx.AsyncClient) -> None:
    """List all models, then ask for the step metrics of each."""
    token: str | None = ""
    ids: list[str] = []
    while token is not None:
        page = (await http.get(MODELS_PATH, params={"page_token": token} if token else {})).json()
        ids += [model["id"] for model in page.get("finetuned_models", [])]
        token = page.get("next_page_token")
    for model_id in ids:
        await http.get(f"{MODELS_PATH}/{model_id}/training-step-metrics")
