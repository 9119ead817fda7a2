"""Write the rules file and the index of the runbooks from the tables; a test holds both to them.

Run it as `make rules`. Links stand below two bases, `--runbooks` and `--grafana`, whose defaults need no
host: a runbook is a path in this project, a dashboard a path below Grafana's address.
"""

import re
from argparse import ArgumentParser
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from deploy.prometheus import exporters, models, thresholds
from deploy.prometheus.rows import Alert, Recording
from deploy.prometheus.thresholds import Threshold

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy/prometheus/cohere-finetuning.rules.yml"
INDEX = ROOT / "docs/runbooks/README.md"

RUNBOOKS = "docs/runbooks"
GRAFANA = ""

ALERTS = (*models.ALERTS, *exporters.API_ALERTS, *exporters.EXPORTER_ALERTS)
GROUPS: Mapping[str, Sequence[Recording | Alert]] = {
    # The rules of a group are evaluated in order, so the alerts see what is recorded in the same moment.
    "cohere-finetuning-models": (*models.RECORDINGS, *models.ALERTS),
    "cohere-finetuning-api": exporters.API_ALERTS,
    "cohere-finetuning-exporter": exporters.EXPORTER_ALERTS,
}

_HEADER = """\
# Rules for the Cohere fine-tuning exporter, for Prometheus 2.40 and later.
# Written by `make rules` from the tables beside this file; do not edit.
#
# The links want their bases: where you serve the runbooks, and your Grafana. Either command sets both:
#
#   python -m deploy.prometheus.generate --output=my.rules.yml \\
#     --runbooks=https://wiki.example.com/runbooks --grafana=https://grafana.example.com
#
#   sed -e 's|runbook_url: docs/runbooks/|runbook_url: https://wiki.example.com/runbooks/|' \\
#     -e 's|dashboard_url: /d/|dashboard_url: https://grafana.example.com/d/|' cohere-finetuning.rules.yml
#
# One Prometheus is meant for the exporters of one account; several exporters of it count as one. With several
# accounts the fleet of one hides that another's is missing, and a training of one excuses another's queue:
# give each account a Prometheus, or a copy of these rules narrowed to its targets.
#
# The numbers are set in thresholds.py; docs/runbooks/README.md gives the reason of each.

"""

_INDEX = """\
<!-- Written by `make rules`; do not edit. -->
# Runbooks

One page for each alert of `deploy/prometheus/cohere-finetuning.rules.yml`: what it means, what it costs, how
to look into it, what to do. `critical` is worth waking somebody: a model failed, or nobody sees one fail. In
the queries `ID` stands for the `model_id` of the alert.

{alerts}

While no exporter delivers a fleet (a restart, a rollout, an outage of the API), what was last known of the
models holds for {hold}: their alerts do not end and begin anew. After that they end, and `CohereDataStale` or
`CohereExporterAbsent` says that nobody looks. Ages of statuses and steps are those at the last good poll.

One Prometheus is meant for the exporters of one account; several exporters of that account count as one. With
several accounts, the fleet of one hides that another's is missing, so alerts about models end and begin anew
around a restart; a training of one account excuses another's queue; ages and failed readings are mixed. Give
each account a Prometheus, or a copy of the rules narrowed to its targets.

## Thresholds

They are set in `deploy/prometheus/thresholds.py`; `make rules` writes them into the rules. Products are
seconds.

{thresholds}
"""


class _Block(str):
    """Text that YAML shows line by line."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    """Writes lists indented below their key, as people do, and blocks as blocks."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        """Indent every list."""
        super().increase_indent(flow, indentless=False)

    def block(self, text: _Block) -> yaml.ScalarNode:
        """Show a text line by line."""
        return self.represent_scalar("tag:yaml.org,2002:str", text, style="|")


_Dumper.add_representer(_Block, _Dumper.block)


def rules_file(runbooks: str = RUNBOOKS, grafana: str = GRAFANA) -> str:
    """Give the rules file, its links below these bases."""
    bases = runbooks.rstrip("/"), grafana.rstrip("/")
    groups = [{"name": name, "rules": [_rule(row, *bases) for row in rows]} for name, rows in GROUPS.items()]
    return _HEADER + _with_reasons(yaml.dump({"groups": groups}, Dumper=_Dumper, sort_keys=False, width=1000))


def index_page() -> str:
    """Give docs/runbooks/README.md."""
    alerts = [
        (f"[{alert.name}]({alert.name}.md)", alert.severity, alert.for_, _for_people(alert.summary))
        for alert in ALERTS
    ]
    numbers = [
        (f"`{name}`", f"`{number}`", number.why)
        for name, number in vars(thresholds).items()
        if isinstance(number, Threshold)
    ]
    return _INDEX.format(
        alerts=_table(("alert", "severity", "after", "says"), alerts),
        thresholds=_table(("threshold", "value", "reason"), numbers),
        hold=thresholds.HOLD,
    )


def _rule(row: Recording | Alert, runbooks: str, grafana: str) -> dict[str, Any]:
    expr = row.expr.strip()
    text = _Block(expr + "\n") if "\n" in expr else expr
    if isinstance(row, Recording):
        return {"record": row.record, "expr": text}
    return {
        "alert": row.name,
        "expr": text,
        "for": row.for_,
        "labels": {"severity": row.severity},
        "annotations": {
            "summary": row.summary,
            "description": row.description,
            "runbook_url": f"{runbooks}/{row.name}.md",
            "dashboard_url": f"{grafana}{row.dashboard}",
        },
    }


def _with_reasons(text: str) -> str:
    """Put what each recording is good for above it; the YAML library writes no comments."""
    for row in models.RECORDINGS:
        entry = f"      - record: {row.record}\n"
        comment = "".join(f"      # {line}\n" for line in row.why.splitlines())
        text = text.replace(entry, comment + entry)
    return text


def _for_people(template: str) -> str:
    return re.sub(r"{{ \$labels\.(\w+) }}", r"*\1*", template)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main() -> None:
    """Write the rules, and the index that belongs to them."""
    parser = ArgumentParser(description="Write the rules file and the index of the runbooks.")
    parser.add_argument("--runbooks", default=RUNBOOKS, metavar="BASE", help="what runbook_url begins with")
    parser.add_argument("--grafana", default=GRAFANA, metavar="BASE", help="what dashboard_url begins with")
    parser.add_argument("--output", default=RULES, metavar="FILE", type=Path, help="the rules file")
    options = parser.parse_args()
    options.output.write_text(rules_file(options.runbooks, options.grafana), encoding="utf-8")
    INDEX.write_text(index_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
