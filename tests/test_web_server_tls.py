"""TLS over real sockets: who is let in, and what slow and broken clients cost the others."""

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from exporter.web.config_schema import TlsConfig
from exporter.web.connection import Handler
from exporter.web.limits import Limits
from exporter.web.messages import Request, Response
from exporter.web.server import WebServer, listen
from exporter.web.tls import Tls, open_tls
from tests.certificates import Authority
from tests.conftest import settle, until
from tests.test_web_server import GET, Connection, connected, echo, large

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

VERIFY = "RequireAndVerifyClientCert"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    authority = Authority(tmp_path)
    authority.issue("server", "localhost", "127.0.0.1")
    authority.issue("client", "prometheus")
    return authority


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    """A CA that the server does not know."""
    (tmp_path / "stranger").mkdir()
    stranger = Authority(tmp_path / "stranger")
    stranger.issue("client", "prometheus")
    return stranger


def pair(authority: Authority, name: str) -> tuple[Path, Path]:
    return authority.directory / f"{name}.pem", authority.directory / f"{name}.key"


def tls(authority: Authority, **options: object) -> Tls:
    certificate, key = pair(authority, "server")
    return open_tls(TlsConfig.model_validate({"cert_file": certificate, "key_file": key, **options}))


@asynccontextmanager
async def serving(
    how: Tls | Callable[[], Tls], handler: Handler = echo, *, grace: float = 2.0, **limits: Any
) -> AsyncIterator[WebServer]:
    asked = (lambda: how) if isinstance(how, Tls) else how
    listener = listen("127.0.0.1", 0)
    async with WebServer(handler, listener, limits=Limits(**limits), grace=grace, tls=asked) as server:
        yield server


@asynccontextmanager
async def encrypted(server: WebServer, context: ssl.SSLContext) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", server.port, ssl=context, server_hostname="localhost", limit=65536
    )
    try:
        yield Connection(reader, writer)
    finally:
        writer.transport.abort()


async def get(server: WebServer, context: ssl.SSLContext, path: str = "/here") -> str:
    async with httpx.AsyncClient(verify=context, trust_env=False) as client:
        return (await client.get(f"https://127.0.0.1:{server.port}{path}")).text


async def is_refused(server: WebServer, context: ssl.SSLContext) -> bool:
    """Return whether a client gets no answer; in TLS 1.3 it is told only after its own handshake."""
    try:
        await get(server, context)
    except (httpx.TransportError, ssl.SSLError):
        return True
    return False


# Who is let in


async def test_a_client_that_trusts_the_ca_is_served_and_speaks_http_1_1(authority: Authority) -> None:
    async with serving(tls(authority)) as server:
        context = authority.trusting()
        context.set_alpn_protocols(["h2", "http/1.1"])
        assert await get(server, context) == "/here"
        async with encrypted(server, context) as client:
            ssl_object = client._writer.get_extra_info("ssl_object")
            assert (ssl_object.version(), ssl_object.selected_alpn_protocol()) == ("TLSv1.3", "http/1.1")


