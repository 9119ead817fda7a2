"""Complete training curves in real Prometheus servers: from /metrics/steps, and backfilled by `history`.

Four servers run for the whole file: of each edition one with a window for samples out of order, one without.
"""

import json
import re
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.clients import plain_client
from tests.editions import EDITIONS, Edition, every_edition_at_night
from tests.monitoring import ask, text_pages, victoria
from tests.monitoring import running as running_server
from tests.programs import (
    KEY,
    ROOT,
    at_night,
    eventually,
    exporter,
    missing,
    run,
    simulated_api,
)
from tools.curves.chart import svg
from tools.curves.scenarios import SCENARIOS, figures, lived

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.programs]

MODELS = "/v1/finetuning/finetuned-models"
STEP = "cohere_finetuned_model_step_number"
BACKFILL = "backfill"
MISSED = "cohere_exporter_training_steps_missed_total"
WARNED = "prometheus_target_scrapes_sample_out_of_order_total"
STORED_LATE = "prometheus_tsdb_head_out_of_order_samples_appended_total"
INFO = "cohere_finetuned_model_info"
Points = set[tuple[str, int, float]]
"""Model id, milliseconds of Unix time, step."""


class Backfilled(NamedTuple):
    """What the API had when its history was written, and the lines about the models on /metrics then."""

    points: Points
    info: bytes


@dataclass
class Server:
    """A running Prometheus."""

    edition: Edition
    has_window: bool
    folder: Path
    url: str = ""

    @property
    def data(self) -> Path:
        """Where its blocks are."""
        return self.folder / "data"

    @property
    def command(self) -> Sequence[str]:
        """What runs it."""
        return (
            str(self.edition.find("prometheus")),
            f"--config.file={self.folder}/prometheus.yml",
            f"--storage.tsdb.path={self.data}",
            "--storage.tsdb.retention.time=20y",
            "--web.enable-lifecycle",
        )

    def configure(self, *jobs: dict[str, Any]) -> None:
        """Write its configuration: jobs that are scraped every second unless they say otherwise."""
        config = {
            "global": {"scrape_interval": "1s"},
            "scrape_configs": jobs,
            "storage": {"tsdb": {"out_of_order_time_window": "6h" if self.has_window else "0s"}},
        }
        self.folder.mkdir(exist_ok=True)
        (self.folder / "prometheus.yml").write_text(json.dumps(config))

    @asynccontextmanager
    async def scraping(self, *jobs: dict[str, Any]) -> AsyncIterator[None]:
        """Scrape some jobs to the end of the block."""
        for some in (jobs, ()):
            self.configure(*some)
            async with plain_client() as client:
                (await client.post(f"{self.url}/-/reload")).raise_for_status()
            if some:
                yield

    async def ask(self, query: str) -> list[dict[str, Any]]:
        """Return the series that answer a query."""
        return await ask(self.url, query)

    async def points(self, selector: str) -> Points:
        """Return every sample of the steps."""
        return {
            (series["metric"]["model_id"], round(at * 1000), float(value))
            for series in await self.ask(f"{STEP}{selector}")
            for at, value in series["values"]
        }

    async def counted(self, name: str) -> float:
        """Return one of its own counters."""
        return await own_metric(self.url, name)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sequence[Server]]:
    """Run the four servers, with nothing to scrape yet."""
    folder = tmp_path_factory.mktemp("prometheus")
    for edition in EDITIONS:
        for name in ("prometheus", "promtool"):
            if edition.find(name) is None:
                missing(f"{name} of the edition {edition.name} (tools/programs/build.sh) is not installed")
    every = [
        Server(edition, has_window, folder / f"{edition.name}-{has_window}")
        for edition in EDITIONS
        for has_window in (False, True)
    ]
    async with AsyncExitStack() as stack:
        for server in every:
            server.configure()
            server.url = await stack.enter_async_context(running_server(*server.command))
        yield every


async def own_metric(url: str, name: str) -> float:
    async with plain_client() as client:
        lines = (await client.get(f"{url}/metrics")).text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if re.match(rf"{name}[ {{]", line))


