"""One request against an API that drips, breaks, refuses, echoes and floods.

Only the network is simulated, and where its bytes matter it is a real one on the loopback device.
"""

import asyncio
import gzip
import ssl
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from unittest.mock import patch

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from exporter.cohere.transport import (
    ATTEMPTS,
    BODY_LIMIT,
    ERROR_BODY_LIMIT,
    LONGEST_RETRY_WAIT,
    Endpoint,
    Transport,
)
from exporter.errors import (
    ApiError,
    ConnectionFailed,
    Gone,
    InvalidResponse,
    QuotaSpent,
    RateLimited,
    Timeout,
)
from tests.clients import arriving, open_client
from tests.conftest import FakeClock, HastyClock, settle
from tests.schedules import allowance_of

MINUTE = 60.0
KEY = "co-key-41f09b7d2c55ea8830"
MODELS = Endpoint.LIST_FINETUNED_MODELS
STEPS = Endpoint.LIST_TRAINING_STEP_METRICS
Handler = Callable[[httpx.Request], httpx.Response | Awaitable[httpx.Response]]


class RecordingObserver:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.durations: list[float] = []
        self.retries: list[str] = []
        self.waited = 0.0
        self.rejections: list[str] = []

    def request(self, endpoint: Endpoint, code: str, seconds: float) -> None:
        self.requests.append((endpoint.value, code))
        self.durations.append(seconds)

    def retry(self, endpoint: Endpoint) -> None:
        self.retries.append(endpoint.value)

    def throttled(self, seconds: float) -> None:
        self.waited += seconds

    def rejected(self, kind: str) -> None:
        self.rejections.append(kind)

    @property
    def codes(self) -> list[str]:
        return [code for _, code in self.requests]


class Drip(httpx.AsyncByteStream):
    """A body of which a little arrives all the time and which never ends."""

    def __init__(self) -> None:
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.001)

    async def aclose(self) -> None:
        self.closed = True


