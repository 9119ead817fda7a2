"""The machine's clocks: a steady one, and a machine that sleeps."""

import asyncio
import time

import pytest

from exporter.clock import SystemClock
from tests.conftest import settle

pytestmark = pytest.mark.anyio


class SleepyMachine(SystemClock):
    """A machine whose sleep the event loop does not notice."""

    slept = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.slept


async def test_a_wait_is_over_soon_after_the_machine_slept_through_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("exporter.clock.LONGEST_NAP", 0.01)
    machine = SleepyMachine()
    waiting = asyncio.create_task(machine.sleep(3600))
    await settle()
    machine.slept = 3000
    await asyncio.wait({waiting}, timeout=0.05)
    assert not waiting.done()
    machine.slept = 3600
    await asyncio.wait_for(waiting, 60)


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 0.02])
async def test_a_wait_takes_as_long_as_it_is_told(seconds: float) -> None:
    clock = SystemClock()
    started = clock.monotonic()
    await clock.sleep(seconds)
    assert clock.monotonic() - started >= seconds


async def test_the_steady_clock_never_falls_behind_the_usual_one() -> None:
    assert SystemClock().monotonic() >= time.monotonic() - 0.1
