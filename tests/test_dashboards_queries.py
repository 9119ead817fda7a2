"""Every query of the dashboards, variables filled in, runs on a real Prometheus and has something to say."""

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from exporter.model import Status
from exporter.simulator import LIST_MODELS, LIST_STEPS, Simulator
from grafana.looks import code
from tests.clients import plain_client
from tests.dashboards import PANELS, QUERIES, Query, colors, filled, variables
from tests.editions import every_edition, every_edition_at_night
from tests.monitoring import prometheus
from tests.programs import KEY, Running, exporter, simulated_api

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

EMPTY_WHEN_ALL_IS_WELL = {
    "fleet: Alerts that fire A",
    "exporter: Polls and their failures B",
    "exporter: What went missing A",
    "exporter: Exporters C",
    "model: Evaluation E",  # without a predecessor of the same name
    "model: Evaluation F",
    "model: Evaluation G",  # without a baseline
    "model: Evaluation H",
}
SOMETIMES = {
    "fleet: Models in training D",
    "fleet: Unused for 30 days A",
    "fleet: Unused for 30 days B",
    "model: Weights & Biases A",
}
"""Empty or not, as the simulated fleet happens to be."""
GREEN_WHEN_ALL_IS_WELL = {
    "fleet: API A",
    "fleet: Age of data A",
    "fleet: All models A",
    "exporter: API A",
    "exporter: Age of data A",
    "exporter: Exporters A",
    "exporter: Exporters B",
}
ALERT = {
    "alert": "CohereTest",
    "expr": 'cohere_finetuned_model_status{status="STATUS_FAILED"} == 1',
    "labels": {"severity": "critical"},
}
WINDOWS = {"__rate_interval": "10s", "__range": "60s", "__interval": "1s"}
LABELS = ("cluster", "namespace", "job", "instance", "base_type", "dataset", "creator")
CHOICES = dict.fromkeys(LABELS, ".*") | dict.fromkeys(("baseline", "compare", "predecessor"), "none")
"""The variables as they stand when nobody has chosen anything."""
CALLS = 1_000_000_000
"""A quota that leaves the pace of polls as it is."""
AGREED = (
    "count by (job, model_id) (count by (job, model_id, status) (cohere_finetuned_model_status == 1)) == 1"
)
"""Models of one status, wherever they were scraped: scrapes at different moments may see different ones."""
Series = dict[str, Any]


