"""The server over real sockets: well-behaved clients, slow ones and bad ones."""

import asyncio
import errno
import logging
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from exporter.web.connection import Handler
from exporter.web.limits import STALLED, Limits
from exporter.web.messages import Request, Response
from exporter.web.server import WebServer, listen
from tests.clients import plain_client
from tests.conftest import settle, until
from tests.hostile.network import HOST, Resolver
from tests.programs import missing

pytestmark = pytest.mark.anyio

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = bytes(20_000_000)


def echo(request: Request) -> Response | Awaitable[Response]:
    """Answer with the path; `/large` with 20 MB, `/bug` not at all, `/slow` only in a minute."""
    if request.path == "/bug":
        raise RuntimeError("a bug")
    if request.path == "/slow":
        return after(60, request)
    return Response(200, {}, (LARGE if request.path == "/large" else request.path.encode(),))


class Noting:
    """Answers with the path, and notes it when it is asked."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    def __call__(self, request: Request) -> Response | Awaitable[Response]:
        self.paths.append(request.path)
        return echo(request)


async def after(seconds: float, request: Request) -> Response:
    await asyncio.sleep(seconds)
    if request.path == "/bug":
        raise RuntimeError("a bug")
    return Response(200, {}, (request.path.encode(),))


@asynccontextmanager
async def serving(handler: Handler = echo, *, grace: float = 2.0, **limits: Any) -> AsyncIterator[WebServer]:
    async with WebServer(
        handler, listen("127.0.0.1", 0), limits=Limits(**{"linger_seconds": 0.3, **limits}), grace=grace
    ) as server:
        yield server


class Connection:
    """A client that does as it is told, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def read_until(self, end: bytes) -> bytes:
        async with asyncio.timeout(10):
            return await self._reader.readuntil(end)

    async def read(self, count: int) -> bytes:
        async with asyncio.timeout(10):
            return await self._reader.readexactly(count)

    async def read_all(self) -> bytes:
        """Return what comes until the server ends the connection, politely or not."""
        received = bytearray()
        async with asyncio.timeout(10):
            with suppress(ConnectionError):
                while piece := await self._reader.read(65536):
                    received += piece
        return bytes(received)

    async def drip(self, data: bytes) -> None:
        """Send byte after byte until the connection breaks."""
        with suppress(ConnectionError):
            for byte in data:
                await self.send(bytes([byte]))
                await asyncio.sleep(0.02)


@asynccontextmanager
async def connected(server: WebServer, *, receive_buffer: int | None = None) -> AsyncIterator[Connection]:
    sock = socket.socket()
    sock.setblocking(False)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", server.port))
    # A limit this low makes asyncio stop reading as soon as something has come.
    reader, writer = await asyncio.open_connection(sock=sock, limit=65536)
    try:
        yield Connection(reader, writer)
    finally:
        writer.transport.abort()


def skip(seconds: float) -> None:
    """Let so many seconds pass at once for all that the event loop times."""
    loop = asyncio.get_running_loop()
    now = loop.time
    loop.time = lambda: now() + seconds  # type: ignore[method-assign]


async def dripped_on(server: WebServer, head: bytes, drops: bytes) -> bytes:
    """Return what a client receives that sends a head at once and the rest in drops, for ever if it may."""
    async with connected(server) as client:
        await client.send(head)
        dripping = asyncio.create_task(client.drip(drops))
        received = await client.read_all()
        dripping.cancel()
        await asyncio.wait({dripping})
        return received


# Slow clients


async def test_a_silent_connection_is_closed() -> None:
    async with serving(head_seconds=0.2) as server, connected(server) as client:
        assert await client.read_all() == b""


async def test_a_connection_idle_after_its_answer_is_closed() -> None:
    async with serving(idle_seconds=0.2) as server, connected(server) as client:
        await client.send(GET)
        assert (await client.read_all()).endswith(b"\r\n\r\n/")


