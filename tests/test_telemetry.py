"""The exporter's own metrics: all there from the first scrape, and moved only by what is reported."""

import platform
import re
from collections.abc import Mapping

import pytest
from prometheus_client import Metric

from exporter.cohere.transport import Endpoint
from exporter.cohere.wire import REJECTED_KINDS
from exporter.exposition import Format, render
from exporter.model import FinetunedModel, ModelState, PollOutcome, Snapshot, TrainingProgress
from exporter.telemetry import Telemetry
from tests.goldens import assert_golden

# Type and labels, written out from the contract.
CONTRACT: dict[str, tuple[str, set[str]]] = {
    "cohere_up": ("gauge", set()),
    "cohere_exporter_last_poll_timestamp_seconds": ("gauge", set()),
    "cohere_exporter_last_success_timestamp_seconds": ("gauge", set()),
    "cohere_exporter_last_poll_duration_seconds": ("gauge", set()),
    "cohere_exporter_poll_interval_seconds": ("gauge", set()),
    "cohere_exporter_next_poll_timestamp_seconds": ("gauge", set()),
    "cohere_exporter_last_poll_failed": ("gauge", {"reason"}),
    "cohere_exporter_stale_after_seconds": ("gauge", set()),
    "cohere_exporter_polls": ("counter", set()),
    "cohere_exporter_poll_failures": ("counter", {"reason"}),
    "cohere_exporter_api_requests": ("counter", {"endpoint", "code"}),
    "cohere_exporter_api_request_duration_seconds": ("histogram", {"endpoint"}),
    "cohere_exporter_api_retries": ("counter", {"endpoint"}),
    "cohere_exporter_api_throttled_seconds": ("counter", set()),
    "cohere_exporter_training_metrics_failures": ("counter", {"reason"}),
    "cohere_exporter_rejected_items": ("counter", {"kind"}),
    "cohere_exporter_training_metrics_dropped": ("gauge", set()),
    "cohere_exporter_training_steps_missed": ("counter", set()),
    "cohere_exporter_build_info": ("gauge", {"version", "revision", "python_version"}),
}
# Beyond the contract: warnings of the log that would have no counter otherwise.
ADDED: dict[str, tuple[str, set[str]]] = {
    "cohere_exporter_reload_successful": ("gauge", {"file"}),
    "cohere_exporter_reload_success_timestamp_seconds": ("gauge", {"file"}),
    "cohere_exporter_scrapes_rejected": ("counter", set()),
    "cohere_exporter_api_calls_left": ("gauge", set()),
}
REASONS = [
    "unauthorized",
    "forbidden",
    "payment_required",
    "gone",
    "rate_limited",
    "server_error",
    "timeout",
    "connection",
    "invalid_response",
    "internal_error",
]


def telemetry(*, process_metrics: bool = False) -> Telemetry:
    return Telemetry(
        version="1.2.3",
        revision="0a1b2c3",
        endpoints=[endpoint.value for endpoint in Endpoint],
        rejected_kinds=REJECTED_KINDS,
        calls_left=lambda: 0.0,
        process_metrics=process_metrics,
    )


def families(subject: Telemetry) -> dict[str, Metric]:
    return {family.name: family for family in subject.registry.collect()}


def series(subject: Telemetry) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in subject.registry.collect()
        for sample in family.samples
    }


def value(subject: Telemetry, name: str, labels: Mapping[str, str] | None = None) -> float | None:
    return subject.registry.get_sample_value(name, dict(labels or {}))


def test_every_family_of_the_contract_is_there_before_anything_happened() -> None:
    found = {name: family.type for name, family in families(telemetry()).items()}
    assert found == {name: type_ for name, (type_, _) in (CONTRACT | ADDED).items()}


@pytest.mark.parametrize("name", CONTRACT | ADDED)
def test_a_family_has_exactly_its_labels(name: str) -> None:
    subject = telemetry()
    subject.reloaded("ca", successful=True, now=1.0)  # files have series of their own once they are loaded
    samples = families(subject)[name].samples
    assert samples, "no sample before the first event"
    for sample in samples:
        assert set(sample.labels) - {"le"} == (CONTRACT | ADDED)[name][1]


def test_a_failed_reload_leaves_the_time_of_the_last_good_one() -> None:
    subject = telemetry()
    subject.reloaded("ca", successful=True, now=5.0)
    subject.reloaded("ca", successful=False, now=6.0)
    assert value(subject, "cohere_exporter_reload_successful", {"file": "ca"}) == 0.0
    assert value(subject, "cohere_exporter_reload_success_timestamp_seconds", {"file": "ca"}) == 5.0


def test_the_page_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "python_version", lambda: "3.11.2")
    registry = telemetry().registry
    assert_golden("telemetry.txt", render(registry, Format.TEXT))
    assert_golden("telemetry.om", render(registry, Format.OPENMETRICS))


def test_process_and_python_metrics_come_with_their_switch() -> None:
    with_them, without = set(families(telemetry(process_metrics=True))), set(families(telemetry()))
    assert {name.split("_")[0] for name in with_them - without} == {"process", "python"}
    assert {"process_cpu_seconds", "process_resident_memory_bytes", "python_info"} <= with_them
    assert {name.split("_")[0] for name in without} == {"cohere"}


def test_two_of_them_do_not_meet() -> None:
    first, second = telemetry(), telemetry()
    first.retry("list_finetuned_models")
    labels = {"endpoint": "list_finetuned_models"}
    assert value(second, "cohere_exporter_api_retries_total", labels) == 0.0


