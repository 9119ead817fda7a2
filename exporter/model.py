"""What the exporter knows of a fleet of fine-tuned models.

Everything here is frozen and free of I/O. Text is what the API said, "" where it said nothing; times are
Unix seconds, None where the API gave none; a status is a plain string, because the API may add one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple


class Status(StrEnum):
    """The statuses of the API's specification, in its order and spelling."""

    UNSPECIFIED = "STATUS_UNSPECIFIED"
    FINETUNING = "STATUS_FINETUNING"
    DEPLOYING_API = "STATUS_DEPLOYING_API"
    READY = "STATUS_READY"
    FAILED = "STATUS_FAILED"
    DELETED = "STATUS_DELETED"
    TEMPORARILY_OFFLINE = "STATUS_TEMPORARILY_OFFLINE"
    PAUSED = "STATUS_PAUSED"
    QUEUED = "STATUS_QUEUED"


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetunedModel:
    """One fine-tuned model as the list endpoint gives it, without its training progress."""

    id: str
    name: str = ""
    status: str = Status.UNSPECIFIED
    base_type: str = ""
    base_model: str = ""
    base_model_version: str = ""
    strategy: str = ""
    dataset_id: str = ""
    organization_id: str = ""
    creator_id: str = ""
    lora_target_modules: str = ""
    multi_label: bool = False
    wandb_project: str = ""
    wandb_entity: str = ""
    created_at: float | None = None
    updated_at: float | None = None
    completed_at: float | None = None
    last_used: float | None = None
    hyperparameters: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StepRow:
    """The metrics of one training step; `at` is in Unix seconds."""

    step: int
    at: float | None
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingProgress:
    """The training-step metrics of one run, reduced.

    `step` is the highest step that has a row and `step_at` the time of that row; each of `metrics` is the
    value on the highest step that has it, which `metric_steps` names; `lowest` and `highest` are over all
    rows read of this run, without NaN; `dropped` counts the metrics left out by a limit.
    """

    step: int
    step_at: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    metric_steps: Mapping[str, int] = field(default_factory=dict)
    lowest: Mapping[str, float] = field(default_factory=dict)
    highest: Mapping[str, float] = field(default_factory=dict)
    dropped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRows:
    """Rows of one model that a reading newly brought, in the API's order.

    `missed` counts, as well as can be known, the rows of the run that were never read; `is_new_run` says that
    what was read of the model before belongs to another run.
    """

    model: FinetunedModel
    rows: Sequence[StepRow]
    missed: int = 0
    is_new_run: bool = False


class ModelState(NamedTuple):
    """One model and its training progress; None while none is known."""

    model: FinetunedModel
    progress: TrainingProgress | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A whole fleet at one moment.

    `states` are the models exported, newest first; `status_counts` and `dropped` speak of every model the
    API listed, so `sum(status_counts.values()) == len(states) + dropped`. `listed_at` is when the list's
    first request began, on the monotonic clock; it ages a snapshot and makes it no other one.
    """

    states: tuple[ModelState, ...]
    status_counts: Mapping[str, int]
    dropped: int = 0
    listed_at: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PollOutcome:
    """How a poll ended: `reason` is None when it listed every page, else one of `errors.REASONS`.

    `finished_at` is in Unix seconds, `duration` in seconds; `message` says what went wrong and `advice` what
    to do about it, each in one line for people and free of secrets.
    """

    finished_at: float
    duration: float
    reason: str | None = None
    message: str = ""
    advice: str = ""
