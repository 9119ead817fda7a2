"""A network that misleads, breaks and is rebuilt: redirects, TLS, names, proxies, connections that go stale.

Each test lives through the row of the table that names it. The network is the loopback device and real
sockets; only what the system's resolver says is made up.
"""

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from tests.hostile import faults
from tests.hostile.network import (
    HOST,
    PROXY_PASSWORD,
    Handler,
    NamedServer,
    Proxy,
    Resolver,
    black_hole,
    certified,
    listening,
    port_of_all,
    says,
)
from tests.hostile.scenarios import Scenario, scenario
from tests.hostile.server import Exchange, Fault, FaultServer, Place
from tests.hostile.stage import HURRIED, on_stage
from tests.hostile.witness import Witness
from tests.programs import missing

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

DAY = timedelta(days=1)


@pytest.fixture
def row(request: pytest.FixtureRequest) -> Scenario:
    return scenario(request.node.originalname)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(autouse=True)
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """Return the authority that the environment names."""
    file = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(file)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    return authority


@pytest.fixture
def port() -> Iterator[int]:
    with port_of_all() as port:
        yield port


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    resolver = Resolver(monkeypatch)
    yield resolver
    if resolver.hangs:
        resolver.hangs.set()


async def parting(exchange: Exchange) -> None:
    """Answer well, and say that the connection ends with it."""
    await faults.says(200, Connection="close")(exchange)
    exchange.keeps_alive = False


