"""An API that tests talk to without a network: a fleet that changes under the reader, and faults by page.

It keeps what it really said: the models of the listing under way, the rows of each reading, each request's
time. So a test can tell what must be seen without knowing how the exporter reads.
"""

import asyncio
import json
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import httpx

STEPS = "/training-step-metrics"
Change = Callable[[], None]


@dataclass(frozen=True)
class Fault:
    """One bad answer, or none, and the reason it is counted under."""

    reason: str
    status: int = 200
    body: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    broken: type[httpx.TransportError] | None = None
    silent: bool = False

    async def answer(self, request: httpx.Request) -> httpx.Response:
        if self.silent:
            await asyncio.get_running_loop().create_future()
        if self.broken:
            raise self.broken("it broke", request=request)
        # An API that repeats what it was sent, the key too.
        body = self.body.replace("KEY", request.headers.get("authorization", "").removeprefix("Bearer "))
        return answer(body.encode(), self.status, dict(self.headers))


@dataclass
class Job:
    """A model as the API has it; `odd` are fields that the reader of the answer may make of what it can."""

    id: str
    name: str
    status: str
    created: int | None
    updated: int | None
    secret: str
    odd: dict[str, Any] = field(default_factory=dict)
    rows: list[tuple[int, dict[str, Any]]] = field(default_factory=list)

    def listed(self) -> dict[str, Any]:
        given = {
            "name": self.name,
            "status": self.status,
            **_times(created_at=self.created, updated_at=self.updated),
        }
        wandb = {"project": "p", "entity": None, "api_key": self.secret}
        return {
            "id": self.id,
            **self.odd,
            **given,
            "settings": {"wandb": wandb, "hyperparameters": {"lora_rank": 8}},
        }


@dataclass
class Reading:
    """What was said of one model's steps, in answer to one chain of requests."""

    model_id: str
    rows: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    ended: bool = False
    failed: bool = False
    is_part: bool = False  # its beginning was said before


class TalkingApi:
    """Answers requests; `time` gives the time of each."""

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        self.jobs: dict[str, Job] = {}
        self.page_size = self.rows_per_page = 3
        self.newest_first = self.rows_newest_first = False
        self.noise: Sequence[Any] = ()
        self.circling = False
        self.list_faults: dict[int, deque[Fault]] = defaultdict(deque)
        self.step_faults: dict[str, deque[Fault]] = defaultdict(deque)
        self.shifts: dict[int, Change] = {}
        self.requests: list[float] = []
        self.readings: list[Reading] = []
        self.forget()

    def forget(self) -> None:
        """Begin to note a new poll."""
        self.listed: dict[str, Job] = {}
        self.listed_at: float | None = None
        self.list_fault: Fault | None = None

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(self._time())
        path = request.url.raw_path.decode().partition("?")[0]
        token = request.url.params.get("page_token", "0")
        if path.endswith(STEPS):
            return await self._say_steps(
                request, unquote(path.removesuffix(STEPS).rpartition("/")[2]), int(token)
            )
        return await self._say_models(request, int(token))

    async def _say_models(self, request: httpx.Request, start: int) -> httpx.Response:
        if start == 0:
            self.listed, self.list_fault = {}, None
        number = start // self.page_size
        if faults := self.list_faults[number]:
            self.list_fault = faults.popleft()
            return await self.list_fault.answer(request)
        self.list_fault = None
        jobs = self._in_order()
        page = jobs[start : start + self.page_size]
        for job in page:
            self.listed.pop(job.id, None)
            self.listed[job.id] = Job(job.id, job.name, job.status, job.created, job.updated, "")
        token = self._token(start + self.page_size, len(jobs))
        if not token:
            self.listed_at = self._time()
        items = [*(job.listed() for job in page), *self.noise]
        if change := self.shifts.pop(number, None):
            change()
        return answer(json.dumps({"finetuned_models": items, "next_page_token": token}).encode())

    async def _say_steps(self, request: httpx.Request, model_id: str, start: int) -> httpx.Response:
        reading = next((one for one in reversed(self.readings) if one.model_id == model_id), None)
        if start == 0 or reading is None:
            reading = Reading(model_id, is_part=start > 0)
            self.readings.append(reading)
        if faults := self.step_faults[model_id]:
            reading.failed = True
            return await faults.popleft().answer(request)
        reading.failed = False
        job = next((job for job in self.jobs.values() if readable(job.id) == model_id), None)
        rows = sorted(job.rows if job else [], key=lambda row: row[0], reverse=self.rows_newest_first)
        page = rows[start : start + self.rows_per_page]
        reading.rows += page
        token = self._token(start + self.rows_per_page, len(rows))
        reading.ended = not token
        items = [*(row_of(*row) for row in page), *self.noise]
        return answer(json.dumps({"step_metrics": items, "next_page_token": token}).encode())

    def _in_order(self) -> Sequence[Job]:
        return sorted(self.jobs.values(), key=lambda job: job.created or 0, reverse=self.newest_first)

    def _token(self, end: int, size: int) -> str:
        return "1" if self.circling else str(end) if end < size else ""


def answer(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> httpx.Response:
    return httpx.Response(status, stream=httpx.ByteStream(body), headers=headers)


def readable(text: str) -> str:
    """Return text as it must be seen: cut, and without what UTF-8 cannot carry."""
    return "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text[:1024])


def row_of(step: int, metrics: Mapping[str, Any], **times: float) -> dict[str, Any]:
    """Return a row as it is said; step 0 has no number, as protobuf writes it."""
    return {
        **_times(**times),
        **({"step_number": step} if step else {}),
        "metrics": {**metrics, "step": step},
    }


def _times(**times: float | None) -> dict[str, str]:
    return {
        name: datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        for name, at in times.items()
        if at is not None
    }
