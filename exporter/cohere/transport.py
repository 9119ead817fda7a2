"""One GET that survives what comes back: limits before it, a deadline around it, retries after it.

Every request, retries included, passes the limiter and the budget and is reported to the observer; step
metrics and retries never take what the budget keeps for listing the models. What cannot be had ends as an
`ApiError`. The key is read for each request, so a rotated one is used at once.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from enum import StrEnum
from typing import Protocol

import httpx
import structlog
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from exporter.clock import Clock
from exporter.cohere.connection import ConnectionTrace
from exporter.cohere.limits import MonthlyBudget, RateLimiter
from exporter.cohere.proxies import Proxy
from exporter.cohere.response import ApiResponse, debug_trace_id, error_of, is_whole, read_body
from exporter.errors import ApiError, ConnectionFailed, InvalidResponse, QuotaSpent, ServerError, Timeout

log = structlog.stdlib.get_logger(__name__)

ATTEMPTS = 3
LONGEST_HOLD = 30.0  # seconds; an API that asks for more is left to the poller's pause
ERROR_BODY_LIMIT = 64 << 10
_PASSING_STATUS = (408, 409, 429)


class Endpoint(StrEnum):
    """The endpoints of the API, as they are counted."""

    LIST_FINETUNED_MODELS = "list_finetuned_models"
    LIST_TRAINING_STEP_METRICS = "list_training_step_metrics"


BODY_LIMIT = {
    Endpoint.LIST_FINETUNED_MODELS: 16 << 20,
    Endpoint.LIST_TRAINING_STEP_METRICS: 4 << 20,  # of several models at once
}


class Observer(Protocol):
    """Who is told what happens on the way to the API."""

    def request(self, endpoint: Endpoint, code: str, seconds: float) -> None:
        """Count a request; `code` is the HTTP status, "error" when there was none."""
        ...

    def retry(self, endpoint: Endpoint) -> None:
        """Count a retry."""
        ...

    def throttled(self, seconds: float) -> None:
        """Add the seconds that a request waited for the limiter."""
        ...

    def rejected(self, kind: str) -> None:
        """Count a part of an answer that made no sense and was skipped."""
        ...


class Transport:
    """Sends requests; `timeout` is that of a whole request in seconds, `proxy` the one that `http` uses."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        key: Callable[[], str],
        timeout: float,
        concurrency: int,
        limiter: RateLimiter,
        budget: MonthlyBudget,
        observer: Observer,
        clock: Clock,
        proxy: Proxy | None = None,
    ) -> None:
        self._http = http
        self._proxy = proxy
        self._key = key
        self._timeout = timeout
        self._slots = asyncio.Semaphore(concurrency)
        self._limiter = limiter
        self._budget = budget
        self._observer = observer
        self._clock = clock

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Keep one place among the calls under way, for calls that are then `placed`."""
        async with self._slots:
            yield

    async def get(
        self,
        endpoint: Endpoint,
        path: str,
        query: Mapping[str, str],
        *,
        page: int = 0,
        placed: bool = False,
    ) -> ApiResponse:
        """Give a successful answer, page `page` of a chain; raise `ApiError` when there is none to be had."""
        retrying = AsyncRetrying(
            retry=retry_if_exception(lambda error: _may_pass(error) and self._budget.has_spare),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.5, max=8),  # exponential, with full jitter
            sleep=self._clock.sleep,
            before_sleep=lambda _: self._observer.retry(endpoint),
            reraise=True,
        )
        return await retrying(
            self._attempt, endpoint, path, query, page, nullcontext() if placed else self._slots
        )

    async def _attempt(
        self,
        endpoint: Endpoint,
        path: str,
        query: Mapping[str, str],
        page: int,
        place: AbstractAsyncContextManager[None],
    ) -> ApiResponse:
        async with place:
            self._observer.throttled(await self._limiter.acquire())
            self._budget.spend(spare=endpoint is not Endpoint.LIST_FINETUNED_MODELS, page=page)
            try:
                return await self._send(endpoint, path, query)
            except ApiError as error:
                if error.retry_after is not None and error.retry_after <= LONGEST_HOLD:
                    self._limiter.hold(error.retry_after)
                raise

    async def _send(self, endpoint: Endpoint, path: str, query: Mapping[str, str]) -> ApiResponse:
        code = "error"
        started = self._clock.monotonic()
        key, trace = self._key(), ConnectionTrace(self._http.base_url, self._proxy)
        failure: ApiError | None = None
        trace_id: str | None = None
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._http.stream(
                    "GET", path, params=query, headers=_authorization(key), extensions={"trace": trace}
                ) as response,
            ):
                code, trace_id = str(response.status_code), debug_trace_id(response)
                if is_whole(response):
                    return ApiResponse(await read_body(response, BODY_LIMIT[endpoint]), trace_id)
                # A refusal is known by its head, whatever becomes of its body.
                failure = error_of(response, b"", secret=key, now=self._clock.time())
                body = await read_body(response, ERROR_BODY_LIMIT)
                failure = error_of(response, body, secret=key, now=self._clock.time())
        except TimeoutError:
            failure = failure or trace.timed_out(self._timeout)
        except (httpx.HTTPError, OSError) as error:
            failure = failure or trace.failed(error)
        except InvalidResponse as error:
            failure = failure or error
        finally:
            seconds = self._clock.monotonic() - started
            log.debug("API request", endpoint=endpoint.value, code=code, seconds=round(seconds, 3))
            self._observer.request(endpoint, code, seconds)
        failure.trace_id = trace_id
        raise trace.located(failure)


def _authorization(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


def _may_pass(error: BaseException) -> bool:
    """Tell whether trying again within seconds may help."""
    if not isinstance(error, ApiError) or isinstance(error, QuotaSpent):
        return False
    if error.retry_after is not None and error.retry_after > LONGEST_HOLD:
        return False
    return isinstance(error, Timeout | ConnectionFailed | ServerError) or error.status in _PASSING_STATUS
