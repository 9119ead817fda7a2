"""The exporter's own metrics, in a registry of their own: what it knows of the API and of itself.

Every one is there from the first scrape, at 0 where nothing has happened yet, with every child that can be
known in advance. None has labels taken from the API's data.
"""

import platform
from collections.abc import Callable, Iterable
from functools import partial

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from exporter.errors import REASONS
from exporter.model import PollOutcome, Snapshot

_DURATION_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Telemetry:
    """Counts what the other packages report; `registry` renders it.

    `calls_left` gives the calls left of the month's quota, None where there is none; `next_poll_at` gives
    when the next poll begins, in Unix seconds, 0 before the first has ended; `interval` and `stale_after`
    give the times in force, in seconds.
    """

    def __init__(
        self,
        *,
        version: str,
        revision: str,
        endpoints: Iterable[str],
        rejected_kinds: Iterable[str],
        calls_left: Callable[[], float] | None = None,
        next_poll_at: Callable[[], float] = float,
        interval: Callable[[], float] = float,
        stale_after: Callable[[], float] = float,
        has_budget_file: bool = False,
        process_metrics: bool = True,
    ) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # a switch that the library has as a global
        self.registry = registry = CollectorRegistry()
        gauge = partial(Gauge, registry=registry)
        counter = partial(Counter, registry=registry)
        self.up = gauge("cohere_up", "1 when the last poll listed every page of models.")
        self.last_poll = gauge(
            "cohere_exporter_last_poll_timestamp_seconds",
            "Unix time at which the last poll ended, 0 before the first.",
        )
        self.last_success = gauge(
            "cohere_exporter_last_success_timestamp_seconds",
            "Unix time at which the last poll that listed every page ended, 0 before the first.",
        )
        self.last_duration = gauge("cohere_exporter_last_poll_duration_seconds", "Duration of the last poll.")
        gauge(
            "cohere_exporter_poll_interval_seconds",
            "Current interval between polls, backoff included; a poll that takes longer extends it.",
        ).set_function(interval)
        gauge(
            "cohere_exporter_next_poll_timestamp_seconds",
            "Unix time at which the next poll begins, at the earliest while one is in progress; 0 before the "
            "first has ended.",
        ).set_function(next_poll_at)
        gauge(
            "cohere_exporter_stale_after_seconds",
            "Age at which the data is currently considered stale and dropped; a slow list extends it.",
        ).set_function(stale_after)
        self.last_poll_failed = gauge(
            "cohere_exporter_last_poll_failed",
            "1 for the reason the last poll failed, 0 for every other; all 0 after a successful poll.",
            ["reason"],
        )
        self.polls = counter("cohere_exporter_polls", "Polls completed, successful or not.")
        self.poll_failures = counter(
            "cohere_exporter_poll_failures", "Polls that failed to list every page of models.", ["reason"]
        )
        self.api_requests = counter(
            "cohere_exporter_api_requests",
            "Requests sent to the API, retries included; code is the HTTP status or error.",
            ["endpoint", "code"],
        )
        self.api_request_duration = Histogram(
            "cohere_exporter_api_request_duration_seconds",
            "Duration of API requests, body included.",
            ["endpoint"],
            buckets=_DURATION_BUCKETS,
            registry=registry,
        )
        self.api_retries = counter(
            "cohere_exporter_api_retries", "API requests that were retried.", ["endpoint"]
        )
        self.api_throttled = counter(
            "cohere_exporter_api_throttled_seconds",
            "Time that requests waited for the rate limit (--cohere.requests-per-minute) or a Retry-After.",
        )
        if calls_left:
            gauge(
                "cohere_exporter_api_calls_left",
                "Calls left in the quota (--cohere.calls-per-month) for the last 31 days; only with a quota.",
            ).set_function(calls_left)
        self.budget_file_failures = Counter(
            "cohere_exporter_budget_file_failures",
            "Times --cohere.budget-file could not be read or written; only with that file.",
            registry=registry if has_budget_file else None,
        )
        self.training_metrics_failures = counter(
            "cohere_exporter_training_metrics_failures",
            "Failed reads of one model's step metrics; its last good values are kept.",
            ["reason"],
        )
        self.rejected_items = counter(
            "cohere_exporter_rejected_items",
            "Invalid parts of API responses that were skipped.",
            ["kind"],
        )
        self.training_metrics_dropped = gauge(
            "cohere_exporter_training_metrics_dropped",
            "Training metrics left out by --training.metric-limit.",
        )
        self.training_steps_missed = counter(
            "cohere_exporter_training_steps_missed",
            "Recent training steps that /metrics/steps never served: not read, read late, without a time, "
            "or too many.",
        )
        self.reload_successful = gauge(
            "cohere_exporter_reload_successful",
            "1 when the last reload of the file succeeded; if not, its last good content stays in use.",
            ["file"],
        )
        self.reload_success = gauge(
            "cohere_exporter_reload_success_timestamp_seconds",
            "Unix time at which the file was last loaded successfully.",
            ["file"],
        )
        self.scrapes_rejected = counter(
            "cohere_exporter_scrapes_rejected", "Scrapes rejected because of --web.max-requests."
        )
        build = {"version": version, "revision": revision, "python_version": platform.python_version()}
        gauge(
            "cohere_exporter_build_info",
            "Version and source revision of the exporter and version of Python, always 1.",
            list(build),
        ).labels(**build).set(1)
        self._prepare_children(tuple(endpoints), rejected_kinds)
        if process_metrics:
            ProcessCollector(registry=registry)
            PlatformCollector(registry=registry)
            GCCollector(registry=registry)

    def _prepare_children(self, endpoints: tuple[str, ...], rejected_kinds: Iterable[str]) -> None:
        for endpoint in endpoints:
            self.api_request_duration.labels(endpoint)
            self.api_retries.labels(endpoint)
            for code in ("200", "error"):
                self.api_requests.labels(endpoint, code)
        for reason in REASONS:
            self.last_poll_failed.labels(reason)
            self.poll_failures.labels(reason)
            self.training_metrics_failures.labels(reason)
        for kind in rejected_kinds:
            self.rejected_items.labels(kind)

    # What the way to the API reports.

    def request(self, endpoint: str, code: str, seconds: float) -> None:
        """Count a request and its duration."""
        self.api_requests.labels(endpoint, code).inc()
        self.api_request_duration.labels(endpoint).observe(seconds)

    def retry(self, endpoint: str) -> None:
        """Count a retry."""
        self.api_retries.labels(endpoint).inc()

    def throttled(self, seconds: float) -> None:
        """Add the time that a request waited for its turn."""
        self.api_throttled.inc(seconds)

    def rejected(self, kind: str) -> None:
        """Count a part of a response that was skipped."""
        self.rejected_items.labels(kind).inc()

    # What is read again when it changes.

    def reloaded(self, file: str, *, successful: bool, now: float) -> None:
        """Show how a file was last loaded, at Unix time `now`; a file counts from its first time."""
        self.reload_successful.labels(file).set(successful)
        if successful:
            self.reload_success.labels(file).set(now)

    # What the poller reports.

    def poll_ended(self, outcome: PollOutcome) -> None:
        """Count a poll and show how it ended."""
        self.polls.inc()
        self.up.set(outcome.reason is None)
        self.last_poll.set(outcome.finished_at)
        self.last_duration.set(outcome.duration)
        for reason in REASONS:
            self.last_poll_failed.labels(reason).set(reason == outcome.reason)
        if outcome.reason is None:
            self.last_success.set(outcome.finished_at)
        else:
            self.poll_failures.labels(outcome.reason).inc()

    def training_metrics_failed(self, reason: str) -> None:
        """Count a model whose step metrics could not be read."""
        self.training_metrics_failures.labels(reason).inc()

    def published(self, snapshot: Snapshot) -> None:
        """Show what a snapshot leaves out."""
        self.training_metrics_dropped.set(
            sum(state.progress.dropped for state in snapshot.states if state.progress)
        )
