"""Who asks for pages: scrapers, probes, people, and some who hang up.

Each is a row of a table. Whatever comes back is checked: the status, that the body is whole, and a scrape by
the referee. `waiting` counts the answers that are still to come.
"""

import asyncio
import gzip
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

OPENMETRICS = {"Accept": "application/openmetrics-text;version=1.0.0", "Accept-Encoding": "gzip"}
OPENMETRICS_PLAIN = {"Accept": "application/openmetrics-text;version=1.0.0"}
TEXT: Mapping[str, str] = {}
TEXT_GZIP = {"Accept-Encoding": "gzip"}
Judge: TypeAlias = Callable[[str, bool, bool], None]
THOROUGHLY_EVERY = 40  # scrapes
DURING_POLLS_EVERY = 97  # requests to the API


@dataclass(frozen=True)
class Visitor:
    """Somebody who comes every so many seconds; `hangs_up` after that many bytes of the answer."""

    name: str
    every: float
    path: str = "/metrics"
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    hangs_up: int | None = None
    sends: int | None = None  # bytes of the head; all when None


VISITORS: Sequence[Visitor] = (
    Visitor("Prometheus", 120, headers=OPENMETRICS),
    Visitor("another scraper", 600, headers=TEXT_GZIP),
    Visitor("a script", 700, headers=TEXT),
    Visitor("a collector", 900, headers=OPENMETRICS_PLAIN),
    Visitor("Prometheus, steps", 300, path="/metrics/steps", headers=OPENMETRICS),
    Visitor("another scraper, steps", 1000, path="/metrics/steps", headers=TEXT_GZIP),
    Visitor("HEAD", 900, method="HEAD", headers=OPENMETRICS),
    Visitor("liveness probe", 300, path="/-/healthy"),
    Visitor("readiness probe", 300, path="/-/ready"),
    Visitor("a person", 900, path="/"),
    Visitor("a stray", 1800, path="/favicon.ico", status=404),
    Visitor("a writer", 1800, method="POST", status=405),
    Visitor("hangs up at once", 900, hangs_up=0),
    Visitor("hangs up within", 1000, headers=TEXT, hangs_up=5000),
    Visitor("never ends its head", 1200, sends=20),
)


class Clients:
    """All visitors; `judges` of paths are given each scrape, `find` what is wrong.

    A judge takes the text, whether it is OpenMetrics, and whether to read it thoroughly.
    """

    def __init__(self, port: int, *, judges: Mapping[str, Judge], find: Callable[[str], None]) -> None:
        self.waiting = 0
        self.answers: Counter[str] = Counter()
        self.scrapes = 0
        self._port = port
        self._judges = judges
        self._find = find
        self._api_requests = 0
        self._during_poll = asyncio.Event()

    def api_asked(self) -> None:
        """Record a request to the API: now and then somebody scrapes in the middle of a poll."""
        self._api_requests += 1
        if self._api_requests % DURING_POLLS_EVERY == 0:
            self._during_poll.set()

    async def come_and_go(self) -> None:
        """Let everybody come for ever."""
        async with asyncio.TaskGroup() as group:
            for visitor in VISITORS:
                group.create_task(self._return(visitor))
            group.create_task(self._scrape_during_polls())

    async def _return(self, visitor: Visitor) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + 2.0  # the first poll has ended by then
        while True:
            due += visitor.every
            await asyncio.sleep(due - loop.time())
            await self._visit(visitor)

    async def _scrape_during_polls(self) -> None:
        while True:
            await self._during_poll.wait()
            self._during_poll.clear()
            await self._visit(Visitor("during a poll", 0, headers=OPENMETRICS))

    async def _visit(self, visitor: Visitor) -> None:
        self.answers[visitor.name] += 1
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(_head(visitor))
            await self._take(visitor, reader)
        except (OSError, asyncio.IncompleteReadError) as error:
            self._find(f"{visitor.name}: the answer broke off: {error!r}")
        finally:
            writer.transport.abort()

    async def _take(self, visitor: Visitor, reader: asyncio.StreamReader) -> None:
        if visitor.sends is not None:
            if await reader.read():
                self._find(f"{visitor.name}: was answered")
            return
        self.waiting += 1
        try:
            if visitor.hangs_up is not None:
                await reader.readexactly(visitor.hangs_up)
                return
            head, body = await _answer(reader, has_body=visitor.method != "HEAD")
        finally:
            self.waiting -= 1
        self._check(visitor, head, body)

    def _check(self, visitor: Visitor, head: str, body: bytes) -> None:
        status = int(head.split(" ", 2)[1])
        if status != visitor.status:
            self._find(f"{visitor.name}: {visitor.path} gave {status}")
        elif visitor.path in self._judges and visitor.method == "GET":
            self.scrapes += 1
            is_gzipped = "content-encoding: gzip" in head
            text = (gzip.decompress(body) if is_gzipped else body).decode()
            self._judges[visitor.path](
                text, "application/openmetrics-text" in head, self.scrapes % THOROUGHLY_EVERY == 0
            )


def _head(visitor: Visitor) -> bytes:
    fields = {"Host": "exporter", **visitor.headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{visitor.method} {visitor.path} HTTP/1.1\r\n{lines}\r\n".encode()[: visitor.sends]


async def _answer(reader: asyncio.StreamReader, *, has_body: bool) -> tuple[str, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
    return head, await reader.readexactly(length) if has_body else b""
