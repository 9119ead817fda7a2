"""Every training step of a fleet → OpenMetrics with timestamps, for a backfill.

Steps wait in temporary files: those of a model until they are all there, and of the second family until the
first is complete, since OpenMetrics wants the samples of a family together. So memory holds a page, however
long a run is and however many models there are, and a model is written whole or not at all. `# EOF` ends the
text; readers such as promtool refuse it without.
"""

import math
import re
import tempfile
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from shutil import copyfileobj
from typing import BinaryIO

from exporter.errors import ApiError, Forbidden, Gone, PaymentRequired, QuotaSpent, Unauthorized
from exporter.exposition.lines import head, identity
from exporter.families import IDENTITY, STEP_FAMILIES, StepFamily
from exporter.model import FinetunedModel, Status, StepRow
from exporter.spool import StepSpool, open_spool

LATE = 3600.0  # seconds after the end of a run in which steps of it may be recorded
_LAST_SECOND = 253_402_300_799.0  # of the year 9999; in milliseconds it is a day of 1978
_CONCERNS_ALL = (Unauthorized, PaymentRequired, QuotaSpent)
_IN_PROGRESS = frozenset({Status.UNSPECIFIED, Status.QUEUED, Status.FINETUNING})
_END = b"# EOF\n"
_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
ReadSteps = Callable[[str], AsyncGenerator[list[StepRow]]]
"""Yields the steps of one model, by its id, page by page; raises `ApiError`."""
_TAKEN = {*IDENTITY, *(label for family in STEP_FAMILIES for label in family.own_labels)}


class _CutOff(QuotaSpent):
    """The quota has no call for a further page of a model; it may have some for the first of others."""


@dataclass
class History:
    """What was read and written: how many models and rows, and which models could not be read and why.

    `left_out` counts the rows of each model that have no time, or that of a later step, and
    `left_out_metrics` the metrics beyond the limit. `ended_by` is the error that all others would meet too,
    and `unread` are the models that it left. Access may be refused model by model, so that it takes two in a
    row; they are among `errors`. A quota that is short of a further page of a model leaves that model only.
    """

    read: int = 0
    models: int = 0
    rows: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    left_out_metrics: dict[str, int] = field(default_factory=dict)
    errors: dict[str, ApiError] = field(default_factory=dict)
    ended_by: ApiError | None = None
    unread: list[str] = field(default_factory=list)

    def end(self, error: ApiError, others: Sequence[FinetunedModel]) -> None:
        """Leave the others; a model that was cut off comes after them, or it might take their calls again."""
        self.ended_by, self.unread = error, [*(model.id for model in others), *self.unread]


async def write_history(
    read_steps: ReadSteps,
    models: Sequence[FinetunedModel],
    out: BinaryIO,
    *,
    labels: Mapping[str, str],
    since: float = -math.inf,
    metric_limit: int = 0,
    progress: Callable[[History], None] = lambda _: None,
) -> History:
    """Write the steps of `models` after `since` (Unix seconds), each series with `labels` besides its own.

    A model that cannot be read is left out. Raise OSError when the text cannot be written.
    """
    history = History()
    was_forbidden = False  # the model before
    with tempfile.TemporaryFile() as later:
        streams = dict(zip(STEP_FAMILIES, (out, later), strict=True))
        for family, stream in streams.items():
            stream.write(head(family))
        for number, model in enumerate(models):
            progress(history)
            history.read += 1
            if _ended_before(model, since):
                continue
            with open_spool() as spool:
                try:
                    await _read(read_steps(model.id), since, spool)
                except _CutOff as error:
                    history.ended_by = error
                    history.unread.append(model.id)
                    was_forbidden = False
                    continue
                except _CONCERNS_ALL as error:
                    history.end(error, models[number:])
                    break
                except ApiError as error:
                    history.errors[model.id] = error
                    if was_forbidden and isinstance(error, Forbidden):
                        history.end(error, models[number + 1 :])
                        break
                    was_forbidden = isinstance(error, Forbidden)
                    continue
                was_forbidden = False
                metrics, left_out_metrics = spool.metrics(metric_limit)
                _write(spool, streams, identity(model, labels), metrics)
                history.models += bool(spool.written)
                history.rows += spool.written
                if spool.left_out:
                    history.left_out[model.id] = spool.left_out
                if left_out_metrics:
                    history.left_out_metrics[model.id] = left_out_metrics
        later.seek(0)
        copyfileobj(later, out)
    out.write(_END)
    return history


def _ended_before(model: FinetunedModel, since: float) -> bool:
    """Return whether the list says that all steps of a model are older than `since`."""
    ended_at = model.completed_at or model.updated_at or math.inf
    return model.status not in _IN_PROGRESS and ended_at + LATE < since


async def _read(steps: AsyncGenerator[list[StepRow]], since: float, spool: StepSpool) -> None:
    pages = 0
    try:
        async with aclosing(steps) as chain:
            async for rows in chain:
                pages += 1
                spool.add(row for row in rows if row.at is None or row.at > since)
    except QuotaSpent as error:
        if pages and error.status is None:
            raise _CutOff(error.message) from error
        raise
    except Gone:
        if pages:
            raise
        # Otherwise the API has no steps of it.


def _write(
    spool: StepSpool, streams: Mapping[StepFamily, BinaryIO], labels: str, metrics: Collection[str]
) -> None:
    for family, stream in streams.items():
        for lines in spool.lines(family, labels, metrics):
            stream.write(lines)


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
    try:
        seconds = _seconds(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise ValueError("must be a time such as 2026-01-31T12:00:00Z, or Unix seconds")
    if seconds > _LAST_SECOND:
        raise ValueError("is beyond the year 9999: must be Unix seconds, not milliseconds")
    return seconds


def _seconds(text: str) -> float:
    with suppress(ValueError):
        return float(text)
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
