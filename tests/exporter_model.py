"""A small model of exporters under Prometheus: what each scrape would store, for tests of the rules.

Processes restart, scrapes are lost, targets vanish, polls fail, models change. Every family of the exporter
is written at every scrape that succeeds, so no test passes because a series is missing. Times are seconds;
Prometheus's clock starts at 0, and what happened before has a negative time.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, pairwise
from math import isfinite
from string import ascii_lowercase

from exporter.cohere.transport import Endpoint
from exporter.cohere.wire import REJECTED_KINDS
from exporter.errors import REASONS
from exporter.model import Status

MINUTE, HOUR, DAY = 60, 3600, 86400
BEFORE_TIME = -1_700_000_000.0  # Unix time 0, as seen from Prometheus's clock in the tests

Labels = tuple[tuple[str, str], ...]
Samples = dict[tuple[str, Labels], float]


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model as the API lists it; None is a time that the API does not give."""

    name: str = "chat"
    id: str = "1"
    status: str = "STATUS_READY"
    created: float | None = -30 * DAY
    updated: float | None = -30 * DAY
    completed: float | None = None
    step: int | None = None
    step_at: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


def always(*models: Model) -> Callable[[float], Sequence[Model]]:
    """Return a fleet that does not change."""
    return lambda _: models


@dataclass(kw_only=True)
class Exporter:
    """One target of Prometheus: when it is scraped, when its processes start, how its polls end.

    `up` says of a moment whether the scrape succeeds, and None where the target is not on the list;
    `poll` returns "" for a good poll or the reason of its failure.
    """

    models: Callable[[float], Sequence[Model]] = lambda _: [Model()]
    labels: Mapping[str, str] = field(default_factory=lambda: {"namespace": "ml", "job": "a"})
    only_up: Mapping[str, str] = field(default_factory=dict)
    instance: str = "a:10220"
    up: Callable[[float], bool | None] = lambda _: True
    starts: Sequence[float] = (-DAY,)
    poll: Callable[[float], str] = lambda _: ""
    interval: float = 60
    stale_after: float | None = None
    clock_ahead: float = 0
    without: str = ""
    rejected: Callable[[float], float] = lambda _: 0
    unreadable: Callable[[float], float] = lambda _: 0
    reloaded: Callable[[float], bool] = lambda _: True
    dropped: int = 0

    def samples(self, scrapes: Iterable[float]) -> Iterator[Samples]:
        """Yield what Prometheus stores of each scrape."""
        process = _Process(self, -DAY)
        for now in scrapes:
            started = max((start for start in self.starts if start <= now), default=None)
            if started is not None and started != process.started:
                process = _Process(self, started)
            process.live_until(now)
            up = self.up(now)
            target = tuple(sorted({**self.labels, "instance": self.instance}.items()))
            stored: Samples = {} if up is None else {("up", (*target, *self.only_up.items())): float(up)}
            if up and started is not None:
                for (name, labels), value in process.exposition(now).items():
                    if not self.without or self.without not in name:
                        stored[name, _joined(target, labels)] = value
            yield stored


def accounts(*exporters: Exporter) -> list[Exporter]:
    """Return exporters of an account each, whose jobs are a, b, c …"""
    return [
        replace(exporter, labels={"namespace": "ml", "job": job}, instance=f"{job}:10220")
        for job, exporter in zip(ascii_lowercase, exporters, strict=False)
    ]


def _joined(target: Labels, labels: Labels) -> Labels:
    """Join the labels of a target and a sample, as Prometheus does where both have one."""
    taken = dict(target)
    renamed = ((f"exported_{key}" if key in taken else key, value) for key, value in labels)
    return tuple(sorted((*target, *renamed)))


class _Process:
    def __init__(self, exporter: Exporter, started: float) -> None:
        self.exporter = exporter
        self.started = started
        self.next_poll = started
        self.polls = 0
        self.failures = dict.fromkeys(REASONS, 0)
        self.last_poll = self.last_success = BEFORE_TIME
        self.reason: str | None = None
        self.fleet: Sequence[Model] | None = None

    @property
    def stale_after(self) -> float:
        return self.exporter.stale_after or 5 * self.exporter.interval

    def live_until(self, now: float) -> None:
        # Polls of the past change nothing that is seen but the counters.
        while self.next_poll <= now:
            self._poll(self.next_poll)
            self.next_poll += self.exporter.interval

    def _poll(self, now: float) -> None:
        self.polls += 1
        self.last_poll = now
        self.reason = self.exporter.poll(now)
        if self.reason:
            self.failures[self.reason] += 1
        else:
            self.last_success = now
            self.fleet = self.exporter.models(now)

    def exposition(self, now: float) -> Samples:
        stored: Samples = {(name, ()): value for name, value in self._plain().items()}
        stored |= self._labelled(now)
        if self.fleet is not None and now - self.last_success <= self.stale_after:
            stored |= dict(_fleet(self.fleet, self.exporter.dropped))
        return stored

    def _plain(self) -> dict[str, float]:
        ahead = self.exporter.clock_ahead
        return {
            "cohere_up": float(self.reason == ""),
            "cohere_exporter_last_poll_timestamp_seconds": self.last_poll + ahead,
            "cohere_exporter_last_success_timestamp_seconds": self.last_success
            + (ahead if self.last_success > BEFORE_TIME else 0),
            "cohere_exporter_last_poll_duration_seconds": 1,
            "cohere_exporter_poll_interval_seconds": self.exporter.interval,
            "cohere_exporter_stale_after_seconds": self.stale_after,
            "cohere_exporter_next_poll_timestamp_seconds": self.next_poll + ahead,
            "cohere_exporter_polls_total": self.polls,
            "cohere_exporter_api_throttled_seconds_total": 0,
            "cohere_exporter_training_metrics_dropped": 0,
            "cohere_exporter_training_steps_missed_total": 0,
            "cohere_exporter_scrapes_rejected_total": 0,
        }

    def _labelled(self, now: float) -> Samples:
        stored: Samples = {}
        for reason, count in self.failures.items():
            label = (("reason", reason),)
            stored["cohere_exporter_last_poll_failed", label] = float(reason == self.reason)
            stored["cohere_exporter_poll_failures_total", label] = count
            unreadable = self.exporter.unreadable(now) if reason == "server_error" else 0
            stored["cohere_exporter_training_metrics_failures_total", label] = unreadable
        for kind in REJECTED_KINDS:
            stored["cohere_exporter_rejected_items_total", (("kind", kind),)] = self.exporter.rejected(now)
        for endpoint in Endpoint:
            label = (("endpoint", endpoint.value),)
            stored["cohere_exporter_api_retries_total", label] = 0
            stored["cohere_exporter_api_request_duration_seconds_count", label] = self.polls
            good = self.polls - sum(self.failures.values())
            stored["cohere_exporter_api_requests_total", (("code", "200"), *label)] = good
        for file in ("api_key", "ca", "web_config"):
            label = (("file", file),)
            good_reload = file != "web_config" or self.exporter.reloaded(now)
            stored["cohere_exporter_reload_successful", label] = float(good_reload)
            stored["cohere_exporter_reload_success_timestamp_seconds", label] = self.started
        build = (("python_version", "3.11"), ("revision", "abc"), ("version", "1"))
        stored["cohere_exporter_build_info", build] = 1
        return stored


