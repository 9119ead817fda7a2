"""What polling promises whatever the API, the network and the clocks do: one property for each promise.

The exporter is the real one; only the network is replaced, and time, which leaps. `make nightly` lives
through many more worlds, and larger ones.
"""

import math
import re
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from tempfile import TemporaryDirectory
from typing import Any, overload

import httpx
import pytest
from hypothesis import HealthCheck, Phase, assume, example, given, settings
from hypothesis import strategies as st

from exporter.errors import REASONS
from exporter.model import Snapshot, Status
from exporter.polling.schedule import RESOLUTION
from tests.leaping import START, UNIX_OFFSET
from tests.polling_worlds import (
    EPSILON,
    LIST,
    Life,
    Look,
    Model,
    Row,
    Run,
    Trouble,
    World,
    held,
    texts_held_by,
)
from tests.talking_api import Fault

pytestmark = pytest.mark.slow

NIGHTLY = settings.get_current_profile_name() == "nightly"
PROPERTY = settings(
    max_examples=200 if NIGHTLY else 14,
    derandomize=not NIGHTLY,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[phase for phase in Phase if phase is not Phase.explain],
)
MOST_CALLS = 500 if NIGHTLY else 70

ID = "model-{}-of-the-world"
OFTEN = {"--poll.interval": 10, "--cohere.requests-per-minute": 20, "--cohere.concurrency": 8}
DAY = 86_400.0
MONTH = 31 * DAY
WITHOUT_STEPS = "cohere_finetuned_model_(training|step)_.*"
INTERVALS = (60, 60, 10, 1, 2, 300, 3600, 21_600)
FLEETS = (1, 2, 3, 5, 8, *((0, 30, 300, 3000) if NIGHTLY else (0, 20)))


AT_REST = Run(queued=-1e6, trains=-9e5, rests=-9e5 + 3000, every=50.0)


def refusal(status: int, reason: str, retry_after: int | None = None) -> Fault:
    headers = () if retry_after is None else (("retry-after", str(retry_after)),)
    return Fault(reason, status, '{"message": "no"}', headers)


EMPTY = "{}"
EMPTY_ANSWER, NOTHING_THERE = Fault("", body=EMPTY), refusal(404, "gone")
SILENT = Fault("timeout", silent=True)
PASSING = (
    refusal(500, "server_error"),
    refusal(503, "server_error"),
    refusal(429, "rate_limited"),
    refusal(408, "timeout"),
    SILENT,
    Fault("connection", broken=httpx.ConnectError),
    Fault("connection", broken=httpx.ReadError),
)
LASTING = (
    refusal(401, "unauthorized"),
    refusal(402, "payment_required"),
    refusal(403, "forbidden"),
    NOTHING_THERE,
)
ODD = (EMPTY_ANSWER, Fault("invalid_response", body="<html>"), Fault("invalid_response", body="[]"))
WAITS = tuple(
    refusal(status, "", retry_after) for status in (429, 503, 401) for retry_after in (1, 7, 31, 120, 86_400)
)
FAULTS = (*PASSING, *LASTING, *ODD, *WAITS)


# Worlds. Times are drawn in tenths of the interval, and none falls on the moment of a poll.


def moments(least: int, most: int, interval: float) -> st.SearchStrategy[float]:
    return st.integers(least, most).map(lambda tenths: (tenths + 0.37) * interval / 10)


@st.composite
def runs(draw: st.DrawFn, interval: float, lasts: float) -> list[Run]:
    """Draw one training run, or several one after the other."""
    found = []
    at = draw(moments(-100, 100, interval))
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        trains = at + draw(st.sampled_from([0.2, 1.3, 4.0])) * interval
        rests = trains + draw(st.sampled_from([0.5, 3.0, 8.0, 100.0])) * interval
        found.append(
            Run(
                queued=at,
                trains=trains,
                rests=rests,
                every=draw(st.sampled_from([1.0, 0.3, 0.11, 4.0])) * interval,
                first=draw(st.sampled_from([0.01, 1.0])) * interval,
                first_step=draw(st.sampled_from([0, 1, 70])),
                stride=draw(st.sampled_from([1, 10])),
                ends_as=draw(st.sampled_from([Status.READY, Status.FAILED, Status.PAUSED])),
            )
        )
        at = rests + draw(st.sampled_from([0.2, 2.0])) * interval
        if at > lasts:
            break
    return found


@st.composite
def reruns(draw: st.DrawFn) -> list[Run]:
    """Draw runs that begin anew, often unseen between two polls; times are in intervals."""
    found = []
    at = -4.63
    for _ in range(draw(st.integers(2, 5))):
        trains = at + draw(st.sampled_from([0.1, 0.4]))
        rests = trains + draw(st.sampled_from([0.7, 2.2, 5.1]))
        every = draw(st.sampled_from([0.3, 0.11, 0.9]))
        first_step, stride = draw(st.sampled_from([(0, 1), (1, 10), (70, 10)]))
        found.append(
            Run(
                queued=at,
                trains=trains,
                rests=rests,
                first=0.01,
                every=every,
                first_step=first_step,
                stride=stride,
            )
        )
        at = rests + draw(st.sampled_from([0.05, 0.2]))
    return found


@st.composite
def fleets(draw: st.DrawFn, interval: float, lasts: float, sizes: Any = FLEETS) -> list[Model]:
    """Draw models that train, rest, are renamed, go and come back; every other one has another's name."""
    size = draw(st.sampled_from(sizes))
    kinds = draw(st.lists(runs(interval, lasts), min_size=1, max_size=min(size, 6) or 1))
    models = []
    for index in range(size):
        away: list[tuple[float, float]] = []
        renamed_at = math.inf
        if index < 6:
            if draw(st.booleans()):
                begin = draw(moments(0, 60, interval))
                away = [(begin, begin + draw(st.sampled_from([0.4, 2.0, 1000.0])) * interval)]
            if draw(st.booleans()):
                renamed_at = draw(moments(0, 60, interval))
        own = kinds[index] if index < len(kinds) else [AT_REST]
        name = f"name {index // 2}"
        models.append(
            Model(index=index, id=ID.format(index), name=name, runs=own, away=away, renamed_at=renamed_at)
        )
    return models


