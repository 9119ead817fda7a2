"""The pages as an HTTP client sees them."""

import asyncio
import logging
import socket
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp, Message, Scope

from exporter.exposition import Format
from exporter.web.landing import content_security_policy
from exporter.web.pages import create_app
from exporter.web.server import WebServer, listen
from tests.conftest import until
from tests.test_web_landing import OVERVIEW

pytestmark = pytest.mark.anyio


@dataclass
class Exporter:
    """What stands behind the pages: answers as its fields say and remembers what it was asked."""

    pieces: Sequence[bytes] = (b"snapshot\n", b"live\n")
    healthy: bool = True
    ready: bool = True
    scrapes: list[tuple[Format, bool]] = field(default_factory=list)
    overviews: int = 0
    rejected: int = 0

    def app(self, **options: Any) -> ASGIApp:
        settings: dict[str, Any] = {
            "telemetry_path": "/metrics",
            "max_requests": 40,
            "on_rejected": self._reject,
        } | options
        return create_app(
            scrape=self._scrape,
            overview=self._overview,
            is_healthy=lambda: self.healthy,
            is_ready=lambda: self.ready,
            **settings,
        )

    def _scrape(self, fmt: Format, gzipped: bool) -> Sequence[bytes]:
        self.scrapes.append((fmt, gzipped))
        return self.pieces

    def _overview(self) -> Any:
        self.overviews += 1
        return OVERVIEW

    def _reject(self) -> None:
        self.rejected += 1


def client_of(app: ASGIApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://exporter",
        headers={"Accept": "*/*", "Accept-Encoding": "identity"},
    )


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


async def test_a_header_that_comes_in_two_lines_is_read_as_one(
    client: httpx.AsyncClient, exporter: Exporter
) -> None:
    await client.get(
        "/metrics", headers=[("Accept", "text/plain;q=0.1"), ("Accept", "application/openmetrics-text")]
    )
    assert exporter.scrapes == [(Format.OPENMETRICS, False)]


async def test_head_has_the_same_headers_and_no_body(client: httpx.AsyncClient) -> None:
    got, head = await client.get("/metrics"), await client.head("/metrics")
    assert head.headers == got.headers
    assert head.content == b""


@pytest.mark.parametrize("path", ["/", "/-/healthy", "/-/ready"])
async def test_every_page_answers_head(client: httpx.AsyncClient, path: str) -> None:
    head = await client.head(path)
    assert head.status_code == 200
    assert head.content == b""


@pytest.mark.parametrize("path", ["/", "/metrics", "/-/healthy", "/-/ready"])
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
    answer = await client.get(f"http://exporter{path}")
    assert answer.status_code == 404
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert answer.text == "Not Found\n"


@pytest.mark.parametrize("path", ["/", "/metrics", "/-/healthy", "/-/ready"])
async def test_a_query_changes_nothing(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(f"{path}?name=x")).status_code == 200


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


async def test_metrics_may_take_the_place_of_the_landing_page(exporter: Exporter) -> None:
    async with client_of(exporter.app(telemetry_path="/")) as client:
        assert (await client.get("/")).content == b"snapshot\nlive\n"
        assert (await client.get("/metrics")).status_code == 404


