"""The rules for Prometheus: valid, proven alert by alert, and at one with the runbooks and the code."""

import json
import re
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from deploy.prometheus import thresholds
from deploy.prometheus.generate import INDEX, RULES, index_page, rules_file
from deploy.prometheus.thresholds import Threshold
from exporter.cohere.transport import Endpoint
from exporter.cohere.wire import REJECTED_KINDS
from exporter.errors import REASONS
from exporter.families import FAMILIES
from exporter.model import Status
from exporter.telemetry import Telemetry
from tests.programs import ROOT, program, run

pytestmark = pytest.mark.anyio

DEPLOY = RULES.parent
RUNBOOKS = INDEX.parent
RULE_TESTS = sorted((ROOT / "tests/rules").glob("*.test.yml"))


def load(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


ALL_RULES = [rule for group in load(RULES)["groups"] for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in ALL_RULES if "alert" in rule}
PAGES = {page.stem: page for page in RUNBOOKS.glob("*.md") if page != INDEX}

every_alert = pytest.mark.parametrize("alert", ALERTS.values(), ids=ALERTS)
every_page = pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)


# What is committed is what the tables say.


def test_the_rules_file_is_as_the_tables_would_write_it() -> None:
    assert RULES.read_text(encoding="utf-8") == rules_file(), "run `make rules`"


def test_the_index_of_the_runbooks_is_as_the_tables_would_write_it() -> None:
    assert INDEX.read_text(encoding="utf-8") == index_page(), "run `make rules`"


def test_the_bases_of_all_links_can_be_set_with_sed_as_well() -> None:
    runbooks, grafana = "https://wiki.example.com/runbooks", "https://grafana.example.com"
    replaced = "".join(
        line.replace("runbook_url: docs/runbooks/", f"runbook_url: {runbooks}/").replace(
            "dashboard_url: /d/", f"dashboard_url: {grafana}/d/"
        )
        for line in rules_file().splitlines(keepends=True)
        if not line.startswith("#")
    )
    written = "".join(
        line
        for line in rules_file(runbooks + "/", grafana).splitlines(keepends=True)
        if not line.startswith("#")
    )
    assert replaced == written
    assert written.count(f"{runbooks}/") == written.count(f"{grafana}/d/") == len(ALERTS)


@pytest.mark.parametrize(
    "name", [name for name, value in vars(thresholds).items() if type(value) is Threshold]
)
def test_every_threshold_is_in_use(name: str) -> None:
    tables = "".join((DEPLOY / table).read_text() for table in ("models.py", "exporters.py"))
    assert re.search(rf"\blimit\.{name}\b", tables)


# Prometheus agrees.


async def test_promtool_finds_nothing_wrong_with_the_rules() -> None:
    code, out, err = await run(program("promtool"), "check", "rules", str(RULES))
    assert code == 0, err
    assert f"{len(ALL_RULES)} rules found" in out


@pytest.mark.parametrize("file", RULE_TESTS, ids=lambda file: file.name)
async def test_the_alerts_fire_when_they_should_and_only_then(file: Path) -> None:
    code, out, err = await run(program("promtool"), "test", "rules", str(file))
    assert code == 0, out + err


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_is_proven_to_fire_and_to_be_silent(name: str) -> None:
    firing, silent = set(), set()
    for test in chain.from_iterable(load(file)["tests"] for file in RULE_TESTS):
        checks = [check for check in test.get("alert_rule_test", ()) if check["alertname"] == name]
        if any(check.get("exp_alerts") for check in checks):
            firing.add(test["name"])
        elif checks:
            silent.add(test["name"])
    assert firing
    assert silent