def ids_of(*models: int) -> frozenset[str]:
    return frozenset(map(ID.format, models))


def training(interval: float, size: int) -> list[Model]:
    """Return models that train all the time."""
    run = Run(queued=-9 * interval, trains=-8 * interval, rests=1e9, every=0.7 * interval)
    return [Model(index=index, id=ID.format(index), name="name", runs=[run]) for index in range(size)]


@st.composite
def troubles(
    draw: st.DrawFn, interval: float, faults: Any = FAULTS, *, most: int = 3, ids: Any = None
) -> list[Trouble]:
    """Draw up to `most` troubles."""
    found = []
    for _ in range(draw(st.integers(0, most))):
        begins = draw(moments(0, 60, interval))
        fault = draw(st.sampled_from(faults))
        with_list = draw(st.booleans()) and fault.body != EMPTY  # which is a list, too: of nothing
        found.append(
            Trouble(
                begins=begins,
                ends=begins + draw(st.sampled_from([0.1, 1.0, 4.0, 30.0])) * interval,
                with_list=with_list,
                with_steps=not with_list or draw(st.booleans()),
                ids=draw(st.sampled_from([None, ids_of(0), ids_of(1, 2)])),
                hits=draw(st.sampled_from([None, None, (0,), (1, 3, 5, 7)])),
            )
        )
    return found


@st.composite
def worlds(
    draw: st.DrawFn, /, *, intervals: Any = INTERVALS, faults: Any = FAULTS, polls: float = 12, **given: Any
) -> World:
    """Draw a world of any kind; what is `given` is not drawn."""
    interval = draw(st.sampled_from(intervals))
    lasts = polls * interval
    flags = {
        "--poll.interval": interval,
        "--cohere.requests-per-minute": draw(st.sampled_from([300, 6000, 60, 20, 5, 1])),
        "--cohere.concurrency": draw(st.sampled_from([8, 64, 3, 2, 1])),
        "--cohere.page-size": draw(st.sampled_from([0, 0, 2, 1000])),
        **given.pop("flags", {}),
    }
    drawn: dict[str, Any] = {
        "models": draw(fleets(interval, lasts)),
        "page_size": draw(st.sampled_from([50, 50, 3, 1, 1000])),
        "rows_per_page": draw(st.sampled_from([50, 10, 3, 1, 1000])),
        "largest_page": draw(st.sampled_from([0, 100, 1000])),
        "order": draw(st.sampled_from(["ascending", "descending", "none"])),
        "list_seconds": draw(st.sampled_from([0.0, 0.0, 0.3, 5.0])),
        "steps_seconds": draw(st.sampled_from([0.0, 0.0, 0.3, 5.0, 29.0])),
        "rendering_seconds": draw(st.sampled_from([0.0, 0.0, 0.5])),
        "troubles": draw(troubles(interval, faults)),
        "looks": tuple(draw(st.lists(moments(0, int(10 * polls), interval), max_size=6))),
        "lasts": lasts,
        "most_calls": MOST_CALLS,
    }
    return World(flags=flags, **{**drawn, **given})


@st.composite
def outages(draw: st.DrawFn, faults: Any) -> Trouble:
    """Draw an outage of the list; times are in intervals."""
    begins = draw(st.integers(0, 30)) / 10 + 0.037
    ends = begins + draw(st.sampled_from([0.1, 1.0, 2.5, 8.0]))
    fault = draw(st.sampled_from([fault for fault in faults if fault.body != EMPTY]))
    return Trouble(begins=begins, ends=ends, with_list=True, fault=fault)


@overload
def scaled(those: list[Run], interval: float) -> list[Run]: ...
@overload
def scaled(those: list[Trouble], interval: float) -> list[Trouble]: ...
def scaled(those: Any, interval: float) -> Any:
    """Return runs or outages whose times are given in intervals in seconds."""
    names = {"queued", "trains", "rests", "first", "every", "begins", "ends"}
    return [
        replace(one, **{name: getattr(one, name) * interval for name in names & vars(one).keys()})
        for one in those
    ]


@st.composite
def busy_worlds(draw: st.DrawFn) -> World:
    """Draw a world whose readings are published, slowly, about when the next list comes, which differs."""
    interval, rendering = draw(st.sampled_from([10.0, 30.0])), draw(st.sampled_from([0.1, 0.5]))
    models = training(interval, draw(st.integers(2, 4)))
    leaves = [((number + 0.37) * interval, (number + 1.37) * interval) for number in range(0, 12, 2)]
    return World(
        models=[replace(models[0], away=leaves), *models[1:]],
        flags={"--poll.interval": interval},
        rendering_seconds=rendering,
        list_seconds=draw(st.sampled_from([0.0, 0.3])),
        # What readings bring waits for ten times as long as rendering takes, or is published at once.
        steps_seconds=interval - rendering * draw(st.sampled_from([2, *range(96, 115)])) / 10,
        lasts=12 * interval,
        most_calls=MOST_CALLS,
    )


# What must hold.


@PROPERTY
@given(world=worlds() | busy_worlds())
def test_when_a_poll_ends_good_the_page_shows_its_list(world: World) -> None:
    life = Life(world).live()
    lists = 0
    for poll in life.polls:
        if poll.reason is None:
            assert poll.lists > lists, "a good poll has a list of its own"
            assert shown_by(poll.shown) == life.api.lists[poll.lists - 1].models
        lists = poll.lists


def shown_by(snapshot: Snapshot | None) -> dict[str, tuple[str, str]] | None:
    """Return name and status of each model; None when none is shown."""
    if snapshot is None:
        return None
    return {state.model.id: (state.model.name, state.model.status) for state in snapshot.states}


