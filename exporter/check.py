"""One poll for people and for programs: what the subcommand `check` prints.

Text of the API is foreign: what a terminal might act on is shown as `?`. Colour only repeats what a word
says. A number is shown whole or not at all: half of it would be another number.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from textwrap import fill
from typing import Any

from exporter.columns import Column, fit, join, lines, shorten
from exporter.families import bounded_counts
from exporter.model import ModelState, PollOutcome, Snapshot
from exporter.runtime.text import printable
from exporter.triage import (
    Tone,
    base_of,
    by_urgency,
    loss_of,
    score_of,
    short_status,
    statuses_by_urgency,
    tone,
)

_PAINTS = {Tone.ALARM: "1;31", Tone.BUSY: "36", Tone.WARN: "33", Tone.GOOD: "32", Tone.QUIET: "2"}
LONGEST_STATUS = 40  # columns in the line that counts the models
_TIMES = ("created_at", "updated_at", "completed_at", "last_used", "step_at")


@dataclass(frozen=True, slots=True)
class ApiAddress:
    """The API that was polled, in words."""

    url: str
    simulated: bool = False

    def __str__(self) -> str:
        return "the simulated API" if self.simulated else self.url


def table(
    snapshot: Snapshot, address: ApiAddress, now: float, *, max_width: int | None, colour: bool = False
) -> str:
    """Return the models, failed ones first, and a line that counts them.

    `now` is in Unix seconds; `max_width` is the width to fit into, None for all columns in full.
    """
    states = by_urgency(snapshot.states)
    if not states:
        return _summary(snapshot, address, max_width)
    header, *rows = lines(fit(_columns(states, now, max_width), max_width))
    if colour:
        header = [_paint("1", cell) for cell in header]
        rows = [
            [_paint(_PAINTS[tone(state.model.status)], row[0]), *row[1:]]
            for state, row in zip(states, rows, strict=True)
        ]
    return "\n".join([*map(join, (header, *rows)), "", _summary(snapshot, address, max_width)])


def document(snapshot: Snapshot, address: ApiAddress, unread: Sequence[str]) -> str:
    """Return the models as JSON: names as the API has them, what it did not give is absent."""
    models = []
    for state in snapshot.states:
        model = _given(asdict(state.model))
        if state.progress is not None:
            model["training"] = _given(asdict(state.progress))
        models.append(model)
    return _json(
        {
            "api": _api(address),
            "models": models,
            "statuses": dict(snapshot.status_counts),
            "dropped": snapshot.dropped,
            "unread": list(unread),
        }
    )


def failure(outcome: PollOutcome, address: ApiAddress) -> str:
    """Return a few lines: that the API cannot be polled, why not, and what to do about it."""
    return (
        f"cannot poll {address}: {printable(outcome.message)}"
        f"\n  reason:     {outcome.reason}"
        f"\n  what to do: {outcome.advice}"
    )


def failure_document(outcome: PollOutcome, address: ApiAddress) -> str:
    """Return the failure as JSON."""
    error = {"reason": outcome.reason, "message": outcome.message, "advice": outcome.advice}
    return _json({"api": _api(address), "error": error})


def _api(address: ApiAddress) -> dict[str, Any]:
    return {"simulated": True} if address.simulated else {"url": address.url}


def _summary(snapshot: Snapshot, address: ApiAddress, max_width: int | None) -> str:
    bounded = bounded_counts(snapshot.status_counts)
    counted = [
        f"{bounded[status]} {shorten(short_status(status), LONGEST_STATUS)}"
        for status in statuses_by_urgency(bounded)
        if bounded[status]
    ]
    # A number stays on one line with its status.
    counts = re.sub(r"(^|, )(\d+) ", "\\1\\2\xa0", printable(", ".join(counted)))
    total = sum(snapshot.status_counts.values())
    summary = f"{total} model{'' if total == 1 else 's'} at {address}{': ' if counts else ''}{counts}"
    if snapshot.dropped:
        summary += f"; {snapshot.dropped} of them left out by --models.limit"
    return (summary if max_width is None else fill(summary, max_width)).replace("\xa0", " ")


def _columns(states: Sequence[ModelState], now: float, max_width: int | None) -> list[Column]:
    models = [state.model for state in states]
    progress = [state.progress for state in states]
    metrics = [latest.metrics if latest else {} for latest in progress]
    if max_width is None:
        shown = [_column("LATEST EVALUATION", [_written(given, sorted(given)) for given in metrics], 5)]
    else:
        shown = [
            _column("EVAL LOSS", [_written(given, loss_of(given)) for given in metrics], 5),
            _column("EVAL SCORE", [_written(given, score_of(given)) for given in metrics], 4),
        ]
    ages = [_age(now - model.created_at) if model.created_at is not None else "" for model in models]
    # A name is worth little without its status, for which a narrow terminal leaves space.
    least_name = 14 if max_width is None else min(14, max_width - 12 - 2)
    return [
        _column("STATUS", [short_status(model.status) for model in models], 7, least=12),
        _column("NAME", [model.name for model in models], 8, least=least_name),
        _column("STEP", [str(latest.step) if latest else "" for latest in progress], 6),
        *shown,
        _column("AGE", ages, 3),
        _column("BASE MODEL", [base_of(model) for model in models], 2, least=14),
        _column("ID", [model.id for model in models], 1),
    ]


def _column(header: str, cells: Sequence[str], priority: int, least: int | None = None) -> Column:
    return Column(header, [printable(cell) or "-" for cell in cells], priority, least)


def _written(metrics: Mapping[str, float], names: Sequence[str]) -> str:
    return " ".join(f"{name}={metrics[name]:.4g}" for name in names)


def _age(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"


def _paint(code: str, cell: str) -> str:
    word = cell.rstrip()
    return f"\x1b[{code}m{word}\x1b[0m{cell[len(word) :]}"


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _moment(value) if name in _TIMES else value
        for name, value in values.items()
        if value not in ("", None)
    }


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(_finite(content), ensure_ascii=True, allow_nan=False, indent=2)


def _finite(value: Any) -> Any:
    """Write NaN and the infinities as protobuf's JSON does: they are no numbers of JSON."""
    if isinstance(value, Mapping):
        return {name: _finite(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return json.dumps(value)
    return value
