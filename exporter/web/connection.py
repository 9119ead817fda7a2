"""One client's connection: a state machine on a non-blocking socket.

    state       waits for             ends at the latest                         may be evicted
    ──────────  ────────────────────  ─────────────────────────────────────────  ──────────────────────
    HANDSHAKE   the client's part     after `handshake_seconds`                  yes
    HEAD        a request             `idle_seconds`; the first, and each that   yes
                                      has begun, `head_seconds`
    HANDLING    the handler           after `response_seconds`                   no
    SENDING     room in the socket    after `response_seconds`, or               once it has stalled for a
                                      `stall_seconds` without any room           second
    LINGERING   the client's close    after `linger_seconds`                     yes

What arrives meanwhile moves no deadline. Nothing is read while a response is under way, so a client that
sends much waits; requests sent ahead are answered in order, one in each turn of the event loop. Responses go
from shared bytes straight to the kernel. Nothing a client does is worth a line in the log.
"""

import asyncio
import logging
import math
import socket
import ssl
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Protocol

from exporter.web.messages import Request, RequestParser, Response, Slots, text
from exporter.web.tls import Tls

Handler = Callable[[Request], Response | Awaitable[Response]]
PACE = 1024 * 1024  # bytes a second; a client that takes less lags behind
STALLED = 1.0  # seconds
_READ = 16 * 1024  # bytes; a whole record of TLS, so that OpenSSL keeps none back
_CHUNKS = 128  # for one system call, which takes 1,024
_ENCRYPTED = 1024 * 1024  # bytes sent in one turn of the event loop
_UNSENT = 256 * 1024  # bytes the kernel holds for a slow client
_FEW = 4  # responses under way that may fill the kernel's buffers, because it makes them fast
_DROP = struct.pack("ii", 1, 0)
_WAIT = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_FAILURE = text(500, "Internal Server Error")
_TLS_NEEDED = text(400, "Client sent an HTTP request to an HTTPS server.", closes=True)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one server grants its clients: seconds, connections at once, bytes of an unfinished head."""

    handshake_seconds: float = 10.0
    head_seconds: float = 10.0
    idle_seconds: float = 300.0
    response_seconds: float = 60.0
    stall_seconds: float = 10.0
    linger_seconds: float = 2.0
    connections: int = 512
    head_bytes: int = 16 * 1024


class State(Enum):
    """What a connection waits for."""

    HANDSHAKE = auto()
    HEAD = auto()
    HANDLING = auto()
    SENDING = auto()
    LINGERING = auto()
    CLOSED = auto()


class Owner(Protocol):
    """What a connection needs of its server."""

    handler: Handler
    limits: Limits
    sending: "set[Connection]"
    is_stopping: bool

    def forget(self, connection: "Connection") -> None:
        """Take note that the connection is closed."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a task, and cancel it when the server stops."""