def with_slow_lists(world: World, begins: float, lasts: float) -> World:
    """Return a world whose list comes page by page, each in time; times are in intervals."""
    models = training(world.interval, 8) if lasts else world.models
    in_time = 29.0 - world.list_seconds  # or the request times out
    seconds = min(lasts * world.interval / len(models), in_time) if lasts else 0.0
    slow = Trouble(begins=begins * world.interval, with_list=True, seconds=seconds)
    looks = tuple((number * 0.9 + 0.21) * world.interval for number in range(16))
    flags = {"--cohere.page-size": 0, "--cohere.requests-per-minute": 300} if lasts else {}
    return replace(
        with_flags(world, **flags),
        models=models,
        page_size=1 if lasts else world.page_size,
        troubles=[*world.troubles, slow],
        looks=looks,
    )


SLOW = {"begins": st.sampled_from([1.37, 2.37]), "lasts": st.sampled_from([0.0, 1.6, 7.0, 7.0])}


@PROPERTY
@given(
    world=worlds(intervals=(60, 10, 1, 300), looks_at_boundaries=True, rendering_seconds=0.0, polls=20),
    fault=st.sampled_from((None, *PASSING, *LASTING, *WAITS)),
    intervals=st.sampled_from([None, None, 2.0, 3.7, 1000.0]),
    **SLOW,
)
def test_models_are_shown_as_long_as_their_list_is_younger_than_stale_after(
    world: World,
    fault: Fault | None,
    intervals: float | None,
    begins: float,
    lasts: float,
) -> None:
    outage = [Trouble(begins=7.37 * world.interval, with_list=True, fault=fault)] if fault else []
    world = with_slow_lists(replace(world, troubles=[*world.troubles[:1], *outage]), begins, lasts)
    stale_after = None if intervals is None else intervals * world.interval
    world = with_flags(world, **{"--poll.stale-after": stale_after})
    life = Life(world).live()
    for look in life.looks:
        least, most = stale_after_in_truth(world, life, look)
        assert look.stale_after <= most
        if (good := [poll for poll in life.polls[: look.polls] if poll.reason is None]) and (
            look.at - good[-1].began < least
        ):
            assert look.shown is not None
        good = [poll for poll in life.polls[: look.polls] if poll.reason is None]
        began = good[-1].began if good else -math.inf
        is_young = look.at - began < look.stale_after
        assert (look.shown is not None) is is_young
        families = {series.partition("{")[0] for series in look.page}
        assert ("cohere_finetuned_models" in families) is is_young
        if is_young:
            assert shown_by(look.shown) == life.api.lists[good[-1].lists - 1].models


def stale_after_in_truth(world: World, life: Life, look: Look) -> tuple[float, float]:
    """Return the least and the most that stale-after may be, by what was asked and answered alone."""
    polls = life.polls[: look.polls]
    good = [poll for poll in polls if poll.reason is None]
    if not good:
        return 0.0, math.inf
    last = good[-1]
    setting = world.flags.get("--poll.stale-after")

    def limit(interval: float, lasted: float) -> float:
        interval = max(interval, lasted)
        return max(5 * interval if setting is None else setting, 2 * interval + lasted)

    took = life.api.lists[last.lists - 1].ended - last.began
    least = limit(world.interval, took)
    if polls[-1] is last:  # a list in progress counts, up to its last page
        pages = [call for call in life.api.calls if call.model_id == LIST and last.ended <= call.at]
        for page in pages:
            had_come = page.answered_at < look.at - EPSILON and not page.fault
            if had_come and page.answered_at - last.began < least:
                lasted = page.answered_at - pages[0].at
                least = max(least, limit(max(world.interval, took), lasted))
    lasted = max(last.ended - last.began, look.at - polls[-1].ended)
    rate = int(world.flags["--cohere.requests-per-minute"])
    most = max(math.ceil(len(world.models) / world.page_size), 1)  # pages of a list
    lists = (rate - 1) // most
    by_rate = max(60.0 * (most + 1) / rate, (60.0 + lasted) / lists if lists else 121.0 + lasted)
    backoff = 0.0 if polls[-1] is last else 3600.0 + world.interval
    return least - EPSILON, limit(max(world.interval, by_rate), lasted) + backoff + EPSILON


def near(seconds: float) -> Any:
    return pytest.approx(seconds, rel=0, abs=EPSILON)


def with_flags(world: World, **flags: Any) -> World:
    given = {flag: value for flag, value in flags.items() if value is not None}
    return replace(world, flags={**world.flags, **given})


@st.composite
def fast_worlds(draw: st.DrawFn) -> World:
    """Draw a world where more rows come between two lists than a page has, and metrics on few of them."""
    run = Run(queued=-90.0, trains=-80.0, rests=1e9, every=draw(st.sampled_from([0.7, 1.1])))
    return World(
        models=[Model(index=0, id=ID.format(0), name="name", runs=[run])],
        flags={"--cohere.requests-per-minute": 300, "--cohere.concurrency": 8},
        rows_per_page=draw(st.sampled_from([10, 30])),
        largest_page=draw(st.sampled_from([0, 30])),
        order=draw(st.sampled_from(["descending", "ascending", "none"])),
        most_calls=2 * MOST_CALLS,
    )


# More rows come than the pages that were asked for hold, at the rate limit.
SMALL_PAGES = World(
    models=[
        Model(index=index, id=ID.format(index), name="a", runs=[run])
        for index, run in enumerate(
            [
                Run(queued=2.2, trains=14.2, rests=44.2, every=60.0, first=0.6, stride=1),
                Run(queued=2.2, trains=14.2, rests=494.2, every=6.6, first=0.6, stride=1),
            ]
        )
    ],
    flags={"--cohere.page-size": 2, "--cohere.requests-per-minute": 5, "--cohere.concurrency": 8},
    largest_page=100,
    lasts=720.0,
)


@PROPERTY
@given(world=worlds(troubles=()) | fast_worlds())
@example(world=SMALL_PAGES)
def test_a_training_model_is_hardly_more_than_two_intervals_behind(world: World) -> None:
    life = Life(world).live()
    most = most_behind(world, life) if life.polls and world.models else math.inf
    for model in world.models:
        for at, state in held(life, model.id):
            behind = at - most
            _, run = model.run(behind)
            if behind < 0 or not run.trains <= behind < at < run.rests or model.was_away(behind, at):
                continue
            if (truth := model.truth(behind)) is None:
                continue
            assert state
            assert state.progress
            assert state.progress.step >= truth.step
            for name, step in truth.metric_steps.items():
                assert state.progress.metric_steps.get(name, -1) >= step, name


