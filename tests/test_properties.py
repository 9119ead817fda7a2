"""Whatever the API answers: no crash, a valid page, one status a model, and no secret on it.

The way is the real one from HTTP bytes to the page; only the network is replaced, and the clock, which
does not wait.
"""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from structlog.testing import capture_logs

from exporter.cohere.client import CohereClient
from exporter.cohere.lenient import LABEL_LIMIT
from exporter.cohere.transport import Endpoint, Transport
from exporter.cohere.wire import REJECTED_KINDS
from exporter.errors import REASONS
from exporter.exposition import Exposition, Format, render
from exporter.model import Status
from exporter.polling.poller import Poller
from exporter.telemetry import Telemetry
from tests.conftest import HastyClock
from tests.schedules import allowance_of, schedule_of
from tests.strategies import json_values, near_valid_models, near_valid_rows, perhaps

pytestmark = pytest.mark.slow

SECRET = "wandb-live-secret-0123456789abcdef"
PROPERTY = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass
class Seen:
    """What two polls of one API came to: the pages after each, the reasons, the log and the snapshots."""

    pages: list[dict[Format, str]] = field(default_factory=list)
    reasons: list[str | None] = field(default_factory=list)
    log: str = ""
    blocks: list[list[bytes]] = field(default_factory=list)


Answer = Callable[[httpx.Request], httpx.Response]


async def poll(answer: Answer, polls: int = 2) -> Seen:
    """Poll an API `polls` times, from its bytes to the page."""
    clock, seen = HastyClock(), Seen()
    telemetry = Telemetry(
        version="1",
        revision="",
        endpoints=list(Endpoint),
        rejected_kinds=REJECTED_KINDS,
        process_metrics=False,
    )
    exposition = Exposition(is_fresh=lambda _: True, own=partial(render, telemetry.registry))
    async with httpx.AsyncClient(
        base_url="http://api.test", transport=httpx.MockTransport(answer), trust_env=False
    ) as http:
        transport = Transport(
            http,
            key=lambda: "key",
            timeout=30.0,
            allowance=allowance_of(clock, concurrency=4),
            observer=telemetry,
            clock=clock,
        )
        poller = Poller(
            CohereClient(transport, observer=telemetry, metric_limit=5),
            schedule=schedule_of(clock),
            publish=exposition.publish,
            observer=telemetry,
            clock=clock,
            key=lambda: "key",
            models_limit=10,
        )
        with capture_logs() as lines:
            for _ in range(polls):
                outcome = await poller.poll()
                await poller.finish()
                seen.reasons.append(outcome.reason)
                assert not (outcome.reason is None and outcome.message)
                pages = {format_: b"".join(exposition.chunks(format_)).decode() for format_ in Format}
                seen.pages.append(pages)
                *block, _ = exposition.chunks(Format.TEXT)
                seen.blocks.append(block)
        seen.log = repr((lines, outcome))
    return seen


def series(text: str) -> Series:
    """Read a page strictly; no series may come twice, and none with a time."""
    found: Series = {}
    names = []
    for family in parse_openmetrics(text):  # type: ignore[no-untyped-call]
        names.append(family.name)
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, f"twice: {key}"
            assert sample.timestamp is None
            found[key] = sample.value
    assert len(names) == len(set(names)), "a family comes twice"
    return found


def of(found: Series, name: str) -> list[tuple[dict[str, str], float]]:
    return [(dict(labels), value) for (series_name, labels), value in found.items() if series_name == name]


def check_page(pages: Mapping[Format, str]) -> None:
    """Check what holds on every page whatever the API said."""
    found = series(pages[Format.OPENMETRICS])
    assert sum(1 for family in parse_text(pages[Format.TEXT]) for _ in family.samples) == len(found)
    assert of(found, "cohere_up")
    ones: dict[str, int] = {}
    for labels, value in of(found, "cohere_finetuned_model_status"):
        ones[labels["model_id"]] = ones.get(labels["model_id"], 0) + int(value)
        assert value in (0.0, 1.0)
    infos = [labels["model_id"] for labels, _ in of(found, "cohere_finetuned_model_info")]
    assert sorted(infos) == sorted(ones)
    assert set(ones.values()) <= {1}
    if counts := of(found, "cohere_finetuned_models"):
        dropped = of(found, "cohere_finetuned_models_dropped")[0][1]
        assert sum(value for _, value in counts) == len(infos) + dropped
        assert {labels["status"] for labels, _ in counts} >= {status.value for status in Status}
    assert all(len(value) <= LABEL_LIMIT for _, pairs in found for _, value in pairs)


