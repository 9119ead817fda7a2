"""What came back over HTTP: bodies keep within their limit, errors say one safe line."""

import asyncio
import gzip
import json
import math
import traceback
import tracemalloc
import zlib
from collections.abc import Iterable
from contextlib import suppress
from email.utils import formatdate

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.cohere.response import error_of, read_body
from exporter.errors import (
    REASONS,
    ApiError,
    InvalidResponse,
    QuotaSpent,
    RateLimited,
    ServerError,
)
from tests.clients import arriving
from tests.hostile.faults import zeros
from tests.strategies import encode, json_values

KEY = "co-key-41f09b7d2c55ea8830"
WANDB = "wandb-5ec2e7-of-a-user"
NOW = 1_700_000_000.0
MIB = 1 << 20


def streamed(*chunks: bytes, encoding: str | None = None) -> httpx.Response:
    headers = {"content-encoding": encoding} if encoding is not None else {}
    return httpx.Response(200, headers=headers, content=arriving(chunks))


def failure(status: int, body: bytes = b"", content_type: str = "", **headers: str) -> ApiError:
    """Return the error for an answer; `_` stands for `-` in the names of headers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response = httpx.Response(status, headers=named | {"content-type": content_type})
    return error_of(response, body, secret=KEY, now=NOW)


def said(message: str, status: int = 400) -> str:
    """Return the error's text when the API says `message`."""
    return str(failure(status, json.dumps({"message": message}).encode(), "application/json"))


@pytest.mark.anyio
class TestReadBody:
    @pytest.mark.parametrize("encoding", [None, "", "identity", " Identity "])
    async def test_a_plain_body_is_joined(self, encoding: str | None) -> None:
        assert await read_body(streamed(b'{"a"', b": 1}", encoding=encoding), 100) == b'{"a": 1}'

    @pytest.mark.parametrize("encoding", ["gzip", "GZIP", " x-gzip "])
    @pytest.mark.parametrize("size", [1, 7, 10_000])
    async def test_a_gzipped_body_is_inflated_in_any_pieces(self, encoding: str, size: int) -> None:
        body = json.dumps(list(range(500))).encode()
        packed = gzip.compress(body)
        pieces = [packed[start : start + size] for start in range(0, len(packed), size)]
        assert await read_body(streamed(*pieces, encoding=encoding), len(body)) == body

    @pytest.mark.parametrize("gzipped", [False, True])
    async def test_the_limit_itself_is_allowed_and_one_more_is_not(self, gzipped: bool) -> None:
        pack, encoding = (gzip.compress, "gzip") if gzipped else (bytes, None)
        assert await read_body(streamed(pack(b"x" * 1000), encoding=encoding), 1000) == b"x" * 1000
        with pytest.raises(InvalidResponse, match="larger"):
            await read_body(streamed(pack(b"x" * 1001), encoding=encoding), 1000)

    async def test_an_endless_plain_body_is_left_at_the_limit(self) -> None:
        taken = 0

        def endless() -> Iterable[bytes]:
            nonlocal taken
            while True:
                taken += 1
                yield b"x" * 1000

        with pytest.raises(InvalidResponse):
            await read_body(httpx.Response(200, content=arriving(endless())), 10_000)
        assert taken == 11

    async def test_a_gzip_bomb_is_not_inflated_beyond_the_limit(self) -> None:
        bomb = zeros(gigabytes=1)
        tracemalloc.start()
        try:
            with pytest.raises(InvalidResponse, match="larger"):
                await read_body(streamed(bomb, encoding="gzip"), MIB)
            assert tracemalloc.get_traced_memory()[1] < 6 * MIB
        finally:
            tracemalloc.stop()

    async def test_what_follows_the_end_of_a_gzip_stream_is_not_hoarded(self) -> None:
        junk = (b"x" * 65_536 for _ in range(128))
        response = httpx.Response(
            200, headers={"content-encoding": "gzip"}, content=arriving([gzip.compress(b"{}"), *junk])
        )
        tracemalloc.start()
        try:
            with suppress(InvalidResponse):
                assert await read_body(response, 65_536) == b"{}"
            assert tracemalloc.get_traced_memory()[1] < MIB
        finally:
            tracemalloc.stop()

    @pytest.mark.parametrize("chunks", [[b"{}", b"x"], [b"{}x"], [b"{}", b"", b"x"]])
    async def test_what_follows_a_gzip_stream_is_refused_in_whatever_pieces_it_comes(
        self, chunks: list[bytes]
    ) -> None:
        pieces = [chunk.replace(b"{}", gzip.compress(b"{}")) for chunk in chunks]
        with pytest.raises(InvalidResponse, match="goes on after the end"):
            await read_body(streamed(*pieces, encoding="gzip"), 1000)

    @pytest.mark.parametrize("size", [1, 7, 10_000])
    async def test_a_gzipped_body_may_have_several_members(self, size: int) -> None:
        packed = gzip.compress(b'{"a"') + gzip.compress(b"") + gzip.compress(b": 1}")
        pieces = [packed[start : start + size] for start in range(0, len(packed), size)]
        assert await read_body(streamed(*pieces, encoding="gzip"), 1000) == b'{"a": 1}'

    async def test_several_members_keep_within_one_limit(self) -> None:
        for members in (gzip.compress(b"x" * 600) * 2, gzip.compress(b"") * 100):
            with pytest.raises(InvalidResponse, match="larger"):
                await read_body(streamed(members, encoding="gzip"), 1000)

    async def test_a_member_that_is_cut_is_no_whole_body(self) -> None:
        cut = gzip.compress(b"{}") + gzip.compress(b" ")[:-3]
        with pytest.raises(InvalidResponse, match="not complete"):
            await read_body(streamed(cut, encoding="gzip"), 1000)

    async def test_many_small_chunks_hold_up_nobody(self) -> None:
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        working = asyncio.create_task(others())
        await read_body(streamed(*[b" "] * 1000), 1000)
        working.cancel()
        assert turns >= 1000

    @pytest.mark.parametrize("cut", [0, 5, 15, -1])
    async def test_a_gzip_stream_that_ends_early_is_an_invalid_response(self, cut: int) -> None:
        with pytest.raises(InvalidResponse, match="gzip"):
            await read_body(streamed(gzip.compress(b'{"a": 1}')[:cut], encoding="gzip"), 1000)

    @pytest.mark.parametrize(
        "body", [b"{}", b"\x1f\x8b\xff\xff\xff\xff\xff\xff\xff\xff\xff", zlib.compress(b"{}")]
    )
    async def test_what_claims_to_be_gzip_and_is_not_is_an_invalid_response(self, body: bytes) -> None:
        with pytest.raises(InvalidResponse, match="gzip"):
            await read_body(streamed(body, encoding="gzip"), 1000)

    @pytest.mark.parametrize("encoding", ["br", "deflate", "zstd", "gzip, gzip", "gzip, br"])
    async def test_an_encoding_that_was_not_asked_for_is_an_invalid_response(self, encoding: str) -> None:
        with pytest.raises(InvalidResponse, match="encoding"):
            await read_body(streamed(b"{}", encoding=encoding), 1000)


