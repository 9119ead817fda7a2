"""The rules from their tables: template, defaults, default rules file, index of the runbooks.

`make rules` writes them; a test holds all four to the tables. The template and the defaults are part of the
installed package and of the Helm chart, which render them for an installation (`exporter.rules`).
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import indent

import yaml

from deploy.prometheus import exporters, models
from deploy.prometheus.rows import WHO, Alert
from deploy.prometheus.thresholds import THRESHOLDS
from exporter.rules import render
from tools.links import urls

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "exporter/rules/rules.template.yml"
DEFAULTS = ROOT / "exporter/rules/defaults.yml"
RULES = ROOT / "deploy/prometheus/cohere-finetuning.rules.yml"
INDEX = ROOT / "docs/runbooks/README.md"

GROUPS: Mapping[str, Sequence[Alert]] = {
    "cohere-finetuning-models": models.ALERTS,
    "cohere-finetuning-api": exporters.API_ALERTS,
    "cohere-finetuning-exporter": exporters.EXPORTER_ALERTS,
}
ALERTS = tuple(alert for alerts in GROUPS.values() for alert in alerts)

_TEMPLATE_HEAD = """\
# Written by `make rules` from the tables in deploy/prometheus; do not edit. See exporter.rules for what is
# replaced in it.
"""
_DEFAULTS_HEAD = """\
# Written by `make rules` from the tables in deploy/prometheus; do not edit. Every value of the rules that can
# be set, with its default. docs/runbooks/README.md explains the thresholds.
"""
_RULES_HEAD = """\
# Alerts on Cohere fine-tuning, for Prometheus 2.40 and later, Mimir, Thanos and vmalert: the default rules.
# Written by `make rules`; do not edit. For other thresholds, severities, labels or links, render your own:
# docs/runbooks/README.md, "Settings".
"""

_INDEX = """\
<!-- Written by `make rules`; do not edit. -->
# Runbooks

One page per alert: meaning, impact, first command, likely causes, mitigation and how to silence it. An alert
is about an exporter, identified by `cluster, namespace, job`, or about one of its models.

{alerts}

**Which alerts page?** `severity` is the label to route by: only `CohereFleetUnseen` is `critical` by default.
With the [example for Alertmanager](../../deploy/prometheus/alertmanager.yml), `critical` alerts and
`CohereModelFailed` page through PagerDuty and go to Slack, `info` goes to e-mail alone, and everything else
to Slack. To be paged by another alert, raise its severity ([below](#settings)).

While no exporter delivers data (a restart, a rollout, an API outage), the last known state of the models is
held for an hour (`hold`), so that their alerts do not resolve and fire again, and `CohereFleetUnseen` fires.
After decommissioning an exporter on purpose, silence that alert for a week (`remembered`).

In the commands, `PROMETHEUS` and `EXPORTER` are the addresses of your Prometheus and your exporter,
`NAMESPACE` is a Kubernetes namespace and `MODEL_ID` is the model's id.

## Settings

Every value can be changed without a checkout of this project: in a values file for
`cohere-finetune-exporter rules --values FILE`, or, under the same names (`labels` as `ruleLabels`), as values
of the Helm chart's `prometheusRule`.

```yaml
url: https://ops.example.com      # makes links absolute: runbooks under /runbooks, Grafana under /d
runbooksUrl: ""                   # base URL of these pages, if different
grafanaUrl: ""                    # base URL of Grafana, if different
labels: {{team: ml}}                # added to every alert
severities: {{CohereModelFailed: critical}}
disabled: [CohereSeriesDropped]
thresholds: {{step_silence: 7200}}  # whole numbers
selector: 'namespace="team-a"'    # added to every selector of every expression; one line, without backticks
```

Where rules see only one namespace (OpenShift user workload monitoring, `enforcedNamespaceLabel`), render
them once per namespace with a `selector`; the absence check then covers that namespace.

Without a URL, the annotations `runbook` and `dashboard` name the page and the dashboard; with one,
`runbook_url` and `dashboard_url` link to them.

## Thresholds

{thresholds}
"""


def files() -> Iterator[tuple[Path, str]]:
    """Return each file with its content; the rules follow from the two before them, as they are on disk."""
    yield TEMPLATE, template()
    yield DEFAULTS, default_values()
    yield RULES, rules_file()
    yield INDEX, index_page()


def template() -> str:
    """Return the template of the rules."""
    groups = [f"  - name: {name}\n    rules:\n{''.join(map(_rule, rows))}" for name, rows in GROUPS.items()]
    return f"{_TEMPLATE_HEAD}groups:\n{''.join(groups)}"


def default_values() -> str:
    """Return the values that can be set, with their defaults."""
    values = {
        "url": "",
        "runbooksUrl": "",
        "grafanaUrl": "",
        "selector": "",
        "labels": {},
        "disabled": [],
        "severities": {alert.name: alert.severity for alert in ALERTS},
        "thresholds": {name: threshold.value for name, threshold in THRESHOLDS.items()},
    }
    return _DEFAULTS_HEAD + yaml.safe_dump(values, sort_keys=False)


def rules_file() -> str:
    """Return the default rules, rendered from the template and the defaults as they are on disk."""
    return _RULES_HEAD + render()


def index_page() -> str:
    """Return docs/runbooks/README.md."""
    alerts = [
        (f"[{alert.name}]({alert.name}.md)", alert.severity, _for_people(alert.summary)) for alert in ALERTS
    ]
    numbers = [
        (f"`{threshold.name}`", f"{threshold.value} {threshold.unit}", threshold.why)
        for threshold in THRESHOLDS.values()
    ]
    return _INDEX.format(
        alerts=_table(("alert", "severity", "says"), alerts),
        thresholds=_table(("threshold", "default", "reason"), numbers),
    )


def runbook(alert: str) -> str:
    """Return where an alert's runbook is, for an installation without an address of its own."""
    folder = urls().get("Runbooks", "").rstrip("/")
    return f"{folder}/{alert}.md" if folder else f"docs/runbooks/{alert}.md of cohere-finetune-exporter"


def _rule(alert: Alert) -> str:
    annotations = {
        "summary": alert.summary,
        "description": alert.description,
        "action": alert.action,
        "ended": alert.ended,
        "runbook": runbook(alert.name),
        "runbook_url": f"@runbooksUrl@/{alert.name}.md",
        "dashboard": f"{alert.dashboard_title} in Grafana",
        "dashboard_url": f"@grafanaUrl@{alert.dashboard}",
    }
    return (
        f"      - alert: {alert.name}\n        expr: |\n{indent(alert.expr.strip(), ' ' * 10)}\n"
        f"        for: {alert.for_}\n        annotations:\n"
        f"{indent(yaml.safe_dump(annotations, sort_keys=False, width=1000), ' ' * 10)}"
    )


def _for_people(text: str) -> str:
    text = text.replace(models.NAME, "*model*").replace(WHO, "*job*")
    return re.sub(r"{{ \$labels\.(\w+) }}", r"*\1*", text)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
