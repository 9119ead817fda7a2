"""What comes before every view: rate limit, logins, headers."""

import httpx
import pytest

from exporter.web.auth import BasicAuth, TooManyLogins
from exporter.web.limits import TokenBucket
from exporter.web.messages import Request, Response
from exporter.web.policy import RequestPolicy, enforce
from tests.certificates import HASH, PASSWORD
from tests.conftest import FakeClock
from tests.served import client_of

pytestmark = pytest.mark.anyio

AUTH = ("alice", PASSWORD)


def page(request: Request) -> Response:
    return Response(200, {"X-Frame-Options": "DENY", "Vary": "Accept"}, (b"the page",))


async def get(policy: RequestPolicy, path: str = "/", auth: tuple[str, str] | None = None) -> httpx.Response:
    async with client_of(enforce(page, lambda: policy)) as client:
        return await client.get(path, auth=auth)


async def test_no_policy_changes_nothing() -> None:
    answer = await get(RequestPolicy())
    assert (answer.status_code, answer.text, answer.headers["X-Frame-Options"]) == (200, "the page", "DENY")


@pytest.mark.parametrize("path", ["/", "/metrics", "/-/healthy", "/-/ready", "/nothing"])
async def test_every_path_wants_a_login(path: str) -> None:
    policy = RequestPolicy(auth=BasicAuth({"alice": HASH}))
    refused = await get(policy, path)
    assert (refused.status_code, refused.text) == (401, "Unauthorized\n")
    assert refused.headers["WWW-Authenticate"] == "Basic"
    assert (await get(policy, path, AUTH)).text == "the page"
    assert (await get(policy, path, ("alice", "wrong"))).status_code == 401


async def test_headers_are_on_every_answer_and_win_over_the_page_s_own(clock: FakeClock) -> None:
    policy = RequestPolicy(
        auth=BasicAuth({"alice": HASH}),
        limit=TokenBucket(60, 2, clock.monotonic),
        headers={"X-Frame-Options": "sameorigin", "X-XSS-Protection": "1"},
    )
    answers = [await get(policy, auth=AUTH), await get(policy), await get(policy, auth=AUTH)]
    assert [answer.status_code for answer in answers] == [200, 401, 429]
    for answer in answers:
        assert answer.headers.get_list("X-Frame-Options") == ["sameorigin"]
        assert answer.headers["X-XSS-Protection"] == "1"
    assert answers[0].headers["Vary"] == "Accept"


@pytest.mark.parametrize("login", [False, True])
async def test_a_page_that_has_to_be_awaited_is_treated_alike(login: bool) -> None:
    async def later(request: Request) -> Response:
        return page(request)

    policy = RequestPolicy(
        auth=BasicAuth({"alice": HASH}) if login else None, headers={"X-Frame-Options": "x"}
    )
    async with client_of(enforce(later, lambda: policy)) as client:
        for _ in range(2):  # the second login is remembered
            answer = await client.get("/metrics/steps", auth=AUTH if login else None)
            assert (answer.text, answer.headers["X-Frame-Options"]) == ("the page", "x")


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
    class Busy(BasicAuth):
        async def admit(self, authorization: str) -> bool:
            raise TooManyLogins

    answer = await get(RequestPolicy(auth=Busy({"alice": HASH})), auth=AUTH)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
