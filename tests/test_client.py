"""Both endpoints, every page: what the client asks for, and when it stops asking."""

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exporter.cohere.client import BOUNDS, CIRCLE, MODELS_PATH, Bounds, CohereClient
from exporter.cohere.limits import MonthlyBudget, RateLimiter
from exporter.cohere.transport import Endpoint, Transport
from exporter.cohere.wire import LABEL_LIMIT
from exporter.errors import ApiError, Gone, InvalidResponse
from exporter.model import TrainingProgress
from tests.clients import open_client
from tests.conftest import FakeClock, settle
from tests.strategies import encode, json_values
from tests.test_transport import Api, Handler, RecordingObserver, an_api, reply

AWKWARD_IDS = [
    "3f6c1d7e-52a0-4c1b-9d7b-0c4f5f1e2a90",
    "a/b",
    "/",
    "a%2Fb",
    "%",
    "%2e%2e",
    ".",
    "..",
    "...",
    "../../v1/models",
    "a..b",
    "?page_size=1",
    "a#b",
    "a b+c&d=e;f:g@h,i",
    "http://evil.invalid/",
    "\\..\\",
    "ü-模型-😀",
    "a\r\nX-Evil: 1",
    "\x00",
]


@asynccontextmanager
async def a_client(handler: Handler, **client: Any) -> AsyncIterator[tuple[CohereClient, Api]]:
    """Open a client on a network that is only `handler`."""
    async with an_api(handler) as api:
        yield CohereClient(api.transport, observer=api.observer, **client), api


def chain(key: str, *pages: list[dict[str, Any]]) -> Handler:
    """Serve these pages, each with the token of the next; tokens are the numbers of pages."""

    def handle(request: httpx.Request) -> httpx.Response:
        number = int(request.url.params.get("page_token", "0"))
        following = {"next_page_token": str(number + 1)} if number + 1 < len(pages) else {}
        return reply(body=encode({key: pages[number]} | following))

    return handle


def models(*ids: str, **fields: Any) -> list[dict[str, Any]]:
    return [{"id": model_id} | fields for model_id in ids]


def steps(*numbers: int, **metrics: float) -> list[dict[str, Any]]:
    return [{"step_number": number, "metrics": metrics or {"loss": 1 / (1 + number)}} for number in numbers]


async def progress(
    *pages: list[dict[str, Any]], earlier: TrainingProgress | None = None, limit: int = 0
) -> tuple[TrainingProgress | None, int]:
    """Read the progress of a model from these pages; give it and the number of requests."""
    async with a_client(chain("step_metrics", *pages), metric_limit=limit) as (client, api):
        return await client.training_progress("m", earlier), len(api.requests)


