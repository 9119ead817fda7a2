"""The day that repeats itself: what goes wrong, from when, for how long, and what it may lead to.

Rows are in the order of the day and do not overlap. `reason` is what a poll that meets the row fails with;
"" where none may fail.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MINUTE, DAY = 60.0, 86_400.0  # seconds
LIST, LATER, STEPS = "list", "a later page", "step metrics"


@dataclass(frozen=True, slots=True)
class Row:
    """One fault: minutes from midnight and in length; `where` it strikes, "" when not in an answer."""

    at: float
    minutes: float
    kind: str
    where: str = ""
    reason: str = ""
    retry_after: float = 0.0

    @property
    def fails_polls(self) -> bool:
        """Whether a poll within it fails."""
        return bool(self.reason) and self.where != STEPS


ROWS: Sequence[Row] = (
    Row(30, 6, "401", LIST, "unauthorized"),
    Row(60, 4, "402", LIST, "payment_required"),
    Row(75, 5, "403", LATER, "forbidden"),
    Row(100, 5, "404", LIST, "gone"),
    Row(120, 6, "410", LIST, "gone"),
    Row(145, 4, "429", LIST, "rate_limited"),
    Row(155, 4, "429, Retry-After 20 s", LIST, "rate_limited", retry_after=20),
    Row(170, 4, "429, rest until a date", LATER, "rate_limited", retry_after=90),
    Row(180, 4, "429, Retry-After in words", LIST, "rate_limited"),
    Row(190, 3, "429, Retry-After 2 h", LIST, "rate_limited", retry_after=7200),
    Row(265, 12, "429, the month", LIST, "rate_limited"),
    Row(315, 10, "500", LIST, "server_error"),
    Row(330, 4, "503", LATER, "server_error"),
    Row(340, 4, "408", LIST, "timeout"),
    Row(350, 8, "silence", LIST, "timeout"),
    Row(370, 5, "silence", LATER, "timeout"),
    Row(385, 5, "head in drops", LIST, "timeout"),
    Row(400, 5, "body in drops", LATER, "timeout"),
    Row(420, 8, "refused", LIST, "connection"),
    Row(440, 4, "reset", LIST, "connection"),
    Row(450, 4, "reset in the head", LATER, "connection"),
    Row(460, 4, "reset in the body", LIST, "connection"),
    Row(470, 4, "cut off", LATER, "connection"),
    Row(480, 4, "no HTTP", LIST, "connection"),
    Row(490, 4, "302", LIST, "invalid_response"),
    Row(500, 4, "no JSON", LIST, "invalid_response"),
    Row(510, 4, "another JSON", LATER, "invalid_response"),
    Row(520, 4, "deeply nested", LIST, "invalid_response"),
    Row(530, 3, "body without end", LIST, "invalid_response"),
    Row(540, 3, "gzip of gigabytes", LATER, "invalid_response"),
    Row(550, 4, "pages in a circle", LIST, "invalid_response"),
    Row(580, 6, "401", STEPS, "unauthorized"),
    Row(610, 5, "402", STEPS, "payment_required"),
    Row(630, 5, "403", STEPS, "forbidden"),
    Row(650, 5, "404", STEPS, "gone"),
    Row(670, 5, "429", STEPS, "rate_limited"),
    Row(690, 5, "429, Retry-After 20 s", STEPS, "rate_limited", retry_after=20),
    Row(710, 5, "429, the month", STEPS, "rate_limited"),
    Row(750, 6, "503", STEPS, "server_error"),
    Row(770, 8, "silence", STEPS, "timeout"),
    Row(800, 5, "body in drops", STEPS, "timeout"),
    Row(820, 5, "reset", STEPS, "connection"),
    Row(840, 5, "cut off", STEPS, "connection"),
    Row(860, 5, "no JSON", STEPS, "invalid_response"),
    Row(880, 3, "body without end", STEPS, "invalid_response"),
    Row(900, 60, "key file gone"),
    Row(980, 20, "key file empty"),
    Row(1020, 20, "key file of junk"),
    Row(1050, 10, "key rotated, file late", reason="unauthorized"),
    Row(1080, 1, "key rotated"),
    Row(1110, 60, "clock two hours fast"),
    Row(1200, 60, "clock two hours slow"),
    Row(1290, 30, "slow"),
    Row(1350, 6, "503", LIST, "server_error"),
)


def between(begin: float, end: float) -> Iterator[tuple[float, float, Row]]:
    """Yield the rows in force at any time between two, each with its own begin and end; all in seconds."""
    for day in range(math.floor(begin / DAY), math.floor(end / DAY) + 1):
        for row in ROWS:
            own_begin = day * DAY + row.at * MINUTE
            own_end = own_begin + row.minutes * MINUTE
            if own_begin <= end and begin <= own_end:
                yield own_begin, own_end, row
