"""No minute holds more requests than it may, none waits longer than it must, and the list goes first."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.cohere.transport import Endpoint
from exporter.errors import ServerError
from exporter.polling.allowance import RequestAllowance
from exporter.polling.quota import Quota
from tests.conftest import FakeClock, settle
from tests.schedules import allowance_of

MINUTE = 60.0
LIST, STEPS = Endpoint.LIST_FINETUNED_MODELS, Endpoint.LIST_TRAINING_STEP_METRICS


async def passing(allowance: RequestAllowance, endpoint: Endpoint = LIST) -> float:
    """Send a request; return the seconds it waited."""
    async with allowance.request(endpoint, 0) as waited:
        return waited


async def pass_times(limit: int, arrivals: list[int]) -> list[float]:
    """Let callers arrive, in seconds from the start; return when each passed, in the order of passing."""
    clock = FakeClock()
    limiter = allowance_of(clock, requests_per_minute=limit, concurrency=100)
    start, passed = clock.monotonic(), list[float]()

    async def caller(arrival: int) -> None:
        await clock.sleep(arrival)
        waited = await passing(limiter)
        passed.append(clock.monotonic() - start)
        assert waited == passed[-1] - arrival

    async with asyncio.TaskGroup() as group:
        for arrival in arrivals:
            group.create_task(caller(arrival))
        await clock.advance(max(arrivals) + MINUTE * len(arrivals))
    return passed


class TestTheRateLimit:
    @given(st.integers(1, 5), st.lists(st.integers(0, 150), min_size=1, max_size=14))
    def test_each_passes_as_soon_as_it_may_first_come_first_served(
        self, limit: int, arrivals: list[int]
    ) -> None:
        expected: list[float] = []
        for index, arrival in enumerate(sorted(arrivals)):
            free = expected[index - limit] + MINUTE if index >= limit else 0.0
            expected.append(max(arrival, free, *expected[-1:]))
        assert asyncio.run(pass_times(limit, arrivals)) == expected

    @pytest.mark.anyio
    async def test_a_hold_stops_everybody_and_only_as_long_as_asked(self, clock: FakeClock) -> None:
        limiter = allowance_of(clock)
        limiter.wait(LIST, 20.0)
        limiter.wait(LIST, 5.0)
        callers = [asyncio.create_task(passing(limiter)) for _ in range(3)]
        await clock.advance(19.9)
        assert not any(caller.done() for caller in callers)
        await clock.advance(0.2)
        assert [caller.result() for caller in callers] == pytest.approx([20.0] * 3)

    @pytest.mark.anyio
    async def test_a_hold_also_stops_those_who_wait_already(self, clock: FakeClock) -> None:
        limiter = allowance_of(clock, requests_per_minute=1)
        await passing(limiter)
        caller = asyncio.create_task(passing(limiter))
        await clock.advance(50.0)
        limiter.wait(LIST, 25.0)
        await clock.advance(24.0)
        assert not caller.done()
        await clock.advance(1.0)
        assert caller.result() == 75.0

    @pytest.mark.anyio
    async def test_who_gives_up_takes_no_place(self, clock: FakeClock) -> None:
        limiter = allowance_of(clock, requests_per_minute=1)
        await passing(limiter)
        impatient, patient = (asyncio.create_task(passing(limiter)) for _ in range(2))
        await clock.advance(10.0)
        impatient.cancel()
        await settle()
        await clock.advance(MINUTE - 10.0)
        assert impatient.cancelled()
        assert patient.result() == MINUTE


def allowance_with(pages: int, clock: FakeClock) -> RequestAllowance:
    """Return an allowance of 20 requests a minute for a list of so many pages."""
    quota = Quota(0, clock)
    quota.pages = pages
    return allowance_of(clock, requests_per_minute=20, quota=quota)


@pytest.mark.anyio
class TestTheListGoesFirst:
    async def sent(self, allowance: RequestAllowance, clock: FakeClock, seconds: float) -> list[float]:
        """Send step metrics for so long, as many as may be; return when each was sent."""
        start, sent = clock.monotonic(), list[float]()

        async def hungry() -> None:
            while True:
                await passing(allowance, STEPS)
                sent.append(clock.monotonic() - start)
                await clock.sleep(0.01)

        task = asyncio.create_task(hungry())
        await clock.advance(seconds)
        task.cancel()
        return sent

    @pytest.mark.parametrize("pages", [1, 7, 20])
    async def test_step_metrics_leave_room_for_the_pages_of_the_next(
        self, clock: FakeClock, pages: int
    ) -> None:
        allowance = allowance_with(pages, clock)
        due = clock.monotonic() + 30.0
        allowance.plan(due=due, interval=60.0)
        assert len(await self.sent(allowance, clock, 29.9)) == 20 - pages
        await clock.advance(0.1)
        allowance.list_began()
        assert [await passing(allowance) for _ in range(pages)] == [0.0] * pages

    async def test_step_metrics_leave_room_for_every_list_within_a_minute(self, clock: FakeClock) -> None:
        allowance = allowance_with(2, clock)
        allowance.plan(due=clock.monotonic() + 10.0, interval=10.0)
        # Six lists after the first step metrics, which are a minute old by the last of them.
        assert len(await self.sent(allowance, clock, 9.9)) == 1 + 8

    async def test_a_list_that_is_far_off_takes_no_room(self, clock: FakeClock) -> None:
        allowance = allowance_with(20, clock)
        allowance.plan(due=clock.monotonic() + 200.0, interval=200.0)
        assert len(await self.sent(allowance, clock, 130.0)) == 60

    async def test_an_attempt_that_fails_leaves_room_for_its_page(self, clock: FakeClock) -> None:
        allowance = allowance_with(7, clock)
        allowance.plan(due=clock.monotonic() + 60.0, interval=60.0)
        allowance.list_began()
        for _ in range(7):
            with pytest.raises(ServerError):
                async with allowance.request(LIST, 0):
                    raise ServerError("x")
            step_metrics = asyncio.create_task(self.sent(allowance, clock, 1.0))
            await clock.advance(1.0)
            await step_metrics
        pages = [asyncio.create_task(passing(allowance)) for _ in range(7)]
        await clock.advance(1.0)
        assert [page.result() for page in pages] == [0.0] * 7

    @pytest.mark.parametrize(("concurrency", "most"), [(1, 1), (2, 1), (8, 7)])
    async def test_step_metrics_leave_a_place(self, clock: FakeClock, concurrency: int, most: int) -> None:
        allowance = allowance_of(clock, concurrency=concurrency)
        allowance.plan(due=clock.monotonic() + 60.0, interval=60.0)
        in_flight = 0

        async def slow() -> None:
            nonlocal in_flight
            async with allowance.request(STEPS, 0):
                in_flight += 1
                await clock.sleep(30.0)
                in_flight -= 1

        tasks = [asyncio.create_task(slow()) for _ in range(20)]
        await settle()
        assert in_flight == most
        allowance.list_began()
        listing = asyncio.create_task(passing(allowance))
        await clock.advance(31.0)
        assert listing.done()
        assert (listing.result() == 0.0) is (concurrency > 1)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    @pytest.mark.parametrize(("asked_by", "held"), [(LIST, {LIST, STEPS}), (STEPS, {STEPS})])
    @pytest.mark.parametrize(("asked", "kept"), [(5.0, 5.0), (31.0, 31.0), (3600.0, 3600.0), (1e9, 3600.0)])
    async def test_a_pause_holds_what_it_concerns_for_all_of_its_time(
        self, clock: FakeClock, asked_by: Endpoint, held: set[Endpoint], asked: float, kept: float
    ) -> None:
        allowance = allowance_of(clock)
        allowance.plan(due=clock.monotonic() + 1e6, interval=60.0)
        allowance.wait(asked_by, asked)
        waiting = {endpoint: asyncio.create_task(passing(allowance, endpoint)) for endpoint in Endpoint}
        await clock.advance(kept + 0.001)
        for endpoint, task in waiting.items():
            assert task.result() == (kept if endpoint in held else 0.0)


@pytest.mark.parametrize(
    ("limit", "pages", "seconds", "has_step_metrics", "interval"),
    [
        (300, 1, 0.3, True, 0.4),
        (41, 20, 6.0, True, 33.0),
        (40, 20, 6.0, True, 66.0),
        (20, 20, 6.0, True, 127.0),
        (40, 20, 6.0, False, 33.0),
        (300, 151, 45.0, True, 105.0),
        (300, 151, 45.0, False, 105.0),
        (20, 21, 60.3, False, 63.0),
    ],
)
def test_lists_are_so_far_apart_that_step_metrics_have_room(
    clock: FakeClock, limit: int, pages: int, seconds: float, has_step_metrics: bool, interval: float
) -> None:
    quota = Quota(0, clock)
    quota.listed(pages)
    allowance = allowance_of(clock, requests_per_minute=limit, quota=quota)
    assert allowance.least_interval(seconds, has_step_metrics=has_step_metrics) == pytest.approx(interval)
