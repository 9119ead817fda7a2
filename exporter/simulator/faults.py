"""Faults on demand: responses that come instead of the true one.

A fault holds for one endpoint (or both) and for a number of requests (or until healed). The first one set
that matches a request is spent on it.
"""

import asyncio
import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

LIST_MODELS = "list_finetuned_models"
LIST_STEPS = "list_training_step_metrics"


@dataclass(frozen=True, slots=True)
class Response:
    """What the API says to a request."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Fault:
    """What to answer, to which requests and how often; None is any or for ever, and for a response: none."""

    response: Response | None
    endpoint: str | None
    times: int | None


class Faults:
    """The faults in force, in the order they were set.

    Each is set for an `endpoint` (None: both) and a number of requests, `times` (None: until healed).
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
    ) -> None:
        """Answer with `status` and `body`: sent as it is when text or bytes, else as JSON.

        None gives the API's own kind of error message.
        """
        if body is None:
            body = {"message": http.client.responses.get(status, "error").lower()}
        if not isinstance(body, bytes):
            body = (body if isinstance(body, str) else json.dumps(body)).encode()
        given = {name.lower(): value for name, value in (headers or {}).items()}
        response = Response(status, body, {"content-type": "application/json", **given})
        self._faults.append(Fault(response, endpoint, times))

    def hang(self, endpoint: str | None = None, *, times: int | None = None) -> None:
        """Answer nothing until the client gives up."""
        self._faults.append(Fault(None, endpoint, times))

    async def take(self, endpoint: str) -> Response | None:
        """Spend the first fault that holds for a request and return its response; None when there is none."""
        holding = (fault for fault in self._faults if fault.times != 0 and fault.endpoint in {None, endpoint})
        fault = next(holding, None)
        if fault is None:
            return None
        if fault.times is not None:
            fault.times -= 1
        if fault.response is None:
            await asyncio.Event().wait()  # until the client gives up
        return fault.response
