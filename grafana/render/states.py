"""Writes what a Prometheus knows of an exporter in one of six states: `python states.py STATE FILE TIME`.

    normal, failed, empty, down, many, nameless

The file is OpenMetrics for `promtool tsdb create-blocks-from openmetrics FILE DATA`; a Prometheus on DATA
then serves the state to `shoot.py`. Everything follows from the state and TIME, when it ends.
"""

import math
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

STATUSES = ("FINETUNING", "DEPLOYING_API", "READY", "FAILED", "TEMPORARILY_OFFLINE", "PAUSED", "QUEUED")
REASONS = ("unauthorized", "forbidden", "rate_limited", "server_error", "timeout", "connection")
EVERY, HOUR, DAY = 60, 3600, 86400
SILENT = 2400  # since when an exporter is gone, or the API down, in the states in which one is
METRICS = {
    "CHAT": ("cross_entropy",),
    "CLASSIFICATION": ("accuracy", "cross_entropy", "f1", "precision"),
    "RERANK": ("MRR", "accuracy", "cross_entropy", "nDCG@10"),
}
BASES = {"CHAT": "command-r", "CLASSIFICATION": "embed-english-light", "RERANK": "rerank-english"}
STEPS = {
    "cohere_finetuned_model_training_metric": "cohere_finetuned_model_step_metric",
    "cohere_finetuned_model_training_step": "cohere_finetuned_model_step_number",
}
Labels = tuple[tuple[str, str], ...]
Samples = dict[str, dict[Labels, list[tuple[int, float]]]]


