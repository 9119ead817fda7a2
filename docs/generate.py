"""Write the pages that come from the code or from the tests' tables; a test holds the pages to them.

Run it as `make docs`. Everything that names a metric or an option comes from the table of families, the
telemetry's registry and the declaration of the options; only the sentences around them stand here.
"""

import re
import textwrap
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import Metric

from docs.calls import calls_page
from docs.compatibility import compatibility_page, tested_with
from docs.failure_modes import failure_modes_page
from docs.tables import markdown
from docs.training_curves import training_curves_page
from exporter.cohere.transport import Endpoint
from exporter.cohere.wire import HYPERPARAMETERS, REJECTED_KINDS
from exporter.exposition.lines import identity, model_lines
from exporter.families import FAMILIES, STEP_FAMILIES, ModelFamily
from exporter.model import FinetunedModel, ModelState, Status, TrainingProgress
from exporter.settings import Option, options
from exporter.settings.catalog import titles
from exporter.telemetry import Telemetry

_HERE = Path(__file__).parent
_NOTE = "<!-- Written by `make docs`; do not edit. -->\n"

_METRICS = """# Metrics

All model metrics are gauges and come from one snapshot of the fleet. A value that the API does not return has
no sample, and a model that the API no longer lists has no series. When no poll has succeeded for
`--poll.stale-after`, the data is stale and all model metrics are absent; the exporter's own metrics remain.

## Models

{families}

`cohere_finetuned_model_status` has a series for each of the API's nine statuses, and exactly one of them is
1: {statuses}. A status that the API adds later appears under its own name; beyond 32 of these,
`cohere_finetuned_models` counts the rest as `other`.

## Training steps

Only on `/metrics/steps` and in the output of `history`, with the timestamp of each step; see
[training curves](training-curves.md).

{steps}

## The API and the exporter

Present from the first scrape, whatever the API does.

{telemetry}

`process_*` and `python_*` are the standard metrics of the Prometheus client for Python;
`--web.disable-exporter-metrics` omits them.

## Label values

{values}

These come from the API, which may add others; they appear as the API spells them.

{open_values}

Buckets of `cohere_exporter_api_request_duration_seconds`, in seconds: {buckets}.

## Example: one model

```text
{sample}```

## Joining families

Labels such as `base_model` are only on `cohere_finetuned_model_info`; join them with `group_left`. Include
`job` and `instance` in `on`, so that several exporters do not collide.

The latest loss, with the base model:

```promql
cohere_finetuned_model_training_metric{{metric=~".*(loss|entropy).*"}}
  * on (job, instance, model_id, model_name) group_left (base_model, base_type) cohere_finetuned_model_info
```

The latest metrics of models in training:

```promql
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
_RELOADED = ("api_key", "ca", "client_cert", "web_config")
_EXAMPLE = ModelState(
    FinetunedModel(
        id="5ebf140d-7ce7-5123-b4f7-3e9c4bd06ce0",
        name="support-chat-v12",
        status=Status.READY,
        base_type="BASE_TYPE_CHAT",
        base_model="command-r",
        base_model_version="08-2024",
        strategy="STRATEGY_TFEW",
        dataset_id="support-chat-560ebd",
        organization_id="org-7f3a",
        creator_id="user-19c2",
        lora_target_modules="LORA_TARGET_MODULES_QKVO",
        wandb_project="assistants",
        wandb_entity="example-research",
        created_at=1_750_000_000.0,
        updated_at=1_750_004_200.0,
        completed_at=1_750_003_600.0,
        last_used=1_750_090_000.0,
        hyperparameters={"train_epochs": 1.0, "learning_rate": 0.01},
    ),
    TrainingProgress(
        step=560,
        step_at=1_750_003_540.0,
        metrics={"accuracy": 0.6966, "cross_entropy": 1.239},
        metric_steps={"accuracy": 560, "cross_entropy": 560},
        lowest={"accuracy": 0.4102, "cross_entropy": 1.2311},
        highest={"accuracy": 0.6981, "cross_entropy": 2.6047},
    ),
)

_CONFIGURATION = """# Configuration

Each option is a flag, an environment variable and a key in the YAML file given by `--config.file`: for
example `--poll.interval`, `COHERE_EXPORTER_POLL_INTERVAL` and `poll: {{interval: ...}}`. Flags take
precedence over the environment, and the environment over the file. An empty variable counts as not set.
Durations are written as in Prometheus (`45s`, `1m30s`, `2h`) or in plain seconds. Invalid configuration is
reported in one line on stderr; the exit code is 2. `check --config-only` validates the configuration without
calling the API.

{options}

## The API key

