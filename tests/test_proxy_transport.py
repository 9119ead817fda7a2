"""Connections through a proxy that are left behind after a failure: pools stand in for httpcore's."""

import asyncio

import httpx
import pytest

from exporter.cohere.proxy_transport import Client, Tunnels

pytestmark = pytest.mark.anyio

REQUEST = httpx.Request("GET", "https://api.test/")


class Body(httpx.AsyncByteStream):
    """A body of one piece."""

    async def __aiter__(self):  # type: ignore[no-untyped-def] # as httpx has it
        yield b"good"


class Pool(httpx.AsyncBaseTransport):
    """Answers, or fails as it is told to."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.asked = 0
        self.closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        assert not self.closed
        if self.error:
            raise self.error
        return httpx.Response(200, stream=Body())

    async def aclose(self) -> None:
        self.closed = True


class World:
    """Tunnels over pools that are remembered in their order."""

    def __init__(self) -> None:
        self.pools: list[Pool] = []
        self.tunnels = Tunnels(self._open)

    def _open(self) -> Pool:
        self.pools.append(Pool())
        return self.pools[-1]


async def read(response: httpx.Response) -> bytes:
    body = b"".join([chunk async for chunk in response.aiter_raw()])
    await response.aclose()
    return body


async def test_good_requests_share_one_pool() -> None:
    world = World()
    for _ in range(3):
        assert await read(await world.tunnels.handle_async_request(REQUEST)) == b"good"
    assert [pool.asked for pool in world.pools] == [3]
    await world.tunnels.aclose()
    assert world.pools[0].closed


@pytest.mark.parametrize("error", [httpx.ConnectError("TLS"), asyncio.CancelledError()])
async def test_a_failure_is_passed_on_and_its_pool_is_closed(error: BaseException) -> None:
    world = World()
    world.pools[0].error = error
    with pytest.raises(type(error)):
        await world.tunnels.handle_async_request(REQUEST)
    assert [pool.closed for pool in world.pools] == [True, False]
    assert await read(await world.tunnels.handle_async_request(REQUEST)) == b"good"
    assert [pool.asked for pool in world.pools] == [1, 1]


async def test_answers_under_way_end_in_peace_before_their_pool_is_closed() -> None:
    world = World()
    slow = await world.tunnels.handle_async_request(REQUEST)
    world.pools[0].error = httpx.ConnectError("TLS")
    with pytest.raises(httpx.ConnectError):
        await world.tunnels.handle_async_request(REQUEST)
    assert not world.pools[0].closed
    assert await read(slow) == b"good"
    assert [pool.closed for pool in world.pools] == [True, False]


async def test_the_client_uses_them_where_the_environment_names_a_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    async with Client() as client:
        assert isinstance(client._transport_for_url(httpx.URL("https://api.test/")), Tunnels)