def most_behind(world: World, life: Life) -> float:
    """Return two intervals, or as long as the limits make all calls that may be due last, and one more."""
    interval = max(poll.interval for poll in life.polls)
    lists = math.ceil(len(world.models) / world.page_size)
    calls = sum(pages_of(world, model) for model in world.models)
    slots = max(int(world.flags["--cohere.concurrency"]) - 1, 1)
    per_minute = int(world.flags["--cohere.requests-per-minute"])
    left = per_minute - lists * math.ceil(60 / interval)
    per_call = max(60 / left if left > 0 else interval, world.steps_seconds / slots)
    # Models at rest take turns with those in training.
    lasts = 2 * calls * per_call + world.steps_seconds * max(pages_of(world, model) for model in world.models)
    publishing = 1.0 + 12 * world.rendering_seconds
    listing = lists * world.list_seconds
    return max(2 * interval, interval + lasts) + listing + publishing + EPSILON


def pages_of(world: World, model: Model) -> int:
    """Return the most pages that a reading of a model may take."""
    rows = max(run.rows(world.lasts) for run in model.runs)
    asked = int(world.flags.get("--cohere.page-size", 0)) or world.rows_per_page
    return rows // min(asked, world.rows_per_page) + 3


ENDLESS = st.sampled_from(["", "", "empty", "rows"])
SINGLE = tuple(fault for fault in FAULTS if fault not in WAITS)


@PROPERTY
@given(
    interval=st.sampled_from([900, 3600, *((60, 300) if NIGHTLY else ())]),
    late=st.sampled_from([3500.0, 3500.0, 700.0, 0.0]),
    rests=st.sampled_from([777.0, -1e5, 2000.0, -3000.0]),
    odd=st.lists(
        st.tuples(
            st.sampled_from([-5000.0, 0.0, 200.0, 3500.0]),
            st.sampled_from([EMPTY_ANSWER, NOTHING_THERE]) | st.sampled_from(SINGLE),
        ),
        max_size=3,
    ),
    was_updated=st.booleans(),
    like=worlds(troubles=(), models=(), looks=()),
)
def test_the_rows_of_a_run_an_hour_after_its_end_are_shown_for_ever(
    interval: float,
    late: float,
    rests: float,
    odd: list[tuple[float, Fault]],
    was_updated: bool,
    like: World,
) -> None:
    nothing = [one for one in odd if one[1] in (EMPTY_ANSWER, NOTHING_THERE)]
    odd = [one for one in odd if one not in nothing[1:]]  # twice in a row it is believed
    run = Run(queued=rests - 5100, trains=rests - 5000, rests=rests, every=100.0, late=late)
    model = Model(index=0, id=ID.format(0), name="a", runs=[run], was_updated=was_updated)
    seen = max(rests, 0.0) + 3600 + 2 * interval + 3600
    world = replace(
        with_flags(like, **{"--poll.interval": interval, "--cohere.requests-per-minute": 300}),
        models=[model],
        troubles=[
            Trouble(begins=max(rests, 0) + after, with_steps=True, fault=fault, hits=(0,))
            for after, fault in odd
        ],
        rows_per_page=max(like.rows_per_page, 3),
        list_seconds=0.0,
        steps_seconds=0.0,
        lasts=seen + 2 * interval,
        most_calls=10**6,
    )
    life = Life(world).live()
    was_shown = False
    for at, state in held(life, model.id):
        assert state
        assert not was_shown or state.progress
        assert at < seen or state.progress == model.truth(math.inf)
        was_shown = state.progress is not None


@PROPERTY
@given(
    like=worlds(
        intervals=(60, 10, 300, 3600),
        flags={"--cohere.requests-per-minute": 100_000, "--cohere.concurrency": 64},
        troubles=(),
    ),
    fault=st.sampled_from([None, *SINGLE]),
    seconds=st.sampled_from([0.0, 29.0, 400.0]),
    endless=ENDLESS,
)
def test_how_one_model_is_answered_changes_nothing_for_the_others(
    like: World, fault: Fault | None, seconds: float, endless: str
) -> None:
    bad = ID.format(0)
    # Every model has a slot of its own; otherwise one more model would make the last in the queue wait
    # longer.
    like = replace(like, models=like.models[:50])
    trouble = Trouble(with_steps=True, ids=frozenset({bad}), fault=fault, seconds=seconds)
    models = [replace(model, endless=endless) if model.id == bad else model for model in like.models]
    without = Life(like).live()
    lasts = min(without.now, like.lasts)
    odd = replace(like, models=models, troubles=[trouble], lasts=lasts, most_calls=10 * MOST_CALLS)
    with_trouble = Life(odd).live()
    until = min(with_trouble.now, lasts)
    asked = [
        sorted(
            (round(call.at, 3), call.model_id)  # to add seconds in other parts rounds otherwise
            for call in life.api.calls
            if call.model_id != bad
            and call.at < until - EPSILON
            # Whether a model is read that is due and leaves at one moment says nothing.
            and not any(
                model.id == call.model_id and model.was_away(call.at - EPSILON, call.at + EPSILON)
                for model in like.models
            )
        )
        for life in (with_trouble, without)
    ]
    assert asked[0] == asked[1]


