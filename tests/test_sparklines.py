"""The recent values of models in training, and the small curves that show them."""

import math
import re
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from exporter.model import FinetunedModel, ModelState, Snapshot, Status, StepRow, StepRows
from exporter.web.recent import LENGTH, Curve, RecentValues
from exporter.web.table import sparkline


def rows(*points: tuple[int, float], metric: str = "loss") -> list[StepRow]:
    return [StepRow(step, None, {metric: value}) for step, value in points]


def reading(
    *new: StepRow, model_id: str = "m", status: str = Status.FINETUNING, is_new_run: bool = False
) -> StepRows:
    return StepRows(model=FinetunedModel(id=model_id, status=status), rows=new, is_new_run=is_new_run)


def curves(recent: RecentValues, *trained: str, **others: str) -> Mapping[str, Curve]:
    statuses = dict.fromkeys(trained or ("m",), Status.FINETUNING) | others
    states = tuple(ModelState(FinetunedModel(id=key, status=status)) for key, status in statuses.items())
    return recent.of(Snapshot(states=states, status_counts={}))


def points(recent: RecentValues) -> list[tuple[int, float]]:
    curve = curves(recent)["m"]
    return list(zip(curve.steps, curve.values, strict=True))


def test_the_values_on_the_highest_steps_are_kept_in_order_of_step() -> None:
    recent = RecentValues()
    recent.add(reading(*rows((2, 0.8), (1, 0.9))))
    recent.add(reading(*rows((3, 0.7), (2, 0.75))))
    assert points(recent) == [(1, 0.9), (2, 0.75), (3, 0.7)]
    recent.add(reading(*rows(*((step, 1 / step) for step in range(4, 1_000)))))
    assert points(recent) == [(step, 1 / step) for step in range(1_000 - LENGTH, 1_000)]


def test_it_is_the_loss_that_is_kept_or_else_the_score() -> None:
    recent = RecentValues()
    recent.add(reading(*rows((1, 0.3), metric="accuracy")))
    assert curves(recent)["m"].metric == "accuracy"
    recent.add(reading(StepRow(2, None, {"accuracy": 0.4, "cross_entropy": 1.5})))
    recent.add(reading(*rows((3, 0.5), metric="accuracy")))
    recent.add(reading(StepRow(4, None, {})))
    assert curves(recent)["m"].metric == "cross_entropy"
    assert points(recent) == [(2, 1.5)]


def test_values_are_forgotten_with_their_run_and_after_training() -> None:
    recent = RecentValues()
    for model_id in ("m", "left", "ready"):
        recent.add(reading(*rows((5, 0.5)), model_id=model_id))
    recent.add(reading(*rows((1, 0.9)), is_new_run=True))
    recent.add(reading(*rows((6, 0.4)), status=Status.READY, model_id="late"))
    assert list(curves(recent, "m", ready=Status.READY)) == ["m"]
    assert points(recent) == [(1, 0.9)]
    assert list(curves(recent, "m", "left", "ready")) == ["m"]


def test_curves_are_those_of_the_moment_that_the_numbers_beside_them_are_of() -> None:
    recent = RecentValues()
    recent.add(reading(*rows((1, 0.9))))
    shown = curves(recent)
    recent.add(reading(*rows((2, 0.8))))
    assert list(shown["m"].steps) == [1]
    assert list(curves(recent)["m"].steps) == [1, 2]


def curve(*values: float) -> Curve:
    recent = RecentValues()
    recent.add(reading(*rows(*enumerate(values, 1_000))))
    return curves(recent)["m"]


def test_a_sparkline_says_in_words_what_it_shows() -> None:
    html = sparkline(curve(2.0, 1.5, 1.0))
    assert "<title>Steps 1,000 to 1,002: from 2 to 1</title>" in html
    assert 'd="M2 2.0h0L60 14.0L118 26.0"' in html


def test_what_is_no_number_is_a_gap_and_a_lone_number_a_dot() -> None:
    assert 'd="M2 2.0h0M118 26.0h0"' in sparkline(curve(2.0, math.nan, 1.0))
    assert 'd="M2 14.0h0L60 14.0"' in sparkline(curve(3.0, 3.0, math.inf))


def test_without_two_numbers_there_is_no_sparkline() -> None:
    assert sparkline(None) == sparkline(curve(1.0)) == sparkline(curve(1.0, math.nan)) == ""


@given(st.dictionaries(st.integers(0, 2**63 - 1), st.floats(), min_size=2, max_size=2 * LENGTH))
def test_whatever_the_numbers_the_curve_stays_in_its_place(values: dict[int, float]) -> None:
    recent = RecentValues()
    recent.add(reading(*rows(*values.items())))
    for x, y in re.findall(r"[ML](\S+?) ([\d.-]+)", sparkline(curves(recent)["m"])):
        assert 0 <= float(x) <= 120
        assert 0 <= float(y) <= 28