def reply(status: int = 200, body: bytes = b"{}", **headers: str) -> httpx.Response:
    """Answer with a streamed body; `_` stands for `-` in the names of headers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, headers=named, content=arriving([body]))


async def silence(request: httpx.Request) -> httpx.Response:
    """Never answer."""
    await asyncio.Event().wait()
    return reply()


def script(*answers: httpx.Response | Exception) -> Handler:
    """Return these answers one after the other, and none after the last."""
    left = iter(answers)

    def handle(request: httpx.Request) -> httpx.Response:
        answer = next(left, None)
        assert answer is not None, "one request too many"
        if isinstance(answer, Exception):
            raise answer
        return answer

    return handle


@dataclass
class Api:
    """A transport on a simulated network, and what was seen on both its sides."""

    transport: Transport
    observer: RecordingObserver
    requests: list[httpx.Request] = field(default_factory=list)

    async def get(self, endpoint: Endpoint = MODELS, path: str = "/v1/x", **query: str) -> bytes:
        return (await self.transport.get(endpoint, path, query)).body

    async def fail(self, endpoint: Endpoint = MODELS) -> ApiError:
        with pytest.raises(ApiError) as caught:
            await self.get(endpoint)
        return caught.value


@asynccontextmanager
async def an_api(
    handler: Handler,
    *,
    base_url: str = "https://api.invalid",
    key: Callable[[], str] = lambda: "",
    timeout: float = 10.0,  # noqa: ASYNC109 - the setting under test
    concurrency: int = 8,
    limit: int = 1_000_000,
    budget: int = 0,
    clock: FakeClock | None = None,
) -> AsyncIterator[Api]:
    """Open the real client on a network that is only `handler`; no wait takes time but on a given clock."""
    requests: list[httpx.Request] = []
    observer = RecordingObserver()
    clock = clock or HastyClock()

    async def seen(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        response = handler(request)
        return response if isinstance(response, httpx.Response) else await response

    with patch("httpx.AsyncHTTPTransport", lambda **_: httpx.MockTransport(seen)):
        http = open_client(base_url, client_name="fleet-monitor", connections=concurrency)
    async with http:
        transport = Transport(
            http,
            key=key,
            timeout=timeout,
            allowance=allowance_of(clock, requests_per_minute=limit, concurrency=concurrency, calls=budget),
            observer=observer,
            clock=clock,
        )
        yield Api(transport, observer, requests)


@pytest.mark.anyio
class TestARequest:
    async def test_says_who_asks_and_what_is_understood(self) -> None:
        async with an_api(script(reply(body=b'{"a": 1}')), key=lambda: KEY) as api:
            assert await api.get(page_token="a b&c=é/+%") == b'{"a": 1}'
        (request,) = api.requests
        assert request.method == "GET"
        assert request.headers["authorization"] == f"Bearer {KEY}"
        assert request.headers["x-client-name"] == "fleet-monitor"
        assert request.headers["user-agent"] == "x/1"
        assert request.headers["accept"] == "application/json"
        assert request.headers["accept-encoding"] == "gzip"
        assert dict(request.url.params) == {"page_token": "a b&c=é/+%"}

    async def test_has_no_authorization_when_the_key_is_blank(self) -> None:
        async with an_api(script(reply()), key=lambda: "") as api:
            await api.get()
        assert "authorization" not in api.requests[0].headers

    async def test_reads_the_key_anew_also_when_it_is_a_retry(self) -> None:
        keys = iter(["first", "second", ""])
        async with an_api(script(reply(500), reply(), reply()), key=lambda: next(keys)) as api:
            await api.get()
            await api.get()
        sent = [request.headers.get("authorization") for request in api.requests]
        assert sent == ["Bearer first", "Bearer second", None]

    @pytest.mark.parametrize("base_url", ["https://gw.invalid:8443/a/b", "https://gw.invalid:8443/a/b/"])
    async def test_goes_below_the_path_of_the_base_url(self, base_url: str) -> None:
        async with an_api(script(reply()), base_url=base_url) as api:
            await api.get(path="/v1/x%2Fy/%2E%2E/z")
        assert str(api.requests[0].url) == "https://gw.invalid:8443/a/b/v1/x%2Fy/%2E%2E/z"

    async def test_follows_no_redirect(self) -> None:
        for status in (301, 302, 303, 307, 308):
            async with an_api(
                script(reply(status, location="https://evil.invalid/")), key=lambda: KEY
            ) as api:
                error = await api.fail()
            assert (type(error), error.status, len(api.requests)) == (InvalidResponse, status, 1)

    @pytest.mark.parametrize(
        "nowhere", ["mailto:a@b", "x:y", "http://xn--/", "http://[", "http://h:port/", "/\x7f", "/" * 70_000]
    )
    async def test_takes_a_redirect_to_nowhere_for_a_redirect(self, nowhere: str) -> None:
        async with an_api(script(reply(302, location=nowhere))) as api:
            error = await api.fail()
        assert (type(error), error.status, len(api.requests)) == (InvalidResponse, 302, 1)
        assert api.observer.codes == ["302"]

    async def test_keeps_no_cookie(self) -> None:
        async with an_api(script(reply(set_cookie="session=1; Path=/"), reply())) as api:
            await api.get()
            await api.get()
        assert "cookie" not in api.requests[1].headers

    @pytest.mark.parametrize("status", [200, 203])
    async def test_may_be_answered_in_gzip(self, status: int) -> None:
        body = gzip.compress(b'{"a": 1}')
        async with an_api(script(reply(status, body, content_encoding="gzip"))) as api:
            assert await api.get() == b'{"a": 1}'
        assert api.observer.requests == [("list_finetuned_models", str(status))]

    @pytest.mark.parametrize("status", [204, 205, 206])
    async def test_takes_no_empty_or_partial_response_for_the_whole(self, status: int) -> None:
        async with an_api(script(reply(status))) as api:
            error = await api.fail()
        assert (type(error), len(api.requests)) == (InvalidResponse, 1)
        assert str(error) == f"HTTP {status}: an empty or partial response instead of a complete one"


@pytest.mark.anyio
class TestTheDeadline:
    async def test_ends_a_body_that_drips(self) -> None:
        bodies = [Drip() for _ in range(ATTEMPTS)]
        answers = [httpx.Response(200, stream=body) for body in bodies]
        async with asyncio.timeout(60), an_api(script(*answers), timeout=0.02) as api:
            error = await api.fail()
        assert type(error) is Timeout
        assert api.observer.codes == ["200"] * ATTEMPTS
        assert all(body.closed for body in bodies)

    async def test_ends_the_body_of_a_refusal_which_stays_a_refusal(self) -> None:
        answers = [httpx.Response(404, stream=Drip()) for _ in range(ATTEMPTS)]
        async with asyncio.timeout(60), an_api(script(*answers), timeout=0.02) as api:
            error = await api.fail()
        assert (type(error), error.status, len(api.requests)) == (Gone, 404, 1)

    async def test_does_not_count_the_wait_for_the_limiter(self) -> None:
        clock = FakeClock()
        async with an_api(script(reply(), reply()), timeout=0.5, limit=1, clock=clock) as api:
            await api.get()
            waiting = asyncio.create_task(api.get())
            await settle()
            await asyncio.sleep(0.6)  # a real time longer than the deadline is what is tested
            await clock.advance(MINUTE)
            assert await waiting == b"{}"

    async def test_leaves_the_cancelling_of_a_poll_alone(self) -> None:
        async with an_api(silence) as api:
            task = asyncio.create_task(api.get())
            await settle()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert len(api.requests) == 1


@pytest.mark.anyio
class TestSize:
    @pytest.mark.parametrize("endpoint", Endpoint)
    async def test_an_answer_has_a_largest_size(self, endpoint: Endpoint) -> None:
        pieces = [bytes(1 << 20)] * ((BODY_LIMIT[endpoint] >> 20) + 1)
        async with an_api(script(httpx.Response(200, content=arriving(pieces)))) as api:
            error = await api.fail(endpoint)
        assert (type(error), len(api.requests)) == (InvalidResponse, 1)

    async def test_a_refusal_with_a_huge_body_is_still_that_refusal(self) -> None:
        body = b'{"message": "' + b"x" * ERROR_BODY_LIMIT + b'"}'
        async with an_api(script(reply(401, body))) as api:
            error = await api.fail()
        assert (error.reason, str(error)) == ("unauthorized", "HTTP 401: Unauthorized")

    async def test_a_refusal_whose_body_breaks_is_still_that_refusal(self) -> None:
        broken = httpx.Response(403, content=arriving([b"{"], then=httpx.ReadError("reset")))
        async with an_api(script(broken)) as api:
            assert (await api.fail()).reason == "forbidden"


@pytest.mark.anyio
class TestRetries:
    @pytest.mark.parametrize("status", [408, 409, 429, 500, 501, 502, 503, 504, 529])
    async def test_what_may_pass_is_asked_again_until_it_has(self, status: int) -> None:
        async with an_api(script(reply(status), reply(status), reply())) as api:
            assert await api.get(STEPS) == b"{}"
        endpoint = "list_training_step_metrics"
        assert api.observer.requests == [(endpoint, str(status))] * 2 + [(endpoint, "200")]
        assert api.observer.retries == [endpoint] * 2

    @pytest.mark.parametrize("status", [302, 400, 401, 402, 403, 404, 410, 422, 498, 499])
    async def test_what_will_not_pass_is_not_asked_again(self, status: int) -> None:
        async with an_api(script(reply(status))) as api:
            assert (await api.fail()).status == status
        assert (api.observer.codes, api.observer.retries) == ([str(status)], [])

    @pytest.mark.parametrize(
        "broken",
        [
            httpx.ConnectError("All connection attempts failed"),
            httpx.ConnectTimeout("slow"),
            httpx.ReadError(""),
            httpx.WriteError("broken pipe"),
            httpx.RemoteProtocolError("Server disconnected without sending a response."),
            httpx.ProxyError("502 Bad Gateway"),
            httpx.PoolTimeout("full"),
            ssl.SSLError(1, "decryption failed or bad record mac"),
            ConnectionResetError(104, "Connection reset by peer"),
        ],
        ids=lambda error: type(error).__name__,
    )
    async def test_a_broken_connection_is_tried_again(self, broken: Exception) -> None:
        async with an_api(script(broken, broken, broken), base_url="https://gw.invalid/pre") as api:
            error = await api.fail()
        assert (type(error), error.status) == (ConnectionFailed, None)
        assert "gw.invalid:443" in str(error)
        assert api.observer.codes == ["error"] * 3

    async def test_a_body_that_breaks_off_is_tried_again(self) -> None:
        broken = httpx.Response(200, content=arriving([b'{"a'], then=httpx.ReadError("reset")))
        async with an_api(script(broken, reply())) as api:
            assert await api.get() == b"{}"
        assert api.observer.codes == ["200", "200"]

    async def test_the_pauses_grow_from_nothing_to_twice_as_long(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for share, expected in ((0.0, [0.0, 0.0]), (1.0, [0.5, 1.0])):
            # Full jitter: anything from nothing to a ceiling that doubles.
            monkeypatch.setattr("random.uniform", lambda low, high, share=share: low + (high - low) * share)
            clock = HastyClock()
            async with an_api(script(reply(500), reply(500), reply(500)), clock=clock) as api:
                await api.fail()
            assert clock.slept == expected


@pytest.mark.anyio
class TestRetryAfter:
    @pytest.mark.parametrize("dated", [False, True])
    @pytest.mark.parametrize("status", [429, 503])
    async def test_is_waited_for(self, dated: bool, status: int) -> None:
        clock = HastyClock()
        start = clock.monotonic()
        value = formatdate(clock.time() + 20, usegmt=True) if dated else "20"
        async with an_api(script(reply(status, retry_after=value), reply()), clock=clock) as api:
            await api.get()
        assert clock.monotonic() - start == pytest.approx(20.0)
        assert 19.0 <= api.observer.waited <= 20.0

    async def test_beyond_what_can_be_held_is_handed_on_at_once(self) -> None:
        clock = HastyClock()
        async with an_api(script(reply(429, retry_after="3600"), reply()), clock=clock) as api:
            error = await api.fail()
            assert (type(error), error.retry_after) == (RateLimited, 3600.0)
            assert clock.slept == []
            await api.get(STEPS)
        assert LONGEST_RETRY_WAIT < 3600.0
        assert clock.slept == [3600.0]


class TestLimits:
    @settings(max_examples=20, deadline=None)
    @given(
        st.integers(1, 4),
        st.integers(1, 4),
        st.lists(st.sampled_from([200, 200, 404, 429, 500]), min_size=1, max_size=24),
    )
    def test_no_minute_sees_more_requests_than_the_limit(
        self, limit: int, concurrency: int, statuses: list[int]
    ) -> None:
        """Retries and both endpoints included, and never more under way than `concurrency`."""

        async def traffic() -> list[float]:
            clock, at, left, most = FakeClock(), list[float](), iter(statuses), 0
            busy = 0

            async def handle(request: httpx.Request) -> httpx.Response:
                nonlocal busy, most
                at.append(clock.monotonic())
                busy += 1
                most = max(most, busy)
                await clock.sleep(3.0)
                busy -= 1
                return reply(next(left, 200))

            async with an_api(handle, limit=limit, concurrency=concurrency, clock=clock) as api:
                gets = [api.get(endpoint) for endpoint in [*Endpoint] * 3]
                polls = asyncio.gather(*gets, return_exceptions=True)
                await clock.advance(20 * MINUTE)
                assert all(isinstance(got, bytes | ApiError) for got in await polls)
            assert most <= concurrency
            assert len(at) == len(api.observer.requests) == 6 + len(api.observer.retries)
            return at

        times = asyncio.run(traffic())
        for first, beyond in zip(times, times[limit:], strict=False):
            assert beyond - first >= MINUTE

    @pytest.mark.anyio
    async def test_the_duration_is_that_of_the_request_alone(self) -> None:
        clock = HastyClock()

        async def slow(request: httpx.Request) -> httpx.Response:
            await clock.sleep(2.5)
            return reply()

        async with an_api(slow, limit=1, clock=clock) as api:
            await api.get()
            await api.get()
        assert api.observer.durations == [2.5, 2.5]

    @pytest.mark.anyio
    async def test_a_spent_budget_sends_nothing_and_counts_retries_as_calls(self) -> None:
        async with an_api(script(reply(500), *(reply() for _ in range(7))), budget=8) as api:
            for _ in range(7):
                await api.get()
            for _ in range(2):
                assert type(await api.fail()) is QuotaSpent
        assert len(api.requests) == len(api.observer.requests) == 8

    @pytest.mark.anyio
    async def test_a_budget_without_a_spare_call_leaves_a_failure_as_it_is(self) -> None:
        async with an_api(script(reply(500)), budget=1) as api:
            assert (await api.fail()).status == 500
        assert api.observer.retries == []

    @pytest.mark.anyio
    async def test_step_metrics_never_take_what_is_kept_for_the_list(self) -> None:
        async with an_api(script(*(reply() for _ in range(10))), budget=10) as api:
            for _ in range(3):
                await api.get(STEPS)
            assert type(await api.fail(STEPS)) is QuotaSpent
            for _ in range(7):
                await api.get()


@pytest.mark.anyio
class TestSecrets:
    @pytest.mark.parametrize(
        "answer",
        [
            lambda: reply(401, b'{"message": "invalid token Bearer %s"}' % KEY.encode()),
            lambda: reply(403, b"<html>%s</html>" % KEY.encode(), content_type="text/html"),
            lambda: reply(400, b"bad header %s" % KEY.encode(), content_type="text/plain"),
            lambda: reply(302, location=f"https://elsewhere.invalid/?key={KEY}"),
            lambda: httpx.LocalProtocolError(f"Illegal header value b'Bearer {KEY}'"),
            lambda: httpx.ProxyError(f"407 you sent {KEY}"),
        ],
    )
    async def test_the_key_is_in_no_error(self, answer: Callable[[], httpx.Response | Exception]) -> None:
        async with an_api(script(*(answer() for _ in range(ATTEMPTS))), key=lambda: KEY) as api:
            error = await api.fail()
        assert KEY not in "".join(traceback.format_exception(error)) + repr(error)


@asynccontextmanager
async def a_server(answer: bytes) -> AsyncIterator[str]:
    """Serve `answer` to each connection on the loopback device, then close it; return the base URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def a_real_client(base_url: str, key: str = "") -> AsyncIterator[Api]:
    """Open the client on the real network."""
    clock, observer = HastyClock(), RecordingObserver()
    async with open_client(base_url) as http:
        transport = Transport(
            http,
            key=lambda: key,
            timeout=60.0,
            allowance=allowance_of(clock, requests_per_minute=100, concurrency=1),
            observer=observer,
            clock=clock,
        )
        yield Api(transport, observer)


