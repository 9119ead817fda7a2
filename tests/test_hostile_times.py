"""An API that refuses or fails for good; clocks that jump; a key file in the wrong moment.

Each test lives through the row of the table that names it.
"""

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from exporter.settings import ApiKey, SettingsError, load, resolve_key
from tests.conftest import until
from tests.hostile import faults
from tests.hostile.scenarios import Scenario, scenario
from tests.hostile.server import Exchange, Fault, FaultServer, Place
from tests.hostile.stage import INTERVAL, Stage, on_stage
from tests.hostile.witness import Witness, models
from tests.programs import KEY

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

YEAR = 365 * 86_400.0
NEW_KEY = f"{KEY}-renewed"
JUNK = "two words"
RELOADED = ("cohere_exporter_reload_successful", frozenset({("file", "api_key")}))


@pytest.fixture
def row(request: pytest.FixtureRequest) -> Scenario:
    return scenario(request.node.originalname)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "api-key"
    path.write_text(KEY)
    return path


def takes(key: str) -> Fault:
    """Answer well to this key alone."""

    async def fault(exchange: Exchange) -> None:
        if exchange.headers.get("authorization") == f"Bearer {key}":
            await exchange.answer(exchange.body)
        else:
            await faults.says(401, {"message": "invalid api token"})(exchange)

    return fault


async def pauses(stage: Stage, polls: int) -> object:
    """Live through polls; return the seconds before each, a few more where one waits for the network."""
    last = stage.exporter.poller.outcome
    assert last is not None
    ends = [last.finished_at] + [(await stage.poll()).finished_at for _ in range(polls)]
    return pytest.approx([later - earlier for earlier, later in pairwise(ends)], abs=5)


async def test_a_refused_key_is_asked_with_less_and_less_often_until_it_is_renewed(
    file: Path, row: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.polling.poller.KEY_CHECK_INTERVAL", INTERVAL)  # else each second is played
    async with FaultServer() as server, on_stage(server, key=ApiKey(file=file)) as stage:
        witness = await Witness.of(stage, row)
        server.faults = dict.fromkeys((Place.LIST, Place.LATER_PAGE), takes(NEW_KEY))
        await witness.fails("unauthorized")
        assert witness.told() == ["poll failed"]
        assert await pauses(stage, 6) == [60.0, 120.0, 240.0, 480.0, 900.0, 900.0]
        await witness.look()
        assert witness.told() == ["data is stale: metrics of models are absent until a poll succeeds"]
        assert models(witness.series) == {}
        file.write_text(NEW_KEY)
        before = stage.clock.time()
        outcome = await witness.recovers()
        assert outcome.finished_at - before <= 2 * INTERVAL + 5, "else the pause of 15 minutes was not ended"


async def test_a_failure_without_end_ends_as_a_gap(row: Scenario) -> None:
    async with FaultServer() as server, on_stage(server) as stage:
        witness = await Witness.of(stage, row)
        snapshot = stage.exporter.exposition.snapshot
        assert snapshot is not None
        good_at = snapshot.listed_at
        assert good_at is not None
        server.faults[Place.LATER_PAGE] = faults.says(503)
        for _ in range(4):
            await witness.fails("server_error", check=False)
        await stage.clock.advance(good_at + 5 * INTERVAL - 0.1 - stage.clock.monotonic())
        assert models(await stage.series()) == witness.before, "not a moment before the cut-off"
        await stage.clock.advance(0.2)
        assert models(await stage.series()) == {}, "nor a moment beyond"
        await stage.poll()
        await stage.poll()
        await witness.look()
        assert witness.told() == ["data is stale: metrics of models are absent until a poll succeeds"]
        await server.heal()
        await witness.recovers()


# Clocks.


async def assert_sane(witness: Witness) -> None:
    """Look, and find no time that is negative, nor a next poll that nobody announced."""
    await witness.look(check=False)
    assert min(witness.series.values()) >= 0
    page = witness.seen[-1]
    assert not re.search(r"-\d+ (s|min|h|d)\b", page)
    assert not re.search(r"next one in .*\bd\b", page)
    assert "backing off" not in page or "The last poll failed" in page


@pytest.mark.parametrize("seconds", [YEAR, -YEAR])
async def test_a_wall_clock_that_jumps_moves_no_poll_and_no_cut_off(seconds: float, row: Scenario) -> None:
    async with FaultServer() as server, on_stage(server) as stage:
        witness = await Witness.of(stage, row)
        started = stage.clock.monotonic()
        stage.clock.unix_offset += seconds
        await assert_sane(witness)
        assert models(witness.series) == witness.before
        await witness.works(check=True)
        assert stage.clock.monotonic() - started <= INTERVAL + 5
        last = witness.series["cohere_exporter_last_poll_timestamp_seconds", frozenset()]
        assert last == pytest.approx(stage.clock.time(), abs=5)
        server.faults[Place.LIST] = faults.says(503)
        await witness.fails("server_error", check=False)
        stage.clock.unix_offset -= seconds
        await assert_sane(witness)
        assert models(witness.series) == witness.before
        await stage.clock.advance(4 * INTERVAL + 1)
        assert models(await stage.series()) == {}
        await server.heal()
        await stage.poll()
        await witness.recovers()


async def test_a_machine_that_slept_for_hours_polls_once_and_at_once(row: Scenario) -> None:
    async with FaultServer() as server, on_stage(server) as stage:
        witness = await Witness.of(stage, row)
        server.requests.clear()
        stage.clock.now += 5 * 3600.0
        assert models(await stage.series()) == {}, "what is five hours old is not shown as new"
        witness.seen.append(await stage.page("/"))
        last = stage.exporter.poller.outcome
        await stage.clock.advance(0)
        await until(lambda: stage.exporter.poller.outcome is not last)
        await witness.look(check=False)
        assert models(witness.series) == witness.before
        assert server.requests == list(Place), "one poll, and none for those that were missed"
        assert await pauses(stage, 1) == [INTERVAL]
        await witness.recovers()


# The key file.


async def test_a_key_file_that_cannot_be_used_leaves_the_last_good_key_in_use(
    file: Path, row: Scenario
) -> None:
    ways: tuple[Callable[[], object], ...] = (
        file.unlink,
        lambda: file.write_bytes(b""),
        lambda: file.write_bytes(JUNK.encode()),
        lambda: file.write_bytes(b"\xff\x00\xfe" * 9),
        lambda: (file.unlink(), file.mkdir()),  # type: ignore[func-returns-value]
    )
    async with FaultServer() as server, on_stage(server, key=ApiKey(file=file)) as stage:
        server.faults = dict.fromkeys(Place, takes(KEY))
        witness = await Witness.of(stage, row)
        for times, damage in enumerate(ways, 1):
            damage()
            await witness.works()
            told_before = times == 4  # one junk is like another
            assert len(witness.log) == (0 if told_before else 1)
            assert JUNK not in str(witness.log)
            with pytest.raises(SettingsError, match=r"--cohere.api-key-file: ") as refusal:
                resolve_key(load([f"--cohere.api-key-file={file}"], {})[1], {})
            assert JUNK not in str(refusal.value)
            witness.seen.append(str(refusal.value))
            await witness.works()
            assert witness.told() == [], "told once, not at each poll"
        assert witness.series[RELOADED] == 0
        file.rmdir()
        file.write_text(KEY)
        await witness.recovers()
        assert witness.series[RELOADED] == 1
        assert witness.told() == ["the API key file can be used again"]
