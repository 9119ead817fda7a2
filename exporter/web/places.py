"""Places for scrapes: who is served while not all can be.

When every place is taken, a new scrape gets that of one whose client is too slow: which is behind a pace of
1 MiB a second by more than a second, the furthest behind first. If none is, it gets one of the address that
holds most, so that a client that scrapes without end blinds no other. Else it is turned away, at once.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

PACE = 1024 * 1024  # bytes a second
LENIENCE = 1.0  # seconds


def _now() -> float:
    return asyncio.get_running_loop().time()


@dataclass(eq=False)
class Place:
    """A scrape under way: for whom, how to end it, and how long its client has kept it waiting."""

    address: str
    abort: Callable[[], None]
    _behind: float = 0.0
    _since: float = field(default_factory=_now)

    def took(self, count: int) -> None:
        """Note that the client has made room for so many bytes more."""
        # Bytes that were taken fast earn nothing: a client that no longer takes any is slow from then on. And
        # what a busy event loop adds to each wait is less than the pace allows.
        now = _now()
        self._behind += max(now - self._since - count / PACE, 0.0)
        self._since = now

    @property
    def lag(self) -> float:
        """Seconds by which the client is behind the pace, all of the present wait included."""
        return self._behind + _now() - self._since


class Places:
    """So many places, or any number when `limit` is 0."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken: set[Place] = set()

    def enter(self, place: Place) -> bool:
        """Take a place, a free one or another's; tell whether there was one to have."""
        if self._limit and len(self._taken) >= self._limit:
            loser = self._slow() or self._greedy(place.address)
            if loser is None:
                return False
            self.leave(loser)
            loser.abort()
        self._taken.add(place)
        return True

    def leave(self, place: Place) -> None:
        """Give a place back, unless another has it by now."""
        self._taken.discard(place)

    def _slow(self) -> Place | None:
        slowest = max(self._taken, key=lambda place: place.lag)
        return slowest if slowest.lag > LENIENCE else None

    def _greedy(self, newcomer: str) -> Place | None:
        held = Counter(place.address for place in self._taken)
        address, count = held.most_common(1)[0]
        if count < held[newcomer] + 2:
            return None  # to change places would only change who is the greediest
        return max((place for place in self._taken if place.address == address), key=lambda place: place.lag)
