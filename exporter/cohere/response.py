"""What came back over HTTP → a body, or the error it means.

A body is never larger than its limit, whatever it claims and however small it was compressed; an error
carries one short line of the API's own words, never a body.
"""

import asyncio
import json
import re
import zlib
from collections.abc import Iterable
from datetime import UTC
from email.utils import parsedate_to_datetime
from http.client import responses as reasons
from typing import NamedTuple

import httpx

from exporter.errors import (
    ApiError,
    Forbidden,
    Gone,
    InvalidResponse,
    PaymentRequired,
    QuotaSpent,
    RateLimited,
    ServerError,
    Timeout,
    Unauthorized,
)
from exporter.runtime.redaction import redact
from exporter.runtime.text import printable

_BY_STATUS: dict[int, type[ApiError]] = {
    401: Unauthorized,
    402: PaymentRequired,
    403: Forbidden,
    404: Gone,
    408: Timeout,
    410: Gone,
    429: RateLimited,
}
_MONTHLY = re.compile(r"month", re.IGNORECASE)
_MESSAGE_LIMIT = 300
_TRACE_LIMIT = 100
_STRUCTURED = re.compile(r"[{}<>]")  # data or a page by a wrong name, which may hold anything


class ApiResponse(NamedTuple):
    """The body of a successful response; `trace_id` helps the API's own people to find it in their logs."""

    body: bytes
    trace_id: str | None


def debug_trace_id(response: httpx.Response) -> str | None:
    """Return the API's `x-debug-trace-id`, which comes with every response of its own."""
    trace_id: str | None = response.headers.get("x-debug-trace-id")
    return trace_id and trace_id[:_TRACE_LIMIT]


def is_whole(response: httpx.Response) -> bool:
    """Return whether this is a success with the whole content, never an empty or partial one."""
    return response.is_success and response.status_code not in (204, 205, 206)


async def read_body(response: httpx.Response, limit: int) -> bytes:
    """Return a streamed body; raise `InvalidResponse` beyond `limit` bytes, compressed or not."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise InvalidResponse("the response has a content encoding that was not asked for")
    inflater = _Inflater(limit) if "gzip" in encoding else None
    body, received = bytearray(), 0
    async for chunk in response.aiter_raw():
        received += len(chunk)
        # httpx's own decoder would inflate a whole chunk before anybody could look at its size.
        body += inflater.inflate(chunk) if inflater else chunk
        if max(len(body), received) > limit:
            raise InvalidResponse(f"the response is larger than {limit >> 20 or 1} MiB")
        # Chunks that have arrived are given without a pause: thousands of one byte would hold up every page.
        await asyncio.sleep(0)
    if inflater:
        inflater.finish()
    return bytes(body)


class _Inflater:
    """Inflates gzip of one or more members (RFC 1952, 2.2), and at most one byte more than `limit` of it."""

    def __init__(self, limit: int) -> None:
        self._left = limit + 1
        self._member = zlib.decompressobj(wbits=31)
        self._is_first = True

    def inflate(self, chunk: bytes) -> bytes:
        """Return what a chunk holds; raise `InvalidResponse` when it is not gzip."""
        content = bytearray()
        while chunk and self._left:
            if self._member.eof:
                self._member, self._is_first = zlib.decompressobj(wbits=31), False
            try:
                piece = self._member.decompress(chunk, self._left)
            except zlib.error:
                what = "is not valid gzip" if self._is_first else "goes on after the end of its gzip stream"
                raise InvalidResponse(f"the response {what}") from None
            content += piece
            self._left -= len(piece)
            chunk = self._member.unused_data
        return bytes(content)

    def finish(self) -> None:
        """Raise `InvalidResponse` unless the last member has ended and nothing has come since."""
        if self._member.eof:
            return
        if self._is_first:
            raise InvalidResponse("the response's gzip stream is not complete")
        raise InvalidResponse("the response goes on after the end of its gzip stream, or is not complete")


def error_of(response: httpx.Response, body: bytes, *, secret: str, now: float) -> ApiError:
    """Return the error that a response without success stands for; `now` is in Unix seconds."""
    status = response.status_code
    words = _shown(_words(response, body), secret)
    kind = _BY_STATUS.get(status, ServerError if status >= 500 else InvalidResponse)
    if kind is RateLimited and _MONTHLY.search(words):
        kind = QuotaSpent
    return kind(
        f"HTTP {status}: {words or _phrase(status)}",
        status=status,
        trace_id=debug_trace_id(response),
        retry_after=_longest_rest(response.headers.get_list("retry-after"), now),
    )


def _words(response: httpx.Response, body: bytes) -> str:
    """Return the API's own words: the message of a JSON object, or a plain text; "" for anything else."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        text = body.decode(errors="replace")
        is_plain = "text/plain" in response.headers.get("content-type", "") and not _STRUCTURED.search(text)
        return text if is_plain else ""
    message = content.get("message") if isinstance(content, dict) else None
    return message if isinstance(message, str) else ""


def _shown(text: str, secret: str) -> str:
    """Return one line of at most 300 characters that no terminal acts on, without the secret."""
    return " ".join(redact(printable(text, " "), [secret]).split())[:_MESSAGE_LIMIT]


def _phrase(status: int) -> str:
    if 300 <= status < 400:
        return "a redirect, which is not followed; give the final address as --cohere.base-url"
    if 200 <= status < 300:
        return "an empty or partial response instead of a complete one"
    return reasons.get(status, "no reason given")


def _longest_rest(values: Iterable[str], now: float) -> float | None:
    """Keep to the longest where a proxy on the way has added a `Retry-After` of its own."""
    return max((rest for value in values if (rest := _retry_after(value, now)) is not None), default=None)


def _retry_after(value: str, now: float) -> float | None:
    """Read `Retry-After` (RFC 9110, 10.2.3): seconds or a date; None when it is neither."""
    value = value.strip()
    if value.isascii() and value.isdecimal():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, aware.timestamp() - now)
