"""The simulated API as an ASGI application.

    GET {prefix}/v1/finetuning/finetuned-models
    GET {prefix}/v1/finetuning/finetuned-models/{id}/training-step-metrics

Errors are `{"message": …}`; every answer carries `x-debug-trace-id`. A request is counted first, then meets
a fault if one is set, then needs its key, then is answered from the fleet as it stands at that moment.
"""

import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from exporter.simulator import paging, wire
from exporter.simulator.faults import LIST_MODELS, LIST_STEPS, Faults
from exporter.simulator.fleet import Fleet, demo_fleet
from exporter.simulator.jobs import Job

DEMO_API_KEY = "demo-key"
ORDERS: Mapping[str, Callable[[Job], paging.Key]] = {
    # The id makes the order total, so that a page token marks one place in it.
    "created_at": lambda job: (job.created_at, job.id),
    "name": lambda job: (job.name, job.id),
}
DESCENDING = frozenset({"created_at desc"})


class Simulator(Faults):
    """The API on a clock; `jobs` is the fleet when given, else the demo's, of `models` models, starts now.

    `clock` gives Unix seconds; the demo's life goes `speed` times faster than it. An `api_key` of "" demands
    no Authorization, as a private deployment may. `ascending_steps` turns the order of step metrics round:
    the specification's text says most recent first, its example shows the contrary. `requests` counts the
    requests by endpoint.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.time,
        *,
        api_key: str = DEMO_API_KEY,
        prefix: str = "",
        speed: float = 60.0,
        seed: int | None = None,
        models: int | None = None,
        jobs: Iterable[Job] | None = None,
        ascending_steps: bool = False,
    ) -> None:
        super().__init__()
        self.clock = clock
        if jobs is None:
            self.fleet = demo_fleet(clock(), speed=speed, seed=seed, models=models)
        else:
            self.fleet = Fleet(jobs)
        self.requests: Counter[str] = Counter()
        self._api_key = api_key
        self._ascending_steps = ascending_steps
        self._answers = 0
        self._app = self._application(prefix.rstrip("/") + "/v1/finetuning/finetuned-models")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve as an ASGI application."""

        async def send_traced(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._answers += 1
                # Counted rather than random, so that a run can be repeated to the letter.
                trace = uuid.uuid5(uuid.NAMESPACE_OID, f"answer {self._answers}").hex
                MutableHeaders(scope=message)["x-debug-trace-id"] = trace
            await send(message)

        await self._app(scope, receive, send_traced)

    def _application(self, path: str) -> Starlette:
        routes = [
            Route(path, self._endpoint(LIST_MODELS, self._models)),
            Route(path + "/{model_id}/training-step-metrics", self._endpoint(LIST_STEPS, self._steps)),
        ]
        app = Starlette(routes=routes, exception_handlers={HTTPException: _message})
        # An API does not redirect to its pages as a web site does: another path is another resource.
        app.router.redirect_slashes = False
        return app

    def _endpoint(
        self, name: str, answer: Callable[[Request], dict[str, Any]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            self.requests[name] += 1
            # Before the key is looked at, as a broken edge in front of the API would.
            fault = self.take(name, request.path_params.get("model_id"))
            if fault is not None:
                return fault
            self._authorize(request)
            return JSONResponse(answer(request))

        return endpoint

    def _authorize(self, request: Request) -> None:
        if not self._api_key:
            return
        authorization = request.headers.get("authorization", "")
        if not authorization:
            raise HTTPException(401, "no api key supplied")
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != "bearer" or key != self._api_key:
            raise HTTPException(401, "invalid api token")

    def _models(self, request: Request) -> dict[str, Any]:
        now = self.clock()
        order = request.query_params.get("order_by", "") or "created_at"
        if order not in ORDERS and order not in DESCENDING:
            raise HTTPException(400, f"invalid order_by: {order}")
        key = ORDERS[order.removesuffix(" desc")]
        jobs = sorted(self.fleet.listed(now), key=key)
        page, token = _page(request, jobs, key, scope=order, descending=order in DESCENDING)
        return wire.without_zeros(
            {
                "finetuned_models": [wire.model(job, now) for job in page],
                "next_page_token": token,
                "total_size": len(jobs),
            }
        )

    def _steps(self, request: Request) -> dict[str, Any]:
        now = self.clock()
        job = self._find(request.path_params["model_id"], now)
        page, token = _page(
            request, job.rows(now), lambda row: (row,), scope=job.id, descending=not self._ascending_steps
        )
        rows = [wire.step_metrics(job, row) for row in page]
        return wire.without_zeros({"step_metrics": rows, "next_page_token": token})

    def _find(self, model_id: str, now: float) -> Job:
        try:
            canonical = str(uuid.UUID(model_id))
        except ValueError:
            raise HTTPException(400, "invalid finetuned model ID") from None
        job = self.fleet.find(canonical, now)
        if job is None:
            raise HTTPException(404, f"finetuned model {canonical} not found")
        return job


def _page(
    request: Request,
    ascending: Sequence[paging.Item],
    key: Callable[[paging.Item], paging.Key],
    *,
    scope: str,
    descending: bool,
) -> tuple[Sequence[paging.Item], str]:
    """Cut the page that the request's `page_size` and `page_token` ask for, and make the next token."""
    query = request.query_params
    try:
        size = paging.page_size(query.get("page_size", ""))
        after = paging.unseal(scope, query.get("page_token", ""))
    except ValueError as problem:
        raise HTTPException(400, f"invalid page: {problem}") from None
    page, more = paging.cut(ascending, key, after=after, size=size, descending=descending)
    return page, paging.seal(scope, key(page[-1])) if more else ""


async def _message(_request: Request, exception: Exception) -> Response:
    if not isinstance(exception, HTTPException):
        raise exception
    return JSONResponse({"message": exception.detail}, exception.status_code, exception.headers)
