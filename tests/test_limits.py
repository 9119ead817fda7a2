"""No minute and no month holds more calls than it may, and none waits longer than it must."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.cohere.limits import MONTH, MonthlyBudget, RateLimiter
from exporter.errors import QuotaSpent
from tests.conftest import FakeClock, settle

MINUTE = 60.0
DAY = 86_400.0


async def pass_times(limit: int, arrivals: list[int]) -> list[float]:
    """Let callers arrive, in seconds from the start; give when each passed, in the order of passing."""
    clock = FakeClock()
    limiter = RateLimiter(limit, clock)
    start, passed = clock.monotonic(), list[float]()

    async def caller(arrival: int) -> None:
        await clock.sleep(arrival)
        waited = await limiter.acquire()
        passed.append(clock.monotonic() - start)
        assert waited == passed[-1] - arrival

    async with asyncio.TaskGroup() as group:
        for arrival in arrivals:
            group.create_task(caller(arrival))
        await clock.advance(max(arrivals) + MINUTE * len(arrivals))
    return passed


class TestRateLimiter:
    @settings(max_examples=60, deadline=None)
    @given(st.integers(1, 5), st.lists(st.integers(0, 150), min_size=1, max_size=14))
    def test_no_window_of_a_minute_holds_more_than_the_limit(self, limit: int, arrivals: list[int]) -> None:
        times = asyncio.run(pass_times(limit, arrivals))
        assert len(times) == len(arrivals)
        for first, beyond in zip(times, times[limit:], strict=False):
            assert beyond - first >= MINUTE

    @settings(max_examples=60, deadline=None)
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
        limiter = RateLimiter(10, clock)
        limiter.hold(20.0)
        limiter.hold(5.0)
        callers = [asyncio.create_task(limiter.acquire()) for _ in range(3)]
        await clock.advance(19.9)
        assert not any(caller.done() for caller in callers)
        await clock.advance(0.2)
        assert [caller.result() for caller in callers] == pytest.approx([20.0] * 3)

    @pytest.mark.anyio
    async def test_a_hold_also_stops_those_who_wait_already(self, clock: FakeClock) -> None:
        limiter = RateLimiter(1, clock)
        await limiter.acquire()
        caller = asyncio.create_task(limiter.acquire())
        await clock.advance(50.0)
        limiter.hold(25.0)
        await clock.advance(24.0)
        assert not caller.done()
        await clock.advance(1.0)
        assert caller.result() == 75.0

    @pytest.mark.anyio
    async def test_who_gives_up_takes_no_place(self, clock: FakeClock) -> None:
        limiter = RateLimiter(1, clock)
        await limiter.acquire()
        impatient, patient = (asyncio.create_task(limiter.acquire()) for _ in range(2))
        await clock.advance(10.0)
        impatient.cancel()
        await settle()
        await clock.advance(MINUTE - 10.0)
        assert impatient.cancelled()
        assert patient.result() == MINUTE


class TestMonthlyBudget:
    def test_is_strict(self, clock: FakeClock) -> None:
        budget = MonthlyBudget(3, clock)
        for _ in range(3):
            budget.spend()
        for _ in range(2):
            with pytest.raises(QuotaSpent, match="calls-per-month"):
                budget.spend()

    @pytest.mark.anyio
    async def test_stays_spent_until_the_longest_month_is_over(self, clock: FakeClock) -> None:
        budget = MonthlyBudget(1, clock)
        budget.spend()
        await clock.advance(31 * DAY - 1.0)
        with pytest.raises(QuotaSpent):
            budget.spend()
        await clock.advance(1.0)
        budget.spend()
        with pytest.raises(QuotaSpent):
            budget.spend()

    @pytest.mark.anyio
    async def test_months_that_nobody_used_leave_nothing_behind(self, clock: FakeClock) -> None:
        budget = MonthlyBudget(2, clock)
        await clock.advance(10 * MONTH + 5.0)
        budget.spend()
        budget.spend()
        with pytest.raises(QuotaSpent):
            budget.spend()

    def test_of_zero_is_no_budget(self, clock: FakeClock) -> None:
        budget = MonthlyBudget(0, clock)
        for _ in range(10_000):
            budget.spend()
        assert budget.pace(1_000_000) == 0.0

    def test_a_trial_key_paces_one_call_to_three_quarters_of_an_hour(self, clock: FakeClock) -> None:
        budget = MonthlyBudget(1000, clock)
        assert budget.pace(1) == pytest.approx(31 * DAY / 1000)
        assert budget.pace(4) == pytest.approx(4 * 31 * DAY / 1000)

    def test_what_was_spent_is_missing_from_the_rest(self, clock: FakeClock) -> None:
        budget = MonthlyBudget(10, clock)
        for _ in range(5):
            budget.spend()
        assert budget.pace(1) == pytest.approx(MONTH / 5)

    @pytest.mark.anyio
    async def test_a_spent_or_too_small_budget_paces_to_the_end_of_the_month(self, clock: FakeClock) -> None:
        budget = MonthlyBudget(2, clock)
        await clock.advance(MONTH / 2)
        assert budget.pace(5) == pytest.approx(MONTH / 2)
        budget.spend()
        budget.spend()
        assert budget.pace(1) == pytest.approx(MONTH / 2)

    @settings(max_examples=40, deadline=None)
    @given(st.integers(1, 40), st.data())
    def test_who_keeps_the_pace_never_runs_out(self, calls: int, data: st.DataObject) -> None:
        async def months() -> None:
            clock = FakeClock()
            budget = MonthlyBudget(calls, clock)
            for _ in range(60):
                poll = data.draw(st.integers(1, calls))
                # A moment more, because adding floats may end a hair before the month does.
                await clock.advance(budget.pace(poll) + 0.001)
                for _ in range(poll):
                    budget.spend()

        asyncio.run(months())
