"""JSON → JSON that differs in one place, so that most of what is tried gets past the parser.

Half of the changes are left to the fuzzer's own way with bytes, which breaks the JSON too.
"""

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from random import Random
from typing import Any, TypeAlias

Bytewise: TypeAlias = Callable[[bytes, int], bytes]
_Place: TypeAlias = tuple[Any, Any]  # a list or an object, and an index or a key

NAMES = (
    *("finetuned_models", "step_metrics", "next_page_token", "total_size"),
    *("id", "name", "status", "creator_id", "organization_id", "settings", "multi_label"),
    *("created_at", "updated_at", "completed_at", "last_used"),
    *("base_model", "dataset_id", "hyperparameters", "wandb", "version", "base_type", "strategy"),
    *("early_stopping_patience", "early_stopping_threshold", "train_batch_size", "train_epochs"),
    *("learning_rate", "lora_alpha", "lora_rank", "lora_target_modules", "project", "entity", "api_key"),
    *("step_number", "metrics", "step", "loss", "accuracy", "", "\ud800", "a" * 1100),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -0.0, -1, 1, 0.5, 2**31, 2**63 - 1, 2**63, 10**19, -(10**400), 5e-324, 1e308),
    *(float("nan"), float("inf"), "NaN", "Infinity", "-Infinity", "1e3", "1_0", " 7 ", "0x1p3", "٣"),
    *("", "\x00", "\n", '"', "\\", "\x7f", "\x85", "\u2028", "\ufeff", "\ud83d", "\udc00x", "😀" * 600),
    *("STATUS_FINETUNING", "STATUS_READY", "STATUS_CANCELLED", "STATUS_UNSPECIFIED"),
    *("2024-06-21T10:03:21.123456789Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59"),
    *("2024-06-30T23:59:60Z", "2024-06-21", "1e12", 1e11, -62135596800, "P1D"),
    *([], {}, [[]], {"": {}}, ["a"], {"api_key": "s"}),
)


def mutated(data: bytes, max_size: int, seed: int, *, bytewise: Bytewise) -> bytes:
    """Change `data` in one place, to `max_size` bytes at most; the same `seed` gives the same."""
    dice = Random(seed)  # noqa: S311 - no secret comes of it
    if dice.random() < 0.5:
        return bytewise(data, max_size)
    try:
        text = json.dumps(_changed(json.loads(data), dice)).encode()
    except (ValueError, RecursionError):
        return bytewise(data, max_size)
    return text if len(text) <= max_size else bytewise(data, max_size)


def _changed(tree: Any, dice: Random) -> Any:
    root = [tree]
    places = list(_places(root))
    holder, key = dice.choice(places)
    change = dice.choice((_replace, _replace, _graft, _repeat, _remove, _rename, _add))
    change(holder, key, dice, places)
    return root[0] if root else None


def _places(holder: Any) -> Iterator[_Place]:
    items = list(holder.items() if isinstance(holder, dict) else enumerate(holder))
    for key, value in items:
        yield holder, key
        if isinstance(value, dict | list):
            yield from _places(value)


def _replace(holder: Any, key: Any, dice: Random, _places: list[_Place]) -> None:
    holder[key] = deepcopy(dice.choice(VALUES))


def _graft(holder: Any, key: Any, dice: Random, places: list[_Place]) -> None:
    other, place = dice.choice(places)
    holder[key] = deepcopy(other[place])


def _repeat(holder: Any, key: Any, dice: Random, _places: list[_Place]) -> None:
    if isinstance(holder, list):
        holder += deepcopy([holder[key]] * dice.randint(1, 4))


def _remove(holder: Any, key: Any, _dice: Random, _places: list[_Place]) -> None:
    del holder[key]


def _rename(holder: Any, key: Any, dice: Random, _places: list[_Place]) -> None:
    if isinstance(holder, dict):
        holder[dice.choice(NAMES)] = holder.pop(key)


def _add(holder: Any, key: Any, dice: Random, _places: list[_Place]) -> None:
    value = deepcopy(dice.choice(VALUES))
    if isinstance(holder[key], dict):
        holder[key][dice.choice(NAMES)] = value
    elif isinstance(holder[key], list):
        holder[key].append(value)
