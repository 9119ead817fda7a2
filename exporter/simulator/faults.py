"""Faults on demand: answers that come instead of the true one.

A fault holds for one endpoint (or all), for one model (or all), for a number of requests (or until healed).
The first one set that matches a request is spent on it.
"""

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

LIST_MODELS = "list_finetuned_models"
LIST_STEPS = "list_training_step_metrics"


@dataclass(slots=True)
class Fault:
    """What to answer, to which requests and how often; None is any or for ever."""

    response: Response
    endpoint: str | None = None
    model_id: str | None = None
    times: int | None = None

    def matches(self, endpoint: str, model_id: str | None) -> bool:
        """Tell whether the fault still holds for such a request."""
        return (
            self.times != 0
            and self.endpoint in {None, endpoint}
            and (self.model_id is None or self.model_id == model_id)
        )


class Hang(Response):
    """No answer at all, until the client goes away."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        """Wait for the client to give up."""
        while (await receive())["type"] != "http.disconnect":
            pass


class Drop(Response):
    """An answer that breaks off: a real server closes the connection in the middle of the body.

    A transport without a server lets `error` through to the client.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(b'{"finetuned_models": [', headers={"content-length": "1000"})
        self._error = error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        """Send the head and a part of the body, then raise the error."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        raise self._error


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
        content = body if isinstance(body, str | bytes) else json.dumps(body)
        # A content type among `headers` wins over the media type.
        answer = Response(content, status, headers, media_type="application/json")
        self._faults.append(Fault(answer, endpoint, model_id, times))

    def hang(
        self, endpoint: str | None = None, *, times: int | None = None, model_id: str | None = None
    ) -> None:
        """Answer nothing until the client gives up."""
        self._faults.append(Fault(Hang(), endpoint, model_id, times))

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
        broken = Drop(error or ConnectionResetError("the simulated API broke off"))
        self._faults.append(Fault(broken, endpoint, model_id, times))

    def heal(self) -> None:
        """End all faults."""
        self._faults.clear()

    def take(self, endpoint: str, model_id: str | None) -> Response | None:
        """Spend the first fault that holds for a request and give its answer; None when there is none."""
        fault = next((fault for fault in self._faults if fault.matches(endpoint, model_id)), None)
        if fault is None:
            return None
        if fault.times is not None:
            fault.times -= 1
        return fault.response
