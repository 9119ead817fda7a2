"""An API that tests talk to without a network: a fleet that changes under the reader.

It keeps what it really said, so a test can tell what must be seen without knowing how the exporter reads.
"""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import httpx

STEPS = "/training-step-metrics"


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
    """A model as the API has it."""

    id: str
    name: str
    status: str
    created: int
    updated: int | None
    secret: str

    def listed(self) -> dict[str, Any]:
        wandb = {"project": "p", "entity": None, "api_key": self.secret}
        return {
            "id": self.id,
            "name": self.name,
            "status": self.status,
            **_times(created_at=self.created, updated_at=self.updated),
            "settings": {"wandb": wandb, "hyperparameters": {"lora_rank": 8}},
        }


class TalkingApi:
    """Answers requests; `time` gives the time of each, `listed` is what the list in progress said so far."""

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        self.page_size = 3
        self.listed: dict[str, Job] = {}
        self.listed_at: float | None = None

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode().partition("?")[0]
        start = int(request.url.params.get("page_token", "0"))
        if path.endswith(STEPS):
            return self._say_steps(request, unquote(path.removesuffix(STEPS).rpartition("/")[2]), start)
        return self._say_models(start)

    def _say_models(self, start: int) -> httpx.Response:
        if start == 0:
            self.listed = {}
        page, size = self._page(start)
        for job in page:
            self.listed.pop(job.id, None)
            self.listed[job.id] = job
        token = token_of(start + self.page_size, size)
        if not token:
            self.listed_at = self._time()
        items = [job.listed() for job in page]
        return answer(json.dumps({"finetuned_models": items, "next_page_token": token}).encode())

    def _say_steps(self, request: httpx.Request, model_id: str, start: int) -> httpx.Response:
        raise NotImplementedError

    def _page(self, start: int) -> tuple[Sequence[Job], int]:
        """Return the models from the one at `start` on that fit on a page, and how many there are in all."""
        raise NotImplementedError


def token_of(end: int, size: int) -> str:
    return str(end) if end < size else ""


def answer(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> httpx.Response:
    return httpx.Response(status, stream=httpx.ByteStream(body), headers=headers)


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
