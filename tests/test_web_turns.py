"""Whose turn it is, and who gives way."""

import asyncio
from dataclasses import dataclass, field

import pytest

from exporter.web.turns import Turns, Waiting

pytestmark = pytest.mark.anyio


@dataclass(eq=False)
class Client:
    """A connection of an address; `heard` is the turn of the event loop in which it went on."""

    address: str
    heard: list[int] = field(default_factory=list)

    def take_turn(self) -> None:
        self.heard.append(Client.turn)

    def give_way(self) -> None:
        raise AssertionError("nobody asked for it")

    turn = 0


@pytest.fixture(autouse=True)
def _turns() -> None:
    Client.turn = 0


async def pass_turns(count: int) -> None:
    for _ in range(count):
        Client.turn += 1
        await asyncio.sleep(0)


def crowd(address: str, count: int) -> list[Client]:
    return [Client(address) for _ in range(count)]


async def test_few_go_on_at_once() -> None:
    turns: Turns[Client] = Turns(2)
    one, other = crowd("a", 2)
    assert turns.ask(one)
    assert turns.ask(other)
    assert [one.heard, other.heard] == [[0], [0]]


async def test_many_go_on_by_and_by_each_once_and_in_order() -> None:
    turns: Turns[Client] = Turns(3)
    clients = crowd("a", 10)
    asked = [turns.ask(client) for client in clients]
    await pass_turns(10)
    assert asked == [True] * 3 + [False] * 7
    heard = [turn for client in clients for turn in client.heard]
    assert len(heard) == len(clients)
    assert heard == sorted(heard)
    assert max(map(heard.count, heard)) == 3


async def test_a_new_address_does_not_wait_behind_a_crowd() -> None:
    turns: Turns[Client] = Turns(2)
    flood = crowd("a", 100)
    for client in flood:
        turns.ask(client)
    good = Client("b")
    turns.ask(good)
    await pass_turns(2)
    assert good.heard
    assert sum(len(client.heard) for client in flood) < 10


async def test_who_is_lost_is_not_waited_for() -> None:
    turns: Turns[Client] = Turns(1)
    first, lost, last = crowd("a", 3)
    for client in (first, lost, last):
        turns.ask(client)
    turns.forget(lost)
    await pass_turns(3)
    assert [bool(client.heard) for client in (first, lost, last)] == [True, False, True]


async def test_when_nobody_asks_nothing_runs() -> None:
    turns: Turns[Client] = Turns(1)
    turns.ask(Client("a"))
    await pass_turns(3)
    assert not asyncio.get_running_loop()._ready  # type: ignore[attr-defined]


def test_the_longest_wait_of_the_largest_crowd_gives_way() -> None:
    waiting: Waiting[Client] = Waiting()
    good, flood = Client("b"), crowd("a", 3)
    for client in (good, *flood):
        waiting.add(client)
    assert waiting.first_of_most() is flood[0]
    waiting.add(flood[0])  # it was served, and waits anew
    assert waiting.first_of_most() is flood[1]
    waiting.discard(flood[1])
    assert flood[1] not in waiting
    assert good in waiting


def test_who_has_left_leaves_nothing() -> None:
    waiting: Waiting[Client] = Waiting()
    client = Client("a")
    waiting.add(client)
    waiting.discard(client)
    waiting.discard(client)
    assert not waiting
    assert not waiting._queues
