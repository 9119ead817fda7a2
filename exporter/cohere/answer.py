"""What came back over HTTP → a body, or the error it stands for.

A body is never larger than its limit, whatever it claims and however small it was compressed; an error
carries one short line of the API's own words, never a body.
"""

import json
import re
import zlib
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus

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
_STRUCTURED = re.compile(r"[{}<>]")  # data or a page by a wrong name, which may hold anything


async def read_body(response: httpx.Response, limit: int) -> bytes:
    """Read a streamed body; raise `InvalidResponse` beyond `limit` bytes after decompression."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise InvalidResponse("the answer has a content encoding that was not asked for")
    inflate = zlib.decompressobj(wbits=31) if "gzip" in encoding else None
    body = bytearray()
    async for chunk in response.aiter_raw():
        # httpx's own decoder would inflate a whole chunk before anybody could look at its size.
        body += _inflate(inflate, chunk, limit + 1 - len(body)) if inflate else chunk
        if len(body) > limit:
            raise InvalidResponse(f"the answer is larger than {limit >> 20 or 1} MiB")
    if inflate and not inflate.eof:
        raise InvalidResponse("the answer's gzip stream is not complete")
    return bytes(body)


def _inflate(inflate: "zlib._Decompress", chunk: bytes, limit: int) -> bytes:
    # zlib would keep whatever follows the end of the stream, without a limit.
    if inflate.eof:
        raise InvalidResponse("the answer goes on after the end of its gzip stream")
    try:
        return inflate.decompress(chunk, limit)
    except zlib.error:
        raise InvalidResponse("the answer is not valid gzip") from None


def error_of(response: httpx.Response, body: bytes, *, secret: str, now: float) -> ApiError:
    """Give the error that a response without success stands for; `now` is in Unix seconds."""
    status = response.status_code
    words = _words(response, body)
    if secret:
        words = words.replace(secret, "[redacted]")
    words = " ".join(words.split())[:_MESSAGE_LIMIT].encode(errors="replace").decode()
    kind = _BY_STATUS.get(status, ServerError if status >= 500 else InvalidResponse)
    if kind is RateLimited and _MONTHLY.search(words):
        kind = QuotaSpent
    return kind(
        f"HTTP {status}: {words or _phrase(status)}",
        status=status,
        trace_id=response.headers.get("x-debug-trace-id"),
        retry_after=_retry_after(response.headers.get("retry-after", ""), now),
    )


def _words(response: httpx.Response, body: bytes) -> str:
    """Give the API's own words: the message of a JSON object, or a plain text; "" for anything else."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        text = body.decode(errors="replace")
        is_plain = "text/plain" in response.headers.get("content-type", "") and not _STRUCTURED.search(text)
        return text if is_plain else ""
    message = answer.get("message") if isinstance(answer, dict) else None
    return message if isinstance(message, str) else ""


def _phrase(status: int) -> str:
    if 300 <= status < 400:
        return "a redirect, which is not followed; give the final address as --cohere.base-url"
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no reason given"


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