@settings(PROPERTY, max_examples=100 if NIGHTLY else 8)
@given(
    interval=st.sampled_from([60, 300]),
    size=st.sampled_from([3, 16, 40]),
    good=st.integers(1, 7),
    fault=st.sampled_from([None, *LASTING[:3], *SINGLE]),  # None: pages without end
)
@example(interval=60, size=40, good=1, fault=SILENT)
def test_any_number_of_models_that_fail_leaves_the_others_read(
    interval: float, size: int, good: int, fault: Fault | None
) -> None:
    failing = ids_of(*range(max(size - good, 1)))
    models = [
        replace(model, endless="empty") if fault is None and model.id in failing else model
        for model in training(interval, size)
    ]
    world = World(
        models=models,
        flags={"--poll.interval": interval},
        troubles=[Trouble(with_steps=True, ids=failing, fault=fault)],
        # Where all fail they are tried one at a time: silent ones for minutes each, others between pauses.
        lasts=(120 if fault and fault.silent else 90 if fault and fault.status == 429 else 30) * interval,
        most_calls=10**6,
    )
    life = Life(world).live()
    half = life.now / 2
    for model in world.models:
        if model.id not in failing:
            times = [call.at for call in life.api.calls if call.model_id == model.id]
            assert min(times, default=math.inf) <= 45 * 60
            read = {at // interval for at in times if at > half}
            assert len(read) >= half / interval // 2, "every second interval at least"


@PROPERTY
@given(
    world=worlds(intervals=(60, 10), polls=6, troubles=(), looks=(), order="ascending", lasts=240.0),
    size=st.sampled_from([5, 40]),
    pages=st.integers(1, 4),
)
# Step metrics are asked for before the first poll has ended.
@example(world=World(models=[], flags=OFTEN, rendering_seconds=0.5, lasts=240.0), size=40, pages=1)
def test_step_metrics_never_delay_the_list(world: World, size: int, pages: int) -> None:
    runs = training(world.interval, size)[0].runs
    models = [Model(index=index, id=ID.format(index), name="name", runs=runs) for index in range(size)]
    page_size = math.ceil(size / pages)
    life = Life(replace(world, models=models, page_size=page_size, most_calls=3 * MOST_CALLS)).live()
    pages = math.ceil(size / page_size)
    limit, slots = (int(world.flags[f"--cohere.{name}"]) for name in ("requests-per-minute", "concurrency"))
    own = pages * (world.list_seconds + 60 / limit) + 4 * world.rendering_seconds
    in_flight = world.steps_seconds if slots == 1 else 0.0
    assert all(poll.ended - poll.began <= own + in_flight + EPSILON for poll in life.polls)


def test_step_metrics_of_a_fleet_that_begins_to_train_do_not_delay_the_list() -> None:
    runs = [AT_REST, Run(queued=900.0, trains=900.0, rests=1e9, every=7.0)]
    models = [Model(index=index, id=ID.format(index), name="name", runs=runs) for index in range(40)]
    flags = {**OFTEN, "--poll.idle-interval": 600}
    life = Life(World(models=models, flags=flags, rendering_seconds=0.5, lasts=1400.0)).live()
    assert max(poll.ended - poll.began for poll in life.polls) < 1.0


def test_step_metrics_do_not_delay_the_list_after_one_that_took_minutes() -> None:
    flags = {**OFTEN, "--poll.interval": 60, "--cohere.requests-per-minute": 100}
    slow = Trouble(begins=50.0, ends=220.0, with_list=True, seconds=8.0)
    world = World(models=training(60, 600), page_size=30, flags=flags, troubles=[slow], lasts=400.0)
    life = Life(replace(world, list_seconds=0.3, steps_seconds=0.2, most_calls=10**4)).live()
    took = [poll.ended - poll.began for poll in life.polls]
    assert took[1] > 120.0
    assert max(took[2:]) == pytest.approx(20 * 0.3)


@PROPERTY
@given(
    limit=st.sampled_from([1, 2, 6, 20, 60, 300]),
    slots=st.sampled_from([1, 8]),
    pages=st.sampled_from([1, 2, 5, 20, 30]),
    interval=st.sampled_from([60, 10]),
    seconds=st.sampled_from([0.0, 0.3, 3.5]),
    trains=st.booleans(),
)
@example(limit=30, slots=8, pages=20, interval=60, seconds=0.3, trains=True)
@example(limit=30, slots=8, pages=20, interval=60, seconds=0.3, trains=False)
@example(limit=20, slots=8, pages=20, interval=60, seconds=0.0, trains=True)
@example(limit=300, slots=1, pages=20, interval=60, seconds=3.5, trains=True)
def test_however_much_the_list_takes_step_metrics_are_read(
    limit: int, slots: int, pages: int, interval: int, seconds: float, trains: bool
) -> None:
    longest = max(interval, 60 * (1 + pages / limit) + pages * seconds + 60)
    world = World(
        models=training(interval, pages),
        page_size=1,
        flags={
            "--poll.interval": interval,
            "--cohere.requests-per-minute": limit,
            "--cohere.concurrency": slots,
        },
        list_seconds=seconds,
        steps_seconds=0.2,
        lasts=8 * longest,
        most_calls=10**6,
    )
    if not trains:
        world = replace(world, models=[replace(model, runs=[AT_REST]) for model in world.models])
    life = Life(world).live()
    half = life.now / 2
    polls = sum(poll.began > half for poll in life.polls)
    chances = int(min(polls, half / 60)) - 1
    assert polls > 2
    read = [call for call in life.api.calls if call.model_id != LIST]
    if trains:
        assert sum(call.at > half for call in read) >= chances
    else:  # each model is read once, in up to three requests
        assert len({call.model_id for call in read}) >= min(pages, math.ceil(chances / 3))


@PROPERTY
@given(
    limit=st.sampled_from([1, 2, 6, 20, 60, 300]),
    pages=st.sampled_from([1, 2, 4, 7, 11, 20, 40]),
    interval=st.sampled_from([60, 45, 25, 10, 1]),
    seconds=st.sampled_from([0.0, 0.07, 0.3, 3.5]),
    slower=st.sampled_from([0.0, 2.4]),
)
@example(limit=20, pages=11, interval=10, seconds=0.3, slower=0.0)
@example(limit=20, pages=20, interval=10, seconds=0.1, slower=2.4)
def test_the_rate_limit_delays_no_list_that_fits_into_it_but_for_a_while_after_a_slow_one(
    limit: int, pages: int, interval: int, seconds: float, slower: float
) -> None:
    pages = min(pages, limit)
    slow = Trouble(begins=100.0, ends=150.0, with_list=True, seconds=slower)
    flags = {
        "--poll.interval": interval,
        "--cohere.requests-per-minute": limit,
        "--metrics.exclude": WITHOUT_STEPS,
    }
    world = World(models=training(interval, pages), page_size=1, flags=flags, list_seconds=seconds)
    lasts = 1200.0 + 10 * pages * seconds
    life = Life(replace(world, troubles=[slow], lasts=lasts, most_calls=10**4)).live()
    recovered, tolerance = (900.0, 0.5) if slower else (0.0, EPSILON)
    took = [poll.ended - poll.began for poll in life.polls if poll.began >= recovered]
    assert len(took) > 2
    assert max(took) == pytest.approx(pages * seconds, rel=0, abs=tolerance)
    assert all(call.model_id == LIST for call in life.api.calls)


@PROPERTY
@given(world=worlds())
def test_no_minute_has_more_requests_than_the_limit(world: World) -> None:
    life = Life(world).live()
    limit = int(world.flags["--cohere.requests-per-minute"])
    times = [call.at for call in life.api.calls]
    assert all(later - at >= 60 - EPSILON for at, later in zip(times, times[limit:], strict=False))


@PROPERTY
@given(world=worlds(troubles=()))
def test_a_fleet_at_rest_costs_the_list_alone(world: World) -> None:
    models = [replace(model, runs=[AT_REST], away=(), was_updated=True) for model in world.models]
    life = Life(replace(world, models=models)).live()
    lists = max(math.ceil(len(models) / world.page_size), 1)
    chains = Counter(call.model_id for call in life.api.calls if call.is_first)
    larger = world.rows_per_page < 61  # then a reading begins again, to see whether larger pages hold all
    assert all(chains[model.id] <= 1 + larger for model in models)
    assert len([call for call in life.api.calls if call.model_id == LIST]) <= lists * (len(life.polls) + 1)


@settings(PROPERTY, max_examples=50 if NIGHTLY else 6)
@given(
    endless=st.sampled_from(["empty", "rows"]),
    interval=st.sampled_from([60.0, 10.0, 3600.0]),
    is_training=st.booleans(),
)
def test_step_metrics_without_end_are_read_a_bounded_part_at_a_time(
    endless: str, interval: float, is_training: bool
) -> None:
    runs = training(interval, 1)[0].runs if is_training else [AT_REST]
    model = Model(index=0, id=ID.format(0), name="name", runs=runs, endless=endless)
    flags = {"--poll.interval": interval, "--cohere.requests-per-minute": 6000}
    life = Life(World(models=[model], flags=flags, rows_per_page=5, lasts=1800.0, most_calls=300)).live()
    calls = [call for call in life.api.calls if call.model_id != LIST]
    pause = min(interval, 60.0)
    # What brings nothing new is an error, and backs off; rows are read on, in larger pages if there are any.
    backed_off = 2 + math.log2(1 + life.now / pause) + life.now / (900.0 if is_training else DAY)
    assert len(calls) <= (50 * backed_off if endless == "empty" else 110 * (2 + life.now / pause))


@settings(PROPERTY, max_examples=40 if NIGHTLY else 14)  # five weeks are long
@given(
    world=worlds(
        intervals=(3600, 21_600, 60),
        troubles=(),
        steps_seconds=0.0,
        list_seconds=0.0,
        lasts=35 * DAY,
        most_calls=10**6,
        looks=(),
    ),
    quota=st.sampled_from([5, 30, *((200, 1000) if NIGHTLY else ())]),
    restarts=st.lists(st.integers(1, 10**6).map(lambda number: number * 3.1), max_size=12),
)
def test_no_month_has_more_calls_than_the_quota_over_any_number_of_starts(
    world: World, quota: int, restarts: list[float]
) -> None:
    with TemporaryDirectory() as folder:
        flags = {"--cohere.calls-per-month": quota, "--cohere.budget-file": f"{folder}/budget"}
        life = Life(replace(with_flags(world, **flags), restarts=restarts)).live()
    times = [call.at for call in life.api.calls]
    assert all(later - at >= MONTH - EPSILON for at, later in zip(times, times[quota:], strict=False))


@PROPERTY
@given(
    interval=st.sampled_from([60, 3600]),
    pages=st.integers(1, 30),
    quota=st.sampled_from([5, 30, 100]),
    starts=st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from([1, 6])), max_size=3),
    list_seconds=st.sampled_from([0.0, 0.3]),
    exclude=st.sampled_from(["none", WITHOUT_STEPS]),
)
def test_no_list_is_begun_that_the_quota_cannot_pay_for_to_its_end(
    interval: float,
    pages: int,
    quota: int,
    starts: list[tuple[int, int]],
    list_seconds: float,
    exclude: str,
) -> None:
    restarts = sorted({3.1 * at + 2.3 * number for at, crashes in starts for number in range(1, crashes + 1)})
    run = Run(queued=-1e6, trains=-9e5, rests=-8e5, every=5e4)
    models = [Model(index=index, id=ID.format(index), name="name", runs=[run]) for index in range(pages)]
    with TemporaryDirectory() as folder:
        flags = {
            "--poll.interval": interval,
            "--cohere.calls-per-month": quota,
            "--cohere.budget-file": f"{folder}/budget",
            "--metrics.exclude": exclude,
        }
        world = World(
            models=models,
            page_size=1,
            flags=flags,
            restarts=restarts,
            list_seconds=list_seconds,
            lasts=35 * DAY,
            most_calls=10**6,
        )
        life = Life(world).live()
    calls = [call for call in life.api.calls if call.model_id == LIST]
    begins = [number for number, call in enumerate(calls) if call.is_first]
    is_known, cut_off = False, 0
    for begin, end in zip(begins, [*begins[1:], len(calls)], strict=True):
        at, last = calls[begin].at, calls[end - 1]
        made = sum(at - MONTH < call.at < at for call in life.api.calls)
        assert not is_known or quota - made >= pages
        is_known = is_known or end - begin == pages
        is_interrupted = any(at <= start <= last.answered_at + EPSILON for start in [*restarts, life.now])
        cut_off += end - begin < pages and not is_interrupted
    assert cut_off <= quota.bit_length()


