"""The simulated API as a function: request → response.

    GET /v1/finetuning/finetuned-models
    GET /v1/finetuning/finetuned-models/{id}/training-step-metrics

Errors are `{"message": …}`; every response carries `x-debug-trace-id`. A request is counted first, then meets
a fault if one is set, then needs its key, then is answered from the fleet as it stands at that moment.
"""

import json
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

from exporter.simulator import paging, protojson
from exporter.simulator.faults import LIST_MODELS, LIST_STEPS, Faults, Response
from exporter.simulator.fleet import Fleet, demo_fleet
from exporter.simulator.jobs import Job

DEMO_API_KEY = "demo-key"
_PATH = "/v1/finetuning/finetuned-models"
_STEPS_PATH = re.compile(re.escape(_PATH) + r"/([^/]+)/training-step-metrics")


class _Refused(Exception):
    """The request is answered with an error."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.response = _json({"message": message}, status, headers)


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
        self._responses = 0

    async def respond(self, method: str, path: str, query: str, header: Callable[[str], str]) -> Response:
        """Answer a request; `path` is decoded, `header` returns a header by its name in lower case or ""."""
        try:
            response = await self._respond(method, path, dict(parse_qsl(query)), header("authorization"))
        except _Refused as refusal:
            response = refusal.response
        self._responses += 1
        # Counted rather than random, so that a run can be repeated to the letter.
        trace = uuid.uuid5(uuid.NAMESPACE_OID, f"answer {self._responses}").hex
        return replace(response, headers={**response.headers, "x-debug-trace-id": trace})

    async def _respond(
        self, method: str, path: str, query: Mapping[str, str], authorization: str
    ) -> Response:
        steps = _STEPS_PATH.fullmatch(path)
        if steps is None and path != _PATH:
            raise _Refused(404, "Not Found")
        if method not in ("GET", "HEAD"):
            raise _Refused(405, "Method Not Allowed", {"allow": "GET, HEAD"})
        name, model_id = (LIST_STEPS, steps[1]) if steps else (LIST_MODELS, None)
        self.requests[name] += 1
        # Before the key is looked at, as a broken edge in front of the API would.
        fault = await self.take(name)
        if fault is not None:
            return fault
        self._authorize(authorization)
        return _json(self._models(query) if model_id is None else self._steps(model_id, query))

    def _authorize(self, authorization: str) -> None:
        if not self._api_key:
            return
        if not authorization:
            raise _Refused(401, "no api key supplied")
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != "bearer" or key != self._api_key:
            raise _Refused(401, "invalid api token")

    def _models(self, query: Mapping[str, str]) -> dict[str, Any]:
        now = self.clock()
        jobs = sorted(self.fleet.listed(now), key=_order)
        page, token = _page(query, jobs, _order, scope="models", descending=False)
        return protojson.without_zeros(
            {
                "finetuned_models": [protojson.model(job, now) for job in page],
                "next_page_token": token,
                "total_size": len(jobs),
            }
        )

    def _steps(self, model_id: str, query: Mapping[str, str]) -> dict[str, Any]:
        now = self.clock()
        job = self._find(model_id, now)
        page, token = _page(
            query, job.rows(now), lambda row: (row,), scope=job.id, descending=not self._ascending_steps
        )
        rows = [protojson.step_metrics(job, row) for row in page]
        return protojson.without_zeros({"step_metrics": rows, "next_page_token": token})

    def _find(self, model_id: str, now: float) -> Job:
        try:
            canonical = str(uuid.UUID(model_id))
        except ValueError:
            raise _Refused(400, "invalid finetuned model ID") from None
        job = self.fleet.find(canonical, now)
        if job is None:
            raise _Refused(404, f"finetuned model {canonical} not found")
        return job


def _order(job: Job) -> paging.Key:
    return job.created_at, job.id  # the id makes the order total, so that a token marks one place in it


def _page(
    query: Mapping[str, str],
    ascending: Sequence[paging.Item],
    key: Callable[[paging.Item], paging.Key],
    *,
    scope: str,
    descending: bool,
) -> tuple[Sequence[paging.Item], str]:
    """Cut the page that the request's `page_size` and `page_token` ask for, and make the next token."""
    try:
        size = paging.page_size(query.get("page_size", ""))
        after = paging.unseal(scope, query.get("page_token", ""))
    except ValueError as problem:
        raise _Refused(400, f"invalid page: {problem}") from None
    page, more = paging.cut(ascending, key, after=after, size=size, descending=descending)
    return page, paging.seal(scope, key(page[-1])) if more else ""


def _json(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    body = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    return Response(status, body, {"content-type": "application/json", **(headers or {})})
