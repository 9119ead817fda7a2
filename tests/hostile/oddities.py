"""The tables of odd answers: what the API says, what is shown of it, and what is counted as skipped.

An `Oddity` costs the odd part only and is counted in `cohere_exporter_rejected_items_total` under its kind; a
`Nonsense` is an answer that cannot be read as what was asked for, and fails as `invalid_response`: on the
list it costs the poll, on step metrics that reading. Their rows are written for people; `models`, `rows` and
`becomes` hold each to what happens.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.hostile.fields import (
    CUT,
    EARLIER_FACTS,
    EARLIER_ROW,
    LONG,
    NEW_YEAR,
    NO_PROGRESS,
    PARTS,
    PLAIN,
    PLAIN_FACTS,
    PLAIN_ROW,
    PLAIN_ROWS,
    Facts,
    Json,
    changed,
    without,
)
from tests.hostile.server import WANDB_KEY

UNASKED = "its step metrics cannot be requested and count as failed"


@dataclass(frozen=True, kw_only=True)
class Oddity:
    """An answer with one odd thing in it.

    `models` stand on a page beside good ones, written as `spelled`; `rows` are the pages of step metrics of
    these models. `becomes` has each model then told of, and how it differs from a plain one.
    """

    name: str
    shown: str
    counted: str | None = None
    times: int = 1
    models: tuple[Json, ...] = (PLAIN,)
    rows: tuple[tuple[Json, ...], ...] = (PLAIN_ROWS,)
    spelled: Callable[[bytes], bytes] = bytes
    becomes: Mapping[str, Facts] = field(default_factory=lambda: {"odd": {}})


def _model(
    name: str, path: str, value: Json, shown: str, counted: str | None = None, /, **facts: Any
) -> Oddity:
    becomes = {"odd": {fact.replace("__", " "): told for fact, told in facts.items()}}
    return Oddity(name=name, shown=shown, counted=counted, models=(changed(path, value),), becomes=becomes)


def _spelled(name: str, this: bytes, so: bytes, shown: str, /, **facts: Any) -> Oddity:
    """An answer with other bytes in the place of its first ones that are like `this`."""
    return Oddity(
        name=name, shown=shown, spelled=lambda body: body.replace(this, so, 1), becomes={"odd": facts}
    )


def _item(name: str, *items: Json, times: int = 1) -> Oddity:
    shown = "all other models"
    return Oddity(name=name, shown=shown, counted="model", times=times, models=items, becomes={})


def _id(name: str, model_id: str, label: str) -> Oddity:
    """An id that is another one as a label, so that no step metrics can be asked for by it."""
    shown = f"the model, with its id truncated; {UNASKED}"
    return Oddity(
        name=name, shown=shown, models=(changed("id", model_id),), becomes={label: dict(NO_PROGRESS)}
    )


def _rows(
    name: str,
    *rows: Json,
    shown: str,
    counted: str | None = None,
    times: int = 1,
    becomes: Facts | None = None,
) -> Oddity:
    return Oddity(
        name=name, shown=shown, counted=counted, times=times, rows=(rows,), becomes={"odd": becomes or {}}
    )


def _row(**fields: Json) -> dict[str, Json]:
    return {**PLAIN_ROW, **fields}


def _at_step(step: Json) -> dict[str, Json]:
    return _row(step_number=step)


_HUGE = 10**400

MODELS: tuple[Oddity, ...] = (
    _item("an item that is no object", None, True, 7, "model", [], times=5),
    _item("a model without an id", without("id")),
    _item("a model whose id is empty or null", changed("id", ""), changed("id", None), times=2),
    _item("a model whose id is an object, a list, a boolean or a fraction",
          *(changed("id", value) for value in ({"id": "odd"}, ["odd"], True, 1.5)), times=4),
    Oddity(name="a model whose id is a whole number", shown="the number, as text",
           models=(changed("id", 7),), becomes={"7": {}}),
    Oddity(name="a model with nothing but an id", shown="the model, as `STATUS_UNSPECIFIED`",
           models=({"id": "odd"},),
           becomes={"odd": {**dict.fromkeys(PLAIN_FACTS), "name": "", "status": "STATUS_UNSPECIFIED",
                            "multi_label": "false", "step": 20.0, "step recorded": NEW_YEAR + 1200,
                            "metric loss": 0.5}}),
    Oddity(name="the same id twice on a page", shown="the later one", counted="duplicate_model",
           models=(changed("name", "earlier"), PLAIN)),
    Oddity(name="two ids that differ beyond 1,024 characters", counted="duplicate_model",
           shown=f"the later one, with its id truncated; {UNASKED}",
           models=(changed("id", LONG + "1"), changed("id", LONG + "2")),
           becomes={CUT: dict(NO_PROGRESS)}),
    Oddity(name="two ids that differ in what UTF-8 cannot carry", counted="duplicate_model",
           shown=f"the later one, `�` in its id; {UNASKED}",
           models=(changed("id", "odd\ud800"), changed("id", "odd\udfff")),
           becomes={"odd�": dict(NO_PROGRESS)}),
    _id("an id of 20,000 characters", LONG, CUT),
    _id("an id with a lone surrogate", "\udc00odd", "�odd"),
    _model("no status", "status", None, "`STATUS_UNSPECIFIED`", status="STATUS_UNSPECIFIED"),
    _model("an unknown status", "status", "STATUS_DREAMING", "under its own name",
           status="STATUS_DREAMING"),
    _model("a status in small letters, or with blanks", "status", " status_finetuning",
           "under its own name; step metrics are read once for each update", status=" status_finetuning"),
    _model("a status by its number", "status", 4, "the number, as text", status="4"),
    _model("a status that is no text", "status", ["STATUS_READY"], "`STATUS_UNSPECIFIED`", "model_field",
           status="STATUS_UNSPECIFIED"),
    _model("an unknown base type", "settings.base_model.base_type", "BASE_TYPE_POEM",
           "under its own name", base_type="BASE_TYPE_POEM"),
    _model("a text that is a number", "settings.base_model.version", 2.5, "the number, as text",
           base_model_version="2.5"),
    _model("a text that is a boolean, a list or an object", "name", {"first": "plain"},
           "the model without it", "model_field", name=""),
    _model("a text of 20,000 characters", "name", LONG, "the first 1,024", name=CUT),
    _model("a text with a lone surrogate", "name", "a\ud800b", "`�` in its place", name="a�b"),
    _model("a text with newlines, quotes and terminal escapes", "name", 'a"\\\r\n\x1b[2J\x00\u202eb',
           "the text as it is, escaped", name='a"\\\r\n\x1b[2J\x00\u202eb'),
    _model("settings that are no object", "settings", "none", "the model without them", "model_field",
           **{fact.replace(" ", "__"): shown for fact, shown in PARTS["settings"].items()}),
    _model("a base model that is a list", "settings.base_model", [{"name": "command-r"}],
           "the model without it", "model_field", **PARTS["base_model"]),
    _model("a number as text", "settings.hyperparameters.lora_rank", "16", "the number",
           hyperparameter__lora_rank=16.0),
    _model("a number that is a boolean or a word", "settings.hyperparameters.lora_rank", True,
           "the model without it", "model_field", hyperparameter__lora_rank=None),
    _model("a number beyond every double", "settings.hyperparameters.lora_rank", _HUGE, "`+Inf`",
           hyperparameter__lora_rank=float("inf")),
    _model("a number below zero", "settings.hyperparameters.train_epochs", -7, "the number",
           hyperparameter__train_epochs=-7.0),
    _model("an invalid time", "updated_at", "yesterday", "the model without it", "model_field",
           updated=None),
    _model("a time in the year 1, or before 1970", "completed_at", "0001-01-01T00:00:00Z",
           "the model without it", completed=None),
    _model("a time in Unix seconds", "created_at", 1_704_067_201, "the time"),
    _model("unknown fields", "colour", {"blue": [WANDB_KEY]}, "ignored"),
    _model("an unknown field, 200 levels deep", "colour", json.loads("[" * 200 + "]" * 200),
           "ignored"),
    _spelled("a byte order mark before the answer", b"{", b"\xef\xbb\xbf{", "all models"),
    _spelled("the same key twice in an object", b'"name"', b'"name": "first", "name"', "the later value"),
    _spelled("a text in Latin-1, or with the raw bytes of a surrogate", b"plain", b"pl\xe4in \xed\xa0\x80",
             "`�` for each byte that is no UTF-8", name="pl�in ���"),
)  # fmt: skip

STEPS: tuple[Oddity, ...] = (
    _rows("no rows", shown="no step metrics", becomes=NO_PROGRESS),
    _rows("a row that is no object", None, True, 7, "row", [], *PLAIN_ROWS, shown="all other rows",
          counted="step", times=5),
    _rows("a row whose step is negative, a fraction, a word or beyond 2⁶³",
          *map(_at_step, (-1, 1.5, "ten", 2**63, 10**30, True, [])), EARLIER_ROW,
          shown="all other rows", counted="step", times=7, becomes=EARLIER_FACTS),
    _rows("a row without a step", {"metrics": {"loss": 0.25}}, shown="step 0, which protobuf does not write",
          becomes={"step": 0.0, "step recorded": None, "metric loss": 0.25}),
    _rows("a step as text", _row(step_number="20"), EARLIER_ROW, shown="the step"),
    _rows("the largest step", _row(step_number=2**63 - 1), shown="the step, as a double",
          becomes={"step": float(2**63)}),
    _rows("steps out of order", EARLIER_ROW, PLAIN_ROW, _row(step_number=15), shown="the highest step"),
    _rows("the same step twice", _row(created_at="2024-01-01T00:19:59Z", metrics={"loss": 9.0}), PLAIN_ROW,
          _row(created_at="2024-01-01T00:19:58Z", metrics={"loss": 8.0}), shown="what was recorded last"),
    _rows("a row without a time, or with an invalid one", _row(created_at="soon"), EARLIER_ROW,
          shown="the row without it", counted="step_field", becomes={"step recorded": None}),
    _rows("metrics that are no object", _row(metrics=[0.5]), EARLIER_ROW, counted="step_field",
          shown="the step; metrics from the highest step that has them", becomes={"metric loss": 0.75}),
    _rows("a metric that is no number", _row(metrics={"loss": "low", "f1": True, "mrr": [1]}), EARLIER_ROW,
          counted="metric", times=3, shown="the metric from the highest step that has it",
          becomes={"metric loss": 0.75}),
    _rows("a metric without a value", _row(metrics={"loss": None}), EARLIER_ROW,
          shown="the metric from the highest step that has it", becomes={"metric loss": 0.75}),
    _rows("a metric that is not finite", _row(metrics={"loss": "NaN", "f1": float("inf"), "mrr": -_HUGE}),
          shown="`NaN`, `+Inf`, `-Inf`",
          becomes={"metric loss": float("nan"), "metric f1": float("inf"), "metric mrr": float("-inf")}),
    _rows("names of metrics of 20,000 characters", _row(metrics={LONG + "1": 1, LONG + "2": 2}),
          shown="the first 1,024; of two that are then the same the later",
          becomes={"metric loss": None, f"metric {CUT}": 2.0}),
    _rows("names of metrics with every kind of character", _row(metrics={'"}\n\ud800\x1b': 1, "": 2}),
          shown="the names, escaped; `�` for what UTF-8 cannot carry",
          becomes={"metric loss": None, 'metric "}\n�\x1b': 1.0, "metric ": 2.0}),
    _rows("the metric `step`", _row(metrics={"step": "x", "loss": 0.5}), shown="ignored"),
    Oddity(name="a page of rows that comes twice", shown="each row once",
           rows=((EARLIER_ROW, PLAIN_ROW), (EARLIER_ROW, PLAIN_ROW))),
)  # fmt: skip


@dataclass(frozen=True)
class Nonsense:
    """A whole answer without sense; `body` is made of the good one, `{key}` in `says` names its list."""

    name: str
    says: str
    body: Callable[[dict[str, Json]], bytes]


NOT_JSON = "the response is not JSON"
NO_OBJECT = "the response is not a JSON object"
NO_LIST = "{key} is not a list"
NO_TOKEN = "next_page_token is not text"
NO_URL = "next_page_token does not fit into a URL"


def list_of(good: Mapping[str, Json]) -> str:
    """Return the name of the list in an answer."""
    return next(key for key in good if key not in ("next_page_token", "total_size"))


def _as(text: str) -> Callable[[dict[str, Json]], bytes]:
    return lambda _: text.encode()


def _encoded(encoding: str) -> Callable[[dict[str, Json]], bytes]:
    return lambda good: json.dumps(good).encode(encoding)


def _with_list(value: Json) -> Callable[[dict[str, Json]], bytes]:
    return lambda good: json.dumps({**good, list_of(good): value}).encode()


def _with_token(value: Json) -> Callable[[dict[str, Json]], bytes]:
    return lambda good: json.dumps({**good, "next_page_token": value}).encode()


def _around(before: str, after: str) -> Callable[[dict[str, Json]], bytes]:
    return lambda good: (before + json.dumps(good) + after).encode()


def _nested(depth: int) -> Callable[[dict[str, Json]], bytes]:
    return lambda good: json.dumps({list_of(good): [0]}).replace("0", "[" * depth + "]" * depth).encode()


NONSENSE: tuple[Nonsense, ...] = (
    Nonsense("an empty body", NOT_JSON, _as("")),
    Nonsense("a body of blanks", NOT_JSON, _as(" \r\n\t ")),
    Nonsense("a page of HTML", NOT_JSON, _as("<html><body>Sign in</body></html>")),
    Nonsense("half an answer", NOT_JSON, lambda good: json.dumps(good).encode()[:-20]),
    Nonsense("two answers in a row", NOT_JSON, lambda good: json.dumps(good).encode() * 2),
    Nonsense("an answer in lines", NOT_JSON, _around("", '\n{"next": 1}\n')),
    Nonsense("an answer with a comment", NOT_JSON, _around("/* models */ ", "")),
    Nonsense("an answer with NUL bytes behind it", NOT_JSON, _around("", "\0\0")),
    Nonsense("an answer in UTF-16", NOT_JSON, _encoded("utf-16")),
    Nonsense("an answer in UTF-32", NOT_JSON, _encoded("utf-32")),
    Nonsense("lists in lists, 100,000 levels deep", NOT_JSON, _nested(100_000)),
    Nonsense("a list instead of the object", NO_OBJECT, _around("[", "]")),
    Nonsense("an empty list", NO_OBJECT, _as("[]")),
    Nonsense("null", NO_OBJECT, _as("null")),
    Nonsense("a boolean", NO_OBJECT, _as("true")),
    Nonsense("a number", NO_OBJECT, _as("1")),
    Nonsense("NaN", NO_OBJECT, _as("NaN")),
    Nonsense("a text", NO_OBJECT, _as('"finetuned_models"')),
    Nonsense("an object of other things", "the response has no {key}", _as('{"message": "no"}')),
    Nonsense("an object for the list", NO_LIST, _with_list({"id": "odd"})),
    Nonsense("a text for the list", NO_LIST, _with_list("odd")),
    Nonsense("a number for the list", NO_LIST, _with_list(1)),
    Nonsense("a boolean for the list", NO_LIST, _with_list(False)),
    Nonsense("a list of a million items", "the response has more than {values} values on one page",
             _with_list([{}] * 1_000_000)),
    Nonsense("a list of 60,000 items", "{key} has more than 50,000 items on one page",
             _with_list([{}] * 60_000)),
    Nonsense("a token that is a list", NO_TOKEN, _with_token(["2"])),
    Nonsense("a token that is an object", NO_TOKEN, _with_token({"page": 2})),
    Nonsense("a token that is a boolean", NO_TOKEN, _with_token(True)),
    Nonsense("a token that is a fraction", NO_TOKEN, _with_token(1.5)),
    Nonsense("a token of 20,000 characters", NO_URL, _with_token("x" * 20_000)),
    Nonsense("a token with a lone surrogate", NO_URL, _with_token("\ud800")),
)  # fmt: skip
