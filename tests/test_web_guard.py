"""What stands before every page: rate limit, logins, headers."""

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

from exporter.web.auth import Logins
from exporter.web.guard import Rules, TokenBucket, guarded
from tests.certificates import HASH, PASSWORD
from tests.conftest import FakeClock

pytestmark = pytest.mark.anyio

PAGE: ASGIApp = PlainTextResponse("the page", headers={"X-Frame-Options": "DENY", "Vary": "Accept"})
AUTH = ("alice", PASSWORD)


async def get(rules: Rules, path: str = "/", auth: tuple[str, str] | None = None) -> httpx.Response:
    transport = httpx.ASGITransport(guarded(PAGE, lambda: rules))
    async with httpx.AsyncClient(transport=transport, base_url="http://exporter") as client:
        return await client.get(path, auth=auth)


async def test_no_rules_change_nothing() -> None:
    answer = await get(Rules())
    assert (answer.status_code, answer.text, answer.headers["X-Frame-Options"]) == (200, "the page", "DENY")


@pytest.mark.parametrize("path", ["/", "/metrics", "/-/healthy", "/-/ready", "/nothing"])
async def test_every_path_wants_a_login(path: str) -> None:
    rules = Rules(logins=Logins({"alice": HASH}))
    refused = await get(rules, path)
    assert (refused.status_code, refused.text) == (401, "Unauthorized\n")
    assert refused.headers["WWW-Authenticate"] == "Basic"
    assert (await get(rules, path, AUTH)).text == "the page"
    assert (await get(rules, path, ("alice", "wrong"))).status_code == 401


async def test_headers_are_on_every_answer_and_win_over_the_page_s_own(clock: FakeClock) -> None:
    rules = Rules(
        logins=Logins({"alice": HASH}),
        limit=TokenBucket(60, 2, clock.monotonic),
        headers={"X-Frame-Options": "sameorigin", "X-XSS-Protection": "1"},
    )
    answers = [await get(rules, auth=AUTH), await get(rules), await get(rules, auth=AUTH)]
    assert [answer.status_code for answer in answers] == [200, 401, 429]
    for answer in answers:
        assert answer.headers.get_list("X-Frame-Options") == ["sameorigin"]
        assert answer.headers["X-XSS-Protection"] == "1"
    assert answers[0].headers["Vary"] == "Accept"


async def test_a_burst_passes_and_then_one_each_interval(clock: FakeClock) -> None:
    bucket = TokenBucket(2.0, 3, clock.monotonic)
    assert [bucket.take() for _ in range(5)] == [True, True, True, False, False]
    await clock.advance(1.9)
    assert not bucket.take()
    await clock.advance(0.1)
    assert [bucket.take() for _ in range(2)] == [True, False]
    await clock.advance(1_000)
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]


async def test_when_too_many_want_to_log_in_the_next_is_told_to_come_again() -> None:
    logins = Logins({"alice": HASH})
    logins._waiting["somebody"] = 64
    answer = await get(Rules(logins=logins), auth=AUTH)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