@pytest.mark.parametrize(
    ("options", "client", "let_in"),
    [
        ({}, None, True),
        ({"client_auth_type": "RequestClientCert"}, None, True),
        ({"client_auth_type": "RequestClientCert"}, "stranger", True),
        ({"client_auth_type": VERIFY}, "client", True),
        ({"client_auth_type": VERIFY}, None, False),
        ({"client_auth_type": VERIFY}, "stranger", False),
        ({"client_auth_type": "VerifyClientCertIfGiven"}, None, True),
        ({"client_auth_type": "VerifyClientCertIfGiven"}, "client", True),
        ({"client_auth_type": "VerifyClientCertIfGiven"}, "stranger", False),
        ({"client_auth_type": VERIFY, "client_allowed_sans": ["prometheus"]}, "client", True),
        ({"client_auth_type": VERIFY, "client_allowed_sans": ["other"]}, "client", False),
        ({"client_auth_type": "VerifyClientCertIfGiven", "client_allowed_sans": ["prometheus"]}, None, False),
    ],
)
async def test_who_is_let_in_by_a_certificate(
    authority: Authority,
    stranger: Authority,
    options: dict[str, Any],
    client: str | None,
    let_in: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    served = []

    def counting(request: Request) -> Response | Awaitable[Response]:
        served.append(request.path)
        return echo(request)

    ca = (
        {}
        if options.get("client_auth_type", "NoClientCert") == "NoClientCert"
        else {"client_ca_file": authority.file}
    )
    own = {"client": pair(authority, "client"), "stranger": pair(stranger, "client"), None: None}[client]
    context = authority.trusting(own)
    async with serving(tls(authority, **options, **ca), counting) as server:
        # Only from TLS 1.3 on a client may send its request before it knows whether it is let in.
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.maximum_version = version
            context.minimum_version = version
            assert await is_refused(server, context) is not let_in
        await until(lambda: server.connections == 0)
    assert len(served) == 2 * let_in
    assert not [record for record in caplog.records if record.name != "httpx"]


async def test_a_client_s_own_certificate_may_be_the_ca_as_in_go(authority: Authority) -> None:
    how = tls(authority, client_auth_type=VERIFY, client_ca_file=pair(authority, "client")[0])
    async with serving(how) as server:
        assert await get(server, authority.trusting(pair(authority, "client"))) == "/here"


@pytest.mark.parametrize(
    ("options", "client", "let_in"),
    [
        ({"min_version": "TLS13"}, ssl.TLSVersion.TLSv1_2, False),
        ({"max_version": "TLS12"}, ssl.TLSVersion.TLSv1_2, True),
        ({"max_version": "TLS12"}, ssl.TLSVersion.TLSv1_3, False),
        ({"min_version": "TLS10"}, ssl.TLSVersion.TLSv1_2, True),
        ({"cipher_suites": ["TLS_AES_128_GCM_SHA256"]}, ssl.TLSVersion.TLSv1_2, False),
        ({"cipher_suites": ["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]}, ssl.TLSVersion.TLSv1_2, True),
        ({"cipher_suites": ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]}, ssl.TLSVersion.TLSv1_2, False),
    ],
)
async def test_versions_and_suites_are_kept_to(
    authority: Authority, options: dict[str, Any], client: ssl.TLSVersion, let_in: bool
) -> None:
    context = authority.trusting()
    context.minimum_version = context.maximum_version = client
    async with serving(tls(authority, **options)) as server:
        assert await is_refused(server, context) is not let_in


@pytest.mark.parametrize(("server_first", "chosen"), [(True, "AES256"), (False, "AES128")])
async def test_the_order_of_suites_is_the_server_s_or_the_client_s(
    authority: Authority, server_first: bool, chosen: str
) -> None:
    names = ["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]
    how = tls(authority, cipher_suites=names, prefer_server_cipher_suites=server_first)
    context = authority.trusting()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")
    async with serving(how) as server, encrypted(server, context) as client:
        assert chosen in client._writer.get_extra_info("cipher")[0]


@pytest.mark.parametrize(("curve", "let_in"), [("prime256v1", False), ("secp384r1", True)])
async def test_the_curve_is_kept_to(authority: Authority, curve: str, let_in: bool) -> None:
    context = authority.trusting()
    context.set_ecdh_curve(curve)
    async with serving(tls(authority, curve_preferences=["CurveP384", "CurveP256"])) as server:
        assert await is_refused(server, context) is not let_in


async def test_a_new_certificate_serves_new_connections_and_old_ones_go_on(authority: Authority) -> None:
    current = [tls(authority)]
    async with serving(lambda: current[0]) as server, encrypted(server, authority.trusting()) as old:
        authority.issue("server", "renewed.example", "127.0.0.1", "localhost")
        current[0] = tls(authority)
        async with encrypted(server, authority.trusting()) as new:
            names = new._writer.get_extra_info("peercert")["subjectAltName"]
        assert ("DNS", "renewed.example") in names
        await old.send(GET)
        assert await old.read_until(b"\r\n\r\n/")


async def test_who_speaks_plain_http_even_in_pieces_is_told_so(authority: Authority) -> None:
    async with serving(tls(authority)) as server, connected(server) as client:
        await until(lambda: server.connections == 1)
        await client.send(GET[:2])
        await settle()  # the server has read it
        await client.send(GET[2:])
        assert b"Client sent an HTTP request to an HTTPS server." in await client.read_all()


@pytest.mark.parametrize(
    ("version", "alert"),
    [
        (ssl.TLSVersion.TLSv1_3, "TLSV13_ALERT_CERTIFICATE_REQUIRED"),
        (ssl.TLSVersion.TLSv1_2, "SSLV3_ALERT_HANDSHAKE_FAILURE"),
    ],
)
async def test_a_client_without_a_certificate_is_told_what_is_missing(
    authority: Authority, version: ssl.TLSVersion, alert: str
) -> None:
    how = tls(authority, client_auth_type=VERIFY, client_ca_file=authority.file)
    context = authority.trusting()
    context.maximum_version = version
    async with serving(how) as server:
        with pytest.raises(ssl.SSLError) as refused:
            await asyncio.to_thread(talk, server, context, b"")
        await until(lambda: server.connections == 0)
    assert refused.value.reason == alert


async def test_an_expired_client_certificate_does_not_come_in_by_an_old_session(authority: Authority) -> None:
    expiry = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=4)
    own = authority.issue("short", "prometheus", expiry=expiry)
    clients = []
    async with serving(tls(authority, client_auth_type=VERIFY, client_ca_file=authority.file)) as server:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = authority.trusting(own)
            context.maximum_version = version
            _, first = await asyncio.to_thread(talk, server, context, GET)
            answer, session = await asyncio.to_thread(talk, server, context, GET, first)
            assert answer.startswith(b"HTTP/1.1 200")
            clients.append((context, session))
        await until(lambda: datetime.now(UTC) > expiry + timedelta(seconds=1))
        for context, session in clients:
            with suppress(ConnectionError):
                answer, _ = await asyncio.to_thread(talk, server, context, GET, session)
                assert answer == b""


def talk(
    server: WebServer, context: ssl.SSLContext, request: bytes, session: ssl.SSLSession | None = None
) -> tuple[bytes, ssl.SSLSession | None]:
    """Send something, over an old session if given; return the answer and the session to go on with."""
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=60) as sock,
        context.wrap_socket(sock, server_hostname="localhost", session=session) as client,
    ):
        assert client.session_reused is (session is not None)
        client.sendall(request)
        return client.recv(1_000), client.session


# Slow handshakes


async def test_a_handshake_that_does_not_come_is_ended(authority: Authority) -> None:
    async with serving(tls(authority), handshake_seconds=0.2) as server, connected(server) as client:
        await until(lambda: server.connections == 1)
        assert await client.read_all() == b""
        await until(lambda: server.connections == 0)


async def test_a_handshake_in_drops_does_not_move_the_deadline(authority: Authority) -> None:
    async with serving(tls(authority), handshake_seconds=0.3) as server, connected(server) as client:
        dripping = asyncio.create_task(
            client.drip(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 500)
        )
        assert await client.read_all() == b""
        dripping.cancel()
        await asyncio.wait({dripping})


async def test_more_slow_handshakes_than_connections_leave_a_scraper_served(authority: Authority) -> None:
    async with (
        serving(tls(authority), connections=100, handshake_seconds=99) as server,
        AsyncExitStack() as stack,
    ):
        slow = [await stack.enter_async_context(connected(server)) for _ in range(250)]
        await until(lambda: server.connections == 100)
        assert await slow[0].read_all() == b""
        assert await get(server, authority.trusting()) == "/here"
        assert server.connections <= 100


async def test_a_tls_connection_costs_little_memory(authority: Authority) -> None:
    async with serving(tls(authority)) as server, AsyncExitStack() as stack:
        await get(server, authority.trusting())
        before = resident()
        for _ in range(100):
            raw = await stack.enter_async_context(connected(server))
            await shake_hands(raw, authority.trusting())
        assert server.connections == 100
        assert resident() - before < 100 * 200  # KiB; the client's side is here too


def resident() -> int:
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0])


