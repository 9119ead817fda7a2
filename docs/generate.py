"""Write the pages that come from the code or from the tests' tables; a test holds the pages to them.

Run it as `make docs`. Everything that names a metric or an option comes from the table of families, the
telemetry's registry and the declaration of the options; only the sentences around them stand here.
"""

import textwrap
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import Metric

from docs.calls import calls_page
from docs.failure_modes import failure_modes_page
from docs.tables import markdown
from exporter.cohere.transport import Endpoint
from exporter.cohere.wire import HYPERPARAMETERS, REJECTED_KINDS
from exporter.exposition.lines import identity, model_lines
from exporter.families import FAMILIES, STEP_FAMILIES, ModelFamily
from exporter.model import FinetunedModel, ModelState, Status, TrainingProgress
from exporter.settings import Option, format_duration, options
from exporter.settings.catalog import groups
from exporter.telemetry import Telemetry

_HERE = Path(__file__).parent
_NOTE = "<!-- Written by `make docs`; do not edit. -->\n"

_METRICS = """# Metrics

Every model family is a gauge and comes from one snapshot of the fleet; a value the API did not give has no
sample, and a model that leaves the list leaves the page. When no poll has succeeded for
`--poll.stale-after`, every model family is absent: a gap, not a lie. The exporter's own metrics stay.

## Models

{families}

`cohere_finetuned_model_status` has all nine statuses of the API for each model, and exactly one of them is 1:
{statuses}. A status that the API adds later appears under its own name; of more than 32 such,
`cohere_finetuned_models` counts the rest as `other`.

## Training steps

On `/metrics/steps` and in the output of `history` only, each sample with the timestamp of its step; see
[training curves](training-curves.md).

{steps}

## The API and the exporter

Always there, from the first scrape.

{telemetry}

`process_*` and `python_*` are as the Prometheus client for Python gives them;
`--web.disable-exporter-metrics` leaves them out.

## Values of labels

{values}

These come from the API, so the sets are open: what the API adds appears as it is.

{open_values}

Buckets of `cohere_exporter_api_request_duration_seconds`, in seconds: {buckets}.

## What one model looks like

```text
{sample}```

## Joining families

Labels such as `base_model` are on `cohere_finetuned_model_info` only; take them along with `group_left`.
`job` and `instance` belong into `on`, so that several exporters do not collide.

```promql
# latest loss, with the base model
cohere_finetuned_model_training_metric{{metric=~".*(loss|entropy).*"}}
  * on (job, instance, model_id, model_name) group_left (base_model, base_type) cohere_finetuned_model_info

# latest metrics of the models in training only
cohere_finetuned_model_training_metric
  and on (job, instance, model_id) cohere_finetuned_model_status{{status="STATUS_FINETUNING"}} == 1
```
"""

# What Cohere's specification names, and metrics that have been seen; see also the exporter's own tests.
_OPEN = {
    "metric": (
        "`accuracy`, `cross_entropy`, `generation_accuracy`, `generation_cross_entropy` of chat and "
        "generative models; `loss`, `accuracy`, `f1`, `precision`, `recall` of classification models; "
        "Cohere's dashboard of rerank models shows Accuracy@1, Accuracy@3, MRR@10 and nDCG@10"
    ),
    "base_type": (
        "`BASE_TYPE_UNSPECIFIED`, `BASE_TYPE_GENERATIVE`, `BASE_TYPE_CLASSIFICATION`, `BASE_TYPE_RERANK`, "
        "`BASE_TYPE_CHAT`"
    ),
    "strategy": "`STRATEGY_UNSPECIFIED`, `STRATEGY_VANILLA`, `STRATEGY_TFEW`",
    "lora_target_modules": (
        "`LORA_TARGET_MODULES_UNSPECIFIED`, `LORA_TARGET_MODULES_QV`, `LORA_TARGET_MODULES_QKVO`, "
        "`LORA_TARGET_MODULES_QKVO_FFN`"
    ),
}
_EXAMPLE = ModelState(
    FinetunedModel(
        id="5ebf140d-7ce7-5123-b4f7-3e9c4bd06ce0",
        name="support-chat-v12",
        status=Status.FINETUNING,
        base_type="BASE_TYPE_CHAT",
        base_model="command-r",
        base_model_version="08-2024",
        dataset_id="support-chat-560ebd",
        created_at=1_750_000_000.0,
        updated_at=1_750_003_600.0,
        hyperparameters={"train_epochs": 1.0, "learning_rate": 0.01},
    ),
    TrainingProgress(step=560, step_at=1_750_003_540.0, metrics={"accuracy": 0.6966, "cross_entropy": 1.239}),
)

