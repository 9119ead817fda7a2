"""Both endpoints, every page: what the client asks for, and when it stops asking."""

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.cohere.client import MODELS_PATH, CohereClient
from exporter.cohere.lenient import LABEL_LIMIT
from exporter.cohere.pagination import BOUNDS, CIRCLE, Bounds
from exporter.cohere.step_reading import Cursor, StepReading
from exporter.cohere.steps import newest_seen
from exporter.cohere.transport import Endpoint
from exporter.errors import ApiError, Gone, InvalidResponse, PaginationLimitExceeded
from exporter.model import TrainingProgress
from tests.strategies import encode, json_values
from tests.test_transport import Api, Handler, an_api, reply

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
        if number >= len(pages):
            return reply(400, encode({"message": "no such page"}))
        following = {"next_page_token": str(number + 1)} if number + 1 < len(pages) else {}
        return reply(body=encode({key: pages[number]} | following))

    return handle


@pytest.fixture
def large_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a large page have 100 steps, a tenth of what it has, so that runs may be as much shorter."""
    monkeypatch.setattr("exporter.cohere.client.LARGE_PAGE", 100)


def models(*ids: str, **fields: Any) -> list[dict[str, Any]]:
    return [{"id": model_id} | fields for model_id in ids]


def steps(*numbers: int, **metrics: float) -> list[dict[str, Any]]:
    return [{"step_number": number, "metrics": metrics or {"loss": 1 / (1 + number)}} for number in numbers]


async def progress(
    *pages: list[dict[str, Any]],
    known: TrainingProgress | None = None,
    cursor: Cursor | None = None,
    is_whole: bool = False,
    **options: Any,
) -> tuple[StepReading, int]:
    """Read the steps of a model from these pages; return the reading and the number of requests."""
    options = {"page_size": len(pages[0]) or 1, **options}
    async with a_client(chain("step_metrics", *pages), **options) as (client, api):
        reading = await client.training_steps("m", known, cursor, is_whole=is_whole)
        return reading, len(api.requests)


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

        async with a_client(handle, page_size=25) as (client, api):
            assert (await client.list_models()).pages == 2
        assert [request.url.params["page_size"] for request in api.requests] == ["25", "25"]

    async def test_a_failure_on_any_page_is_a_failure_of_the_list(self) -> None:
        def handle(request: httpx.Request) -> httpx.Response:
            first = encode({"finetuned_models": models("a"), "next_page_token": "t"})
            return reply(404) if "page_token" in request.url.params else reply(body=first)

        async with a_client(handle) as (client, _):
            with pytest.raises(Gone):
                await client.list_models()

    async def test_a_large_page_is_read_off_the_event_loop(self) -> None:
        threads: list[int] = []
        page = [*models(*map(str, range(300)), name="x" * 1000), {"name": "nobody"}]
        async with a_client(chain("finetuned_models", page)) as (client, api):
            api.observer.rejected = lambda *_: threads.append(threading.get_ident())  # type: ignore[method-assign]
            assert len((await client.list_models()).models) == 300
        assert len(threads) == 1
        assert threads != [threading.get_ident()]

    async def test_an_unchanged_page_is_not_read_again_and_gives_the_same_models(self) -> None:
        pages = [models("a"), models("b", "c")]
        async with a_client(chain("finetuned_models", *pages)) as (client, _):
            first = (await client.list_models()).models
            pages[0][0]["status"] = "STATUS_FAILED"
            second = (await client.list_models()).models
            del pages[0][0]["status"]
            third = (await client.list_models()).models
        assert [model.status for model in second] == ["STATUS_FAILED"] + ["STATUS_UNSPECIFIED"] * 2
        assert [a is b for a, b in zip(first, second, strict=True)] == [False, True, True]
        assert first == third
        assert first[0] is not third[0], "the page as it was is forgotten"

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

    async def test_new_tokens_for_ever_are_an_invalid_response(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(BOUNDS, Endpoint.LIST_FINETUNED_MODELS, Bounds(20, 10**6, 10**6))
        sent = 0

        def handle(request: httpx.Request) -> httpx.Response:
            nonlocal sent
            sent += 1
            return reply(body=encode({"finetuned_models": [], "next_page_token": f"t{sent}"}))

        async with a_client(handle) as (client, _):
            with pytest.raises(InvalidResponse, match="no end"):
                await client.list_models()
        assert sent == 20

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
        # Two on each page: of a single row nobody can tell whether newer or older ones would follow.
        rows = [
            [{"step_number": step, "metrics": {"loss": 1}} for step in (first, first + 1)]
            for first in range(0, 12, 2)
        ]
        async with a_client(chain("step_metrics", *rows)) as (client, api):
            assert not (await client.training_steps("m")).is_complete
            assert 1 < len(api.requests) < 7

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
            await client.training_steps(model_id)
        assert api.requests == []


class TestAnything:
    @given(
        st.dictionaries(st.sampled_from(["finetuned_models", "step_metrics", "next_page_token"]), json_values)
    )
    @example({"next_page_token": True})
    @example({"next_page_token": "\ud800"})
    def test_no_answer_raises_anything_but_an_api_error(self, answer: Mapping[str, object]) -> None:
        async def both() -> Sequence[object]:
            async with a_client(lambda _: reply(body=encode(answer))) as (client, _):
                return await asyncio.gather(
                    client.list_models(), client.training_steps("m"), return_exceptions=True
                )

        for result in asyncio.run(both()):
            assert isinstance(result, ApiError) or not isinstance(result, Exception), result


@pytest.mark.anyio
class TestTrainingSteps:
    known = TrainingProgress(step=20, metrics={"f1": 0.5, "loss": 9.0}, metric_steps={"f1": 20, "loss": 20})

    async def test_of_a_model_without_rows_is_nothing(self) -> None:
        assert await progress([]) == (StepReading(None, []), 1)

    @pytest.mark.parametrize("pages", [(steps(0, 10), steps(20, 30), steps(40)), (steps(40, 30), steps(0))])
    async def test_of_an_unknown_run_go_to_the_last_page_in_either_order(self, pages: Any) -> None:
        reading, requests = await progress(*pages)
        assert reading.progress is not None
        assert (reading.progress.step, requests) == (40, len(pages))
        assert len(reading.rows) == sum(map(len, pages))

    async def test_of_a_known_run_end_where_it_is_known(self) -> None:
        reading, requests = await progress(
            steps(40, 30, loss=0.1), steps(20, 10, loss=0.2), steps(0), known=self.known
        )
        assert requests == 2
        assert reading.progress is not None
        assert reading.progress.metrics == {"loss": 0.1, "f1": 0.5}
        assert [row.step for row in reading.rows] == [40, 30]

    async def test_read_on_for_a_metric_that_only_some_rows_carry(self) -> None:
        rare = [{"step_number": 30, "metrics": {"f1": 0.8}}, *steps(20, 10)]
        reading, _ = await progress(steps(60, 50, 40), rare, known=self.known)
        assert reading.progress is not None
        assert (reading.progress.metrics["f1"], reading.progress.metric_steps["f1"]) == (0.8, 30)

    @pytest.mark.parametrize("first", [[], steps(30), steps(30, 30), steps(30, 10, 20), ["row", {}]])
    async def test_read_on_while_no_page_proves_its_order(self, first: list[dict[str, Any]]) -> None:
        reading, requests = await progress(first, steps(40), steps(50), known=TrainingProgress(step=30))
        assert reading.progress is not None
        assert (reading.progress.step, requests) == (50, 3)

    @pytest.mark.parametrize("step", [9, 20, 100])
    async def test_of_another_run_inherit_nothing_whatever_its_step(self, step: int) -> None:
        known = replace(self.known, step_at=1_600_000_000.0)
        row = {"step_number": step, "created_at": "2026-01-01T00:00:00Z", "metrics": {"loss": 1.0}}
        reading, _ = await progress([row], known=known)
        assert reading.is_new_run
        assert reading.progress is not None
        assert (reading.progress.step, reading.progress.metrics) == (step, {"loss": 1.0})

    async def test_go_to_the_last_page_when_all_are_asked_for(self) -> None:
        reading, requests = await progress(steps(40, 20), steps(10, f1=0.9), known=self.known, is_whole=True)
        assert requests == 2
        assert reading.progress is not None
        assert reading.progress.metrics == {"loss": 1 / 41, "f1": 0.9}
        assert [row.step for row in reading.rows] == [40]

    async def test_in_ascending_order_go_on_at_the_page_that_was_the_last(self) -> None:
        pages = steps(0, 10), steps(20, 30), steps(40)
        first, _ = await progress(*pages)
        assert first.cursor == Cursor("2", 2)
        grown = *pages[:2], steps(40, 50), steps(60)
        second, requests = await progress(*grown, known=first.progress, cursor=first.cursor)
        assert requests == 2
        assert [row.step for row in second.rows] == [50, 60]
        assert second.cursor == Cursor("3", 2)

    async def test_whose_cursor_is_worth_nothing_any_more_are_read_from_the_first_page(self) -> None:
        reading, requests = await progress(steps(0, 10), known=self.known, cursor=Cursor("1000", 2))
        assert reading.is_new_run
        assert requests >= 2

    async def test_beyond_the_bounds_keep_what_was_read_and_go_on_there(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(BOUNDS, Endpoint.LIST_TRAINING_STEP_METRICS, Bounds(2, 10**6, 10**6))
        pages = [steps(number, number + 1) for number in range(0, 10, 2)]
        reading, requests = await progress(*pages)
        found = []
        for _ in range(5):
            assert requests <= 2
            found += [row.step for row in reading.rows]
            if reading.is_complete:
                break
            reading, requests = await progress(*pages, known=reading.progress, cursor=reading.cursor)
        assert found == list(range(10))

    @pytest.mark.parametrize("page_size", [0, 5])
    async def test_so_wide_that_two_large_pages_are_beyond_the_bounds_are_read_to_the_end(
        self, page_size: int, large_pages: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(BOUNDS, Endpoint.LIST_TRAINING_STEP_METRICS, Bounds(100, 10**6, 1_500))
        rows = steps(*range(300), **{f"recall_{number}": 0.5 for number in range(10)})
        async with a_client(sized(rows, default=5), page_size=page_size) as (client, api):
            reading = await client.training_steps("m")
            found = [row.step for row in reading.rows]
            while not reading.is_complete:
                reading = await client.training_steps("m", reading.progress, reading.cursor)
                assert reading.rows, "or it goes on for ever"
                found += [row.step for row in reading.rows]
        assert found == list(range(300))
        assert len(api.requests) == (60 if page_size else 4)

    @pytest.mark.parametrize("new", [0, 1, 30])
    @pytest.mark.parametrize("page_size", [0, 10])
    async def test_of_a_long_run_are_found_again_from_the_start_where_the_token_is_worth_nothing(
        self, new: int, page_size: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(BOUNDS, Endpoint.LIST_TRAINING_STEP_METRICS, Bounds(2, 10**6, 10**6))
        rows = steps(*range(75))
        async with a_client(sized(rows, default=10, most=10), page_size=page_size) as (client, api):
            reading = await client.training_steps("m")
            while not reading.is_complete:
                reading = await client.training_steps("m", reading.progress, reading.cursor)
            assert reading.cursor is not None
            rows += steps(*range(75, 75 + new))
            found = []
            cursor: Cursor | None = replace(reading.cursor, token="1000")
            begun = len(api.requests)
            while cursor:
                reading = await client.training_steps("m", reading.progress, cursor)
                found += [row.step for row in reading.rows]
                cursor = None if reading.is_complete else reading.cursor
        assert found == [*range(75, 75 + new)]
        assert not reading.is_new_run
        assert len(api.requests) - begun < 20

    @pytest.mark.parametrize("step", [1, -1], ids=["oldest first", "newest first"])
    @pytest.mark.parametrize(
        ("most", "options", "calls"),
        [(100, {}, 3), (0, {}, 51), (10, {}, 25), (100, {"page_size": 50}, 5)],
        ids=["large pages", "refused", "capped", "own size"],
    )
    async def test_of_any_number_are_read_one_by_one(
        self,
        most: int,
        options: dict[str, Any],
        calls: int,
        step: int,
        large_pages: None,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """What bounds a reading does not bound a history."""
        monkeypatch.setitem(BOUNDS, Endpoint.LIST_TRAINING_STEP_METRICS, Bounds(2, 100, 100))
        rows = steps(*range(250))[::step]
        async with a_client(sized(rows, default=5, most=most), **options) as (client, api):
            found = [row.step async for page in client.all_steps("m") for row in page]
        assert found == [row["step_number"] for row in rows]
        assert len(api.requests) == calls

    async def test_too_wide_for_large_pages_begin_again_in_small_ones(
        self, large_pages: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("exporter.cohere.wire.STEP_VALUES_LIMIT", 600)
        rows = steps(*range(100, 200)) + steps(*range(100), loss=0.5, f1=0.5, recall=0.5, precision=0.5)
        async with a_client(sized(rows, default=5)) as (client, _):
            found = [row.step async for page in client.all_steps("m") for row in page]
        assert found == [*range(100, 200), *range(100, 200), *range(100)]

    async def test_without_end_are_read_up_to_a_bound(
        self, large_pages: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("exporter.cohere.client.BOUNDS_OF_ALL_STEPS", Bounds(3, 10**9, 10**9))
        async with a_client(sized(steps(*range(500)), default=5)) as (client, api):
            with pytest.raises(PaginationLimitExceeded, match="no end within 3 pages"):
                _ = [page async for page in client.all_steps("m")]
        assert len(api.requests) == 3

    @pytest.mark.parametrize("pages", [1, 3])
    async def test_that_come_again_with_ever_new_tokens_end_as_a_circle(self, pages: int) -> None:
        def handle(_: httpx.Request) -> httpx.Response:
            token = str(len(api.requests))
            page = steps(len(api.requests) % pages)
            return reply(body=encode({"step_metrics": page, "next_page_token": token}))

        async with a_client(handle) as (client, api):
            with pytest.raises(PaginationLimitExceeded, match="circle: 10 pages without a new step"):
                _ = [page async for page in client.all_steps("m")]
        assert len(api.requests) == pages + CIRCLE

    @pytest.mark.parametrize("more", [[], steps(4, 5)])
    async def test_go_on_at_the_next_page_where_they_were_cut_off(self, more: list[dict[str, Any]]) -> None:
        known = TrainingProgress(step=3)
        reading, requests = await progress(
            steps(0, 1), steps(2, 3), more, known=known, cursor=Cursor("2", 2, is_next=True)
        )
        assert requests == 1
        assert reading.is_complete
        assert [row.step for row in reading.rows] == [row["step_number"] for row in more]
        assert reading.progress is not None
        assert reading.progress.step == (5 if more else 3)
        assert reading.cursor == Cursor("2", 2, is_next=not more)

    @pytest.mark.parametrize("rows", [[], steps(1)])
    @pytest.mark.parametrize(
        "cursor", [None, Cursor(), Cursor("", 1000), Cursor("x", 1000), Cursor("x", 50, is_next=True)]
    )
    async def test_without_an_end_or_anything_new_are_an_error(
        self, rows: list[dict[str, Any]], cursor: Cursor | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """To read on at once would bring as little."""
        monkeypatch.setitem(BOUNDS, Endpoint.LIST_TRAINING_STEP_METRICS, Bounds(5, 10**6, 10**6))
        tokens = itertools.count(1)
        async with a_client(
            lambda _: reply(body=encode({"step_metrics": rows, "next_page_token": next(tokens)}))
        ) as (client, _):
            with pytest.raises(PaginationLimitExceeded):
                await client.training_steps("m", TrainingProgress(step=1), cursor)

    @pytest.mark.parametrize("bounds", [Bounds(3, 10**6, 10**6), Bounds(9, 10**6, 30), Bounds(9, 500, 10**6)])
    @pytest.mark.parametrize("new", [(), (100,), (120, 110, 100)])
    async def test_from_the_newest_on_beyond_the_bounds_are_good_with_nothing_new(
        self, bounds: Bounds, new: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """All that is older is known."""
        rows = steps(*range(90, -1, -10))
        async with a_client(sized(rows, default=2, most=2)) as (client, api):
            first = await client.training_steps("m")
            monkeypatch.setitem(BOUNDS, Endpoint.LIST_TRAINING_STEP_METRICS, bounds)
            rows[:0], asked = steps(*new), len(api.requests)
            whole = await client.training_steps("m", first.progress, first.cursor, is_whole=True)
            assert ([row.step for row in whole.rows], whole.missed) == ([*new], 0)
            assert whole.is_complete
            assert not whole.is_new_run
            assert whole.progress is not None
            assert whole.progress.step == (new or (90,))[0]
            assert len(api.requests) - asked <= bounds.pages + 1

    @pytest.mark.parametrize(("page_size", "most"), [(2, 1 + CIRCLE), (0, 2 + 2 * CIRCLE)])
    async def test_before_pages_without_steps_for_ever_cost_a_few_calls_and_are_an_error(
        self, page_size: int, most: int
    ) -> None:
        tokens = itertools.count(1)

        def handle(request: httpx.Request) -> httpx.Response:
            rows = [] if "page_token" in request.url.params else steps(1, 2)
            return reply(body=encode({"step_metrics": rows, "next_page_token": next(tokens)}))

        async with a_client(handle, page_size=page_size) as (client, api):
            with pytest.raises(PaginationLimitExceeded, match="pages without a step"):
                await client.training_steps("m")
            assert len(api.requests) == most

    @pytest.mark.parametrize(("order", "page_size"), [(1, 50), (1, 4), (-1, 50)])
    async def test_that_come_late_are_brought_once(self, order: int, page_size: int) -> None:
        rows = steps(10, 40, 50)[::order]
        async with a_client(sized(rows, default=50), page_size=page_size) as (client, _):
            reading, found = await client.training_steps("m"), list[int]()
            for now in ((10, 40, 45, 50), (10, 20, 40, 45, 50, 60), (0, 10, 20, 40, 45, 50, 60)):
                rows[:] = steps(*now)[::order]
                for is_whole in (False, True, False):
                    reading = await client.training_steps(
                        "m", reading.progress, reading.cursor, is_whole=is_whole
                    )
                    found += [row.step for row in reading.rows][::order]
        assert found == [45, 20, 60, 0]

    async def test_that_are_older_than_all_that_is_remembered_are_not_brought_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("exporter.cohere.steps.MOST_SEEN", 2)
        first, _ = await progress(steps(0, 10, 20, 30))
        again, _ = await progress(
            steps(0, 10, 20, 25, 30), known=first.progress, cursor=first.cursor, is_whole=True
        )
        assert [row.step for row in again.rows] == [25]

    async def test_of_which_only_the_newest_is_remembered_are_not_brought_again(self) -> None:
        first, _ = await progress(steps(0, 10), steps(20, 30))
        assert first.cursor
        newest = replace(first.cursor, seen=newest_seen(first.cursor.seen))
        second, _ = await progress(steps(0, 10), steps(20, 30, 40), known=first.progress, cursor=newest)
        assert [row.step for row in second.rows] == [40]
        whole, _ = await progress(
            steps(0, 10), steps(20, 30, 35, 40), known=second.progress, cursor=second.cursor, is_whole=True
        )
        assert [row.step for row in whole.rows] == [35]

    async def test_in_ascending_order_that_a_large_page_holds_cost_one_call(self, large_pages: None) -> None:
        rows = steps(*range(30))
        async with a_client(sized(rows, default=5)) as (client, api):
            reading = await client.training_steps("m")
            for length in (31, 31, 50, 99):
                known, asked = len(rows), len(api.requests)
                rows += steps(*range(known, length))
                reading = await client.training_steps("m", reading.progress, reading.cursor)
                assert [row.step for row in reading.rows] == list(range(known, length))
                assert len(api.requests) - asked == 1

    async def test_are_asked_for_in_large_pages_at_once_where_calls_are_dear(self) -> None:
        async with a_client(sized(steps(*range(60)), default=50), saves_calls=True) as (client, api):
            await client.training_steps("m")
            assert [dict(request.url.params) for request in api.requests] == [{"page_size": "1000"}]

    @pytest.mark.parametrize("saves_calls", [False, True])
    @pytest.mark.parametrize("most", [0, 50])
    async def test_come_in_the_api_s_own_pages_where_it_knows_no_others(
        self, most: int, saves_calls: bool
    ) -> None:
        """`most` 0 refuses every `page_size`; 50 passes over it."""
        handler = sized(steps(*range(120)), default=50, most=most)
        async with a_client(handler, saves_calls=saves_calls) as (client, api):
            for _ in range(2):
                reading = await client.training_steps("m")
                assert len(reading.rows) == 120
            assert len(api.requests) <= 8

    @pytest.mark.parametrize("is_history", [False, True])
    async def test_of_one_model_refused_in_any_size_leave_those_of_others_large(
        self, is_history: bool
    ) -> None:
        good = sized(steps(*range(120)), default=50)

        async def read(model_id: str) -> int:
            if is_history:
                return sum([len(page) async for page in client.all_steps(model_id)])
            return len((await client.training_steps(model_id)).rows)

        async with a_client(
            lambda request: reply(400) if is_below(request.url.path, "", "bad") else good(request),
            saves_calls=True,
        ) as (client, api):
            with pytest.raises(InvalidResponse):
                await read("bad")
            assert await read("good") == 120
        assert len(api.requests) == 3

    async def test_of_one_model_in_pages_that_are_no_larger_leave_those_of_others_large(self) -> None:
        """The API may end a page by its bytes."""
        narrow, wide = (sized(steps(*range(120, 0, -1)), default=50, most=most) for most in (1000, 50))
        asked = []
        async with a_client(
            lambda request: (wide if is_below(request.url.path, "", "wide") else narrow)(request)
        ) as (client, api):
            for model_id in ("narrow", "wide", "narrow"):
                before = len(api.requests)
                assert len((await client.training_steps(model_id)).rows) == 120
                asked.append(len(api.requests) - before)
        assert asked == [2, 4, 2]

    async def test_keep_to_the_limit_of_metrics(self) -> None:
        reading, _ = await progress(steps(1, a=1.0, c=3.0), steps(2, b=2.0), metric_limit=2)
        assert reading.progress is not None
        assert (reading.progress.metrics, reading.progress.dropped) == ({"a": 1.0, "b": 2.0}, 1)
        assert [dict(row.metrics) for row in reading.rows] == [{"a": 1.0}, {"b": 2.0}]

    async def test_are_counted_under_their_own_endpoint_and_ask_for_the_page_size(self) -> None:
        async with a_client(chain("step_metrics", steps(0), steps(1)), page_size=7) as (client, api):
            await client.training_steps("m")
        assert api.observer.requests == [("list_training_step_metrics", "200")] * 2
        assert [dict(request.url.params) for request in api.requests] == [
            {"page_size": "7"},
            {"page_size": "7", "page_token": "1"},
        ]


def sized(rows: list[dict[str, Any]], *, default: int, most: int = 1000) -> Handler:
    """Serve rows in pages as large as asked for, up to `most`; 0: refuse to be asked."""

    def handle(request: httpx.Request) -> httpx.Response:
        asked = request.url.params.get("page_size")
        if asked and not most:
            return reply(400, encode({"message": "invalid page_size"}))
        size = min(int(asked), most) if asked else default
        begin = int(request.url.params.get("page_token", "0"))
        following = {"next_page_token": str(begin + size)} if begin + size < len(rows) else {}
        return reply(body=encode({"step_metrics": rows[begin : begin + size]} | following))

    return handle


def is_below(target: str, prefix: str, model_id: str) -> bool:
    """Return whether a request's target names the metrics of exactly this model."""
    if not (target.startswith(f"{prefix}{MODELS_PATH}/") and target.isascii()):
        return False
    segment, *rest = target.removeprefix(f"{prefix}{MODELS_PATH}/").split("/")
    return rest == ["training-step-metrics"] and segment not in (".", "..") and unquote(segment) == model_id


async def assert_one_segment(prefix: str, *model_ids: str) -> None:
    async with an_api(lambda _: reply(), base_url=f"https://api.invalid{prefix}") as api:
        client = CohereClient(api.transport, observer=api.observer)
        for model_id in model_ids:
            assert (await client.training_steps(model_id)).progress is None
            target = api.requests[-1].url.raw_path.decode("ascii")
            assert is_below(target, prefix, model_id), (target, model_id)


@pytest.mark.parametrize("prefix", ["", "/a%2Fb/c"])
class TestIdsInThePath:
    @given(
        st.text(
            st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd"), min_size=1, max_size=1023
        )
    )
    def test_any_id_is_one_segment(self, prefix: str, model_id: str) -> None:
        asyncio.run(assert_one_segment(prefix, model_id))

    def test_each_awkward_id_is_one_segment(self, prefix: str) -> None:
        asyncio.run(assert_one_segment(prefix, *AWKWARD_IDS))
