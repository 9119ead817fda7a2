"""What a server grants its clients, and when one of them has to go.

Caps and deadlines, no fairness: clients are not told apart by their addresses.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

PACE = 1024 * 1024  # bytes a second; a client that takes less lags behind
LENIENCE = 0.02  # seconds by which a client may lag although others wait for its place
STALLED = 1.0  # seconds without any room, after which a response may make way for a connection


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


class TokenBucket:
    """Lets `burst` requests pass at once, and one more each `interval` seconds."""

    def __init__(self, interval: float, burst: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._interval = interval
        self._burst = burst
        self._monotonic = monotonic
        self._tokens = float(burst)
        self._filled_at = monotonic()

    def take(self) -> bool:
        """Return whether a request may pass now."""
        now = self._monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) / self._interval)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