class Reader:
    """An ASGI server's side of one scrape, whose client takes no body until `taking` is set."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.messages: list[Message] = []
        self.taking = asyncio.Event()
        self.aborted = False
        self.scope: Scope = {"client": (address, 1), "state": {"abort": self._abort}}

    def _abort(self) -> None:
        self.aborted = True
        self.taking.set()

    async def send(self, message: Message) -> None:
        self.messages.append(message)
        if message["type"] == "http.response.body":
            await self.taking.wait()

    @property
    def status(self) -> int | None:
        return self.messages[0]["status"] if self.messages else None

    async def scrape(self, app: ASGIApp) -> None:
        scope: Scope = {**self.scope, "type": "http", "method": "GET", "path": "/metrics", "headers": []}
        await app(scope, never, self.send)


async def never() -> Message:
    raise AssertionError("a page has no need of the request's body")


async def test_a_large_page_goes_out_in_slices_that_are_views_not_copies(exporter: Exporter) -> None:
    large = bytes(1_000_000)
    exporter.pieces = (large, b"", b"live\n")
    reader = Reader()
    reader.taking.set()
    await reader.scrape(exporter.app())
    bodies = [message["body"] for message in reader.messages[1:]]
    assert max(len(body) for body in bodies) == 256 * 1024
    assert sum(len(body) for body in bodies) == 1_000_005
    assert bodies[0].obj is large
    assert [message["more_body"] for message in reader.messages[1:]] == [True] * (len(bodies) - 1) + [False]


async def test_scrapes_beyond_the_limit_are_turned_away_at_once(exporter: Exporter) -> None:
    app = exporter.app(max_requests=2)
    slow = [Reader(), Reader()]
    async with asyncio.TaskGroup() as group:
        for reader in slow:
            group.create_task(reader.scrape(app))
        await until(lambda: all(len(reader.messages) == 2 for reader in slow))
        async with client_of(app) as client:
            answer = await client.get("/metrics")
            assert answer.status_code == 503
            assert answer.headers["Retry-After"] == "1"
            assert exporter.rejected == 1
            assert len(exporter.scrapes) == 2
            assert (await client.get("/-/healthy")).status_code == 200
            slow[0].taking.set()
            await until(lambda: slow[0].messages[-1].get("more_body") is False)
            assert (await client.get("/metrics")).status_code == 200
        slow[1].taking.set()
    assert exporter.rejected == 1


async def test_a_scrape_gets_the_place_of_one_whose_client_takes_nothing(exporter: Exporter) -> None:
    app = exporter.app(max_requests=1)
    stuck = Reader()
    async with asyncio.TaskGroup() as group:
        group.create_task(stuck.scrape(app))
        await until(lambda: len(stuck.messages) == 2)
        async with client_of(app) as client, asyncio.timeout(10):
            while (await client.get("/metrics")).status_code != 200:  # noqa: ASYNC110 - time makes it so
                await asyncio.sleep(0.05)
    assert stuck.aborted
    assert exporter.rejected > 5, "it was given a second"


async def test_a_scrape_gets_a_place_of_an_address_that_has_many(exporter: Exporter) -> None:
    app = exporter.app(max_requests=3)
    flood = [Reader("192.0.2.1") for _ in range(3)]
    async with asyncio.TaskGroup() as group:
        for reader in flood:
            group.create_task(reader.scrape(app))
        await until(lambda: all(len(reader.messages) == 2 for reader in flood))
        async with client_of(app) as client:
            assert (await client.get("/metrics")).status_code == 200
        assert sum(reader.aborted for reader in flood) == 1
        for reader in flood:
            reader.taking.set()
    assert exporter.rejected == 0


async def test_a_limit_of_zero_is_none(exporter: Exporter) -> None:
    app = exporter.app(max_requests=0)
    readers = [Reader() for _ in range(100)]
    async with asyncio.TaskGroup() as group:
        for reader in readers:
            group.create_task(reader.scrape(app))
        await until(lambda: all(reader.status for reader in readers))
        for reader in readers:
            reader.taking.set()
    assert {reader.status for reader in readers} == {200}


async def test_a_scrape_that_was_cancelled_gives_its_place_back(exporter: Exporter) -> None:
    app = exporter.app(max_requests=1)
    slow = Reader()
    task = asyncio.create_task(slow.scrape(app))
    await until(lambda: len(slow.messages) == 2)
    task.cancel()
    await asyncio.wait({task})
    async with client_of(app) as client:
        assert (await client.get("/metrics")).status_code == 200


def broken(fmt: Format, gzipped: bool) -> Sequence[bytes]:
    raise RuntimeError("the secret of the house")


def app_with(scrape: Callable[[Format, bool], Sequence[bytes]]) -> ASGIApp:
    return create_app(
        scrape=scrape,
        overview=lambda: OVERVIEW,
        is_healthy=lambda: True,
        is_ready=lambda: True,
        telemetry_path="/metrics",
        max_requests=1,
    )


async def test_a_bug_is_logged_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    app = app_with(broken)
    async with (
        WebServer(app, listen("127.0.0.1", 0)) as server,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client,
    ):
        answers = [await client.get("/metrics") for _ in range(2)]
    assert [(answer.status_code, answer.text) for answer in answers] == [(500, "Internal Server Error")] * 2
    assert "the secret of the house" in caplog.text


async def test_a_client_that_leaves_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close() is a reset

    def scrape_as_the_client_leaves(fmt: Format, gzipped: bool) -> Sequence[bytes]:
        client.close()
        return [bytes(20_000_000)]

    app = app_with(scrape_as_the_client_leaves)
    async with WebServer(app, listen("127.0.0.1", 0)) as server:
        client.connect(("127.0.0.1", server.port))
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: client.fileno() == -1 and server.connections == 0)
    assert caplog.records == []
