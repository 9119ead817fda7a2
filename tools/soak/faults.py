"""What a fault does to one request: a coroutine for each kind, given the exchange it is to spoil.

Whatever waits on purpose does so in `exchange.hold`, so that time may go on. Each ends when the client goes.
"""

import asyncio
import gzip
import json
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate
from typing import Protocol

_MIB = 1 << 20
_BEYOND = 17  # MiB; more than the exporter reads
_DROP = 7.0  # seconds between two bytes
_PART = b'{"finetuned_models": ['
_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


class Exchange(Protocol):
    """One request, to be answered or not."""

    writer: asyncio.StreamWriter

    @property
    def now(self) -> float:
        """Unix seconds, as the client believes them to be."""
        ...

    async def answer(self, status: int, body: bytes, **headers: str) -> None:
        """Send a whole answer."""
        ...

    async def hold(self, seconds: float) -> bool:
        """Do nothing for so long; return whether the client is still there."""
        ...


Act = Callable[[Exchange], Awaitable[None]]


def _says(status: int, message: str = "no", **headers: str) -> Act:
    async def act(exchange: Exchange) -> None:
        await exchange.answer(status, json.dumps({"message": message}).encode(), **headers)

    return act


def _gives(body: bytes, status: int = 200, **headers: str) -> Act:
    async def act(exchange: Exchange) -> None:
        await exchange.answer(status, body, **headers)

    return act


def _resets(after: bytes = b"") -> Act:
    async def act(exchange: Exchange) -> None:
        exchange.writer.write(after)
        connection = exchange.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        exchange.writer.transport.abort()

    return act


def _ends(after: bytes) -> Act:
    async def act(exchange: Exchange) -> None:
        exchange.writer.write(after)
        exchange.writer.close()

    return act


def _drips(at_once: bytes) -> Act:
    async def act(exchange: Exchange) -> None:
        exchange.writer.write(at_once)
        while await exchange.hold(_DROP):
            exchange.writer.write(b" ")
            await exchange.writer.drain()

    return act


async def _silence(exchange: Exchange) -> None:
    while await exchange.hold(3600.0):
        pass


async def _rest_until_a_date(exchange: Exchange) -> None:
    # Rounded up: the header has no fractions of a second.
    at = int(exchange.now + 90) + 1
    await _says(429, "slow down", retry_after=formatdate(at, usegmt=True))(exchange)


async def _without_end(exchange: Exchange) -> None:
    exchange.writer.write(_OK + b"\r\n" + _PART)
    for _ in range(_BEYOND):
        exchange.writer.write(bytes(_MIB))
        await exchange.writer.drain()


KINDS: Mapping[str, Act] = {
    "401": _says(401, "invalid api token"),
    "402": _says(402, "payment required"),
    "403": _gives(b"<html><h1>403 Forbidden</h1></html>", 403, content_type="text/html"),
    "404": _says(404, "not found"),
    "408": _says(408, "request timeout"),
    "410": _says(410, "fine-tuning was removed"),
    "429": _says(429, "too many requests"),
    "429, Retry-After 20 s": _says(429, "slow down", retry_after="20"),
    "429, rest until a date": _rest_until_a_date,
    "429, Retry-After in words": _says(429, "slow down", retry_after="a little while"),
    "429, Retry-After 2 h": _says(429, "slow down", retry_after="7200"),
    "429, the month": _says(429, "limited to 1000 API calls / month."),
    "500": _says(500, "internal error"),
    "503": _gives(b"upstream connect error", 503, content_type="text/plain"),
    "silence": _silence,
    "head in drops": _drips(b"HTTP/1.1 200 OK\r\nX-Slow:"),
    "body in drops": _drips(_OK + b"Content-Length: 1000\r\n\r\n" + _PART),
    "reset": _resets(),
    "reset in the head": _resets(b"HTTP/1.1 200 O"),
    "reset in the body": _resets(_OK + b"Content-Length: 1000\r\n\r\n" + _PART),
    "cut off": _ends(_OK + b"Content-Length: 1000\r\n\r\n" + _PART),
    "no HTTP": _ends(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "302": _gives(b"", 302, location="http://127.0.0.1:9/"),
    "no JSON": _gives(b'{"finetuned_models": [{"id":'),
    "another JSON": _gives(b'{"error": {"code": 7}}'),
    "deeply nested": _gives(b'{"finetuned_models":' + b"[" * 100_000),
    "body without end": _without_end,
    "gzip of gigabytes": _gives(gzip.compress(bytes(_BEYOND * _MIB)), content_encoding="gzip"),
    "pages in a circle": _gives(b'{"next_page_token": "round and round"}'),
}
