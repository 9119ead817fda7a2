"""What is read from the API's JSON: every odd part costs itself, is reported once, and leaks nothing."""

import json
import math
import time
import traceback
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.cohere.lenient import LABEL_LIMIT
from exporter.cohere.wire import (
    ITEMS_LIMIT,
    REJECTED_KINDS,
    VALUES_LIMIT,
    Page,
    read_models,
    read_steps,
)
from exporter.errors import InvalidResponse
from exporter.model import FinetunedModel, Status, StepRow
from tests.strategies import encode, json_values, near_valid_models, near_valid_rows

SECRET = "wandb-5ec2e7-of-a-user"
_KEYS = ("finetuned_models", "step_metrics", "next_page_token")
_HYPERPARAMETERS = (
    *("early_stopping_patience", "early_stopping_threshold", "train_batch_size", "train_epochs"),
    *("learning_rate", "lora_alpha", "lora_rank", "lora_target_modules"),
)
NEW_YEAR = 1_704_067_200.0  # 2024-01-01T00:00:00Z

SPECIFIED_MODELS = {
    "finetuned_models": [
        {
            "id": "3f6c1d7e-52a0-4c1b-9d7b-0c4f5f1e2a90",
            "name": "support-replies",
            "creator_id": "c0a80101-0000-4000-8000-000000000001",
            "organization_id": "7d9f3b62-1111-4222-8333-444444444444",
            "settings": {
                "base_model": {
                    "name": "medium",
                    "version": "14.2.0",
                    "base_type": "BASE_TYPE_CHAT",
                    "strategy": "STRATEGY_TFEW",
                },
                "dataset_id": "replies-2024-05-c5xk2q",
                "hyperparameters": {
                    "early_stopping_patience": 6,
                    "early_stopping_threshold": 0.01,
                    "train_batch_size": 16,
                    "train_epochs": 1,
                    "learning_rate": 0.01,
                },
                "multi_label": False,
            },
            "status": "STATUS_READY",
            "created_at": "2024-01-01T00:00:00.250000Z",
            "updated_at": "2024-01-01T00:30:00.500000Z",
            "completed_at": "2024-01-01T00:29:00Z",
        },
        {
            "id": "b7a4f5e2-9c3d-4a77-8f00-6a5b4c3d2e1f",
            "name": "help-pages",
            "creator_id": "c0a80101-0000-4000-8000-000000000001",
            "organization_id": "7d9f3b62-1111-4222-8333-444444444444",
            "settings": {
                "base_model": {
                    "name": "english",
                    "version": "2.0.0",
                    "base_type": "BASE_TYPE_RERANK",
                    "strategy": "STRATEGY_VANILLA",
                },
                "dataset_id": "help-pages-b0yp4m",
            },
            "status": "STATUS_PAUSED",
            "created_at": "2024-01-01T00:00:01Z",
            "updated_at": "2024-01-01T00:00:02Z",
        },
    ],
    "next_page_token": "bmV4dA==",
    "total_size": 5,
}

SPECIFIED_STEPS = {
    "step_metrics": [
        {
            "created_at": "2024-01-01T00:12:41.123456789Z",
            "metrics": {"accuracy": 0.4557601809501648, "cross_entropy": 4.264331340789795, "step": 0},
        },
        {
            "created_at": "2024-01-01T00:13:33.987654321Z",
            "step_number": 10,
            "metrics": {"accuracy": 0.7393720149993896, "cross_entropy": 0.702287220954895, "step": 10},
        },
    ]
}


class Rejections(list[tuple[str, str]]):
    """Keeps what was reported: (kind, name)."""

    def __call__(self, kind: str, name: str) -> None:
        assert kind in REJECTED_KINDS
        self.append((kind, name))


def read_model(**item: Any) -> tuple[FinetunedModel, Rejections]:
    """Read one model that is `item` and an id."""
    rejections = Rejections()
    page = read_models(encode({"finetuned_models": [{"id": "m"} | item]}), rejections)
    (model,) = page.items
    return model, rejections


def read_rows(*items: object) -> tuple[list[StepRow], Rejections]:
    rejections = Rejections()
    return read_steps(encode({"step_metrics": items}), rejections).items, rejections