async def leaving(exchange: Exchange) -> None:
    """Answer well, and close the connection without a word."""
    await exchange.answer(exchange.body)
    exchange.keeps_alive = False


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take everything and say nothing."""
    while await reader.read(65_536):
        pass


# Redirects.


async def test_a_redirect_is_never_followed(row: Scenario) -> None:
    connections = 0

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1

    async with FaultServer() as server, on_stage(server) as stage, listening(count) as elsewhere:
        witness = await Witness.of(stage, row)
        away = f"http://user:secret-of-the-redirect@127.0.0.1:{elsewhere}/v1?token=secret-of-the-redirect"
        targets = {301: away, 302: away, 303: away, 307: server.url, 308: away, 300: None}
        for status, target in targets.items():
            headers = {"Location": target} if target else {}
            server.faults[Place.LIST] = faults.says(status, b"", **headers)
            server.requests.clear()
            assert (await stage.poll()).reason == "invalid_response"
            assert server.requests == [Place.LIST], "neither followed nor tried again"
            await witness.look(check=status == 308)
        assert connections == 0
        assert "secret-of-the-redirect" not in "\n".join(witness.seen)
        await server.heal()
        await witness.recovers()


# TLS.


async def test_a_certificate_that_cannot_be_trusted_is_told_for_what_it_is(
    trusted: trustme.CA, row: Scenario
) -> None:
    now, here = datetime.now(UTC), "127.0.0.1"
    bad = {
        "it has expired": certified(trusted, here, until=now - DAY),
        "it is not valid yet": certified(trusted, here, since=now + DAY, until=now + 2 * DAY),
        "it is for another address": certified(trusted, "127.0.0.2"),
        "it is for a name": certified(trusted, "api.example.test"),
        "it is from an authority nobody knows": certified(trustme.CA(), here),
    }
    async with FaultServer(tls=certified(trusted, here)) as server, on_stage(server) as stage:
        witness = await Witness.of(stage, row)
        for context in bad.values():
            await server.refuse(Place.LIST)
            server.tls = context
            await server.heal()
            outcome = await witness.fails("connection")
            for noise in ("SSL", "_ssl.c", "CERTIFICATE", "verify failed"):
                assert noise not in outcome.message.replace("SSL_CERT_FILE", "")
            await server.refuse(Place.LIST)
            server.tls = certified(trusted, here)
            await server.heal()
            await witness.works()
        await witness.recovers()


ALERT = b"\x15\x03\x03\x00\x02\x02"  # a record with a fatal alert, but for its number
NO_TLS: tuple[tuple[str, bytes], ...] = (
    ("it speaks HTTP", b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
    ("it speaks old TLS", ALERT + b"\x46"),
    ("it wants a client certificate", ALERT + b"\x74"),
    ("it has an internal error", ALERT + b"\x50"),
    ("it leaves", b""),
    ("it leaves in the middle", b"\x16\x03\x03\x00\x50\x02\x00\x00"),
)


async def test_a_handshake_that_fails_is_told_in_words(trusted: trustme.CA, row: Scenario) -> None:
    async with FaultServer(tls=certified(trusted, "127.0.0.1")) as server, on_stage(server) as stage:
        witness = await Witness.of(stage, row)
        await server.refuse(Place.LIST)
        for _, answer in NO_TLS:
            async with listening(says(answer), server.port):
                outcome = await stage.poll()
                await witness.look(check=False)
                assert outcome.reason == "connection"
                assert "_ssl.c" not in outcome.message
        await witness.look()
        await server.heal()
        await witness.recovers()


async def test_a_handshake_that_hangs_ends_by_the_deadline(trusted: trustme.CA, row: Scenario) -> None:
    tls = certified(trusted, "127.0.0.1")
    async with FaultServer(tls=tls) as server, on_stage(server, "--cohere.timeout=500ms") as stage:
        witness = await Witness.of(stage, row)
        await server.refuse(Place.LIST)
        async with listening(hang, server.port):
            await witness.fails("timeout", check=False)
        await server.heal()
        await witness.recovers()


async def test_http_where_tls_is_spoken_is_told_in_words(trusted: trustme.CA, row: Scenario) -> None:
    async with FaultServer() as server, on_stage(server) as stage:
        witness = await Witness.of(stage, row)
        await server.refuse(Place.LIST)
        server.tls = certified(trusted, "127.0.0.1")
        await server.heal()
        await witness.fails("connection")
        await server.refuse(Place.LIST)
        server.tls = None
        await server.heal()
        await witness.recovers()


# Names and addresses.


@pytest.mark.parametrize("old", ["refuses", "resets", "hangs"])
async def test_an_api_that_moves_is_found_at_its_new_address(
    old: str, resolver: Resolver, port: int, row: Scenario
) -> None:
    async with (
        NamedServer(port=port) as before,
        NamedServer(address="127.0.0.2", port=before.port) as after,
        on_stage(before, "--cohere.timeout=500ms") as stage,
    ):
        witness = await Witness.of(stage, row)
        if old == "refuses":
            await before.refuse(Place.LIST)
        fault = faults.resets_before_the_head if old == "resets" else faults.never_answers
        before.faults = dict.fromkeys(Place, fault)
        resolver.addresses = ["127.0.0.2"]
        await witness.works()
        assert witness.told() == []
        assert set(after.requests) == set(Place)
        await witness.recovers()


async def test_an_address_that_becomes_a_black_hole_costs_what_its_name_takes_to_move(
    resolver: Resolver, port: int, row: Scenario
) -> None:
    async with NamedServer(port=port) as before, on_stage(before, HURRIED) as stage:
        witness = await Witness.of(stage, row)
        await before.refuse(Place.LIST)
        with black_hole("127.0.0.1", before.port):
            await witness.fails("timeout", check=False)
            async with NamedServer(address="127.0.0.2", port=before.port):
                resolver.addresses = ["127.0.0.2"]
                await witness.recovers()


async def test_a_name_that_cannot_be_looked_up_fails_the_poll_and_no_more(
    resolver: Resolver, port: int, row: Scenario
) -> None:
    async with NamedServer(port=port) as server, on_stage(server) as stage:
        server.faults = dict.fromkeys(Place, parting)
        witness = await Witness.of(stage, row)
        resolver.error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        await witness.fails("connection")
        resolver.error = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        await witness.fails("connection")
        resolver.error, resolver.addresses = None, ["127.0.0.3", "127.0.0.4"]
        await witness.fails("connection")
        resolver.addresses = ["127.0.0.1"]
        await witness.recovers()


async def test_a_resolver_that_hangs_holds_up_neither_deadline_nor_pages(
    resolver: Resolver, port: int, row: Scenario
) -> None:
    async with NamedServer(port=port) as server, on_stage(server, HURRIED) as stage:
        server.faults = dict.fromkeys(Place, parting)
        witness = await Witness.of(stage, row)
        resolver.hangs = hangs = threading.Event()
        resolver.threads.clear()
        for _ in range(2):
            await witness.fails("timeout", check=False)
        assert len(resolver.threads) <= (os.cpu_count() or 1) + 4, "asyncio's own bound"
        resolver.hangs = None
        hangs.set()
        await witness.recovers()


async def test_an_address_that_is_dead_is_passed_over(resolver: Resolver, port: int, row: Scenario) -> None:
    async with NamedServer(port=port) as server, on_stage(server) as stage:
        server.faults = dict.fromkeys(Place, parting)
        witness = await Witness.of(stage, row)
        resolver.addresses = ["127.0.0.3", "127.0.0.1"]
        await witness.works()
        assert witness.told() == []
        with black_hole("127.0.0.3", server.port):
            await witness.works()
            assert witness.told() == []
        await witness.recovers()


async def test_an_api_on_ipv6_alone_is_reached(resolver: Resolver, row: Scenario) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        missing("this machine has no IPv6")
    resolver.addresses = ["::1"]
    async with NamedServer(address="::1") as server, on_stage(server) as stage:
        witness = await Witness.of(stage, row)
        await witness.works()
        await witness.recovers()


# Proxies.


async def test_a_proxy_that_fails_is_told_with_its_address_and_without_its_password(
    trusted: trustme.CA, port: int, row: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = "HTTP/1.1 {} no: " + PROXY_PASSWORD + "\r\nContent-Length: 0\r\n\r\n"
    answers: tuple[Handler, ...] = (
        says(refused.format(403).encode()),
        says(refused.format(407).encode()),
        says(PROXY_PASSWORD.encode() + b"\r\n\r\n"),
        says(b""),
    )
    async with NamedServer(tls=certified(trusted, HOST)) as server:
        server.faults = dict.fromkeys(Place, parting)
        proxy = Proxy(server.port)
        monkeypatch.setenv("HTTPS_PROXY", f"http://somebody:{PROXY_PASSWORD}@127.0.0.1:{port}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        async with on_stage(server) as stage:
            async with listening(proxy, port):
                witness = await Witness.of(stage, row)
                assert proxy.asked, "the proxy was passed by"
                for answer in answers:
                    proxy.answer = answer
                    outcome = await witness.fails("connection")
                    assert f"through the proxy 127.0.0.1:{port}: " in outcome.message
                    assert "The proxy is set by HTTPS_PROXY" in (outcome.advice or "")
                    proxy.answer = None
                    await witness.works()
            await witness.fails("connection")
            assert PROXY_PASSWORD not in "\n".join(witness.seen)
            async with listening(proxy, port):
                await witness.recovers()


async def test_a_handshake_that_fails_behind_a_proxy_leaves_room_for_the_next(
    trusted: trustme.CA, row: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        NamedServer(tls=certified(trusted, HOST)) as server,
        FaultServer(tls=certified(trusted, "127.0.0.2")) as stranger,
        listening(says(b"")) as leaving_port,
        listening(hang) as hanging_port,
    ):
        server.faults = dict.fromkeys(Place, parting)
        proxy = Proxy(server.port)
        async with listening(proxy) as port:
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
            monkeypatch.delenv("NO_PROXY", raising=False)
            async with on_stage(server, "--cohere.timeout=500ms", "--cohere.concurrency=1") as stage:
                witness = await Witness.of(stage, row)
                for behind in (stranger.port, leaving_port, hanging_port):
                    proxy.port = behind
                    await witness.fails("timeout" if behind == hanging_port else "connection", check=False)
                    proxy.port = server.port
                    await witness.works()
                await witness.recovers()


# Connections that are kept.


@pytest.mark.parametrize("fault", [leaving, parting, faults.sends_more_than_it_announces])
async def test_connections_that_end_after_each_answer_cost_nothing(fault: Fault, row: Scenario) -> None:
    async with FaultServer() as server, on_stage(server) as stage:
        server.faults = dict.fromkeys(Place, fault)
        witness = await Witness.of(stage, row)
        for _ in range(3):
            await witness.works()
            assert witness.told() == []
        await server.heal()
        await witness.recovers()


async def test_a_kept_connection_that_dies_under_a_request_is_replaced(row: Scenario) -> None:
    async with FaultServer() as server, on_stage(server) as stage:
        witness = await Witness.of(stage, row)
        for die in (faults.closes_before_the_head, faults.resets_before_the_head):

            async def once(exchange: Exchange, die: Fault = die) -> None:
                server.faults.clear()
                await die(exchange)

            server.faults[Place.LIST] = once
            await witness.works()
            assert witness.told() == []
        await witness.recovers()


async def test_deadlines_that_pass_in_every_phase_leak_no_connection(row: Scenario) -> None:
    async with FaultServer() as server, on_stage(server, HURRIED, "--cohere.concurrency=1") as stage:
        witness = await Witness.of(stage, row)
        for fault in (faults.never_answers, faults.drips_the_body):
            server.faults[Place.LATER_PAGE] = fault
            await witness.fails("timeout", check=False)
        await server.heal()
        await witness.recovers()