async def test_connections_are_taken_one_by_one_so_that_the_caps_count_in_time(
    authority: Authority,
) -> None:
    how = tls(authority)
    at_once: list[int] = [0]  # how many were taken in each turn of the event loop

    def counting() -> Tls:
        if not at_once[-1]:
            asyncio.get_running_loop().call_soon(at_once.append, 0)
        at_once[-1] += 1
        return how

    async with serving(counting) as server, AsyncExitStack() as stack:
        for _ in range(400):  # they wait in the kernel for as long as this test does not await anything
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", server.port))
        await until(lambda: server.connections > 50)
    assert max(at_once) <= 2


async def test_stop_does_not_wait_for_a_handshake(authority: Authority) -> None:
    before = asyncio.all_tasks()
    async with (
        serving(tls(authority), grace=99, handshake_seconds=99) as server,
        connected(server) as client,
    ):
        await until(lambda: server.connections == 1)
        async with asyncio.timeout(60):
            await server.stop()
            assert await client.read_all() == b""
    await until(lambda: asyncio.all_tasks() == before)


# The limits of plain connections hold


async def test_a_silent_connection_is_closed(authority: Authority) -> None:
    async with (
        serving(tls(authority), head_seconds=0.2) as server,
        encrypted(server, authority.trusting()) as client,
    ):
        assert await client.read_all() == b""
        await until(lambda: server.connections == 0)