@pytest.mark.parametrize("rule", ALL_RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_newer_versions_of_prometheus_can_parse_every_expression(rule: Mapping[str, str]) -> None:
    promql_parser.parse(rule["expr"])


# Expressions name what there is, and nothing that differs from one installation to the next.


def test_every_metric_named_exists() -> None:
    assert {name for rule in ALL_RULES for name in metrics_in(rule["expr"])} <= known_metrics()


@every_page
def test_every_query_of_a_runbook_can_be_parsed_and_names_metrics_that_exist(page: Path) -> None:
    queries = list(queries_in(page))
    assert queries
    for query in queries:
        promql_parser.parse(query)
        assert set(metrics_in(query)) <= known_metrics()


def test_every_status_reason_and_endpoint_named_exists() -> None:
    expressions = " ".join(rule["expr"] for rule in ALL_RULES)
    reasons = chain.from_iterable(found.split("|") for found in re.findall(r'reason=~"(.*?)"', expressions))
    assert set(re.findall(r"STATUS_\w+", expressions)) <= set(Status)
    assert set(reasons) <= set(REASONS)
    assert set(re.findall(r'endpoint="(.*?)"', expressions)) <= set(Endpoint)


@pytest.mark.parametrize("rule", ALL_RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_no_expression_depends_on_how_a_target_is_labelled(rule: Mapping[str, str]) -> None:
    assert not re.search(r"\b(job|instance|pod|namespace|container)\b", rule["expr"])


# An alert says what a person needs.


@every_alert
def test_an_alert_says_how_grave_it_is_what_is_wrong_and_by_how_much(alert: Mapping[str, Any]) -> None:
    assert alert["labels"] in ({"severity": "critical"}, {"severity": "warning"})
    assert alert["for"]
    notes = alert["annotations"]
    assert set(notes) == {"summary", "description", "runbook_url", "dashboard_url"}
    assert "$value" in notes["description"]
    is_about_a_model = "model_id" in alert["expr"] or "model:" in alert["expr"]
    assert ("{{ $labels.model_name }}" in notes["summary"]) == is_about_a_model


@every_alert
def test_the_links_of_an_alert_lead_somewhere(alert: Mapping[str, Any]) -> None:
    notes = alert["annotations"]
    assert notes["runbook_url"] == f"docs/runbooks/{alert['alert']}.md"
    assert (ROOT / notes["runbook_url"]).is_file()
    path, _, query = notes["dashboard_url"].partition("?")
    is_about_a_model = "$labels.model_name" in notes["summary"]
    assert path == f"/d/cohere-finetuning-{'model' if is_about_a_model else 'exporter'}"
    assert query == ("var-model_id={{ $labels.model_id | urlquery }}" if is_about_a_model else "")


# The runbooks and the alerts are one to one.


def test_every_runbook_has_its_alert_and_every_alert_its_runbook() -> None:
    assert set(PAGES) == set(ALERTS)


@every_page
def test_a_runbook_has_all_its_parts_and_no_dead_link(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# {page.stem}\n")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Meaning", "Impact", "Diagnosis", "Mitigation"]
    for link in re.findall(r"\]\((?!https?:)(.*?)\)", text):
        assert (RUNBOOKS / link).is_file()


# The examples.


@pytest.mark.parametrize("name", ["prometheus.yml", "scrape.yml"])
async def test_promtool_accepts_the_examples(name: str) -> None:
    code, out, err = await run(program("promtool"), "check", "config", str(DEPLOY / name))
    assert code == 0, out + err


async def test_amtool_accepts_the_example_for_alertmanager() -> None:
    code, out, err = await run(program("amtool"), "check-config", str(DEPLOY / "alertmanager.yml"))
    assert code == 0, out + err


def test_alertmanager_silences_only_alerts_that_exist() -> None:
    named = re.findall(r"Cohere\w+", (DEPLOY / "alertmanager.yml").read_text(encoding="utf-8"))
    assert named
    assert set(named) <= set(ALERTS)


def test_an_exporter_silences_no_alert_of_another() -> None:
    about_all = {"CohereStepMetricsUnreadable", "CohereExporterAbsent"}
    for rule in load(DEPLOY / "alertmanager.yml")["inhibit_rules"]:
        sources = set(re.findall(r"Cohere\w+", " ".join(rule["source_matchers"])))
        assert ("equal" in rule) == sources.isdisjoint(about_all)
        assert rule.get("equal", ["job", "instance"]) == ["job", "instance"]


async def test_discovery_in_kubernetes_keeps_the_metrics_port_of_living_pods(tmp_path: Path) -> None:
    # Debian builds promtool without Kubernetes, so what it would discover is handed in.
    (job,) = load(DEPLOY / "scrape-kubernetes.yml")["scrape_configs"]
    (discovery,) = job.pop("kubernetes_sd_configs")
    assert discovery == {
        "role": "pod",
        "selectors": [{"role": "pod", "label": "app.kubernetes.io/name=cohere-finetune-exporter"}],
    }
    job["static_configs"] = [
        pod("10.0.0.1:10220", port="metrics", phase="Running"),
        pod("10.0.0.1:8080", port="other", phase="Running"),
        pod("10.0.0.2:10220", port="metrics", phase="Succeeded"),
    ]
    config = tmp_path / "prometheus.yml"
    config.write_text(json.dumps({"scrape_configs": [job]}))
    command = "check", "service-discovery", "--timeout=1s", str(config), job["job_name"]
    code, out, err = await run(program("promtool"), *command)
    assert code == 0, err
    kept = [target["labels"] for target in json.loads(out) if target["labels"]]
    assert [(labels["instance"], labels["namespace"], labels["pod"]) for labels in kept] == [
        ("10.0.0.1:10220", "ml", "exporter-0")
    ]


def pod(address: str, *, port: str, phase: str) -> dict[str, Any]:
    meta = {
        "__meta_kubernetes_namespace": "ml",
        "__meta_kubernetes_pod_name": "exporter-0",
        "__meta_kubernetes_pod_container_port_name": port,
        "__meta_kubernetes_pod_phase": phase,
    }
    return {"targets": [address], "labels": meta}


def metrics_in(expression: str) -> list[str]:
    without_strings = re.sub(r'"[^"]*"', "", expression)
    return re.findall(r"(?:\w+:)?cohere_\w+(?::\w+)?", without_strings)


def queries_in(page: Path) -> Iterator[str]:
    """Give the queries of a page: in its blocks of PromQL a comment or a blank line ends a query.

    So does a line that is not indented, for a query goes on with indented ones.
    """
    for block in re.findall(r"```promql\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        without_comments = re.sub(r"^#.*\n", "", block, flags=re.MULTILINE)
        yield from filter(None, (query.strip() for query in re.split(r"\n(?=\S)|\n\n", without_comments)))


def known_metrics() -> set[str]:
    telemetry = Telemetry(version="", revision="", endpoints=Endpoint, rejected_kinds=REJECTED_KINDS)
    own = {sample.name for metric in telemetry.registry.collect() for sample in metric.samples}
    recorded = {rule["record"] for rule in ALL_RULES if "record" in rule}
    return {family.name for family in FAMILIES} | own | recorded