class TestTheSpecification:
    def test_models_are_read_whole(self) -> None:
        rejections = Rejections()
        page = read_models(encode(SPECIFIED_MODELS), rejections)
        chat, rerank = page.items
        assert (page.next_token, rejections) == ("bmV4dA==", [])
        assert chat == FinetunedModel(
            id="3f6c1d7e-52a0-4c1b-9d7b-0c4f5f1e2a90",
            name="support-replies",
            status="STATUS_READY",
            base_type="BASE_TYPE_CHAT",
            base_model="medium",
            base_model_version="14.2.0",
            strategy="STRATEGY_TFEW",
            dataset_id="replies-2024-05-c5xk2q",
            organization_id="7d9f3b62-1111-4222-8333-444444444444",
            creator_id="c0a80101-0000-4000-8000-000000000001",
            created_at=NEW_YEAR + 0.25,
            updated_at=NEW_YEAR + 1800.5,
            completed_at=NEW_YEAR + 1740,
            hyperparameters={
                "early_stopping_patience": 6.0,
                "early_stopping_threshold": 0.01,
                "train_batch_size": 16.0,
                "train_epochs": 1.0,
                "learning_rate": 0.01,
            },
        )
        assert (rerank.status, rerank.base_type, rerank.hyperparameters) == (
            "STATUS_PAUSED",
            "BASE_TYPE_RERANK",
            {},
        )

    def test_lora_and_weights_and_biases_are_read(self) -> None:
        model, rejections = read_model(
            settings={
                "hyperparameters": {
                    "lora_alpha": 8,
                    "lora_rank": 16,
                    "lora_target_modules": "LORA_TARGET_MODULES_QV",
                },
                "multi_label": True,
                "wandb": {"project": "replies", "entity": "team", "api_key": SECRET},
            },
            last_used="2024-01-01T00:00:00Z",
        )
        assert model.hyperparameters == {"lora_alpha": 8.0, "lora_rank": 16.0}
        assert model.lora_target_modules == "LORA_TARGET_MODULES_QV"
        assert model.multi_label
        assert (model.wandb_project, model.wandb_entity) == ("replies", "team")
        assert (model.last_used, rejections) == (NEW_YEAR, [])

    def test_step_0_has_no_step_number_and_step_is_no_metric(self) -> None:
        rejections = Rejections()
        page = read_steps(encode(SPECIFIED_STEPS), rejections)
        first, second = page.items
        assert (page.next_token, rejections) == ("", [])
        assert (first.step, second.step) == (0, 10)
        assert first.metrics == {"accuracy": 0.4557601809501648, "cross_entropy": 4.264331340789795}
        assert second.at == pytest.approx(NEW_YEAR + 813.987654321, abs=1e-5)


class TestLists:
    @pytest.mark.parametrize("body", [b"{}", b'{"total_size": 0}', b'{"next_page_token": ""}'])
    def test_an_empty_account_is_an_empty_list(self, body: bytes) -> None:
        assert read_models(body, Rejections()) == Page([], "")
        assert read_steps(body, Rejections()) == Page([], "")

    @pytest.mark.parametrize("nothing", [None, [], "", {}])
    def test_an_empty_list_may_be_spelled_out(self, nothing: object) -> None:
        assert read_models(encode({"finetuned_models": nothing}), Rejections()) == Page([], "")
        assert read_steps(encode({"step_metrics": nothing}), Rejections()) == Page([], "")

    @pytest.mark.parametrize("nothing", [None, "", False, 0, [], {}])
    def test_the_last_page_has_no_token_however_spelled(self, nothing: object) -> None:
        assert read_models(encode({"next_page_token": nothing}), Rejections()).next_token == ""

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"null",
            b"[]",
            b"3",
            b'"finetuned_models"',
            b"<html>sign in</html>",
            b'{"finetuned_models": [',
            b'{"message": "hello"}',
            b'{"finetuned_models": "none"}',
            b'{"finetuned_models": {"id": "m"}}',
            b'{"finetuned_models": 1}',
            b'{"finetuned_models": true}',
            b'{"finetuned_models": [], "next_page_token": {"a": 1}}',
            b'{"finetuned_models": [], "next_page_token": ["a"]}',
            b"\xff\xfe\x00",
            b"[" * 100_000,
            b'{"finetuned_models": ' + b"[" * 100_000,
        ],
        ids=lambda body: repr(body[:40]),
    )
    def test_what_is_not_a_list_of_models_is_an_invalid_response(self, body: bytes) -> None:
        with pytest.raises(InvalidResponse):
            read_models(body, Rejections())

    def test_a_broken_answer_is_not_quoted(self) -> None:
        body = b'{"finetuned_models": [{"settings": {"wandb": {"api_key": "' + SECRET.encode() + b'"}}}, '
        with pytest.raises(InvalidResponse) as caught:
            read_models(body, Rejections())
        assert SECRET not in "".join(traceback.format_exception(caught.value))