@PROPERTY
@given(
    world=worlds(
        intervals=(60, 10, 1, 300), troubles=(), polls=10, rows_per_page=50, most_calls=3 * MOST_CALLS
    ),
    size=st.sampled_from([20, 2, 8]),
    fault=st.sampled_from(WAITS[::-1]),
    of_list=st.booleans(),
    after=st.sampled_from([1.37, 4.37]),
    seconds=st.sampled_from([1.3, 0.0]),
)
def test_a_retry_after_holds_what_it_concerns_for_an_hour_at_most(
    world: World, size: int, fault: Fault, of_list: bool, after: float, seconds: float
) -> None:
    asked = Trouble(
        begins=after * world.interval, with_list=of_list, with_steps=not of_list, fault=fault, hits=(0,)
    )
    ids = None if of_list else ids_of(0)
    models, troubles = training(world.interval, size), [replace(asked, ids=ids)]
    world = replace(world, models=models, steps_seconds=seconds, troubles=troubles)
    calls = Life(world).live().api.calls
    for call in calls:
        held_until = call.answered_at + min(call.retry_after, 3600.0) - EPSILON
        for other in calls if call.retry_after else ():
            if call.model_id == LIST or other.model_id != LIST:
                assert not call.answered_at < other.at < held_until


# A poll that lasts longer than the pause after it: the next begins a moment after its end.
LONG_POLLS = World(models=[], flags={"--poll.interval": 300}, lasts=6000.0)
SILENCE = Trouble(begins=3.037, ends=6.0, with_list=True, fault=SILENT)