class Connection:
    """A client's connection; `since` is when it last changed its state or took bytes of a response."""

    def __init__(self, owner: Owner, sock: socket.socket, tls: Tls | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._owner = owner
        self._limits = owner.limits
        self._tls = tls
        self._sock = sock
        self._state = State.HANDSHAKE if tls else State.HEAD
        self._parser = RequestParser(owner.limits.head_bytes)
        self._requests: deque[Request | Response] = deque()
        self._unsent: Sequence[bytes | memoryview] = ()
        self._slots: Slots | None = None
        self._closing = False
        self._is_bounded = False
        self._reading = self._writing = False
        self._lag = 0.0
        self._response_due = math.inf
        self.since = self._loop.time()
        self._due = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._set_due(owner.limits.handshake_seconds if tls else owner.limits.head_seconds)
        self._watch(reading=True)

    # What the server asks.

    @property
    def is_evictable(self) -> bool:
        """Whether the client has the next move and nothing of it is in use."""
        if self._state is State.SENDING:
            return self._loop.time() - self.since > STALLED
        return self._state is not State.HANDLING and not self._requests

    @property
    def lag(self) -> float:
        """Seconds by which a client that is sent a response is behind `PACE`, the present wait included."""
        return self._lag + self._loop.time() - self.since

    def finish(self) -> None:
        """Close the connection as soon as no response is under way."""
        self._closing = True
        if self._state not in (State.HANDLING, State.SENDING):
            self.close()

    def abort(self) -> None:
        """Close at once; what the kernel still has to send is dropped."""
        if self._state is State.SENDING:
            with suppress(OSError):
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DROP)
        self.close()

    def close(self) -> None:
        """Close the connection; the kernel goes on sending what it has."""
        if self._state is State.CLOSED:
            return
        self._state = State.CLOSED
        self._watch()
        if self._timer is not None:
            self._timer.cancel()
        self._leave_slots()
        self._unsent = ()
        self._sock.close()
        self._owner.forget(self)

    # What the event loop calls.

    def _on_ready(self) -> None:
        """Go on, now that the socket may be read from or written to."""
        try:
            if self._state is State.HEAD:
                self._read()
            elif self._state is State.SENDING:
                self._write()
            elif self._state is State.HANDSHAKE:
                self._shake_hands()
            elif self._state is State.LINGERING:
                self._drain()
            else:  # HANDLING: read it later
                self._watch()
        except ssl.SSLWantReadError:
            self._watch(reading=True)
        except ssl.SSLWantWriteError:
            self._watch(writing=True)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.abort()
        except Exception:
            log.exception("a connection could not be served")
            self.abort()

    def _watch(self, *, reading: bool = False, writing: bool = False) -> None:
        loop, sock = self._loop, self._sock
        if reading is not self._reading:
            self._reading = reading
            loop.add_reader(sock, self._on_ready) if reading else loop.remove_reader(sock)
        if writing is not self._writing:
            self._writing = writing
            loop.add_writer(sock, self._on_ready) if writing else loop.remove_writer(sock)

    def _set_due(self, seconds: float) -> None:
        """Set the deadline; a timer that goes off too early is set anew then, which costs less."""
        self._due = due = self._loop.time() + seconds
        if self._timer is not None and self._timer.when() > due:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._loop.time() >= self._due:
            self.abort()
        else:
            self._timer = self._loop.call_at(self._due, self._on_timer)

    # HANDSHAKE

    def _shake_hands(self) -> None:
        if not (self._tls and isinstance(self._sock, ssl.SSLSocket)):
            return
        try:
            self._sock.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            # OpenSSL has sent its alert. The client is to read it before it is told of the end.
            self._end_encryption()
            if error.reason == "HTTP_REQUEST":
                self._send(_TLS_NEEDED)
            else:
                self._linger()
            return
        if not self._tls.admits(self._sock.getpeercert()):
            self.abort()
            return
        self._state = State.HEAD
        self.since = self._loop.time()
        self._set_due(self._limits.head_seconds)
        self._watch(reading=True)

    # HEAD

    def _read(self) -> None:
        if self._requests:  # they are answered first
            self._watch()
            return
        data = self._sock.recv(_READ)
        if not data:
            self.close()
            return
        was_within_head = self._parser.is_within_head
        self._requests.extend(self._parser.feed(data))
        if self._requests:
            self._answer_next()
        elif self._parser.is_within_head and not was_within_head:
            self._set_due(self._limits.head_seconds)

    def _answer_next(self) -> None:
        """Answer the first of the requests that have been read; the next one in a later turn."""
        if self._state is not State.HEAD or not self._requests:
            return
        request = self._requests.popleft()
        if isinstance(request, Response):
            self._send(request)
            return
        try:
            response = self._owner.handler(request)
        except Exception:
            log.exception("a request could not be answered")
            response = _FAILURE
        if isinstance(response, Response):
            self._send(response, request)
        else:
            self._state = State.HANDLING
            self._set_due(self._limits.response_seconds)
            self._owner.spawn(self._wait_for(response, request))

    # HANDLING

    async def _wait_for(self, response: Awaitable[Response], request: Request) -> None:
        try:
            answer = await response
        except Exception:
            log.exception("a request could not be answered")
            answer = _FAILURE
        if self._state is State.HANDLING:
            self._send(answer, request)

    # SENDING

    def _send(self, response: Response, request: Request | None = None) -> None:
        self._closing |= self._owner.is_stopping or response.closes or request is None or request.is_last
        with_body = request is None or request.method != "HEAD"
        self._unsent = response.encode(closing=self._closing, with_body=with_body)
        self._slots = response.slots
        self._bound_kernel(len(response.chunks) if with_body else 0)
        self._lag = 0.0
        self._state = State.SENDING
        try:
            self._write()
        except _WAIT:
            self._begin_to_wait()
        except OSError:
            self.abort()

    def _bound_kernel(self, chunks: int) -> None:
        """Let the kernel buffer much for a few clients, which is faster, and little for each of many."""
        bounded = len(self._owner.sending) >= _FEW
        if chunks and bounded is not self._is_bounded and hasattr(socket, "TCP_NOTSENT_LOWAT"):
            self._is_bounded = bounded
            unsent = _UNSENT if bounded else 2**31 - 1
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, unsent)

    def _write(self) -> None:
        encrypted = isinstance(self._sock, ssl.SSLSocket)
        sent = (_send_encrypted if encrypted else _send_plain)(self._sock, self._unsent)
        self._unsent = _rest(self._unsent, sent)
        if not self._unsent:
            self._end_response()
        elif self not in self._owner.sending:
            self._begin_to_wait()
        else:
            self._take_note(sent)

    def _begin_to_wait(self) -> None:
        """Wait for room; from now on the response holds a slot."""
        self._owner.sending.add(self)
        if self._slots is not None:
            self._slots.add(self)
        self.since = self._loop.time()
        self._response_due = self.since + self._limits.response_seconds
        self._set_stall_due()
        self._watch(writing=True)

    def _take_note(self, sent: int) -> None:
        now = self._loop.time()
        # What was taken fast earns nothing: who no longer takes any is slow from then on.
        self._lag += max(now - self.since - sent / PACE, 0.0)
        self.since = now
        self._set_stall_due()

    def _set_stall_due(self) -> None:
        left = self._response_due - self._loop.time()
        self._set_due(min(left, self._limits.stall_seconds))

    def _leave_slots(self) -> None:
        self._owner.sending.discard(self)
        if self._slots is not None:
            self._slots.discard(self)
            self._slots = None

    def _end_response(self) -> None:
        self._leave_slots()
        self.since = self._loop.time()
        if self._closing:
            self._linger()
            return
        self._state = State.HEAD
        self._set_due(self._limits.head_seconds if self._parser.is_within_head else self._limits.idle_seconds)
        self._watch(reading=True)
        if self._requests:
            self._loop.call_soon(self._answer_next)

    # LINGERING

    def _linger(self) -> None:
        """End the sending half; a client that is still sending would lose the response to a reset."""
        self._state = State.LINGERING
        self._set_due(self._limits.linger_seconds)
        if isinstance(self._sock, ssl.SSLSocket):
            with suppress(OSError):  # it is sent; for the client's own goodbye nobody waits
                self._sock.unwrap()
            self._end_encryption()
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
        self._watch(reading=True)

    def _end_encryption(self) -> None:
        self._watch()
        self._sock = socket.socket(fileno=self._sock.detach())
        self._sock.setblocking(False)

    def _drain(self) -> None:
        if not self._sock.recv(_READ):
            self.close()


def _send_plain(sock: socket.socket, chunks: Sequence[bytes | memoryview]) -> int:
    return sock.sendmsg(chunks[:_CHUNKS])


def _send_encrypted(sock: socket.socket, chunks: Sequence[bytes | memoryview]) -> int:
    """Send some records, each of which OpenSSL wants to be given again as it was when there was no room."""
    sent = 0
    try:
        for chunk in chunks:
            view = memoryview(chunk)
            for start in range(0, len(view), _READ):
                record = view[start : start + _READ]
                count = sock.send(record)
                sent += count
                if count < len(record) or sent >= _ENCRYPTED:
                    return sent
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
        if not sent:
            raise
    return sent


def _rest(chunks: Sequence[bytes | memoryview], sent: int) -> Sequence[bytes | memoryview]:
    """Return what is left of chunks after `sent` bytes, without a copy."""
    for number, chunk in enumerate(chunks):
        if sent < len(chunk):
            return [memoryview(chunk)[sent:], *chunks[number + 1 :]]
        sent -= len(chunk)
    return ()
