"""Connections that are renewed while requests are in flight; pools stand in for httpx's."""

import asyncio
import ssl
from pathlib import Path
from typing import cast

import httpx
import pytest

from exporter.cohere.client_tls import TlsContexts, TlsFiles
from exporter.cohere.pool import RenewedPool
from exporter.runtime.reload import ReadFile

pytestmark = pytest.mark.anyio

REQUEST = httpx.Request("GET", "https://api.test/")


class Pool(httpx.AsyncBaseTransport):
    """Responds, or fails as it is told to."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        self.errors: list[BaseException] = []
        self.asked = 0
        self.closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        assert not self.closed
        if self.errors:
            raise self.errors.pop(0)
        return httpx.Response(200, stream=httpx.ByteStream(b"good"))

    async def aclose(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def _in_a_directory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class File:
    """A part of a context: a file that says nothing, and more of that with each change."""

    name = "ca"

    def __init__(self) -> None:
        self.change()

    def change(self) -> None:
        with Path("ca.pem").open("a") as stream:
            stream.write("#")

    def load(self, context: ssl.SSLContext, read: ReadFile) -> None:
        read(Path("ca.pem"))


class World:
    """A renewed pool over pools that are remembered in their order."""

    def __init__(self, *, renewed_on_failure: bool = True) -> None:
        self.pools: list[Pool] = []
        self.file = File()
        self.tls = TlsContexts([cast("TlsFiles", self.file)], on_reload=lambda *_: None)
        self.renewed = RenewedPool(self._open, self.tls, renewed_on_failure=renewed_on_failure)

    def _open(self, context: ssl.SSLContext) -> Pool:
        self.pools.append(Pool(context))
        return self.pools[-1]

    async def ask(self) -> httpx.Response:
        return await self.renewed.handle_async_request(REQUEST)

    @property
    def asked(self) -> list[int]:
        return [pool.asked for pool in self.pools]

    @property
    def closed(self) -> list[bool]:
        return [pool.closed for pool in self.pools]


async def read(response: httpx.Response) -> bytes:
    body = b"".join([chunk async for chunk in response.aiter_raw()])
    await response.aclose()
    return body


def refused(code: int) -> httpx.ConnectError:
    """Return what httpx raises for a certificate that OpenSSL refuses with `code`."""
    cause = ssl.SSLCertVerificationError()
    cause.verify_code, cause.verify_message = code, "a flaw"
    error = httpx.ConnectError("refused")
    error.__cause__ = cause
    return error


async def test_good_requests_share_one_pool() -> None:
    world = World()
    for _ in range(3):
        assert await read(await world.ask()) == b"good"
    assert world.asked == [3]
    await world.renewed.aclose()
    assert world.closed == [True]


@pytest.mark.parametrize("error", [httpx.ConnectError("TLS"), asyncio.CancelledError()])
async def test_a_failure_through_a_proxy_is_passed_on_and_its_pool_is_closed(error: BaseException) -> None:
    world = World()
    world.pools[0].errors = [error]
    with pytest.raises(type(error)):
        await world.ask()
    assert world.closed == [True, False]
    assert await read(await world.ask()) == b"good"
    assert world.asked == [1, 1]


async def test_a_failure_without_a_proxy_closes_nothing() -> None:
    world = World(renewed_on_failure=False)
    world.pools[0].errors = [httpx.ReadError("")]
    with pytest.raises(httpx.ReadError):
        await world.ask()
    assert await read(await world.ask()) == b"good"
    assert world.asked == [2]


async def test_requests_in_flight_end_before_their_pool_is_closed() -> None:
    world = World()
    slow = await world.ask()
    world.pools[0].errors = [httpx.ConnectError("TLS")]
    with pytest.raises(httpx.ConnectError):
        await world.ask()
    assert world.closed == [False, False]
    assert await read(slow) == b"good"
    assert world.closed == [True, False]


async def test_a_file_that_changes_renews_the_pool_and_drops_no_request_in_flight() -> None:
    world = World(renewed_on_failure=False)
    slow = await world.ask()
    world.file.change()
    assert await read(await world.ask()) == b"good"
    assert world.asked == [1, 1]
    assert world.pools[0].context is not world.pools[1].context
    assert world.closed == [False, False]
    assert await read(slow) == b"good"
    assert world.closed == [True, False]


async def test_a_flaw_for_purists_is_tolerated_from_then_on() -> None:
    world = World(renewed_on_failure=False)
    world.pools[0].errors = [refused(85)]
    assert await read(await world.ask()) == b"good"
    assert world.asked == [2]
    assert not world.tls.current().verify_flags & ssl.VERIFY_X509_STRICT
    world.file.change()
    await read(await world.ask())
    assert world.tls.current().verify_flags & ssl.VERIFY_X509_STRICT, "other files, another judgement"


@pytest.mark.parametrize("code", [10, 18, 20, 62])
async def test_a_certificate_that_is_not_trusted_is_not_tried_again(code: int) -> None:
    world = World(renewed_on_failure=False)
    world.pools[0].errors = [refused(code)]
    with pytest.raises(httpx.ConnectError):
        await world.ask()
    assert world.asked == [1]


async def test_a_flaw_that_is_not_tolerable_in_the_end_is_an_error() -> None:
    world = World(renewed_on_failure=False)
    world.pools[0].errors = [refused(79), refused(79)]
    with pytest.raises(httpx.ConnectError):
        await world.ask()
    assert world.asked == [2]
