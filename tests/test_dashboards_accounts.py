"""What the dashboards say of accounts whose exporters come, go and never answer, calculated by promtool.

Every family of the exporter is written at every scrape, so nothing passes because a series is missing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.dashboards import QUERIES, filled
from tests.editions import every_edition_at_night
from tests.exporter_model import HOUR, MINUTE, Exporter, input_series
from tests.firing import PROMTOOL, Fires, Scenario, compared
from tests.test_alerts import FAILURES, TRAINING, failing

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

EXPRESSIONS = {query.place: query.expr for query in QUERIES}
VARIABLES = dict.fromkeys(("cluster", "namespace", "job", "instance"), ".*")

UP, NOT_UP = "exporter: Exporters up A", "exporter: Down or gone A"
TARGETS, API, AGE = "exporter: Exporters A", "exporter: API A", "exporter: Age of data A"
FAILED, FAILED_EVER = "fleet: Failed in 24 h A", "fleet: Failed, ever A"
FLEET_API, FLEET_AGE = "fleet: API A", "fleet: Age of data A"

A = Exporter()
B = Exporter(labels={"namespace": "prod", "job": "b"}, instance="b:10220")
NAMED = replace(A, labels={"namespace": "ml", "job": "cohere-finetuning"}, instance="a:80")
ROW_A = 'instance="a:10220",job="a",namespace="ml"'
ROW_B = 'instance="b:10220",job="b",namespace="prod"'


@dataclass(frozen=True, kw_only=True)
class Case:
    """Exporters, and what queries of the dashboards answer at a moment, by the labels of the answers."""

    name: str
    exporters: Sequence[Exporter]
    at: float
    answers: Mapping[str, Mapping[str, float]]
    window: str = "6h"
    scrape: float = 60


CASES = [
    Case(
        name="a target that has been down for longer than the time range stays, and turns the tiles red",
        exporters=[replace(A, up=lambda now: now < HOUR), B],
        at=8 * HOUR,
        answers={
            UP: {"": 1},
            NOT_UP: {"": 1},
            TARGETS: {ROW_A: 0, ROW_B: 1},
            "exporter: Exporters D": {ROW_A: 7 * HOUR + MINUTE, ROW_B: 0},
            API: {"": -1},
            AGE: {'age="gone"': 7 * HOUR + MINUTE},
            FLEET_API: {"": -1},
            FLEET_AGE: {'age="gone"': 7 * HOUR + MINUTE},
        },
    ),
    Case(
        name="so does one that left the list of targets before the time range",
        exporters=[replace(A, up=lambda now: True if now < HOUR else None), B],
        at=8 * HOUR,
        answers={
            UP: {"": 1},
            NOT_UP: {"": 1},
            TARGETS: {ROW_A: -1, ROW_B: 1},
            API: {"": -1},
            AGE: {'age="gone"': 7 * HOUR + MINUTE},
        },
    ),
    Case(
        name="on Fleet, an account that has been gone for longer than a day is not forgotten",
        exporters=[replace(A, up=lambda now: now < HOUR), B],
        at=26 * HOUR,
        answers={FLEET_API: {"": -1}, FLEET_AGE: {'age="gone"': 25 * HOUR + 5 * MINUTE}},
        window="24h",
        scrape=300,
    ),
    *(
        Case(
            name=f"an exporter that never answered is known by {what}, as the alerts know it",
            exporters=[replace(never, up=lambda now: False), B],
            at=3 * HOUR,
            answers={
                UP: {"": 1},
                NOT_UP: {"": 1},
                TARGETS: {row: 0, ROW_B: 1},
                API: {"": -1},
                AGE: {'age="never"': -1},
                FLEET_API: {"": -1},
                FLEET_AGE: {'age="never"': -1},
            },
        )
        for what, never, row in (
            ("its port", A, ROW_A),
            ("its job", NAMED, 'instance="a:80",job="cohere-finetuning",namespace="ml"'),
        )
    ),
    Case(
        name="also where it is the only one",
        exporters=[replace(A, up=lambda now: False)],
        at=3 * HOUR,
        answers={
            UP: {"": 0},
            NOT_UP: {"": 1},
            TARGETS: {ROW_A: 0},
            API: {"": -1},
            AGE: {'age="never"': -1},
        },
    ),
    Case(
        name="targets of other programs, and of the job of training steps, are no exporters that are down",
        exporters=[
            B,
            replace(A, instance="a:9090", up=lambda now: False),
            replace(A, labels={"namespace": "ml", "job": "cohere-finetuning-steps"}, up=lambda now: False),
        ],
        at=3 * HOUR,
        answers={NOT_UP: {"": 0}, TARGETS: {ROW_B: 1}, API: {"": 1}, AGE: {'age="fresh"': 0}},
    ),
    Case(
        name="a pod that was replaced before the time range is not missed",
        exporters=[
            replace(A, up=lambda now: True if now < HOUR else None),
            replace(A, instance="new:10220", up=lambda now: None if now < HOUR else True),
        ],
        at=8 * HOUR,
        answers={
            UP: {"": 1},
            NOT_UP: {"": 0},
            TARGETS: {'instance="new:10220",job="a",namespace="ml"': 1},
            "exporter: Exporters D": {'instance="new:10220",job="a",namespace="ml"': 0},
            API: {"": 1},
            AGE: {'age="fresh"': 0},
        },
    ),
    *(
        Case(
            name=f"failures of a gone account count {how} as the alert about them goes on",
            exporters=[
                replace(A, models=failing(TRAINING, HOUR, updated=HOUR), up=lambda now: now < 2 * HOUR),
                B,
            ],
            at=at,
            answers={FAILED: {"": count}, FAILED_EVER: {"": count}},
        )
        for how, at, count in (
            ("as long", 3 * HOUR - 10 * MINUTE, 1),
            ("no longer", 3 * HOUR + 10 * MINUTE, 0),
        )
    ),
    Case(
        name="without any data there is no number of failures",
        exporters=[replace(A, up=lambda now: False)],
        at=HOUR,
        answers={FAILED: {}, FAILED_EVER: {}},
    ),
]


@every_edition_at_night
async def test_the_dashboards_know_of_accounts_what_the_alerts_know(tmp_path: Path) -> None:
    assert not await compared(tmp_path, [group(case) for case in CASES])


@every_edition_at_night
async def test_as_many_models_failed_lately_as_the_alert_fires_for(tmp_path: Path) -> None:
    assert not await compared(tmp_path, [failures(scenario) for scenario in FAILURES])


def group(case: Case) -> dict[str, object]:
    """Return a case as promtool reads it."""
    variables = VARIABLES | {"__range": case.window}
    return {
        "name": case.name,
        "interval": f"{case.scrape:.0f}s",
        "input_series": input_series(case.exporters, case.at + case.scrape, case.scrape),
        "promql_expr_test": [
            {
                "expr": filled(EXPRESSIONS[place], variables),
                "eval_time": f"{case.at:.0f}s",
                "exp_samples": [{"labels": f"{{{row}}}", "value": value} for row, value in answer.items()],
            }
            for place, answer in case.answers.items()
        ],
    }


def failures(scenario: Scenario) -> dict[str, object]:
    """Return a scenario of the alerts' tests with the number of models for which CohereModelFailed fires."""
    number = filled(EXPRESSIONS[FAILED], VARIABLES)
    return scenario.unit_test(PROMTOOL) | {
        "promql_expr_test": [
            {
                "expr": f"({number}) or vector(0)",
                "eval_time": f"{at:.0f}s",
                "exp_samples": [{"labels": "{}", "value": sum(map(is_failure, alerts))}],
            }
            for at, alerts in scenario.expected.items()
        ]
    }


def is_failure(alert: Fires) -> bool:
    return ("alertname", "CohereModelFailed") in alert