class TestTheKindOfAFailure:
    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (409, InvalidResponse),
            (422, InvalidResponse),
            (499, InvalidResponse),
            (501, ServerError),
            (599, ServerError),
        ],
    )
    def test_follows_from_the_status(self, status: int, kind: type[ApiError]) -> None:
        error = failure(status, b"<html>", "text/html", x_debug_trace_id="trace-1")
        assert type(error) is kind
        assert (error.status, error.trace_id) == (status, "trace-1")
        assert error.reason in REASONS
        assert str(error) == error.message
        assert error.message.startswith(f"HTTP {status}: ")

    @pytest.mark.parametrize("plain", [False, True])
    def test_a_429_for_the_month_is_told_from_one_for_the_minute(self, plain: bool) -> None:
        kinds = []
        for span in ("month", "minute"):
            text = f"You are using a Trial key, which is limited to 1000 API calls / {span}."
            body = text.encode() if plain else json.dumps({"message": text}).encode()
            kinds.append(type(failure(429, body, "text/plain" if plain else "application/json")))
        assert kinds == [QuotaSpent, RateLimited]

    def test_a_month_in_another_failure_means_nothing(self) -> None:
        assert type(failure(500, b'{"message": "try next month"}')) is ServerError

    def test_reasons_and_advice_are_complete(self) -> None:
        kinds = [ApiError]
        for kind in kinds:
            kinds += kind.__subclasses__()
        assert {kind.reason for kind in kinds[1:]} == set(REASONS)
        assert all(kind.advice and "\n" not in kind.advice for kind in kinds[1:])
        assert " ".join(REASONS) == (
            "unauthorized forbidden payment_required gone rate_limited server_error timeout connection "
            "invalid_response internal_error"
        )


