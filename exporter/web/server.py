"""uvicorn inside a running event loop: one ASGI application on one listening socket.

Signals stay the application's, nothing is imported or configured by name, and what a client does is not
logged; what goes wrong in the ASGI application is, by the logger `uvicorn.error`.
"""

import asyncio
import logging
import math
import os
import socket
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Self, cast

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from exporter.web.encryption import Connector
from exporter.web.limits import Crowd, LimitedProtocol, Limits
from exporter.web.tls import Tls

_UNSENT = 256 * 1024  # bytes


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket; a `host` of "" or "::" is every address, IPv6 and IPv4.

    Raises OSError, which names the address, when it cannot be had.
    """
    try:
        if host in ("", "::") and socket.has_dualstack_ipv6():
            listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
        else:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            listener = socket.create_server((host, port), family=family)
    except OSError as error:
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        raise OSError(error.errno, f"cannot listen on {where}: {_reason(error)}") from None
    # Connections inherit it. asyncio sets it only where a socket names its protocol, which these do not, and
    # without it an answer of several small writes waits 40 ms for the client's acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # The kernel would take 4 MB for a client that reads nothing, and charge them to the container.
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)
    return listener


def _reason(error: OSError) -> str:
    # Python puts the address into strerror, which is named already; resolvers have numbers of their own.
    if error.errno and error.errno > 0:
        return os.strerror(error.errno)
    return str(error.strerror).partition(" (while ")[0]


class WebServer:
    """A server that takes over a listening socket and runs between `start` and `stop`, or as a context.

    `grace` is how many seconds `stop` leaves to the answers under way; `tls` is asked at each new connection
    how to encrypt it.
    """

    def __init__(
        self,
        app: ASGIApp,
        listener: socket.socket,
        *,
        limits: Limits | None = None,
        grace: float = 2.0,
        tls: Callable[[], Tls] | None = None,
    ) -> None:
        self._listener = listener
        self._grace = grace
        self._limits = limits = limits or Limits()
        self._crowd = crowd = Crowd()
        protocol = (
            Connector(tls, limits, crowd) if tls else partial(LimitedProtocol, limits=limits, crowd=crowd)
        )
        self._server = uvicorn.Server(_config(app, limits, protocol))
        self._ticking: asyncio.Task[None] | None = None
        self.port: int = listener.getsockname()[1]

    @property
    def connections(self) -> int:
        """How many connections are open, those in their handshake included."""
        return len(self._server.server_state.connections) + len(self._crowd.handshakes)

    async def start(self) -> None:
        """Begin to serve; raises OSError when the socket cannot listen."""
        # The steps of uvicorn's own serve(), which would also put handlers on the process's signals.
        self._server.config.load()
        self._server.lifespan = self._server.config.lifespan_class(self._server.config)
        await self._server.startup(sockets=[self._listener])
        # asyncio makes the kernel queue no more connections than it takes in one go. To who finds the queue
        # full, the kernel says nothing, and tries again a second later.
        self._listener.listen(self._limits.connections)
        self._ticking = asyncio.create_task(self._server.main_loop(), name="web server")

    async def stop(self) -> None:
        """Stop listening, let the answers under way end within the grace, then drop what is left."""
        if self._ticking is None:
            self._listener.close()
            return
        # What asyncio is just taking when its server closes, it forgets unclosed. So it takes no more now.
        if not self._server.should_exit:  # stopping twice does no harm
            asyncio.get_running_loop().remove_reader(self._listener)
        self._server.should_exit = True
        await self._ticking
        self._drop_handshakes()
        try:
            async with asyncio.timeout(self._grace):
                await self._server.shutdown(sockets=[self._listener])
        except TimeoutError:
            await self._drop()
        self._drop_handshakes()  # those that began just before nobody listened any more

    async def _drop(self) -> None:
        state = self._server.server_state
        self._drop_handshakes()
        for connection in list(state.connections):
            cast("LimitedProtocol", connection).abort()
        await asyncio.sleep(0)  # lets each answer see that its client is gone, before it is cancelled
        for task in state.tasks:
            task.cancel()
        if state.tasks:
            await asyncio.wait(state.tasks, timeout=self._grace)

    def _drop_handshakes(self) -> None:
        for handshake in list(self._crowd.handshakes):
            handshake.give_way()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()


def _config(app: ASGIApp, limits: Limits, protocol: Callable[..., asyncio.BaseProtocol]) -> uvicorn.Config:
    return uvicorn.Config(
        cast("Any", _ending_quietly(app)),
        http=cast("Any", protocol),
        h11_max_incomplete_event_size=limits.head_bytes,
        timeout_keep_alive=math.ceil(limits.head_seconds),
        interface="asgi3",
        ws="none",
        lifespan="off",
        # asyncio takes as many connections in one go. Each costs its buffers before a cap can count it, and
        # when there are no files left, asyncio logs a line and sets a timer for each.
        backlog=1,
        workers=1,  # else the environment would be asked
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
        log_level=logging.ERROR,  # below that, uvicorn writes a line for each bad request
    )


def _ending_quietly(app: ASGIApp) -> ASGIApp:
    """Keep uvicorn from logging it as an error of the application that `stop` cancelled it."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except asyncio.CancelledError:
            return

    return wrapped
