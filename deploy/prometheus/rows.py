"""What a rule is, before it is written down.

What always holds in the tables of rules:
- an alert about a model knows it by `model_id` and `model_name`, so no restart, no rollout and no second
  exporter changes it; an alert about an exporter keeps the labels of its target and names none of them;
- an age is measured from the API's own times, so what happened while nobody looked counts from when it did,
  up to the last look at the API, so nothing grows old merely because nobody looks;
- a counter tells why something is wrong; that it is wrong is told by a gauge, or by how long it has lasted.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A series recorded for the alerts behind it, and, in `why`, what it is good for."""

    record: str
    why: str
    expr: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert; `summary` and `description` are Prometheus templates, `dashboard` a path below Grafana."""

    name: str
    severity: str
    for_: str
    expr: str
    summary: str
    description: str
    dashboard: str
