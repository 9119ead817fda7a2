"""The latest value of each metric, whatever the order in which rows and pages come."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.cohere.progress import is_descending, latest
from exporter.cohere.wire import StepRow
from exporter.model import TrainingProgress

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


class TestLatest:
    def test_no_rows_are_no_progress(self) -> None:
        assert latest([]) is None
        assert latest([], earlier=TrainingProgress(step=3, metrics={"loss": 1.0})) is None

    @pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
    def test_the_highest_step_wins_in_any_order(self, order: tuple[int, ...]) -> None:
        given_rows = [row(0, 10.0, loss=3.0), row(10, 20.0, loss=2.0), row(20, 30.0, loss=1.0)]
        progress = latest(given_rows[index] for index in order)
        assert progress == TrainingProgress(step=20, step_at=30.0, metrics={"loss": 1.0})

    def test_steps_are_numbers_not_text(self) -> None:
        assert values(latest([row(9, loss=9.0), row(10, loss=10.0)])) == {"loss": 10.0}

    def test_a_metric_is_the_one_on_the_highest_step_that_has_it(self) -> None:
        progress = latest([row(20, loss=0.1), row(10, loss=0.2, f1=0.8), row(0, loss=0.3, f1=0.7, mrr=0.6)])
        assert values(progress) == {"loss": 0.1, "f1": 0.8, "mrr": 0.6}

    def test_a_step_without_metrics_is_still_the_step(self) -> None:
        assert latest([row(5, 50.0), row(4, 40.0, loss=1.0)]) == TrainingProgress(
            step=5, step_at=50.0, metrics={"loss": 1.0}
        )

    def test_step_0_is_a_step(self) -> None:
        assert latest([row(0, 10.0, loss=3.0)]) == TrainingProgress(
            step=0, step_at=10.0, metrics={"loss": 3.0}
        )

    def test_what_the_api_measured_as_nan_stays_nan(self) -> None:
        progress = latest([row(1, loss=0.5), row(2, loss=math.nan)])
        assert math.isnan(values(progress)["loss"])

    @pytest.mark.parametrize("turned", [False, True])
    def test_rows_of_one_step_are_merged_by_the_time_of_their_recording(self, turned: bool) -> None:
        pair = [row(7, 100.0, loss=1.0, f1=0.5), row(7, 200.0, loss=2.0)]
        progress = latest(reversed(pair) if turned else pair)
        assert progress == TrainingProgress(step=7, step_at=200.0, metrics={"loss": 2.0, "f1": 0.5})

    @pytest.mark.parametrize("turned", [False, True])
    def test_a_row_without_a_time_gives_way_to_one_of_the_same_step_that_has_it(self, turned: bool) -> None:
        pair = [row(7, None, loss=1.0), row(7, 200.0, loss=2.0)]
        progress = latest(reversed(pair) if turned else pair)
        assert progress == TrainingProgress(step=7, step_at=200.0, metrics={"loss": 2.0})

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
        assert progress == TrainingProgress(step=2, metrics={"a": 1.0, "b": 2.0}, dropped=1)

    def test_the_choice_stays_the_same_when_values_move(self) -> None:
        first = latest([row(1, c=3.0, a=1.0, b=2.0)], limit=2)
        second = latest([row(2, b=5.0, c=4.0, a=6.0)], limit=2)
        assert values(first).keys() == values(second).keys() == {"a", "b"}

    @pytest.mark.parametrize("limit", [0, 3, 4])
    def test_none_is_left_out_without_need(self, limit: int) -> None:
        progress = latest([row(1, a=1.0, b=2.0, c=3.0)], limit=limit)
        assert progress == TrainingProgress(step=1, metrics={"a": 1.0, "b": 2.0, "c": 3.0}, dropped=0)


class TestEarlierProgress:
    earlier = TrainingProgress(step=10, step_at=100.0, metrics={"loss": 0.9, "f1": 0.5})

    def test_completes_what_the_newest_page_does_not_have(self) -> None:
        progress = latest([row(20, 200.0, loss=0.1)], earlier=self.earlier)
        assert progress == TrainingProgress(step=20, step_at=200.0, metrics={"loss": 0.1, "f1": 0.5})

    def test_is_carried_over_from_the_same_step(self) -> None:
        progress = latest([row(10, 100.0, loss=0.9)], earlier=self.earlier)
        assert values(progress) == {"loss": 0.9, "f1": 0.5}

    def test_never_hides_a_newer_value(self) -> None:
        assert values(latest([row(10, 300.0, loss=0.7)], earlier=self.earlier))["loss"] == 0.7

    def test_of_a_higher_step_tells_of_another_run_and_is_forgotten(self) -> None:
        progress = latest([row(9, 300.0, loss=0.7)], earlier=self.earlier)
        assert progress == TrainingProgress(step=9, step_at=300.0, metrics={"loss": 0.7})

    def test_what_the_limit_left_out_before_is_still_left_out(self) -> None:
        first = latest([row(1, a=1.0, b=2.0, c=3.0, d=4.0)], limit=2)
        second = latest([row(2, a=1.5)], limit=2, earlier=first)
        assert second == TrainingProgress(step=2, metrics={"a": 1.5, "b": 2.0}, dropped=2)


class TestDescending:
    @pytest.mark.parametrize("steps", [(2, 1), (30, 20, 10, 0), (5, 5, 4), (5, 4, 4)])
    def test_a_page_that_falls_proves_it(self, steps: tuple[int, ...]) -> None:
        assert is_descending([row(step) for step in steps])

    @pytest.mark.parametrize("steps", [(), (7,), (7, 7), (0, 10), (3, 2, 4), (1, 3, 2), (3, 1, 2, 0)])
    def test_every_other_page_proves_nothing(self, steps: tuple[int, ...]) -> None:
        assert not is_descending([row(step) for step in steps])