async def api_points(api: str) -> Points:
    """Ask the API itself for every step of every model, page by page."""
    points: Points = set()
    headers = {"Authorization": f"Bearer {KEY}"}
    async with plain_client(base_url=api, headers=headers) as client:
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


def within(points: Points, start: float, end: float) -> Points:
    return {point for point in points if start * 1000 <= point[1] <= end * 1000}


@pytest.fixture(scope="module")
async def backfilled(servers: Sequence[Server], tmp_path_factory: pytest.TempPathFactory) -> Backfilled:
    """Move blocks made of a history into the servers while they run."""
    folder = tmp_path_factory.mktemp("history")
    file = folder / "steps.om"
    async with simulated_api(speed=60) as (simulator, api):
        at = simulator.clock()
        simulator.clock = lambda: at  # the fleet stands still
        command = ("history", f"--cohere.base-url={api}", f"--output={file}", f"--label=job={BACKFILL}")
        code, out, err = await run(
            sys.executable, "-m", "exporter", *command, environ={"COHERE_API_KEY": KEY}
        )
        assert (code, out) == (0, ""), err
        truth = Backfilled(await api_points(api), await info_of(api))
    for edition in EDITIONS:
        blocks = folder / edition.name
        create = ("tsdb", "create-blocks-from", "openmetrics", "--max-block-duration=200h")
        code, _, err = await run(str(edition.find("promtool")), *create, str(file), str(blocks))
        assert code == 0, err
        for server in servers:
            if server.edition is edition:
                shutil.copytree(blocks, server.data, dirs_exist_ok=True)
    return truth


async def info_of(api: str) -> bytes:
    """Return what /metrics says about the models of an API."""
    async with (
        exporter(f"--cohere.base-url={api}", environ={"COHERE_API_KEY": KEY}) as running,
        plain_client() as client,
    ):

        async def lines() -> list[str]:
            page = (await client.get(f"{running.url}/metrics")).text
            return [line for line in page.splitlines() if line.startswith(f"{INFO}{{")]

        await eventually(lines)
        return "".join(f"{line}\n" for line in await lines()).encode()


@asynccontextmanager
async def everywhere(servers: Sequence[Server], *jobs: dict[str, Any]) -> AsyncIterator[None]:
    """Let all servers scrape some jobs."""
    async with AsyncExitStack() as stack:
        for server in servers:
            await stack.enter_async_context(server.scraping(*jobs))
        yield


async def test_every_server_stores_every_step_that_the_api_shows_at_its_time(
    servers: Sequence[Server], backfilled: Backfilled
) -> None:
    async with simulated_api(speed=240) as (simulator, api):
        flags = ("--poll.interval=2s", "--training.steps-window=4s", f"--cohere.base-url={api}")
        async with exporter(*flags, environ={"COHERE_API_KEY": KEY}) as running:
            job = job_of("steps", running.url, scrape_interval="2s", metrics_path="/metrics/steps")
            async with everywhere(servers, job):
                for server in servers:
                    await eventually(partial(has_points, server, '{job="steps"}[10m]'))
                start = simulator.clock() + 2
                missed = await own_metric(running.url, MISSED)  # those of finished runs, of long ago
                # What three polls read is compared; later steps have an interval to be read, and one to be
                # scraped, twice.
                await eventually(partial(is_later, simulator.clock, start + 6 + 9), seconds=60)
                end = simulator.clock() - 9
                told = await api_points(api)
                listed, truth = {model for model, _, _ in told}, within(told, start, end)
                stored = [within(await server.points('{job="steps"}[10m]'), start, end) for server in servers]
            assert await own_metric(running.url, MISSED) == missed
            assert await running.stop(signal.SIGTERM) == 0
    assert len(truth) > 10
    for points in stored:  # also what the API has forgotten since
        assert {point for point in points if point[0] in listed} == truth


def job_of(name: str, url: str, **options: str) -> dict[str, Any]:
    return {"job_name": name, "static_configs": [{"targets": [urlsplit(url).netloc]}], **options}


