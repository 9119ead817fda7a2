"""What an API, or what stands in for it, can do to a connection: each function is one fault, or makes one."""

import asyncio
import json
import zlib
from collections.abc import Mapping

from tests.hostile.server import Exchange, Fault, head

DRIP = 0.02  # seconds between two drops
MIB = 1 << 20
_LONGEST = 512  # MiB that an endless answer sends at most, should nobody stop it


async def never_answers(exchange: Exchange) -> None:
    """Take the request and say nothing."""
    await exchange.until_gone()


async def closes_before_the_head(exchange: Exchange) -> None:
    """Take the request and close."""


async def resets_before_the_head(exchange: Exchange) -> None:
    """Take the request and reset."""
    exchange.reset()


async def closes_within_the_head(exchange: Exchange) -> None:
    """Close in the middle of a header."""
    await exchange.send(head(len(exchange.body))[:40])


async def resets_within_the_body(exchange: Exchange) -> None:
    """Reset in the middle of the body."""
    await exchange.send(head(len(exchange.body)) + exchange.body[:20])
    await _taken()
    exchange.reset()


async def closes_within_the_body(exchange: Exchange) -> None:
    """Close before all that was announced has been sent."""
    await exchange.send(head(len(exchange.body)) + exchange.body[:20])


async def closes_within_a_chunk(exchange: Exchange) -> None:
    """Close before a chunked body has ended."""
    await exchange.send(_chunked_head() + b"fff\r\n" + exchange.body[:20])


async def drips_the_head(exchange: Exchange) -> None:
    """Send the head byte by byte."""
    await _drip(exchange, head(len(exchange.body)))


async def drips_the_body(exchange: Exchange) -> None:
    """Send the body byte by byte."""
    await exchange.send(head(10_000))
    await _drip(exchange, b" " * 10_000)


async def sends_endless_headers(exchange: Exchange) -> None:
    """Send one header after the other."""
    await exchange.send(b"HTTP/1.1 200 OK\r\n")
    await _for_ever(exchange, b"X-Filler: 0123456789\r\n" * 1000)


async def sends_endless_interim_answers(exchange: Exchange) -> None:
    """Send one `100 Continue` after the other."""
    await _for_ever(exchange, b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)


async def sends_an_endless_body(exchange: Exchange) -> None:
    """Send a body that has no length and no end."""
    await exchange.send(head(None))
    await _for_ever(exchange, b" " * 65_536)


async def sends_more_than_it_announces(exchange: Exchange) -> None:
    """Let something follow the answer that belongs to none."""
    await exchange.send(head(len(exchange.body)) + exchange.body + b"HTTP/1.1 500 Surprise\r\n\r\n" * 10)


async def speaks_another_protocol(exchange: Exchange) -> None:
    """Answer as a server of another kind."""
    await exchange.send(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")


async def sends_a_bad_chunk_size(exchange: Exchange) -> None:
    """Say a chunk's size in no number."""
    await exchange.send(_chunked_head() + b"many\r\n" + exchange.body + b"\r\n0\r\n\r\n")


async def switches_protocols(exchange: Exchange) -> None:
    """Answer 101, which nobody asked for."""
    await exchange.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n")
    await exchange.until_gone()


def lengths(*values: str) -> Fault:
    """Answer with these as Content-Length."""

    async def fault(exchange: Exchange) -> None:
        fields = "".join(f"Content-Length: {value}\r\n" for value in values)
        await exchange.send(f"HTTP/1.1 200 OK\r\n{fields}\r\n".encode() + exchange.body)

    return fault


def encoded(encoding: str, body: bytes | None = None, *, cut: int = 0, more: bytes = b"") -> Fault:
    """Answer with `body`, the good one gzipped when None, by the name of an encoding; `cut` bytes short."""

    async def fault(exchange: Exchange) -> None:
        sent = gzipped(exchange.body) if body is None else body
        sent = sent[: len(sent) - cut] + more
        await exchange.answer(sent, headers={"Content-Encoding": encoding})

    return fault


def bomb(gigabytes: int) -> Fault:
    """Answer with a small gzip body that would fill the memory."""

    async def fault(exchange: Exchange) -> None:
        await exchange.answer(zeros(gigabytes), headers={"Content-Encoding": "gzip"})

    return fault


def says(status: int, body: object = None, **headers: str) -> Fault:
    """Answer with a status; `body` is sent as it is when bytes, else as JSON, and None is the good one."""

    async def fault(exchange: Exchange) -> None:
        content = exchange.good if body is None else body
        sent = content if isinstance(content, bytes) else json.dumps(content).encode()
        fields: Mapping[str, str] = {name.replace("_", "-"): value for name, value in headers.items()}
        await exchange.answer(sent, status=status, headers=fields)

    return fault


def gzipped(content: bytes) -> bytes:
    """Compress as a server would."""
    compress = zlib.compressobj(wbits=31)
    return compress.compress(content) + compress.flush()


def zeros(gigabytes: int) -> bytes:
    """Return a gzip stream of so many gigabytes of zeros, about a thousandth of their size."""
    compress = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    # What is flushed in full refers to nothing before it, so it can be repeated.
    one = compress.compress(bytes(MIB)) + compress.flush(zlib.Z_FULL_FLUSH)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + one * (1024 * gigabytes)


def _chunked_head() -> bytes:
    return head(None, headers={"Transfer-Encoding": "chunked"})


async def _taken() -> None:
    """Let the client take what was sent: a reset throws away what was not."""
    await asyncio.sleep(0.02)


async def _drip(exchange: Exchange, data: bytes) -> None:
    for byte in data:
        await exchange.send(bytes([byte]))
        await asyncio.sleep(DRIP)


async def _for_ever(exchange: Exchange, data: bytes) -> None:
    for _ in range(_LONGEST * MIB // len(data)):
        await exchange.send(data)
    raise AssertionError("nobody stopped an answer without end")
