"""/metrics/steps: which rows are offered to whom and for how long, and the bytes they come to."""

import asyncio
import heapq
import itertools
import math
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import cycle
from typing import TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from docs.world import START, StoppedClock
from exporter.clock import Clock
from exporter.exposition import Format
from exporter.exposition.lines import step_lines
from exporter.exposition.training_steps import AHEAD, OLDEST, StepExposition
from exporter.families import STEP_FAMILIES
from exporter.model import FinetunedModel, StepRow, StepRows
from exporter.runtime.worker import Worker
from tests import editions
from tests.conftest import FakeClock
from tests.editions import DEBIAN, every_edition
from tests.programs import program, run

pytestmark = pytest.mark.anyio

WINDOW = 120.0
T0 = 1_700_000_000.0
MODEL = FinetunedModel(id="m1", name="chat")
Sample = tuple[str, str, str, float, float]
"""Family, model_id, metric, value, Unix time."""


T = TypeVar("T")


async def at_once(function: Callable[..., T], /, *arguments: object) -> T:
    return function(*arguments)


class Exposed:
    """A StepExposition, and what it counts as missed."""

    def __init__(
        self, clock: Clock, exclude: str | None = None, window: float = WINDOW, worker: Worker = at_once
    ) -> None:
        self.missed = 0
        self.steps = StepExposition(
            clock=clock,
            window=window,
            worker=worker,
            on_missed=self._on_missed,
            exclude=re.compile(exclude) if exclude else None,
        )

    def _on_missed(self, rows: int) -> None:
        self.missed += rows

    async def arrive(self, *rows: StepRow, model: FinetunedModel = MODEL, missed: int = 0) -> None:
        self.steps.offer(StepRows(model=model, rows=rows, missed=missed))
        await self.steps.publish()

    async def text(self, format_: Format) -> str:
        return b"".join(await self.steps.chunks(format_, gzipped=False)).decode()

    async def scrape(self, format_: Format = Format.OPENMETRICS) -> list[Sample]:
        text = await self.text(format_)
        parse = parse_openmetrics if format_ is Format.OPENMETRICS else parse_text
        return [
            (
                sample.name.removeprefix("cohere_finetuned_model_step_"),
                sample.labels["model_id"],
                sample.labels.get("metric", ""),
                sample.value,
                float(str(sample.timestamp)),
            )
            for family in parse(text)
            for sample in family.samples
        ]

    async def numbers(self) -> list[float]:
        """Return the steps on offer; of a large page in a fraction of a parser's time."""
        text = await self.text(Format.TEXT)
        return [float(line.rsplit(" ", 2)[1]) for line in text.splitlines() if "_step_number{" in line]


def row(step: int, at: float | None = None, **metrics: float) -> StepRow:
    return StepRow(step, T0 + step if at is None else at, metrics or {"accuracy": step / 1000})


@pytest.fixture
def exposed(clock: FakeClock) -> Exposed:
    return Exposed(clock)


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> int:
    """Return how many values may be on offer: a tenth of what may be, which takes a tenth of the time."""
    monkeypatch.setattr("exporter.exposition.training_steps.VALUES_LIMIT", 20_000)
    return 20_000


@pytest.mark.parametrize("format_", list(Format))
async def test_each_sample_has_the_time_of_its_step_and_stands_in_its_series(
    exposed: Exposed, format_: Format
) -> None:
    await exposed.arrive(row(20, loss=0.5, f1=0.25), row(10, loss=0.75))
    assert await exposed.scrape(format_) == [
        ("metric", "m1", "f1", 0.25, T0 + 20),
        ("metric", "m1", "loss", 0.75, T0 + 10),
        ("metric", "m1", "loss", 0.5, T0 + 20),
        ("number", "m1", "", 10.0, T0 + 10),
        ("number", "m1", "", 20.0, T0 + 20),
    ]
    assert exposed.missed == 0


