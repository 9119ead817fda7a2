"""What an alert is, before it is written down.

What always holds in the tables of alerts:
- the identity of an exporter is `cluster, namespace, job`; it is in every aggregation and every match, so
  that several accounts share one Prometheus; a label that is missing costs nothing;
- no expression needs an unbroken series, so lost scrapes and restarts neither end an alert nor hide one;
- what Prometheus saw counts before any clock; no alert compares the exporter's clock with Prometheus's
  without a bound;
- there are no recording rules: an alert needs no result of another rule, which some engines deliver late.
"""

from dataclasses import dataclass

from deploy.prometheus.thresholds import THRESHOLDS, Threshold

SELECTOR = "@selector@"
IDENTITY = "cluster, namespace, job"
MODEL_ID = f"{IDENTITY}, model_id"
MODEL = f"{MODEL_ID}, model_name"
WHO = (
    "{{ with $labels.cluster }}{{ . }}/{{ end }}{{ with $labels.namespace }}{{ . }}/{{ end }}"
    '{{ or $labels.job "this Prometheus" }}'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert; the texts are Prometheus templates.

    `action` is the first step of its runbook and `ended` what it means that the alert resolves; `dashboard`
    is a path below Grafana, and `dashboard_title` its name.
    """

    name: str
    severity: str = "warning"
    for_: str = "0s"
    expr: str
    summary: str
    description: str
    action: str
    ended: str
    dashboard: str
    dashboard_title: str


def limit(name: str) -> Threshold:
    """Return the threshold of this name; in a text it stands for its number."""
    return THRESHOLDS[name]


def duration(name: str, *, plus: int = 0) -> str:
    """Return a template that writes a threshold, `plus` some seconds, as people do: 15m, 6h, 1d."""
    written = 'humanizeDuration | reReplaceAll "( 0[hms])+$" ""'
    if not plus:
        return f"{{{{ {limit(name)}.0 | {written} }}}}"
    sum_ = f"with query `vector({limit(name)} + {plus})`"
    return f"{{{{ {sum_} }}}}{{{{ . | first | value | {written} }}}}{{{{ end }}}}"


def series(metric: str, *matchers: str) -> str:
    """Return a selector of a metric, with room for the matchers of an installation."""
    return f"{metric}{{{', '.join([*matchers, SELECTOR])}}}"


def last(metric: str, *matchers: str, window: str = "recent") -> str:
    """Return the last sample of each series within a window."""
    return f"last_over_time({series(metric, *matchers)}[{limit(window)}s])"
