"""uvicorn's HTTP/1.1 protocol with limits, so that a slow or silent client costs next to nothing.

    state of a connection      ends at the latest
    ─────────────────────────  ──────────────────────────────────────────────────────────────
    opened, with TLS           `handshake_seconds` later, unless its handshake is finished
    opened, or just answered   `head_seconds` later, unless a whole request head has come
    being sent an answer       `stall_seconds` after its buffer filled, unless that has drained

What arrives in between moves no deadline: neither a head in drops nor a body that nobody asked for. And
nothing a client does is worth a line in the log.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one server grants its clients.

    Seconds; connections at once, and how many of them may be in their handshake, which cost most; bytes of an
    unfinished head.
    """

    handshake_seconds: float = 10.0
    head_seconds: float = 10.0
    stall_seconds: float = 10.0
    connections: int = 512
    handshakes: int = 128
    head_bytes: int = 16 * 1024


class LimitedProtocol(H11Protocol):
    """One connection, within its limits."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: Limits,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.carrier: asyncio.Transport | None = None  # what TLS goes over, if there is TLS
        self._max_connections = limits.connections
        self._head_deadline = _Deadline(self.loop, limits.head_seconds, self.abort)
        self._stall_deadline = _Deadline(self.loop, limits.stall_seconds, self.abort)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Take the connection, or end it at once when there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self._max_connections:
            transport.abort()
        else:
            self._head_deadline.start()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadlines."""
        self._head_deadline.cancel()
        self._stall_deadline.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Handle what has arrived; a whole head among it meets the head deadline."""
        super().handle_events()
        if self._is_answering():
            self._head_deadline.cancel()

    def on_response_complete(self) -> None:
        """Begin to wait for the next head."""
        # Started even on a connection that is closing: the rest of its answer may never be taken.
        self._head_deadline.start()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Hold the answer back: the client does not take it as fast as it is made."""
        super().pause_writing()
        self._stall_deadline.start()

    def resume_writing(self) -> None:
        """Go on with the answer."""
        self._stall_deadline.cancel()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer a request that is none."""
        if self.conn.our_state is h11.IDLE:
            super().send_400_response(msg)
        else:
            # Nonsense after a good head, in a body, say. A second answer to it, or one in the middle of
            # the first, would be an error of ours and be logged as one.
            self.abort()

    def abort(self) -> None:
        """End the connection at once, whatever is still to be sent."""
        # Not close(), which waits for the buffer to drain: such a client may never let it. And not TLS's own
        # abort(), which does nothing any more once asyncio has begun to say goodbye.
        (self.carrier or self.transport).abort()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete


class _Deadline:
    """A timer that is started, perhaps cancelled, and started again."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, action: Callable[[], None]) -> None:
        self._loop = loop
        self._seconds = seconds
        self._action = action
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self.cancel()
        self._timer = self._loop.call_later(self._seconds, self._action)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
