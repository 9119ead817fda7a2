"""Ways through a proxy that do not wear out.

httpcore counts a tunnel whose TLS handshake failed, or was given up, as in use for ever; after as many as may
be open at once, every request waits in vain. So once a request fails before it is answered, no other is sent
over the connections of that time: those under way end in peace, and then all of them are closed.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import httpx


class Client(httpx.AsyncClient):
    """httpx's client, with `Tunnels` wherever the environment names a proxy."""

    def _init_proxy_transport(self, *args: Any, **kwargs: Any) -> httpx.AsyncBaseTransport:
        return Tunnels(partial(super()._init_proxy_transport, *args, **kwargs))


@dataclass(slots=True)
class _Pool:
    transport: httpx.AsyncBaseTransport
    users: int = 0


class Tunnels(httpx.AsyncBaseTransport):
    """Requests over one pool of connections, until one fails; then over the next that `open_pool` gives."""

    def __init__(self, open_pool: Callable[[], httpx.AsyncBaseTransport]) -> None:
        self._open_pool = open_pool
        self._pool = _Pool(open_pool())

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request."""
        pool = self._pool
        pool.users += 1
        try:
            response = await pool.transport.handle_async_request(request)
        except BaseException:
            if pool is self._pool:
                self._pool = _Pool(self._open_pool())
            await self._leave(pool)
            raise
        response.stream = _Held(cast("httpx.AsyncByteStream", response.stream), partial(self._leave, pool))
        return response

    async def aclose(self) -> None:
        """Close the connections."""
        await self._pool.transport.aclose()

    async def _leave(self, pool: _Pool) -> None:
        pool.users -= 1
        if pool is not self._pool and not pool.users:
            await pool.transport.aclose()


class _Held(httpx.AsyncByteStream):
    """A body that tells when it is done with."""

    def __init__(self, body: httpx.AsyncByteStream, done: Callable[[], Awaitable[None]]) -> None:
        self._body = body
        self._done = done

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._body:
            yield chunk

    async def aclose(self) -> None:
        try:
            await self._body.aclose()
        finally:
            await self._done()