async def test_a_head_in_drops_does_not_move_the_deadline() -> None:
    async with serving(head_seconds=0.3) as server:
        assert await dripped_on(server, b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: ", b"x" * 1_000) == b""


async def test_a_body_in_drops_after_the_answer_does_not_either() -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
    async with serving(linger_seconds=0.3) as server:
        assert (await dripped_on(server, head, b"x" * 1_000)).endswith(b"\r\n\r\n/")


async def test_each_head_has_as_long_as_the_first_and_no_longer() -> None:
    async with serving(head_seconds=9) as server, connected(server) as client:
        for _ in range(3):
            await client.send(GET[:20])
            await settle()
            skip(5)
            await client.send(GET[20:])
            await client.read_until(b"\r\n\r\n/")
        await client.send(GET[:20])
        await settle()
        skip(10)
        assert await client.read_all() == b""


async def test_an_answer_may_take_longer_than_a_head() -> None:
    async with (
        serving(lambda request: after(0.4, request), head_seconds=0.1) as server,
        connected(server) as client,
    ):
        await client.send(GET)
        assert await client.read_until(b"\r\n\r\n/")


def large(request: Request) -> Response:
    """Answer with 20 MB in chunks."""
    return Response(200, {}, [LARGE[:50_000]] * 400)


async def test_a_client_that_does_not_read_is_dropped_while_others_are_served() -> None:
    async with (
        serving(large, stall_seconds=0.5, head_seconds=60) as server,
        connected(server, receive_buffer=4096) as stuck,
    ):
        await stuck.send(GET)
        await until(lambda: server.connections == 1)
        async with connected(server) as good:
            await good.send(GET[:-2] + b"Connection: close\r\n\r\n")
            assert (await good.read_all()).endswith(bytes(1_000))
        await until(lambda: server.connections == 0)
        assert len(await stuck.read_all()) < len(LARGE)


async def test_a_client_that_leaves_the_rest_of_its_last_answer_is_dropped() -> None:
    async with (
        serving(stall_seconds=0.3) as server,
        connected(server, receive_buffer=4096) as stuck,
    ):
        await stuck.send(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        await until(lambda: server.connections == 1)
        await until(lambda: server.connections == 0)
        with pytest.raises(ConnectionResetError):  # what the kernel still had to send is dropped too
            await stuck.read(len(LARGE))


async def test_a_client_that_reads_slowly_but_steadily_gets_everything() -> None:
    async with serving(large, stall_seconds=9) as server, connected(server) as client:
        await client.send(GET)
        await client.read_until(b"\r\n\r\n")
        for _ in range(10):
            assert len(await client.read(2_000_000)) == 2_000_000
            skip(5)


async def test_an_answer_that_is_taken_too_slowly_as_a_whole_is_ended() -> None:
    async with (
        serving(large, stall_seconds=60, response_seconds=99) as server,
        connected(server, receive_buffer=4096) as client,
    ):
        await client.send(GET)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            for _ in range(199):  # never still for long enough to be called stalled
                await client.read(100_000)
                skip(1)
            pytest.fail("it was not ended")
        await until(lambda: server.connections == 0)


async def test_a_client_that_has_stopped_writing_is_answered_all_the_same() -> None:
    async with serving(large) as server, connected(server) as client:
        await client.send(GET)
        client._writer.write_eof()
        assert (await client.read_all()).endswith(LARGE[:1_000])
        await until(lambda: server.connections == 0)


async def test_a_client_that_stops_writing_within_its_head_is_let_go() -> None:
    async with serving() as server, connected(server) as client:
        await client.send(GET[:-2])
        client._writer.write_eof()
        assert await client.read_all() == b""
        await until(lambda: server.connections == 0)


async def test_a_client_that_took_everything_may_come_again_later() -> None:
    async with serving(large, stall_seconds=5) as server, connected(server) as client:
        for _ in range(2):
            await client.send(GET)
            await client.read_until(b"\r\n\r\n")
            assert len(await client.read(len(LARGE))) == len(LARGE)
            skip(9)


# Too many, too much, and nonsense


def asking(path: bytes) -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path


async def test_of_too_many_connections_the_one_that_has_waited_longest_for_a_request_gives_way() -> None:
    async with serving(connections=2) as server, connected(server) as first, connected(server) as second:
        for client in (first, second, first):  # so the second has waited longest
            await client.send(GET)
            await client.read_until(b"\r\n\r\n/")
        async with connected(server) as third:
            assert await second.read_all() == b""
            for client in (first, third):
                await client.send(GET)
                assert await client.read_until(b"\r\n\r\n/")
            assert server.connections == 2


async def test_a_head_in_drops_is_no_request_and_gives_way() -> None:
    async with serving(connections=2) as server, connected(server) as loris, connected(server):
        await loris.send(GET[:-2])
        await until(lambda: server.connections == 2)
        await loris.send(b"X: y\r\n")
        async with connected(server):
            assert await loris.read_all() == b""


async def test_connections_that_are_being_answered_do_not_give_way() -> None:
    asked = Noting()
    async with (
        serving(asked, connections=2, grace=0.1) as server,
        connected(server) as first,
        connected(server) as second,
    ):
        for client in (first, second):
            await client.send(asking(b"/slow"))
        await until(lambda: len(asked.paths) == 2)
        async with connected(server) as third:
            assert await third.read_all() == b""
        assert server.connections == 2


async def test_connections_whose_clients_do_not_take_their_answers_give_way() -> None:
    async with (
        serving(large, connections=20, grace=0.1) as server,
        AsyncExitStack() as stack,
    ):
        for _ in range(20):
            stuck = await stack.enter_async_context(connected(server, receive_buffer=4096))
            await stuck.send(GET)
        await until(lambda: len(server.in_flight) == 20)
        skip(STALLED + 0.1)
        async with connected(server) as good:
            await good.send(GET)
            await good.read_until(b"\r\n\r\n")
            assert len(await good.read(len(LARGE))) == len(LARGE)
        assert server.connections <= 20


async def test_slow_loris_by_the_hundred_lock_nobody_out() -> None:
    async with serving(connections=50) as server, AsyncExitStack() as stack:
        for _ in range(300):
            loris = await stack.enter_async_context(connected(server))
            await loris.send(GET[:-2])
        async with connected(server) as good:
            await good.send(GET)
            assert await good.read_until(b"\r\n\r\n/")
        assert server.connections <= 50


async def test_an_unfinished_head_may_have_so_many_bytes_and_no_more() -> None:
    async with serving(head_bytes=2_000) as server:
        async with connected(server) as client:
            await client.send(GET[:-2] + b"X: " + b"x" * 1_000)
            await client.send(b"\r\n\r\n")
            assert (await client.read_until(b"\r\n\r\n/")).startswith(b"HTTP/1.1 200")
        async with connected(server) as client:
            await client.send(GET[:-2] + b"X: " + b"x" * 2_000)
            assert (await client.read_all()).startswith(b"HTTP/1.1 431")


BAD_REQUESTS = {
    "a giant header": b"GET / HTTP/1.1\r\nX: " + b"x" * 200_000,
    "many headers": b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 50_000,
    "a giant path": b"GET /" + b"x" * 200_000,
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "a bad length": b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "two lengths": b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "another version": b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "no target": b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "blank lines": b"\r\n" * 20_000,
}


@pytest.mark.parametrize("request_bytes", BAD_REQUESTS.values(), ids=BAD_REQUESTS)
async def test_a_bad_request_is_ended_without_a_word_in_the_log(
    request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with serving() as server:
        async with connected(server) as client:
            with suppress(ConnectionError):
                await client.send(request_bytes)
            received = await client.read_all()
        await until(lambda: server.connections == 0)
    assert received.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 "))
    assert caplog.records == []


@pytest.mark.parametrize(
    "rest", [b"nonsense\r\n", b"0\r\n\r\n" + GET, b"x" * 500_000], ids=["nonsense", "more", "much"]
)
async def test_a_body_that_nobody_asked_for_is_not_read_and_ends_the_connection(
    rest: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with serving() as server:
        async with connected(server) as client:
            await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            with suppress(ConnectionError):
                await client.send(rest)
            answer = await client.read_all()
        await until(lambda: server.connections == 0)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nConnection: close\r\n" in answer
    assert answer.endswith(b"\r\n\r\n/")
    assert caplog.records == []


async def test_whoever_waits_for_a_continue_is_answered_at_once() -> None:
    async with serving() as server, connected(server) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n")
        assert (await client.read_all()).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/a?b=/c", b"/a"),
        (b"http://exporter/a?b", b"/a"),
        (b"http://exporter", b"/"),
        (b"/%61", b"/a"),
        (b"//a", b"//a"),
        (b"*", b"*"),
    ],
)
async def test_every_form_of_target_is_understood(target: bytes, path: bytes) -> None:
    async with serving() as server, connected(server) as client:
        await client.send(asking(target)[:-2] + b"Connection: close\r\n\r\n")
        assert (await client.read_all()).endswith(b"\r\n\r\n" + path)


async def test_an_upgrade_is_not_taken_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serving() as server, connected(server) as client:
        await client.send(GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert (await client.read_until(b"\r\n\r\n/")).startswith(b"HTTP/1.1 200")
    assert caplog.records == []


# The protocol


async def test_an_answer_has_a_date_and_no_server() -> None:
    async with serving() as server, plain_client() as client:
        answer = await client.get(f"http://127.0.0.1:{server.port}/")
    assert "Date" in answer.headers
    assert "Server" not in answer.headers


async def test_http_1_0_gets_its_answer_and_the_end_of_the_connection() -> None:
    async with serving() as server, connected(server) as client:
        await client.send(b"GET /old HTTP/1.0\r\n\r\n")
        assert (await client.read_all()).endswith(b"\r\n\r\n/old")


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with serving() as server, connected(server) as client:
        await client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % i for i in range(3)))
        for i in range(3):
            assert (await client.read_until(b"\r\n\r\n/%d" % i)).count(b"HTTP/1.1 200") == 1


async def test_of_thousands_of_pipelined_requests_few_are_read_ahead() -> None:
    asked = Noting()
    async with serving(asked, grace=0.1) as server, connected(server) as client:
        sending = asyncio.create_task(client.send(asking(b"/slow") + GET * 200_000))
        await until(lambda: bool(asked.paths))
        await asyncio.wait({sending}, timeout=0.2)
        assert not sending.done()  # the client waits: the kernel's buffers are full
        assert asked.paths == ["/slow"]
        sending.cancel()
        await asyncio.wait({sending})


async def test_requests_sent_ahead_are_served_in_turn_with_those_of_others() -> None:
    served = []

    def counting(request: Request) -> Response:
        served.append(request.path)
        return Response(200, {})

    async with serving(counting) as server, connected(server) as greedy, connected(server) as modest:
        await greedy.send(asking(b"/greedy") * 400)
        await modest.send(asking(b"/modest"))
        await modest.read_until(b"\r\n\r\n")
        assert served.index("/modest") < 50


async def test_head_has_the_length_and_no_body() -> None:
    async with serving() as server, connected(server) as client:
        await client.send(b"HEAD /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = await client.read_all()
    assert b"Content-Length: 20000000\r\n" in received
    assert received.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("handler", [echo, lambda request: after(0, request)])
async def test_an_error_of_the_handler_is_logged(handler: Handler, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(handler) as server, plain_client() as client:
        answer = await client.get(f"http://127.0.0.1:{server.port}/bug")
    assert answer.status_code == 500
    assert "RuntimeError: a bug" in caplog.text


# Its life


async def test_stop_lets_an_answer_under_way_end() -> None:
    going = asyncio.Event()

    def thinking(request: Request) -> Awaitable[Response]:
        going.set()
        return after(0.3, request)

    async with serving(thinking, linger_seconds=0.1) as server, connected(server) as client:
        await client.send(GET)
        await going.wait()
        await server.stop()
        assert (await client.read_all()).endswith(b"\r\n\r\n/")


@pytest.mark.parametrize("path", [b"/large", b"/slow"])
async def test_stop_waits_no_longer_than_its_grace_and_leaves_nothing(
    path: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    before = asyncio.all_tasks()
    server = WebServer(echo, listen("127.0.0.1", 0), grace=0.2)
    await server.start()
    async with connected(server, receive_buffer=4096) as slow, connected(server):
        await slow.send(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path)
        await until(lambda: server.connections == 2)
        async with asyncio.timeout(5):
            await server.stop()
        assert server.connections == 0
    await until(lambda: asyncio.all_tasks() == before)
    assert caplog.records == []


async def test_after_stop_nobody_listens() -> None:
    async with serving() as server:
        pass
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", server.port)


async def test_a_server_that_was_never_started_can_be_stopped() -> None:
    listener = listen("127.0.0.1", 0)
    await WebServer(echo, listener).stop()
    assert listener.fileno() == -1


async def test_signals_stay_as_they_are() -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    async with serving():
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


async def test_two_servers_live_side_by_side() -> None:
    async with serving() as one, serving() as other, plain_client() as client:
        for server in (one, other):
            assert (await client.get(f"http://127.0.0.1:{server.port}/here")).text == "/here"


# Listening


def reachable(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=60).close()
    except OSError:
        return False
    return True


async def test_no_host_means_every_address() -> None:
    with listen("", 0) as listener:
        port = listener.getsockname()[1]
        assert reachable("127.0.0.1", port)
        assert reachable("::1", port) or listener.family == socket.AF_INET


async def test_without_ipv6_no_host_means_every_ipv4_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with listen("", 0) as listener:
        assert listener.family == socket.AF_INET
        assert listener.getsockname()[0] == "0.0.0.0"


async def test_a_host_is_one_address() -> None:
    with listen("127.0.0.1", 0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)


async def test_an_ipv6_address_is_one_address() -> None:
    if not socket.has_dualstack_ipv6():
        missing("this machine has no IPv6")
    with listen("::1", 0) as listener:
        assert listener.getsockname()[0] == "::1"


async def test_an_address_in_use_is_named() -> None:
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}: ") as caught:
            listen("127.0.0.1", port)
    assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize(("addresses", "taken"), [(["::1"], "::1"), (["::1", "127.0.0.1"], "127.0.0.1")])
async def test_a_name_may_have_addresses_of_ipv6_only(
    addresses: list[str], taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not socket.has_dualstack_ipv6():
        missing("this machine has no IPv6")
    Resolver(monkeypatch).addresses = addresses
    with listen(HOST, 0) as listener:
        assert listener.getsockname()[0] == taken
        assert reachable(taken, listener.getsockname()[1])


async def test_a_host_that_cannot_be_found_is_named() -> None:
    with pytest.raises(OSError, match=r"cannot listen on nowhere\.invalid:80"):
        listen("nowhere.invalid", 80)


def test_small_writes_are_sent_at_once() -> None:
    with (
        listen("127.0.0.1", 0) as listener,
        socket.create_connection(listener.getsockname()[:2]),
        listener.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_the_kernel_holds_little_for_many_clients_that_take_nothing() -> None:
    async with serving(large, grace=0.1) as server, AsyncExitStack() as stack:
        for number in range(1, 13):
            client = await stack.enter_async_context(connected(server, receive_buffer=4096))
            await client.send(GET)
            await until(lambda: len(server.in_flight) == number)  # noqa: B023 - awaited here
        held = held_by_the_kernel(server.port)
        assert len(held) == 12
        assert held[7] < 1_000_000


def held_by_the_kernel(port: int) -> list[int]:
    """Return the bytes of each connection that the server has given away and its client has not taken."""
    held: Counter[str] = Counter()
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        _, here, there, state, queues, *_ = line.split()
        sending, receiving = (int(queue, 16) for queue in queues.split(":"))
        if state == "01" and here.endswith(f":{port:04X}"):
            held[there] += sending
        elif state == "01" and there.endswith(f":{port:04X}"):
            held[here] += receiving
    return sorted(held.values())


async def test_hundreds_may_come_at_once_and_none_is_ignored() -> None:
    async with serving() as server:
        with ExitStack() as stack:  # they wait in the kernel for as long as this test does not await anything
            for _ in range(300):
                address = ("127.0.0.1", server.port)
                stack.enter_context(socket.create_connection(address, timeout=0.5))
            await until(lambda: server.connections == 300)
