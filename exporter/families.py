"""The table of model families: one row for each, with its name, help, labels and meaning.

The exposition, `--metrics.exclude`, the documentation and the checks of dashboards and rules all derive from
it. Each family is a gauge; a value the API did not give has no sample; label values are text as `cohere.wire`
left it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Generic, TypeAlias, TypeVar

from exporter.model import ModelState, Snapshot, Status, StepRow, TrainingProgress

T = TypeVar("T")
Sample: TypeAlias = tuple[tuple[str, ...], float]
"""Label values, in the order of the family's labels, and the value."""

IDENTITY = ("model_id", "model_name")
UNKNOWN_STATUSES_LIMIT = 32  # shown by name among the numbers of models; the API has nine in all
OTHER_STATUSES = "other"  # the rest of them


@dataclass(frozen=True, slots=True)
class _Family(Generic[T]):
    name: str
    help: str
    own_labels: tuple[str, ...]
    samples: Callable[[T], Iterable[Sample]]

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels."""
        return IDENTITY + self.own_labels


class ModelFamily(_Family[ModelState]):
    """A family with samples of each model; `samples` gives those of one, without the labels of `IDENTITY`."""


class StepFamily(_Family[StepRow]):
    """A family of /metrics/steps and of `history` only; `samples` gives those of one row of one model."""


class FleetFamily(_Family[Snapshot]):
    """A family that speaks of the fleet as a whole; `samples` gives those of a snapshot."""

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels."""
        return self.own_labels


Family: TypeAlias = ModelFamily | FleetFamily


def _one(value: float | None) -> Iterable[Sample]:
    return () if value is None else (((), value),)


def _each(values: Mapping[str, float]) -> Iterable[Sample]:
    return (((name,), value) for name, value in values.items())


def _info(state: ModelState) -> Iterable[Sample]:
    values: Iterable[str | bool] = (getattr(state.model, label) for label in _INFO_LABELS)
    yield tuple(value if isinstance(value, str) else str(value).lower() for value in values), 1.0


def _status(state: ModelState) -> Iterable[Sample]:
    current = state.model.status
    for status in Status:
        yield (status.value,), float(status == current)
    if current not in _KNOWN_STATUSES:
        yield (current,), 1.0


def _progress(
    read: Callable[[TrainingProgress], Iterable[Sample]],
) -> Callable[[ModelState], Iterable[Sample]]:
    """Return the samples of a model whose step metrics have been read; any other has none."""
    return lambda state: () if state.progress is None else read(state.progress)


def bounded_counts(counts: Mapping[str, int]) -> Mapping[str, int]:
    """Return the numbers of models with so many unknown statuses by name, and the rest in one."""
    # Every model may have a status of its own, those left out by a limit, too.
    unknown = [status for status in counts if status not in _KNOWN_STATUSES]
    bounded = Counter(counts)
    if rest := sum(bounded.pop(status) for status in unknown[UNKNOWN_STATUSES_LIMIT:]):
        bounded[OTHER_STATUSES] += rest
    return bounded


_KNOWN_STATUSES = frozenset(Status)
_INFO_LABELS = (
    "base_type",
    "base_model",
    "base_model_version",
    "strategy",
    "dataset_id",
    "organization_id",
    "creator_id",
    "lora_target_modules",
    "multi_label",
    "wandb_project",
    "wandb_entity",
)

FAMILIES: tuple[Family, ...] = (
    ModelFamily(
        "cohere_finetuned_model_info",
        "Properties of the model (settings, creator_id and organization_id of the API), always 1.",
        _INFO_LABELS,
        _info,
    ),
    ModelFamily(
        "cohere_finetuned_model_status",
        "1 for the model's current status (status), 0 for every other.",
        ("status",),
        _status,
    ),
    ModelFamily(
        "cohere_finetuned_model_created_timestamp_seconds",
        "Unix time at which the model was created (created_at).",
        (),
        lambda state: _one(state.model.created_at),
    ),
    ModelFamily(
        "cohere_finetuned_model_updated_timestamp_seconds",
        "Unix time at which the model last changed (updated_at).",
        (),
        lambda state: _one(state.model.updated_at),
    ),
    ModelFamily(
        "cohere_finetuned_model_completed_timestamp_seconds",
        "Unix time at which training ended (completed_at); deployment may take longer.",
        (),
        lambda state: _one(state.model.completed_at),
    ),
    ModelFamily(
        "cohere_finetuned_model_last_used_timestamp_seconds",
        "Unix time at which the model was last used (last_used).",
        (),
        lambda state: _one(state.model.last_used),
    ),
    ModelFamily(
        "cohere_finetuned_model_hyperparameter",
        "Value of each numeric hyperparameter (settings.hyperparameters); do not sum.",
        ("hyperparameter",),
        lambda state: _each(state.model.hyperparameters),
    ),
    ModelFamily(
        "cohere_finetuned_model_training_step",
        "Highest evaluated step (step_number of the step metrics).",
        (),
        _progress(lambda progress: _one(progress.step)),
    ),
    ModelFamily(
        "cohere_finetuned_model_training_step_timestamp_seconds",
        "Unix time at which the highest evaluated step was recorded (created_at of the step metrics).",
        (),
        _progress(lambda progress: _one(progress.step_at)),
    ),
    ModelFamily(
        "cohere_finetuned_model_training_metric",
        "Latest value of each evaluation metric (metrics; not the training loss), from the highest step that "
        "has it; do not sum.",
        ("metric",),
        _progress(lambda progress: _each(progress.metrics)),
    ),
    ModelFamily(
        "cohere_finetuned_model_training_metric_step",
        "Step that the latest value of each evaluation metric comes from (step_number).",
        ("metric",),
        _progress(lambda progress: _each(progress.metric_steps)),
    ),
    ModelFamily(
        "cohere_finetuned_model_training_metric_min",
        "Lowest value of each evaluation metric (metrics) among the steps read of this run.",
        ("metric",),
        _progress(lambda progress: _each(progress.lowest)),
    ),
    ModelFamily(
        "cohere_finetuned_model_training_metric_max",
        "Highest value of each evaluation metric (metrics) among the steps read of this run.",
        ("metric",),
        _progress(lambda progress: _each(progress.highest)),
    ),
    ModelFamily(
        "cohere_finetuned_model_training_metrics_non_finite",
        "Number of evaluation metrics (metrics) whose latest value is NaN or infinite.",
        (),
        _progress(lambda progress: _one(sum(not isfinite(value) for value in progress.metrics.values()))),
    ),
    FleetFamily(
        "cohere_finetuned_models",
        "Number of models in each status, among all that the API lists.",
        ("status",),
        lambda snapshot: _each(bounded_counts(snapshot.status_counts)),
    ),
    FleetFamily(
        "cohere_finetuned_models_dropped",
        "Number of models left out by --models.limit.",
        (),
        lambda snapshot: _one(snapshot.dropped),
    ),
)

PROGRESS_FAMILIES = tuple(family.name for family in FAMILIES if "_training_" in family.name)
"""The families that need a model's step metrics, and so a call for each model."""


STEP_FAMILIES = (
    StepFamily(
        "cohere_finetuned_model_step_metric",
        "Value of an evaluation metric at each training step (metrics), at the time of the step.",
        ("metric",),
        lambda row: _each(row.metrics),
    ),
    StepFamily(
        "cohere_finetuned_model_step_number",
        "Number of each training step (step_number), at the time of the step.",
        (),
        lambda row: _one(row.step),
    ),
)
