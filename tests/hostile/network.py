"""What lies between the exporter and the API, for tests to break: a name and its addresses, a proxy."""

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest
import trustme

from tests.hostile.server import FaultServer

HOST = "api.example.test"
PROXY_PASSWORD = "password-of-the-proxy"

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class NamedServer(FaultServer):
    """An API that is known by a name and listens on an address of its own."""

    address: str = "127.0.0.1"

    @property
    def url(self) -> str:
        """Where the API is, by its name."""
        return f"{'https' if self.tls else 'http'}://{HOST}:{self.port}"

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._connected, self.address, self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]


class Resolver:
    """The system's resolver, with a say of its own about `HOST`; while `hangs` is not set, nobody gets by."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.addresses = ["127.0.0.1"]
        self.error: OSError | None = None
        self.hangs: threading.Event | None = None
        self.threads: set[int] = set()
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._look_up)

    def _look_up(self, host: str | bytes, port: int, *args: Any, **kwargs: Any) -> Any:
        if host not in (HOST, HOST.encode()):
            return self._real(host, port, *args, **kwargs)
        self.threads.add(threading.get_ident())
        if self.hangs:
            self.hangs.wait(30)
        if self.error:
            raise self.error
        return [entry for address in self.addresses for entry in self._real(address, port, *args, **kwargs)]


@contextmanager
def port_of_all() -> Iterator[int]:
    """Keep one port on each address of the loopback that tests use from all who ask for any free port.

    Whoever asks for this very port may listen there; until somebody does, connections are refused.
    """
    while True:
        with ExitStack() as stack:
            port = 0
            try:
                for address in ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"):
                    held = stack.enter_context(socket.socket())
                    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    held.bind((address, port))
                    port = held.getsockname()[1]
            except OSError:
                continue
            yield port
            return


@contextmanager
def black_hole(address: str, port: int) -> Iterator[None]:
    """Listen where every connection is left unanswered, as behind a firewall that drops."""
    # One connection fills the queue; what comes after it is dropped.
    with socket.create_server((address, port), backlog=0), socket.create_connection((address, port)):
        yield


@asynccontextmanager
async def listening(handler: Handler, port: int = 0) -> AsyncIterator[int]:
    """Have `handler` answer each connection, and close it then; return the port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except OSError:
            pass  # the client has left
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port)
    async with server:
        yield server.sockets[0].getsockname()[1]


def says(answer: bytes) -> Handler:
    """Wait until something comes, and answer with these bytes."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(answer)
        await writer.drain()

    return handler


@dataclass
class Proxy:
    """A proxy that lets everything through to one port, unless `answer` takes its place."""

    port: int
    answer: Handler | None = None
    asked: list[str] = field(default_factory=list)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one `CONNECT`."""
        if self.answer:
            await self.answer(reader, writer)
            return
        self.asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        inner, outer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            await asyncio.gather(_pump(reader, outer), _pump(inner, writer))
        finally:
            outer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()


def certified(
    authority: trustme.CA, *names: str, since: datetime | None = None, until: datetime | None = None
) -> ssl.SSLContext:
    """Return a server's context with a certificate for these names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, not_before=since, not_after=until).configure_cert(context)
    return context
