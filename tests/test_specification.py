"""The specification itself as judge: what the simulated API answers, at several moments of its life.

The two documents in data/openapi are the published ones, with their enumerations written as plain strings.
"""

import re
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import yaml

from exporter.simulator import DEMO_API_KEY, Simulator, Status
from tests.simulated import transport_of

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

START = 1_760_000_000.25
MOMENTS = (0.0, 20.0, 47.5, 100.0, 130.0, 3_600.0, 1_000_000.0)  # seconds after the start
MODELS = "/v1/finetuning/finetuned-models"
DOCUMENTS = Path(__file__).parent / "data" / "openapi"

dates = jsonschema.FormatChecker(formats=[])


@dates.checks("date-time")
def is_date_time(value: object) -> bool:
    """Return whether text is an RFC 3339 date-time; what is not text is the type's affair."""
    if not isinstance(value, str):
        return True
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", value):
        return False
    try:
        return bool(datetime.fromisoformat(value))
    except ValueError:
        return False


def schemas(document: str) -> dict[str, Any]:
    parsed = yaml.safe_load((DOCUMENTS / f"{document}.yaml").read_text(encoding="utf-8"))
    found: dict[str, Any] = parsed["components"]["schemas"]
    return found


def judge(document: str, schema: str) -> jsonschema.Draft202012Validator:
    """Make a validator of one schema that knows no field but the specified ones."""
    closed = {
        name: {**definition, "additionalProperties": False} if "properties" in definition else definition
        for name, definition in schemas(document).items()
    }
    root = {"$ref": f"#/components/schemas/{schema}", "components": {"schemas": closed}}
    return jsonschema.Draft202012Validator(root, format_checker=dates)


LIST = judge("list-finetuned-models", "ListFinetunedModelsResponse")
STEPS = judge("list-training-step-metrics", "ListTrainingStepMetricsResponse")


class Moment:
    """A wall clock that the test sets."""

    now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def moment() -> Moment:
    return Moment()


@pytest.fixture
async def api(moment: Moment) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {DEMO_API_KEY}"}
    transport = transport_of(Simulator(moment))
    async with httpx.AsyncClient(transport=transport, base_url="http://simulated", headers=headers) as opened:
        yield opened


async def pages(api: httpx.AsyncClient, path: str, page_size: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    query: dict[str, str | int] = {"page_size": page_size}
    while not found or "next_page_token" in found[-1]:
        response = await api.get(path, params=query)
        assert response.status_code == 200, response.text
        found.append(response.json())
        query["page_token"] = found[-1].get("next_page_token", "")
    return found


async def fleet(api: httpx.AsyncClient) -> list[dict[str, Any]]:
    return [model for page in await pages(api, MODELS, 5) for model in page["finetuned_models"]]


async def step_pages(api: httpx.AsyncClient, model: dict[str, Any]) -> list[dict[str, Any]]:
    return await pages(api, f"{MODELS}/{model['id']}/training-step-metrics", 40)


def without_nan(page: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Lift the metrics that are "NaN" out of a page, and count them.

    The schema says number, but protobuf JSON writes a double that is not one as the string "NaN", and so
    does the real API. No other string is lifted out, so any other fails the schema.
    """
    rows = page.get("step_metrics", [])
    lifted = [
        {**row, "metrics": {name: value for name, value in row["metrics"].items() if value != "NaN"}}
        for row in rows
    ]
    count = sum(len(row["metrics"]) for row in rows) - sum(len(row["metrics"]) for row in lifted)
    return ({**page, "step_metrics": lifted} if rows else page), count


@pytest.mark.parametrize("seconds", MOMENTS)
async def test_every_page_of_models_is_as_specified(
    api: httpx.AsyncClient, moment: Moment, seconds: float
) -> None:
    moment.now = START + seconds
    found = await pages(api, MODELS, 5)
    assert len(found) > 1
    for page in found:
        LIST.validate(page)
        assert page["total_size"] == sum(len(each["finetuned_models"]) for each in found)


@pytest.mark.parametrize("seconds", MOMENTS)
async def test_every_page_of_step_metrics_is_as_specified(
    api: httpx.AsyncClient, moment: Moment, seconds: float
) -> None:
    moment.now = START + seconds
    for model in await fleet(api):
        for page in await step_pages(api, model):
            clean, nans = without_nan(page)
            STEPS.validate(clean)
            assert not nans or model["name"].startswith("tool-use-chat-v")


async def test_the_diverged_model_is_there_to_be_judged(api: httpx.AsyncClient) -> None:
    (diverged,) = (
        model
        for model in await fleet(api)
        if model["name"].startswith("tool-use-chat-v") and model["status"] == Status.FAILED
    )
    newest = (await step_pages(api, diverged))[0]
    assert without_nan(newest)[1] > 0
    assert not STEPS.is_valid(newest)


@pytest.mark.parametrize("seconds", MOMENTS)
async def test_rows_lie_within_the_life_of_their_model_in_the_order_of_their_steps(
    api: httpx.AsyncClient, moment: Moment, seconds: float
) -> None:
    moment.now = START + seconds
    for model in await fleet(api):
        rows = [row for page in await step_pages(api, model) for row in page.get("step_metrics", [])]
        steps = [row.get("step_number", 0) for row in rows]
        times = [row["created_at"] for row in rows]
        assert steps == sorted(set(steps), reverse=True)
        assert times == sorted(set(times), reverse=True)
        assert all(model["created_at"][:-1] < time < model.get("completed_at", "9") for time in times)
        assert not (rows and model.get("status") == Status.QUEUED)


async def test_the_answers_use_every_field_and_every_enumerated_value_specified(
    api: httpx.AsyncClient, moment: Moment
) -> None:
    listed = await pages(api, MODELS, 5)
    specified = schemas("list-finetuned-models")
    used = set(leaves(listed))
    for name, definition in specified.items():
        assert set(definition.get("properties", ())) <= {field for field, _ in used}, name
    for enumeration in ("Status", "BaseType"):
        # The zero of an enumeration is not written.
        expected = {value for value in specified[enumeration]["enum"] if not value.endswith("_UNSPECIFIED")}
        assert expected <= {value for _, value in used}, enumeration


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every field of an answer with its value, None for a message or a list."""
    if isinstance(value, dict):
        yield name, None
        for field, inner in value.items():
            yield from leaves(inner, field)
    elif isinstance(value, list):
        yield name, None
        for inner in value:
            yield from leaves(inner, name)
    else:
        yield name, value


def test_the_simulator_knows_the_statuses_of_the_specification() -> None:
    assert [str(status) for status in Status] == schemas("list-finetuned-models")["Status"]["enum"]


@pytest.mark.parametrize(
    "broken",
    [
        {"status": "STATUS_LOST"},
        {"created_at": "yesterday"},
        {"created_at": "2025-13-01T00:00:00Z"},
        {"settings": {"dataset_id": "d"}},
        {"colour": "blue"},
    ],
)
async def test_the_judge_refuses_what_is_not_as_specified(
    api: httpx.AsyncClient, broken: dict[str, Any]
) -> None:
    (model, *_) = await fleet(api)
    assert LIST.is_valid({"finetuned_models": [model]})
    assert not LIST.is_valid({"finetuned_models": [{**model, **broken}]})
