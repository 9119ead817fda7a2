"""Lines of the log for what changed: one for each change, none without one."""

from collections import Counter
from dataclasses import replace

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from exporter.errors import ApiError, ServerError, Timeout, Unauthorized
from exporter.model import FinetunedModel, Status
from exporter.polling.changes import MINUTE, MOST_LINES, Changes
from tests.conftest import FakeClock

A = FinetunedModel(id="a", name="alpha", status=Status.FINETUNING)
B = FinetunedModel(id="b", name="beta", status=Status.READY)


def listed(changes: Changes, *models: FinetunedModel) -> list[EventDict]:
    with capture_logs() as lines:
        changes.listed(models)
    return list(lines)


def polled(changes: Changes, error: ApiError | None) -> list[EventDict]:
    with capture_logs() as lines:
        changes.polled(error, next_in=120.3)
    return list(lines)


@pytest.mark.parametrize(("models", "training"), [((A, B), 1), ((), 0)])
def test_the_first_list_is_one_line_whatever_its_length(
    models: tuple[FinetunedModel, ...], training: int
) -> None:
    assert listed(Changes(FakeClock()), *models) == [
        {"log_level": "info", "event": "models listed", "models": len(models), "training": training}
    ]


@pytest.mark.parametrize(
    "second", [(B, A), (replace(A, updated_at=5.0, last_used=6.0), B), (replace(A, name="o"), B)]
)
def test_what_is_no_change_of_status_says_nothing(second: tuple[FinetunedModel, ...]) -> None:
    changes = Changes(FakeClock())
    listed(changes, A, B)
    assert listed(changes, *second) == []


def test_a_fleet_that_changes_as_a_whole_is_a_hundred_lines_and_one() -> None:
    changes = Changes(FakeClock())
    fleet = [replace(B, id=str(number)) for number in range(103)]
    listed(changes, *fleet)
    lines = listed(changes, *(replace(model, status=Status.TEMPORARILY_OFFLINE) for model in fleet))
    assert [line["event"] for line in lines[:-1]] == ["model status changed"] * 100
    assert lines[-1]["event"] == "further changes of models not logged one by one"
    assert lines[-1]["models"] == 3


@pytest.mark.anyio
async def test_a_fleet_that_never_settles_is_a_hundred_lines_a_minute(clock: FakeClock) -> None:
    changes = Changes(clock)
    fleet = [replace(B, id=str(number)) for number in range(60)]
    listed(changes, *fleet)
    lines = Counter[str]()
    for second in range(240):
        status = (Status.PAUSED, Status.READY)[second % 2]
        lines.update(
            line["event"] for line in listed(changes, *(replace(one, status=status) for one in fleet))
        )
        await clock.advance(1.0)
    assert lines["model status changed"] <= 5 * MOST_LINES
    assert lines["further changes of models not logged one by one"] <= 5


def test_a_model_that_appears_is_one_line() -> None:
    changes = Changes(FakeClock())
    listed(changes)
    assert listed(changes, B) == [
        {
            "log_level": "info",
            "event": "model appeared",
            "model_id": "b",
            "model_name": "beta",
            "status": "STATUS_READY",
        }
    ]
    assert listed(changes, B) == []


def test_a_change_of_status_is_one_line_with_both() -> None:
    changes = Changes(FakeClock())
    listed(changes, A, B)
    assert listed(changes, replace(A, status=Status.FAILED), B) == [
        {
            "log_level": "info",
            "event": "model status changed",
            "model_id": "a",
            "model_name": "alpha",
            "status": "STATUS_FAILED",
            "was": "STATUS_FINETUNING",
        }
    ]


def test_a_model_that_leaves_is_one_line_and_appears_anew_when_it_returns() -> None:
    changes = Changes(FakeClock())
    listed(changes, A, B)
    assert listed(changes, A) == [
        {
            "log_level": "info",
            "event": "model left the list",
            "model_id": "b",
            "model_name": "beta",
            "was": "STATUS_READY",
        }
    ]
    assert listed(changes, A) == []
    assert [line["event"] for line in listed(changes, A, B)] == ["model appeared"]


def test_the_beginning_of_a_failure_is_one_line_with_its_trace() -> None:
    changes = Changes(FakeClock())
    error = Unauthorized("HTTP 401: invalid api token", status=401, trace_id="f00")
    assert polled(changes, error) == [
        {
            "log_level": "error",
            "event": "poll failed",
            "reason": "unauthorized",
            "error": "HTTP 401: invalid api token",
            "trace_id": "f00",
            "advice": Unauthorized.advice,
            "next_poll_seconds": 120,
        }
    ]
    assert polled(changes, Unauthorized("HTTP 401: another wording")) == []


def test_a_failure_without_a_trace_names_none() -> None:
    assert "trace_id" not in polled(Changes(FakeClock()), Timeout("no whole answer within 30 s"))[0]


def test_recovery_is_one_line_that_counts_the_failures() -> None:
    changes = Changes(FakeClock())
    for error in (Timeout("t"), ServerError("s"), ServerError("s")):
        polled(changes, error)
    assert polled(changes, None) == [
        {"log_level": "info", "event": "poll succeeded again", "failed_polls": 3}
    ]
    assert polled(changes, None) == []


@pytest.mark.anyio
async def test_failures_are_counted_anew_after_each_recovery(clock: FakeClock) -> None:
    changes = Changes(clock)
    for error in (Timeout("t"), None):
        polled(changes, error)
    await clock.advance(MINUTE)
    polled(changes, Timeout("t"))
    assert polled(changes, None)[0]["failed_polls"] == 1


@pytest.mark.parametrize("other", [None, ServerError("s")])
@pytest.mark.anyio
async def test_a_failure_that_comes_and_goes_is_logged_once_a_minute(
    clock: FakeClock, other: ApiError | None
) -> None:
    changes, logged = Changes(clock), []
    for second in range(180):
        logged += [(second, line["event"]) for line in polled(changes, other if second % 2 else Timeout("t"))]
        await clock.advance(1.0)
    again = "poll failed" if other else "poll succeeded again"
    assert logged == [(60 * m + s, (again if s else "poll failed")) for m in range(3) for s in (0, 1)]


@pytest.mark.anyio
async def test_a_failure_that_lasts_is_logged_however_short_the_good_time_before(clock: FakeClock) -> None:
    changes, lines = Changes(clock), []
    for error in (Timeout("t"), None, *[Timeout("t")] * 10):
        lines += polled(changes, error)
        await clock.advance(10.0)
    assert [line["event"] for line in lines] == ["poll failed", "poll succeeded again", "poll failed"]


def test_stale_data_is_one_line() -> None:
    changes = Changes(FakeClock())
    with capture_logs() as lines:
        for is_stale in (False, True, True, False, True):
            changes.aged(is_stale=is_stale)
    assert [line["event"] for line in lines] == [
        "data is stale: metrics of models are absent until a poll succeeds"
    ] * 2
