"""Faults on demand: answers that come instead of the true one.

A fault holds for one endpoint (or all), for one model (or all), for a number of requests (or until healed).
The first one set that matches a request is spent on it.
"""

import asyncio
import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

LIST_MODELS = "list_finetuned_models"
LIST_STEPS = "list_training_step_metrics"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API says to a request; one that `breaks_off` ends before its Content-Length is reached.

    `error` is what a client without a real connection gets to see of that.
    """

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    error: Exception | None = None

    @property
    def breaks_off(self) -> bool:
        """Whether the connection ends within the body."""
        return self.error is not None


@dataclass(slots=True)
class Fault:
    """What to answer, to which requests and how often; None is any or for ever, and for an answer: none."""

    answer: Answer | None
    endpoint: str | None = None
    model_id: str | None = None
    times: int | None = None

    def matches(self, endpoint: str, model_id: str | None) -> bool:
        """Return whether the fault still holds for such a request."""
        return (
            self.times != 0
            and self.endpoint in {None, endpoint}
            and (self.model_id is None or self.model_id == model_id)
        )


class Faults:
    """The faults in force, in the order they were set.

    Each is set for an `endpoint` (None: both), a `model_id` (None: any) and a number of requests, `times`
    (None: until healed).
    """

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def fail(
        self,
        endpoint: str | None = None,
        *,
        status: int = 503,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        times: int | None = None,
        model_id: str | None = None,
    ) -> None:
        """Answer with `status` and `body`: sent as it is when text or bytes, else as JSON.

        None gives the API's own kind of error message.
        """
        if body is None:
            body = {"message": http.client.responses.get(status, "error").lower()}
        text = body if isinstance(body, str | bytes) else json.dumps(body)
        content = text.encode() if isinstance(text, str) else text
        answer = Answer(status, content, {"content-type": "application/json", **_lowered(headers or {})})
        self._faults.append(Fault(answer, endpoint, model_id, times))

    def hang(
        self, endpoint: str | None = None, *, times: int | None = None, model_id: str | None = None
    ) -> None:
        """Answer nothing until the client gives up."""
        self._faults.append(Fault(None, endpoint, model_id, times))

    def drop(
        self,
        endpoint: str | None = None,
        *,
        error: Exception | None = None,
        times: int | None = None,
        model_id: str | None = None,
    ) -> None:
        """Break the connection in the middle of the answer.

        `error` is what a client without a real connection gets to see; ConnectionResetError by default.
        """
        reset = error or ConnectionResetError("the simulated API broke off")
        broken = Answer(200, b'{"finetuned_models": [', {"content-length": "1000"}, reset)
        self._faults.append(Fault(broken, endpoint, model_id, times))

    def heal(self) -> None:
        """End all faults."""
        self._faults.clear()

    async def take(self, endpoint: str, model_id: str | None) -> Answer | None:
        """Spend the first fault that holds for a request and return its answer; None when there is none."""
        fault = next((fault for fault in self._faults if fault.matches(endpoint, model_id)), None)
        if fault is None:
            return None
        if fault.times is not None:
            fault.times -= 1
        if fault.answer is None:
            await asyncio.Event().wait()  # until the client gives up
        return fault.answer


def _lowered(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
