"""JSON of the API → the model: parsed leniently, typed strictly.

A part that makes no sense costs that part only and is reported to `reject`; only a response that is not
readable as a list raises. What is not declared here is never read: `settings.wandb.api_key`, a user's live
secret, above all. Fields are read as protobuf's JSON mapping allows them to be written (`lenient`).
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from exporter.cohere.lenient import Enum, Flag, Lenient, Number, Text, Time, clean_text, no_boolean
from exporter.errors import InvalidResponse
from exporter.model import FinetunedModel, Status, StepRow

VALUES_LIMIT = 400_000  # in one page; 10,000 models with every field have 320,000
STEP_VALUES_LIMIT = 150_000  # in one page of step metrics, of which several are read at once
ITEMS_LIMIT = 50_000  # in one page
_TOKEN_LIMIT = 4096  # bytes; what fits, percent-encoded, into a URL that a server takes
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")
_ENVELOPE = frozenset({"next_page_token", "total_size"})

T = TypeVar("T")

REJECTED_KINDS = ("model", "duplicate_model", "model_field", "step", "step_field", "metric")
"""What can be skipped: a model, its repetition, one field; a row of metrics, one field, one value."""

Reject = Callable[[str, str], None]
"""Told the kind and the name of each part that was skipped; never told its content."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list; `next_token` is "" on the last; `values` is the most that its JSON can hold."""

    items: list[T]
    next_token: str
    values: int = field(default=0, compare=False)


def read_models(body: bytes, reject: Reject) -> Page[FinetunedModel]:
    """Read a page of `list-finetuned-models`; raise `InvalidResponse` when it is not one."""
    items, token = _read_list(body, "finetuned_models", VALUES_LIMIT)
    models = [model for item in items if (model := _read_model(item, reject))]
    return Page(models, token, most_values(body))


def read_steps(body: bytes, reject: Reject, only: re.Pattern[str] | None = None) -> Page[StepRow]:
    """Read a page of `list-training-step-metrics`; raise `InvalidResponse` when it is not one.

    Metrics whose whole name does not match `only` are left out.
    """
    items, token = _read_list(body, "step_metrics", STEP_VALUES_LIMIT)
    rows = [row for item in items if (row := _read_step(item, reject, only))]
    return Page(rows, token, most_values(body))


def _read_list(body: bytes, key: str, values_limit: int) -> tuple[list[Any], str]:
    # Read, tiny values take up to eighty times the bytes that they came in.
    if most_values(body) > values_limit:
        raise InvalidResponse(f"the response has more than {values_limit:,} values on one page")
    try:
        # The standard library reads lone surrogates, where a strict parser would refuse the whole page.
        content = json.loads(body.decode("utf-8-sig", errors="replace"), parse_int=_read_int)
    except (ValueError, RecursionError):
        raise InvalidResponse("the response is not JSON") from None
    if not isinstance(content, dict):
        raise InvalidResponse("the response is not a JSON object")
    # An empty list is an absent one, but an object of other things is another response, not an empty fleet.
    if key not in content and not content.keys() <= _ENVELOPE:
        raise InvalidResponse(f"the response has no {key}")
    items = content.get(key)
    if items in (None, "", {}):
        items = []
    if not isinstance(items, list):
        raise InvalidResponse(f"{key} is not a list")
    if len(items) > ITEMS_LIMIT:
        raise InvalidResponse(f"{key} has more than {ITEMS_LIMIT:,} items on one page")
    return items, _read_token(content.get("next_page_token") or "")


def most_values(body: bytes) -> int:
    """Return the most values that this JSON can hold: each stands first in something, or behind a comma."""
    return 1 + body.count(b",") + body.count(b"[") + body.count(b"{")


def _read_token(token: object) -> str:
    if isinstance(token, bool) or not isinstance(token, str | int):
        raise InvalidResponse("next_page_token is not text")
    if len(str(token).encode(errors="surrogatepass")) > _TOKEN_LIMIT or _LONE_SURROGATE.search(str(token)):
        raise InvalidResponse("next_page_token does not fit into a URL")
    return str(token)


def _read_int(digits: str) -> int | float:
    # Python refuses to read very long integers, which would cost the whole page.
    return int(digits) if len(digits) < 20 else float(digits)


