"""Scenarios for the rules: a stretch of time under the model of exporters, and which alerts fire when."""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.exporter_model import Exporter, input_series
from tests.programs import program

# What tells alerts apart here, beside their name.
TOLD = ("job", "model_name", "status", "reason", "instance", "kind", "file", "limit")

Fires = frozenset[tuple[str, str]]


def fires(name: str, **labels: str) -> Fires:
    """Return an alert that fires, by what tells it apart; that of job "a" unless another is named."""
    return frozenset({"job": "a", **labels, "alertname": name}.items())


def of_each(jobs: str, name: str, **labels: str) -> list[Fires]:
    """Return an alert that fires for each of the jobs, which are letters."""
    return [fires(name, job=job, **labels) for job in jobs]


@dataclass(frozen=True)
class Engine:
    """A program that runs tests of rules.

    `checks` is what its files call the expressions to check; its tests begin at the Unix time `epoch`.
    """

    program: str
    checks: str
    epoch: float
    arguments: Callable[[Sequence[str]], Sequence[str]]


PROMTOOL = Engine("promtool", "promql_expr_test", 0, lambda files: ("test", "rules", *files))
VMALERT = Engine(
    "vmalert-tool",
    "metricsql_expr_test",
    datetime(2000, 1, 1, tzinfo=UTC).timestamp(),
    lambda files: ("unittest", f"--files={','.join(files)}"),
)


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

    def unit_test(self, engine: Engine) -> dict[str, object]:
        """Return the scenario as one of the tests in an engine's file."""
        seconds = max(self.expected) + self.scrape
        return {
            "name": self.name,
            "interval": f"{self.scrape:.0f}s",
            "input_series": input_series(self.exporters, seconds, self.scrape, engine.epoch),
            engine.checks: [_check(at, alerts) for at, alerts in self.expected.items()],
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


async def judge(engine: Engine, folder: Path, rules: Path, scenarios: Sequence[Scenario]) -> str:
    """Run scenarios, all at once; return what the engine found wrong with which, "" if nothing."""
    found = await _run(engine, folder, rules, scenarios)
    if not found or len(scenarios) == 1:
        return found
    # Promtool 2 does not say which test failed.
    alone = [(one.name, await _run(engine, folder, rules, [one])) for one in scenarios]
    return "\n".join(f"{name}: {wrong}" for name, wrong in alone if wrong) or found


async def description(folder: Path, rules: Path, alert: str, scenario: Scenario) -> str:
    """Return the description of an alert that fires at the end of a scenario."""
    (moment,) = scenario.expected
    wrong = {"alertname": alert, "eval_time": f"{moment:.0f}s", "exp_alerts": []}
    test = {**scenario.unit_test(PROMTOOL), PROMTOOL.checks: [], "alert_rule_test": [wrong]}
    found = await compared(folder, [test], rule_files=[str(rules)], evaluation_interval="60s")
    return found.partition('description="')[2] or found


async def compared(folder: Path, tests: Sequence[Mapping[str, object]], **options: object) -> str:
    """Let promtool run tests in its own form; return what it found wrong, "" if nothing."""
    file = folder / "tests.json"
    file.write_text(json.dumps({"tests": tests, **options}))
    return await _execute(PROMTOOL, [str(file)])


async def _run(engine: Engine, folder: Path, rules: Path, scenarios: Sequence[Scenario]) -> str:
    files = [
        _write(engine, folder, rules, of_one, interval) for interval, of_one in _by_evaluation(scenarios)
    ]
    return await _execute(engine, files)


async def _execute(engine: Engine, files: Sequence[str]) -> str:
    """Run files of tests; return what the engine found wrong, "" if nothing."""
    process = await asyncio.create_subprocess_exec(
        *(program(engine.program), *engine.arguments(files)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    return out.decode() if process.returncode else ""


def _by_evaluation(scenarios: Sequence[Scenario]) -> Iterator[tuple[float, list[Scenario]]]:
    """Return the scenarios by their evaluation interval, of which a file has one."""
    for interval in {scenario.evaluation for scenario in scenarios}:
        yield interval, [scenario for scenario in scenarios if scenario.evaluation == interval]


def _write(engine: Engine, folder: Path, rules: Path, scenarios: Sequence[Scenario], interval: float) -> str:
    file = folder / f"evaluated-every-{interval:.0f}s.json"
    tests = [scenario.unit_test(engine) for scenario in scenarios]
    content = {"rule_files": [str(rules)], "evaluation_interval": f"{interval:.0f}s", "tests": tests}
    file.write_text(json.dumps(content))
    return str(file)