@dataclass(frozen=True)
class Model:
    """A model: who it is, how long ago it was created, how long it waits and trains, and how it ends."""

    name: str
    number: int
    base: str
    age: float
    train: float = 2 * HOUR
    end: str = "READY"
    queue: float = 600
    unused: float | None = 2 * HOUR
    skill: float = 1.0
    dataset: str = "faq-en"

    def status(self, age: float) -> str:
        """Return the status at an age."""
        stages = (("QUEUED", self.queue), ("FINETUNING", self.train), ("DEPLOYING_API", 900))
        for status, length in stages[:2] if self.end == "FAILED" else stages:
            if age < length:
                return status
            age -= length
        return self.end

    def step(self, age: float) -> int:
        """Return the highest step evaluated at an age; 0 before the first."""
        trained = min(age - self.queue, self.train) - 600
        return max(0, int(trained // 60) * 10)

    def value(self, metric: str, step: int) -> float:
        """Return a metric at a step: it settles, and gets a little worse at the end."""
        done = 1 - math.exp(-step / 300)
        noise = math.sin(step * 12.9898 + self.number) / 60 - step / 60000 - sum(map(ord, metric)) % 5 / 50
        good = min(0.99, 0.45 + 0.45 * self.skill * done + noise)
        return 2.4 * (1 - good) + 0.2 if "entropy" in metric else good


@dataclass(frozen=True)
class Account:
    """An exporter with the account it watches; one that is `gone` was scraped until so many seconds ago."""

    where: Labels
    models: tuple[Model, ...]
    api: bool = True
    gone: int = 0


def accounts(state: str) -> list[Account]:
    """Return what there is in a state."""
    one = (("instance", "10.0.3.17:10220"), ("job", "cohere-finetune-exporter"), ("namespace", "ml"))
    if state == "normal":
        return [Account(one, FLEET)]
    if state == "failed":
        failed = tuple(
            replace(model, end="FAILED", age=model.age % (20 * HOUR) + 3 * HOUR, queue=600, train=2 * HOUR)
            for model in FLEET
        )
        return [Account(one, failed, api=False)]
    if state == "nameless":
        return [Account(one, (Model("", 7, "CLASSIFICATION", 3 * HOUR, train=9 * HOUR),))]
    if state == "many":
        return [Account(one, tuple(many()))]
    if state == "down":
        return [
            Account(
                (
                    ("cluster", "eu" if number < 2 else "us"),
                    ("instance", f"10.0.{number}.17:10220"),
                    ("job", "cohere-finetune-exporter"),
                    ("namespace", ("search", "support", "legal", "research")[number]),
                ),
                tuple(
                    replace(model, number=100 * number + model.number)
                    for model in FLEET[number * 3 : number * 3 + 4]
                ),
                gone=SILENT if number == 2 else 0,
            )
            for number in range(4)
        ]
    return []


FLEET = (
    Model("ticket-triage", 1, "CLASSIFICATION", 5 * HOUR, train=9 * HOUR, skill=1.05, dataset="tickets-2026"),
    Model("ticket-triage", 2, "CLASSIFICATION", 20 * DAY, unused=DAY, skill=0.9, dataset="tickets-2026"),
    Model(
        "ticket-triage", 12, "CLASSIFICATION", 22 * HOUR, train=6 * HOUR, skill=0.97, dataset="tickets-2026"
    ),
    Model("faq-chat", 3, "CHAT", 100 * 60, train=9 * HOUR),
    Model("faq-chat-v1", 4, "CHAT", 41 * DAY, unused=35 * DAY, skill=0.8),
    Model("search-rerank", 5, "RERANK", 300, queue=HOUR, dataset="clicks"),
    Model("search-rerank-v2", 6, "RERANK", 8 * DAY, skill=0.95, dataset="clicks"),
    Model("contract-summary", 8, "CHAT", 12 * DAY, end="FAILED", dataset="contracts"),
    Model("contract-summary", 9, "CHAT", 8 * HOUR, train=3 * HOUR, end="FAILED", dataset="contracts"),
    Model("tone-of-voice", 10, "CHAT", 2 * HOUR + 900, train=100 * 60, dataset="tone", skill=1.1),
    Model("legacy-intent", 11, "CLASSIFICATION", 90 * DAY, end="PAUSED", unused=None, dataset="intents"),
)


def many() -> Iterator[Model]:
    """Return 300 models of all ages."""
    for number in range(300):
        base = list(METRICS)[number % 3]
        age = 1800 * number + 900 if number < 12 else DAY * (number / 4)
        end = "FAILED" if number % 23 == 0 else "PAUSED" if number % 17 == 0 else "READY"
        skill = 0.7 + (number * 37 % 50) / 100
        yield Model(
            f"{base.lower()}-{number:03}",
            number,
            base,
            age,
            3 * HOUR,
            end,
            unused={0: None, 1: 40 * DAY}.get(number % 11, 2 * HOUR),
            skill=skill,
            dataset=f"d{number % 9}",
        )


def samples(account: Account, now: int, hours: int) -> Samples:
    """Return everything that was scraped of an account, by family and labels."""
    out: Samples = defaultdict(lambda: defaultdict(list))
    for at in range(now - hours * HOUR, now - account.gone + 1, EVERY):
        for family, labels, value in exporter(account, at, now):
            out[family][*labels, *account.where].append((at, value))
        for model in account.models:
            age = model.age - (now - at)
            if age >= 0:
                for family, labels, value in exported(model, age, at, now):
                    out[family][*labels, *account.where].append((at, value))
                    if family in STEPS and model.status(age) == "FINETUNING":  # of /metrics/steps
                        out[STEPS[family]][*labels, *steps_of(account)].append((at, value))
    for at in range(now - account.gone, now + 1, EVERY) if account.gone else ():
        out["up"][account.where].append((at, 0))
    return out


def steps_of(account: Account) -> Labels:
    """Return the labels of the second job, which scrapes the steps."""
    return tuple((name, f"{value}-steps" if name == "job" else value) for name, value in account.where)


def exporter(account: Account, at: int, now: int) -> Iterator[tuple[str, Labels, float]]:
    """Return the exporter's own series at a time."""
    good = account.api or now - at > SILENT
    own = "cohere_exporter_"
    seconds = at - now + 30 * DAY
    yield "up", (), 1
    yield "cohere_up", (), good
    yield f"{own}build_info", (("python_version", "3.13.1"), ("revision", "0a1b2c3"), ("version", "0.1.0")), 1
    yield f"{own}poll_interval_seconds", (), 60
    yield f"{own}stale_after_seconds", (), 3600
    yield f"{own}last_success_timestamp_seconds", (), at - 20 if good else now - SILENT
    yield f"{own}next_poll_timestamp_seconds", (), at + 40
    yield f"{own}last_poll_duration_seconds", (), 1.2 + math.sin(at) / 4
    yield f"{own}polls_total", (), seconds // 60
    yield f"{own}training_metrics_dropped", (), 0
    yield "cohere_finetuned_models_dropped", (), 0
    for file in ("api_key", "web_config"):
        yield f"{own}reload_successful", (("file", file),), good or file != "api_key"
    for reason in REASONS:
        refused = not good and reason == "unauthorized"
        yield f"{own}last_poll_failed", (("reason", reason),), refused
        yield f"{own}poll_failures_total", (("reason", reason),), (at - now + SILENT) // 60 if refused else 0
    for endpoint, share in (("list_finetuned_models", 60), ("list_training_step_metrics", 30)):
        by = (("endpoint", endpoint),)
        yield f"{own}api_requests_total", (("code", "200" if good else "401"), *by), seconds // share
        yield f"{own}api_retries_total", by, seconds // 4000
        for le in ("0.1", "0.25", "0.5", "1.0", "+Inf"):
            below = 1 if le == "+Inf" else min(1, float(le) * 1.6)
            yield f"{own}api_request_duration_seconds_bucket", (*by, ("le", le)), seconds // share * below
    yield f"{own}api_throttled_seconds_total", (), seconds / 500
    yield "process_resident_memory_bytes", (), 42e6 + 2e6 * math.sin(at / 9000)
    yield "process_cpu_seconds_total", (), seconds * 0.004
    yield "process_start_time_seconds", (), now - 5 * HOUR
    if now - at <= 24 * HOUR:
        for status in STATUSES:
            alive = [
                model.status(model.age - (now - at)) for model in account.models if model.age >= now - at
            ]
            yield "cohere_finetuned_models", (("status", f"STATUS_{status}"),), alive.count(status)


def known_by(model: Model) -> Labels:
    """Return the labels by which a model is known."""
    model_id = f"{model.number * 7919 % 65536:04x}{model.number:04x}-9c1d-4e7b-8f00-{model.number:012x}"
    return (("model_id", model_id), *((("model_name", model.name),) if model.name else ()))


def exported(model: Model, age: float, at: int, now: int) -> Iterator[tuple[str, Labels, float]]:
    """Return a model's series at a time."""
    family = "cohere_finetuned_model_"
    me = known_by(model)
    created = at - age
    info = {
        "base_type": f"BASE_TYPE_{model.base}",
        "base_model": BASES[model.base],
        "dataset_id": model.dataset,
        "creator_id": ("anna", "support-analytics", "search")[model.number % 3],
        "organization_id": "acme",
        "wandb_project": "fine-tuning",
        "wandb_entity": "acme" if model.number % 2 else "",
    }
    yield f"{family}info", (*me, *((name, value) for name, value in info.items() if value)), 1
    status = model.status(age)
    for each in STATUSES:
        yield f"{family}status", (*me, ("status", f"STATUS_{each}")), each == status
    ended = created + model.queue + model.train
    changed = {"QUEUED": created, "FINETUNING": created + model.queue, "DEPLOYING_API": ended}.get(
        status, ended + 900
    )
    yield f"{family}created_timestamp_seconds", me, created
    yield f"{family}updated_timestamp_seconds", me, changed
    if ended <= at and model.end != "FAILED":
        yield f"{family}completed_timestamp_seconds", me, ended
    if status == "READY" and model.unused is not None:
        yield f"{family}last_used_timestamp_seconds", me, max(now - model.unused, ended)
    for name, value in (
        ("learning_rate", 0.0001 * (1 + model.number % 4)),
        ("train_epochs", 1 + model.number % 5),
    ):
        yield f"{family}hyperparameter", (*me, ("hyperparameter", name)), value
    step = model.step(age)
    if not step:
        return
    yield f"{family}training_step", me, step
    yield f"{family}training_step_timestamp_seconds", me, created + model.queue + 600 + step * 6
    for metric in METRICS[model.base]:
        so_far = [model.value(metric, each) for each in {*range(10, step, max(10, step // 20)), step}]
        by = (("metric", metric),)
        for name, value in (
            ("", model.value(metric, step)),
            ("_step", step),
            ("_min", min(so_far)),
            ("_max", max(so_far)),
        ):
            yield f"{family}training_metric{name}", (*me, *by), value


def firing(state: str) -> Iterator[tuple[str, str, Labels]]:
    """Return the alerts that fire in a state, with their severities and what they are about."""
    for account in accounts(state):
        who = tuple(label for label in account.where if label[0] != "instance")
        if not account.api:
            yield "CohereCredentialsRefused", "warning", (*who, ("reason", "unauthorized"))
        if account.gone:
            yield "CohereExporterDown", "warning", account.where
            yield "CohereFleetUnseen", "critical", who
        for model in account.models if state in {"normal", "failed"} else ():
            if model.end == "FAILED" and model.age < DAY:
                yield "CohereModelFailed", "warning", (*who, *known_by(model))


def alerts(state: str, now: int) -> Iterator[tuple[str, Labels, list[tuple[int, float]]]]:
    """Return what Prometheus notes of the alerts that fire in a state."""
    for number, (name, severity, about) in enumerate(firing(state)):
        labels: Labels = (("alertname", name), ("severity", severity), *about)
        times = range(now - 1200, now + 1, EVERY)
        yield "ALERTS", (*labels, ("alertstate", "firing")), [(at, 1) for at in times]
        yield "ALERTS_FOR_STATE", labels, [(at, now - 1800 - 60 * number) for at in times]


def write(state: str, file: TextIO, now: int) -> None:
    """Write a state as OpenMetrics, family by family."""
    families: Samples = defaultdict(dict)
    for account in accounts(state):
        for family, series in samples(account, now, 3 if state == "many" else 24).items():
            families[family] |= series
    for family, labels, values in alerts(state, now):
        families[family][labels] = values
    for family, series in families.items():
        for labels, values in series.items():
            shown = ",".join(f'{name}="{value}"' for name, value in sorted(labels))
            file.writelines(f"{family}{{{shown}}} {float(value)} {at}\n" for at, value in values)
    file.write("# EOF\n")


if __name__ == "__main__":
    with Path(sys.argv[2]).open("w", encoding="utf-8") as target:
        write(sys.argv[1], target, int(sys.argv[3]))
