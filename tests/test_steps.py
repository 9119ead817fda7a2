"""The latest value of each metric, whatever the order in which rows and pages come."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.cohere.steps import is_descending, is_new_run, latest, missed_rows
from exporter.model import StepRow, TrainingProgress

rows = st.builds(
    StepRow,
    step=st.integers(0, 8),
    at=st.none() | st.integers(1, 8).map(float),
    metrics=st.dictionaries(st.sampled_from("abcde"), st.floats(allow_nan=False), max_size=3),
)
distinct_rows = st.lists(rows, unique_by=lambda row: (row.step, row.at or 0.0), max_size=8)


def row(step: int, at: float | None = None, /, **metrics: float) -> StepRow:
    return StepRow(step, at, metrics)


def values(progress: TrainingProgress | None) -> dict[str, float]:
    assert progress is not None
    return dict(progress.metrics)


def seen(progress: TrainingProgress | None) -> tuple[int, float | None, dict[str, float]]:
    assert progress is not None
    return progress.step, progress.step_at, dict(progress.metrics)


class TestLatest:
    def test_no_rows_are_no_progress(self) -> None:
        assert latest([]) is None
        known = TrainingProgress(step=3, metrics={"loss": 1.0})
        assert latest([], known=known) == known

    def test_what_the_api_measured_as_nan_stays_nan(self) -> None:
        progress = latest([row(1, loss=0.5), row(2, loss=math.nan)])
        assert math.isnan(values(progress)["loss"])

    @given(distinct_rows, st.randoms(use_true_random=False))
    def test_order_means_nothing(self, some: list[StepRow], random: object) -> None:
        shuffled = list(some)
        random.shuffle(shuffled)  # type: ignore[attr-defined]
        assert latest(shuffled) == latest(some)

    @given(distinct_rows.filter(bool))
    def test_each_value_is_found_as_by_looking_it_up(self, some: list[StepRow]) -> None:
        progress = latest(some)
        assert progress is not None
        assert progress.step == max(each.step for each in some)
        names = {name for each in some for name in each.metrics}
        for name in names:
            holders = [each for each in some if name in each.metrics]
            newest = max(holders, key=lambda each: (each.step, each.at or 0.0))
            assert progress.metrics[name] == newest.metrics[name]
        assert set(progress.metrics) == names


class TestTheLimit:
    def test_what_is_left_out_is_counted(self) -> None:
        progress = latest([row(1, c=3.0, a=1.0), row(2, b=2.0)], limit=2)
        assert progress is not None
        assert (progress.metrics, progress.dropped) == ({"a": 1.0, "b": 2.0}, 1)
        assert progress.lowest.keys() == progress.highest.keys() == progress.metric_steps.keys() == {"a", "b"}

    def test_the_choice_stays_the_same_when_values_move(self) -> None:
        first = latest([row(1, c=3.0, a=1.0, b=2.0)], limit=2)
        second = latest([row(2, b=5.0, c=4.0, a=6.0)], limit=2)
        assert values(first).keys() == values(second).keys() == {"a", "b"}

    @pytest.mark.parametrize("limit", [0, 3, 4])
    def test_none_is_left_out_without_need(self, limit: int) -> None:
        progress = latest([row(1, a=1.0, b=2.0, c=3.0)], limit=limit)
        assert progress is not None
        assert (progress.metrics, progress.dropped) == ({"a": 1.0, "b": 2.0, "c": 3.0}, 0)


class TestLowestAndHighest:
    def test_are_over_all_rows_with_the_step_of_the_latest_beside_them(self) -> None:
        progress = latest([row(10, acc=0.6, f1=0.2), row(20, acc=0.9), row(290, acc=0.31)])
        assert progress is not None
        assert progress.lowest == {"acc": 0.31, "f1": 0.2}
        assert progress.highest == {"acc": 0.9, "f1": 0.2}
        assert progress.metric_steps == {"acc": 290, "f1": 10}

    def test_are_never_nan(self) -> None:
        progress = latest([row(1, loss=math.nan), row(2, loss=3.0), row(3, loss=math.nan, f1=math.nan)])
        assert progress is not None
        assert (progress.lowest, progress.highest) == ({"loss": 3.0}, {"loss": 3.0})
        assert math.isnan(progress.metrics["loss"])


class TestWhatIsKnown:
    known = latest([row(10, 100.0, loss=0.9, f1=0.5)])

    def test_completes_what_newer_rows_do_not_have(self) -> None:
        progress = latest([row(20, 200.0, loss=0.1)], known=self.known)
        assert progress is not None
        assert (progress.step, progress.step_at) == (20, 200.0)
        assert (progress.metrics, progress.metric_steps) == (
            {"loss": 0.1, "f1": 0.5},
            {"loss": 20, "f1": 10},
        )

    def test_never_hides_a_newer_value(self) -> None:
        assert values(latest([row(10, 300.0, loss=0.7)], known=self.known))["loss"] == 0.7

    def test_is_not_hidden_by_an_older_value(self) -> None:
        assert latest([row(9, 90.0, loss=0.7)], known=self.known) == replace(
            self.known or TrainingProgress(step=0), lowest={"loss": 0.7, "f1": 0.5}
        )

    def test_that_the_limit_left_out_is_still_left_out(self) -> None:
        first = latest([row(1, a=1.0, b=2.0, c=3.0, d=4.0)], limit=2)
        second = latest([row(2, a=1.5)], limit=2, known=first)
        assert second is not None
        assert (second.metrics, second.dropped) == ({"a": 1.5, "b": 2.0}, 2)


class TestAnotherRun:
    known = TrainingProgress(step=10, step_at=100.0)

    @pytest.mark.parametrize("is_whole", [False, True])
    @pytest.mark.parametrize("rows", [[(20, 200.0), (10, 100.0)], [(10, 100.0)], []])
    def test_is_none_where_the_known_row_is_still_there(
        self, rows: list[tuple[int, float]], is_whole: bool
    ) -> None:
        assert not is_new_run(self.known, [row(*one) for one in rows], is_whole=is_whole)

    @pytest.mark.parametrize("rows", [[(9, 300.0)], [(10, 300.0)], [(20, 400.0), (5, 300.0)]])
    def test_is_told_by_a_step_or_a_time_that_should_be_there(self, rows: list[tuple[int, float]]) -> None:
        assert is_new_run(self.known, [row(*one) for one in rows], is_whole=False)

    def test_may_not_be_told_before_the_last_page(self) -> None:
        assert not is_new_run(self.known, [row(20, 200.0)], is_whole=False)
        assert is_new_run(self.known, [row(20, 200.0)], is_whole=True)


@pytest.mark.parametrize(
    ("rows", "known", "missed"),
    [
        ((100, 90, 80), 20, 5),
        ((100, 90, 80), None, 7),
        ((100,), 20, 79),
        ((100, 90, 80), 90, 0),
        ((100, 90, 80), 80, 0),
        ((20, 10, 0), None, 0),
    ],
)
def test_missed_rows_are_estimated_by_their_distance(
    rows: tuple[int, ...], known: int | None, missed: int
) -> None:
    progress = None if known is None else TrainingProgress(step=known)
    assert missed_rows(progress, [row(step) for step in rows]) == missed


class TestDescending:
    @pytest.mark.parametrize("steps", [(2, 1), (30, 20, 10, 0), (5, 5, 4), (5, 4, 4)])
    def test_a_page_that_falls_proves_it(self, steps: tuple[int, ...]) -> None:
        assert is_descending([row(step) for step in steps])

    @pytest.mark.parametrize("steps", [(), (7,), (7, 7), (0, 10), (3, 2, 4), (1, 3, 2), (3, 1, 2, 0)])
    def test_every_other_page_proves_nothing(self, steps: tuple[int, ...]) -> None:
        assert not is_descending([row(step) for step in steps])
