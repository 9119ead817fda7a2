"""The exporter's poller on a simulated API and a clock that is moved by hand, and beside it a naive poller.

The simulator's counter of requests is the only judge of what either costs. Time is a number here, so that a
month takes seconds.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

import httpx

from exporter.cohere.client import MODELS_PATH, CohereClient, Cursor, Listing, StepReading
from exporter.cohere.transport import Endpoint, Transport
from exporter.model import Snapshot, Status, StepRows, TrainingProgress
from exporter.polling.allowance import RequestAllowance
from exporter.polling.poller import Poller
from exporter.polling.quota import Quota
from exporter.polling.schedule import UNDER_WAY, PollSchedule
from exporter.simulator import Job, Simulator
from exporter.telemetry import Telemetry
from tests.simulated import transport_of

START = 1_750_000_000.0
INTERVAL = 60.0


class StoppedClock:
    """A clock that stands still until it is moved; who sleeps on it sleeps for ever."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """Give seconds since the start."""
        return self.now

    def time(self) -> float:
        """Give Unix seconds."""
        return START + self.now

    async def sleep(self, seconds: float) -> None:  # noqa: ARG002 - the signature is that of a clock
        """Sleep until cancelled."""
        await asyncio.Event().wait()


@dataclass
class World:
    """A simulated API, the exporter that polls it, and when it asked for what."""

    jobs: Iterable[Job]
    calls_per_month: int = 0
    ascending_steps: bool = False
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
        self._client = CohereClient(transport, observer=telemetry, saves_calls=self.calls_per_month > 0)
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
        self.clock.now += self.poller.interval
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
