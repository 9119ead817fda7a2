"""The table of failures: what the API does, under which reason a poll fails, and what people are told.

On the list and on its later pages a row costs the whole poll, on step metrics the readings; both are counted
under the same reason and told in the same words. `{api}` stands for the API's host and port, `{timeout}` for
the deadline of a request, `{size}` for the largest answer.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from tests.hostile import faults
from tests.hostile.server import Fault

LOST = "lost the connection to {api}: "
SILENT = LOST + "it closed the connection without a response"
CUT = LOST + "it closed the connection within the response"
INVALID = "the response is not valid HTTP: "
SLOW = "no complete response within {timeout}"
SLOW_HEAD, SLOW_BODY = SLOW + " while waiting for the response", SLOW + " while reading the response"
LARGE = "the response is larger than {size}"
HTML = b"<html><head><title>403 Forbidden</title></head><body>Not from your region</body></html>"


@dataclass(frozen=True)
class Mode:
    """One way to fail; `fault` None refuses connections, `traced` tells whether a whole head arrives."""

    name: str
    reason: str
    says: str
    fault: Fault | None
    traced: bool


def _rows(reason: str, *rows: tuple[str, str, Fault | None], traced: bool = True) -> Iterable[Mode]:
    return (Mode(name, reason, says, fault, traced) for name, says, fault in rows)


def _answers(status: int, message: str | None, **headers: str) -> Fault:
    body = HTML if message is None else {"message": message}
    return faults.says(status, body, **headers)


MODES: tuple[Mode, ...] = (
    *_rows(
        "connection",
        ("refuses connections", "cannot connect to {api}: Connection refused", None),
        ("closes before the head", SILENT, faults.closes_before_the_head),
        ("resets before the head", LOST + "Connection reset by peer", faults.resets_before_the_head),
        ("closes within the head", SILENT, faults.closes_within_the_head),
        ("speaks another protocol", SILENT, faults.speaks_another_protocol),
        traced=False,
    ),
    *_rows(
        "connection",
        ("resets within the body", LOST + "Connection reset by peer", faults.resets_within_the_body),
        ("closes within the body", CUT, faults.closes_within_the_body),
        ("closes within a chunk", CUT, faults.closes_within_a_chunk),
    ),
    *_rows(
        "timeout",
        ("never answers", SLOW_HEAD, faults.never_answers),
        ("sends the head in drips", SLOW_HEAD, faults.drips_the_head),
        ("sends `100 Continue` without end", SLOW_HEAD, faults.sends_endless_interim_answers),
        traced=False,
    ),
    *_rows(
        "timeout",
        ("sends the body in drips", SLOW_BODY, faults.drips_the_body),
        ("answers 408", "HTTP 408: took too long", _answers(408, "took too long")),
    ),
    *_rows(
        "invalid_response",
        ("sends headers without end", INVALID + "a head larger than 100 KiB", faults.sends_endless_headers),
        (
            "answers 101, which was not requested",
            INVALID + "a change of protocol that was not asked for",
            faults.switches_protocols,
        ),
        ("announces two lengths", INVALID + "several values of Content-Length", faults.lengths("7", "8")),
        ("announces a negative length", INVALID + "a Content-Length that is no number", faults.lengths("-1")),
        traced=False,
    ),
    *_rows(
        "invalid_response",
        ("sends a chunk of no size", INVALID + "a chunk without its size", faults.sends_a_bad_chunk_size),
        ("sends a body without end", LARGE, faults.sends_an_endless_body),
        ("sends 2 MB that inflate to 2 GB", LARGE, faults.bomb(2)),
        ("cuts a gzip stream", "the response's gzip stream is not complete", faults.encoded("gzip", cut=8)),
        (
            "labels as gzip what is not",
            "the response is not valid gzip",
            faults.encoded("gzip", b"{}"),
        ),
        (
            "goes on after a gzip stream",
            "the response goes on after the end of its gzip stream",
            faults.encoded("gzip", more=b"{}" * 50_000),
        ),
        (
            "uses an encoding that was not requested",
            "the response has a content encoding that was not asked for",
            faults.encoded("br"),
        ),
        (
            "answers 204",
            "HTTP 204: an empty or partial response instead of a complete one",
            faults.says(204, b""),
        ),
        ("answers 400", "HTTP 400: invalid id", _answers(400, "invalid id")),
        ("answers 498", "HTTP 498: blocked output", _answers(498, "blocked output")),
        (
            "redirects to another host",
            "HTTP 302: a redirect, which is not followed; give the final address as --cohere.base-url",
            faults.says(302, b"", Location="http://192.0.2.1/"),
        ),
    ),
    *_rows(
        "unauthorized",
        ("answers 401", "HTTP 401: invalid api token", _answers(401, "invalid api token")),
    ),
    *_rows(
        "payment_required",
        ("answers 402", "HTTP 402: please pay", _answers(402, "please pay")),
    ),
    *_rows(
        "forbidden",
        (
            "answers 403 with a page of HTML",
            "HTTP 403: Forbidden",
            _answers(403, None, Content_Type="text/html"),
        ),
    ),
    *_rows(
        "gone",
        ("answers 404", "HTTP 404: not found", _answers(404, "not found")),
        ("answers 410", "HTTP 410: was removed", _answers(410, "was removed")),
    ),
    *_rows(
        "rate_limited",
        ("answers 429", "HTTP 429: slow down", _answers(429, "slow down")),
        (
            "answers 429 for the month",
            "HTTP 429: limited to 1000 API calls / month",
            _answers(429, "limited to 1000 API calls / month"),
        ),
    ),
    *_rows(
        "server_error",
        ("answers 500", "HTTP 500: internal error", _answers(500, "internal error")),
        (
            "answers 502 with a page of HTML",
            "HTTP 502: Bad Gateway",
            _answers(502, None, Content_Type="text/html"),
        ),
        ("answers 503", "HTTP 503: unavailable", _answers(503, "unavailable")),
    ),
)
