"""What stands before every page: the rate limit, basic authentication, and headers on each answer.

In this order, and for every path, the probes too: as exporter-toolkit does it.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exporter.web.auth import Busy, Logins


class TokenBucket:
    """Lets `burst` requests pass at once, and one more each `interval` seconds."""

    def __init__(self, interval: float, burst: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._interval = interval
        self._burst = burst
        self._monotonic = monotonic
        self._tokens = float(burst)
        self._filled_at = monotonic()

    def take(self) -> bool:
        """Tell whether a request may pass now."""
        now = self._monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) / self._interval)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What is asked of a request and added to its answer; None asks nothing."""

    logins: Logins | None = None
    limit: TokenBucket | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def guarded(app: ASGIApp, rules: Callable[[], Rules]) -> ASGIApp:
    """Put the rules of the moment before `app`."""

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        now = rules()
        refusal = await _refusal(now, scope)
        await (refusal or app)(scope, receive, _adding(now.headers, send))

    return guard


async def _refusal(rules: Rules, scope: Scope) -> Response | None:
    if rules.limit and not rules.limit.take():
        return PlainTextResponse("Too Many Requests\n", 429)
    if rules.logins is None:
        return None
    address = scope["client"][0] if scope.get("client") else ""
    try:
        if await rules.logins.admit(Headers(scope=scope).get("authorization"), address):
            return None
    except Busy:
        return PlainTextResponse("Too many logins at once\n", 503, {"Retry-After": "1"})
    return PlainTextResponse("Unauthorized\n", 401, {"WWW-Authenticate": "Basic"})


def _adding(headers: Mapping[str, str], send: Send) -> Send:
    """Set headers on an answer, in the place of those of the same name."""

    async def adding(message: Message) -> None:
        if message["type"] == "http.response.start":
            present = MutableHeaders(scope=message)
            present.update(headers)
        await send(message)

    return adding if headers else send