class TestSize:
    """A page of 16 MiB of next to nothing once took 1.4 GB and 14 seconds."""

    @pytest.mark.parametrize("item", [b"{}", b"[]", b"0", b'{"":0}', b"[[[]]]", b'"",[]'])
    @pytest.mark.parametrize("key", [b"finetuned_models", b"other"])
    def test_millions_of_tiny_values_are_refused_before_they_are_read(self, key: bytes, item: bytes) -> None:
        body = b'{"finetuned_models":[],"%b":[%b]}' % (key, b",".join([item] * VALUES_LIMIT))
        tracemalloc.start()
        try:
            with pytest.raises(InvalidResponse, match="more than 400,000 values"):
                read_models(body, Rejections())
            assert tracemalloc.get_traced_memory()[1] < 100_000
        finally:
            tracemalloc.stop()

    def test_no_page_has_more_items_than_anybody_has_models(self) -> None:
        with pytest.raises(InvalidResponse, match="step_metrics has more than 50,000 items"):
            read_rows(*[0] * (ITEMS_LIMIT + 1))
        assert len(read_rows(*[0] * ITEMS_LIMIT)[1]) == ITEMS_LIMIT

    def test_ten_thousand_models_with_every_field_fit_on_one_page(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("exporter.cohere.wire.VALUES_LIMIT", VALUES_LIMIT // 10)
        models: Any = SPECIFIED_MODELS["finetuned_models"]
        every = models[0] | {"last_used": "2024-01-01T00:00:00Z"}
        every["settings"] = every["settings"] | {
            "hyperparameters": dict.fromkeys(_HYPERPARAMETERS, 1),
            "wandb": {"project": "p", "entity": "e", "api_key": SECRET},
        }
        assert len(read_models(encode({"finetuned_models": [every] * 1_000}), Rejections()).items) == 1_000

    @pytest.mark.parametrize(
        "number", ["1" * 10**6, '"%s"' % ("1" * 10**6), "1." + "1" * 10**6, "1e" + "1" * 10**6]
    )
    @pytest.mark.parametrize(
        "start", ['{"finetuned_models":[{"id":"m","created_at":', '{"finetuned_models":[{"id":']
    )
    def test_a_number_of_a_million_digits_costs_no_time(self, start: str, number: str) -> None:
        begun = time.process_time()
        assert len(read_models(f"{start}{number}}}]}}".encode(), Rejections()).items) <= 1
        assert time.process_time() - begun < 1.0


class TestModels:
    @pytest.mark.parametrize("nothing", [None, ""])
    def test_an_absent_status_is_the_first_of_the_enumeration(self, nothing: object) -> None:
        assert read_model(status=nothing) == (FinetunedModel(id="m"), [])
        assert read_model() == (FinetunedModel(id="m", status=Status.UNSPECIFIED), [])

    def test_values_that_nobody_knows_yet_pass(self) -> None:
        model, rejections = read_model(
            status="STATUS_DREAMING", settings={"base_model": {"base_type": "BASE_TYPE_POEM"}}, mood="good"
        )
        assert (model.status, model.base_type, rejections) == ("STATUS_DREAMING", "BASE_TYPE_POEM", [])

    @pytest.mark.parametrize("nothing", [None, {}])
    def test_settings_may_be_absent_at_every_depth(self, nothing: object) -> None:
        inner = dict.fromkeys(("base_model", "hyperparameters", "wandb", "dataset_id"))
        for settings in (nothing, inner):
            assert read_model(settings=settings) == (FinetunedModel(id="m"), [])

    @pytest.mark.parametrize("zero", [0, "", None])
    def test_a_zero_enum_is_unspecified(self, zero: object) -> None:
        model, rejections = read_model(status=zero, settings={"base_model": {"base_type": zero}})
        assert (model.status, model.base_type, rejections) == ("STATUS_UNSPECIFIED", "", [])

    @pytest.mark.parametrize("bad", [False, [], {}], ids=repr)
    def test_an_enum_of_another_type_is_reported_though_it_is_empty(self, bad: object) -> None:
        assert read_model(status=bad) == (FinetunedModel(id="m"), [("model_field", "status")])

    def test_numbers_may_come_as_strings_and_zero_is_a_value(self) -> None:
        model, rejections = read_model(
            settings={
                "hyperparameters": {"train_epochs": "3", "learning_rate": "1e-5", "train_batch_size": 0}
            }
        )
        assert model.hyperparameters == {"train_epochs": 3, "learning_rate": 1e-5, "train_batch_size": 0}
        assert rejections == []

    @pytest.mark.parametrize("field", ["settings", "base_model", "hyperparameters", "wandb", "dataset_id"])
    def test_a_part_of_another_type_costs_that_part_and_is_reported_once(self, field: str) -> None:
        parts: dict[str, object] = {
            "base_model": {"name": "base"},
            "hyperparameters": {"lora_rank": 1},
            "wandb": {"project": "p"},
            "dataset_id": "d",
        }
        bad = [{"api_key": SECRET}]
        model, rejections = read_model(
            name="n", status="STATUS_READY", settings=bad if field == "settings" else parts | {field: bad}
        )
        assert rejections == [("model_field", field)]
        read = {
            "base_model": model.base_model == "base",
            "hyperparameters": model.hyperparameters == {"lora_rank": 1.0},
            "wandb": model.wandb_project == "p",
            "dataset_id": model.dataset_id == "d",
        }
        assert read == {part: field not in ("settings", part) for part in parts}
        assert (model.id, model.name, model.status) == ("m", "n", "STATUS_READY")

    @pytest.mark.parametrize(
        ("item", "rejection"),
        [
            ({"name": "nameless"}, ("model", "id")),
            ({"id": None}, ("model", "id")),
            ({"id": ""}, ("model", "id")),
            ({"id": ["m"]}, ("model", "id")),
            ({"id": True}, ("model", "id")),
            (None, ("model", "NoneType")),
            ("m", ("model", "str")),
            (3, ("model", "int")),
            ([{"id": "m"}], ("model", "list")),
        ],
        ids=repr,
    )
    def test_an_item_that_is_no_model_is_left_out_and_reported_once(
        self, item: object, rejection: tuple[str, str]
    ) -> None:
        rejections = Rejections()
        page = read_models(encode({"finetuned_models": [{"id": "a"}, item, {"id": "b"}]}), rejections)
        assert [model.id for model in page.items] == ["a", "b"]
        assert rejections == [rejection]

    def test_a_huge_integer_does_not_cost_the_page(self) -> None:
        # Longer than Python agrees to read as an integer.
        body = b'{"finetuned_models": [{"id": "m", "created_at": %s}, {"id": "n"}]}' % (b"9" * 5000)
        rejections = Rejections()
        assert [model.id for model in read_models(body, rejections).items] == ["m", "n"]
        assert rejections == [("model_field", "created_at")]

    def test_deep_nesting_in_an_unknown_field_does_not_cost_the_page(self) -> None:
        body = b'{"finetuned_models": [{"id": "m", "x": %s1%s}]}' % (b"[" * 200, b"]" * 200)
        assert [model.id for model in read_models(body, Rejections()).items] == ["m"]


class TestText:
    def test_long_text_is_cut(self) -> None:
        model, rejections = read_model(name="é" * 20_000)
        assert (model.name, rejections) == ("é" * LABEL_LIMIT, [])
        assert LABEL_LIMIT == 1024

    def test_lone_surrogates_are_replaced_one_by_one(self) -> None:
        model, rejections = read_model(name="\udc00a\ud800b\udc00\ud800")
        assert (model.name, rejections) == ("�a�b��", [])

    def test_invalid_utf_8_is_replaced(self) -> None:
        page = read_models(b'{"finetuned_models": [{"id": "m", "name": "a\xffb"}]}', Rejections())
        assert page.items[0].name == "a�b"

    def test_a_number_may_stand_for_text_but_no_boolean_may(self) -> None:
        assert read_model(name=7, settings={"base_model": {"version": 2.5}})[0].name == "7"
        assert read_model(name=True) == (FinetunedModel(id="m"), [("model_field", "name")])


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Move the machine to another time zone."""
    with monkeypatch.context() as moved:
        moved.setenv("TZ", "XYZ+5")
        time.tzset()
        yield
    time.tzset()


class TestTimes:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("2024-01-01T00:00:00Z", NEW_YEAR),
            ("2024-01-01T00:00:00.125Z", NEW_YEAR + 0.125),
            ("2024-01-01T00:00:00.123456Z", NEW_YEAR + 0.123456),
            ("2024-01-01T00:00:00.123456789Z", NEW_YEAR + 0.123456789),
            ("2024-01-01T02:30:00+02:30", NEW_YEAR),
            ("2023-12-31T16:00:00.5-08:00", NEW_YEAR + 0.5),
            ("2024-01-01T00:00:00", NEW_YEAR),
            ("2024-01-01 00:00:00Z", NEW_YEAR),
            (1_704_067_200, NEW_YEAR),
            ("1704067200", NEW_YEAR),
        ],
    )
    def test_every_spelling_of_a_moment_is_read(self, text: object, seconds: float) -> None:
        model, rejections = read_model(created_at=text)
        assert model.created_at == pytest.approx(seconds, abs=2e-6)
        assert rejections == []

    def test_a_moment_without_a_zone_is_in_utc_wherever_the_exporter_runs(self, elsewhere: None) -> None:
        assert read_model(created_at="2024-01-01T00:00:00")[0].created_at == NEW_YEAR

    @pytest.mark.parametrize("field", ["created_at", "updated_at", "completed_at", "last_used"])
    @pytest.mark.parametrize(
        "nothing", [None, "", 0, "0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z"]
    )
    def test_what_stands_for_no_time_is_none_and_no_fault(self, field: str, nothing: object) -> None:
        assert read_model(**{field: nothing}) == (FinetunedModel(id="m"), [])

    @pytest.mark.parametrize(
        "garbage",
        ["soon", "2024-13-01T00:00:00Z", "2024-02-30T00:00:00Z", True, [], {}, 1e300, math.nan, "\ud800"],
        ids=repr,
    )
    def test_garbage_costs_the_time_only(self, garbage: object) -> None:
        model, rejections = read_model(created_at=garbage, updated_at="2024-01-01T00:00:00Z")
        assert (model.created_at, model.updated_at) == (None, NEW_YEAR)
        assert rejections == [("model_field", "created_at")]


class TestRows:
    @pytest.mark.parametrize(
        ("number", "step"), [(0, 0), (None, 0), (7, 7), ("7", 7), (7.0, 7), (2**63 - 1, 2**63 - 1)]
    )
    def test_a_step_number_is_read_however_spelled(self, number: object, step: int) -> None:
        rows, rejections = read_rows({"step_number": number})
        assert (rows, rejections) == ([StepRow(step, None, {})], [])

    @pytest.mark.parametrize(
        "number", [True, False, -1, 1.5, "one", [], {}, 2**63, 10**30, math.inf, math.nan], ids=repr
    )
    def test_a_row_without_a_sensible_step_is_left_out(self, number: object) -> None:
        rows, rejections = read_rows({"step_number": 1}, {"step_number": number, "metrics": {"loss": 1}})
        assert [row.step for row in rows] == [1]
        assert rejections == [("step", "step_number")]

    @pytest.mark.parametrize("item", [None, 3, "row", [1], True])
    def test_an_item_that_is_no_row_is_left_out(self, item: object) -> None:
        rows, rejections = read_rows(item, {"step_number": 2})
        assert [row.step for row in rows] == [2]
        assert rejections == [("step", type(item).__name__)]

    def test_infinities_and_nan_may_come_as_protobuf_writes_them(self) -> None:
        rows, rejections = read_rows(
            {"metrics": {"a": "NaN", "b": "Infinity", "c": "-Infinity", "d": "0.25", "e": 10**400}}
        )
        metrics = dict(rows[0].metrics)
        assert math.isnan(metrics.pop("a"))
        assert metrics == {"b": math.inf, "c": -math.inf, "d": 0.25, "e": math.inf}
        assert rejections == []

    @pytest.mark.parametrize("bad", [True, False, "good", [0.5], {"value": 1}], ids=repr)
    def test_a_metric_that_is_no_number_costs_itself(self, bad: object) -> None:
        rows, rejections = read_rows({"step_number": 3, "metrics": {"loss": 0.5, "f1": bad, "mrr@10": 1}})
        assert rows == [StepRow(3, None, {"loss": 0.5, "mrr@10": 1.0})]
        assert rejections == [("metric", "f1")]

    def test_a_metric_without_a_value_is_absent(self) -> None:
        assert read_rows({"metrics": {"loss": None}}) == ([StepRow(0, None, {})], [])

    @pytest.mark.parametrize("bad", [[1], "loss", 3, True], ids=repr)
    def test_metrics_that_are_no_object_cost_the_metrics_of_their_row(self, bad: object) -> None:
        rows, rejections = read_rows({"step_number": 3, "metrics": bad}, {"step_number": 2, "metrics": None})
        assert rows == [StepRow(3, None, {}), StepRow(2, None, {})]
        assert rejections == [("step_field", "metrics")]

    def test_a_time_that_makes_no_sense_leaves_the_row(self) -> None:
        rows, rejections = read_rows({"step_number": 1, "created_at": "soon", "metrics": {"loss": 1}})
        assert rows == [StepRow(1, None, {"loss": 1.0})]
        assert rejections == [("step_field", "created_at")]

    def test_a_name_that_utf_8_cannot_carry_costs_no_other_metric(self) -> None:
        rows, rejections = read_rows({"metrics": {"\ud800": 1, "loss": 2, "x" * 20_000: 3}})
        assert rows[0].metrics == {"�": 1.0, "loss": 2.0, "x" * LABEL_LIMIT: 3.0}
        assert rejections == []


def read_or_refuse(body: bytes) -> None:
    """Read a page of each kind; nothing but `InvalidResponse` may be raised."""
    for read in (read_models, read_steps):
        with suppress(InvalidResponse):
            assert isinstance(read(body, Rejections()).next_token, str)


class TestAnything:
    @given(json_values | st.dictionaries(st.sampled_from(_KEYS), json_values))
    @example({"finetuned_models": [], "step_metrics": [], "next_page_token": True})
    def test_any_json_is_a_page_or_an_invalid_response(self, value: object) -> None:
        read_or_refuse(encode(value))

    @given(st.lists(near_valid_models | json_values, max_size=5), st.data())
    def test_no_item_costs_a_good_model(self, odd: list[object], data: st.DataObject) -> None:
        good = SPECIFIED_MODELS["finetuned_models"]
        assert isinstance(good, list)
        items = data.draw(st.permutations([*good, *odd]))
        alone = read_models(encode({"finetuned_models": good}), Rejections()).items
        together = read_models(encode({"finetuned_models": items}), Rejections()).items
        assert all(model in together for model in alone)

    @given(st.lists(near_valid_rows | json_values, max_size=5), st.data())
    def test_no_item_costs_a_good_row(self, odd: list[object], data: st.DataObject) -> None:
        good = SPECIFIED_STEPS["step_metrics"]
        items = data.draw(st.permutations([*good, *odd]))
        alone = read_steps(encode({"step_metrics": good}), Rejections()).items
        together = read_steps(encode({"step_metrics": items}), Rejections()).items
        assert all(row in together for row in alone)

    @given(near_valid_models)
    def test_what_passes_is_typed(self, item: dict[str, object]) -> None:
        for model in read_models(encode({"finetuned_models": [item]}), Rejections()).items:
            assert model.id
            assert model.status
            values = asdict(model)
            numbers = values.pop("hyperparameters").values()
            assert type(values.pop("multi_label")) is bool
            times = [values.pop(name) for name in ("created_at", "updated_at", "completed_at", "last_used")]
            assert all(type(number) is float for number in numbers)
            assert all(at is None or (type(at) is float and at > 0) for at in times)
            assert all(len(text) <= LABEL_LIMIT and text.encode() is not None for text in values.values())

    @given(near_valid_rows)
    def test_what_passes_of_a_row_is_typed(self, item: dict[str, object]) -> None:
        for row in read_rows(item)[0]:
            assert type(row.step) is int
            assert 0 <= row.step < 2**63
            assert row.at is None or row.at > 0
            assert all(name.encode() is not None for name in row.metrics)
            assert all(type(value) is float for value in row.metrics.values())
            assert "step" not in row.metrics

    @given(near_valid_models, st.sampled_from([SECRET, [SECRET], {"x": SECRET}]))
    def test_the_secret_of_weights_and_biases_is_never_read(
        self, item: dict[str, object], secret: object
    ) -> None:
        settings = item.get("settings")
        wandb = settings.get("wandb") if isinstance(settings, dict) else None
        leaky = (wandb if isinstance(wandb, dict) else {}) | {"api_key": secret}
        item = item | {
            "id": "m",
            "settings": (settings if isinstance(settings, dict) else {}) | {"wandb": leaky},
        }
        rejections = Rejections()
        page = read_models(encode({"finetuned_models": [item, json.dumps(item)]}), rejections)
        assert [model.id for model in page.items] == ["m"]
        assert SECRET not in repr(page) + repr(rejections)