async def has_points(server: Server, selector: str) -> bool:
    return bool(await server.points(selector))


async def is_later(clock: Callable[[], float], moment: float) -> bool:
    return clock() > moment


def page(*samples: tuple[float, float]) -> bytes:
    """Write samples of one series: seconds from now, value."""
    now = time.time()
    lines = (f'{STEP}{{model_id="m"}} {value} {round((now + after) * 1000)}' for after, value in samples)
    return "".join(f"{line}\n" for line in lines).encode()


async def test_what_prometheus_makes_of_samples_with_times(servers: Sequence[Server]) -> None:
    """The facts that the endpoint is built on; the page of a job stays as it is, as steps on offer do."""
    pages = {
        "/last": page((-10, 1)),
        "/hour": page((-5, 1)) + page((-3700, 2)),
        "/ahead": page((660, 1)),
        "/old": b"",
        "/untimed": f'{STEP}{{model_id="m"}} 1\n'.encode(),
        "/several": b"",
    }
    async with text_pages(pages.__getitem__) as target:
        jobs = [
            job_of(path[1:], f"http://{target}", metrics_path=path, scrape_interval="500ms") for path in pages
        ]
        async with everywhere(servers, *jobs):
            for server in servers:
                await eventually(partial(has_points, server, '{job="last"}[10m]'))
            before = [await server.counted(WARNED) for server in servers]
            await scraped_again(servers, len(jobs))
            # Repeating the last point is free; any other repeat is a warning, or with a window stored again.
            assert [await server.counted(WARNED) for server in servers] == before
            pages["/several"] = page((-30, 1), (-20, 2), (-10, 3))
            pages["/old"] = page((-7 * 3600, 1)).replace(b'"m"', b'"n"') + page((-5, 2))
            stored_again = [await server.counted(STORED_LATE) for server in servers]
            await scraped_again(servers, len(jobs))
            for server, warnings, late in zip(servers, before, stored_again, strict=True):
                assert len(await server.points('{job="several"}[10m]')) == 3
                assert (await server.counted(WARNED) > warnings) is not server.has_window
                assert (await server.counted(STORED_LATE) > late) is server.has_window
                # An hour late needs the window; later than the window costs all that is on the page.
                assert len(await server.points('{job="hour"}[3h]')) == 1 + server.has_window
                assert len(await server.points('{job="old"}[10h]')) == 1 - server.has_window
                assert bool(await server.ask('up{job="old"} == 0')) is server.has_window
                assert not await server.points('{job="ahead"}[10m]')
            # A series with times gets no staleness marker.
            pages |= {"/several": b"", "/untimed": b""}
            await scraped_again(servers, len(jobs))
            for server in servers:
                assert await server.ask(f'{STEP}{{job="several"}}')
                assert not await server.ask(f'{STEP}{{job="untimed"}}')


async def scraped_again(servers: Sequence[Server], jobs: int) -> None:
    """Wait until every server has scraped each of so many jobs twice more."""
    moment = time.time() + 1

    async def is_scraped(server: Server) -> bool:
        return bool(await server.ask(f"count(timestamp(up) > {moment}) == {jobs}"))

    for server in servers:
        await eventually(partial(is_scraped, server))


@every_edition_at_night
async def test_victoria_metrics_imports_the_history(tmp_path: Path) -> None:
    file = tmp_path / "steps.om"
    code, _, err = await run(sys.executable, "-m", "exporter", "history", "--demo", f"--output={file}")
    assert code == 0, err
    written = [line.split() for line in file.read_text().splitlines() if line.startswith(f"{STEP}{{")]
    flags = f"-storageDataPath={tmp_path}/data", "-retentionPeriod=100y"
    async with victoria("victoria-metrics", *flags) as url, plain_client(base_url=url) as client:
        imported = await client.post("/api/v1/import/prometheus", content=file.read_bytes())
        assert imported.status_code == 204
        expected = {(round(float(at) * 1000), float(value)) for _, value, at in written}

        async def is_stored() -> bool:
            await client.get("/internal/force_flush")
            lines = (await client.get("/api/v1/export", params={"match[]": STEP})).text.splitlines()
            series = map(json.loads, lines)
            stored = {pair for one in series for pair in zip(one["timestamps"], one["values"], strict=True)}
            return stored == expected

        await eventually(is_stored)


