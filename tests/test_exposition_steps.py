"""/metrics/steps: which rows are offered to whom and for how long, and the bytes they come to."""

import asyncio
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
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
from exporter.exposition.steps import AHEAD, OLDEST, VALUES_LIMIT, StepExposition
from exporter.families import STEP_FAMILIES
from exporter.model import FinetunedModel, StepRow, StepRows
from tests.conftest import FakeClock
from tests.editions import every_edition
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

    def __init__(self, clock: Clock, exclude: str | None = None) -> None:
        self.missed = 0
        self.steps = StepExposition(
            clock=clock,
            window=WINDOW,
            worker=at_once,
            on_missed=self._on_missed,
            exclude=re.compile(exclude) if exclude else None,
        )

    def _on_missed(self, rows: int) -> None:
        self.missed += rows

    async def arrive(self, *rows: StepRow, model: FinetunedModel = MODEL, missed: int = 0) -> None:
        self.steps.offer(StepRows(model=model, rows=rows, missed=missed))
        await self.steps.publish()

    def scrape(self, format_: Format = Format.OPENMETRICS) -> list[Sample]:
        text = b"".join(self.steps.chunks(format_, gzipped=False)).decode()
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

    def numbers(self) -> list[float]:
        """Return the steps on offer; of a large page in a fraction of a parser's time."""
        text = b"".join(self.steps.chunks(Format.TEXT, gzipped=False)).decode()
        return [float(line.rsplit(" ", 2)[1]) for line in text.splitlines() if "_step_number{" in line]


def row(step: int, at: float | None = None, **metrics: float) -> StepRow:
    return StepRow(step, T0 + step if at is None else at, metrics or {"accuracy": step / 1000})


@pytest.fixture
def exposed(clock: FakeClock) -> Exposed:
    return Exposed(clock)


