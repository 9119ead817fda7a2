"""Odd answers for the fault server to give, and what the exporter tells of them, in short words."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hostile.fields import PLAIN_FACTS, Facts, Json
from tests.hostile.oddities import list_of
from tests.hostile.server import Exchange, Fault
from tests.hostile.stage import Series

REJECTED = "cohere_exporter_rejected_items_total"
READING_FAILURES = "cohere_exporter_training_metrics_failures_total"
_SAMPLES = {
    "created_timestamp_seconds": "created",
    "updated_timestamp_seconds": "updated",
    "completed_timestamp_seconds": "completed",
    "last_used_timestamp_seconds": "last_used",
    "hyperparameter": "hyperparameter {hyperparameter}",
    "training_step": "step",
    "training_step_timestamp_seconds": "step recorded",
    "training_metric": "metric {metric}",
}
# They follow from the rows whose latest values are held here; tests of their own hold them.
_DERIVED = {
    "training_metric_step",
    "training_metric_min",
    "training_metric_max",
    "training_metrics_non_finite",
}


def encode(answer: Json) -> bytes:
    """Write JSON as a server would."""
    return json.dumps(answer).encode()


def says(body: Callable[[dict[str, Json]], bytes]) -> Fault:
    """Answer with a body that is made of the good answer."""

    async def answer(exchange: Exchange) -> None:
        await exchange.answer(body(exchange.good))

    return answer


def beside(items: Sequence[Json], spelled: Callable[[bytes], bytes] = bytes) -> Fault:
    """List items beside the good ones."""
    return says(lambda good: spelled(encode({**good, list_of(good): [*items, *good[list_of(good)]]})))


NO_ROWS: Json = {"step_metrics": []}


class StepPages:
    """Answers with the pages of each model's step metrics, by its id; `targets` is what it was asked for.

    A model that is not among them has the `default` ones, and "training" its own.
    A token that leads to no page brings an empty one.
    """

    def __init__(self, pages: Mapping[str, Sequence[Json]], default: Sequence[Json] | None = None) -> None:
        self._pages = pages
        self._default = default
        self.targets: list[str] = []

    async def __call__(self, exchange: Exchange) -> None:
        """Answer."""
        self.targets.append(exchange.target)
        url = urlsplit(exchange.target)
        model_id = unquote(url.path.split("/")[-2], errors="strict")
        pages = self._pages.get(model_id, None if model_id == "training" else self._default)
        token = parse_qs(url.query).get("page_token", ["0"])[0]
        by_token = {str(number): page for number, page in enumerate(pages or ())}
        await exchange.answer(exchange.body if pages is None else encode(by_token.get(token, NO_ROWS)))


def pages_of(rows: Sequence[Sequence[Json]]) -> list[Json]:
    """Chain pages of rows by tokens that are numbers."""
    tokens = [{"next_page_token": str(number)} for number in range(1, len(rows))]
    return [{"step_metrics": page, **token} for page, token in zip(rows, [*tokens, {}], strict=True)]


def models(series: Series) -> Series:
    """Return what is told of single models."""
    return {key: value for key, value in series.items() if "model_id" in dict(key[1])}


def told(series: Series) -> dict[str, dict[str, Any]]:
    """Return what is told of each model, by its id; exactly one status must be 1."""
    found: dict[str, dict[str, Any]] = {}
    for (name, pairs), value in models(series).items():
        labels, family = dict(pairs), name.removeprefix("cohere_finetuned_model_")
        facts = found.setdefault(labels.pop("model_id"), {"name": labels.pop("model_name")})
        if family == "info":
            facts |= {label: text for label, text in labels.items() if text}
        elif family == "status":
            assert value in (0, 1)
            assert not value or "status" not in facts
            facts |= {"status": labels["status"]} if value else {}
        elif family not in _DERIVED:
            facts[_SAMPLES[family].format(**labels)] = value
    assert all("status" in facts for facts in found.values())
    return found


def differing(facts: Facts) -> dict[str, Any]:
    """Return what is told of a model that differs from the plain one."""
    return {name: value for name, value in {**PLAIN_FACTS, **facts}.items() if value is not None}


def same(one: object, other: object) -> bool:
    """Compare with NaN equal to itself."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def counted(series: Series, family: str = REJECTED) -> dict[str, float]:
    """Return what a family counts, by its only label."""
    return {
        next(iter(labels))[1]: value for (name, labels), value in series.items() if name == family and value
    }
