"""TLS on a connection, within the limits of the server.

Every connection counts from the moment it is opened, its handshake included. When there are too many
handshakes, the one that lasts longest gives way, and when there are too many connections, the one that has
waited longest for its client, each of the address that has most: a scraper needs milliseconds for either.
asyncio's own TLS protocol does the work; its buffers, made for few and fast connections, are kept small here.
What a client does wrong ends its connection and is worth no line in the log.
"""

import asyncio
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from exporter.web.limits import Crowd, LimitedProtocol, Limits, address_of
from exporter.web.tls import Tls

_READ = 4 * 1024  # bytes; requests are small
_UNREAD = 16 * 1024
_UNSENT = 64 * 1024  # as without TLS

_SAY_TLS = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"


class Connector:
    """Makes the protocol of each new connection: `tls` says how it is to be encrypted."""

    def __init__(self, tls: Callable[[], Tls], limits: Limits, crowd: Crowd) -> None:
        self._tls = tls
        self._limits = limits
        self._crowd = crowd

    def __call__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> asyncio.BaseProtocol:
        """Make it, as uvicorn asks for it."""
        tls, limits, crowd = self._tls(), self._limits, self._crowd
        inner = _Inside(config, server_state, app_state, _loop, tls=tls, limits=limits, crowd=crowd)
        return _Outside(inner, tls=tls, limits=limits, crowd=crowd)


class _Inside(LimitedProtocol):
    """HTTP within TLS: begins when the handshake is done, and only for clients that may come in."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None,
        *,
        tls: Tls,
        limits: Limits,
        crowd: Crowd,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop, limits=limits, crowd=crowd)
        self._tls = tls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Take the connection of a client that has shown itself."""
        super().connection_made(transport)
        # Each of hundreds of connections may fill them.
        transport.set_write_buffer_limits(high=_UNSENT)
        transport.set_read_buffer_limits(high=_UNREAD)  # type: ignore[attr-defined]
        if not self._tls.admits(transport.get_extra_info("peercert")):
            # TLS's own abort: it also drops what the client has sent along with its handshake.
            transport.abort()


class _Outside(SSLProtocol):
    """TLS over TCP."""

    max_size = _READ

    def __init__(self, inner: _Inside, *, tls: Tls, limits: Limits, crowd: Crowd) -> None:
        super().__init__(
            inner.loop,
            inner,
            tls.context,
            None,  # type: ignore[arg-type] # nobody waits for the handshake
            server_side=True,
            ssl_handshake_timeout=limits.handshake_seconds,  # type: ignore[arg-type] # any number does
            ssl_shutdown_timeout=limits.stall_seconds,
        )
        self.address = ""
        self._inner = inner
        self._limits = limits
        self._waiting = crowd.waiting
        self._handshakes = crowd.handshakes
        self._raw: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # a TCP connection's
        """Begin the handshake, at the cost of the slowest client when there are too many."""
        self._raw = self._inner.carrier = transport
        self.address = address_of(transport)
        self._handshakes.add(self)
        super().connection_made(transport)
        shaking, limits = len(self._handshakes), self._limits
        is_full = shaking + len(self._inner.connections) > limits.connections
        if is_full and self._waiting and shaking <= limits.handshakes:
            self._waiting.first_of_most().give_way()
        elif is_full or shaking > limits.handshakes:
            self._handshakes.first_of_most().give_way()

    def give_way(self) -> None:
        """End the handshake."""
        self._handshakes.discard(self)
        if self._raw is not None:
            self._raw.abort()

    def _on_handshake_complete(self, handshake_exc: BaseException | None) -> None:
        """Tell a client why it may not come in: asyncio would drop TLS's alert."""
        self._handshakes.discard(self)
        if handshake_exc is not None and self._raw is not None:
            self._process_outgoing()  # type: ignore[attr-defined] # typeshed does not know it
            if getattr(handshake_exc, "reason", None) == "HTTP_REQUEST":
                self._raw.write(_SAY_TLS)  # as Go does
        super()._on_handshake_complete(handshake_exc)

    def resume_writing(self) -> None:
        """Go on sending, a moment later."""
        # While TCP tells that there is room, asyncio cannot stand a write that fails: it ends the connection
        # twice, and logs that the second time there was none.
        self._ssl_writing_paused = False
        self._inner.loop.call_soon(self._send_on)

    def _send_on(self) -> None:
        if not self._inner.is_lost:
            self._process_outgoing()  # type: ignore[attr-defined] # typeshed does not know it

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection; HTTP is told of it only a turn later."""
        self._inner.is_lost = True
        self._handshakes.discard(self)
        super().connection_lost(exc)
