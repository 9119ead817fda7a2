"""One poll as a table for people: what the verb `check` prints.

Text of the API is foreign: what a terminal might act on is shown as `?`.
"""

from collections.abc import Mapping, Sequence

from exporter.families import bounded_counts
from exporter.model import ModelState, PollOutcome, Snapshot

_HEADER = ("NAME", "STATUS", "BASE MODEL", "STEP", "LATEST METRICS", "AGE", "ID")
_WIDEST = 60


def table(snapshot: Snapshot, now: float) -> str:
    """Give the models, newest first, and a line that counts them; `now` is in Unix seconds."""
    bounded = bounded_counts(snapshot.status_counts).items()
    counts = ", ".join(f"{count} {_short(status)}" for status, count in bounded if count)
    total = sum(snapshot.status_counts.values())
    summary = f"{total} model{'' if total == 1 else 's'}{': ' if counts else ''}{_printable(counts)}"
    if snapshot.dropped:
        summary += f"; {snapshot.dropped} of them left out by --models.limit"
    if not snapshot.states:
        return summary
    rows = [_HEADER, *(_row(state, now) for state in snapshot.states)]
    return f"{_aligned(rows)}\n\n{summary}"


def failure(outcome: PollOutcome, api_url: str) -> str:
    """Say in a few lines that the API cannot be polled, why not, and what to do about it."""
    return (
        f"cannot poll {api_url}: {_printable(outcome.message)}"
        f"\n  reason:     {outcome.reason}"
        f"\n  what to do: {outcome.advice}"
    )


def _row(state: ModelState, now: float) -> tuple[str, ...]:
    model, progress = state.model, state.progress
    cells = (
        model.name,
        model.status,
        " ".join(part for part in (model.base_model, model.base_model_version) if part) or model.base_type,
        str(progress.step) if progress else "",
        _metrics(progress.metrics) if progress else "",
        _age(now - model.created_at) if model.created_at else "",
        model.id,
    )
    return tuple(_short(_printable(cell)) or "-" for cell in cells)


def _metrics(metrics: Mapping[str, float]) -> str:
    """Give as many metrics as fit, each whole: half a number would be another number."""
    shown = ""
    for name in sorted(metrics):
        longer = f"{shown} {name}={metrics[name]:.4g}".lstrip()
        if len(longer) > _WIDEST - 2:
            return f"{shown} …".lstrip()
        shown = longer
    return shown


def _age(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)


def _short(cell: str) -> str:
    return cell if len(cell) <= _WIDEST else cell[: _WIDEST - 1] + "…"


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
