"""Hypothesis strategies for what an API might answer: from any JSON at all to almost what is specified.

Texts hold lone surrogates, numbers reach beyond any type, and each value of a near-valid object may be
anything. `encode` gives the bytes that a server would send.
"""

import json
from typing import Any

from hypothesis import strategies as st

from exporter.model import Status

texts = st.text(st.characters(), max_size=12)
numbers = st.integers() | st.floats() | st.sampled_from([10**19, 2**63, -(10**400), 10**400])
scalars = st.none() | st.booleans() | numbers | texts
json_values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)

_moments = st.datetimes().map(lambda moment: moment.isoformat() + "Z") | st.sampled_from(
    ["0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "2024-02-30T00:00:00Z", "2024-06-17T12:34:56.123456789Z"]
)
_hyperparameters = ("train_epochs", "learning_rate", "early_stopping_threshold", "lora_rank")


def perhaps(usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly what is specified, sometimes anything."""
    return st.one_of(usual, usual, usual, json_values)


def _some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return objects that have any of these fields."""
    return st.fixed_dictionaries({}, optional={name: perhaps(values) for name, values in fields.items()})


near_valid_models = _some(
    id=texts,
    name=texts,
    status=st.sampled_from([status.value for status in Status]) | texts,
    creator_id=texts,
    organization_id=texts,
    settings=_some(
        base_model=_some(name=texts, version=texts, base_type=texts, strategy=texts),
        dataset_id=texts,
        hyperparameters=_some(lora_target_modules=texts, **dict.fromkeys(_hyperparameters, numbers)),
        multi_label=st.booleans(),
        wandb=_some(project=texts, entity=texts, api_key=texts),
    ),
    created_at=_moments,
    updated_at=_moments,
    completed_at=_moments,
    last_used=_moments,
)

near_valid_rows = _some(
    created_at=_moments,
    step_number=st.integers(0, 10_000),
    metrics=st.dictionaries(texts | st.just("step"), perhaps(numbers), max_size=4),
)


def encode(value: object) -> bytes:
    """Write JSON as a server would; what UTF-8 cannot carry is escaped."""
    return json.dumps(value).encode()