@pytest.mark.anyio
class TestListModels:
    async def test_reads_every_page_in_order(self) -> None:
        pages = chain("finetuned_models", models("a", "b"), [], models("c"))
        async with a_client(pages) as (client, api):
            listing = await client.list_models()
        assert [model.id for model in listing.models] == ["a", "b", "c"]
        assert listing.pages == 3
        assert {request.url.path for request in api.requests} == {MODELS_PATH}
        assert [dict(request.url.params) for request in api.requests] == [
            {},
            {"page_token": "1"},
            {"page_token": "2"},
        ]
        assert api.observer.requests == [("list_finetuned_models", "200")] * 3

    @pytest.mark.parametrize("body", [b"{}", b'{"finetuned_models": null, "next_page_token": null}'])
    async def test_of_an_empty_account_is_empty(self, body: bytes) -> None:
        async with a_client(lambda _: reply(body=body)) as (client, _):
            listing = await client.list_models()
        assert (listing.models, listing.pages) == ((), 1)

    async def test_waits_for_step_metrics_that_hang_once_and_not_at_each_page(self) -> None:
        list_pages = iter([models("a"), models("b"), models("c")])
        tokens = iter("12")
        hanging = [asyncio.Event() for _ in range(4)]
        order: list[str] = []

        async def handle(request: httpx.Request) -> httpx.Response:
            if request.url.path == MODELS_PATH:
                order.append("list")
                page = {"finetuned_models": next(list_pages), "next_page_token": next(tokens, "")}
                return reply(body=encode(page))
            order.append("steps")
            await hanging[order.count("steps") - 1].wait()
            return reply()

        async with an_api(handle, concurrency=2) as api:
            client = CohereClient(api.transport, observer=api.observer)
            readings = [asyncio.create_task(client.training_progress("m")) for _ in range(2)]
            await settle()
            listing = asyncio.create_task(client.list_models())
            await settle()
            readings += [asyncio.create_task(client.training_progress("m")) for _ in range(2)]
            await settle()
            hanging[0].set()
            assert [model.id for model in (await listing).models] == ["a", "b", "c"]
            assert order[:5] == ["steps", "steps", "list", "list", "list"]
            for event in hanging:
                event.set()
            await asyncio.gather(*readings)

    async def test_asks_for_the_page_size_on_every_page(self) -> None:
        async with a_client(chain("finetuned_models", models("a"), models("b")), page_size=25) as (
            client,
            api,
        ):
            await client.list_models()
        assert [request.url.params["page_size"] for request in api.requests] == ["25", "25"]

    async def test_a_model_on_two_pages_is_one_model_as_it_was_read_last(self) -> None:
        pages = chain("finetuned_models", models("a", "b", name="old"), models("b", "c", name="new"))
        async with a_client(pages) as (client, api):
            listing = await client.list_models()
        assert [(model.id, model.name) for model in listing.models] == [
            ("a", "old"),
            ("b", "new"),
            ("c", "new"),
        ]
        assert api.observer.rejections == ["duplicate_model"]

    async def test_a_token_is_handed_back_as_it_came(self) -> None:
        token = "a b&c=d/é+%25?#😀=="

        def handle(request: httpx.Request) -> httpx.Response:
            came = request.url.params.get("page_token")
            assert came in (None, token)
            return reply(body=encode({} if came else {"finetuned_models": [], "next_page_token": token}))

        async with a_client(handle) as (client, _):
            assert (await client.list_models()).pages == 2

    async def test_a_failure_on_any_page_is_a_failure_of_the_list(self) -> None:
        def handle(request: httpx.Request) -> httpx.Response:
            first = encode({"finetuned_models": models("a"), "next_page_token": "t"})
            return reply(404) if "page_token" in request.url.params else reply(body=first)

        async with a_client(handle) as (client, _):
            with pytest.raises(Gone):
                await client.list_models()

    @pytest.mark.parametrize("body", [b"<html>sign in</html>", b'{"message": "hello"}', b"[]", b""])
    async def test_another_answer_is_an_invalid_response_and_not_asked_again(self, body: bytes) -> None:
        async with a_client(lambda _: reply(body=body)) as (client, api):
            with pytest.raises(InvalidResponse):
                await client.list_models()
        assert len(api.requests) == 1

    async def test_odd_items_are_told_to_the_observer(self) -> None:
        page: list[Any] = [{"id": "a", "settings": 3}, {"name": "nobody"}, "b"]
        async with a_client(chain("finetuned_models", page)) as (client, api):
            assert [model.id for model in (await client.list_models()).models] == ["a"]
        assert api.observer.rejections == ["model_field", "model", "model"]

    async def test_a_large_page_is_read_off_the_event_loop(self) -> None:
        threads: list[int] = []
        page = [*models(*map(str, range(5000)), name="x" * 100), {"name": "nobody"}]
        async with a_client(chain("finetuned_models", page)) as (client, api):
            api.observer.rejected = lambda *_: threads.append(threading.get_ident())  # type: ignore[method-assign]
            assert len((await client.list_models()).models) == 5000
        assert len(threads) == 1
        assert threads != [threading.get_ident()]

    async def test_an_unchanged_page_is_not_read_again_and_gives_the_same_models(self) -> None:
        pages = [models("a"), models("b", "c")]
        async with a_client(chain("finetuned_models", *pages)) as (client, _):
            first = (await client.list_models()).models
            pages[0][0]["status"] = "STATUS_FAILED"
            second = (await client.list_models()).models
        assert [model.status for model in second] == ["STATUS_FAILED"] + ["STATUS_UNSPECIFIED"] * 2
        assert [a is b for a, b in zip(first, second, strict=True)] == [False, True, True]
        assert len(client._known) == 2, "the page as it was is forgotten"

    async def test_odd_items_of_an_unchanged_page_are_told_each_time(self) -> None:
        page: list[Any] = [{"id": "a", "settings": 3}, "b"]
        async with a_client(chain("finetuned_models", page)) as (client, api):
            for _ in range(3):
                await client.list_models()
        assert api.observer.rejections == ["model_field", "model"] * 3

    async def test_a_listing_that_fails_forgets_no_page(self) -> None:
        broken = False
        whole = chain("finetuned_models", models("a"), models("b"))

        async def handle(request: httpx.Request) -> httpx.Response:
            if broken and "page_token" in request.url.params:
                return reply(400)
            answer = whole(request)
            assert isinstance(answer, httpx.Response)
            return answer

        async with a_client(handle) as (client, _):
            first = (await client.list_models()).models
            broken = True
            with pytest.raises(InvalidResponse):
                await client.list_models()
            broken = False
            assert all(a is b for a, b in zip(first, (await client.list_models()).models, strict=True))


