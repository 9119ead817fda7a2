"""Bytes → requests: what a connection remembers of the last one, and what it must not."""

import gc

import pytest

from exporter.web.messages import Request, RequestParser

HEAD = b"GET /metrics HTTP/1.1\r\nHost: x\r\n%b\r\n"
SCRAPE = HEAD % b"Accept: text/plain\r\n"
LOGIN = HEAD % b"Authorization: Basic YTpi\r\n"


def paths(parser: RequestParser, *pieces: bytes) -> list[list[str]]:
    return [[item.path for item in parser.feed(piece) if isinstance(item, Request)] for piece in pieces]


def test_the_same_bytes_are_the_same_request_without_being_parsed() -> None:
    parser = RequestParser(4096)
    assert parser.feed(SCRAPE) is parser.feed(SCRAPE)
    assert paths(parser, SCRAPE.replace(b"/metrics", b"/other"), SCRAPE) == [["/other"], ["/metrics"]]


def test_the_same_bytes_within_a_head_are_a_part_of_it() -> None:
    parser = RequestParser(4096)
    assert paths(parser, SCRAPE, b"GET / HTTP/1.1\r\nX: ", SCRAPE) == [["/metrics"], [], ["/"]]


def test_the_end_of_a_head_is_none() -> None:
    parser = RequestParser(4096)
    for _ in range(2):
        assert paths(parser, SCRAPE[:-2], b"\r\n", b"\r\n") == [[], ["/metrics"], []]


def test_several_requests_at_once_are_several_each_time() -> None:
    parser = RequestParser(4096)
    assert paths(parser, SCRAPE * 2, SCRAPE * 2) == [["/metrics"] * 2] * 2


def test_a_head_with_a_password_is_not_remembered() -> None:
    parser = RequestParser(4096)
    assert paths(parser, LOGIN, LOGIN) == [["/metrics"]] * 2
    (first,), (again,) = parser.feed(LOGIN), parser.feed(LOGIN)
    assert first is not again
    (first,), (again,) = parser.feed(SCRAPE), parser.feed(SCRAPE)
    assert first is again


@pytest.mark.parametrize("piece", [1, 100, 4096, 1 << 20])
@pytest.mark.parametrize(("spare", "served"), [(100, True), (-100, False)])
def test_how_large_a_head_may_be_does_not_depend_on_how_it_arrives(
    piece: int, spare: int, served: bool
) -> None:
    limit = 16 * 1024
    head = HEAD % (b"X: " + b"x" * (limit - spare - len(HEAD)) + b"\r\n")
    parser = RequestParser(limit)
    pieces = [head[start : start + piece] for start in range(0, len(head), piece)]
    found = [item for one in pieces for item in parser.feed(one)]
    assert [item.path if isinstance(item, Request) else item.status for item in found] == [
        "/metrics" if served else 431
    ]


def test_a_password_is_kept_no_longer_than_its_request() -> None:
    parser = RequestParser(4096)
    parser.feed(b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Basic secret\r\n\r\n")
    seen = set[int]()
    queue: list[object] = [vars(parser)]
    while queue:
        one = queue.pop()
        assert one != b"Basic secret"
        if id(one) not in seen and isinstance(one, dict | list | tuple | Request):
            seen.add(id(one))
            queue += gc.get_referents(one)
