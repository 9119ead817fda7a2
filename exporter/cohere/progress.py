"""Rows of training-step metrics → the latest value of each metric.

The order of rows and pages proves nothing: the latest value is the one on the highest step that has it, and
among rows of one step the one recorded last.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from exporter.cohere.wire import StepRow
from exporter.model import TrainingProgress


def latest(
    rows: Iterable[StepRow], *, limit: int = 0, earlier: TrainingProgress | None = None
) -> TrainingProgress | None:
    """Reduce rows in any order to the latest value of each metric; None when there are no rows.

    `earlier` is given when the rows are the newest page only: it completes them with metrics that this page
    does not have, unless its step is higher, which tells of a run that began anew. At most `limit` metrics
    are kept (0: all), the first by name, so that the choice stays the same.
    """
    ordered = sorted(rows, key=lambda row: (row.step, row.at or 0.0))
    if not ordered:
        return None
    newest = ordered[-1]
    if earlier is None or earlier.step > newest.step:
        earlier = TrainingProgress(step=0)
    metrics = dict(earlier.metrics)
    for row in ordered:
        metrics.update(row.metrics)
    kept = sorted(metrics)[: limit or None]
    return TrainingProgress(
        step=newest.step,
        step_at=newest.at,
        metrics={name: metrics[name] for name in kept},
        dropped=max(len(metrics) - len(kept), earlier.dropped),
    )


def is_descending(rows: Sequence[StepRow]) -> bool:
    """Tell whether a page proves by itself that the list runs from the newest step to the oldest."""
    steps = [row.step for row in rows]
    return len(steps) > 1 and steps[0] > steps[-1] and all(a >= b for a, b in pairwise(steps))