def test_a_request_is_counted_by_endpoint_and_code() -> None:
    subject = telemetry()
    subject.request(Endpoint.LIST_TRAINING_STEP_METRICS, "429", 0.3)
    subject.request(Endpoint.LIST_TRAINING_STEP_METRICS, "error", 30.0)
    here = {"endpoint": "list_training_step_metrics"}
    assert value(subject, "cohere_exporter_api_requests_total", {**here, "code": "429"}) == 1.0
    assert value(subject, "cohere_exporter_api_requests_total", {**here, "code": "error"}) == 1.0
    assert value(subject, "cohere_exporter_api_request_duration_seconds_count", here) == 2.0
    assert value(subject, "cohere_exporter_api_request_duration_seconds_sum", here) == 30.3
    there = {"endpoint": "list_finetuned_models"}
    assert value(subject, "cohere_exporter_api_request_duration_seconds_count", there) == 0.0


def test_retries_and_throttled_seconds_add_up() -> None:
    subject = telemetry()
    subject.retry("list_finetuned_models")
    subject.retry("list_finetuned_models")
    subject.throttled(0.5)
    subject.throttled(1.25)
    labels = {"endpoint": "list_finetuned_models"}
    assert value(subject, "cohere_exporter_api_retries_total", labels) == 2.0
    assert value(subject, "cohere_exporter_api_throttled_seconds_total") == 1.75


def test_a_rejected_part_is_counted_by_kind() -> None:
    subject = telemetry()
    subject.rejected("metric")
    assert value(subject, "cohere_exporter_rejected_items_total", {"kind": "metric"}) == 1.0


def test_a_poll_that_went_well() -> None:
    subject = telemetry()
    subject.poll_ended(PollOutcome(finished_at=1_700_000_000.5, duration=1.5))
    assert value(subject, "cohere_up") == 1.0
    assert value(subject, "cohere_exporter_polls_total") == 1.0
    assert value(subject, "cohere_exporter_last_poll_timestamp_seconds") == 1_700_000_000.5
    assert value(subject, "cohere_exporter_last_success_timestamp_seconds") == 1_700_000_000.5
    assert value(subject, "cohere_exporter_last_poll_duration_seconds") == 1.5


def test_a_poll_that_failed_after_one_that_went_well() -> None:
    subject = telemetry()
    subject.poll_ended(PollOutcome(finished_at=100.0, duration=1.0))
    subject.poll_ended(PollOutcome(finished_at=160.0, duration=30.0, reason="timeout", message="m"))
    assert value(subject, "cohere_up") == 0.0
    assert value(subject, "cohere_exporter_polls_total") == 2.0
    assert value(subject, "cohere_exporter_last_poll_timestamp_seconds") == 160.0
    assert value(subject, "cohere_exporter_last_success_timestamp_seconds") == 100.0
    failures = {
        reason: value(subject, "cohere_exporter_poll_failures_total", {"reason": reason})
        for reason in REASONS
    }
    assert failures == {reason: float(reason == "timeout") for reason in REASONS}


def test_failed_step_metrics_are_counted_apart_from_failed_polls() -> None:
    subject = telemetry()
    subject.training_metrics_failed("server_error")
    labels = {"reason": "server_error"}
    assert value(subject, "cohere_exporter_training_metrics_failures_total", labels) == 1.0
    assert value(subject, "cohere_exporter_poll_failures_total", labels) == 0.0


def test_the_times_in_force_are_those_of_the_moment() -> None:
    times = {"interval": 60.0, "stale_after": 300.0}
    subject = Telemetry(
        version="",
        revision="",
        endpoints=[],
        rejected_kinds=[],
        interval=lambda: times["interval"],
        stale_after=lambda: times["stale_after"],
    )
    times.update(interval=2678.4, stale_after=13392.0)
    assert value(subject, "cohere_exporter_poll_interval_seconds") == 2678.4
    assert value(subject, "cohere_exporter_stale_after_seconds") == 13392.0


def test_the_calls_left_are_those_of_the_moment_and_absent_without_a_budget() -> None:
    left = iter([1000.0, 999.0])
    subject = Telemetry(
        version="", revision="", endpoints=[], rejected_kinds=[], calls_left=lambda: next(left)
    )
    found = [value(subject, "cohere_exporter_api_calls_left") for _ in range(2)]
    assert found == [1000.0, 999.0]
    without = Telemetry(version="", revision="", endpoints=[], rejected_kinds=[])
    assert "cohere_exporter_api_calls_left" not in families(without)


def test_dropped_training_metrics_are_those_of_the_snapshot_published_last() -> None:
    subject = telemetry()
    states = [
        ModelState(FinetunedModel(id="a"), TrainingProgress(step=1, dropped=2)),
        ModelState(FinetunedModel(id="b"), TrainingProgress(step=1, dropped=3)),
        ModelState(FinetunedModel(id="c")),
    ]
    subject.published(Snapshot(states=tuple(states), status_counts={}))
    assert value(subject, "cohere_exporter_training_metrics_dropped") == 5.0
    subject.published(Snapshot(states=tuple(states[:1]), status_counts={}))
    assert value(subject, "cohere_exporter_training_metrics_dropped") == 2.0


# The checklist for metrics, as far as a machine can tick it off.


@pytest.mark.parametrize("name", CONTRACT | ADDED)
def test_help_is_one_short_sentence(name: str) -> None:
    text = families(telemetry())[name].documentation
    assert re.fullmatch(r"[A-Z1].{10,119}\.", text)
    assert ". " not in text
