"""Scenarios for the rules: a stretch of time under the model of exporters, and which alerts fire when."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.exporter_model import Exporter, input_series

# What tells alerts apart here, beside their name.
TOLD = ("job", "model_name", "status", "reason", "instance", "kind", "file", "limit")

Fires = frozenset[tuple[str, str]]


def fires(name: str, **labels: str) -> Fires:
    """Return an alert that fires, by what tells it apart; that of job "a" unless another is named."""
    return frozenset({"job": "a", **labels, "alertname": name}.items())


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """`expected` is, for moments in seconds, everything that fires then and nothing else."""

    name: str
    exporters: Sequence[Exporter]
    expected: Mapping[float, Sequence[Fires]]
    scrape: float = 60
    evaluation: float = 60

    def __str__(self) -> str:
        return self.name

    def unit_test(self, rules: Path) -> dict[str, object]:
        """Return the scenario as a file for `promtool test rules`."""
        series = input_series(self.exporters, max(self.expected) + self.scrape, self.scrape)
        return {
            "rule_files": [str(rules)],
            "evaluation_interval": f"{self.evaluation:.0f}s",
            "tests": [
                {
                    "name": self.name,
                    "interval": f"{self.scrape:.0f}s",
                    "input_series": series,
                    "promql_expr_test": [_check(at, alerts) for at, alerts in self.expected.items()],
                }
            ],
        }


def _check(at: float, alerts: Sequence[Fires]) -> dict[str, object]:
    labels = ("alertname", *TOLD)
    return {
        "expr": f'count by ({", ".join(labels)}) (ALERTS{{alertstate="firing"}})',
        "eval_time": f"{at:.0f}s",
        "exp_samples": [
            {"labels": "{" + ", ".join(f'{key}="{value}"' for key, value in sorted(alert)) + "}", "value": 1}
            for alert in alerts
        ],
    }


async def promtool(program: str, folder: Path, rules: Path, scenario: Scenario) -> str:
    """Run a scenario; return what promtool found wrong, "" if nothing."""
    file = folder / "scenario.json"
    file.write_text(json.dumps(scenario.unit_test(rules)))
    process = await asyncio.create_subprocess_exec(
        *(program, "test", "rules", str(file)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    return out.decode() if process.returncode else ""
