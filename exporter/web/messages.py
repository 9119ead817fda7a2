"""HTTP/1.1 messages: bytes → requests, responses → bytes.

httptools (llhttp) parses; what it leaves open is decided here. A request whose body nobody asked for is the
last of its connection, and so is one that makes no sense: it becomes the response that says so.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache
from http.client import responses as reasons
from urllib.parse import unquote

import httptools

NO_STORE = {"Cache-Control": "no-store"}
_AROUND = len(": \r\n")  # bytes of a header besides its name and value
_KNOWN = 2048  # bytes of a head that is recognized when it comes again, as a scraper's do


@dataclass(slots=True)
class Request:
    """The head of a request; names of `headers` are in lower case, `path` is decoded."""

    method: str
    path: str
    query: str
    headers: Mapping[bytes, bytes] = field(default_factory=dict)
    is_last: bool = False

    def header(self, name: str) -> str:
        """Return a header by its name in lower case, repeated ones joined with commas; "" without it."""
        return self.headers.get(name.encode(), b"").decode("latin-1")


class Response:
    """What answers a request: `chunks` are sent as they are, never copied.

    Content-Length is added to `headers`.
    """

    __slots__ = ("_fields", "chunks", "headers", "status")

    def __init__(self, status: int, headers: Mapping[str, str], chunks: Sequence[bytes] = ()) -> None:
        self.status = status
        self.headers = headers
        self.chunks = chunks
        self._fields = _fields(headers, chunks)

    def encode(self, *, closing: bool, with_body: bool) -> list[bytes]:
        """Return the message in chunks, the head first."""
        end = b"Connection: close\r\n\r\n" if closing else b"\r\n"
        head = b"".join((_status_line(self.status), _date(int(time.time())), self._fields, end))
        return [head, *self.chunks] if with_body else [head]

    def with_headers(self, headers: Mapping[str, str]) -> "Response":
        """Return a copy in which `headers` replace those of the same name."""
        replaced = {name.lower() for name in headers}
        kept = {name: value for name, value in self.headers.items() if name.lower() not in replaced}
        return Response(self.status, {**kept, **headers}, self.chunks)


def text(status: int, body: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return a plain-text response of one line."""
    fields = {"Content-Type": "text/plain; charset=utf-8", **(headers or {})}
    return Response(status, fields, (f"{body}\n".encode(),))


def _fields(headers: Mapping[str, str], chunks: Sequence[bytes]) -> bytes:
    all_headers = {**headers, "Content-Length": sum(map(len, chunks))}
    return "".join(f"{name}: {value}\r\n" for name, value in all_headers.items()).encode("latin-1")


@lru_cache(maxsize=64)
def _status_line(status: int) -> bytes:
    return f"HTTP/1.1 {status} {reasons.get(status, 'Unknown')}\r\n".encode()


@lru_cache(maxsize=1)
def _date(second: int) -> bytes:
    return f"Date: {formatdate(second, usegmt=True)}\r\n".encode()


_BAD_REQUEST = text(400, "Bad Request")
_TOO_LARGE = text(431, "Request Header Fields Too Large")


class RequestParser:
    """The requests of one connection, as its bytes arrive; a callback object of httptools."""

    def __init__(self, head_bytes: int) -> None:
        self._limit = head_bytes
        self._parser = httptools.HttpRequestParser(self)
        self._found: list[Request | Response] = []
        self._size = 0  # of what came since the last head ended
        self._head_size = 0
        self._has_ended = False
        self.is_within_head = False
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._known = b"", list[Request | Response]()

    def feed(self, data: bytes) -> list[Request | Response]:
        """Return the requests whose heads are complete now, and the refusal of one that makes no sense."""
        begins = not self.is_within_head
        if begins and data == self._known[0]:
            return self._known[1]
        found = self._parse(data)
        if begins and len(data) <= _KNOWN and len(found) == 1 and self._is_repeatable(found[0]):
            self._known = data, found
        return found

    def _is_repeatable(self, item: Request | Response) -> bool:
        """Return whether the bytes just read are this request again when they come again."""
        if self._has_ended or self.is_within_head or isinstance(item, Response):
            return False
        return b"authorization" not in item.headers  # no password is kept

    def _parse(self, data: bytes) -> list[Request | Response]:
        if self._has_ended:
            return []
        self._size += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._end(None)  # nothing is upgraded, so what follows is not HTTP/1.1
        except httptools.HttpParserError:
            self._end(_BAD_REQUEST)
        if self._size > self._limit:
            self._end(_TOO_LARGE)
        found, self._found = self._found, []
        return found

    def _end(self, refusal: Response | None) -> None:
        if not self._has_ended and refusal is not None:
            self._found.append(refusal)
        self._has_ended = True

    # Called by httptools.

    def on_message_begin(self) -> None:
        """Begin a head."""
        self.is_within_head = True
        self._head_size = 0
        self._target = b""
        self._headers = {}

    def on_url(self, url: bytes) -> None:
        """Take a part of the target."""
        self._target += url
        self._head_size += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        name = name.lower()
        self._head_size += len(name) + len(value) + _AROUND
        known = self._headers.get(name)
        self._headers[name] = value if known is None else known + b"," + value

    def on_headers_complete(self) -> None:
        """Make a request of the head."""
        self.is_within_head = False
        self._size = 0
        if self._has_ended:
            return
        if self._head_size > self._limit:
            self._end(_TOO_LARGE)
            return
        parser, headers = self._parser, self._headers
        version = parser.get_http_version()
        where = _split(self._target)
        if where is None or not _is_served(version, headers.get(b"host")):
            self._end(_BAD_REQUEST)
            return
        has_body = b"transfer-encoding" in headers or headers.get(b"content-length", b"0").strip(b"0") != b""
        is_last = has_body or version == "1.0" or b"upgrade" in headers or not parser.should_keep_alive()
        method = parser.get_method().decode("ascii")
        self._found.append(Request(method, *where, headers, is_last))
        self._headers = {}  # a password among them is the request's to drop
        self._has_ended = is_last


def _is_served(version: str, host: bytes | None) -> bool:
    if version == "1.1":
        return host is not None and b"," not in host  # one, and only one (RFC 9112, section 3.2)
    return version == "1.0"


@lru_cache(maxsize=64)
def _split(target: bytes) -> tuple[str, str] | None:
    """Return path and query of a request target (RFC 9112, section 3.2); None when it is none."""
    if target == b"*":
        return "*", ""
    try:
        url = httptools.parse_url(target)
    except httptools.HttpParserInvalidURLError:
        return None
    if url.path is None and url.schema is None:
        return None
    return unquote((url.path or b"/").decode("latin-1")), (url.query or b"").decode("latin-1")
