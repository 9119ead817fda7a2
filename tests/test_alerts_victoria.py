"""The scenarios of the alerts once more, on VictoriaMetrics, which drops NaN and keeps no state of alerts.

The replay of Debian's vmalert leaves alerts that wait as pending, so the rules' expressions are asked of the
database, minute by minute, and what holds for as long as a rule waits counts as firing. Every scenario is a
cluster of its own, and the rules are rendered for it. `make test-programs` runs this.
"""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from exporter.rules import rules
from tests.clients import plain_client
from tests.editions import NIGHTLY, every_edition
from tests.exporter_model import HOUR, MINUTE, since
from tests.firing import TOLD, Fires, Scenario
from tests.monitoring import victoria
from tests.programs import program, run
from tests.test_alerts import AREAS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.anyio,
    pytest.mark.programs,
    NIGHTLY,
]

EPOCH = 1_780_012_800
"""The Unix time of the scenarios' beginning."""
SCRAPE = 60.0
CHOSEN = {
    area: [one for one in scenarios if one.scrape == SCRAPE and max(one.expected) <= 4.5 * HOUR]
    for area, scenarios in AREAS.items()
}
WAIT = {"0s": 0, "5m": 5 * MINUTE, "15m": 15 * MINUTE}


def series(scenario: Scenario, cluster: str) -> Iterator[str]:
    """Return what each scrape stored, in the text format with times."""
    scrapes = [SCRAPE * number for number in range(int(max(scenario.expected) // SCRAPE) + 2)]
    for exporter in scenario.exporters:
        for at, stored in zip(scrapes, exporter.samples(scrapes), strict=True):
            for (name, labels), value in stored.items():
                pairs = ",".join(f'{key}="{text}"' for key, text in (*labels, ("cluster", cluster)))
                yield f"{name}{{{pairs}}} {_moved(name, value)} {(EPOCH + at) * 1000:.0f}\n"


def _moved(name: str, value: float) -> str:
    """Return a value as text; a time as one of the real clock."""
    value = since(EPOCH, name, value)
    return "NaN" if math.isnan(value) else repr(float(value)).replace("inf", "Inf")


@every_edition
@pytest.mark.parametrize("area", [area for area, scenarios in CHOSEN.items() if scenarios])
async def test_the_alerts_hold_on_victoria_metrics(area: str, tmp_path: Path) -> None:
    flags = (
        f"-storageDataPath={tmp_path}/data",
        "-retentionPeriod=100y",
        "-search.latencyOffset=0s",
        f"-search.maxStalenessInterval={SCRAPE:.0f}s",
    )
    async with (
        victoria("victoria-metrics", *flags) as url,
        plain_client(base_url=url, timeout=60) as client,
    ):
        for number, scenario in enumerate(CHOSEN[area]):
            text = "".join(series(scenario, str(number)))
            (await client.post("/api/v1/import/prometheus", content=text.encode())).raise_for_status()
        await client.get("/internal/force_flush")
        wrong = {
            (scenario.name, at / MINUTE): (found, set(expected))
            for number, scenario in enumerate(CHOSEN[area])
            for at, expected in scenario.expected.items()
            if (found := await firing(client, str(number), at)) != set(expected)
        }
    assert wrong == {}


async def firing(client: httpx.AsyncClient, cluster: str, at: float) -> set[Fires]:
    """Return what fires at a moment of the scenario that this cluster is."""
    content = rules({"selector": f'cluster="{cluster}"'})
    found: set[Fires] = set()
    for rule in (rule for group in content["groups"] for rule in group["rules"]):
        wait = WAIT[rule.get("for", "0s")]
        if at >= wait:
            found |= {alert(rule, one["metric"]) for one in await lasting(client, rule, at, wait)}
    return found


async def lasting(
    client: httpx.AsyncClient, rule: dict[str, Any], at: float, wait: float
) -> Sequence[dict[str, Any]]:
    """Return the series of a rule's expression that were there in every minute of its wait."""
    times = {"start": EPOCH + at - wait, "end": EPOCH + at, "step": 60, "nocache": 1}
    answer = await client.post("/api/v1/query_range", data={"query": rule["expr"], **times})
    assert answer.status_code == 200, answer.text
    return [one for one in answer.json()["data"]["result"] if len(one["values"]) == wait // 60 + 1]


def alert(rule: dict[str, Any], labels: dict[str, str]) -> Fires:
    told = {name: value for name, value in labels.items() if name in TOLD and value}
    return frozenset({"alertname": rule["alert"], **told}.items())


@every_edition
async def test_vmalert_accepts_the_rules(tmp_path: Path) -> None:
    file = tmp_path / "rules.json"
    file.write_text(json.dumps(rules()))
    code, _, err = await run(program("vmalert"), "-dryRun", f"-rule={file}")
    assert code == 0, err