@pytest.mark.anyio
class TestChainsWithoutAnEnd:
    @pytest.mark.parametrize("circle", [["t"], ["a", "b"], ["a", "b", "c", "b"]])
    async def test_a_token_that_repeats_itself_is_an_invalid_response(self, circle: list[str]) -> None:
        sent = 0

        def handle(request: httpx.Request) -> httpx.Response:
            nonlocal sent
            sent += 1
            token = circle[(sent - 1) % len(circle)]
            return reply(body=encode({"finetuned_models": models("a"), "next_page_token": token}))

        async with a_client(handle) as (client, _):
            with pytest.raises(InvalidResponse, match="repeats"):
                await client.list_models()
        assert sent <= len(circle) + 1

    async def test_new_tokens_for_ever_are_an_invalid_response(self) -> None:
        sent = 0

        def handle(request: httpx.Request) -> httpx.Response:
            nonlocal sent
            sent += 1
            return reply(body=encode({"step_metrics": [], "next_page_token": f"t{sent}"}))

        async with a_client(handle) as (client, _):
            with pytest.raises(InvalidResponse, match="no end"):
                await client.training_progress("m")
        assert sent == BOUNDS[Endpoint.LIST_TRAINING_STEP_METRICS].pages

    async def test_a_list_that_only_repeats_models_is_an_invalid_response(self) -> None:
        sent = 0

        def handle(request: httpx.Request) -> httpx.Response:
            nonlocal sent
            sent += 1
            return reply(body=encode({"finetuned_models": models("a", "b"), "next_page_token": f"t{sent}"}))

        async with a_client(handle) as (client, _):
            with pytest.raises(InvalidResponse, match="circle"):
                await client.list_models()
        assert sent == CIRCLE + 1

    async def test_pages_that_repeat_models_or_are_empty_do_not_end_a_list_that_goes_on(self) -> None:
        pages = [models("a"), *[models("a")] * (CIRCLE - 1), models("b"), *[[]] * CIRCLE, models("c")]
        async with a_client(chain("finetuned_models", *pages)) as (client, _):
            listing = await client.list_models()
        assert [model.id for model in listing.models] == ["a", "b", "c"]

    @pytest.mark.parametrize("bounds", [Bounds(9, size=150, values=1000), Bounds(9, size=10_000, values=12)])
    async def test_pages_that_together_go_beyond_the_bounds_are_an_invalid_response(
        self, bounds: Bounds, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for endpoint in Endpoint:
            monkeypatch.setitem(BOUNDS, endpoint, bounds)
        async with a_client(chain("finetuned_models", models("a"), models("b"))) as (client, _):
            assert (await client.list_models()).pages == 2
        async with a_client(chain("finetuned_models", *(models(name) for name in "abcdef"))) as (client, api):
            with pytest.raises(InvalidResponse, match="pages together"):
                await client.list_models()
            assert 1 < len(api.requests) < 6
        rows = [[{"step_number": step, "metrics": {"loss": 1}}] for step in range(6)]
        async with a_client(chain("step_metrics", *rows)) as (client, api):
            with pytest.raises(InvalidResponse, match="pages together"):
                await client.training_progress("m")
            assert 1 < len(api.requests) < 6

    @pytest.mark.parametrize(
        "token", ["\ud800", "😀" * 8192, "x" * 100_000], ids=["surrogate", "wide", "long"]
    )
    async def test_a_token_that_no_request_can_carry_is_an_invalid_response(self, token: str) -> None:
        page = encode({"finetuned_models": models("a"), "next_page_token": token})
        async with a_client(lambda _: reply(body=page)) as (client, _):
            with pytest.raises(InvalidResponse):
                await client.list_models()


@pytest.mark.anyio
@pytest.mark.parametrize("model_id", ["x" * LABEL_LIMIT, "a\ufffd"], ids=["cut", "mended"])
async def test_a_model_whose_id_is_not_whole_is_not_asked_for(model_id: str) -> None:
    async with a_client(lambda _: reply(body=b"{}")) as (client, api):
        with pytest.raises(InvalidResponse, match="cannot be asked for"):
            await client.training_progress(model_id)
        assert api.requests == []


class TestAnything:
    @settings(max_examples=60, deadline=None)
    @given(
        st.dictionaries(st.sampled_from(["finetuned_models", "step_metrics", "next_page_token"]), json_values)
    )
    @example({"next_page_token": True})
    @example({"next_page_token": "\ud800"})
    def test_no_answer_raises_anything_but_an_api_error(self, answer: Mapping[str, object]) -> None:
        async def both() -> Sequence[object]:
            async with a_client(lambda _: reply(body=encode(answer))) as (client, _):
                return await asyncio.gather(
                    client.list_models(), client.training_progress("m"), return_exceptions=True
                )

        for result in asyncio.run(both()):
            assert isinstance(result, ApiError) or not isinstance(result, Exception), result


@pytest.mark.anyio
class TestTrainingProgress:
    async def test_of_a_model_without_rows_is_none(self) -> None:
        assert await progress([]) == (None, 1)

    async def test_of_ascending_pages_is_on_the_last_page(self) -> None:
        assert await progress(steps(0, 10), steps(20, 30), steps(40)) == (
            TrainingProgress(step=40, metrics={"loss": 1 / 41}),
            3,
        )

    async def test_of_descending_pages_needs_the_first_only(self) -> None:
        assert await progress(steps(40, 30), steps(20, 10), steps(0)) == (
            TrainingProgress(step=40, metrics={"loss": 1 / 41}),
            1,
        )

    @pytest.mark.parametrize("first", [[], steps(30), steps(30, 30), steps(30, 10, 20), ["row", {}]])
    async def test_reads_on_while_no_page_proves_its_order(self, first: list[dict[str, Any]]) -> None:
        found, requests = await progress(first, steps(40), steps(50))
        assert found is not None
        assert (found.step, requests) == (50, 3)

    async def test_stops_at_the_page_that_completes_the_proof(self) -> None:
        found, requests = await progress(steps(40), steps(30), steps(20))
        assert found is not None
        assert (found.step, requests) == (40, 2)

    async def test_of_a_first_page_is_completed_by_what_was_known(self) -> None:
        earlier = TrainingProgress(step=20, metrics={"f1": 0.5, "loss": 9.0})
        found, requests = await progress(steps(40, 30, loss=0.1), steps(20), earlier=earlier)
        assert (found, requests) == (TrainingProgress(step=40, metrics={"loss": 0.1, "f1": 0.5}), 1)

    async def test_of_all_pages_needs_nothing_that_was_known(self) -> None:
        earlier = TrainingProgress(step=20, metrics={"gone": 0.5})
        found, _ = await progress(steps(30, loss=0.2), steps(40, loss=0.1), earlier=earlier)
        assert found == TrainingProgress(step=40, metrics={"loss": 0.1})

    async def test_keeps_to_the_limit_of_metrics(self) -> None:
        found, _ = await progress(steps(1, a=1.0, c=3.0), steps(2, b=2.0), limit=2)
        assert found == TrainingProgress(step=2, metrics={"a": 1.0, "b": 2.0}, dropped=1)

    async def test_is_counted_under_its_own_endpoint_and_asks_for_the_page_size(self) -> None:
        async with a_client(chain("step_metrics", steps(0), steps(1)), page_size=7) as (client, api):
            await client.training_progress("m")
        assert api.observer.requests == [("list_training_step_metrics", "200")] * 2
        assert [dict(request.url.params) for request in api.requests] == [
            {"page_size": "7"},
            {"page_size": "7", "page_token": "1"},
        ]


def is_below(target: str, prefix: str, model_id: str) -> bool:
    """Tell whether a request's target names the metrics of exactly this model."""
    if not (target.startswith(f"{prefix}{MODELS_PATH}/") and target.isascii()):
        return False
    segment, *rest = target.removeprefix(f"{prefix}{MODELS_PATH}/").split("/")
    return rest == ["training-step-metrics"] and segment not in (".", "..") and unquote(segment) == model_id


class TestIdsInThePath:
    @settings(max_examples=100, deadline=None)
    @given(st.text(min_size=1, max_size=1024))
    @pytest.mark.parametrize("prefix", ["", "/a%2Fb/c"])
    def test_any_id_is_one_segment(self, prefix: str, model_id: str) -> None:
        async def ask() -> str:
            async with an_api(lambda _: reply(), base_url=f"https://api.invalid{prefix}") as api:
                client = CohereClient(api.transport, observer=api.observer)
                assert await client.training_progress(model_id) is None
            return api.requests[0].url.raw_path.decode("ascii")

        assert is_below(asyncio.run(ask()), prefix, model_id)

    @pytest.mark.anyio
    @pytest.mark.parametrize("prefix", ["", "/pre/fix"])
    async def test_the_server_sees_each_awkward_id_whole(self, prefix: str) -> None:
        async with a_server() as (address, heads), a_real_client(address + prefix) as client:
            for model_id in AWKWARD_IDS:
                assert await client.training_progress(model_id) is None
        targets = [head.split(" ")[1] for head in heads]
        assert len(targets) == len(AWKWARD_IDS)
        for target, model_id in zip(targets, AWKWARD_IDS, strict=True):
            assert is_below(target, prefix, model_id), (target, model_id)
        assert not any("x-evil" in head.lower().partition("\r\n")[2] for head in heads)


@asynccontextmanager
async def a_server() -> AsyncIterator[tuple[str, list[str]]]:
    """Answer `{}` on the loopback device; give the base URL and the heads of requests as they were sent."""
    heads: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", heads


@asynccontextmanager
async def a_real_client(base_url: str) -> AsyncIterator[CohereClient]:
    """Open a client on the real network."""
    clock, observer = FakeClock(), RecordingObserver()
    async with open_client(base_url) as http:
        transport = Transport(
            http,
            key=str,
            timeout=5.0,
            concurrency=1,
            limiter=RateLimiter(1000, clock),
            budget=MonthlyBudget(0, clock),
            observer=observer,
            clock=clock,
        )
        yield CohereClient(transport, observer=observer)
