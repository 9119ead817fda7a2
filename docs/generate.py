"""Write the pages that come from the code or from the tests' tables; a test holds the pages to them.

Run it as `make docs`. Everything that names a metric or an option comes from the table of families, the
telemetry's registry and the declaration of the options; only the sentences around them stand here.
"""

from collections.abc import Iterable
from pathlib import Path

from prometheus_client import Metric

from docs.calls import calls_page
from docs.failure_modes import failure_modes_page
from docs.tables import markdown
from exporter.cohere.transport import Endpoint
from exporter.cohere.wire import REJECTED_KINDS
from exporter.families import FAMILIES
from exporter.model import Status
from exporter.settings import Option, options
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

## The API and the exporter

Always there, from the first scrape.

{telemetry}

`process_*` and `python_*` are as the Prometheus client for Python gives them;
`--web.disable-exporter-metrics` leaves them out.

## Values of labels

{values}
"""

_CONFIGURATION = """# Configuration

Each option is a flag, an environment variable and a key of the YAML file that `--config.file` names; a flag
wins over the environment, the environment over the file. `--poll.interval` is `COHERE_EXPORTER_POLL_INTERVAL`
is `poll: {{interval: ...}}`. An empty variable counts as not set. Durations are written as Prometheus writes
them (`45s`, `1m30s`, `2h`) or in plain seconds. What cannot be used is told in one line on standard error,
with exit code 2.

{options}

## The API key

The key is never given on the command line and never stands in the YAML file. It comes from `COHERE_API_KEY`,
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

## Example

```yaml
cohere:
  base-url: https://gateway.example.com/cohere
  api-key-file: /run/secrets/cohere-api-key
poll:
  interval: 2m
log:
  format: json
```
"""


def metrics_page() -> str:
    """Give docs/metrics.md."""
    families = [(f"`{family.name}`", _labels(family.labels), family.help) for family in FAMILIES]
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
        statuses=", ".join(f"`{status}`" for status in Status),
        telemetry=markdown(
            ("family", "type", "labels", "meaning"),
            [_own_row(metric) for metric in own],
        ),
        values="\n".join(
            f"- `{label}`: {', '.join(f'`{value}`' for value in _values(label, own))}"
            for label in ("endpoint", "reason", "kind")
        ),
    )


def configuration_page() -> str:
    """Give docs/configuration.md."""
    sections = []
    for name, group in groups().items():
        rows = [_option_row(option) for option in options() if option.group == name]
        title = (group.__doc__ or name).partition(".")[0]
        sections.append(f"## {title}\n\n{markdown(('flag', 'variable', 'default', 'meaning'), rows)}")
    return _NOTE + _CONFIGURATION.format(options="\n\n".join(sections))


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
    return flag.replace("|", "\\|"), f"`{option.variable}`", default, option.meaning


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
