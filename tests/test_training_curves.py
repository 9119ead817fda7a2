"""Complete training curves in a real Prometheus: scraped from /metrics/steps, and backfilled by `history`."""

import asyncio
import json
import re
import signal
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.editions import every_edition
from tests.monitoring import prometheus, serving, target
from tests.programs import KEY, eventually, exporter, program, run, simulated_api, unused_port, wait_for

pytestmark = pytest.mark.anyio

MODELS = "/v1/finetuning/finetuned-models"
STEP = "cohere_finetuned_model_step_number"
Points = set[tuple[str, int, float]]
"""Model id, milliseconds of Unix time, step."""


async def api_points(api: str) -> Points:
    """Ask the API itself for every step of every model, page by page."""
    points: Points = set()
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(base_url=api, headers=headers, trust_env=False) as client:
        models = (await client.get(MODELS, params={"page_size": 1000})).json()["finetuned_models"]
        for model in models:
            query: dict[str, Any] = {"page_size": 1000}
            while query.get("page_token") != "":
                page = (
                    await client.get(f"{MODELS}/{model['id']}/training-step-metrics", params=query)
                ).json()
                for row in page.get("step_metrics", []):
                    points.add((model["id"], milliseconds(row["created_at"]), row.get("step_number", 0)))
                query["page_token"] = page.get("next_page_token", "")
    return points


def milliseconds(text: str) -> int:
    # Python reads no more than microseconds.
    text = re.sub(r"(\.\d{6})\d*", r"\1", text)
    return round(datetime.fromisoformat(text).timestamp() * 1000)


async def stored_points(url: str, seconds: int = 3600) -> Points:
    """Ask Prometheus for every sample it has of the steps."""
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"{url}/api/v1/query", params={"query": f"{STEP}[{seconds}s]"})
    return {
        (series["metric"]["model_id"], round(at * 1000), float(value))
        for series in answer.json()["data"]["result"]
        for at, value in series["values"]
    }


def within(points: Points, start: float, end: float) -> Points:
    return {point for point in points if start * 1000 <= point[1] <= end * 1000}


@pytest.mark.parametrize("window", ["0s", "6h"], ids=["without", "with"])
@every_edition
async def test_every_step_that_the_api_shows_is_stored_at_its_time(tmp_path: Path, window: str) -> None:
    job = {
        **target("http://none", "steps"),
        "scrape_interval": "2s",
        "metrics_path": "/metrics/steps",
    }
    async with simulated_api(speed=240) as (simulator, api):
        flags = ("--poll.interval=2s", "--training.steps-window=4s", f"--cohere.base-url={api}")
        async with exporter(*flags, environ={"COHERE_API_KEY": KEY}) as running:
            config = {
                "scrape_configs": [{**job, "static_configs": target(running.url)["static_configs"]}],
                "storage": {"tsdb": {"out_of_order_time_window": window}},
            }
            async with prometheus(tmp_path, config) as url:
                await eventually(lambda: has_points(url))
                start = simulator.clock() + 2
                missed = await missed_steps(running.url)  # those of finished runs, of long ago
                asked = dict(simulator.requests)
                await eventually(lambda: is_later(simulator.clock, start + 20), seconds=60)
                end = simulator.clock() - 9  # an interval to be read, and one to be scraped, twice
                truth = within(await api_points(api), start, end)
                stored = within(await stored_points(url), start, end)
            assert await missed_steps(running.url) == missed
            assert await running.stop(signal.SIGTERM) == 0
    assert len(truth) > 20
    assert asked
    assert stored == truth


async def has_points(url: str) -> bool:
    return bool(await stored_points(url))


async def is_later(clock: Callable[[], float], moment: float) -> bool:
    return clock() > moment


async def missed_steps(url: str) -> float:
    async with httpx.AsyncClient(trust_env=False) as client:
        lines = (await client.get(f"{url}/metrics")).text.splitlines()
    return next(
        float(line.split()[1])
        for line in lines
        if line.startswith("cohere_exporter_training_steps_missed_total ")
    )


@every_edition
async def test_the_history_becomes_blocks_that_are_queried_back(tmp_path: Path) -> None:
    file, data = tmp_path / "steps.om", tmp_path / "data"
    async with simulated_api(speed=60) as (simulator, api):
        at = simulator.clock()
        simulator.clock = lambda: at  # the fleet stands still
        command = ("history", f"--cohere.base-url={api}", f"--output={file}", "--label=job=cohere")
        code, out, err = await run(
            sys.executable, "-m", "exporter", *command, environ={"COHERE_API_KEY": KEY}
        )
        assert (code, out) == (0, ""), err
        truth = await api_points(api)
    create = ("tsdb", "create-blocks-from", "openmetrics", "--max-block-duration=200h")
    code, _, err = await run(program("promtool"), *create, str(file), str(data))
    assert code == 0, err
    config = tmp_path / "prometheus.yml"
    config.write_text("{}")
    storage = (f"--config.file={config}", f"--storage.tsdb.path={data}", "--storage.tsdb.retention.time=20y")
    async with serving("prometheus", *storage) as url:
        a_year = 365 * 86_400
        assert await stored_points(url, a_year) == {(m, ms, float(step)) for m, ms, step in truth}
        async with httpx.AsyncClient(trust_env=False) as client:
            labels = (await client.get(f"{url}/api/v1/series", params={"match[]": STEP})).json()["data"]
    assert {series["job"] for series in labels} == {"cohere"}


async def test_victoria_metrics_imports_the_history(tmp_path: Path) -> None:
    file = tmp_path / "steps.om"
    code, _, err = await run(sys.executable, "-m", "exporter", "history", "--demo", f"--output={file}")
    assert code == 0, err
    written = [line.split() for line in file.read_text().splitlines() if line.startswith(f"{STEP}{{")]
    url = f"http://127.0.0.1:{unused_port()}"
    flags = (f"-storageDataPath={tmp_path}/data", f"-httpListenAddr={url.removeprefix('http://')}")
    process = await asyncio.create_subprocess_exec(
        program("victoria-metrics"), *flags, "-retentionPeriod=100y", stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await wait_for(f"{url}/health")
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            imported = await client.post("/api/v1/import/prometheus", content=file.read_bytes())
            assert imported.status_code == 204

            async def stored() -> set[tuple[float, float]]:
                await client.get("/internal/force_flush")
                lines = (await client.get("/api/v1/export", params={"match[]": STEP})).text.splitlines()
                series = map(json.loads, lines)
                return {pair for one in series for pair in zip(one["timestamps"], one["values"], strict=True)}

            expected = {(round(float(at) * 1000), float(value)) for _, value, at in written}

            async def is_stored() -> bool:
                return await stored() == expected

            await eventually(is_stored)
    finally:
        process.kill()
        await process.wait()