def check(answer: Answer) -> Seen:
    """Poll twice and check all that must hold."""
    seen = asyncio.run(poll(answer))
    assert set(seen.reasons) <= {None, *REASONS}
    for pages in seen.pages:
        check_page(pages)
        assert SECRET not in "".join(pages.values())
    assert SECRET not in seen.log
    assert "unexpected error" not in seen.log, seen.log
    return seen


# Answers, from nearly right to wild.


def leaking(model: dict[str, Any]) -> dict[str, Any]:
    """Return a model with a user's secret where the real API shows it, whatever the rest of it is."""
    settings = model["settings"] if isinstance(model.get("settings"), dict) else {}
    wandb = settings["wandb"] if isinstance(settings.get("wandb"), dict) else {}
    return {**model, "settings": {**settings, "wandb": {**wandb, "api_key": SECRET}}}


def pages(key: str, items: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """Draw one or two pages; a token, if any, leads from one to the next."""
    content = perhaps(st.lists(perhaps(items), max_size=14))
    page = st.fixed_dictionaries(
        {}, optional={key: content, "next_page_token": st.sampled_from(["", "t", None])}
    )
    return st.lists(perhaps(page), min_size=1, max_size=2)


def serving(model_pages: Sequence[Any], step_pages: Sequence[Any]) -> Answer:
    """Answer with pages in turn; the last has no next."""

    def answer(request: httpx.Request) -> httpx.Response:
        pages = step_pages if request.url.path.endswith("/training-step-metrics") else model_pages
        page = pages[0]
        if "page_token" in request.url.params:
            page = pages[-1]
            page = {**page, "next_page_token": ""} if isinstance(page, dict) else page
        return ok(json.dumps(page).encode())

    return answer


def ok(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> httpx.Response:
    return httpx.Response(status, stream=httpx.ByteStream(body), headers=headers)


@PROPERTY
@given(
    model_pages=pages("finetuned_models", near_valid_models.map(leaking)),
    step_pages=pages("step_metrics", near_valid_rows),
)
def test_nearly_right_answers_give_a_valid_page(model_pages: list[Any], step_pages: list[Any]) -> None:
    check(serving(model_pages, step_pages))


@PROPERTY
@given(
    bodies=st.lists(
        st.one_of(st.binary(max_size=60), json_values.map(lambda value: json.dumps(value).encode())),
        min_size=1,
        max_size=4,
    ),
    status=st.sampled_from([200, 200, 200, 204, 302, 400, 401, 402, 403, 404, 410, 418, 429, 498, 500, 503]),
    headers=st.fixed_dictionaries(
        {},
        optional={
            "retry-after": st.sampled_from(
                ["0", "7", "99999999999", "soon", "Wed, 21 Oct 2099 07:28:00 GMT"]
            ),
            "content-encoding": st.sampled_from(["gzip", "br", "identity"]),
            "content-type": st.sampled_from(["text/plain", "text/html", "application/json"]),
        },
    ),
)
def test_wild_answers_give_a_valid_page(bodies: list[bytes], status: int, headers: dict[str, str]) -> None:
    turn = iter(range(10**9))
    check(lambda _: ok(bodies[next(turn) % len(bodies)], status, headers))


def test_what_does_not_change_is_not_rendered_again_though_it_be_no_number() -> None:
    model = {
        "id": "a",
        "status": "STATUS_FINETUNING",
        "settings": {"hyperparameters": {"learning_rate": "NaN"}},
    }
    steps = {"step_metrics": [{"step_number": 3, "metrics": {"loss": "NaN"}}]}
    seen = asyncio.run(poll(serving([{"finetuned_models": [model]}], [steps])))
    assert seen.reasons == [None, None]
    assert 'metric="loss"' in b"".join(seen.blocks[0]).decode()
    assert list(map(id, seen.blocks[1])) == list(map(id, seen.blocks[0]))


def test_a_secret_in_every_place_of_the_list_that_is_none_of_ours_stays_off_the_page() -> None:
    model = {
        "id": "a",
        "status": "STATUS_READY",
        "api_key": SECRET,
        "secret": {"api_key": SECRET},
        "created_at": {"api_key": SECRET},
        "settings": {
            "api_key": SECRET,
            "wandb": {
                "project": {"api_key": SECRET},
                "entity": [SECRET],
                "api_key": SECRET,
                "apiKey": SECRET,
            },
            "hyperparameters": {"api_key": SECRET, "learning_rate": SECRET, "train_epochs": [SECRET]},
            "base_model": [SECRET],
        },
    }
    seen = check(serving([{"finetuned_models": [model, SECRET, [SECRET]], "total_size": SECRET}], [{}]))
    assert seen.reasons == [None, None]
    assert 'model_id="a"' in b"".join(seen.blocks[-1]).decode()
