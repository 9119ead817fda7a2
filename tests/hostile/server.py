"""An API on raw sockets that is good until told otherwise.

It lists two models on two pages, one that waits and one in training, and the step metrics of the latter. A
fault set for a place takes the place of that answer alone: it may write what it likes, or nothing.
"""

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self, TypeAlias
from urllib.parse import parse_qs, urlsplit

TRACE = "trace-0123456789"
WANDB_KEY = "wandb-key-that-nobody-may-see"


class Place(StrEnum):
    """The answers of one poll, in their order."""

    LIST = "the list"
    LATER_PAGE = "a later page"
    STEPS = "step metrics"


@dataclass
class Exchange:
    """One request, the connection it came over, and what a good API would answer."""

    place: Place
    target: str
    headers: Mapping[str, str]
    good: dict[str, Any]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    keeps_alive: bool = False

    @property
    def body(self) -> bytes:
        """The body of the good answer."""
        return json.dumps(self.good).encode()

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def answer(
        self, body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send a whole answer and keep the connection."""
        await self.send(head(len(body), status=status, headers=headers) + body)
        self.keeps_alive = True

    async def until_gone(self) -> None:
        """Wait until the client has left."""
        while await self.reader.read(65_536):
            pass

    def reset(self) -> None:
        """End the connection with a reset instead of a farewell."""
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Fault: TypeAlias = Callable[[Exchange], Awaitable[None]]


def head(length: int | None, *, status: int = 200, headers: Mapping[str, str] | None = None) -> bytes:
    """Write the head of an answer; without a length it ends with the connection."""
    fields = {"Content-Type": "application/json", "x-debug-trace-id": TRACE}
    if length is not None:
        fields["Content-Length"] = str(length)
    lines = [f"{name}: {value}\r\n" for name, value in (fields | dict(headers or {})).items()]
    return f"HTTP/1.1 {status} Some Reason\r\n{''.join(lines)}\r\n".encode("latin-1")


def model(model_id: str, **fields: Any) -> dict[str, Any]:
    """Return a model as the API lists it, its user's secret among its settings."""
    return {
        "id": model_id,
        "name": f"model {model_id}",
        "status": "STATUS_QUEUED",
        "created_at": "2024-06-21T10:03:21.500000Z",
        "settings": {
            "base_model": {"base_type": "BASE_TYPE_CHAT", "name": "command-r"},
            "dataset_id": "dataset",
            "wandb": {"project": "project", "api_key": WANDB_KEY},
        },
        **fields,
    }


def _good_lists() -> list[dict[str, Any]]:
    training = model("training", status="STATUS_FINETUNING")
    return [
        {"finetuned_models": [model("waiting")], "next_page_token": "2"},
        {"finetuned_models": [training]},
    ]


def _good_steps() -> dict[str, Any]:
    rows = [{"step_number": step, "metrics": {"loss": 1 / step, "step": step}} for step in (30, 20, 10)]
    return {"step_metrics": rows}


@dataclass
class FaultServer:
    """The API; `faults` holds what to play where, `requests` each place that was asked for."""

    tls: ssl.SSLContext | None = None
    lists: list[dict[str, Any]] = field(default_factory=_good_lists)
    steps: dict[str, Any] = field(default_factory=_good_steps)
    faults: dict[Place, Fault] = field(default_factory=dict)
    requests: list[Place] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    port: int = 0
    _refusing_from: Place | None = None
    _server: asyncio.Server | None = None
    _connections: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Where the API is."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def refuse(self, place: Place) -> None:
        """Refuse connections from `place` on, until healed."""
        self._refusing_from = place
        if place is Place.LIST:
            await self._close()

    async def heal(self) -> None:
        """Be good again."""
        self.faults.clear()
        self._refusing_from = None
        if self._server is None:
            await self._listen()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        others = self._connections - {asyncio.current_task()}
        for connection in others:
            connection.cancel()
        if others:
            await asyncio.wait(others)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while await self._serve(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has left, or the server closes
        finally:
            self._connections.discard(task)
            writer.transport.abort() if writer.transport.is_closing() else writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        target = lines[0].split(" ")[1]
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        place, good = self._good(target)
        self.requests.append(place)
        self.keys.append(headers.get("authorization", ""))
        exchange = Exchange(place, target, headers, good, reader, writer)
        if fault := self.faults.get(place):
            await fault(exchange)
        elif self._is_last_before_refusal(place):
            await self._close()
            await exchange.send(head(len(exchange.body), headers={"Connection": "close"}) + exchange.body)
        else:
            await exchange.answer(exchange.body)
        return exchange.keeps_alive

    def _good(self, target: str) -> tuple[Place, dict[str, Any]]:
        url = urlsplit(target)
        if url.path.endswith("/training-step-metrics"):
            return Place.STEPS, self.steps
        token = parse_qs(url.query).get("page_token", ["1"])[0]
        number = int(token) if token.isdecimal() and int(token) <= len(self.lists) else len(self.lists)
        return (Place.LIST if token == "1" else Place.LATER_PAGE), self.lists[number - 1]

    def _is_last_before_refusal(self, place: Place) -> bool:
        places = list(Place)
        return self._refusing_from in places[1:] and place is places[places.index(self._refusing_from) - 1]
