"""Recording rules that describe each number by base type, base model, dataset and creator.

They make the questions of `docs/reading-the-numbers.md` one line each. Every rule keeps the identity of the
exporter (`cluster, namespace, job`) and of the model; the instance is dropped, so that two exporters of one
account count as one. `make rules` writes the template that the package and the Helm chart render, and the
rules as rendered without a selector; a test holds both to this table.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent

from deploy.prometheus.rows import SELECTOR
from exporter.rules import render_recording

FILE = Path(__file__).parent / "cohere-finetuning.recording.yml"
TEMPLATE = Path(__file__).parents[2] / "exporter/rules/recording.template.yml"

EXPORTER = "cluster, namespace, job"
MODEL = f"{EXPORTER}, model_id, model_name"
DESCRIPTION = "base_type, base_model, dataset_id, creator_id"

_HEADER = """\
# Recording rules for the questions in docs/reading-the-numbers.md, for Prometheus 2.40 and later.
# Written by `make rules` from deploy/prometheus/recording.py; do not edit. The alerts do not need them.
groups:
  - name: cohere-finetuning-described
    interval: 1m  # the questions count minutes
    rules:
"""


@dataclass(frozen=True, slots=True)
class Rule:
    """A recording rule, and what it is for in one line."""

    record: str
    why: str
    expr: str


def _of_model(family: str, *labels: str) -> str:
    return f"max by ({', '.join([MODEL, *labels])}) (cohere_finetuned_model_{family}{{{SELECTOR}}})"


def _described(expr: str) -> str:
    """Return `expr`, which has the labels of `MODEL`, with those of `DESCRIPTION` as well."""
    info = f"max by ({MODEL}, {DESCRIPTION}) (cohere_finetuned_model_info{{{SELECTOR}}})"
    return f"{expr}\n* on ({MODEL}) group_left ({DESCRIPTION})\n  {info}"


def _of_status(status: str) -> str:
    return f'max by ({MODEL}) (cohere_finetuned_model_status{{status="{status}", {SELECTOR}}}) == 1'


_CREATED = _of_model("created_timestamp_seconds")
_LAST_OF_NAME = f"on ({EXPORTER}, model_name) group_left () max by ({EXPORTER}, model_name)"
_REPLACED = f"({_CREATED} < {_LAST_OF_NAME} ({_CREATED}))"

RULES = (
    *(
        Rule(
            f"cohere_finetuned_model:{family}:described",
            f"{meaning} of each evaluation metric.",
            _described(_of_model(family, "metric")),
        )
        for family, meaning in (
            ("training_metric", "Latest value"),
            ("training_metric_min", "Lowest value"),
            ("training_metric_max", "Highest value"),
        )
    ),
    Rule(
        "cohere_finetuned_model:status:described",
        "The status in force, always 1; other statuses have no series.",
        _described(f"({_of_model('status', 'status')} == 1)"),
    ),
    Rule(
        "cohere_finetuned_model:turnaround_seconds:described",
        "From creation to the end of training, queue included; only of runs that ended well.",
        _described(f"({_of_model('completed_timestamp_seconds')} - {_CREATED})"),
    ),
    Rule(
        "cohere_finetuned_model:elapsed_seconds:described",
        "Time since creation of the runs that are in training.",
        _described(f"(time() - {_CREATED} and {_of_status('STATUS_FINETUNING')})"),
    ),
    Rule(
        "cohere_finetuned_model:unused_seconds:described",
        "Time since the last use of READY models, or since training ended when there was none.",
        _described(
            f"(time() - ({_of_model('last_used_timestamp_seconds')}"
            f" or {_of_model('completed_timestamp_seconds')})\n   and {_of_status('STATUS_READY')})"
        ),
    ),
    Rule(
        "cohere_finetuned_model:newest_of_name",
        "Creation time of the newest model of each name.",
        f"{_CREATED}\n== {_LAST_OF_NAME} ({_CREATED})",
    ),
    Rule(
        "cohere_finetuned_model:predecessor_of_name",
        "Creation time of the newest but one of each name.",
        f"{_REPLACED}\n== {_LAST_OF_NAME} ({_REPLACED})",
    ),
)


def files() -> Iterator[tuple[Path, str]]:
    """Return each file with its content; the rules follow from the template as written before them."""
    yield TEMPLATE, template()
    yield FILE, render_recording()


def template() -> str:
    """Return the template of the recording rules."""
    return _HEADER + "".join(
        f"      # {rule.why}\n      - record: {rule.record}\n        expr: |\n{indent(rule.expr, ' ' * 10)}\n"
        for rule in RULES
    )
