"""What comes before every view: the rate limit, basic authentication, and headers on each response.

In this order, and for every path, the probes too: as exporter-toolkit does it.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from exporter.web.auth import BasicAuth, TooManyLogins
from exporter.web.connection import Handler
from exporter.web.limits import TokenBucket
from exporter.web.messages import Request, Response, text
from exporter.web.views import View

_TOO_MANY_REQUESTS = text(429, "Too Many Requests")
_TOO_MANY_LOGINS = text(503, "Too many logins at once", {"Retry-After": "1"})
_UNAUTHORIZED = text(401, "Unauthorized", {"WWW-Authenticate": "Basic"})


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
            return _with_headers(_TOO_MANY_LOGINS, now)
        response = view(request) if admitted else _UNAUTHORIZED
        return _with_headers(response if isinstance(response, Response) else await response, now)

    return handle


def _finished(
    response: Response | Awaitable[Response], policy: RequestPolicy
) -> Response | Awaitable[Response]:
    return _with_headers(response, policy) if isinstance(response, Response) else _later(response, policy)


async def _later(response: Awaitable[Response], policy: RequestPolicy) -> Response:
    return _with_headers(await response, policy)


def _with_headers(response: Response, policy: RequestPolicy) -> Response:
    return response.with_headers(policy.headers) if policy.headers else response
