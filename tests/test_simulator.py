"""The simulated API: its wire, its errors, its faults, and the life of its fleet."""

import itertools
import json
import math
import re
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import Any

import httpx
import pytest

from exporter.simulator import (
    DEMO_API_KEY,
    WANDB_API_KEY,
    Job,
    Simulator,
    Status,
    at_rest,
    demo_fleet,
)
from exporter.simulator.curves import Curve
from tests.simulated import transport_of

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

START = 1_760_000_000.25
MODELS = "/v1/finetuning/finetuned-models"
UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"


class Moment:
    """A wall clock that the test sets."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def moment() -> Moment:
    return Moment()


@pytest.fixture
def simulator(moment: Moment) -> Simulator:
    return Simulator(moment)


@pytest.fixture
async def api(simulator: Simulator) -> AsyncIterator[httpx.AsyncClient]:
    async with client(simulator) as opened:
        yield opened


def client(simulator: Simulator, key: str = DEMO_API_KEY) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.AsyncClient(transport=transport_of(simulator), base_url="http://simulated", headers=headers)


async def get(api: httpx.AsyncClient, path: str = MODELS, **query: Any) -> dict[str, Any]:
    response = await api.get(path, params=query)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


async def models(api: httpx.AsyncClient) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = (await get(api))["finetuned_models"]
    return listed


async def find(api: httpx.AsyncClient, title: str, status: str = "") -> dict[str, Any]:
    """Return the newest version of a model, or the newest in a status."""
    return [
        model
        for model in await models(api)
        if model["name"].startswith(f"{title}-v") and status in model.get("status", "")
    ][-1]


def steps_of(model: dict[str, Any]) -> str:
    return f"{MODELS}/{model['id']}/training-step-metrics"


async def rows(api: httpx.AsyncClient, model: dict[str, Any]) -> list[dict[str, Any]]:
    body = await get(api, steps_of(model), page_size=1000)
    found: list[dict[str, Any]] = body.get("step_metrics", [])
    return found


def unix(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()


def job_of(title: str, now: float = START) -> Job:
    jobs = [job for job in demo_fleet(START).listed(now) if job.name.startswith(f"{title}-v")]
    return max(jobs, key=lambda job: job.created_at)


def moments(hours: float, every: float) -> Iterator[float]:
    return (START + number * every for number in range(int(hours * 3600 / every)))


# The wire


async def test_an_empty_account_is_an_empty_object(moment: Moment) -> None:
    async with client(Simulator(moment, jobs=[])) as api:
        assert await get(api) == {}


async def test_the_first_value_of_an_enumeration_is_left_out(api: httpx.AsyncClient) -> None:
    model = await find(api, "legacy-faq")
    assert "status" not in model
    assert "_UNSPECIFIED" not in json.dumps(await models(api))


async def test_the_first_step_has_no_step_number_but_its_metrics_repeat_the_zero(
    api: httpx.AsyncClient,
) -> None:
    *later, first = await rows(api, await find(api, "support-chat"))
    assert "step_number" not in first
    assert first["metrics"]["step"] == 0
    assert later
    assert all(row["metrics"]["step"] == row["step_number"] for row in later)


async def test_models_have_six_and_steps_nine_fractional_digits(api: httpx.AsyncClient) -> None:
    model = await find(api, "sales-chat")
    stamps = [model[name] for name in ("created_at", "updated_at", "completed_at", "last_used")]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", stamp) for stamp in stamps)
    for row in await rows(api, model):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", row["created_at"])


async def test_some_models_leak_their_wandb_key_as_the_real_api_does(api: httpx.AsyncClient) -> None:
    leaks = {
        model["status"]: model["settings"]["wandb"]
        for model in await models(api)
        if "wandb" in model["settings"]
    }
    assert {"STATUS_READY", "STATUS_FINETUNING"} <= leaks.keys()
    for leak in leaks.values():
        assert leak == {"project": "assistants", "entity": "example-research", "api_key": WANDB_API_KEY}


# Pages


async def walk(api: httpx.AsyncClient, path: str, field: str, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for _ in range(1000):
        page = await get(api, path, **query)
        assert len(page[field]) <= query["page_size"]
        found += page[field]
        if "next_page_token" not in page:
            return found
        query["page_token"] = page["next_page_token"]
    raise AssertionError("paging does not end")


async def test_a_page_has_fifty_models_unless_asked_otherwise(moment: Moment) -> None:
    async with client(Simulator(moment, jobs=at_rest(1200, rows=0))) as api:
        for query, expected in (
            ({}, 50),
            ({"page_size": 0}, 50),
            ({"page_size": 7}, 7),
            ({"page_size": 1000}, 1000),
            ({"page_size": 5000}, 1000),
        ):
            page = await get(api, MODELS, **query)
            assert len(page["finetuned_models"]) == expected
            assert page["total_size"] == 1200


async def test_a_list_that_ends_with_its_page_names_no_next_one(moment: Moment) -> None:
    async with client(Simulator(moment, jobs=at_rest(4))) as api:
        token = (await get(api, page_size=2))["next_page_token"]
        last = await get(api, page_size=2, page_token=token)
    assert len(last["finetuned_models"]) == 2
    assert "next_page_token" not in last


@pytest.mark.parametrize("size", ["-1", "many", "1.5", "9" * 5000])
async def test_a_page_size_that_is_none_is_refused(api: httpx.AsyncClient, size: str) -> None:
    for path in (MODELS, steps_of(await find(api, "support-chat"))):
        assert (await api.get(path, params={"page_size": size})).status_code == 400


async def test_a_token_opens_only_the_list_it_was_made_for(api: httpx.AsyncClient) -> None:
    token = (await get(api, page_size=2))["next_page_token"]
    steps = steps_of(await find(api, "support-chat"))
    for path, query in (
        (steps, {"page_token": token}),
        (MODELS, {"page_token": token[:-4] + "AAAA"}),
        (MODELS, {"page_token": "made-up"}),
        (MODELS, {"page_token": "ü"}),
    ):
        response = await api.get(path, params=query)
        assert response.status_code == 400
        assert "message" in response.json()


async def test_paging_is_not_upset_by_rows_that_come_meanwhile(
    api: httpx.AsyncClient, moment: Moment
) -> None:
    steps = steps_of(await find(api, "support-chat"))
    first = await get(api, steps, page_size=5)
    moment.now += 10
    second = await get(api, steps, page_size=5, page_token=first["next_page_token"])
    numbers = [row["step_number"] for row in first["step_metrics"] + second["step_metrics"]]
    assert numbers == list(range(numbers[0], numbers[0] - 100, -10))


@pytest.mark.parametrize("ascending", [False, True])
async def test_steps_come_most_recent_first_unless_turned_round(moment: Moment, ascending: bool) -> None:
    async with client(Simulator(moment, ascending_steps=ascending)) as api:
        path = steps_of(await find(api, "support-chat"))
        found = await walk(api, path, "step_metrics", page_size=9)
    numbers = [row.get("step_number", 0) for row in found]
    assert numbers == sorted(numbers, reverse=not ascending)
    assert len(set(numbers)) == len(numbers) > 9


# Errors


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({}, "no api key supplied"),
        ({"Authorization": "Bearer wrong"}, "invalid api token"),
        ({"Authorization": DEMO_API_KEY}, "invalid api token"),
        ({"Authorization": f"Basic {DEMO_API_KEY}"}, "invalid api token"),
    ],
)
async def test_a_missing_or_wrong_key_is_refused(
    simulator: Simulator, headers: dict[str, str], message: str
) -> None:
    async with client(simulator, key="") as api:
        for path in (MODELS, f"{MODELS}/{UNKNOWN_ID}/training-step-metrics"):
            response = await api.get(path, headers=headers)
            assert response.status_code == 401
            assert response.json() == {"message": message}


async def test_a_private_deployment_demands_no_key(moment: Moment) -> None:
    async with client(Simulator(moment, api_key=""), key="") as api:
        assert await models(api)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", f"{MODELS}/support-chat-v12/training-step-metrics", 400),
        ("GET", f"{MODELS}/{UNKNOWN_ID}/training-step-metrics", 404),
        ("GET", "/v1/finetuning/models", 404),
        ("GET", f"{MODELS}/", 404),
        ("POST", MODELS, 405),
        ("DELETE", f"{MODELS}/{UNKNOWN_ID}/training-step-metrics", 405),
    ],
)
async def test_errors_are_a_message_and_a_status(
    api: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    response = await api.request(method, path)
    assert response.status_code == status
    assert list(response.json()) == ["message"]
    assert response.headers["x-debug-trace-id"]


async def test_every_answer_has_its_own_trace_id(api: httpx.AsyncClient, simulator: Simulator) -> None:
    simulator.fail(times=1)
    answers = [await api.get(MODELS), await api.get(MODELS), await api.get("/nowhere")]
    assert [answer.status_code for answer in answers] == [503, 200, 404]
    assert len({answer.headers["x-debug-trace-id"] for answer in answers}) == 3


# The fleet


async def test_a_job_fails_within_the_first_two_minutes(api: httpx.AsyncClient, moment: Moment) -> None:
    before = {model["id"] for model in await models(api) if model.get("status") == "STATUS_FAILED"}
    moment.now += 120
    after = [model for model in await models(api) if model.get("status") == "STATUS_FAILED"]
    fresh = [model for model in after if model["id"] not in before]
    assert fresh
    assert all(START < unix(model["updated_at"]) <= moment.now for model in fresh)


async def test_a_failed_job_keeps_its_rows_and_was_never_completed(api: httpx.AsyncClient) -> None:
    model = await find(api, "intent-router")
    assert model["status"] == "STATUS_FAILED"
    assert START - unix(model["updated_at"]) > 86400
    assert "completed_at" not in model
    assert await rows(api, model)


@pytest.mark.parametrize("speed", [60.0, 1.0])
async def test_speed_shortens_life_but_not_the_clock(moment: Moment, speed: float) -> None:
    async with client(Simulator(moment, speed=speed)) as api:
        latest, before, *_ = await rows(api, await find(api, "support-chat", "STATUS_FINETUNING"))
    seconds = unix(latest["created_at"]) - unix(before["created_at"])
    # About as often as in the specification's example job.
    assert 40 < seconds * speed < 75
    assert latest["step_number"] - before["step_number"] == 10
    assert 0 <= moment.now - unix(latest["created_at"]) <= seconds


@pytest.mark.parametrize("speed", [0.0, -1.0, math.nan])
def test_a_speed_that_goes_nowhere_is_refused(moment: Moment, speed: float) -> None:
    with pytest.raises(ValueError, match="speed"):
        Simulator(moment, speed=speed)


async def test_a_job_lives_through_its_phases_in_order(api: httpx.AsyncClient, moment: Moment) -> None:
    model_id = (await find(api, "ticket-triage"))["id"]
    lives = []
    for moment.now in moments(hours=0.15, every=0.5):
        lives += [(moment.now, model) for model in await models(api) if model["id"] == model_id]
    statuses = [status for status, _ in itertools.groupby(model["status"] for _, model in lives)]
    assert statuses == ["STATUS_QUEUED", "STATUS_FINETUNING", "STATUS_DEPLOYING_API", "STATUS_READY"]
    for status in statuses[1:]:
        # A moment after the change, its time is in the record too.
        now, model = next((now - 0.5, model) for now, model in lives[1:] if model["status"] == status)
        settled = next(model for at, model in lives if at >= now + 1 and model["status"] == status)
        assert 0 <= now + 1 - unix(settled["updated_at"]) <= 1.001
        assert ("completed_at" in model) == (status in {"STATUS_DEPLOYING_API", "STATUS_READY"})
    deploying = next(model for _, model in lives if model["status"] == statuses[2])
    ready = next(model for _, model in lives if model["status"] == statuses[3])
    assert unix(deploying["completed_at"]) <= unix(ready["updated_at"])
    assert deploying["completed_at"] == ready["completed_at"]
    assert "last_used" not in ready


async def test_training_is_silent_before_its_first_row(api: httpx.AsyncClient, moment: Moment) -> None:
    job = job_of("product-copy", START + 40)
    training_at = next(at for at, status in job.history if status is Status.FINETUNING)
    moment.now = job.first_row_at - 0.1
    model = await find(api, "product-copy")
    assert model["status"] == "STATUS_FINETUNING"
    assert await get(api, steps_of(model)) == {}
    assert moment.now - training_at > 5
    moment.now = job.first_row_at + 0.1
    assert len(await rows(api, model)) == 1


async def test_no_time_lies_in_the_future(api: httpx.AsyncClient, moment: Moment) -> None:
    for moment.now in moments(hours=0.2, every=47.3):
        for model in await models(api):
            stamps = [model[name] for name in model if name.endswith("_at") or name == "last_used"]
            stamps += [row["created_at"] for row in await rows(api, model)]
            assert max(map(unix, stamps)) <= moment.now
            assert unix(model["created_at"]) <= unix(model["updated_at"])


async def test_the_same_seed_start_and_moment_give_the_same_answers() -> None:
    steady, jumpy = Moment(), Moment()
    async with client(Simulator(steady, seed=4)) as one, client(Simulator(jumpy, seed=4)) as other:
        jumpy.now = START + 5000
        await everything(other)
        steady.now = jumpy.now = START + 77.7
        assert await everything(one) == await everything(other)


async def test_another_seed_gives_other_models_and_other_curves(moment: Moment) -> None:
    async with client(Simulator(moment, seed=1)) as one, client(Simulator(moment, seed=2)) as other:
        models_of_one, models_of_other = await models(one), await models(other)
        assert not {model["id"] for model in models_of_one} & {model["id"] for model in models_of_other}
        curves = [(await rows(api, await find(api, "sales-chat")))[0]["metrics"] for api in (one, other)]
    assert curves[0] != curves[1]


async def everything(api: httpx.AsyncClient) -> list[Any]:
    listed = await models(api)
    return [listed, *[await rows(api, model) for model in listed]]


async def test_a_fleet_at_rest_does_not_change(moment: Moment) -> None:
    simulator = Simulator(moment, jobs=at_rest(40, rows=3))
    async with client(simulator) as api:
        before = await everything(api)
        moment.now += 40 * 86400
        assert await everything(api) == before
    listed, *steps = before
    assert {model["status"] for model in listed} == {"STATUS_READY"}
    assert [len(found) for found in steps] == [3] * 40


# The curves

GENERATION = {"accuracy", "cross_entropy", "generation_accuracy", "generation_cross_entropy"}
NAMES = {
    "BASE_TYPE_CHAT": GENERATION,
    "BASE_TYPE_GENERATIVE": GENERATION,
    "BASE_TYPE_CLASSIFICATION": {"loss", "accuracy", "f1", "precision", "recall"},
    "BASE_TYPE_RERANK": {"Accuracy@1", "Accuracy@3", "MRR@10", "nDCG@10", "cross_entropy"},
}
LOSSES = {"loss", "cross_entropy", "generation_cross_entropy"}


async def test_metrics_are_named_by_base_type(api: httpx.AsyncClient) -> None:
    for model in await models(api):
        for row in await rows(api, model):
            names = NAMES[model["settings"]["base_model"]["base_type"]] | {"step"}
            found = {name for name in row["metrics"] if not name.startswith("f1/")}
            # Some are not on every row.
            assert found == names if row["metrics"]["step"] % 50 == 0 else found <= names


async def test_some_metrics_are_of_one_class_and_some_not_on_every_row(moment: Moment) -> None:
    moment.now = START
    async with client(Simulator(moment)) as api:
        moment.now += 400
        classes = [set(row["metrics"]) for row in await rows(api, await find(api, "ticket-triage"))]
        chat = [set(row["metrics"]) for row in await rows(api, await find(api, "support-chat"))]
    assert all(len({name for name in names if name.startswith("f1/")}) == 8 for names in classes)
    assert 0.1 < sum("generation_accuracy" in names for names in chat) / len(chat) < 0.3
    assert all("accuracy" in names for names in chat)


@pytest.mark.parametrize("base_type", NAMES)
@pytest.mark.parametrize("seed", ["a", "b", "c"])
def test_losses_fall_and_qualities_rise(base_type: str, seed: str) -> None:
    curve = Curve(base_type=base_type, seed=seed, rows=100)
    first, middle, last = (average(curve, begin) for begin in (0, 45, 90))
    for name in first:
        falls = name in LOSSES
        assert (first[name] > middle[name] > last[name]) == falls
        # An exponential approach: most of the way is made in the first half.
        assert abs(middle[name] - first[name]) > 5 * abs(last[name] - middle[name])


def average(curve: Curve, begin: int) -> dict[str, float]:
    measured = [curve.metrics(row) for row in range(begin, begin + 10)]
    return {name: sum(row[name] for row in measured) / 10 for name in measured[0]}


@pytest.mark.parametrize("base_type", NAMES)
def test_the_metrics_of_a_row_agree_with_each_other(base_type: str) -> None:
    curve = Curve(base_type=base_type, seed="s", rows=100)
    for metrics in map(curve.metrics, range(100)):
        assert all(0 < value < 1 for name, value in metrics.items() if name not in LOSSES)
        assert all(0 < metrics[name] < 5 for name in LOSSES & set(metrics))
        if base_type == "BASE_TYPE_RERANK":
            assert metrics["Accuracy@1"] < metrics["MRR@10"] < metrics["Accuracy@3"]
            assert metrics["MRR@10"] < metrics["nDCG@10"] < 1
        if base_type == "BASE_TYPE_CLASSIFICATION":
            precision, recall = metrics["precision"], metrics["recall"]
            assert metrics["f1"] == pytest.approx(2 * precision * recall / (precision + recall), abs=1e-5)


async def test_answers_are_strict_json(api: httpx.AsyncClient) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    for model in await models(api):
        response = await api.get(steps_of(model))
        json.loads(response.text, parse_constant=refuse)