_INFO = {
    "base_type": "BASE_TYPE_CHAT",
    "base_model": "command-r",
    "base_model_version": "1",
    "strategy": "STRATEGY_TFEW",
    "dataset_id": "data-7",
    "organization_id": "org",
    "creator_id": "eve",
    "lora_target_modules": "",
    "multi_label": "",
    "wandb_project": "",
    "wandb_entity": "",
}


def _fleet(models: Sequence[Model], dropped: int) -> Iterator[tuple[tuple[str, Labels], float]]:
    yield ("cohere_finetuned_models_dropped", ()), dropped
    for status in Status:
        count = sum(model.status == status for model in models)
        yield ("cohere_finetuned_models", (("status", status.value),)), count
    for model in models:
        identity = (("model_id", model.id), ("model_name", model.name))
        for name, labels, value in _model(model):
            if value is not None:
                yield (f"cohere_finetuned_model_{name}", (*identity, *labels)), value


def _model(model: Model) -> Iterator[tuple[str, Labels, float | None]]:
    yield "info", tuple(_INFO.items()), 1
    for status in Status:
        yield "status", (("status", status.value),), float(status == model.status)
    yield "created_timestamp_seconds", (), model.created
    yield "updated_timestamp_seconds", (), model.updated
    yield "completed_timestamp_seconds", (), model.completed
    yield "last_used_timestamp_seconds", (), model.updated
    yield "hyperparameter", (("hyperparameter", "learning_rate"),), 0.01
    yield "training_step", (), model.step
    yield "training_step_timestamp_seconds", (), model.step_at
    if model.step is not None:
        broken = sum(not isfinite(value) for value in model.metrics.values())
        yield "training_metrics_non_finite", (), broken
    for metric, value in model.metrics.items():
        label = (("metric", metric),)
        yield "training_metric", label, value
        yield "training_metric_step", label, model.step
        yield "training_metric_min", label, value
        yield "training_metric_max", label, value


def input_series(
    exporters: Iterable[Exporter], seconds: float, scrape: float = 60, epoch: float = 0
) -> list[dict[str, str]]:
    """Return the series as promtool's `input_series`, a sample a scrape; the clock starts at `epoch`."""
    scrapes = [scrape * number for number in range(int(seconds // scrape) + 1)]
    written: dict[tuple[str, Labels], list[str]] = {}
    for exporter in exporters:
        for position, stored in enumerate(exporter.samples(scrapes)):
            for key, value in stored.items():
                values = written.setdefault(key, [])
                values += ["_"] * (position - len(values))
                values.append(_number(since(epoch, key[0], value)))
    return [
        {"series": _series(*key), "values": " ".join(_runs(_with_markers(values, len(scrapes))))}
        for key, values in written.items()
    ]


def since(epoch: float, name: str, value: float) -> float:
    """Return a value where Prometheus's clock starts at `epoch`: a time moves with it."""
    if not epoch or not name.endswith("_timestamp_seconds"):
        return value
    return value + epoch if value > BEFORE_TIME else 0


def _with_markers(values: list[str], length: int) -> list[str]:
    """Mark where a series ends, as Prometheus does at the first scrape that lacks it."""
    whole = [*values, *["_"] * (length - len(values))]
    marked = ["stale" if now == "_" and before != "_" else now for before, now in pairwise(whole)]
    return [whole[0], *marked]


def _runs(values: Iterable[str]) -> Iterator[str]:
    for value, same in groupby(values):
        count = len(list(same))
        if count == 1 or (value != "_" and not value.lstrip("-")[0].isdigit()):
            yield from [value] * count
        else:
            yield f"{value}x{count if value == '_' else count - 1}"


def _number(value: float) -> str:
    if isfinite(value):
        return str(int(value)) if value == int(value) else str(value)
    return {"nan": "NaN", "inf": "Inf", "-inf": "-Inf"}[str(value)]


def _series(name: str, labels: Labels) -> str:
    return f"{name}{{{', '.join(f'{key}={chr(34)}{value}{chr(34)}' for key, value in labels)}}}"
