"""What comes before every view: the rate limit, basic authentication, and headers on each response.

In this order, and for every path, the probes too: as exporter-toolkit does it.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from exporter.web.auth import BasicAuth, TooManyLogins
from exporter.web.connection import Handler
from exporter.web.messages import Request, Response, text
from exporter.web.views import View

_TOO_MANY_REQUESTS = text(429, "Too Many Requests")
_TOO_MANY_LOGINS = text(503, "Too many logins at once", {"Retry-After": "1"})
_UNAUTHORIZED = text(401, "Unauthorized", {"WWW-Authenticate": "Basic"})


class TokenBucket:
    """Lets `burst` requests pass at once, and one more each `interval` seconds."""

    def __init__(self, interval: float, burst: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._interval = interval
        self._burst = burst
        self._monotonic = monotonic
        self._tokens = float(burst)
        self._filled_at = monotonic()

    def take(self) -> bool:
        """Return whether a request may pass now."""
        now = self._monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) / self._interval)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestPolicy:
    """What is asked of a request and added to its response; None asks nothing."""

    auth: BasicAuth | None = None
    limit: TokenBucket | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def enforce(view: View, policy: Callable[[], RequestPolicy]) -> Handler:
    """Return a handler that applies the policy of the moment before `view`."""

    def handle(request: Request) -> Response | Awaitable[Response]:
        now = policy()
        if now.limit and not now.limit.take():
            return _finished(_TOO_MANY_REQUESTS, now)
        if now.auth is None:
            return _finished(view(request), now)
        admitted = now.auth.remembers(request.header("authorization"))
        if admitted is None:
            return log_in(now, now.auth, request)
        return _finished(view(request) if admitted else _UNAUTHORIZED, now)

    async def log_in(now: RequestPolicy, auth: BasicAuth, request: Request) -> Response:
        try:
            admitted = await auth.admit(request.header("authorization"))
        except TooManyLogins:
            return _finished(_TOO_MANY_LOGINS, now)
        return _finished(view(request) if admitted else _UNAUTHORIZED, now)

    return handle


def _finished(response: Response, policy: RequestPolicy) -> Response:
    return response.with_headers(policy.headers) if policy.headers else response
