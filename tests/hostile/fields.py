"""A plain model with every field of the specification, its step metrics, and what is told of them."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from tests.hostile.server import WANDB_KEY

Json: TypeAlias = Any
Facts: TypeAlias = Mapping[str, str | float | None]
"""What is told of one model, by short names; in a difference, None is what only the plain model has."""

NEW_YEAR = 1_704_067_200.0  # 2024-01-01T00:00:00Z
LONG = "x" * 20_000
CUT = "x" * 1024

PLAIN: Mapping[str, Json] = {
    "id": "odd",
    "name": "plain",
    "status": "STATUS_FINETUNING",
    "creator_id": "creator",
    "organization_id": "organization",
    "created_at": "2024-01-01T00:00:01Z",
    "updated_at": "2024-01-01T00:00:02Z",
    "completed_at": "2024-01-01T00:00:03Z",
    "last_used": "2024-01-01T00:00:04Z",
    "settings": {
        "base_model": {
            "name": "command-r",
            "version": "14.2.0",
            "base_type": "BASE_TYPE_CHAT",
            "strategy": "STRATEGY_TFEW",
        },
        "dataset_id": "dataset",
        "multi_label": True,
        "hyperparameters": {
            "early_stopping_patience": 6,
            "early_stopping_threshold": 0.01,
            "train_batch_size": 16,
            "train_epochs": 2,
            "learning_rate": 0.005,
            "lora_alpha": 8,
            "lora_rank": 4,
            "lora_target_modules": "LORA_TARGET_MODULES_QV",
        },
        "wandb": {"project": "project", "entity": "entity", "api_key": WANDB_KEY},
    },
}
"""A model with every field of the specification."""

PLAIN_ROW: Mapping[str, Json] = {
    "step_number": 20,
    "created_at": "2024-01-01T00:20:00Z",
    "metrics": {"loss": 0.5, "step": 20},
}
EARLIER_ROW: Mapping[str, Json] = {
    "step_number": 10,
    "created_at": "2024-01-01T00:10:00Z",
    "metrics": {"loss": 0.75, "step": 10},
}
PLAIN_ROWS = (PLAIN_ROW, EARLIER_ROW)

PLAIN_FACTS: Facts = {
    "name": "plain",
    "status": "STATUS_FINETUNING",
    "base_type": "BASE_TYPE_CHAT",
    "base_model": "command-r",
    "base_model_version": "14.2.0",
    "strategy": "STRATEGY_TFEW",
    "dataset_id": "dataset",
    "organization_id": "organization",
    "creator_id": "creator",
    "lora_target_modules": "LORA_TARGET_MODULES_QV",
    "multi_label": "true",
    "wandb_project": "project",
    "wandb_entity": "entity",
    "created": NEW_YEAR + 1,
    "updated": NEW_YEAR + 2,
    "completed": NEW_YEAR + 3,
    "last_used": NEW_YEAR + 4,
    "hyperparameter early_stopping_patience": 6.0,
    "hyperparameter early_stopping_threshold": 0.01,
    "hyperparameter train_batch_size": 16.0,
    "hyperparameter train_epochs": 2.0,
    "hyperparameter learning_rate": 0.005,
    "hyperparameter lora_alpha": 8.0,
    "hyperparameter lora_rank": 4.0,
    "step": 20.0,
    "step recorded": NEW_YEAR + 1200,
    "metric loss": 0.5,
}
"""What is told of it."""
EARLIER_FACTS: Facts = {"step": 10.0, "step recorded": NEW_YEAR + 600, "metric loss": 0.75}
"""What is told of its earlier row alone."""

_HYPERPARAMETERS = [fact for fact in PLAIN_FACTS if fact.startswith("hyperparameter")]
_NO_BASE_MODEL: Facts = dict.fromkeys(("base_type", "base_model", "base_model_version", "strategy"))
_NO_HYPERPARAMETERS: Facts = dict.fromkeys((*_HYPERPARAMETERS, "lora_target_modules"))
_NO_WANDB: Facts = dict.fromkeys(("wandb_project", "wandb_entity"))
NO_PROGRESS: Facts = dict.fromkeys(("step", "step recorded", "metric loss"))
PARTS: Mapping[str, Facts] = {
    "base_model": _NO_BASE_MODEL,
    "hyperparameters": _NO_HYPERPARAMETERS,
    "wandb": _NO_WANDB,
    "settings": {
        **_NO_BASE_MODEL,
        **_NO_HYPERPARAMETERS,
        **_NO_WANDB,
        "dataset_id": None,
        "multi_label": "false",
    },
}
"""What is not told of a model without this part of it."""


def changed(path: str, value: Json, base: Mapping[str, Json] = PLAIN) -> dict[str, Json]:
    """Return the plain model, or another object, with another value at a path of dots."""
    name, _, rest = path.partition(".")
    return {**base, name: changed(rest, value, base[name]) if rest else value}


def without(path: str, base: Mapping[str, Json] = PLAIN) -> dict[str, Json]:
    """Return the same without what stands at the path."""
    name, _, rest = path.partition(".")
    if rest:
        return {**base, name: without(rest, base[name])}
    return {key: value for key, value in base.items() if key != name}
