"""Lines of the log for what changed: one for each change, none without one."""

from dataclasses import replace

from structlog.testing import capture_logs
from structlog.typing import EventDict

from exporter.errors import ApiError, ServerError, Timeout, Unauthorized
from exporter.events import Events
from exporter.model import FinetunedModel, Status

A = FinetunedModel(id="a", name="alpha", status=Status.FINETUNING)
B = FinetunedModel(id="b", name="beta", status=Status.READY)


def listed(events: Events, *models: FinetunedModel) -> list[EventDict]:
    with capture_logs() as lines:
        events.listed(models)
    return list(lines)


def polled(events: Events, error: ApiError | None) -> list[EventDict]:
    with capture_logs() as lines:
        events.polled(error)
    return list(lines)


def test_the_first_list_is_one_line_whatever_its_length() -> None:
    assert listed(Events(), A, B) == [
        {"log_level": "info", "event": "models listed", "models": 2, "training": 1}
    ]


def test_an_empty_first_list_is_one_line_too() -> None:
    assert listed(Events()) == [{"log_level": "info", "event": "models listed", "models": 0, "training": 0}]


def test_a_list_that_did_not_change_says_nothing() -> None:
    events = Events()
    listed(events, A, B)
    assert listed(events, B, A) == []


def test_what_is_no_status_says_nothing() -> None:
    events = Events()
    listed(events, A)
    assert listed(events, replace(A, updated_at=5.0, last_used=6.0)) == []


def test_a_fleet_that_changes_as_a_whole_is_a_hundred_lines_and_one() -> None:
    events = Events()
    fleet = [replace(B, id=str(number)) for number in range(103)]
    listed(events, *fleet)
    lines = listed(events, *(replace(model, status=Status.TEMPORARILY_OFFLINE) for model in fleet))
    assert [line["event"] for line in lines[:-1]] == ["model status changed"] * 100
    assert lines[-1]["event"] == "more models appeared, changed their status or left"
    assert lines[-1]["models"] == 3


def test_a_model_that_appears_is_one_line() -> None:
    events = Events()
    listed(events)
    assert listed(events, B) == [
        {
            "log_level": "info",
            "event": "model appeared",
            "model_id": "b",
            "model_name": "beta",
            "status": "STATUS_READY",
        }
    ]
    assert listed(events, B) == []


def test_a_change_of_status_is_one_line_with_both() -> None:
    events = Events()
    listed(events, A, B)
    assert listed(events, replace(A, status=Status.FAILED), B) == [
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
    events = Events()
    listed(events, A, B)
    assert listed(events, A) == [
        {
            "log_level": "info",
            "event": "model left the list",
            "model_id": "b",
            "model_name": "beta",
            "was": "STATUS_READY",
        }
    ]
    assert listed(events, A) == []
    assert [line["event"] for line in listed(events, A, B)] == ["model appeared"]


def test_a_new_name_is_no_new_model() -> None:
    events = Events()
    listed(events, A)
    assert listed(events, replace(A, name="omega")) == []


def test_several_changes_are_as_many_lines() -> None:
    events = Events()
    listed(events, A, B)
    c = FinetunedModel(id="c")
    lines = listed(events, replace(A, status=Status.READY), c)
    assert [line["event"] for line in lines] == [
        "model status changed",
        "model appeared",
        "model left the list",
    ]


def test_polls_that_go_well_say_nothing() -> None:
    events = Events()
    assert polled(events, None) == []
    assert polled(events, None) == []


def test_the_beginning_of_a_failure_is_one_line_with_its_trace() -> None:
    events = Events()
    error = Unauthorized("HTTP 401: invalid api token", status=401, trace_id="f00")
    assert polled(events, error) == [
        {
            "log_level": "error",
            "event": "polling the API fails",
            "reason": "unauthorized",
            "error": "HTTP 401: invalid api token",
            "trace_id": "f00",
        }
    ]
    assert polled(events, Unauthorized("HTTP 401: another wording")) == []


def test_a_failure_without_a_trace_names_none() -> None:
    assert "trace_id" not in polled(Events(), Timeout("no complete response within 30 s"))[0]


def test_failing_in_another_way_is_another_line() -> None:
    events = Events()
    polled(events, Timeout("t"))
    assert [line["reason"] for line in polled(events, ServerError("s"))] == ["server_error"]


def test_recovery_is_one_line_that_counts_the_failures() -> None:
    events = Events()
    for error in (Timeout("t"), ServerError("s"), ServerError("s")):
        polled(events, error)
    assert polled(events, None) == [
        {"log_level": "info", "event": "polling the API works again", "failed_polls": 3}
    ]
    assert polled(events, None) == []


def test_failures_are_counted_anew_after_each_recovery() -> None:
    events = Events()
    for error in (Timeout("t"), None, Timeout("t")):
        polled(events, error)
    assert polled(events, None)[0]["failed_polls"] == 1


def test_stale_data_is_one_line() -> None:
    events = Events()
    with capture_logs() as lines:
        for is_stale in (False, True, True):
            events.polled(ServerError("x"), is_stale=is_stale)
        events.polled(None)
    assert [line["event"] for line in lines] == [
        "polling the API fails",
        "data is stale: metrics of models are absent until polling works again",
        "polling the API works again",
    ]
