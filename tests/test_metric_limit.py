"""Where a model has more metrics than the limit, its headline metrics are kept, and stay."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from exporter.cohere.steps import select
from exporter.model import TrainingProgress
from tests.test_client import progress, steps

HEADLINE = ("loss", "accuracy", "macro_f1", "nDCG@10")
CLASSES = tuple(f"f1/class_{number:02}" for number in range(60))
names = st.sets(st.text(max_size=4), max_size=12)


def of_all(value: float, *more: str) -> dict[str, float]:
    return dict.fromkeys((*CLASSES, *HEADLINE, *more), value)


def test_metrics_on_most_rows_come_first_then_short_names() -> None:
    rows = [("rare", "common_and_long", "loss"), ("common_and_long", "loss")]
    everything = ["rare", "common_and_long", "loss"]
    assert select(everything, rows, (), 1) == ["loss"]
    assert select(everything, rows, (), 2) == ["common_and_long", "loss"]
    assert select(everything, rows, ("rare",), 2) == ["loss", "rare"]
    assert select(everything, rows, (), 0) == sorted(everything)


@given(names, names, st.integers(1, 12))
def test_what_is_kept_stays_while_others_come(first: set[str], later: set[str], limit: int) -> None:
    kept = select(first, [first], (), limit)
    assert len(kept) == min(limit, len(first))
    assert set(kept) <= set(select(first | later, [later, later], kept, limit))


@pytest.mark.anyio
async def test_sixty_classes_leave_the_headline_metrics_there_and_one_line_in_the_log() -> None:
    with capture_logs() as logs:
        first, _ = await progress(steps(0, **of_all(0.1)), metric_limit=50)
        second, _ = await progress(
            steps(10, 0, **of_all(0.2, "a", "b")), known=first.progress, metric_limit=50
        )
        whole, _ = await progress(
            steps(20, 10, 0, **of_all(0.3, "a", "b")), known=second.progress, is_whole=True, metric_limit=50
        )
    shown = [metrics_of(reading.progress) for reading in (first, second, whole)]
    assert set(HEADLINE) <= shown[0].keys()
    assert len(shown[0]) == 50
    assert shown[0].keys() == shown[1].keys() == shown[2].keys()
    assert (shown[1]["loss"], shown[2]["loss"]) == (0.2, 0.3)
    (line,) = (line for line in logs if "left out" in line["event"])
    assert (line["model_id"], line["kept"], line["dropped"]) == ("m", 50, 14)
    assert line["names"].startswith("f1/class_46, f1/class_47")


def metrics_of(progress: TrainingProgress | None) -> Any:
    assert progress
    return progress.metrics


@pytest.mark.anyio
async def test_only_the_metrics_asked_for_are_kept_and_the_others_are_not_counted_as_dropped() -> None:
    only = re.compile("loss|f1/.*7")
    reading, _ = await progress(steps(0, **of_all(0.1, "losses")), metrics=only, metric_limit=50)
    assert reading.progress
    assert set(reading.progress.metrics) == {"loss", *(f"f1/class_{tens}7" for tens in range(6))}
    assert reading.progress.dropped == 0
    assert set(reading.rows[0].metrics) == set(reading.progress.metrics)