@PROPERTY
@given(
    world=worlds(polls=20, models=(), most_calls=2 * MOST_CALLS),
    outages=st.lists(outages(PASSING), min_size=1, max_size=2),
)
@example(world=LONG_POLLS, outages=[SILENCE])
def test_after_an_outage_that_passes_the_next_poll_comes_soon(world: World, outages: list[Trouble]) -> None:
    world = replace(world, troubles=scaled(outages, world.interval))
    life = Life(world).live()
    failed = 0
    for poll, following in pairwise(life.polls):
        failed = failed + 1 if poll.reason else 0
        if failed:
            regular = life.usual_interval
            latest = max(poll.began + min(regular, 60 * 2.0 ** (failed - 1)), poll.ended + RESOLUTION)
            assert following.began <= latest + RESOLUTION / 2
    ends = max([trouble.ends for trouble in world.troubles if trouble.with_list], default=0.0)
    after = [poll for poll in life.polls if poll.began >= ends]
    assert all(poll.reason is None for poll in after)


@PROPERTY
@given(
    world=worlds(intervals=(60, 10, 1, 300, 21_600), most_calls=2 * MOST_CALLS),
    outages=st.lists(outages(FAULTS), max_size=2),
    **SLOW,
)
@example(world=LONG_POLLS, outages=[SILENCE], begins=1.37, lasts=0.0)
def test_the_interval_and_the_next_poll_are_as_they_were_exposed(
    world: World, outages: list[Trouble], begins: float, lasts: float
) -> None:
    world = replace(world, troubles=scaled(outages, world.interval))
    life = Life(with_slow_lists(world, begins, lasts)).live()
    for poll, following in pairwise(life.polls):
        assert following.began == pytest.approx(poll.next_at, rel=0, abs=RESOLUTION / 2)
        assert following.began - poll.began == pytest.approx(poll.interval, rel=0, abs=RESOLUTION / 2)
    for look in life.looks:
        if not 0 < look.polls < len(life.polls):
            continue
        following = life.polls[look.polls]
        assert look.next_at is not None
        assert look.next_at >= look.at - EPSILON, "never in the past"
        if look.at < following.began:
            assert look.next_at == near(following.began)
        else:
            lasted = look.at - following.began - 1.0  # a page is shared for a second
            assert look.page["cohere_exporter_poll_interval_seconds"] >= lasted - EPSILON


ALWAYS = {"--poll.interval": 1, "--cohere.requests-per-minute": 300}


@PROPERTY
@given(
    world=worlds(intervals=(1, 10, 60, 300), rendering_seconds=0.0, polls=20),
    suspends=st.lists(st.tuples(st.integers(1, 190), st.sampled_from([5.0, 61.0, 3e5])), max_size=3),
    jumps=st.lists(st.tuples(st.integers(1, 190), st.sampled_from([-1e6, -90.0, 3600.0, 1e8])), max_size=3),
)
# The life ends, and with it a list in progress, in the moment of the last look.
@example(world=World(models=[], flags=ALWAYS, list_seconds=5.0, lasts=20.0), suspends=[(151, 5.0)], jumps=[])
def test_neither_sleep_of_the_machine_nor_a_clock_that_is_set_makes_data_younger(
    world: World, suspends: list[tuple[int, float]], jumps: list[tuple[int, float]]
) -> None:
    tenth = world.interval / 10
    life = Life(
        replace(
            world,
            suspends={at * tenth + 0.011: seconds for at, seconds in suspends},
            jumps={at * tenth + 0.012: seconds for at, seconds in jumps},
            lasts=world.lasts + sum(seconds for _, seconds in suspends),
        )
    ).live()
    for look in life.looks:
        good = [poll for poll in life.polls[: look.polls] if poll.reason is None]
        began = life.api.lists[good[-1].lists - 1].began if good else -math.inf
        assert (look.shown is not None) is (look.at - began < look.stale_after)
        least, most = stale_after_in_truth(world, life, look)
        assert least <= look.stale_after <= most


