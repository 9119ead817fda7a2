"""What scrapers of every kind store is what prometheus_client's parser reads from the exporter.

The fleet stands still and is polled once, so every scraper sees the same values; what counts or measures the
exporter itself moves on, and of that only the series are compared.
"""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from exporter.simulator import Fleet
from tests.clients import plain_client
from tests.editions import EDITIONS, NIGHTLY, every_edition, every_edition_at_night
from tests.monitoring import ask, prometheus, target, victoria
from tests.programs import KEY, Running, eventually, exporter, program, simulated_api

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.programs]

Series = tuple[str, frozenset[tuple[str, str]]]
Stored = dict[Series, str]
"""Each series with its value, as text; NaN equals itself so."""

MODELS = "/v1/finetuning/finetuned-models"
MOVING = "cohere_exporter_"
ADDED = ("__name__", "job", "instance")
NAME = 'Réponses "日本" \\ 🤖'
"""Of a model: more than ASCII, and what is escaped."""

PROTOBUF = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
ACCEPT = {
    "Telegraf 1.37": f"{PROTOBUF};q=0.7,text/plain;version=0.0.4;q=0.3",
    "Grafana Alloy 1": (
        "application/openmetrics-text;version=1.0.0;escaping=underscores;q=0.7,"
        "application/openmetrics-text;version=0.0.1;q=0.6,text/plain;version=1.0.0;escaping=underscores;q=0.5,"
        "text/plain;version=0.0.4;q=0.4,*/*;q=0.3"
    ),
    "Grafana Alloy 1, native histograms": (
        f"{PROTOBUF};q=0.7,application/openmetrics-text;version=1.0.0;escaping=underscores;q=0.6,"
        "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=underscores;q=0.4,"
        "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
    ),
    "Prometheus 3, text 1.0.0 alone": "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.7,*/*;q=0.6",
    "Prometheus 3, OpenMetrics 2 first": (
        "application/openmetrics-text;version=2.0.0;escaping=allow-utf-8;q=0.7,"
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,*/*;q=0.5"
    ),
}
"""What scrapers without a program here send, as their sources say."""

PROTOCOLS: dict[str, dict[str, Any]] = {
    "its own": {},
    "text 1.0.0 alone": {"scrape_protocols": ["PrometheusText1.0.0"]},
    "text 0.0.4 alone": {"scrape_protocols": ["PrometheusText0.0.4"]},
    "OpenMetrics 0.0.1 alone": {"scrape_protocols": ["OpenMetricsText0.0.1"]},
    "protobuf first": {"scrape_protocols": ["PrometheusProto", "OpenMetricsText1.0.0"]},
    "protobuf alone": {"scrape_protocols": ["PrometheusProto"]},
    "native histograms": {"scrape_native_histograms": True, "always_scrape_classic_histograms": True},
    "names escaped": {
        "metric_name_validation_scheme": "legacy",
        "metric_name_escaping_scheme": "underscores",
    },
    "names as they are": {"metric_name_escaping_scheme": "allow-utf-8"},
    "uncompressed": {"enable_compression": False},
}
"""The options of Prometheus 3's negotiation."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def at_rest() -> AsyncIterator[Running]:
    """Run an exporter that has polled a fleet once, and polls it no more while the tests last."""
    async with simulated_api(speed=60) as (simulator, api):
        now = simulator.clock()
        simulator.clock = lambda: now
        named, *others = simulator.fleet.listed(now)
        simulator.fleet = Fleet([replace(named, name=NAME), *others])
        flags = ("--poll.interval=1h", f"--cohere.base-url={api}", "--web.disable-exporter-metrics")
        async with exporter(*flags, environ={"COHERE_API_KEY": KEY}) as running:
            trained = await models_with_steps(api)
            await eventually(lambda: shows_steps(running.url, trained))
            assert any(("model_name", NAME) in labels for _, labels in await read(running.url, ""))
            yield running


async def models_with_steps(api: str) -> set[str]:
    """Ask the API itself which models have step metrics."""
    headers = {"Authorization": f"Bearer {KEY}"}
    async with plain_client(base_url=api, headers=headers) as client:
        models = (await client.get(MODELS, params={"page_size": 1000})).json()["finetuned_models"]
        pages = [await client.get(f"{MODELS}/{model['id']}/training-step-metrics") for model in models]
    return {model["id"] for model, page in zip(models, pages, strict=True) if page.json().get("step_metrics")}


async def shows_steps(url: str, trained: set[str]) -> bool:
    """Return whether every model's step is shown; they are read after the list."""
    page = await read(url, "")
    shown = {dict(labels)["model_id"] for name, labels in page if name.endswith("_training_step")}
    return shown == trained


async def read(url: str, accept: str) -> Stored:
    """Read the exporter's page with the parser of its content type; the values of what stands still."""
    async with plain_client() as client:
        answer = await client.get(f"{url}/metrics", headers={"Accept": accept})
    assert answer.status_code == 200
    is_openmetrics = answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0;")
    assert is_openmetrics or answer.headers["Content-Type"].startswith("text/plain; version=0.0.4;")
    parse: Any = (
        openmetrics.text_string_to_metric_families if is_openmetrics else text_string_to_metric_families
    )
    return stored((s.name, s.labels, s.value) for family in parse(answer.text) for s in family.samples)


def stored(samples: Iterator[tuple[str, dict[str, str], float]]) -> Stored:
    """Return samples as they are compared; an empty label is none."""
    return {
        (name, frozenset(pair for pair in labels.items() if pair[1] and pair[0] not in ADDED)): (
            "moving" if name.startswith(MOVING) else repr(float(value))
        )
        for name, labels, value in with_bounds_as_numbers(samples)
        if name.startswith("cohere_")
    }


def with_bounds_as_numbers(
    samples: Iterator[tuple[str, dict[str, str], float]],
) -> Iterator[tuple[str, dict[str, str], float]]:
    """Write the bounds of buckets alike: 1 is 1.0 to Prometheus 3."""
    for name, labels, value in samples:
        yield name, {**labels, **({"le": repr(float(labels["le"]))} if "le" in labels else {})}, value


async def test_the_headers_of_other_scrapers_bring_the_same_series(at_rest: Running) -> None:
    expected = await read(at_rest.url, "")
    for scraper, accept in ACCEPT.items():
        assert await read(at_rest.url, accept) == expected, scraper


@every_edition
async def test_prometheus_stores_what_the_parser_reads(
    tmp_path: Path, edition: Any, at_rest: Running
) -> None:
    protocols = PROTOCOLS if edition is EDITIONS[1] else {"its own": {}}
    jobs = [target(at_rest.url, name, **options) for name, options in protocols.items()]
    config = {"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}
    async with prometheus(tmp_path, config) as url:
        expected = await read(at_rest.url, "")
        for name in protocols:
            await eventually(lambda name=name: scraped(url, name))  # type: ignore[misc]
            assert await in_prometheus(url, name) == expected, name


async def scraped(url: str, job: str) -> bool:
    """Return whether a job has been scraped twice."""
    return bool(await ask(url, f'count_over_time(up{{job="{job}"}}[1m]) > 1 and up == 1'))


async def in_prometheus(url: str, job: str) -> Stored:
    series = await ask(url, f'{{__name__=~"cohere_.*", job="{job}"}}')
    return stored((one["metric"]["__name__"], one["metric"], float(one["value"][1])) for one in series)


@every_edition_at_night
async def test_vmagent_delivers_what_the_parser_reads_but_nan(tmp_path: Path, at_rest: Running) -> None:
    async with victoria("victoria-metrics", f"-storageDataPath={tmp_path}/data") as database:
        config = tmp_path / "scrape.yml"
        job = target(at_rest.url, "agent", scrape_interval="1s")
        config.write_text(json.dumps({"scrape_configs": [job]}))
        flags = (
            f"-promscrape.config={config}",
            f"-remoteWrite.url={database}/api/v1/write",
            f"-remoteWrite.tmpDataPath={tmp_path}/agent",
        )
        async with victoria("vmagent", *flags):
            await eventually(lambda: exported(database))
            expected = await read(at_rest.url, "")
            given = {series: value for series, value in expected.items() if value != "nan"}
            kept = await in_victoria_metrics(database)
            assert kept.keys() == given.keys()
            assert [series for series in given if not nearly(kept[series], given[series])] == []


def nearly(one: str, other: str) -> bool:
    """Return whether values are equal but for the last digit, which VictoriaMetrics does not keep."""
    return one == other or math.isclose(float(one), float(other), rel_tol=1e-14)


async def exported(url: str) -> bool:
    return any(name == "cohere_up" for name, _ in await in_victoria_metrics(url))


async def in_victoria_metrics(url: str) -> Stored:
    async with plain_client(base_url=url) as client:
        await client.get("/internal/force_flush")
        lines = (await client.get("/api/v1/export", params={"match[]": '{__name__=~"cohere_.*"}'})).text
    series = [json.loads(line) for line in lines.splitlines()]
    return stored((one["metric"]["__name__"], one["metric"], one["values"][-1]) for one in series)


@NIGHTLY
async def test_the_opentelemetry_collector_stores_what_the_parser_reads(
    tmp_path: Path, at_rest: Running
) -> None:
    config, out = tmp_path / "otelcol.yaml", tmp_path / "out.json"
    scrapes = {"scrape_configs": [target(at_rest.url, "otel", scrape_interval="1s")]}
    content = {
        "receivers": {"prometheus": {"config": scrapes}},
        "exporters": {"file": {"path": str(out), "flush_interval": "1s"}},
        "service": {
            "pipelines": {"metrics": {"receivers": ["prometheus"], "exporters": ["file"]}},
            "telemetry": {"metrics": {"level": "none"}},
        },
    }
    config.write_text(json.dumps(content))
    process = await asyncio.create_subprocess_exec(
        *(program("otelcol"), f"--config={config}"), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await eventually(lambda: has_lines(out))
        expected = await read(at_rest.url, "")
    finally:
        process.kill()
        await process.wait()
    assert stored(in_otlp(json.loads(out.read_text().splitlines()[0]))) == expected


async def has_lines(file: Path) -> bool:
    return file.exists() and "\n" in file.read_text()


def in_otlp(content: dict[str, Any]) -> Iterator[tuple[str, dict[str, str], float]]:
    """Return the samples of metrics in OpenTelemetry's own form, named as Prometheus names them."""
    for resource in content["resourceMetrics"]:
        for scope in resource["scopeMetrics"]:
            for metric in scope["metrics"]:
                for kind in ("gauge", "sum", "histogram"):
                    for point in metric.get(kind, {}).get("dataPoints", ()):
                        yield from _point(metric["name"], kind, point)


def _point(name: str, kind: str, point: dict[str, Any]) -> Iterator[tuple[str, dict[str, str], float]]:
    labels = {pair["key"]: pair["value"]["stringValue"] for pair in point.get("attributes", ())}
    if kind != "histogram":
        yield name, labels, float(point.get("asDouble", point.get("asInt", 0)))
        return
    for bound in (*point["explicitBounds"], math.inf):
        yield f"{name}_bucket", {**labels, "le": str(bound)}, 0
    yield f"{name}_count", labels, 0
    yield f"{name}_sum", labels, 0
