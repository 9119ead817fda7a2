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
sends much waits; requests sent ahead are answered in order, one of all clients' in each turn of the event
loop. Nothing a client does is worth a line in the log.
"""

import asyncio
import logging
import math
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import TYPE_CHECKING

from exporter.web.channel import Channel, Chunks, EncryptedChannel, HandshakeFailed, SpokeHttp, rest
from exporter.web.limits import PACE, STALLED
from exporter.web.messages import Request, RequestParser, Response, text

if TYPE_CHECKING:
    from exporter.web.server import WebServer

Handler = Callable[[Request], Response | Awaitable[Response]]
_FEW = 4  # responses under way that may fill the kernel's buffers, because it makes them fast
_FAILURE = text(500, "Internal Server Error")
_TLS_NEEDED = text(400, "Client sent an HTTP request to an HTTPS server.")

log = logging.getLogger(__name__)

State = Enum("State", "HANDSHAKE HEAD HANDLING SENDING LINGERING CLOSED")  # what is waited for


class Connection:
    """A client's connection; `since` is when it last changed its state or took bytes of a response."""

    def __init__(self, server: "WebServer", channel: Channel) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = server
        self._limits = limits = server.limits
        self._channel = channel
        self._parser = RequestParser(limits.head_bytes)
        self._requests: deque[Request | Response] = deque()
        self._unsent: Chunks = ()
        self._closing = False
        self._lag = 0.0
        self._response_due = math.inf
        self._state = State.HEAD
        if isinstance(channel, EncryptedChannel):
            self._enter(State.HANDSHAKE, limits.handshake_seconds)
        else:
            self._enter(State.HEAD, limits.head_seconds)
        self._watch(reading=True)

    # What the server asks.

    @property
    def is_evictable(self) -> bool:
        """Whether the client has the next move and nothing of it is in use."""
        if self._state is State.SENDING:
            return self._loop.time() - self.since > STALLED
        return self._state is not State.HANDLING

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
            self._channel.drop()
        self.close()

    def close(self) -> None:
        """Close the connection; the kernel goes on sending what it has."""
        if self._state is State.CLOSED:
            return
        self._state = State.CLOSED
        self._watch()
        self._server.in_flight.discard(self)
        self._unsent = ()
        self._channel.sock.close()
        self._server.forget(self)

    # What the event loop calls.

    def _on_ready(self) -> None:
        """Go on, now that the socket may be read from or written to."""
        try:
            if self._state in (State.HEAD, State.LINGERING):
                self._read()
            elif self._state is State.SENDING:
                self._write()
            elif self._state is State.HANDSHAKE:
                self._shake_hands()
            else:  # HANDLING: read it later
                self._watch()
        except (BlockingIOError, ssl.SSLWantReadError):
            self._watch(reading=True)
        except ssl.SSLWantWriteError:
            self._watch(writing=True)
        except OSError:
            self.abort()
        except Exception:
            log.exception("a connection could not be served")
            self.abort()

    def _watch(self, *, reading: bool = False, writing: bool = False) -> None:
        self._channel.watch(self._on_ready, reading=reading, writing=writing)

    def _enter(self, state: State, seconds: float) -> None:
        self._state = state
        self.since = now = self._loop.time()
        self.due = now + seconds

    def _shake_hands(self) -> None:
        if not isinstance(self._channel, EncryptedChannel):
            return
        try:
            self._channel.shake_hands()
        except SpokeHttp:
            self._send(_TLS_NEEDED)
        except HandshakeFailed:
            self._half_close()
        else:
            self._enter(State.HEAD, self._limits.head_seconds)
            self._watch(reading=True)

    def _read(self) -> None:
        data = self._channel.receive()
        if not data:
            self.close()
        elif self._state is State.HEAD:
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        parser = self._parser
        was_within_head = parser.is_within_head
        self._requests.extend(parser.feed(data))
        if len(self._requests) == 1:
            self._answer_next()
        elif self._requests:
            self._queue()
        elif parser.is_within_head and not was_within_head:
            self.due = self._loop.time() + self._limits.head_seconds

    def _queue(self) -> None:
        """Wait for a turn: who sends many requests ahead is to hold up nobody else."""
        self._enter(State.HANDLING, self._limits.response_seconds)
        self._server.queue(self._answer_next)

    def _answer_next(self) -> None:
        """Answer the first of the requests that have been read."""
        if self._state is State.CLOSED:
            return
        request = self._requests.popleft()
        if isinstance(request, Response):
            self._send(request)
            return
        try:
            response = self._server.handler(request)
        except Exception:
            log.exception("a request could not be answered")
            response = _FAILURE
        if isinstance(response, Response):
            self._send(response, request)
        else:
            self._enter(State.HANDLING, self._limits.response_seconds)
            self._server.spawn(self._wait_for(response, request))

    async def _wait_for(self, coming: Awaitable[Response], request: Request) -> None:
        try:
            response = await coming
        except Exception:
            log.exception("a request could not be answered")
            response = _FAILURE
        if self._state is State.HANDLING:
            self._send(response, request)

    def _send(self, response: Response, request: Request | None = None) -> None:
        """Begin to send; after a response to what was no request, the connection ends."""
        self._closing |= self._server.is_stopping or request is None or request.is_last
        with_body = request is None or request.method != "HEAD"
        self._unsent = response.encode(closing=self._closing, with_body=with_body)
        self._state = State.SENDING
        try:
            # Much for a few clients, and little for each of many.
            self._channel.bound_kernel(bounded=len(self._server.in_flight) >= _FEW)
            self._write()
        except OSError:
            self.abort()

    def _write(self) -> None:
        sent = self._channel.send(self._unsent)
        self._unsent = rest(self._unsent, sent)
        if not self._unsent:
            self._end_response()
        elif self not in self._server.in_flight:
            self._begin_to_wait()
        elif sent:
            self._count_sent(sent)

    def _begin_to_wait(self) -> None:
        """Wait for room; from now on the response is in flight."""
        self._server.in_flight.add(self)
        self._lag = 0.0
        self._enter(State.SENDING, self._limits.stall_seconds)
        self._response_due = self.since + self._limits.response_seconds
        self._watch(writing=True)

    def _count_sent(self, sent: int) -> None:
        now = self._loop.time()
        # What was taken fast earns nothing: who no longer takes any is slow from then on.
        self._lag += max(now - self.since - sent / PACE, 0.0)
        self.since = now
        self.due = min(self._response_due, now + self._limits.stall_seconds)

    def _end_response(self) -> None:
        self._server.in_flight.discard(self)
        if self._closing:
            self._half_close()
        elif self._requests:
            self._queue()
        else:
            limits, is_within_head = self._limits, self._parser.is_within_head
            self._enter(State.HEAD, limits.head_seconds if is_within_head else limits.idle_seconds)
            self._watch(reading=True)

    def _half_close(self) -> None:
        """End the sending half; a client that is still sending would lose the response to a reset."""
        self._enter(State.LINGERING, self._limits.linger_seconds)
        self._channel.end()
        self._watch(reading=True)