@pytest.mark.parametrize("format_", list(Format))
async def test_each_sample_has_the_time_of_its_step_and_stands_in_its_series(
    exposed: Exposed, format_: Format
) -> None:
    await exposed.arrive(row(20, loss=0.5, f1=0.25), row(10, loss=0.75))
    assert exposed.scrape(format_) == [
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
    text = b"".join(exposed.steps.chunks(Format.TEXT, gzipped=False)).decode()
    openmetrics = b"".join(exposed.steps.chunks(Format.OPENMETRICS, gzipped=False)).decode()
    assert f'step_metric{{metric="loss",{labels}}} NaN 1700000000250\n' in text
    assert f"step_number{{{labels}}} 3.0 1700000000250\n" in text
    assert f'step_metric{{metric="loss",{labels}}} NaN 1700000000.250\n' in openmetrics
    assert openmetrics.endswith("# EOF\n")
    assert "EOF" not in text


@every_edition
async def test_promtool_finds_nothing_to_say(exposed: Exposed) -> None:
    """That of Prometheus 3 wants a series once on a page, which Prometheus itself does not."""
    await exposed.arrive(row(1, loss=0.5, f1=math.nan))
    await exposed.arrive(row(2), model=FinetunedModel(id="m2", name="rerank"))
    code, out, err = await run(
        program("promtool"),
        "check",
        "metrics",
        stdin=b"".join(exposed.steps.chunks(Format.TEXT, gzipped=False)),
    )
    assert (code, out, err) == (0, "", "")


@given(at=st.integers(1_500_000_000_000, 2_500_000_000_000))
@example(at=1_795_781_833_683)
def test_a_time_in_seconds_is_the_same_millisecond_to_prometheus(at: int) -> None:
    lines = step_lines(STEP_FAMILIES[1], 'model_id="m"', [StepRow(1, at / 1000, {})], Format.OPENMETRICS)
    assert int(float(lines.split()[-1]) * 1000) == at  # as its parser reads it


async def test_before_any_row_and_after_the_last_there_is_nothing(exposed: Exposed, clock: FakeClock) -> None:
    assert exposed.scrape() == exposed.scrape(Format.TEXT) == []
    await exposed.arrive(row(10))
    await clock.advance(WINDOW)
    assert exposed.scrape()
    await clock.advance(0.1)
    assert exposed.scrape() == []


async def test_a_row_is_offered_for_a_window_to_everybody_and_then_to_nobody(
    exposed: Exposed, clock: FakeClock
) -> None:
    seen = []
    for step in range(0, 600, 60):
        await exposed.arrive(row(step))
        both = [{value for family, *_, value, _ in exposed.scrape() if family == "number"} for _ in "ab"]
        assert both[0] == both[1]
        seen += [*both[0]]
        await clock.advance(60)
    assert {times for value, times in Counter(seen).items() if value < 540} == {2}


async def test_rows_of_one_model_that_arrive_apart_stand_together_in_order(
    exposed: Exposed, clock: FakeClock
) -> None:
    other = FinetunedModel(id="m2", name="rerank")
    await exposed.arrive(row(10))
    await exposed.arrive(row(5), model=other)
    await exposed.arrive(row(20))
    assert [(model, at - T0) for family, model, _, _, at in exposed.scrape() if family == "number"] == [
        ("m1", 10.0),
        ("m1", 20.0),
        ("m2", 5.0),
    ]


async def test_rows_without_a_time_or_with_that_of_a_later_step_are_missed(exposed: Exposed) -> None:
    await exposed.arrive(StepRow(1, None, {"loss": 1.0}), row(2, T0), row(3, T0 + 0.0001), missed=4)
    assert [sample for sample in exposed.scrape() if sample[0] == "number"] == [("number", "m1", "", 3.0, T0)]
    assert exposed.missed == 4 + 2


async def test_a_row_with_the_time_of_one_on_offer_is_missed_and_a_repeated_one_is_not(
    exposed: Exposed,
) -> None:
    await exposed.arrive(row(2, T0))
    await exposed.arrive(row(2, T0), row(3, T0), row(4, T0 + 1))
    assert exposed.numbers() == [2.0, 4.0]
    assert exposed.missed == 1


async def test_rows_of_long_ago_are_left_to_the_history(exposed: Exposed, clock: FakeClock) -> None:
    await exposed.arrive(row(1, clock.time() - OLDEST), row(2, clock.time() - OLDEST + 1))
    assert exposed.numbers() == [2.0]
    assert exposed.missed == 1


async def test_rows_of_a_clock_that_is_ahead_are_offered_as_far_as_prometheus_takes_them(
    exposed: Exposed, clock: FakeClock
) -> None:
    await exposed.arrive(row(1, clock.time() + AHEAD), row(2, clock.time() + AHEAD + 1))
    assert exposed.numbers() == [1.0]
    assert exposed.missed == 1


async def test_a_renamed_model_has_new_series_and_a_vanished_one_keeps_its_rows_for_the_window(
    exposed: Exposed, clock: FakeClock
) -> None:
    await exposed.arrive(row(10))
    await exposed.arrive(row(20), model=FinetunedModel(id="m1", name="new name"))
    text = b"".join(exposed.steps.chunks(Format.TEXT, gzipped=False)).decode()
    assert re.findall(r'_number\{.*name="(.*)"} (\d+)', text) == [("chat", "10"), ("new name", "20")]
    await clock.advance(WINDOW - 1)
    await exposed.steps.publish()
    assert exposed.numbers() == [10.0, 20.0]
    await clock.advance(1)
    await exposed.steps.publish()
    assert exposed.numbers() == []


async def test_a_run_begun_anew_goes_on_in_time(exposed: Exposed) -> None:
    await exposed.arrive(row(500, T0))
    await exposed.arrive(row(10, T0 + 60))
    assert [value for family, *_, value, _ in exposed.scrape() if family == "number"] == [500.0, 10.0]


async def test_a_reading_of_100_000_rows_is_bounded_and_the_newest_are_kept(exposed: Exposed) -> None:
    rows = [StepRow(step, T0 - 1000 + step / 100, {"loss": 0.5, "f1": 0.5}) for step in range(100_000)]
    await exposed.arrive(*rows)
    numbers = exposed.numbers()
    assert numbers[-1] == 99_999
    assert VALUES_LIMIT * 0.98 <= 3 * len(numbers) <= VALUES_LIMIT
    assert len(numbers) + exposed.missed == 100_000


async def test_1_000_models_in_training_are_bounded_together(exposed: Exposed) -> None:
    for number in range(1_000):
        rows = [StepRow(step, T0 + step, {"loss": 0.5}) for step in range(110)]
        exposed.steps.offer(StepRows(model=FinetunedModel(id=f"m{number}"), rows=rows))
    await exposed.steps.publish()
    numbers = exposed.numbers()
    assert VALUES_LIMIT * 0.98 <= 2 * len(numbers) <= VALUES_LIMIT
    assert len(numbers) + exposed.missed == 110_000


async def test_excluded_families_are_not_shown(clock: FakeClock) -> None:
    exposed = Exposed(clock, exclude=".*_step_number")
    await exposed.arrive(row(1))
    assert {family for family, *_ in exposed.scrape()} == {"metric"}


@given(
    readings=st.lists(
        st.tuples(st.integers(1, 200), st.integers(0, 4), st.integers(0, 2)), min_size=1, max_size=8
    ),
    gaps=st.lists(st.integers(20, round(WINDOW / 2)), min_size=1, max_size=8),
)
def test_every_row_is_offered_at_least_once_and_not_for_ever(
    readings: Sequence[tuple[int, int, int]], gaps: Sequence[float]
) -> None:
    """Every row reaches a scraper that comes at least each half window, and none for longer than two windows.

    So one that comes each half window is offered a row five times at most.
    """

    async def world() -> None:
        clock = StoppedClock()
        exposed = Exposed(clock)
        arrived_at: list[float] = []
        seen: set[float] = set()
        pauses = cycle(gaps)
        scrape_at = clock.now + next(pauses)

        def wait(seconds: float) -> None:
            """Let time go on, and the scraper come."""
            nonlocal scrape_at
            end = clock.now + seconds
            while scrape_at <= end:
                clock.now = scrape_at
                numbers = exposed.numbers()
                assert all(scrape_at - arrived_at[int(number)] < 2 * WINDOW for number in numbers)
                seen.update(numbers)
                scrape_at += next(pauses)
            clock.now = end

        for pause, count, model in readings:
            wait(pause)
            rows = [row(step, START + step) for step in range(len(arrived_at), len(arrived_at) + count)]
            arrived_at += [clock.now] * count
            await exposed.arrive(*rows, model=FinetunedModel(id=f"m{model}"))
        wait(2 * WINDOW)
        assert seen == set(map(float, range(len(arrived_at))))
        assert exposed.missed == 0
        assert exposed.numbers() == []

    asyncio.run(world())


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
            arrived |= {(each.step, each.at) for each in mine.values()}
            await exposed.arrive(*mine.values())
        assert len(exposed.numbers()) + exposed.missed == len(arrived)
        exposed.scrape()  # a strict parser takes it

    asyncio.run(world())
