"""The API: two endpoints over a loopback socket, truthful unless a row of the schedule is in force.

It counts each request whose head has come, keeps the last list that was given to its end and the highest
steps on the last pages of each model that had its newest, and closes a connection on which nothing has come
for a while, as servers do. A walk through the pages of a list sees the fleet of the moment in which it began.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tools.soak.faults import KINDS
from tools.soak.fleet import Listing, SoakFleet, is_ascending
from tools.soak.schedule import LATER, LIST, STEPS, Row
from tools.soak.virtual import VirtualClock

LIST_ENDPOINT, STEPS_ENDPOINT = "list_finetuned_models", "list_training_step_metrics"
MODELS = "/v1/finetuning/finetuned-models"
_MODELS_A_PAGE, _STEPS_A_PAGE, _MOST_STEPS_A_PAGE = 9, 4, 10
_KEEP_ALIVE = 5.0  # seconds
_SLOW = 20.0  # seconds that an answer takes while the API is slow


def endpoint(path: str) -> str:
    """Name the endpoint of a path as the exporter counts it."""
    return LIST_ENDPOINT if path == MODELS else STEPS_ENDPOINT


class Api:
    """The server; `key` is the one it takes, `row` what is in force, `on_request` told of each request."""

    def __init__(self, fleet: SoakFleet, clock: VirtualClock, on_request: Callable[[str], None]) -> None:
        self.clock = clock
        self.key = ""
        self.row: Row | None = None
        self.requests: Counter[str] = Counter()
        self.models_seen = 0
        self.listed: Listing | None = None
        self.steps: dict[str, tuple[int, ...]] = {}
        self.held = 0
        self.is_listening = False
        self.port = 0
        self._fleet = fleet
        self._on_request = on_request
        self._walk: Listing | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    async def listen(self) -> None:
        """Begin to listen; from the second time on where it did before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        self.is_listening = True

    def refuse(self) -> None:
        """End every connection and listen no more."""
        self._server.close()
        for writer in self._connections:
            writer.transport.abort()
        self.is_listening = False

    async def stop(self) -> None:
        """End for good."""
        if self.is_listening:
            self.refuse()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while head := await _head(reader):
                await self._answer(Exchange(self, reader, writer), head)
        except ConnectionError:
            pass  # the client has gone, or was sent away
        finally:
            writer.close()
            self._connections.remove(writer)

    async def _answer(self, exchange: "Exchange", head: bytes) -> None:
        target = head.split(b" ", 2)[1].decode()
        url = urlsplit(target)
        query = parse_qs(url.query)
        token = query.get("page_token", [""])[0]
        which = endpoint(url.path)
        self.requests[which] += 1
        self._on_request(which)
        row = self.row
        if row and row.kind in KINDS and _strikes(row, which, token):
            await KINDS[row.kind](exchange)
        elif f"authorization: bearer {self.key}\r\n".encode() not in head.lower():
            await KINDS["401"](exchange)
        else:
            if row and row.kind == "slow":
                await exchange.hold(_SLOW)
            size = int(query.get("page_size", ["0"])[0])
            await self._tell_the_truth(exchange, url.path, which, token, size)

    async def _tell_the_truth(
        self, exchange: "Exchange", path: str, which: str, token: str, size: int
    ) -> None:
        if which == LIST_ENDPOINT:
            body: Mapping[str, Any] | None = self._page(token)
        else:
            body = self._steps(unquote(path.removeprefix(f"{MODELS}/").partition("/")[0]), token, size)
        if body is None:
            await KINDS["404"](exchange)
        else:
            await exchange.answer(200, json.dumps(body).encode())

    def _page(self, token: str) -> Mapping[str, Any] | None:
        begin = int(token) if token.isdecimal() else 0
        if not begin:
            self._walk = self._fleet.listing(self.clock.true_time())
        if self._walk is None:
            return None
        end = begin + _MODELS_A_PAGE
        page = _page("finetuned_models", self._walk.models[begin:end], end < len(self._walk.models) and end)
        if "next_page_token" not in page:
            # Until the poll has ended, the page may show the list before.
            before = self.listed.shown.keys() if self.listed else set()
            kept = self._walk.shown.keys() | before
            self.models_seen += len(kept) - len(before)
            self.listed = self._walk
            self.steps = {model_id: steps for model_id, steps in self.steps.items() if model_id in kept}
        return page

    def _steps(self, model_id: str, token: str, size: int) -> Mapping[str, Any] | None:
        begin = int(token) if token.isdecimal() else 0
        end = begin + min(size or _STEPS_A_PAGE, _MOST_STEPS_A_PAGE)
        found = self._fleet.steps(model_id, self.clock.true_time(), begin, end)
        if found is None:
            return None
        rows, has_more = found
        if rows and not (has_more if is_ascending(model_id) else begin):
            # A reading may take several requests, and is shown a moment after its last.
            newest = max(row.get("step_number", 0) for row in rows)
            self.steps[model_id] = (*self.steps.get(model_id, ())[-3:], newest)
        return _page("step_metrics", rows, has_more and end)


class Exchange:
    """One request on its connection."""

    def __init__(self, api: Api, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self._api = api
        self._reader = reader

    @property
    def now(self) -> float:
        """Unix seconds, as the client believes them to be."""
        return self._api.clock.time()

    async def answer(self, status: int, body: bytes, **headers: str) -> None:
        """Send a whole answer."""
        given = {"content_type": "application/json", **headers, "content_length": str(len(body))}
        lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in given.items()]
        self.writer.write(f"HTTP/1.1 {status} X\r\n{''.join(lines)}\r\n".encode() + body)
        await self.writer.drain()

    async def hold(self, seconds: float) -> bool:
        """Do nothing for so long; return whether the client is still there."""
        self._api.held += 1
        try:
            async with asyncio.timeout(seconds):
                await self._reader.read(1)
        except TimeoutError:
            return True
        finally:
            self._api.held -= 1
        return False


async def _head(reader: asyncio.StreamReader) -> bytes:
    """Return the head of the next request; b"" when there is none."""
    try:
        async with asyncio.timeout(_KEEP_ALIVE):
            return await reader.readuntil(b"\r\n\r\n")
    except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
        return b""


def _strikes(row: Row, which: str, token: str) -> bool:
    if row.where == STEPS:
        return which == STEPS_ENDPOINT
    return which == LIST_ENDPOINT and (row.where == LIST or (row.where == LATER and bool(token)))


def _page(name: str, items: Sequence[Any], next_: int) -> dict[str, Any]:
    """Make a page; `next_` is where the next one begins, 0 where there is none."""
    return {name: items, "next_page_token": str(next_)} if next_ else {name: items}
