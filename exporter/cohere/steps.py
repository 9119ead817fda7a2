"""Rows of training-step metrics → the latest, lowest and highest value of each metric.

The order of rows and pages proves nothing: the latest value is the one on the highest step that has it, and
among rows of one step the one recorded last; a row may come later than newer ones. Rows belong to the run
that is known when the newest row known is among them; when it should be and is not, a run has begun anew and
inherits nothing. A metric that is kept once stays, so that no series ends because another begins.
"""

import math
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from itertools import chain, pairwise

from exporter.model import StepRow, TrainingProgress

MOST_SEEN = 1000  # rows of a run that are known apart, the newest; as many as a large page has


def latest(
    rows: Iterable[StepRow],
    *,
    limit: int = 0,
    known: TrainingProgress | None = None,
    kept: Collection[str] = (),
) -> TrainingProgress | None:
    """Return what rows in any order come to, together with what is `known` of the run; None without rows.

    At most `limit` metrics are kept (0: all), the headline ones, and those `kept` before or known stay.
    """
    ordered = sorted(rows, key=_recorded)
    if not ordered:
        return known
    newest = ordered[-1]
    if known is None:
        known = TrainingProgress(step=newest.step, step_at=newest.at)
    metrics, steps = dict(known.metrics), dict(known.metric_steps)
    lowest, highest = dict(known.lowest), dict(known.highest)
    for row in ordered:
        for name, value in row.metrics.items():
            if row.step >= steps.get(name, row.step):
                metrics[name], steps[name] = value, row.step
            if not math.isnan(value):
                lowest[name] = min(value, lowest.get(name, value))
                highest[name] = max(value, highest.get(name, value))
    kept = select(metrics, (row.metrics for row in ordered), {*known.metrics, *kept}, limit)
    is_newer = (newest.step, newest.at or 0.0) >= (known.step, known.step_at or 0.0)
    return TrainingProgress(
        step=newest.step if is_newer else known.step,
        step_at=newest.at if is_newer else known.step_at,
        metrics={name: metrics[name] for name in kept},
        metric_steps={name: steps[name] for name in kept if name in steps},
        lowest={name: lowest[name] for name in kept if name in lowest},
        highest={name: highest[name] for name in kept if name in highest},
        dropped=max(len(metrics) - len(kept), known.dropped),
    )


def select(
    names: Collection[str], rows: Iterable[Iterable[str]], kept: Collection[str], limit: int
) -> list[str]:
    """Return at most `limit` (0: all) of `names`, sorted: first those `kept` before, then the headline ones.

    `rows` are the names on each row. A headline metric is on most rows and has a short name (`loss`,
    `macro_f1` before `f1/class_07`).
    """
    if not limit or len(names) <= limit:
        return sorted(names)
    counts = Counter(name for row in rows for name in row)
    ranked = sorted(names, key=lambda name: (name not in kept, -counts[name], len(name), name))
    return sorted(ranked[:limit])


def has_newest_of(known: TrainingProgress, rows: Iterable[StepRow]) -> bool:
    """Return whether the newest row known is among these."""
    return any(row.step == known.step and known.step_at in (None, row.at) for row in rows)


def is_new_run(known: TrainingProgress, rows: Sequence[StepRow], *, is_whole: bool) -> bool:
    """Return whether these rows, the newest of all, belong to another run than what is known.

    `is_whole` says that they are all the rows there are; otherwise the row that is missed may come later.
    """
    if not rows or has_newest_of(known, rows):
        return False
    return is_whole or min(row.step for row in rows) <= known.step


def seen(rows: Iterable[StepRow], before: bytes) -> bytes:
    """Return what identifies the newest of these rows and of those seen `before`, 16 bytes a row.

    The first is a floor: what is no newer counts as seen.
    """
    floor, *known = _identities(before) or [(-1.0, 0.0)]
    newest = sorted({*known, *(each for each in map(_identity, rows) if each > floor)})
    floor = newest[-MOST_SEEN - 1] if len(newest) > MOST_SEEN else floor
    return array("d", chain(floor, *newest[-MOST_SEEN:])).tobytes()


def newest_seen(seen: bytes) -> bytes:
    """Return the newest row seen as a floor, to remember no more."""
    return seen[-16:]


def unknown_rows(known: TrainingProgress | None, rows: Sequence[StepRow], seen: bytes = b"") -> list[StepRow]:
    """Return the rows that were not `seen`, late ones too; newer ones if nobody remembers."""
    if known is None:
        return list(rows)
    if not seen:
        return [row for row in rows if _recorded(row) > (known.step, known.step_at or 0.0)]
    floor, *others = _identities(seen)
    before = set(others)
    return [row for row in rows if (identity := _identity(row)) > floor and identity not in before]


def within_limit(progress: TrainingProgress | None, rows: list[StepRow]) -> list[StepRow]:
    """Return the rows without the metrics that a limit left out of `progress`."""
    if progress is None or not progress.dropped:
        return rows
    names = progress.metrics
    return [replace(row, metrics={k: v for k, v in row.metrics.items() if k in names}) for row in rows]


def missed_rows(known: TrainingProgress | None, rows: Sequence[StepRow]) -> int:
    """Estimate the rows between these and what is known, by the distance of their steps."""
    steps = sorted({row.step for row in rows})
    gap = steps[0] - (known.step if known else 0)
    if gap <= 0:
        return 0
    distance = max((steps[-1] - steps[0]) / max(len(steps) - 1, 1), 1.0)
    return max(round(gap / distance) - 1, 1)


def is_descending(rows: Sequence[StepRow]) -> bool:
    """Return whether rows prove by themselves that the list runs from the newest step to the oldest."""
    steps = [row.step for row in rows]
    return len(steps) > 1 and steps[0] > steps[-1] and all(a >= b for a, b in pairwise(steps))


def is_ascending(rows: Sequence[StepRow]) -> bool:
    """Return whether rows prove by themselves that the list runs from the oldest step to the newest."""
    return is_descending(rows[::-1])


def _recorded(row: StepRow) -> tuple[int, float]:
    return row.step, row.at or 0.0


def _identity(row: StepRow) -> tuple[float, float]:
    return float(row.step), row.at or 0.0


def _identities(seen: bytes) -> list[tuple[float, float]]:
    numbers = array("d", seen)
    return list(zip(numbers[::2], numbers[1::2], strict=True))
