"""Connections to the API that can be renewed while requests are in flight.

A pool is renewed when certificates have changed. One through a proxy is also renewed when a request fails
before it is answered: httpcore counts a tunnel whose TLS handshake failed, or was given up, as in use for
ever, and after as many as may be open at once every request would wait in vain. Requests in flight end over
the pool that they began with, which is then closed.
"""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

import httpx

from exporter.cohere.client_tls import TlsContexts
from exporter.cohere.connection_errors import causes_of


@dataclass(slots=True)
class _Pool:
    transport: httpx.AsyncBaseTransport
    context: ssl.SSLContext
    users: int = 0


class RenewedPool(httpx.AsyncBaseTransport):
    """Requests over one pool of connections, until that must be renewed; then over the next."""

    def __init__(
        self,
        open_pool: Callable[[ssl.SSLContext], httpx.AsyncBaseTransport],
        tls: TlsContexts,
        *,
        renewed_on_failure: bool,
    ) -> None:
        self._open_pool = open_pool
        self._tls = tls
        self._renewed_on_failure = renewed_on_failure
        self._pool = self._open()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request."""
        try:
            return await self._send(request)
        except httpx.ConnectError as error:
            refused = [cause for cause in causes_of(error) if isinstance(cause, ssl.SSLCertVerificationError)]
            if not any(map(self._tls.tolerates, refused)):
                raise
        return await self._send(request)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._pool.transport.aclose()

    async def _send(self, request: httpx.Request) -> httpx.Response:
        if self._tls.current() is not self._pool.context:
            await self._renew()
        pool = self._pool
        pool.users += 1
        try:
            response = await pool.transport.handle_async_request(request)
        except BaseException:
            pool.users -= 1
            if self._renewed_on_failure and pool is self._pool:
                await self._renew()
            await self._close_if_left(pool)
            raise
        response.stream = _Body(cast("httpx.AsyncByteStream", response.stream), partial(self._leave, pool))
        return response

    def _open(self) -> _Pool:
        context = self._tls.current()
        return _Pool(self._open_pool(context), context)

    async def _renew(self) -> None:
        before, self._pool = self._pool, self._open()
        await self._close_if_left(before)

    async def _leave(self, pool: _Pool) -> None:
        pool.users -= 1
        await self._close_if_left(pool)

    async def _close_if_left(self, pool: _Pool) -> None:
        if pool is not self._pool and not pool.users:
            await pool.transport.aclose()


class _Body(httpx.AsyncByteStream):
    """A body that reports when it is closed."""

    def __init__(self, body: httpx.AsyncByteStream, on_close: Callable[[], Awaitable[None]]) -> None:
        self._body = body
        self._on_close = on_close

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._body:
            yield chunk

    async def aclose(self) -> None:
        try:
            await self._body.aclose()
        finally:
            await self._on_close()
