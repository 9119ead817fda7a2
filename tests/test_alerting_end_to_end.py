"""From a model that fails to the alert that somebody gets: demo, real Prometheus, real Alertmanager."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml

from tests.clients import plain_client
from tests.editions import every_edition_at_night
from tests.monitoring import prometheus, serving
from tests.programs import ROOT, exporter

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

DEPLOY = ROOT / "deploy/prometheus"
# A model fails every few seconds, and the fleet is so small that it leaves the list half a minute later.
FLEET = ("--demo.speed=900", "--demo.models=10")
FAILED_LONG_AGO = "intent-router-v5"

Alerts: TypeAlias = dict[str, dict[str, Any]]
"""The alerts that a model failed, by the model's name."""


@every_edition_at_night
async def test_a_failed_model_is_an_alert_that_names_it_until_it_leaves_the_list(tmp_path: Path) -> None:
    async with (
        serving("alertmanager", *alertmanager_flags(tmp_path)) as alertmanager,
        exporter("demo", *FLEET, "--poll.interval=1s") as demo,
        prometheus(tmp_path, config(scraped=demo.url, told=alertmanager)),
        plain_client(base_url=alertmanager) as client,
    ):
        failed_at_the_start = failed((await client.get(f"{demo.url}/metrics")).text)

        async def alerts() -> Alerts:
            answer = await client.get("/api/v2/alerts", params={"filter": "alertname=CohereModelFailed"})
            return {alert["labels"]["model_name"]: alert for alert in answer.json()}

        assert FAILED_LONG_AGO in failed_at_the_start
        held = await until(alerts, lambda now: bool(now.keys() - failed_at_the_start))
        assert FAILED_LONG_AGO not in held
        name = min(held.keys() - failed_at_the_start)
        alert = held[name]
        assert alert["status"]["state"] == "active"
        assert alert["labels"]["severity"] == "warning"
        assert alert["annotations"]["summary"] == f"Model {name} failed"
        assert alert["labels"]["base_model"]

        assert name not in await until(alerts, lambda now: name not in now)


def failed(metrics: str) -> set[str]:
    """Return the names of the models that an exposition shows as failed."""
    return set(
        re.findall(r'_status{.*model_name="(.*?)".*status="STATUS_FAILED".* 1\.0$', metrics, re.MULTILINE)
    )


async def until(ask: Callable[[], Awaitable[Alerts]], condition: Callable[[Alerts], bool]) -> Alerts:
    """Ask until `condition` holds for the answer, for three minutes at most."""
    async with asyncio.timeout(180):
        while not condition(answer := await ask()):  # noqa: ASYNC110 - other processes change it
            await asyncio.sleep(0.2)
    return answer


def config(*, scraped: str, told: str) -> dict[str, Any]:
    """Return the example for Prometheus, with the addresses of this test and at its pace."""
    example: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus.yml").read_text(encoding="utf-8"))
    example["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    example["rule_files"] = [str(DEPLOY / file) for file in example["rule_files"]]
    example["scrape_configs"] = example["scrape_configs"][:1]
    for place, url in (
        (example["scrape_configs"][0], scraped),
        (example["alerting"]["alertmanagers"][0], told),
    ):
        place["static_configs"] = [{"targets": [url.removeprefix("http://")]}]
    return example


def alertmanager_flags(folder: Path) -> list[str]:
    """Set up the example; without a cluster, for which it would listen beyond the loopback."""
    return [
        f"--config.file={DEPLOY}/alertmanager.yml",
        f"--storage.path={folder}/alertmanager",
        "--cluster.listen-address=",
    ]