The key is read from the file given by `--cohere.api-key-file`, or from `COHERE_API_KEY`, else `CO_API_KEY`;
giving both the file and a variable is an error. It is never accepted on the command line or in the YAML file.
The file is reloaded when it changes, so [rotating the key](secrets.md#rotate-the-key) needs no restart; while
it cannot be read, the last good key stays in use. A private deployment that does its own authentication needs
no key, and no `Authorization` header is sent; on Cohere's own hosts a missing key is an error.

## Poll interval, rate limit and quota

`--poll.interval`, `--poll.idle-interval`, the quota `--cohere.calls-per-month` and, for large fleets, the
rate limit `--cohere.requests-per-minute` together determine the current interval, exposed as
`cohere_exporter_poll_interval_seconds`; [API calls](calls.md) explains what polling costs and how to choose
them. `--poll.stale-after` defaults to five times the current interval and is never less than twice.

## Backoff

Polling never stops: while the API refuses requests, the exporter backs off exponentially. From the second
refusal in a row, the time to the next poll doubles, up to

- 15 minutes for refused credentials (401, 402, 403);
- 10 minutes when the API is not found (404, 410) or a list never ends;
- an hour when the monthly quota is used up.

Other failures are retried after the interval; if that is longer than a minute, after one minute, doubling up
to the interval. `Retry-After` is honoured, up to an hour. When the key file changes, the next poll follows at
once. `cohere_exporter_next_poll_timestamp_seconds`, the landing page and `next_poll_seconds` in the log's
`poll failed` line say when the next poll is due; see [why polling fails](failure-modes.md#why-did-it-stop-
polling).

## Proxies and certificates

`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` (HTTP proxies only), `NO_PROXY`, `SSL_CERT_FILE` and `SSL_CERT_DIR`
work as usual; [networks](networks.md) has the details.

## How options depend on each other

- `--poll.idle-interval` must be at least `--poll.interval`, its default.
- `--poll.stale-after` must be at least twice `--poll.interval`; by default it follows the current interval.
- `--cohere.calls-per-month` may lengthen the interval beyond both, and never shortens it.
- `--cohere.requests-per-minute` may limit requests further than `--cohere.concurrency` does. Where
  lists would leave too little of it for step metrics, the interval becomes longer.
- `--cohere.api-key-file` and a key in the environment are mutually exclusive. Cohere's own hosts require one
  of them.
- `demo`, `check --demo` and `history --demo` use the simulated API. The flags `--cohere.base-url` and
  `--cohere.api-key-file` are an error there; the same options in the environment or the file, which may be
  there for other runs, are ignored.
- `--demo.*` options only affect `demo` and `--demo`.
- `--metrics.exclude` that matches every training metric, on both pages, also saves the calls for them.

## Complete file

Every option with its default. Options in comments have no default, or one that depends on another option. Any
key may be left out.

```yaml
{complete}```
"""


def metrics_page() -> str:
    """Return docs/metrics.md."""
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
        has_budget_file=True,
        process_metrics=False,
    )
    for file in _RELOADED:
        telemetry.reloaded(file, successful=True, now=0)
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
    """Return docs/configuration.md."""
    sections = []
    for name, title in titles().items():
        rows = [_option_row(option) for option in options() if option.group == name]
        heads = ("flag", "variable", "default", "limits", "meaning")
        sections.append(f"## {title}\n\n{markdown(heads, rows)}")
    return _NOTE + _CONFIGURATION.format(options="\n\n".join(sections), complete=complete_file())


def complete_file() -> str:
    """Return a YAML file with every option at its default, in a comment what it means."""
    lines = []
    for name, title in titles().items():
        if name == "config":
            continue
        lines.append(f"# {title}\n{name}:")
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


def _own_row(metric: Metric) -> tuple[str, ...]:
    name = f"{metric.name}_total" if metric.type == "counter" else metric.name
    labels = {label: None for sample in metric.samples for label in sample.labels if label != "le"}
    return f"`{name}`", metric.type, _labels(labels), metric.documentation


def _values(label: str, metrics: Iterable[Metric]) -> list[str]:
    """Return the values of a label that are known in advance."""
    samples = (sample for metric in metrics for sample in metric.samples)
    return list(dict.fromkeys(sample.labels[label] for sample in samples if label in sample.labels))


def _option_row(option: Option) -> tuple[str, ...]:
    flag = f"`{option.flag}`" + (f" {option.metavar}" if option.metavar else "")
    default = f"`{option.default}`" if option.default else ""
    return (
        flag.replace("|", "\\|"),
        f"`{option.variable}`",
        default,
        ", ".join(map(option.limit, option.bounds)),
        option.meaning,
    )


def _labels(labels: Iterable[str]) -> str:
    return ", ".join(f"`{label}`" for label in labels)


PAGES = {
    "metrics.md": metrics_page,
    "configuration.md": configuration_page,
    "calls.md": calls_page,
    "failure-modes.md": failure_modes_page,
    "training-curves.md": training_curves_page,
    "compatibility.md": compatibility_page,
}


def readme(text: str) -> str:
    """Return the README with the sentence about what was tested as it is now."""
    return re.sub(r"^Tested with .*?\)\.$", tested_with(), text, flags=re.DOTALL | re.MULTILINE)


def main() -> None:
    """Write the pages beside this file, and one sentence of the README."""
    file = _HERE.parent / "README.md"
    file.write_text(readme(file.read_text(encoding="utf-8")), encoding="utf-8")
    for name, page in PAGES.items():
        (_HERE / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
