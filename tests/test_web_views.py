"""The pages as an HTTP client sees them."""

import asyncio
import logging
import socket
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from typing import Any, cast

import httpx
import pytest

from exporter.exposition import Format
from exporter.web.connection import Connection, Handler
from exporter.web.landing import Overview, content_security_policy
from exporter.web.limits import LENIENCE
from exporter.web.messages import Request, Response
from exporter.web.server import WebServer, listen
from exporter.web.views import create_views, route
from tests.conftest import until
from tests.served import client_of
from tests.test_web_landing import NOW, OVERVIEW

pytestmark = pytest.mark.anyio


@dataclass
class Exporter:
    """What stands behind the pages: answers as its fields say and remembers what it was asked."""

    chunks: Sequence[bytes] = (b"snapshot\n", b"live\n")
    healthy: bool = True
    ready: bool = True
    scrapes: list[tuple[Format, bool]] = field(default_factory=list)
    overviews: int = 0
    overview: Overview = OVERVIEW
    rejected: int = 0
    in_flight: set[Connection] = field(default_factory=set)

    def app(self, **options: Any) -> Handler:
        settings: dict[str, Any] = {
            "scrape": self._scrape,
            "telemetry_path": "/metrics",
            "in_flight": self.in_flight,
            "max_requests": 40,
            "on_rejected": self._reject,
        } | options
        views = create_views(
            overview=self._overview,
            is_healthy=lambda: self.healthy,
            is_ready=lambda: self.ready,
            **settings,
        )
        return route(views)

    def _scrape(self, fmt: Format, gzipped: bool) -> Sequence[bytes]:
        self.scrapes.append((fmt, gzipped))
        return self.chunks

    def _overview(self) -> Overview:
        self.overviews += 1
        return self.overview

    def _reject(self) -> None:
        self.rejected += 1


@pytest.fixture
def exporter() -> Exporter:
    return Exporter()


@pytest.fixture
async def client(exporter: Exporter) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(exporter.app()) as client:
        yield client


async def test_a_scrape_gets_the_pieces_one_after_the_other(
    client: httpx.AsyncClient, exporter: Exporter
) -> None:
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.content == b"snapshot\nlive\n"
    assert answer.headers["Content-Type"] == Format.TEXT.value
    assert answer.headers["Content-Length"] == "14"
    assert answer.headers["Vary"] == "Accept, Accept-Encoding"
    assert "Content-Encoding" not in answer.headers
    assert exporter.scrapes == [(Format.TEXT, False)]


async def test_a_scrape_may_be_openmetrics_and_compressed(
    client: httpx.AsyncClient, exporter: Exporter
) -> None:
    headers = {"Accept": "application/openmetrics-text", "Accept-Encoding": "gzip"}
    async with client.stream("GET", "/metrics", headers=headers) as answer:
        body = b"".join([piece async for piece in answer.aiter_raw()])
    assert body == b"snapshot\nlive\n"
    assert answer.headers["Content-Type"] == Format.OPENMETRICS.value
    assert answer.headers["Content-Encoding"] == "gzip"
    assert exporter.scrapes == [(Format.OPENMETRICS, True)]


async def test_a_scrape_that_waits_for_its_page_holds_up_no_other(exporter: Exporter) -> None:
    rendered = asyncio.Event()

    async def scrape_steps(fmt: Format, gzipped: bool) -> Sequence[bytes]:
        await rendered.wait()
        return exporter.chunks

    async with client_of(exporter.app(scrape_steps=scrape_steps)) as client:
        steps = asyncio.create_task(client.get("/metrics/steps"))
        for path in ("/metrics", "/", "/-/healthy"):
            assert (await client.get(path)).status_code == 200
        assert not steps.done()
        rendered.set()
        answer = await steps
    assert (answer.status_code, answer.content) == (200, b"snapshot\nlive\n")
    assert answer.headers["Content-Type"] == Format.TEXT.value
    assert answer.headers["Content-Length"] == "14"


async def test_a_header_that_comes_in_two_lines_is_read_as_one(
    client: httpx.AsyncClient, exporter: Exporter
) -> None:
    await client.get(
        "/metrics", headers=[("Accept", "text/plain;q=0.1"), ("Accept", "application/openmetrics-text")]
    )
    assert exporter.scrapes == [(Format.OPENMETRICS, False)]


async def test_head_has_the_same_headers_and_no_body(client: httpx.AsyncClient) -> None:
    got, head = await client.get("/metrics"), await client.head("/metrics")
    for response in (got, head):  # a second may have begun between them
        assert parsedate_to_datetime(response.headers.pop("date"))
    assert head.headers == got.headers
    assert head.content == b""


@pytest.mark.parametrize("path", ["/", "/-/healthy", "/-/ready"])
async def test_every_page_answers_head(client: httpx.AsyncClient, path: str) -> None:
    head = await client.head(path)
    assert head.status_code == 200
    assert head.content == b""


