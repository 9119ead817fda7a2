"""Every training step of a fleet → OpenMetrics with timestamps, for a backfill.

One model at a time, so memory holds the steps of one, however many models there are. OpenMetrics wants the
samples of a family together: those of the second family wait in a temporary file until the first is complete.
`# EOF` ends what is complete; readers such as promtool refuse text without it.
"""

import math
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from shutil import copyfileobj
from typing import BinaryIO, Protocol

from exporter.cohere.client import Cursor, StepReading
from exporter.errors import (
    ApiError,
    Forbidden,
    Gone,
    PaginationLimitExceeded,
    PaymentRequired,
    QuotaSpent,
    Unauthorized,
)
from exporter.exposition.formats import Format
from exporter.exposition.lines import head, identity, label_pairs, step_lines
from exporter.exposition.training_steps import in_time
from exporter.families import IDENTITY, STEP_FAMILIES
from exporter.model import FinetunedModel, StepRow, TrainingProgress

_CONCERNS_ALL = (Unauthorized, Forbidden, PaymentRequired, QuotaSpent)
_END = b"# EOF\n"
_NOT_WHOLE = "the older ones are beyond the quota or the bounds of one reading; the newer ones are written"
_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
_TAKEN = {*IDENTITY, *(label for family in STEP_FAMILIES for label in family.own_labels)}


class StepsApi(Protocol):
    """What is asked of the API."""

    async def training_steps(
        self, model_id: str, known: TrainingProgress | None = None, cursor: Cursor | None = None
    ) -> StepReading:
        """Read the steps of one model that are not `known`, from `cursor` on; raise `ApiError`."""
        ...


@dataclass
class History:
    """What was read and written: how many models and rows, and which models could not be read and why.

    `left_out` counts the rows of each model that have no time, or that of a later step, and
    `left_out_metrics` the metrics beyond the client's limit.
    """

    read: int = 0
    models: int = 0
    rows: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    left_out_metrics: dict[str, int] = field(default_factory=dict)
    errors: dict[str, ApiError] = field(default_factory=dict)


async def write_history(
    api: StepsApi,
    models: Iterable[FinetunedModel],
    out: BinaryIO,
    *,
    labels: Mapping[str, str],
    since: float | None = None,
    progress: Callable[[History], None] = lambda _: None,
) -> History:
    """Write the steps of `models` after `since` (Unix seconds), each series with `labels` besides its own.

    A model that cannot be read is left out. Raise the `ApiError` that all others would meet too, with the
    text unfinished, and OSError when it cannot be written.
    """
    history = History()
    with tempfile.TemporaryFile() as later:
        streams = dict(zip(STEP_FAMILIES, (out, later), strict=True))
        for family, stream in streams.items():
            stream.write(head(family))
        for model in models:
            progress(history)
            history.read += 1
            try:
                steps, is_whole, dropped = await _all_steps(api, model)
            except Gone:
                continue  # the API has no steps of it
            except ApiError as error:
                if isinstance(error, _CONCERNS_ALL):
                    raise
                history.errors[model.id] = error
                continue
            if not is_whole:
                history.errors[model.id] = PaginationLimitExceeded(_NOT_WHOLE)
            wanted = [row for row in steps if since is None or row.at is None or row.at > since]
            rows = in_time(wanted)
            if left_out := len(_distinct(wanted) - _distinct(rows)):
                history.left_out[model.id] = left_out
            if dropped:
                history.left_out_metrics[model.id] = dropped
            for family, stream in streams.items():
                stream.write(step_lines(family, _labels(model, labels), rows, Format.OPENMETRICS))
            history.models += bool(rows)
            history.rows += len(rows)
        later.seek(0)
        copyfileobj(later, out)
    out.write(_END)
    return history


async def _all_steps(api: StepsApi, model: FinetunedModel) -> tuple[list[StepRow], bool, int]:
    """Return the steps of a model, whether they are all there are, and how many metrics were left out."""
    reading = await api.training_steps(model.id)
    rows, missed = list(reading.rows), reading.missed
    while not reading.is_complete and reading.rows:  # one reading has bounds
        reading = await api.training_steps(model.id, reading.progress, reading.cursor)
        rows += reading.rows
        missed += reading.missed
    dropped = reading.progress.dropped if reading.progress else 0
    return rows, reading.is_complete and not missed, dropped


def _distinct(rows: Sequence[StepRow]) -> set[tuple[int, float | None]]:
    """Return steps and times; a row may be read twice while the list of pages shifts."""
    return {(row.step, row.at) for row in rows}


def _labels(model: FinetunedModel, labels: Mapping[str, str]) -> str:
    return ",".join((identity(model), *label_pairs(labels)))


def parse_labels(texts: Iterable[str]) -> dict[str, str]:
    """Return labels from texts such as `job=cohere`; raise ValueError in words for people."""
    labels: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not _LABEL.fullmatch(name):
            raise ValueError("must be NAME=VALUE, NAME a label name such as job")
        if name in _TAKEN:
            raise ValueError(f"{name} is a label of the series already")
        if name in labels:
            raise ValueError(f"{name} is given twice")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(f"the value of {name} must be UTF-8") from None
        labels[name] = value
    return labels


def parse_time(text: str) -> float:
    """Return Unix seconds from RFC 3339 or Unix seconds; raise ValueError in words for people."""
    with suppress(ValueError):
        if math.isfinite(seconds := float(text)):
            return seconds
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("must be a time such as 2026-01-31T12:00:00Z, or Unix seconds") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
