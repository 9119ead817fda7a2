"""What a person should see first: which models, and which of a model's numbers.

Shared by the table of `check` and the landing page, so that both tell the same story.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from exporter.model import FinetunedModel, ModelState, Status

# As the dashboards and rules tell them apart.
_LOSS_LIKE = re.compile(r".*(loss|entropy|perplexity|error).*", re.IGNORECASE)
# Of several, the one that speaks of the whole; else the shortest name.
_FIRST = ("loss", "cross_entropy", "accuracy", "f1")


class Tone(StrEnum):
    """What a status asks of its reader."""

    ALARM = "alarm"
    BUSY = "busy"
    WARN = "warn"
    GOOD = "good"
    QUIET = "quiet"


_TONES: Mapping[str, Tone] = {
    Status.FAILED: Tone.ALARM,
    Status.FINETUNING: Tone.BUSY,
    Status.DEPLOYING_API: Tone.BUSY,
    Status.QUEUED: Tone.BUSY,
    Status.TEMPORARILY_OFFLINE: Tone.WARN,
    Status.PAUSED: Tone.WARN,
    Status.READY: Tone.GOOD,
    Status.DELETED: Tone.QUIET,
    Status.UNSPECIFIED: Tone.QUIET,
}
_ORDER = list(Tone)


def tone(status: str) -> Tone:
    """Return the tone of a status; one that is not known yet is quiet."""
    return _TONES.get(status, Tone.QUIET)


def base_of(model: FinetunedModel) -> str:
    """Return the base model of a model and its version, or at least its type."""
    return " ".join(filter(None, (model.base_model, model.base_model_version))) or model.base_type


def short_status(status: str) -> str:
    """Return a status without what all of them begin with."""
    return status.removeprefix("STATUS_")


def by_urgency(states: Iterable[ModelState]) -> list[ModelState]:
    """Return failed models first, then those under way, then the rest; within each as they come."""
    return sorted(states, key=lambda state: _ORDER.index(tone(state.model.status)))


def statuses_by_urgency(statuses: Iterable[str]) -> list[str]:
    """Return statuses in the order in which their models are shown."""
    return sorted(statuses, key=lambda status: _ORDER.index(tone(status)))


def loss_of(metrics: Mapping[str, float]) -> Sequence[str]:
    """Return the name of the loss to show where only one fits; empty when there is none."""
    return _first(name for name in metrics if _LOSS_LIKE.fullmatch(name))


def score_of(metrics: Mapping[str, float]) -> Sequence[str]:
    """Return the name of the score, of which more is better, to show where only one fits."""
    return _first(name for name in metrics if not _LOSS_LIKE.fullmatch(name))


def _first(names: Iterable[str]) -> Sequence[str]:
    return sorted(names, key=_rank)[:1]


def _rank(name: str) -> tuple[int, int, str]:
    return _FIRST.index(name) if name in _FIRST else len(_FIRST), len(name), name