@PROPERTY
@given(world=worlds(most_calls=2 * MOST_CALLS), outages=st.lists(outages(FAULTS), min_size=1, max_size=2))
def test_up_last_success_and_the_counters_describe_one_poll_and_never_fall(
    world: World, outages: list[Trouble]
) -> None:
    looks = tuple(number * world.interval / 4 + 0.017 for number in range(24))
    life = Life(replace(world, looks=looks, troubles=scaled(outages, world.interval))).live()
    before: dict[str, float] = {}
    for look in life.looks:
        page = look.page
        count = int(page["cohere_exporter_polls_total"])
        assert len([poll for poll in life.polls if poll.ended < look.at - 1]) <= count <= look.polls
        polls = life.polls[:count]
        good = [poll for poll in polls if poll.reason is None]
        last = polls[-1] if polls else None
        assert page["cohere_up"] == bool(last and last.reason is None)
        assert page["cohere_exporter_last_poll_timestamp_seconds"] == near(last.wall if last else 0)
        assert page["cohere_exporter_last_success_timestamp_seconds"] == near(good[-1].wall if good else 0)
        for reason in REASONS:
            name = f'{{reason="{reason}"}}'
            failed = [poll for poll in polls if poll.reason == reason]
            assert page[f"cohere_exporter_poll_failures_total{name}"] == len(failed)
            assert page[f"cohere_exporter_last_poll_failed{name}"] == bool(last and last.reason == reason)
        growing = {name: value for name, value in page.items() if GROWS.search(name)}
        assert all(growing[name] >= value for name, value in before.items())
        before = growing


GROWS = re.compile(r"_(total|count|sum|bucket)($|{)")


def reads_two_runs_as_one(life: Life, model: Model) -> bool:
    """Return whether a run began anew between two pages of a reading, which no reader could tell."""
    calls = [call for call in life.api.calls if call.model_id == model.id]
    return any(
        not later.is_first and model.run(later.at)[0] != model.run(earlier.at)[0]
        for earlier, later in pairwise(calls)
    )


@PROPERTY
@given(world=worlds(), rerun=reruns())
def test_nothing_is_shown_that_the_api_never_said_of_that_run_of_that_model(
    world: World, rerun: list[Run]
) -> None:
    models = [replace(model, runs=scaled(rerun, world.interval)) for model in world.models[:2]]
    world = replace(world, models=[*models, *world.models[2:]], troubles=world.troubles[:1])
    life = Life(world).live()
    for model in world.models:
        if reads_two_runs_as_one(life, model):
            continue
        latest = 0, -1
        for at, state in held(life, model.id):
            if state is None or state.progress is None:
                continue
            progress = state.progress
            rows = [
                Row.of(value)
                for values in (progress.metrics, progress.lowest, progress.highest)
                for value in values.values()
            ]
            assert {(row.model, row.run) for row in rows} == {(model.index, rows[0].run)}
            run = model.runs[rows[0].run]
            newest = max(row.number for row in rows)
            assert newest < run.rows(at)
            assert progress.step == run.step(newest)
            assert progress.step_at == near(run.recorded_at(newest) + START + UNIX_OFFSET)
            for name, value in progress.metrics.items():
                assert Row.of(value).metric == name
                assert progress.metric_steps[name] == run.step(Row.of(value).number)
            assert (rows[0].run, newest) >= latest
            latest = rows[0].run, newest
            assert state.model.status != Status.QUEUED


@st.composite
def waiting_worlds(draw: st.DrawFn) -> World:
    """Draw a world where readings wait, for one was answered with `Retry-After`, when lists come."""
    asked = draw(st.sampled_from([refusal(503, "", seconds) for seconds in (90, 120)]))
    return World(
        models=training(60.0, draw(st.sampled_from([12, 20]))),
        flags={"--cohere.concurrency": draw(st.sampled_from([3, 8]))},
        steps_seconds=0.3,
        troubles=[Trouble(begins=30.0, with_steps=True, ids=ids_of(0), fault=asked, hits=(0,))],
        lasts=360.0,
        most_calls=2 * MOST_CALLS,
    )


@PROPERTY
@given(
    world=worlds(faults=(*PASSING, *LASTING, *WAITS), most_calls=2 * MOST_CALLS) | waiting_worlds(),
    leave=st.sets(st.integers(0, 19), min_size=1, max_size=12),
    after=st.sampled_from([1.37, 2.37]),
)
def test_nothing_of_a_model_that_left_is_kept_or_asked_for(
    world: World, leave: set[int], after: float
) -> None:
    away = [(after * world.interval, math.inf)]
    models = [replace(one, away=away) if one.index in leave else one for one in world.models]
    life = Life(replace(world, models=models)).live()
    good = [poll for poll in life.polls if poll.reason is None]
    assume(good)
    listed = life.api.lists[good[-1].lists - 1].models
    left = {model.id for model in world.models} - set(listed)
    assert not left & texts_held_by(life.exporter)
    for call in life.api.calls:
        if seen := [poll.lists for poll in good if poll.ended < call.at]:
            # What a list says is read at once, while its page is still being rendered.
            since = [each.models for each in life.api.lists[seen[-1] - 1 :] if each.ended <= call.at]
            assert call.model_id == LIST or any(call.model_id in models for models in since)


@PROPERTY
@given(
    world=worlds(intervals=(60, 10, 300), polls=60, troubles=(), rendering_seconds=0.0, looks=()),
    refusing=st.sampled_from([fault for fault in (*LASTING, *PASSING, *ODD[1:]) if fault.reason != "gone"]),
    size=st.sampled_from([0, 100]),
)
def test_a_refusal_of_every_model_costs_a_handful_of_calls_a_pause(
    world: World, refusing: Fault, size: int
) -> None:
    world = replace(world, models=training(world.interval, size) if size else world.models)
    life = Life(replace(world, troubles=[Trouble(with_steps=True, fault=refusing)], most_calls=600)).live()
    times = [call.at for call in life.api.calls if call.model_id != LIST]
    passes = refusing not in LASTING  # so it is tried again each interval, and may be within a request
    pauses = 6 + len(world.models) / 4  # until each was tried
    pauses += life.now / (max(life.usual_interval, 60.0) if passes else 900.0)
    slots = int(world.flags["--cohere.concurrency"])
    assert len(times) <= (3 if refusing in PASSING else 1) * (slots + 4 * pauses)
