"""No minute and no month holds more calls than it may, and none waits longer than it must."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.cohere.limits import MONTH, MonthlyBudget, RateLimiter
from exporter.errors import QuotaSpent
from tests.conftest import FakeClock, settle

MINUTE = 60.0
HOUR = 3_600.0
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
    async def test_calls_come_back_a_month_after_the_hour_they_were_spent_in(self, clock: FakeClock) -> None:
        budget = MonthlyBudget(2, clock)
        budget.spend()
        await clock.advance(10 * DAY)
        budget.spend()
        await clock.advance(21 * DAY)
        with pytest.raises(QuotaSpent):
            budget.spend()
        await clock.advance(HOUR)
        assert budget.left == 1
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
        assert budget.has_spare
        assert budget.interval(1000, 1000, is_busy=True) == 0.0
        assert budget.readings(60.0) is None

    def test_keeps_half_for_the_list_at_first(self, clock: FakeClock) -> None:
        budget = MonthlyBudget(10, clock)
        # Of the other half one is kept for a list under way, and a part of one because calls come back late.
        for _ in range(3):
            budget.spend(spare=True)
        assert not budget.has_spare
        with pytest.raises(QuotaSpent, match="kept for listing"):
            budget.spend(spare=True)
        assert budget.left == 7
        for _ in range(7):
            budget.spend()

    def test_lets_a_list_grow_by_a_page_and_not_without_end(self, clock: FakeClock) -> None:
        budget = MonthlyBudget(10, clock)
        for _ in range(3):
            budget.spend(spare=True)
        budget.spend(page=0)
        budget.spend(page=1)
        with pytest.raises(QuotaSpent, match="kept for listing"):
            budget.spend(page=2)
        budget.interval(2, 0, is_busy=False)
        budget.spend(page=2)
        assert budget.left == 4

    @pytest.mark.anyio
    async def test_what_the_list_can_no_longer_need_is_spare(self, clock: FakeClock) -> None:
        budget = MonthlyBudget(10, clock)
        for _ in range(3):
            budget.spend(spare=True)
        assert not budget.has_spare
        await clock.advance(MONTH / 2)
        for _ in range(3):
            budget.spend(spare=True)
        assert not budget.has_spare

    def test_keeps_as_much_beside_as_a_list_of_many_pages_needs(self, clock: FakeClock) -> None:
        budget = MonthlyBudget(20, clock)
        budget.interval(6, 0, is_busy=False)
        for _ in range(3):
            budget.spend(spare=True)
        assert not budget.has_spare

    def test_spends_on_an_idle_fleet_as_if_the_rest_were_to_last_a_month(self, clock: FakeClock) -> None:
        budget = MonthlyBudget(1000, clock)
        assert budget.interval(1, 0, is_busy=False) == pytest.approx(MONTH / 1000)
        assert budget.interval(4, 0, is_busy=False) == pytest.approx(4 * MONTH / 1000)

    def test_spends_what_is_spare_over_three_days_while_something_trains(self, clock: FakeClock) -> None:
        budget = MonthlyBudget(1000, clock)
        calls_a_day = 500 / 31 + 500 / 3
        assert budget.interval(1, 3, is_busy=True) == pytest.approx(4 * DAY / calls_a_day)

    def test_waits_for_the_flow_when_too_much_is_spent(self, clock: FakeClock) -> None:
        budget = MonthlyBudget(100, clock)
        for _ in range(60):
            budget.spend()
        assert budget.interval(1, 0, is_busy=True) == pytest.approx((1 + 10) * MONTH / 50, rel=0.01)
        assert budget.readings(60.0) == 0

    def test_reads_a_fleet_at_rest_little_by_little(self, clock: FakeClock) -> None:
        assert MonthlyBudget(1000, clock).readings(60.0) == 10
        assert MonthlyBudget(10, clock).readings(60.0) == 4
        assert MonthlyBudget(2, clock).readings(60.0) == 0

    def test_reads_more_models_where_polls_are_further_apart(self, clock: FakeClock) -> None:
        assert MonthlyBudget(1000, clock).readings(6 * HOUR) == 41
        assert MonthlyBudget(1_000_000, clock).readings(60.0) == 115
        assert MonthlyBudget(1000, clock).readings(20 * DAY) == 499

    def test_reads_one_model_however_little_is_spare(self, clock: FakeClock) -> None:
        assert spent(1000, 490, clock).readings(60.0) == 1
        assert spent(1000, 498, clock).readings(60.0) == 0

    def test_keeps_a_call_beside_the_list_for_readings_once_everything_spare_is_spent(
        self, clock: FakeClock
    ) -> None:
        budget = spent(1000, 498, clock)
        evenly = MONTH / 500
        assert budget.interval(1, 0, is_busy=True) == pytest.approx(evenly, rel=0.1)
        for readings in (1, 300):
            assert budget.interval(1, readings, is_busy=True) == pytest.approx(2 * evenly, rel=0.1)

    def test_does_not_wait_for_more_calls_than_there_are(self, clock: FakeClock) -> None:
        assert MonthlyBudget(20, clock).interval(10**9, 0, is_busy=False) <= 2 * MONTH


def spent(calls: int, spare: int, clock: FakeClock) -> MonthlyBudget:
    """Give a budget of which so many spare calls are spent."""
    budget = MonthlyBudget(calls, clock)
    for _ in range(spare):
        budget.spend(spare=True)
    return budget


class TestReadingsOfManyCalls:
    """As with an API that gives the oldest step metrics first."""

    def budget(self, clock: FakeClock, *, calls: int, models: int) -> MonthlyBudget:
        budget = spent(1000, calls, clock)
        budget.read(models)
        return budget

    def test_are_planned_as_what_the_last_ones_cost_and_a_quarter(self, clock: FakeClock) -> None:
        budget, cheap = (self.budget(clock, calls=calls, models=4) for calls in (32, 4))
        naive_cheap, naive = spent(1000, 4, clock), spent(1000, 32, clock)
        assert cheap.interval(1, 10, is_busy=True) == naive_cheap.interval(1, 10, is_busy=True)
        assert budget.interval(1, 1, is_busy=True) == naive.interval(1, 10, is_busy=True)
        assert (budget.readings(DAY), naive.readings(DAY)) == (15, 155)

    @pytest.mark.anyio
    async def test_wait_until_a_whole_one_is_saved_for(self, clock: FakeClock) -> None:
        budget = self.budget(clock, calls=100, models=1)
        hours = 0
        while not budget.readings(60.0):
            await clock.advance(HOUR)
            hours += 1
        assert budget.readings(60.0) == 1
        assert hours == pytest.approx(72 * 125 / 400, abs=2)

    @pytest.mark.anyio
    async def test_that_are_cut_off_are_taken_to_cost_twice_as_much(self, clock: FakeClock) -> None:
        whole, cut_off = spent(1000, 498, clock), spent(1000, 498, clock)
        with pytest.raises(QuotaSpent):
            cut_off.spend(spare=True)
        for budget in (whole, cut_off):
            budget.read(100)
        await clock.advance(MONTH + HOUR)
        readings = [budget.readings(DAY) for budget in (whole, cut_off)]
        assert readings == [26, 13]

    def test_are_forgotten_little_by_little_where_readings_cost_one_call_again(
        self, clock: FakeClock
    ) -> None:
        budget = self.budget(clock, calls=32, models=4)
        few = budget.readings(DAY) or 0
        for _ in range(30):
            budget.spend(spare=True)
            budget.read(1)
        assert (budget.readings(DAY) or 0) > 5 * few > 0

    def test_that_did_not_take_place_tell_nothing(self, clock: FakeClock) -> None:
        budget = self.budget(clock, calls=32, models=4)
        before = budget.readings(DAY)
        budget.read(0)
        assert budget.readings(DAY) == before

    @pytest.mark.anyio
    async def test_are_tried_however_dear_they_were(self, clock: FakeClock) -> None:
        budget = self.budget(clock, calls=300, models=1)
        assert not budget.readings(60.0)
        await clock.advance(3 * DAY)
        assert budget.readings(60.0) == 1