class Prometheus:
    """A real Prometheus, asked as Grafana asks it; `variables` are filled into every query."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.variables = WINDOWS | CHOICES

    async def ask(self, query: Query) -> list[Series]:
        """Return the series; a query that Prometheus refuses is an AssertionError."""
        now = time.time()
        when = {"start": now - 60, "end": now, "step": 1} if query.is_range else {"time": now}
        api = "query_range" if query.is_range else "query"
        async with plain_client() as client:
            # What is asked of every whole minute would wait for one to end.
            text = filled(query.expr, self.variables).replace("[60s:1m]", "[60s:1s]")
            parameters = {"query": text, **when}
            answer = await client.post(f"{self._url}/api/v1/{api}", data=parameters)
        assert answer.status_code == 200, f"{query.place}: {answer.text}"
        series: list[Series] = answer.json()["data"]["result"]
        return series

    async def now(self, expr: str) -> list[Series]:
        """Ask for the present moment."""
        return await self.ask(Query("a test", expr, is_range=False))

    async def unanswered(self, *allowed: str, seconds: float = 120) -> set[str]:
        """Ask all queries until none is without an answer but those allowed; return the places that are."""
        rest = set(QUERIES)
        end = time.monotonic() + seconds
        while True:
            answers = [(query, await self.ask(query)) for query in rest]
            rest = {query for query, answer in answers if not answer}
            if {query.place for query in rest} <= set(allowed) or time.monotonic() > end:
                return {query.place for query in rest}
            await asyncio.sleep(0.5)

    async def until(self, expr: str) -> list[Series]:
        """Ask until there is an answer."""
        async with asyncio.timeout(120):
            while not (answer := await self.now(expr)):  # noqa: ASYNC110 - another process changes it
                await asyncio.sleep(0.2)
        return answer


@asynccontextmanager
async def scraping(folder: Path, *urls: str, rules: tuple[Any, ...] = ()) -> AsyncIterator[Prometheus]:
    """Run a Prometheus that scrapes each URL as a job of its own; of one given twice, two instances."""
    (folder / "rules.yml").write_text(json.dumps({"groups": [{"name": "test", "rules": rules}]}))
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(folder / "rules.yml")],
        "scrape_configs": [
            {
                "job_name": f"account-{number}",
                "static_configs": [
                    {"targets": [url.removeprefix("http://")], "labels": {"instance": f"{number}-{instance}"}}
                    for instance in range(urls.count(url))
                ],
            }
            for number, url in enumerate(dict.fromkeys(urls))
        ],
    }
    async with prometheus(folder, config) as url:
        yield Prometheus(url)


@every_edition
async def test_every_query_is_understood_by_old_and_new_servers_and_has_no_answer_without_data(
    tmp_path: Path,
) -> None:
    async with scraping(tmp_path) as asked:
        asked.variables |= {"model_id": "none", "metric": "none"}
        assert [query.place for query in QUERIES if await asked.ask(query)] == []


@every_edition_at_night
async def test_two_exporters_of_a_healthy_fleet_answer_every_query_and_the_worst_of_them_is_shown(
    tmp_path: Path,
) -> None:
    async with (
        an_exporter_of_an_account_of_its_own(1, stale_after="10s") as (first, simulator),
        an_exporter_of_an_account_of_its_own(2, f"--cohere.calls-per-month={CALLS}") as (second, _),
        # Scraped twice, the first account also stands for two exporters with one key.
        scraping(tmp_path, first.url, first.url, second.url) as asked,
    ):
        asked.variables["model_id"] = model = await a_model_in_training(asked, 'job="account-0"')
        [metric, *_] = await asked.now(f'cohere_finetuned_model_training_metric{{model_id="{model}"}}')
        asked.variables["metric"] = metric["metric"]["metric"]
        await asked.until(f"count(cohere_finetuned_models) == {3 * len(Status)}")
        empty = await asked.unanswered(*EMPTY_WHEN_ALL_IS_WELL, *SOMETIMES)
        assert empty - SOMETIMES == EMPTY_WHEN_ALL_IS_WELL
        await no_model_stands_in_a_table_twice(asked)
        await the_number_of_a_status_is_that_of_the_status(asked)
        await models_are_chosen_by_name_and_exporters_by_instance(asked)
        await the_failed_models_of_both_accounts_are_counted_once_each(asked)
        await what_is_told_of_exporters_is_told_of_each(asked)
        await calls_left_are_those_of_the_exporter_with_a_quota(asked)
        asked.variables["job"] = "account-0"
        assert await what_is_green(asked) >= GREEN_WHEN_ALL_IS_WELL
        simulator.fail(LIST_MODELS, status=401)
        asked.variables["job"] = ".*"
        await stale_data_is_worse_than_fresh(asked)
        first.process.kill()
        await asked.until("count(up == 0) == 2")
        await an_exporter_that_died_stays_in_sight_and_the_api_is_not_shown_as_up(asked)


@every_edition_at_night
async def test_what_is_empty_fills_when_things_go_wrong_and_stale_data_is_not_shown_as_fresh(
    tmp_path: Path,
) -> None:
    async with (
        an_exporter_of_an_account_of_its_own(seed=0, stale_after="5s") as (running, simulator),
        scraping(tmp_path, running.url, rules=(ALERT,)) as asked,
    ):
        asked.variables["model_id"] = await a_model_in_training(asked)
        simulator.fail(LIST_STEPS, status=404)
        await asked.until("sum(increase(cohere_exporter_training_metrics_failures_total[60s])) > 0")
        alerts = await asked.until(queried("fleet: Alerts that fire A").expr)
        for series in alerts:
            assert series["metric"].items() >= {"alertname": "CohereTest", "severity": "critical"}.items()
            assert series["metric"]["account"] == "account-0"
            assert series["metric"]["about"]
            assert series["metric"]["board"] == "cohere-finetuning-model"
        missing = await asked.until(queried("exporter: What went missing A").expr)
        assert missing[0]["metric"] == {"what": "Step metrics unreadable", "reason": "gone"}
        simulator.fail(LIST_MODELS, status=401)
        failures = await asked.until(queried("exporter: Polls and their failures B").expr)
        assert failures[0]["metric"] == {"reason": "unauthorized"}
        stale = f"({queried('fleet: Age of data A').expr}) and on (age) "
        await asked.until(stale + 'label_replace(vector(1), "age", "stale", "", "")')
        await asked.until("absent(cohere_finetuned_models)")
        for place in ("fleet: Under way A", "fleet: All models A", "model: Status A"):
            assert await asked.ask(queried(place)) == [], place
        assert await what_is_green(asked) == {"exporter: Exporters A"}  # whose target is up


@asynccontextmanager
async def an_exporter_of_an_account_of_its_own(
    seed: int, *more: str, stale_after: str = "1m"
) -> AsyncIterator[tuple[Running, Simulator]]:
    """Run an exporter that polls a simulated API of its own every second; the seed decides on the models."""
    flags = ("--poll.interval=1s", f"--poll.stale-after={stale_after}", *more)
    async with (
        simulated_api(speed=30, seed=seed) as (simulator, api),
        exporter(*flags, f"--cohere.base-url={api}", environ={"COHERE_API_KEY": KEY}) as running,
    ):
        yield running, simulator


async def what_is_green(asked: Prometheus) -> set[str]:
    """Return the stats and tables that show something in green, the color of what is well."""
    green = set()
    for board, panel in PANELS:
        for target in panel["targets"] if panel["type"] in {"stat", "table"} else ():
            place = f"{board}: {panel['title']} {target['refId']}"
            for series in await asked.ask(queried(place)):
                if "green" in colors(panel, target, series["metric"], series["value"][1]):
                    green.add(place)
    return green


async def a_model_in_training(asked: Prometheus, matcher: str = "") -> str:
    """Return the model that has trained least of those with steps: it goes on until the test has ended."""
    query = (
        f"bottomk(1, cohere_finetuned_model_training_step{{{matcher}}} and on (model_id) "
        '(cohere_finetuned_model_status{status="STATUS_FINETUNING"} == 1) '
        'and on (model_id) cohere_finetuned_model_training_metric{metric=~".*loss|.*entropy"})'
    )
    return str((await asked.until(query))[0]["metric"]["model_id"])


async def no_model_stands_in_a_table_twice(asked: Prometheus) -> None:
    several = {"fleet: Runs B", "fleet: Best of each dataset A"}
    tables = [query for query in QUERIES if query.place.startswith("fleet:") and query.is_table]
    tables = [query for query in tables if query.place not in several]
    for query in tables:
        answer = [series["metric"] for series in await asked.ask(query)]
        models = Counter(labels["model_id"] for labels in answer if "model_id" in labels)
        assert [model for model, count in models.items() if count > 1] == [], query.place


async def the_number_of_a_status_is_that_of_the_status(asked: Prometheus) -> None:
    """Compare within Prometheus, so that both are of one moment."""
    numbers = queried("fleet: All models A").expr
    for status in Status:
        status_now = f'max by (model_id) (cohere_finetuned_model_status{{status="{status}"}}) == 1'
        told_alike = f"{status_now} and on (model_id) ({AGREED})"
        assert await asked.now(f"({numbers}) != {code(status)} and on (model_id) ({told_alike})") == []
    assert await asked.now(f"({numbers}) == 0") == []


async def the_failed_models_of_both_accounts_are_counted_once_each(asked: Prometheus) -> None:
    """Compare within Prometheus; failures are few and long, so both accounts have some at one moment."""
    failed = queried("fleet: Failed, ever A").expr
    of_one_account = 'max(cohere_finetuned_models{status="STATUS_FAILED"})'
    assert await asked.until(f"({failed}) > {of_one_account}")
    listed = f"({queried('fleet: All models A').expr}) == {code(Status.FAILED)}"
    assert await asked.now(f"({failed}) == count({listed})")


async def what_is_told_of_exporters_is_told_of_each(asked: Prometheus) -> None:
    for panel in ("Memory A", "CPU A", "Exporters A", "Exporters B", "Exporters D"):
        answer = await asked.ask(queried(f"exporter: {panel}"))
        assert {series["metric"]["instance"] for series in answer} == {"0-0", "0-1", "1-0"}, panel


async def calls_left_are_those_of_the_exporter_with_a_quota(asked: Prometheus) -> None:
    [left] = await asked.ask(queried("exporter: Exporters H"))
    assert left["metric"]["instance"] == "1-0"
    assert 0 < float(left["value"][1]) < CALLS


async def stale_data_is_worse_than_fresh(asked: Prometheus) -> None:
    # Until then stale-after grows with each pause, seen a scrape later; what was dropped stays dropped.
    await asked.until('absent(cohere_finetuned_models{job="account-0"})')
    for board in ("fleet", "exporter"):
        age = queried(f"{board}: Age of data A").expr
        await asked.until(f'({age}) and on (age) label_replace(vector(1), "age", "stale", "", "")')
        [worst] = await asked.ask(queried(f"{board}: Age of data A"))
        assert worst["metric"] == {"age": "stale"}
        [api] = await asked.ask(queried(f"{board}: API A"))
        assert api["value"][1] == "0"
    ages = {each["metric"]["instance"]: float(each["value"][1]) for each in await asked.ask(AGES)}
    assert min(ages["0-0"], ages["0-1"]) > 10 > ages["1-0"]


async def an_exporter_that_died_stays_in_sight_and_the_api_is_not_shown_as_up(asked: Prometheus) -> None:
    asked.variables["job"] = "account-0"
    assert await what_is_green(asked) == set()
    asked.variables["job"] = ".*"
    targets = await asked.ask(queried("exporter: Exporters A"))
    shown = {each["metric"]["instance"]: each["value"][1] for each in targets}
    assert shown == {"0-0": "0", "0-1": "0", "1-0": "1"}
    gone = queried("exporter: Exporters A").expr.replace("(up{", "(no_target{")
    assert [each["value"][1] for each in await asked.now(gone)] == ["-1"] * 3
    assert {each["metric"]["instance"] for each in await asked.ask(AGES)} == set(shown)
    for board in ("fleet", "exporter"):
        [api] = await asked.ask(queried(f"{board}: API A"))
        assert api["value"][1] == "-1"
        [age] = await asked.ask(queried(f"{board}: Age of data A"))
        assert age["metric"] == {"age": "gone"}


async def models_are_chosen_by_name_and_exporters_by_instance(asked: Prometheus) -> None:
    """Read the answers as Grafana does: `query_result` as lines of text, `label_values` by the label."""
    model = variables("model")["model_id"]
    expr = re.fullmatch(r"query_result\((.*)\)", model["query"]["query"])
    assert expr
    pattern = re.compile(model["regex"].strip("/").replace("(?<", "(?P<"))
    chosen = []
    for series in await asked.now(expr[1]):
        labels = ",".join(f'{name}="{value}"' for name, value in series["metric"].items())
        found = pattern.search(f"{{{labels}}} {series['value'][1]} {series['value'][0]}")
        assert found, labels
        assert found.groupdict() == {
            "value": series["metric"]["model_id"],
            "text": series["metric"]["shown"],
        }
        assert series["metric"]["shown"].endswith(f" · {found['value'][:8]}")
        chosen.append(found["value"])
    assert asked.variables["model_id"] in chosen
    instance = variables("exporter")["instance"]
    values = re.fullmatch(r"label_values\((.+), (\w+)\)", instance["query"]["query"])
    assert values
    assert all(series["metric"][values[2]] for series in await asked.until(values[1]))


def queried(place: str) -> Query:
    return next(query for query in QUERIES if query.place == place)


AGES = queried("exporter: Exporters D")