async def shake_hands(raw: Connection, context: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.MemoryBIO]:
    """Shake hands by hand; return the client, and what it has to send still: the end of its handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    while True:
        try:
            client.do_handshake()
        except ssl.SSLWantReadError:
            await raw.send(outgoing.read())
            incoming.write(await asyncio.wait_for(raw._reader.read(65536), 60))
        else:
            return client, outgoing


async def test_a_client_that_says_goodbye_and_takes_nothing_is_dropped_all_the_same(
    authority: Authority,
) -> None:
    async with (
        serving(tls(authority), stall_seconds=0.5) as server,
        connected(server, receive_buffer=4096) as raw,
    ):
        client, outgoing = await shake_hands(raw, authority.trusting())
        client.write(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        await raw.send(outgoing.read())
        await raw.read(1)
        with suppress(ssl.SSLError):
            client.unwrap()
        await raw.send(outgoing.read())
        await until(lambda: server.connections == 0)


async def test_stop_drops_a_client_that_leaves_the_rest_of_its_answer(authority: Authority) -> None:
    before = asyncio.all_tasks()
    async with (
        serving(tls(authority), grace=0.2) as server,
        encrypted(server, authority.trusting()) as stuck,
    ):
        stuck._writer.transport.pause_reading()  # type: ignore[attr-defined]
        await stuck.send(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        await until(lambda: server.connections == 1)
        await asyncio.wait_for(server.stop(), 5)
        await until(lambda: server.connections == 0, 3)
    await until(lambda: asyncio.all_tasks() == before)


async def test_a_request_sent_along_with_the_handshake_is_not_served_to_a_stranger(
    authority: Authority,
) -> None:
    served = []

    def counting(request: Request) -> Response | Awaitable[Response]:
        served.append(request.path)
        return echo(request)

    for names, count in ((["prometheus"], 1), (["other"], 0)):
        served.clear()
        how = tls(
            authority, client_auth_type=VERIFY, client_ca_file=authority.file, client_allowed_sans=names
        )
        async with serving(how, counting) as server, connected(server) as raw:
            client, outgoing = await shake_hands(raw, authority.trusting(pair(authority, "client")))
            client.write(GET[:-2] + b"Connection: close\r\n\r\n")
            await raw.send(outgoing.read())
            if count:
                await until(lambda: bool(served))
            else:
                await raw.read_all()
                assert not served


async def test_a_client_that_leaves_in_the_middle_of_an_answer_is_worth_no_line(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with serving(tls(authority), large) as server:
        for _ in range(5):
            async with encrypted(server, authority.trusting()) as client:
                await client.send(GET)
                await client.read(1_000)
        await until(lambda: server.connections == 0)
    assert caplog.records == []


NONSENSE = (
    b"",
    b"\x16\x03\x01",  # a record cut short
    b"\x16\x09\x09\x00\x02\x01\x00",  # of an unknown version
    b"\x16\x03\x01\xff\xff" + b"x" * 70_000,  # a giant one
    bytes(1_000),
    b"SSH-2.0-OpenSSH_9.2\r\n",
)


async def test_nonsense_ends_the_connection_without_a_word_in_the_log(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with serving(tls(authority)) as server:
        for data in NONSENSE:
            async with connected(server) as client:
                with suppress(ConnectionError):
                    await client.send(data)
                    client._writer.write_eof()
                await client.read_all()
            await until(lambda: server.connections == 0)
    assert caplog.records == []


async def test_what_a_client_says_within_tls_after_nonsense_is_not_served(authority: Authority) -> None:
    async with serving(tls(authority)) as server, encrypted(server, authority.trusting()) as client:
        await client.send(GET)
        assert await client.read_until(b"\r\n\r\n/")
        raw = client._writer.get_extra_info("socket").dup()
        raw.send(b"nonsense")
        raw.close()
        await until(lambda: server.connections == 0)
