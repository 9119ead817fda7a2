"""Every field of the specification, every value that it may come with, and the rule of what is then shown.

The fields are those of the documents in tests/data/openapi, whose types name the rule. A value that the rule
of a field does not name makes no sense there: the field is absent, and counted. No value costs more than the
part that it stands in: the field, or with an `id` the model, or with a `step_number` the row.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from tests.hostile.server import WANDB_KEY

Json: TypeAlias = Any
Facts: TypeAlias = Mapping[str, str | float | None]
"""What is told of one model, by short names; in a difference, None is what only the plain model has."""

NEW_YEAR = 1_704_067_200.0  # 2024-01-01T00:00:00Z

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


_WITHOUT = {"status": "STATUS_UNSPECIFIED", "name": "", "settings.multi_label": "false"}
"""What is shown of a field that is not there, where it is something."""
FACTS: Mapping[str, str] = {
    "settings.base_model.name": "base_model",
    "settings.base_model.version": "base_model_version",
    "settings.wandb.project": "wandb_project",
    "settings.wandb.entity": "wandb_entity",
    "created_at": "created",
    "updated_at": "updated",
    "completed_at": "completed",
}
"""What a field is told as, where that is not its own name."""

ABSENT = object()
LONG = "x" * 20_000
CUT = "x" * 1024
VALUES: Mapping[str, Json] = {
    "absent": ABSENT,
    "null": None,
    "true": True,
    "false": False,
    "zero": 0,
    "negative": -7,
    "fraction": 7.5,
    "huge": 10**30,
    "beyond a double": 10**400,
    "NaN": float("nan"),
    "Infinity": float("inf"),
    "-Infinity": float("-inf"),
    "text": "text",
    "empty text": "",
    "blank": " ",
    "long text": LONG,
    "text of a number": "7",
    "text NaN": "NaN",
    "text Infinity": "Infinity",
    "text -Infinity": "-Infinity",
    "list": [],
    "list of text": ["text"],
    "object": {},
    "object of text": {"text": "text"},
}
"""What a field may come with; NaN and the infinities go out as the literals that Python's JSON writes."""

_TEXTS: Mapping[str, str | None] = {
    "text": "text",
    "blank": " ",
    "long text": CUT,
    "text of a number": "7",
    "text NaN": "NaN",
    "text Infinity": "Infinity",
    "text -Infinity": "-Infinity",
    "negative": "-7",
    "fraction": "7.5",
    "huge": "1e+30",
    "beyond a double": "inf",
    "Infinity": "inf",
    "-Infinity": "-inf",
    "NaN": "nan",
}
_FRACTIONS = ("fraction", "huge", "beyond a double", "Infinity", "-Infinity", "NaN")
_NOTHING: Facts = {"absent": None, "null": None}
_NUMBERS: Facts = {
    "zero": 0.0,
    "negative": -7.0,
    "fraction": 7.5,
    "huge": 1e30,
    "text of a number": 7.0,
    **dict.fromkeys(("beyond a double", "Infinity", "text Infinity"), float("inf")),
    **dict.fromkeys(("-Infinity", "text -Infinity"), float("-inf")),
    **dict.fromkeys(("NaN", "text NaN"), float("nan")),
}
RULES: Mapping[str, Facts] = {
    "text": {**_NOTHING, **_TEXTS, "zero": "0", "empty text": None},
    "enum": {**_NOTHING, **_TEXTS, "zero": None, "empty text": None},
    "number": {**_NOTHING, **_NUMBERS},
    "time": {
        **dict.fromkeys(("absent", "null", "zero", "negative", "empty text")),
        "fraction": 7.5,
        "text of a number": 7.0,
    },
    "boolean": {
        **dict.fromkeys(("absent", "null", "false", "zero", "empty text"), "false"),
        "true": "true",
    },
    "object": dict.fromkeys(("absent", "null", "object", "object of text")),
    "unread": dict.fromkeys(VALUES),
    # Of a model that is shown, its id as a label; without a rule the model is skipped.
    "id": {
        **{name: text for name, text in _TEXTS.items() if name not in _FRACTIONS},
        "zero": "0",
    },
    "step": {"absent": 0.0, "null": 0.0, "zero": 0.0, "text of a number": 7.0},
}
"""What is shown of each value by the rule of its field, None for nothing; all others are counted."""

END = ("absent", "null", "false", "zero", "empty text", "list", "object")
"""The values of `next_page_token` that are the end of a list."""
EMPTY = ("absent", "null", "empty text", "list", "object")
"""The values of a list that are an empty one."""

TOKENS = ("text", "blank", "negative", "text of a number", "text NaN", "text Infinity", "text -Infinity")
"""The values of `next_page_token` that are one."""

UNREAD = ("settings.wandb.api_key",)
DOCUMENTS = Path(__file__).parents[1] / "data" / "openapi"


def fields_of(document: str, schema: str) -> Iterator[tuple[str, str]]:
    """Yield the path of each field of a schema, nested ones after what they stand in, and its rule."""
    text = (DOCUMENTS / f"{document}.yaml").read_text(encoding="utf-8")
    schemas = yaml.safe_load(text)["components"]["schemas"]

    def walk(name: str, before: str) -> Iterator[tuple[str, str]]:
        for field, described in schemas[name]["properties"].items():
            path, inner = f"{before}{field}", described.get("$ref", "").rpartition("/")[2]
            yield path, _rule(path, schemas[inner] if inner else described)
            if inner and "properties" in schemas[inner]:
                yield from walk(inner, f"{path}.")
            if "additionalProperties" in described:
                yield f"{path}.loss", _rule(path, described["additionalProperties"])

    return walk(schema, "")


def _rule(path: str, described: Mapping[str, Any]) -> str:
    if path in UNREAD:
        return "unread"
    if path in ("id", "step_number"):
        return path.partition("_")[0]
    if "enum" in described:
        return "enum"
    if described.get("format") == "date-time":
        return "time"
    kind: str = described["type"]
    return {"string": "text", "integer": "number"}.get(kind, kind)


def with_value(path: str, value: str, base: Mapping[str, Json] = PLAIN) -> dict[str, Json]:
    """Return the base with one of `VALUES`, by its name, at a path."""
    return without(path, base) if VALUES[value] is ABSENT else changed(path, VALUES[value], base)


def facts_of(path: str, rule: str, value: str) -> tuple[Facts, bool]:
    """Return how a model with this value differs from a plain one, and whether that is counted."""
    is_counted = value not in RULES[rule]
    if rule == "unread":
        return {}, False
    if rule == "object":
        return PARTS[path.rpartition(".")[2]], is_counted
    shown = RULES[rule].get(value)
    if path in _WITHOUT and shown is None:
        shown = _WITHOUT[path]
    name = path.rpartition(".")[2]
    fact = f"hyperparameter {name}" if rule == "number" else FACTS.get(path, name)
    return {fact: shown}, is_counted
