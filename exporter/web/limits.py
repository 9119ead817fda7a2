"""uvicorn's HTTP/1.1 protocol with limits, so that a slow or silent client costs next to nothing.

    state of a connection      ends at the latest
    ─────────────────────────  ──────────────────────────────────────────────────────────────────────
    opened, with TLS           `handshake_seconds` later, unless its handshake is finished
    opened, or just answered   `head_seconds` later, unless a whole request head has come
    being sent an answer       `answer_seconds` later, a scraper's longest patience as a rule: 10 MB
                               may take as little as 170 KB/s; and `stall_seconds` after its buffer
                               filled, unless that has drained

What arrives in between moves no deadline: neither a head in drops nor a body that nobody asked for. When
there are too many connections, one whose client has the next move, a head to send or an answer to take, gives
way: of the address that has most of them, the one that has waited longest. Whoever sends much waits for its
turn, unread. And nothing a client does is worth a line in the log.
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from exporter.web.turns import Connection, Turns, Waiting

_READ = 16 * 1024  # bytes; requests are small, and what comes with one waits in memory until it is answered
_TURNS = 32  # connections heard in one turn of the event loop


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one server grants its clients.

    Seconds; connections at once, and how many of them may be in their handshake, which cost most; bytes of an
    unfinished head.
    """

    handshake_seconds: float = 10.0
    head_seconds: float = 10.0
    answer_seconds: float = 60.0
    stall_seconds: float = 10.0
    connections: int = 512
    handshakes: int = 128
    head_bytes: int = 16 * 1024


class Crowd:
    """What the connections of one server share: who shakes hands, who waits for its client, who may go on."""

    def __init__(self) -> None:
        self.handshakes: Waiting[Connection] = Waiting()
        self.waiting: Waiting[LimitedProtocol] = Waiting()
        self.turns: Turns[LimitedProtocol] = Turns(_TURNS)


class LimitedProtocol(H11Protocol):
    """One connection, within its limits. It hands the application `abort` in the `state` of each request."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: Limits,
        crowd: Crowd,
    ) -> None:
        super().__init__(config, server_state, {**app_state, "abort": self.abort}, _loop)
        self.carrier: asyncio.Transport | None = None  # what TLS goes over, if there is TLS
        self._limits = limits
        self.address = ""
        self.is_lost = False
        self._waits_for_head = False
        self._waiting = crowd.waiting
        self._turns = crowd.turns
        self._deadline = _Deadline(self.loop, self.abort)
        self._stall_deadline = _Deadline(self.loop, self.abort)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Take the connection, at the cost of the one that has waited longest when there are too many."""
        super().connection_made(transport)
        self.address = address_of(transport)
        transport.max_size = _READ  # type: ignore[attr-defined] # of asyncio's own; no other is used
        self._wait_for_head()
        if len(self.connections) > self._limits.connections:
            self._waiting.first_of_most().give_way()  # this one, when all others are being answered

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadlines."""
        self.is_lost = True
        self._waiting.discard(self)
        self._turns.forget(self)
        self._deadline.end()
        self._stall_deadline.end()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override] # as asyncio has it
        """Answer a client that has said all it has to say; leave one that has asked for nothing."""
        if self.carrier is not None or not self._is_answering():
            return False  # TLS ends with its client's half, whatever is said here
        self.cycle.keep_alive = False
        return True

    def handle_events(self) -> None:
        """Handle what has arrived, when it is this connection's turn."""
        if not self._turns.ask(self):
            self.flow.pause_reading()

    def take_turn(self) -> None:
        """Handle what has arrived; with a whole head among it the answer begins."""
        self.flow.resume_reading()
        super().handle_events()
        if self._waits_for_head and self._is_answering():
            self._waits_for_head = False
            self._waiting.discard(self)
            self._deadline.start(self._limits.answer_seconds)

    def on_response_complete(self) -> None:
        """Begin to wait for the next head."""
        # Even on a connection that is closing: the rest of its answer may never be taken.
        self._wait_for_head()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Hold the answer back: the client does not take it as fast as it is made."""
        super().pause_writing()
        self._waiting.add(self)
        self._stall_deadline.start(self._limits.stall_seconds)

    def resume_writing(self) -> None:
        """Go on with the answer."""
        self._stall_deadline.cancel()
        if not self._waits_for_head:
            self._waiting.discard(self)
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer a request that is none."""
        if self.conn.our_state is h11.IDLE:
            super().send_400_response(msg)
        else:
            # Nonsense after a good head, in a body, say. A second answer to it, or one in the middle of
            # the first, would be an error of ours and be logged as one.
            self.abort()

    def give_way(self) -> None:
        """End the connection for the sake of another one."""
        # At once, not only when asyncio says that it is lost: the next one must not make two give way.
        self._waiting.discard(self)
        self.connections.discard(self)
        self.abort()

    def abort(self) -> None:
        """End the connection at once, whatever is still to be sent."""
        # Not close(), which waits for the buffer to drain: such a client may never let it. And not TLS's own
        # abort(), which does nothing any more once asyncio has begun to say goodbye.
        if not self.is_lost:  # after a close() that had to wait, asyncio's abort() of what is lost raises
            (self.carrier or self.transport).abort()

    def _wait_for_head(self) -> None:
        self._waits_for_head = True
        self._waiting.add(self)
        self._deadline.start(self._limits.head_seconds)

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete


def address_of(transport: asyncio.BaseTransport) -> str:
    """Give the address of the client, without its port."""
    return str((transport.get_extra_info("peername") or ("",))[0])


class _Deadline:
    """A moment that is set, perhaps called off, and set again, all for next to nothing.

    A timer once started runs on: when it goes off too early, it is set to the moment of then.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, action: Callable[[], None]) -> None:
        self._loop = loop
        self._action = action
        self._due = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def start(self, seconds: float) -> None:
        self._due = due = self._loop.time() + seconds
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._go_off)
        elif due < self._timer.when():
            self.end()
            self.start(seconds)

    def cancel(self) -> None:
        self._due = math.inf

    def end(self) -> None:
        self._due = math.inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _go_off(self) -> None:
        self._timer = None
        if self._due <= self._loop.time():
            self._action()
        elif self._due < math.inf:
            self._timer = self._loop.call_at(self._due, self._go_off)