def samples(page: bytes) -> list[Sample]:
    """Read a page as prometheus_client does."""
    return [sample for family in text_string_to_metric_families(page.decode()) for sample in family.samples]


@pytest.mark.parametrize("number", [2, 6, pytest.param(8, marks=at_night)])
def test_the_page_says_what_becomes_of_a_run(number: int) -> None:
    """What holds in virtual time; what real servers store is measured by `python -m tools.curves`."""
    results = json.loads((ROOT / "docs" / "training-curves.json").read_text())
    assert results["runs"][number].items() >= figures(SCENARIOS[number]).items()
    assert results["runs"][number]["run"] == SCENARIOS[number].run


def test_the_page_shows_that_every_row_was_stored() -> None:
    results = json.loads((ROOT / "docs" / "training-curves.json").read_text())
    assert len(results["runs"]) == len(SCENARIOS)
    for run_ in results["runs"]:
        assert (run_["offered"], run_["extra_calls"], run_["missed"]) == (1.0, 0, 0)
        assert all(share == 1.0 for server, share in run_["stored"].items() if "no window" not in server)


def test_the_picture_has_every_row_and_every_dot() -> None:
    scenario = SCENARIOS[6]
    life = lived(scenario)
    drawn = svg([(scenario, life)])
    assert drawn.count("<circle") == len(life.polled) >= 1
    line = re.search(r'class="complete" points="([^"]*)"', drawn)
    assert line
    assert len(line[1].split()) == len(life.rows) == 120


async def test_the_history_s_blocks_are_queried_back_from_running_servers_and_joined(
    servers: Sequence[Server], backfilled: Backfilled
) -> None:
    """Servers look for new blocks once a minute, of which the tests above have taken most."""
    ever = f"[{365 * 86_400}s]"
    selector = f'{{job="{BACKFILL}"}}{ever}'
    expected = {(model, at, float(step)) for model, at, step in backfilled.points}
    for server in servers:
        await eventually(partial(has_points, server, selector), seconds=90)
        assert await server.points(selector) == expected
    labels = ({**sample.labels} for sample in samples(backfilled.info))
    types = {one["model_id"]: one["base_type"] for one in labels}
    last = f"last_over_time({STEP}{selector})"
    joined = f'{last} * on (model_id) group_left (base_type) {INFO}{{job="models"}}'
    async with (
        text_pages({"/metrics": backfilled.info}.__getitem__) as target,
        everywhere(servers, job_of("models", f"http://{target}")),
    ):
        for server in servers:
            await eventually(partial(server.ask, joined))
            found = {
                one["metric"]["model_id"]: one["metric"]["base_type"] for one in await server.ask(joined)
            }
            assert found == {model: types[model] for model, _, _ in backfilled.points}


@every_edition_at_night
async def test_another_prometheus_reads_the_history_s_blocks_remotely(
    servers: Sequence[Server], backfilled: Backfilled, edition: Edition, tmp_path: Path
) -> None:
    selector = f'{{job="{BACKFILL}"}}[{365 * 86_400}s]'
    for server in servers:
        await eventually(partial(has_points, server, selector), seconds=90)
        async with reading_from(server.url, edition, tmp_path / server.folder.name) as other:
            assert await other.points(selector) == await server.points(selector) != set()


@asynccontextmanager
async def reading_from(url: str, edition: Edition, folder: Path) -> AsyncIterator[Server]:
    """Run a Prometheus that has no data but what it reads from another."""
    folder.mkdir()
    config = {"remote_read": [{"url": f"{url}/api/v1/read", "read_recent": True}]}
    (folder / "prometheus.yml").write_text(json.dumps(config))
    flags = (f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data")
    async with running_server(str(edition.find("prometheus")), *flags) as own_url:
        yield Server(edition, False, folder, own_url)
