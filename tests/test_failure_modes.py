"""Each row of the table of failures: what everybody sees during and after it.

What the API does is read in one place, whatever was asked for, and costs by its reason: so each row is played
on the list, and the first of each reason on each answer of a poll.
"""

import pytest

from tests.hostile.modes import MODES, SLOW, Mode
from tests.hostile.server import TRACE, FaultServer, Place
from tests.hostile.stage import HURRIED, HURRY, Series, Stage, on_stage
from tests.hostile.witness import models

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

POLL_FAILURES = "cohere_exporter_poll_failures_total"
READING_FAILURES = "cohere_exporter_training_metrics_failures_total"


def failures(series: Series) -> dict[tuple[str, str], float]:
    """Return what has been counted: family and reason."""
    return {
        (family, dict(labels)["reason"]): value
        for (family, labels), value in series.items()
        if family in (POLL_FAILURES, READING_FAILURES)
    }


def is_absence(mode: Mode, place: Place) -> bool:
    """Return whether the API only says that a model has no step metrics, to one who knows of none."""
    return mode.reason == "gone" and place is Place.STEPS


def places_of(mode: Mode) -> list[Place]:
    is_first = mode is next(other for other in MODES if other.reason == mode.reason)
    return list(Place) if is_first else [Place.LIST]


async def play(server: FaultServer, mode: Mode, place: Place) -> None:
    if mode.fault is None:
        await server.refuse(place)
    else:
        server.faults[place] = mode.fault


async def assert_alive(stage: Stage) -> None:
    assert await stage.probe("/-/healthy") == 200
    assert await stage.probe("/-/ready") == 200
    await stage.page("/")


async def assert_told(stage: Stage, place: Place, mode: Mode, says: str, before: Series) -> None:
    """Hold a poll with a fault to what the table says of it."""
    outcome = await stage.poll()
    during, lines = await stage.series(), stage.log()
    costs_the_poll = place is not Place.STEPS
    await assert_alive(stage)
    assert models(during) == models(before)
    assert during["cohere_up", frozenset()] == (not costs_the_poll)
    counted = (POLL_FAILURES if costs_the_poll else READING_FAILURES), mode.reason
    assert failures(during) == failures(before) | {counted: failures(before)[counted] + 1}
    (line,) = lines
    assert (line["reason"], line["error"]) == (mode.reason, says)
    assert line.get("trace_id") == (TRACE if mode.traced else None)
    if costs_the_poll:
        assert outcome.reason == mode.reason
        assert line["msg"] == "poll failed"
        assert html(says) in await stage.page("/")
    else:
        assert outcome.reason is None
        assert line["msg"] == "step metrics cannot be read; last good values stay"


async def assert_checked(stage: Stage, place: Place, mode: Mode, says: str) -> None:
    checked = await stage.check()
    assert (says in checked.err) is not is_absence(mode, place)
    if place is Place.STEPS and mode.fault:
        assert checked.code == 0
        assert "model training" in checked.out
    else:
        assert (checked.code, checked.out) == (1, "")
        assert f"reason:     {mode.reason}\n" in checked.err
        assert "  what to do: " in checked.err


def html(text: str) -> str:
    return text.replace("'", "&#x27;")


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
async def test_a_failure_is_told_as_what_it_is_and_ends_with_its_cause(mode: Mode) -> None:
    flags = [HURRIED] if mode.says.startswith(SLOW) else []
    async with FaultServer() as server, on_stage(server, *flags) as stage:
        await stage.poll()
        good = await stage.series()
        assert [line["msg"] for line in stage.log()] == ["models listed"]
        for place in places_of(mode):
            says = mode.says.format(
                api=f"127.0.0.1:{server.port}",
                timeout=f"{HURRY:g} s",
                size="4 MiB" if place is Place.STEPS else "16 MiB",
            )
            before = await stage.series()
            await play(server, mode, place)
            await assert_told(stage, place, mode, says, before)
            await assert_checked(stage, place, mode, says)
            await server.heal()
            assert (await stage.poll()).reason is None
            after = await stage.series()
            assert models(after) == models(good)
            assert after["cohere_up", frozenset()] == 1
            again = "step metrics can be read again" if place is Place.STEPS else "poll succeeded again"
            assert [line["msg"] for line in stage.log()] == [again]