_CONFIGURATION = """# Configuration

Each option is a flag, an environment variable and a key of the YAML file that `--config.file` names; a flag
wins over the environment, the environment over the file. `--poll.interval` is `COHERE_EXPORTER_POLL_INTERVAL`
is `poll: {{interval: ...}}`. An empty variable counts as not set. Durations are written as Prometheus writes
them (`45s`, `1m30s`, `2h`) or in plain seconds. Invalid configuration is reported in one line on stderr,
with exit code 2.

{options}

## The API key

The key is never given on the command line and never in the YAML file. It comes from `COHERE_API_KEY`,
else `CO_API_KEY`, or from the file that `--cohere.api-key-file` names, but not from both. The file is read
again for each request, so a rotated secret needs no restart; while it cannot be read, the last good key stays
in use. A private deployment that does its own authentication needs no key, and then no `Authorization` header
is sent; on Cohere's own hosts a missing key is an error.

## How often the API is called

`--poll.interval`, `--poll.idle-interval` and `--cohere.calls-per-month` together give the interval in force,
which is the metric `cohere_exporter_poll_interval_seconds`; [Calls](calls.md) tells what they cost and how to
choose them. `--poll.stale-after` is five times the interval in force unless it is given, and never less than
twice.

## When the API refuses

From the second refusal in a row the pause between polls doubles: up to 15 minutes for a key that is refused
(401, 402, 403), 10 minutes where there is nothing (404, 410) or a list has no end, an hour when the calls of
the month are spent. A `Retry-After` is kept to, up to an hour. A key file that changes ends the pause at
once.

## Proxies and certificates

`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` (HTTP proxies only), `NO_PROXY`, `SSL_CERT_FILE` and `SSL_CERT_DIR`
are understood as usual.

## How options depend on each other

- `--poll.idle-interval` is at least `--poll.interval`, and equal to it unless given.
- `--poll.stale-after` is at least twice `--poll.interval`; not given, it follows the interval in force.
- `--cohere.calls-per-month` may stretch the interval beyond both, and never shortens it.
- `--cohere.requests-per-minute` limits what `--cohere.concurrency` would allow.
- `--cohere.api-key-file` and a key in the environment exclude each other. On Cohere's own hosts one of
  them is needed.
- `--cohere.base-url` and `--cohere.api-key-file` are refused beside `demo` and `check --demo`, which
  bring their own API.
- `--demo.*` options matter to `demo` and `check --demo` only.
- `--metrics.exclude` that leaves out every family of training metrics saves the calls for step metrics, too.

## A complete file

Every option with its default; those in comments have none, or one that follows from another option. Keys may
be left out.

```yaml
{complete}```
"""


def metrics_page() -> str:
    """Give docs/metrics.md."""
    families, steps = (
        [(f"`{family.name}`", _labels(family.labels), family.help) for family in table]
        for table in (FAMILIES, STEP_FAMILIES)
    )
    telemetry = Telemetry(
        version="",
        revision="",
        endpoints=Endpoint,
        rejected_kinds=REJECTED_KINDS,
        calls_left=lambda: 0.0,
        process_metrics=False,
    )
    own = list(telemetry.registry.collect())
    return _NOTE + _METRICS.format(
        families=markdown(("family", "labels", "value"), families),
        steps=markdown(("family", "labels", "value"), steps),
        statuses=", ".join(f"`{status}`" for status in Status),
        telemetry=markdown(
            ("family", "type", "labels", "meaning"),
            [_own_row(metric) for metric in own],
        ),
        values="\n".join(
            f"- `{label}`: {', '.join(f'`{value}`' for value in _values(label, own))}"
            for label in ("endpoint", "reason", "kind", "file")
            if _values(label, own)
        ),
        open_values="\n".join(f"- `{label}`: {values}" for label, values in _open_values().items()),
        buckets=", ".join(f"`{bound}`" for bound in _values("le", own)),
        sample=_sample(),
    )


