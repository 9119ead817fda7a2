"""The pages: metrics, landing page and probes, as one ASGI application.

Paths are exact and few, so a dictionary finds them: no redirects, no patterns, no parameters. Nothing here
calls the API or waits for it; each page shows what the callables handed in say at that moment.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from exporter.exposition import Format
from exporter.web.landing import Overview, content_security_policy, render
from exporter.web.negotiation import accepts_gzip, choose_format
from exporter.web.places import Place, Places

Scrape = Callable[[Format, bool], Sequence[bytes]]

_SLICE = 256 * 1024
_SLICES_A_TURN = 4
_NO_STORE = {"Cache-Control": "no-store"}


def create_app(
    *,
    scrape: Scrape,
    overview: Callable[[], Overview],
    is_healthy: Callable[[], bool],
    is_ready: Callable[[], bool],
    telemetry_path: str,
    max_requests: int,
    on_rejected: Callable[[], None] = lambda: None,
) -> ASGIApp:
    """Build the application.

    `scrape(format, gzipped)` gives the exposition as ready pieces, sent one after the other, and must be
    quick. At most `max_requests` scrapes are served at once (0: no limit); one beyond takes the place of a
    slow one, or is told 503 and `on_rejected` is called. A `telemetry_path` of `/` takes the landing page's
    place.
    """
    pages: dict[str, ASGIApp] = {
        "/": _page(lambda: _landing(overview())),
        telemetry_path: _Scrapes(scrape, max_requests, on_rejected),
        "/-/healthy": _page(lambda: _probe(is_healthy(), "healthy")),
        "/-/ready": _page(lambda: _probe(is_ready(), "ready")),
    }

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        page = pages.get(scope["path"])
        if page is None:
            page = _text(404, "Not Found")
        elif scope["method"] not in ("GET", "HEAD"):
            page = _text(405, "Method Not Allowed", {"Allow": "GET, HEAD"})
        await page(scope, receive, send)

    return app


class _Scrapes:
    """The metrics page: negotiates, and sends what `scrape` gives to those who have a place."""

    def __init__(self, scrape: Scrape, limit: int, on_rejected: Callable[[], None]) -> None:
        self._scrape = scrape
        self._places = Places(limit)
        self._on_rejected = on_rejected

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        address, _ = scope.get("client") or ("", 0)
        # A server without such means serves slow clients to their end.
        place = Place(address, scope.get("state", {}).get("abort", lambda: None))
        if not self._places.enter(place):
            self._on_rejected()
            busy = _text(503, "Too many scrapes at once", {"Retry-After": "1", **_NO_STORE})
            await busy(scope, receive, send)
            return
        try:
            await self._answer(scope, send, place)
        finally:
            self._places.leave(place)

    async def _answer(self, scope: Scope, send: Send, place: Place) -> None:
        headers = Headers(scope=scope)
        fmt = choose_format(",".join(headers.getlist("accept")))
        gzipped = accepts_gzip(",".join(headers.getlist("accept-encoding")))
        pieces = self._scrape(fmt, gzipped)
        await send(
            {"type": "http.response.start", "status": 200, "headers": _scrape_headers(fmt, gzipped, pieces)}
        )
        if scope["method"] == "HEAD":
            pieces = ()
        await _send_slices(pieces, send, place)


def _scrape_headers(fmt: Format, gzipped: bool, pieces: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    headers = Headers(
        {
            "Content-Type": fmt.value,
            "Content-Length": str(sum(len(piece) for piece in pieces)),
            "Vary": "Accept, Accept-Encoding",
            **({"Content-Encoding": "gzip"} if gzipped else {}),
        }
    )
    return headers.raw


async def _send_slices(pieces: Sequence[bytes], send: Send, place: Place) -> None:
    for number, body in enumerate(_slices(pieces), start=1):
        await send({"type": "http.response.body", "body": body, "more_body": True})
        place.took(len(body))
        # A large page lets others have their turn. And only between turns is it seen that a client has
        # gone: from the fifth write to a lost connection on, asyncio warns of each.
        if number % _SLICES_A_TURN == 0:
            await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _slices(pieces: Iterable[bytes]) -> Iterable[bytes | memoryview]:
    """Cut large pieces into views: they are shared between scrapes, and are copied once at most."""
    for piece in pieces:
        if len(piece) <= _SLICE:
            yield piece
        else:
            view = memoryview(piece)
            for start in range(0, len(view), _SLICE):
                yield view[start : start + _SLICE]


def _page(answer: Callable[[], Response]) -> ASGIApp:
    async def page(scope: Scope, receive: Receive, send: Send) -> None:
        await answer()(scope, receive, send)

    return page


def _landing(overview: Overview) -> Response:
    headers = {
        "Content-Security-Policy": content_security_policy(),
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        **_NO_STORE,
    }
    return HTMLResponse(render(overview), headers=headers)


def _probe(passed: bool, adjective: str) -> Response:
    return _text(200 if passed else 503, adjective if passed else f"not {adjective}", _NO_STORE)


def _text(status: int, body: str, headers: dict[str, str] | None = None) -> Response:
    return PlainTextResponse(body + "\n", status, headers)
