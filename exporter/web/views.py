"""The views: metrics, landing page and probes, each a function from request to response.

Paths are exact and few, so a dictionary finds them: no redirects, no patterns, no parameters. Nothing here
calls the API or waits for it; each view shows what the callables handed in return at that moment, or once it
is rendered.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

from exporter.exposition import Format
from exporter.web.connection import Connection, Handler
from exporter.web.landing import Overview, content_security_policy, render
from exporter.web.limits import LENIENCE, TokenBucket
from exporter.web.messages import NO_STORE, Request, Response, text
from exporter.web.negotiation import accepts_gzip, choose_format

Scrape = Callable[[Format, bool], Sequence[bytes] | Awaitable[Sequence[bytes]]]
PROBES = ("/-/healthy", "/-/ready")
SHARED_FOR = 1.0  # seconds
_SEARCHES, _SEARCH_EACH = 5, 0.2  # landing pages rendered at once, and seconds after which another may be
_NOT_FOUND = text(404, "Not Found")
_NOT_ALLOWED = text(405, "Method Not Allowed", {"Allow": "GET, HEAD"})
_TOO_MANY = text(503, "Too many scrapes at once", {"Retry-After": "1", **NO_STORE})
_TOO_MANY_SEARCHES = text(503, "Too many searches at once", {"Retry-After": "1", **NO_STORE})


def create_views(
    *,
    scrape: Scrape,
    scrape_steps: Scrape | None = None,
    overview: Callable[[], Overview],
    is_healthy: Callable[[], bool],
    is_ready: Callable[[], bool],
    telemetry_path: str,
    in_flight: set[Connection],
    max_requests: int,
    on_rejected: Callable[[], None] = lambda: None,
) -> dict[str, Handler]:
    """Return every view by its path.

    `scrape(format, gzipped)` returns the exposition in chunks, and must be quick, or returns what to await
    for them; so does `scrape_steps` that of the training steps. A scrape beyond `max_requests` responses
    `in_flight` (0: no limit) evicts a slow one, or gets 503 and `on_rejected` is called. A `telemetry_path`
    of `/` takes the landing page's place.
    """
    admit = partial(_admit, in_flight, max_requests)
    views: dict[str, Handler] = {
        "/": LandingView(overview),
        telemetry_path: MetricsView(scrape, admit, on_rejected),
        "/-/healthy": lambda _: _probe(is_healthy(), "healthy"),
        "/-/ready": lambda _: _probe(is_ready(), "ready"),
    }
    if scrape_steps:
        views[f"{telemetry_path.rstrip('/')}/steps"] = MetricsView(scrape_steps, admit, on_rejected)
    return views


def _admit(in_flight: set[Connection], limit: int) -> bool:
    """Return whether there is room for one more response, if need be that of a client which is too slow."""
    if limit and len(in_flight) >= limit:
        slowest = max(in_flight, key=lambda connection: connection.lag)
        if slowest.lag <= LENIENCE:
            return False
        slowest.abort()
    return True


def route(views: Mapping[str, Handler]) -> Handler:
    """Return the one view that answers every request by those of each path."""

    def routed(request: Request) -> Response | Awaitable[Response]:
        view = views.get(request.path)
        if view is None:
            return _NOT_FOUND
        return view(request) if request.method in ("GET", "HEAD") else _NOT_ALLOWED

    return routed


class LandingView:
    """The landing page, which costs milliseconds: requests for the same one within a second share it.

    Of as many queries as somebody may think of, few a second are answered: scrapes must not wait for them.
    """

    def __init__(self, overview: Callable[[], Overview]) -> None:
        self._overview = overview
        self._headers = {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Security-Policy": content_security_policy(),
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
            **NO_STORE,
        }
        self._searches = TokenBucket(_SEARCH_EACH, _SEARCHES)
        self._pages: dict[bool, _Page] = {}  # the one without a query, and the last one searched for

    def __call__(self, request: Request) -> Response:
        """Return the page that the query asks for."""
        query, overview = request.query, self._overview()
        page = self._pages.get(bool(query))
        if page is None or page.query != query or not _is_current(page.overview, overview):
            if query and not self._searches.take():
                return _TOO_MANY_SEARCHES
            response = Response(200, self._headers, (render(overview, query),))
            page = self._pages[bool(query)] = _Page(query, overview, response)
        return page.response


class _Page(NamedTuple):
    """A landing page as it was last rendered."""

    query: str
    overview: Overview
    response: Response


def _is_current(shown: Overview, overview: Overview) -> bool:
    """Return whether what was shown within the last second still holds."""
    return (
        shown.outcome is overview.outcome
        and shown.snapshot is overview.snapshot
        and 0 <= overview.now - shown.now < SHARED_FOR
    )


class MetricsView:
    """An exposition in the format and coding that the client accepts."""

    def __init__(self, scrape: Scrape, admit: Callable[[], bool], on_rejected: Callable[[], None]) -> None:
        self._scrape = scrape
        self._admit = admit
        self._on_rejected = on_rejected
        self._ready: dict[tuple[Format, bool], Response] = {}

    def __call__(self, request: Request) -> Response | Awaitable[Response]:
        """Return the exposition, or what to await for it."""
        if not self._admit():
            self._on_rejected()
            return _TOO_MANY
        kind = _negotiate(request.headers.get(b"accept", b""), request.headers.get(b"accept-encoding", b""))
        chunks = self._scrape(*kind)
        return self._response(kind, chunks) if isinstance(chunks, Sequence) else self._later(kind, chunks)

    async def _later(self, kind: tuple[Format, bool], chunks: Awaitable[Sequence[bytes]]) -> Response:
        return self._response(kind, await chunks)

    def _response(self, kind: tuple[Format, bool], chunks: Sequence[bytes]) -> Response:
        """Return a response, whose head is made once for the same chunks."""
        ready = self._ready.get(kind)
        if ready is None or ready.chunks is not chunks:
            ready = self._ready[kind] = Response(200, _headers(*kind), chunks)
        return ready


@lru_cache(maxsize=64)
def _negotiate(accept: bytes, accept_encoding: bytes) -> tuple[Format, bool]:
    return choose_format(accept.decode("latin-1")), accepts_gzip(accept_encoding.decode("latin-1"))


def _headers(format_: Format, gzipped: bool) -> Mapping[str, str]:
    headers = {"Content-Type": format_.value, "Vary": "Accept, Accept-Encoding"}
    return {**headers, "Content-Encoding": "gzip"} if gzipped else headers


def _probe(passed: bool, adjective: str) -> Response:
    return text(200 if passed else 503, adjective if passed else f"not {adjective}", NO_STORE)
