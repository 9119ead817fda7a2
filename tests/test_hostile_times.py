"""An API that refuses, fails for a while or for good; clocks that jump; a key file in the wrong moment.

Each test lives through the row of the table that names it.
"""

import re
from collections.abc import Callable
from email.utils import formatdate
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from exporter.settings import ApiKey, SettingsError, load, resolve_key
from tests.conftest import until
from tests.hostile import faults
from tests.hostile.scenarios import Scenario, scenario
from tests.hostile.server import Exchange, Fault, FaultServer, Place, model
from tests.hostile.stage import INTERVAL, Stage, on_stage
from tests.hostile.witness import Witness, models
from tests.programs import KEY

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

HOUR = 3600.0
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


def put(key: str, file: Path) -> None:
    """Rotate the key in the file."""
    file.write_text(key)


def takes(key: str, refusal: Fault) -> Fault:
    """Answer well to this key alone."""

    async def fault(exchange: Exchange) -> None:
        if exchange.headers.get("authorization") == f"Bearer {key}":
            await exchange.answer(exchange.body)
        else:
            await refusal(exchange)

    return fault


def then(act: Callable[[], object], fault: Fault) -> Fault:
    """Act when asked for the first time, and play the fault."""
    left = [act]

    async def acting(exchange: Exchange) -> None:
        if left:
            left.pop()()
        await fault(exchange)

    return acting


def sometimes(fails: Callable[[int], bool], fault: Fault) -> Fault:
    """Play the fault on those requests, counted from 1, for which `fails` holds."""
    count = 0

    async def playing(exchange: Exchange) -> None:
        nonlocal count
        count += 1
        if fails(count):
            await fault(exchange)
        else:
            await exchange.answer(exchange.body)

    return playing


async def good(exchange: Exchange) -> None:
    await exchange.answer(exchange.body)


UNAVAILABLE = faults.says(503, {"message": "unavailable"})
REFUSED = faults.says(401, {"message": "invalid api token"})


# The API refuses.


async def pauses(stage: Stage, polls: int) -> object:
    """Live through so many polls and give the seconds before each, to be compared with what they should be.

    A poll that waits for the network may end a few seconds later by the clock of the stage.
    """
    last = stage.exporter.poller.outcome
    assert last is not None
    ends = [last.finished_at] + [(await stage.poll()).finished_at for _ in range(polls)]
    return pytest.approx([later - earlier for earlier, later in pairwise(ends)], abs=5)


async def is_left_alone(witness: Witness, reason: str, longest: float) -> None:
    """Be refused until the pause is the longest; it is told once, and once more that the data is stale."""
    await witness.fails(reason)
    assert witness.told() == ["poll failed"]
    doubled = [INTERVAL * 2.0**n for n in range(8)]
    expected = [min(pause, longest) for pause in doubled]
    assert await pauses(witness.stage, len(expected)) == expected
    await witness.look()
    assert witness.told() == ["data is stale: metrics of models are absent until a poll succeeds"]
    assert models(witness.series) == {}