class TestTheWordsOfAFailure:
    def test_are_the_apis_own(self) -> None:
        assert said("invalid api token", 401) == "HTTP 401: invalid api token"
        body = b'{"id": "1", "message": "this API was removed on September 15"}'
        assert str(failure(404, body)) == "HTTP 404: this API was removed on September 15"
        assert str(failure(502, b"upstream\n gone", "text/plain; charset=utf-8")) == "HTTP 502: upstream gone"

    def test_of_json_in_plain_text_are_its_message(self) -> None:
        assert str(failure(401, b'{"message": "no api key"}', "text/plain")) == "HTTP 401: no api key"

    @pytest.mark.parametrize(
        "body", [b"", b"null", b"[]", b'{"message": {"a": 1}}', b'{"error": "x"}', b"\xff"]
    )
    def test_are_the_phrase_of_the_status_when_the_api_has_none(self, body: bytes) -> None:
        assert str(failure(503, body, "application/json")) == "HTTP 503: Service Unavailable"
        assert str(failure(498, body, "application/json")) == "HTTP 498: no reason given"

    def test_of_a_redirect_name_the_option_to_look_at(self) -> None:
        assert "--cohere.base-url" in str(failure(302, location="https://elsewhere.invalid/"))

    def test_are_one_short_line_that_any_stream_can_carry(self) -> None:
        text = said("first\r\nsecond\u2028third \ud800 " + "x" * 5000)
        assert text.splitlines() == [text]
        assert text.startswith("HTTP 400: first second third ")
        assert len(text) < 400
        assert text.encode()

    @given(json_values)
    def test_can_be_made_of_any_answer(self, value: object) -> None:
        assert str(failure(500, encode(value), "application/json"))
        assert str(failure(500, encode({"message": value}), "application/json"))

    @given(st.binary(), st.sampled_from(["text/plain", "application/json", ""]))
    def test_can_be_made_of_any_bytes(self, body: bytes, content_type: str) -> None:
        assert str(failure(500, body, content_type))

    def test_can_be_made_of_deep_nesting(self) -> None:
        assert str(failure(500, b"[" * 60_000, "application/json")) == "HTTP 500: Internal Server Error"


class TestSecrets:
    @pytest.mark.parametrize("content_type", ["text/plain", "text/html", "application/json", ""])
    @pytest.mark.parametrize(
        "body",
        [
            f'{{"message": "invalid token: Bearer {KEY}, {KEY}!"}}',
            f'{{"id": "{KEY}"}}',
            f"<html>Authorization: Bearer {KEY}</html>",
            f"bad key {KEY}",
        ],
    )
    def test_an_echoed_key_is_never_shown(self, body: str, content_type: str) -> None:
        assert KEY not in "".join(traceback.format_exception(failure(401, body.encode(), content_type)))

    @pytest.mark.parametrize("before", range(270, 310, 5))
    def test_a_key_at_the_place_of_the_cut_is_not_shown_in_part(self, before: int) -> None:
        assert KEY[:4] not in said("x" * before + KEY + " is not valid", 401)

    @pytest.mark.parametrize("content_type", ["text/plain", "text/html", "application/json", ""])
    def test_a_list_of_models_in_a_failure_is_never_quoted(self, content_type: str) -> None:
        item = {"id": "m", "settings": {"wandb": {"project": "p", "api_key": WANDB}}}
        assert WANDB not in str(failure(500, encode({"finetuned_models": [item]}), content_type))

    def test_a_blank_key_redacts_nothing(self) -> None:
        response = httpx.Response(401)
        assert str(error_of(response, b'{"message": "no key"}', secret="", now=NOW)) == "HTTP 401: no key"


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            ("0", 0.0),
            ("7", 7.0),
            (" 120 ", 120.0),
            (formatdate(NOW + 90, usegmt=True), 90.0),
            ("Tue, 14 Nov 2023 22:13:30 +0000", 10.0),
            (formatdate(NOW - 90, usegmt=True), 0.0),
            ("Tue, 14 Nov 2023 22:13:30 -0000", 10.0),
            ("", None),
            ("soon", None),
            ("-5", None),
            ("1.5", None),
            ("٣", None),
            ("Wed, 32 Jan 2024 00:00:00 GMT", None),
        ],
    )
    def test_is_read_as_seconds_or_as_a_date(self, value: str, seconds: float | None) -> None:
        headers = httpx.Headers({b"retry-after": value.encode()})
        error = error_of(httpx.Response(429, headers=headers), b"", secret="", now=NOW)
        assert error.retry_after == seconds

    def test_is_none_when_absent(self) -> None:
        assert failure(429).retry_after is None

    @pytest.mark.parametrize(
        ("values", "seconds"),
        [
            (["5", "10"], 10.0),
            (["10", "5"], 10.0),
            (["soon", "5"], 5.0),
            ([formatdate(NOW + 90, usegmt=True), "5"], 90.0),
            (["soon", "-1"], None),
        ],
    )
    def test_the_longest_of_several_counts(self, values: list[str], seconds: float | None) -> None:
        headers = httpx.Headers([("retry-after", value) for value in values])
        error = error_of(httpx.Response(429, headers=headers), b"", secret="", now=NOW)
        assert error.retry_after == seconds

    @given(
        st.text()
        | st.from_regex(r"[A-Z][a-z]{2}, [0-9]+ [A-Z][a-z]{2} [0-9]+ [0-9]+:[0-9]+:[0-9]+ ([+-][0-9]+|GMT)")
    )
    def test_never_fails_and_never_goes_back(self, value: str) -> None:
        headers = httpx.Headers({b"retry-after": value.encode(errors="replace")})
        seconds = error_of(httpx.Response(503, headers=headers), b"", secret="", now=NOW).retry_after
        assert seconds is None or (seconds >= 0 and not math.isnan(seconds))