async def test_the_bytes_are_those_of_the_formats(exposed: Exposed) -> None:
    model = FinetunedModel(id="m1", name='a "b"\\')
    await exposed.arrive(StepRow(3, T0 + 0.25, {"loss": math.nan}), model=model)
    labels = 'model_id="m1",model_name="a \\"b\\"\\\\"'
    text = await exposed.text(Format.TEXT)
    openmetrics = await exposed.text(Format.OPENMETRICS)
    assert f'step_metric{{metric="loss",{labels}}} NaN 1700000000250\n' in text
    assert f"step_number{{{labels}}} 3.0 1700000000250\n" in text
    assert f'step_metric{{metric="loss",{labels}}} NaN 1700000000.250\n' in openmetrics
    assert openmetrics.endswith("# EOF\n")
    assert "EOF" not in text


@every_edition
async def test_promtool_finds_nothing_to_say(exposed: Exposed) -> None:
    """That of Prometheus 3 wants a series once on a page, which Prometheus itself does not."""

    async def findings() -> str:
        page = (await exposed.text(Format.TEXT)).encode()
        code, out, err = await run(program("promtool"), "check", "metrics", stdin=page)
        assert bool(code) is bool(out + err)
        return out + err

    await exposed.arrive(row(1, loss=0.5, f1=math.nan))
    await exposed.arrive(row(2), model=FinetunedModel(id="m2", name="rerank"))
    assert await findings() == ""
    await exposed.arrive(row(3))
    assert ("metric not unique" in await findings()) is (editions.in_use is not DEBIAN)


@given(at=st.integers(1_500_000_000_000, 2_500_000_000_000))
@example(at=1_795_781_833_683)
def test_a_time_in_seconds_is_the_same_millisecond_to_prometheus(at: int) -> None:
    lines = step_lines(STEP_FAMILIES[1], 'model_id="m"', [StepRow(1, at / 1000, {})], Format.OPENMETRICS)
    assert int(float(lines.split()[-1]) * 1000) == at  # as its parser reads it


async def test_rows_without_a_time_or_with_that_of_a_later_step_are_missed(exposed: Exposed) -> None:
    await exposed.arrive(StepRow(1, None, {"loss": 1.0}), row(2, T0), row(3, T0 + 0.0001), missed=4)
    assert ("number", "m1", "", 3.0, T0) in await exposed.scrape()
    assert await exposed.numbers() == [3.0]
    assert exposed.missed == 4 + 2


async def test_a_row_with_the_time_of_one_on_offer_is_missed_and_a_repeated_one_is_not(
    exposed: Exposed,
) -> None:
    await exposed.arrive(row(2, T0))
    await exposed.arrive(row(2, T0), row(3, T0), row(4, T0 + 1))
    assert await exposed.numbers() == [2.0, 4.0]
    assert exposed.missed == 1


async def test_a_row_twice_in_a_reading_is_not_missed(exposed: Exposed) -> None:
    """Pages shift while they are read."""
    await exposed.arrive(row(4), row(3), row(3), row(2), StepRow(1, None, {}), StepRow(1, None, {}))
    assert await exposed.numbers() == [2.0, 3.0, 4.0]
    assert exposed.missed == 1  # the one without a time


@pytest.mark.parametrize("hours", [-8, 8])
async def test_a_wall_clock_that_was_wrong_at_the_start_costs_no_row(clock: FakeClock, hours: float) -> None:
    clock.unix_offset += hours * 3600
    exposed = Exposed(clock)
    await clock.advance(30)
    clock.unix_offset -= hours * 3600
    before = clock.time() - OLDEST
    await exposed.arrive(row(1, before), row(2, clock.time() - 10), row(3, clock.time()))
    assert await exposed.numbers() == [2.0, 3.0]
    assert exposed.missed == 0