class _Wire(BaseModel):
    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)


class _BaseModel(_Wire):
    name: Text = None
    version: Text = None
    base_type: Enum = None
    strategy: Enum = None


class _Hyperparameters(_Wire):
    early_stopping_patience: Lenient[Number] = None
    early_stopping_threshold: Lenient[Number] = None
    train_batch_size: Lenient[Number] = None
    train_epochs: Lenient[Number] = None
    learning_rate: Lenient[Number] = None
    lora_alpha: Lenient[Number] = None
    lora_rank: Lenient[Number] = None
    lora_target_modules: Enum = None

    def numbers(self) -> dict[str, float]:
        """Return each numeric hyperparameter that is there, by its API name."""
        return {name: value for name, value in self if isinstance(value, float)}


HYPERPARAMETERS = tuple(name for name in _Hyperparameters.model_fields if name != "lora_target_modules")


class _Wandb(_Wire):
    project: Text = None
    entity: Text = None


class _Settings(_Wire):
    base_model: Lenient[_BaseModel] = None
    dataset_id: Text = None
    hyperparameters: Lenient[_Hyperparameters] = None
    multi_label: Flag = None
    wandb: Lenient[_Wandb] = None


class _Model(_Wire):
    name: Text = None
    status: Enum = None
    creator_id: Text = None
    organization_id: Text = None
    settings: Lenient[_Settings] = None
    created_at: Time = None
    updated_at: Time = None
    completed_at: Time = None
    last_used: Time = None


class _Row(_Wire):
    step_number: Annotated[int, BeforeValidator(no_boolean), Field(ge=0, lt=2**63)] | None = None
    created_at: Time = None
    metrics: Lenient[dict[str, Any]] = None


_number = TypeAdapter(Number)


def _text(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return clean_text(value) if isinstance(value, str) else ""


def _read_model(item: object, reject: Reject) -> FinetunedModel | None:
    if not isinstance(item, dict):
        reject("model", type(item).__name__)
        return None
    model_id = _text(item.get("id"))
    if not model_id:
        reject("model", "id")
        return None
    wire = _Model.model_validate(item, context=lambda field: reject("model_field", field))
    settings = wire.settings or _Settings()
    base = settings.base_model or _BaseModel()
    hyperparameters = settings.hyperparameters or _Hyperparameters()
    wandb = settings.wandb or _Wandb()
    return FinetunedModel(
        id=model_id,
        name=wire.name or "",
        status=wire.status or Status.UNSPECIFIED,
        base_type=base.base_type or "",
        base_model=base.name or "",
        base_model_version=base.version or "",
        strategy=base.strategy or "",
        dataset_id=settings.dataset_id or "",
        organization_id=wire.organization_id or "",
        creator_id=wire.creator_id or "",
        lora_target_modules=hyperparameters.lora_target_modules or "",
        multi_label=bool(settings.multi_label),
        wandb_project=wandb.project or "",
        wandb_entity=wandb.entity or "",
        created_at=wire.created_at,
        updated_at=wire.updated_at,
        completed_at=wire.completed_at,
        last_used=wire.last_used,
        hyperparameters=hyperparameters.numbers(),
    )


def _read_step(item: object, reject: Reject, only: re.Pattern[str] | None) -> StepRow | None:
    if not isinstance(item, dict):
        reject("step", type(item).__name__)
        return None
    try:
        wire = _Row.model_validate(item, context=lambda field: reject("step_field", field))
    except ValidationError:
        reject("step", "step_number")
        return None
    metrics = dict(_read_metrics(wire.metrics or {}, reject, only))
    return StepRow(wire.step_number or 0, wire.created_at, metrics)


def _read_metrics(
    metrics: Mapping[str, object], reject: Reject, only: re.Pattern[str] | None
) -> Iterator[tuple[str, float]]:
    for key, value in metrics.items():
        # `step` repeats the row's step_number.
        if key == "step" or value is None:
            continue
        name = clean_text(key)
        if only and not only.fullmatch(name):
            continue
        try:
            yield name, _number.validate_python(value)
        except ValidationError:
            reject("metric", name)