@pytest.mark.parametrize(
    ("reason", "refusal"),
    [
        ("unauthorized", REFUSED),
        ("payment_required", faults.says(402, {"message": "please pay"})),
        ("forbidden", faults.says(403, b"<html>not here</html>", Content_Type="text/html")),
    ],
)
async def test_a_refused_key_is_asked_with_less_and_less_often_until_it_is_renewed(
    reason: str, refusal: Fault, file: Path, row: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.polling.poller.KEY_CHECK_INTERVAL", INTERVAL)  # else each second is played
    async with FaultServer() as server, on_stage(server, key=ApiKey(file=file)) as stage:
        witness = await Witness.of(stage, row)
        for place in (Place.LIST, Place.LATER_PAGE):
            server.faults[place] = takes(NEW_KEY, refusal)
        await is_left_alone(witness, reason, 900.0)
        put(NEW_KEY, file)
        before = stage.clock.time()
        outcome = await witness.recovers()
        assert outcome.finished_at - before <= 2 * INTERVAL + 5, "else the pause of 15 minutes was not ended"


@pytest.mark.parametrize("status", [404, 410])
async def test_an_api_that_is_gone_is_looked_for_every_ten_minutes(status: int, row: Scenario) -> None:
    async with FaultServer() as server, on_stage(server) as stage:
        witness = await Witness.of(stage, row)
        message = "fine-tuning was removed on September 15, 2025"
        server.faults[Place.LIST] = faults.says(status, {"id": "x", "message": message})
        await is_left_alone(witness, "gone", 600.0)
        await server.heal()
        await witness.recovers()


async def test_a_spent_month_is_asked_about_every_hour(row: Scenario) -> None:
    async with FaultServer() as server, on_stage(server) as stage:
        witness = await Witness.of(stage, row)
        spent = {"message": "You are using a Trial key, which is limited to 1000 API calls / month."}
        server.faults[Place.LIST] = faults.says(429, spent, Retry_After="1")
        await is_left_alone(witness, "rate_limited", HOUR)
        assert len(server.requests) == 3 + 9 + 2, "a spent month is not asked about again within a poll"
        await server.heal()
        await witness.recovers()


RESTS: tuple[tuple[Callable[[float], str | None], float], ...] = (
    (lambda now: "90", 90.0),
    (lambda now: formatdate(now + 200, usegmt=True), 200.0),
    (lambda now: "7200", HOUR),
    (lambda now: "9" * 400, HOUR),
    (lambda now: formatdate(now + YEAR, usegmt=True), HOUR),
    (lambda now: "90\r\nRetry-After: 200\r\nRetry-After: soon", 200.0),
    (lambda now: None, INTERVAL),
    (lambda now: formatdate(now - 90, usegmt=True), INTERVAL),
    (lambda now: "soon", INTERVAL),
    (lambda now: "-90", INTERVAL),
    (lambda now: "90.5", INTERVAL),
    (lambda now: "", INTERVAL),
)


async def test_every_form_of_retry_after_is_kept_to_or_passed_over(row: Scenario) -> None:
    async with FaultServer() as server, on_stage(server) as stage:
        witness = await Witness.of(stage, row)
        asked: list[float] = []
        for form, rest in RESTS:

            async def refuse(exchange: Exchange, form: Callable[[float], str | None] = form) -> None:
                asked.append(stage.clock.monotonic())
                value = form(stage.clock.time())
                headers = {} if value is None else {"Retry_After": value}
                await faults.says(429, {"message": "slow down"}, **headers)(exchange)

            server.faults[Place.LIST] = refuse
            before = len(asked)
            await stage.poll()
            due = asked[before] + rest
            assert stage.exporter.poller.next_poll_at == pytest.approx(
                stage.clock.time() + due - stage.clock.monotonic()
            )
            await witness.look(check=False)
        await witness.look()
        await server.heal()
        await witness.recovers()


@pytest.mark.parametrize("form", [lambda now: "150", lambda now: formatdate(now + 150, usegmt=True)])
async def test_a_rest_for_step_metrics_leaves_the_list_alone(
    form: Callable[[float], str], row: Scenario
) -> None:
    async with FaultServer() as server, on_stage(server) as stage:
        witness = await Witness.of(stage, row)

        async def refuse(exchange: Exchange) -> None:
            rest = form(stage.clock.time())
            await faults.says(429, {"message": "slow down"}, Retry_After=rest)(exchange)

        server.faults[Place.STEPS] = refuse
        server.requests.clear()
        await witness.works(check=True)
        assert witness.told() == ["step metrics cannot be read; last good values stay"]
        assert await pauses(stage, 1) == [INTERVAL]
        assert server.requests.count(Place.STEPS) == 2, "one of the exporter, one of check"
        await witness.look(check=False)
        assert witness.told() == []
        await server.heal()
        await stage.poll()  # the pause ends a while after this one
        await witness.recovers()


# The API fails for a while, or in part.


@pytest.mark.parametrize("place", Place)
async def test_a_failure_of_a_second_is_tried_again_and_not_worth_a_line(place: Place, row: Scenario) -> None:
    async with FaultServer() as server, on_stage(server) as stage:
        witness = await Witness.of(stage, row)
        server.faults[place] = sometimes(lambda number: number == 1, UNAVAILABLE)
        await witness.works()
        assert witness.told() == []
        endpoint = "list_training_step_metrics" if place is Place.STEPS else "list_finetuned_models"
        retries = ("cohere_exporter_api_retries_total", frozenset({("endpoint", endpoint)}))
        assert witness.series[retries] == 1
        await server.heal()
        await witness.recovers()
        assert witness.told() == []


@pytest.mark.parametrize("place", [Place.LIST, Place.LATER_PAGE])
async def test_a_failure_of_a_minute_costs_a_poll_and_no_model(place: Place, row: Scenario) -> None:
    async with FaultServer() as server, on_stage(server) as stage:
        witness = await Witness.of(stage, row)
        server.faults[place] = UNAVAILABLE
        await witness.fails("server_error")
        assert witness.told() == ["poll failed"]
        await server.heal()
        await witness.recovers()
        assert witness.told() == ["poll succeeded again"]


async def test_a_failure_without_end_ends_as_a_gap(row: Scenario) -> None:
    async with FaultServer() as server, on_stage(server) as stage:
        witness = await Witness.of(stage, row)
        snapshot = stage.exporter.exposition.snapshot
        assert snapshot is not None
        good_at = snapshot.listed_at
        assert good_at is not None
        server.faults[Place.LATER_PAGE] = UNAVAILABLE
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


async def test_a_failure_on_one_model_costs_that_model_alone(row: Scenario) -> None:
    names = ("broken", "sound")
    lists = [{"finetuned_models": [model(name, status="STATUS_FINETUNING") for name in names]}]
    async with FaultServer(lists=lists) as server, on_stage(server) as stage:
        witness = await Witness.of(stage, row)
        asked: list[str] = []

        async def fault(exchange: Exchange) -> None:
            asked.append("broken" if "/broken/" in exchange.target else "sound")
            await (faults.says(500, {"message": "nil"}) if asked[-1] == "broken" else good)(exchange)

        server.faults[Place.STEPS] = fault
        await witness.works(check=True)
        assert witness.told() == ["step metrics cannot be read; last good values stay"]
        asked.clear()
        await pauses(stage, 20)
        assert asked.count("sound") == 20
        assert 1 <= asked.count("broken") / 3 <= 5, "retried within a poll, and asked for ever more seldom"
        await witness.look()
        assert witness.told() == []
        witness.saw(row.during)
        await server.heal()
        while "step metrics can be read again" not in witness.told():
            await witness.works()
        witness.saw(row.after)


# Clocks.


def jump(stage: Stage, seconds: float) -> None:
    """Set the wall clock to another time, as an administrator or NTP would."""
    stage.clock.unix_offset += seconds


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
        jump(stage, seconds)
        await assert_sane(witness)
        assert models(witness.series) == witness.before
        await witness.works(check=True)
        assert stage.clock.monotonic() - started <= INTERVAL + 5
        last = witness.series["cohere_exporter_last_poll_timestamp_seconds", frozenset()]
        assert last == pytest.approx(stage.clock.time(), abs=5)
        server.faults[Place.LIST] = UNAVAILABLE
        await witness.fails("server_error", check=False)
        jump(stage, -seconds)
        await assert_sane(witness)
        assert models(witness.series) == witness.before
        await stage.clock.advance(4 * INTERVAL + 1)
        assert models(await stage.series()) == {}
        await server.heal()
        await stage.poll()
        await witness.recovers()


async def test_a_wall_clock_that_jumps_during_a_poll_makes_it_no_longer(row: Scenario) -> None:
    async with FaultServer() as server, on_stage(server) as stage:
        witness = await Witness.of(stage, row)
        for seconds in (YEAR, -YEAR):
            for place in Place:
                server.faults = {place: then(partial(jump, stage, seconds), good)}
                outcome = await witness.works()
                assert 0 <= outcome.duration <= 5
                await assert_sane(witness)
                ended = stage.clock.monotonic()
                await stage.poll()
                assert stage.clock.monotonic() - ended == pytest.approx(INTERVAL, abs=5)
        await witness.recovers()


async def test_a_machine_that_slept_for_hours_polls_once_and_at_once(row: Scenario) -> None:
    async with FaultServer() as server, on_stage(server) as stage:
        witness = await Witness.of(stage, row)
        server.requests.clear()
        stage.clock.now += 5 * HOUR
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


def mend(directory: Path) -> None:
    """Put a file with the key in the directory's place."""
    directory.rmdir()
    put(KEY, directory)


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
        server.faults = dict.fromkeys(Place, takes(KEY, REFUSED))
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
        mend(file)
        await witness.recovers()
        assert witness.series[RELOADED] == 1
        assert witness.told() == ["the API key file can be used again"]


@pytest.mark.parametrize("place", Place)
@pytest.mark.parametrize("fails", [False, True])
async def test_a_key_that_is_renewed_during_a_poll_is_used_from_the_next_request_on(
    place: Place, fails: bool, file: Path, row: Scenario
) -> None:
    async with FaultServer() as server, on_stage(server, key=ApiKey(file=file)) as stage:
        witness = await Witness.of(stage, row)

        def renew() -> None:
            put(NEW_KEY, file)
            for other in Place:
                if other is not place:
                    server.faults[other] = takes(NEW_KEY, REFUSED)

        answer = sometimes(lambda number: fails and number == 1, UNAVAILABLE)
        server.faults[place] = then(renew, answer)
        await witness.works()
        assert witness.told() == []
        await server.heal()
        server.faults = dict.fromkeys(Place, takes(NEW_KEY, REFUSED))
        await witness.recovers()


@pytest.mark.parametrize("place", [Place.LIST, Place.LATER_PAGE])
async def test_a_key_that_is_revoked_before_it_is_renewed_costs_one_poll(
    place: Place, file: Path, row: Scenario
) -> None:
    async with FaultServer() as server, on_stage(server, key=ApiKey(file=file)) as stage:
        witness = await Witness.of(stage, row)
        for other in list(Place)[list(Place).index(place) :]:
            server.faults[other] = takes(NEW_KEY, REFUSED)
        await witness.fails("unauthorized")
        put(NEW_KEY, file)
        before = stage.clock.time()
        outcome = await witness.recovers()
        assert outcome.finished_at - before <= 5
        assert witness.told() == ["the API key has changed; polling at once", "poll succeeded again"]