@pytest.mark.parametrize("path", ["/", "/metrics"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
async def test_other_methods_are_told_which_ones_there_are(
    client: httpx.AsyncClient, exporter: Exporter, method: str, path: str
) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "GET, HEAD"
    assert not exporter.scrapes


@pytest.mark.parametrize(
    "path", ["/metrics/", "/metric", "/-/", "/-/healthy/", "//", "/favicon.ico", "/METRICS"]
)
async def test_anything_else_is_not_found(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(f"http://{client.base_url.host}:{client.base_url.port}{path}")
    assert answer.status_code == 404
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert answer.text == "Not Found\n"


@pytest.mark.parametrize(
    ("path", "word", "flag"), [("/-/healthy", "healthy", "healthy"), ("/-/ready", "ready", "ready")]
)
async def test_a_probe_says_yes_or_no_and_asks_nothing_else(
    client: httpx.AsyncClient, exporter: Exporter, path: str, word: str, flag: str
) -> None:
    answer = await client.get(path)
    assert (answer.status_code, answer.text) == (200, f"{word}\n")
    assert answer.headers["Cache-Control"] == "no-store"
    setattr(exporter, flag, False)
    answer = await client.get(path)
    assert (answer.status_code, answer.text) == (503, f"not {word}\n")
    assert not exporter.scrapes
    assert not exporter.overviews


async def test_the_landing_page_comes_with_its_safety_headers(client: httpx.AsyncClient) -> None:
    answer = await client.get("/")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Content-Security-Policy"] == content_security_policy()
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert OVERVIEW.name in answer.text


@pytest.mark.parametrize(
    ("change", "is_shared"),
    [
        ({"now": NOW + 0.9}, True),
        ({"now": NOW + 1}, False),
        ({"now": NOW - 1}, False),
        ({"snapshot": None}, False),
    ],
)
async def test_the_landing_page_is_shared_for_a_second_unless_something_changed(
    exporter: Exporter, change: Mapping[str, Any], is_shared: bool
) -> None:
    view = exporter.app()
    request = Request(method="GET", path="/", query="", headers={})
    first = view(request)
    exporter.overview = replace(OVERVIEW, **change)
    assert (view(request) is first) == is_shared
    assert view(replace(request, query="q=x")) is not first


async def test_metrics_may_take_the_place_of_the_landing_page(exporter: Exporter) -> None:
    async with client_of(exporter.app(telemetry_path="/")) as client:
        assert (await client.get("/")).content == b"snapshot\nlive\n"
        assert (await client.get("/metrics")).status_code == 404


class Slow:
    """A response under way that is as far behind as its test says."""

    def __init__(self, in_flight: set[Connection], lag: float = 0.0) -> None:
        self.lag = lag
        self.aborted = False
        self._in_flight = cast("set[Any]", in_flight)
        self._in_flight.add(self)

    def abort(self) -> None:
        self.aborted = True
        self._in_flight.discard(self)


def at_once(view: Handler, path: str = "/metrics") -> Response:
    answer = view(Request("GET", path, ""))
    assert isinstance(answer, Response)
    return answer


def test_the_chunks_are_sent_as_they_are_and_their_head_is_made_once(exporter: Exporter) -> None:
    view = exporter.app()
    first, second = at_once(view), at_once(view)
    assert first is second
    assert first.chunks is exporter.chunks
    exporter.chunks = (b"other\n",)
    assert at_once(view).encode(closing=False, with_body=True)[1:] == [b"other\n"]


def test_scrapes_beyond_the_limit_are_turned_away_at_once(exporter: Exporter) -> None:
    view = exporter.app(max_requests=2)
    in_flight = exporter.in_flight
    slow = [Slow(in_flight, lag=LENIENCE), Slow(in_flight)]
    answer = at_once(view)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert (exporter.rejected, len(exporter.scrapes)) == (1, 0)
    assert at_once(view, "/-/healthy").status == 200
    assert not any(response.aborted for response in slow)
    slow[0].abort()
    assert at_once(view).status == 200
    assert exporter.rejected == 1


def test_a_scrape_beyond_the_limit_evicts_the_slowest_client(exporter: Exporter) -> None:
    view = exporter.app(max_requests=3)
    in_flight = exporter.in_flight
    slow = [Slow(in_flight, lag) for lag in (LENIENCE, 3.0, 2.0)]
    assert at_once(view).status == 200
    assert [response.aborted for response in slow] == [False, True, False]
    assert exporter.rejected == 0


def test_a_limit_of_zero_is_none(exporter: Exporter) -> None:
    view = exporter.app(max_requests=0)
    in_flight = exporter.in_flight
    slow = [Slow(in_flight, lag=9.0) for _ in range(100)]
    assert at_once(view).status == 200
    assert not any(response.aborted for response in slow)


async def test_a_scrape_is_in_flight_until_its_client_has_taken_or_left_it(
    exporter: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.web.views.LENIENCE", 60.0)  # on a busy machine the client lags for longer
    exporter.chunks = (bytes(20_000_000),)
    async with client_of(exporter.app(max_requests=1), in_flight=exporter.in_flight) as client:
        async with client.stream("GET", "/metrics") as first:
            assert first.status_code == 200
            assert (await client.get("/metrics")).status_code == 503
        exporter.chunks = (b"small\n",)
        await until(lambda: True)
        async with client.stream("GET", "/metrics") as second:
            await second.aread()
        assert (await client.get("/metrics")).content == b"small\n"


async def test_a_client_that_leaves_is_no_news(exporter: Exporter, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close() is a reset

    def scrape_as_the_client_leaves(fmt: Format, gzipped: bool) -> Sequence[bytes]:
        client.close()
        return [bytes(20_000_000)]

    app = exporter.app(scrape=scrape_as_the_client_leaves)
    async with WebServer(app, listen("127.0.0.1", 0)) as server:
        client.connect(("127.0.0.1", server.port))
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: client.fileno() == -1 and server.connections == 0)
    assert caplog.records == []


async def test_few_searches_are_answered_at_once_lest_scrapes_wait(
    exporter: Exporter, client: httpx.AsyncClient
) -> None:
    pages = [await client.get("/", params={"q": str(number)}) for number in range(40)]
    refused = [page for page in pages if page.status_code == 503]
    assert [page.status_code for page in pages[:5]] == [200] * 5
    assert refused
    assert all(page.headers["retry-after"] == "1" for page in refused)
    assert [(await client.get(path)).status_code for path in ("/", "/metrics")] == [200, 200]
