"""Fairness among addresses: whose connection waits, whose turn it is, who gives way.

One client can open any number of connections. So what is scarce goes to addresses in turn, and is taken from
the address that has most.
"""

import asyncio
from collections.abc import Hashable, Iterator
from itertools import chain
from typing import Generic, Protocol, TypeVar


class Connection(Hashable, Protocol):
    """What waits."""

    address: str

    def give_way(self) -> None:
        """End for the sake of another."""


class Talking(Connection, Protocol):
    """What waits for its turn."""

    def take_turn(self) -> None:
        """Go on, a moment's work."""


C = TypeVar("C", bound=Connection)
T = TypeVar("T", bound=Talking)


class Waiting(Generic[C]):
    """Connections that wait, of each address the one that has waited longest first."""

    def __init__(self) -> None:
        self._queues: dict[str, dict[C, None]] = {}

    def add(self, connection: C) -> None:
        """Put it at the end of its queue."""
        self.discard(connection)
        self._queues.setdefault(connection.address, {})[connection] = None

    def discard(self, connection: C) -> None:
        """Take it out, if it is in."""
        queue = self._queues.get(connection.address, {})
        queue.pop(connection, None)
        if not queue:
            self._queues.pop(connection.address, None)

    def __contains__(self, connection: C) -> bool:
        return connection in self._queues.get(connection.address, {})

    def __bool__(self) -> bool:
        return bool(self._queues)

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def __iter__(self) -> Iterator[C]:
        return chain.from_iterable(self._queues.values())

    def next(self) -> C:
        """Take out the first of the address whose turn it is."""
        address = next(iter(self._queues))
        queue = self._queues.pop(address)
        connection = next(iter(queue))
        del queue[connection]
        if queue:
            self._queues[address] = queue  # as the last
        return connection

    def first_of_most(self) -> C:
        """Give the first of the address that has most."""
        largest = max(self._queues.values(), key=len)
        return next(iter(largest))


class Turns(Generic[T]):
    """Lets `size` connections go on in one turn of the event loop: a flood delays no answer under way."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._left = size
        self._waiting: Waiting[T] = Waiting()

    def ask(self, connection: T) -> bool:
        """Give it its turn, now or as soon as may be; tell whether it was now."""
        if self._left == self._size:
            asyncio.get_running_loop().call_soon(self._begin)
        if not self._left:
            self._waiting.add(connection)
            return False
        self._left -= 1
        connection.take_turn()
        return True

    def forget(self, connection: T) -> None:
        """Let a connection that is lost wait no longer."""
        self._waiting.discard(connection)

    def _begin(self) -> None:
        self._left = self._size
        try:
            while self._left and self._waiting:
                self._left -= 1
                self._waiting.next().take_turn()
        finally:  # one that fails must not make the others wait for ever
            if self._left < self._size:
                asyncio.get_running_loop().call_soon(self._begin)
