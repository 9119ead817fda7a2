"""The web server: takes connections from listening sockets, within its limits, and stops in order.

It runs in the event loop of whoever starts it; signals stay the application's. One handler answers every
request. When there are too many connections, the one whose client has been silent longest is evicted, never
one that is being served.
"""

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Self

from exporter.web.channel import Channel, EncryptedChannel
from exporter.web.connection import Connection, Handler
from exporter.web.limits import Limits
from exporter.web.tls import Tls

_PAUSE = 0.1  # seconds before connections are accepted again where no descriptors were left
_SWEEP = 0.25  # seconds between looks for connections that are past their deadline
_STALLED = 30_000  # milliseconds without an acknowledgement or any room, after which the kernel gives up


class WebServer:
    """A server that takes over listening sockets and runs between `start` and `stop`, or as a context.

    `in_flight` has the connections whose clients have not yet taken all of a response; `grace` is how many
    seconds `stop` leaves to the responses under way; `tls` returns how to encrypt a new connection.
    """

    def __init__(
        self,
        handler: Handler,
        *listeners: socket.socket,
        limits: Limits | None = None,
        in_flight: set[Connection] | None = None,
        grace: float = 2.0,
        tls: Callable[[], Tls] | None = None,
    ) -> None:
        self.handler = handler
        self.limits = limits or Limits()
        self.in_flight = set[Connection]() if in_flight is None else in_flight
        self.is_stopping = False
        self.port: int = listeners[0].getsockname()[1] if listeners else 0
        self._listeners = listeners
        self._grace = grace
        self._tls = tls
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._all_closed = asyncio.Event()
        self._queued: deque[Callable[[], None]] = deque()
        self._sweeping: asyncio.TimerHandle | None = None

    @property
    def connections(self) -> int:
        """How many connections are open, those in their handshake included."""
        return len(self._connections)

    async def start(self) -> None:
        """Begin to serve; raise OSError when a socket cannot listen."""
        for listener in self._listeners:
            listener.setblocking(False)
            # To who finds the queue full, the kernel says nothing, and tries again a second later.
            listener.listen(self.limits.connections)
            self._listen_to(listener)

    async def stop(self) -> None:
        """Stop listening, let the responses under way end within the grace, then drop what is left."""
        self.is_stopping = True
        for listener in self._listeners:
            if listener.fileno() >= 0:
                asyncio.get_running_loop().remove_reader(listener)
                listener.close()
        for connection in list(self._connections):
            connection.finish()
        try:
            async with asyncio.timeout(self._grace):
                while self._connections:
                    self._all_closed.clear()
                    await self._all_closed.wait()
        except TimeoutError:
            for connection in list(self._connections):
                connection.abort()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def forget(self, connection: Connection) -> None:
        """Forget a closed connection."""
        self._connections.discard(connection)
        if not self._connections:
            self._all_closed.set()

    def queue(self, answer: Callable[[], None]) -> None:
        """Call `answer` later; of all that are queued, one in each turn of the event loop."""
        self._queued.append(answer)
        if len(self._queued) == 1:
            asyncio.get_running_loop().call_soon(self._answer_queued)

    def _answer_queued(self) -> None:
        answer = self._queued.popleft()
        if self._queued:
            asyncio.get_running_loop().call_soon(self._answer_queued)
        answer()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a task, and cancel it when the server stops."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _listen_to(self, listener: socket.socket) -> None:
        if not self.is_stopping:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        """Take one connection; the next one in a later turn, so that the cap counts in time."""
        try:
            sock, _ = listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError:  # no descriptors are left, and the connection would be reported again at once
            loop = asyncio.get_running_loop()
            loop.remove_reader(listener)
            loop.call_later(_PAUSE, self._listen_to, listener)
            self._evict()
            return
        sock.setblocking(False)
        try:
            self.serve(sock)
        except OSError:
            sock.close()  # the client has gone already

    def serve(self, sock: socket.socket) -> None:
        """Serve the client of one more socket; raise OSError when it has gone already."""
        channel = EncryptedChannel(sock, self._tls()) if self._tls else Channel(sock)
        self._connections.add(Connection(self, channel))
        if len(self._connections) > self.limits.connections:
            self._evict()
        if self._sweeping is None:
            self._sweep()

    def _sweep(self) -> None:
        """End the connections that are past their deadline, as long as there are any."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in [one for one in self._connections if one.due <= now]:
            connection.abort()
        self._sweeping = loop.call_later(_SWEEP, self._sweep) if self._connections else None

    def _evict(self) -> None:
        idle = [connection for connection in self._connections if connection.is_evictable]
        if idle:
            min(idle, key=lambda connection: connection.since).abort()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket; a `host` of "" or "::" is every address, IPv6 and IPv4.

    Of the addresses of a name the first of IPv4 is taken, or else of IPv6. Raise OSError, which names the
    address, when it cannot be had.
    """
    try:
        if host in ("", "::") and socket.has_dualstack_ipv6():
            listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
        else:
            family, address = _resolve(host, port)
            listener = socket.create_server(address, family=family)
    except OSError as error:
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        raise OSError(error.errno, f"cannot listen on {where}: {_reason(error)}") from None
    # Connections inherit what is set here. No response waits until the one before is acknowledged.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # Of a client that takes nothing, the kernel would keep what it has been given for many minutes.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _STALLED)
    return listener


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    flags = socket.AI_PASSIVE
    found = socket.getaddrinfo(host or "0.0.0.0", port, type=socket.SOCK_STREAM, flags=flags)  # noqa: S104 - where it is asked for
    family, _, _, _, address = min(found, key=lambda entry: entry[0] is not socket.AF_INET)
    return family, address


def _reason(error: OSError) -> str:
    # Python puts the address into strerror, which is named already; resolvers have numbers of their own.
    if error.errno and error.errno > 0:
        return os.strerror(error.errno)
    return str(error.strerror).partition(" (while ")[0]
