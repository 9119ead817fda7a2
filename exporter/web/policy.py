"""What comes before every view: the rate limit, basic authentication, and headers on each response.

In this order, and for every path, the probes too: as exporter-toolkit does it.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from exporter.web.auth import BasicAuth, TooManyLogins
from exporter.web.connection import Handler
from exporter.web.limits import TokenBucket
from exporter.web.messages import Request, Response, text

_TOO_MANY_REQUESTS = text(429, "Too Many Requests")
_TOO_MANY_LOGINS = text(503, "Too many logins at once", {"Retry-After": "1"})
_UNAUTHORIZED = text(401, "Unauthorized", {"WWW-Authenticate": "Basic"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestPolicy:
    """What is asked of a request and added to its response; None asks nothing."""

    auth: BasicAuth | None = None
    limit: TokenBucket | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def enforce(view: Handler, policy: Callable[[], RequestPolicy]) -> Handler:
    """Return a handler that applies the policy of the moment before `view`."""

    def handle(request: Request) -> Response | Awaitable[Response]:
        now = policy()
        return _with_headers(_apply(now, view, request), now.headers)

    return handle


def _apply(policy: RequestPolicy, view: Handler, request: Request) -> Response | Awaitable[Response]:
    if policy.limit and not policy.limit.take():
        return _TOO_MANY_REQUESTS
    if policy.auth is None:
        return view(request)
    admitted = policy.auth.remembers(request.header("authorization"))
    if admitted is None:
        return _log_in(policy.auth, view, request)
    return view(request) if admitted else _UNAUTHORIZED


async def _log_in(auth: BasicAuth, view: Handler, request: Request) -> Response:
    try:
        admitted = await auth.admit(request.header("authorization"))
    except TooManyLogins:
        return _TOO_MANY_LOGINS
    response = view(request) if admitted else _UNAUTHORIZED
    return response if isinstance(response, Response) else await response


def _with_headers(
    response: Response | Awaitable[Response], headers: Mapping[str, str]
) -> Response | Awaitable[Response]:
    if not headers:
        return response
    return response.with_headers(headers) if isinstance(response, Response) else _later(response, headers)


async def _later(response: Awaitable[Response], headers: Mapping[str, str]) -> Response:
    return (await response).with_headers(headers)