def _open_values() -> dict[str, str]:
    numeric = ", ".join(f"`{name}`" for name in HYPERPARAMETERS)
    return {**_OPEN, "hyperparameter": numeric}


def _sample() -> str:
    """Return the samples of one model, as /metrics has them."""
    families = [family for family in FAMILIES if isinstance(family, ModelFamily)]
    return b"".join(
        model_lines(family, [_EXAMPLE], [identity(_EXAMPLE.model)]) for family in families
    ).decode()


def configuration_page() -> str:
    """Give docs/configuration.md."""
    sections = []
    for name, group in groups().items():
        rows = [_option_row(option) for option in options() if option.group == name]
        title = (group.__doc__ or name).partition(".")[0]
        heads = ("flag", "variable", "default", "limits", "meaning")
        sections.append(f"## {title}\n\n{markdown(heads, rows)}")
    return _NOTE + _CONFIGURATION.format(options="\n\n".join(sections), complete=complete_file())


def complete_file() -> str:
    """Return a YAML file with every option at its default, in a comment what it means."""
    lines = []
    for name, group in groups().items():
        if name == "config":
            continue
        lines.append(f"# {(group.__doc__ or name).partition('.')[0]}\n{name}:")
        for option in options():
            if option.group == name:
                lines += textwrap.wrap(option.meaning, 100, initial_indent="  # ", subsequent_indent="  # ")
                lines.append(_yaml_line(option))
        lines.append("")
    return "\n".join(lines)


def _yaml_line(option: Option) -> str:
    """Return an option at its default; one whose default is none, or follows from another, in a comment."""
    key = option.key.partition(".")[2]
    if not option.default or " " in option.default:
        return f"  # {key}: {option.default or option.metavar}"
    quoted = f'"{option.default}"' if ":" in option.default else option.default
    return f"  {key}: {quoted}"


def _limits(option: Option) -> str:
    def written(bound: float) -> str:
        return format_duration(bound) if option.metavar == "DURATION" else f"{bound:g}"

    words = {"ge": "at least", "gt": "more than", "le": "at most"}
    return ", ".join(f"{words[name]} {written(bound)}" for name, bound in option.bounds.items())


def _own_row(metric: Metric) -> tuple[str, ...]:
    name = f"{metric.name}_total" if metric.type == "counter" else metric.name
    labels = {label: None for sample in metric.samples for label in sample.labels if label != "le"}
    return f"`{name}`", metric.type, _labels(labels), metric.documentation


def _values(label: str, metrics: Iterable[Metric]) -> list[str]:
    """Give the values of a label that are known in advance."""
    samples = (sample for metric in metrics for sample in metric.samples)
    return list(dict.fromkeys(sample.labels[label] for sample in samples if label in sample.labels))


def _option_row(option: Option) -> tuple[str, ...]:
    flag = f"`{option.flag}`" + (f" {option.metavar}" if option.metavar else "")
    default = f"`{option.default}`" if option.default else ""
    return flag.replace("|", "\\|"), f"`{option.variable}`", default, _limits(option), option.meaning


def _labels(labels: Iterable[str]) -> str:
    return ", ".join(f"`{label}`" for label in labels)


PAGES = {
    "metrics.md": metrics_page,
    "configuration.md": configuration_page,
    "calls.md": calls_page,
    "failure-modes.md": failure_modes_page,
}


def main() -> None:
    """Write the pages beside this file."""
    for name, page in PAGES.items():
        (_HERE / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
