"""One GET that survives what comes back: an allowance before it, a deadline around it, retries after it.

Every request, retries included, waits until the allowance admits it and is reported to the observer. What
cannot be had ends as an `ApiError`. The key is read for each request, so a rotated one is used at once.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import Any, Protocol

import httpx
import structlog
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from exporter.clock import Clock
from exporter.cohere.connection_errors import ConnectionErrors
from exporter.cohere.proxies import Proxy
from exporter.cohere.response import ApiResponse, debug_trace_id, error_of, is_whole, read_body
from exporter.errors import ApiError, ConnectionFailed, InvalidResponse, QuotaSpent, ServerError, Timeout

log = structlog.stdlib.get_logger(__name__)

ATTEMPTS = 3
LONGEST_RETRY_WAIT = 30.0  # seconds; an API that asks for more is not asked again within one request
ERROR_BODY_LIMIT = 64 << 10
_PASSING_STATUS = (408, 409, 429)
_STAGES: Mapping[str, str] = {
    "connection.connect_tcp.started": "while connecting",
    "connection.start_tls.started": "in the TLS handshake",
    "http11.send_request_headers.started": "while waiting for the response",
    "http11.receive_response_body.started": "while reading the response",
}


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

    def retry(self, endpoint: Endpoint) -> None:
        """Count a retry."""

    def throttled(self, seconds: float) -> None:
        """Add the seconds that a request waited for the limiter."""

    def rejected(self, kind: str) -> None:
        """Count a part of a response that made no sense and was skipped."""


class Allowance(Protocol):
    """Who decides when a request may be sent."""

    def request(self, endpoint: Endpoint, page: int) -> AbstractAsyncContextManager[float]:
        """Wait until page `page` of a chain may be asked for; it is in flight while the context lasts.

        Yields the seconds waited. Raises `QuotaSpent` when no call is left for it.
        """

    def can_retry(self) -> bool:
        """Return whether a call can be spent on trying again."""

    def wait(self, endpoint: Endpoint, seconds: float) -> None:
        """Take note that the API asked for `seconds` without requests like this one."""


class ConnectionTrace:
    """Follows one request, as an httpx trace; `stage` says how far it is."""

    def __init__(self) -> None:
        self.stage = ""
        self._stream: Any = None

    @property
    def is_connected(self) -> bool:
        """Whether there was a connection, be it to a proxy."""
        return self._stream is not None

    async def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        """Note how far the request is; close what httpcore leaves open when a timeout ends a handshake."""
        self.stage = _STAGES.get(event, self.stage)
        if event == "connection.connect_tcp.complete":
            self._stream = info["return_value"]
        elif event == "connection.start_tls.failed":
            await self._stream.aclose()


class Transport:
    """Sends requests; `timeout` is that of a whole request in seconds, `proxy` the one that `http` uses."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        key: Callable[[], str],
        timeout: float,
        allowance: Allowance,
        observer: Observer,
        clock: Clock,
        proxy: Proxy | None = None,
    ) -> None:
        self._http = http
        self._errors = ConnectionErrors(http.base_url, proxy)
        self._key = key
        self._timeout = timeout
        self._allowance = allowance
        self._observer = observer
        self._clock = clock
        self._is_first = True  # until the first attempt of this process has ended

    async def get(
        self,
        endpoint: Endpoint,
        path: str,
        query: Mapping[str, str],
        *,
        page: int = 0,
        fields: Mapping[str, str] | None = None,
    ) -> ApiResponse:
        """Return a successful response, page `page` of a chain; raise `ApiError` when there is none.

        `fields` are added to what is logged of the request.
        """
        retrying = AsyncRetrying(
            retry=retry_if_exception(lambda error: _may_pass(error) and self._allowance.can_retry()),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.5, max=8),  # exponential, with full jitter
            sleep=self._clock.sleep,
            before_sleep=lambda state: self._retrying(endpoint, state),
            reraise=True,
        )
        return await retrying(self._attempt, endpoint, path, query, page, fields or {})

    def _retrying(self, endpoint: Endpoint, state: RetryCallState) -> None:
        """Count a retry; of the first attempt of all say at once why it failed, not when all have failed."""
        self._observer.retry(endpoint)
        error = state.outcome.exception() if state.outcome else None
        if self._is_first and isinstance(error, ApiError):
            log.warning("first API request failed; retrying", **error.fields())
        self._is_first = False

    async def _attempt(
        self,
        endpoint: Endpoint,
        path: str,
        query: Mapping[str, str],
        page: int,
        fields: Mapping[str, str],
    ) -> ApiResponse:
        async with self._allowance.request(endpoint, page) as waited:
            self._observer.throttled(waited)
            try:
                response = await self._send(endpoint, path, query, fields)
            except ApiError as error:
                if error.retry_after is not None:
                    self._allowance.wait(endpoint, error.retry_after)
                raise
        self._is_first = False
        return response

    async def _send(
        self, endpoint: Endpoint, path: str, query: Mapping[str, str], fields: Mapping[str, str]
    ) -> ApiResponse:
        code = "error"
        started = self._clock.monotonic()
        key, trace = self._key(), ConnectionTrace()
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
            words = f"no complete response within {self._timeout:g} s {trace.stage}".rstrip()
            failure = failure or Timeout(words)
        except (httpx.HTTPError, OSError) as error:
            failure = failure or self._errors.failed(error, is_connected=trace.is_connected)
        except InvalidResponse as error:
            failure = failure or error
        finally:
            seconds = self._clock.monotonic() - started
            log.debug("API request", endpoint=endpoint.value, code=code, seconds=round(seconds, 3), **fields)
            self._observer.request(endpoint, code, seconds)
        failure.trace_id = trace_id
        raise self._errors.located(failure)


def _authorization(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


def _may_pass(error: BaseException) -> bool:
    """Return whether trying again within seconds may help."""
    if not isinstance(error, ApiError) or isinstance(error, QuotaSpent):
        return False
    if error.retry_after is not None and error.retry_after > LONGEST_RETRY_WAIT:
        return False
    return isinstance(error, Timeout | ConnectionFailed | ServerError) or error.status in _PASSING_STATUS