@pytest.mark.anyio
class TestARealConnection:
    @pytest.mark.parametrize(
        ("echo", "kind"),
        [
            (b"HTTP/1.1 200 OK\r\nBearer %s\r\n\r\n", InvalidResponse),
            (b"HTTP/1.1 200 OK\r\n%s : x\r\n\r\n", InvalidResponse),
            (b"Bearer %s\r\n\r\n", ConnectionFailed),
        ],
    )
    async def test_that_echoes_the_key_where_no_text_belongs_does_not_get_it_shown(
        self, echo: bytes, kind: type[ApiError]
    ) -> None:
        async with a_server(echo % KEY.encode()) as url, a_real_client(url, KEY) as api:
            error = await api.fail()
        assert type(error) is kind
        assert KEY not in "".join(traceback.format_exception(error))

    async def test_that_talks_at_length_is_not_quoted_at_length(self) -> None:
        async with a_server(b"x" * 20_000 + b"\r\n\r\n") as url, a_real_client(url) as api:
            error = await api.fail()
        assert type(error) is ConnectionFailed
        assert len(str(error)) < 500


@pytest.mark.anyio
class TestTheFirstRequest:
    async def test_that_fails_is_logged_before_the_retries_have_failed_too(self) -> None:
        answers = script(reply(503), reply(), reply(503), reply())
        async with an_api(answers) as api:
            with capture_logs() as lines:
                await api.get()
                await api.get()
        told = [line for line in lines if line["log_level"] == "warning"]
        assert [(line["event"], line["reason"]) for line in told] == [
            ("first API request failed; retrying", "server_error")
        ]

    async def test_that_is_answered_leaves_later_retries_to_the_counters(self) -> None:
        async with an_api(script(reply(), reply(503), reply())) as api:
            with capture_logs() as lines:
                await api.get()
                await api.get()
        assert not [line for line in lines if line["log_level"] == "warning"]
