"""Who is served while not all can be; time is that of the event loop, moved by hand."""

import asyncio
from collections.abc import Iterator

import pytest

from exporter.web.places import PACE, Place, Places

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


class Time:
    """What the event loop takes for the time."""

    def __init__(self) -> None:
        self.now = 0.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Iterator[Time]:
    time = Time()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: time)
    yield time
    monkeypatch.undo()


class Scrape(Place):
    """One that knows whether it was ended."""

    def __init__(self, address: str = "a") -> None:
        super().__init__(address, self._end)
        self.ended = False

    def _end(self) -> None:
        self.ended = True


def full(*scrapes: Scrape) -> Places:
    places = Places(len(scrapes))
    for scrape in scrapes:
        assert places.enter(scrape)
    return places


def test_who_comes_when_all_are_quick_is_turned_away(time: Time) -> None:
    quick = Scrape(), Scrape()
    places = full(*quick)
    for _ in range(100):
        time.now += 0.2
        for scrape in quick:
            scrape.took(MIB // 4)
        assert not places.enter(Scrape())
    assert not any(scrape.ended for scrape in quick)


def test_the_slowest_gives_way_once_it_is_a_second_behind(time: Time) -> None:
    stuck, slow = Scrape(), Scrape()
    places = full(stuck, slow)
    time.now = 0.9
    assert not places.enter(Scrape())
    slow.took(MIB // 4)
    time.now = 1.1
    assert places.enter(Scrape())
    assert (stuck.ended, slow.ended) == (True, False)


def test_to_take_a_little_now_and_then_is_slow_too(time: Time) -> None:
    sipping = Scrape()
    places = full(sipping)
    for _ in range(3):
        time.now += 0.9
        sipping.took(MIB // 4)
    assert places.enter(Scrape())
    assert sipping.ended


def test_what_was_taken_fast_does_not_excuse_who_takes_no_more(time: Time) -> None:
    stopped = Scrape()
    places = full(stopped)
    stopped.took(100 * MIB)
    time.now = 1.1
    assert places.enter(Scrape())


def test_a_slow_link_that_keeps_the_pace_keeps_its_place(time: Time) -> None:
    honest = Scrape()
    places = full(honest)
    for _ in range(40):
        time.now += 256 * 1024 / PACE
        honest.took(256 * 1024)
        assert not places.enter(Scrape())


def test_an_address_with_many_gives_way_to_one_with_few(time: Time) -> None:
    flood = [Scrape("a") for _ in range(4)]
    places = full(*flood)
    assert places.enter(Scrape("b"))
    assert places.enter(Scrape("b"))
    assert not places.enter(Scrape("b")), "both have as many by now"
    assert sum(scrape.ended for scrape in flood) == 2


def test_who_had_to_give_way_frees_no_second_place(time: Time) -> None:
    loser = Scrape()
    places = full(loser)
    time.now = 2
    assert places.enter(Scrape())
    places.leave(loser)
    assert not places.enter(Scrape())


def test_no_limit_is_none(time: Time) -> None:
    places = Places(0)
    assert all(places.enter(Scrape()) for _ in range(1_000))
