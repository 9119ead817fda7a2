"""Jobs → the JSON of the API, written as Go's protobuf JSON writes it.

Zero values are left out: 0, "", false, empty lists and objects, and the first value of an enumeration, which
ends in `_UNSPECIFIED`. Entries of a map (`metrics`) are always written. Doubles that JSON has no number for
are strings, "NaN". Models have timestamps to the microsecond, step metrics to the nanosecond.
"""

import math
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from exporter.simulator.jobs import STEPS_PER_ROW, Job, Recipe


def model(job: Job, now: float) -> dict[str, Any]:
    """Return the `FinetunedModel` of the specification."""
    return without_zeros(
        {
            "id": job.id,
            "name": job.name_at(now),
            "creator_id": _owner(job.recipe.creator),
            "organization_id": _owner("example-organization"),
            "settings": _settings(job.recipe, job.dataset_id),
            "status": job.status(now),
            "created_at": timestamp(job.created_at, digits=6),
            "updated_at": timestamp(job.updated_at(now), digits=6),
            "completed_at": timestamp(job.completed_at(now), digits=6),
            "last_used": timestamp(job.last_used(now), digits=6),
        }
    )


def step_metrics(job: Job, row: int) -> dict[str, Any]:
    """Return the `TrainingStepMetrics` of the specification for row `row`."""
    step = row * STEPS_PER_ROW
    zeroless = without_zeros({"created_at": timestamp(job.row_at(row), digits=9), "step_number": step})
    metrics = {name: _double(value) for name, value in job.curve.metrics(row).items()}
    # The backend repeats the step among the metrics, where, in a map, it is written even when 0.
    return {**zeroless, "metrics": {**metrics, "step": step}}


@lru_cache(maxsize=1 << 14)  # the rows of a run are asked for again and again
def timestamp(at: float | None, *, digits: int) -> str:
    """Write a Unix time in RFC 3339 with `digits` fractional digits, rounded down; None is ""."""
    if at is None:
        return ""
    second = math.floor(at)
    fraction = math.floor((at - second) * 10**digits)
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:0{digits}d}Z"


def without_zeros(message: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out of a message, and of the messages in it, what protobuf JSON leaves out."""
    pruned = {
        name: without_zeros(value) if isinstance(value, Mapping) else value for name, value in message.items()
    }
    return {name: value for name, value in pruned.items() if value and not _is_enum_zero(value)}


def _is_enum_zero(value: object) -> bool:
    return isinstance(value, str) and value.endswith("_UNSPECIFIED")


def _settings(recipe: Recipe, dataset_id: str) -> dict[str, Any]:
    return {
        "base_model": {
            "name": recipe.base_model,
            "version": recipe.base_model_version,
            "base_type": recipe.base_type,
            "strategy": recipe.strategy,
        },
        "dataset_id": dataset_id,
        "hyperparameters": recipe.hyperparameters,
        "multi_label": recipe.multi_label,
        "wandb": recipe.wandb,
    }


def _owner(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))


def _double(value: float) -> float | str:
    return "NaN" if math.isnan(value) else value