async def test_rows_of_long_before_the_start_are_left_to_the_history_and_not_missed(
    exposed: Exposed, clock: FakeClock
) -> None:
    oldest = clock.time() - OLDEST + 2 * WINDOW
    await exposed.arrive(row(1, oldest), row(2, oldest + 1), row(3), StepRow(4, None, {}))
    assert await exposed.numbers() == [2.0, 3.0]
    assert exposed.missed == 1  # the one without a time


@pytest.mark.parametrize("hours", [0.5, 8])
async def test_rows_that_come_again_are_neither_offered_again_nor_missed(
    exposed: Exposed, clock: FakeClock, hours: float
) -> None:
    """A model may be missing from a list, or run anew while the API still lists its old rows."""
    before = [StepRow(0, None, {}), *(row(step, clock.time() + step) for step in range(1, 60))]
    await exposed.arrive(*before)
    await exposed.arrive(StepRow(60, None, {}))
    assert exposed.missed == 2
    await clock.advance(hours * 3600)
    new = row(1, clock.time())
    late = row(30, clock.time() - 600)
    await exposed.arrive(new, *reversed(before), missed=20)
    await exposed.arrive(late)
    assert await exposed.numbers() == [30.0, 1.0]
    assert exposed.missed == 2


async def test_the_newest_rows_of_many_models_are_remembered_and_not_of_all_for_ever(
    exposed: Exposed, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.exposition.training_steps.MOST_MODELS", 3)

    def arrive(*numbers: int) -> None:
        for number in numbers:
            exposed.steps.offer(StepRows(model=FinetunedModel(id=f"m{number}"), rows=[row(1)]))

    arrive(0, 1, 2)
    await clock.advance(WINDOW)
    await exposed.steps.publish()
    await clock.advance(WINDOW)
    await exposed.steps.publish()
    arrive(0, 3, 1)  # the third takes the place of the second
    await exposed.steps.publish()
    assert len(await exposed.numbers()) == 2


@pytest.mark.parametrize(("hours", "missed"), [(24 * 30, 0), (4.5, 213), (1, 500)])
async def test_rows_not_read_at_the_start_are_missed_as_far_as_they_were_recent(
    exposed: Exposed, clock: FakeClock, hours: float, missed: int
) -> None:
    ended = clock.time() - hours * 3600
    rows = [row(number, ended - 5 * number) for number in range(100)]
    await exposed.arrive(*rows, missed=500)
    assert exposed.missed == missed


async def test_rows_that_are_read_hours_late_are_missed(exposed: Exposed, clock: FakeClock) -> None:
    recorded_at = clock.time()
    await clock.advance(OLDEST)
    await exposed.arrive(row(1, recorded_at), row(2, clock.time()))
    assert await exposed.numbers() == [2.0]
    assert exposed.missed == 1


@pytest.mark.parametrize("window", [WINDOW, 3600.0])
async def test_no_row_on_offer_is_ever_older_than_prometheus_is_told_to_take(
    clock: FakeClock, window: float
) -> None:
    """The newest sample it has may be ahead by as much as it takes; the rest is for clocks that differ."""
    exposed = Exposed(clock, window=window)
    await exposed.arrive(*(row(number, clock.time() - OLDEST + number * window / 4) for number in range(16)))
    assert 0 < len(await exposed.numbers()) < 16
    await clock.advance(0.99 * window)
    await exposed.arrive(row(16, clock.time()))
    await clock.advance(0.99 * window)
    assert min(at for *_, at in await exposed.scrape()) >= clock.time() - OLDEST
    assert OLDEST + AHEAD < 6 * 3600


async def test_rows_of_a_rendering_that_failed_are_shown_by_the_next(clock: FakeClock) -> None:
    errors = [RuntimeError("no memory")]

    async def faulty(function: Callable[..., T], /, *arguments: object) -> T:
        if errors and arguments[0]:
            raise errors.pop()
        return function(*arguments)

    exposed = Exposed(clock, worker=faulty)
    assert await exposed.numbers() == []
    with pytest.raises(RuntimeError):
        await exposed.arrive(row(1))
    await exposed.steps.publish()
    assert await exposed.numbers() == [1.0]


async def test_the_first_scrapes_of_a_format_share_one_rendering_beside_the_event_loop(
    clock: FakeClock,
) -> None:
    begun: list[object] = []
    released = asyncio.Event()

    async def busy(function: Callable[..., T], /, *arguments: object) -> T:
        begun.append(arguments)
        await released.wait()
        return function(*arguments)

    exposed = Exposed(clock, worker=busy)
    exposed.steps.offer(StepRows(model=MODEL, rows=[row(1)]))
    await exposed.steps.publish()
    scrapes = [asyncio.create_task(exposed.numbers()) for _ in range(3)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(begun) == 1
    released.set()
    assert await asyncio.gather(*scrapes) == [[1.0]] * 3
    assert len(begun) == 1


async def test_rows_of_a_clock_that_is_ahead_are_offered_as_far_as_prometheus_takes_them(
    exposed: Exposed, clock: FakeClock
) -> None:
    await exposed.arrive(row(1, clock.time() + AHEAD), row(2, clock.time() + AHEAD + 1))
    assert await exposed.numbers() == [1.0]
    assert exposed.missed == 1


async def test_a_renamed_model_has_new_series_and_a_vanished_one_keeps_its_rows_for_the_window(
    exposed: Exposed, clock: FakeClock
) -> None:
    await exposed.arrive(row(10))
    await exposed.arrive(row(20), model=FinetunedModel(id="m1", name="new name"))
    text = await exposed.text(Format.TEXT)
    assert re.findall(r'_number\{.*name="(.*)"} (\d+)', text) == [("chat", "10"), ("new name", "20")]
    await clock.advance(WINDOW - 1)
    await exposed.steps.publish()
    assert await exposed.numbers() == [10.0, 20.0]
    await clock.advance(1)
    await exposed.steps.publish()
    assert await exposed.numbers() == []


async def test_a_long_reading_is_bounded_and_the_newest_rows_are_kept(exposed: Exposed, limit: int) -> None:
    rows = [StepRow(step, T0 - 1000 + step / 100, {"loss": 0.5, "f1": 0.5}) for step in range(10_000)]
    await exposed.arrive(*rows)
    numbers = await exposed.numbers()
    assert numbers[-1] == 9_999
    assert limit * 0.9 <= 3 * len(numbers) <= limit
    assert len(numbers) + exposed.missed == 10_000


@pytest.mark.parametrize(
    ("is_scraped", "pause", "missed"), [(True, 1, 0), (False, 1, 6_000), (False, WINDOW, 0)]
)
async def test_rows_beyond_the_limit_are_missed_unless_they_were_served(
    exposed: Exposed, clock: FakeClock, limit: int, is_scraped: bool, pause: float, missed: int
) -> None:
    def rows(start: int) -> list[StepRow]:
        return [StepRow(step, T0 - 1000 + step / 100, {"f1": 0.5}) for step in range(start, start + 8_000)]

    await exposed.arrive(*rows(0))
    if is_scraped:
        await exposed.steps.chunks(Format.TEXT)
    await clock.advance(pause)
    exposed.steps.offer(StepRows(model=MODEL, rows=rows(8_000)))
    assert exposed.missed == missed


@pytest.mark.parametrize(
    ("name", "metric", "rows"), [("m", "f1", 500), ("n" * 1024, "f1", 100), ("m", "ü" * 1024, 100)]
)
async def test_long_names_take_the_place_of_values(
    exposed: Exposed, monkeypatch: pytest.MonkeyPatch, name: str, metric: str, rows: int
) -> None:
    monkeypatch.setattr("exporter.exposition.training_steps.VALUES_LIMIT", 2_000)
    for number in range(10):
        model = FinetunedModel(id=f"m{number}", name=name)
        await exposed.arrive(*(row(step, **{metric: 0.5}) for step in range(50)), model=model)
    assert len(await exposed.numbers()) == rows
    assert exposed.missed == 500 - rows


async def test_excluded_families_are_not_shown(clock: FakeClock) -> None:
    exposed = Exposed(clock, exclude=".*_step_number")
    await exposed.arrive(row(1))
    assert {family for family, *_ in await exposed.scrape()} == {"metric"}


@given(
    readings=st.lists(
        st.tuples(st.integers(1, 200), st.integers(0, 4), st.integers(0, 2), st.integers(0, 300)),
        min_size=1,
        max_size=8,
    ),
    gaps=st.lists(st.integers(20, round(WINDOW / 2)), min_size=1, max_size=8),
)
def test_every_row_is_offered_at_least_once_and_not_for_ever(
    readings: Sequence[tuple[int, int, int, int]], gaps: Sequence[float]
) -> None:
    """Every row reaches a scraper that comes at least each half window, and none is shown for two windows.

    So one that comes each half window is offered a row four times at most. A reading is published some time
    after it arrived, which may be longer than a window.
    """

    async def world() -> None:
        clock = StoppedClock()
        exposed = Exposed(clock)
        count = 0
        shown_at: dict[float, float] = {}
        offers: Counter[float] = Counter()
        pauses = cycle(gaps)
        at, due = 0.0, itertools.count()  # of those at one time the first first
        events: list[tuple[float, int, Callable[[], Awaitable[None]]]] = []

        def plan(after: float, event: Callable[[], Awaitable[None]]) -> None:
            heapq.heappush(events, (clock.now + after, next(due), event))

        async def irregular() -> None:
            for number in await exposed.numbers():
                assert clock.now - shown_at.setdefault(number, clock.now) < 2 * WINDOW
            plan(next(pauses), irregular)

        async def regular() -> None:
            offers.update(await exposed.numbers())
            plan(WINDOW / 2, regular)

        for pause, rows, model, lag in readings:
            at += pause
            new = [row(step, START + step) for step in range(count, count + rows)]
            count += rows
            plan(at, partial(arrive, exposed, StepRows(model=FinetunedModel(id=f"m{model}"), rows=new)))
            plan(at + lag, exposed.steps.publish)
        plan(1, irregular)
        plan(1, regular)
        while events[0][0] < at + 300 + 2 * WINDOW:
            clock.now, _, event = heapq.heappop(events)
            await event()
        assert shown_at.keys() == offers.keys() == set(map(float, range(count)))
        assert max(offers.values(), default=0) <= 4
        assert exposed.missed == 0
        assert await exposed.numbers() == []

    asyncio.run(world())


async def arrive(exposed: Exposed, new: StepRows) -> None:
    exposed.steps.offer(new)


ODD_ROWS = st.builds(
    StepRow,
    st.integers(0, 5),
    st.none() | st.sampled_from([T0 + 0.5, T0 + 1, T0 + 1.0004, T0 - OLDEST, T0 + 2 * AHEAD]),
    st.dictionaries(st.sampled_from(["loss", "f1"]), st.just(math.nan) | st.floats(0, 1), max_size=2),
)


@given(readings=st.lists(st.lists(ODD_ROWS, max_size=4), max_size=4))
def test_every_row_is_offered_or_counted_as_missed_whatever_it_is(
    readings: Sequence[Sequence[StepRow]],
) -> None:
    async def world() -> None:
        exposed = Exposed(FakeClock(T0))
        arrived: set[tuple[int, float | None]] = set()
        for number, rows in enumerate(readings):
            # Steps are of one reading alone, so that none comes twice.
            mine = {(each.step, each.at): replace(each, step=each.step + 10 * number) for each in rows}
            # What is from long before the start is for the history.
            arrived |= {(each.step, each.at) for each in mine.values() if each.at != T0 - OLDEST}
            await exposed.arrive(*mine.values())
        assert len(await exposed.numbers()) + exposed.missed == len(arrived)
        await exposed.scrape()  # a strict parser takes it

    asyncio.run(world())
