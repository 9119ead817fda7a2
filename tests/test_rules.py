"""The rules for Prometheus: valid, rendered for any installation, and at one with runbooks and code.

Which alert fires when is the matter of test_alerts.
"""

import json
import re
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from deploy.prometheus.rules import (
    DEFAULTS,
    INDEX,
    RULES,
    TEMPLATE,
    default_values,
    index_page,
    rules_file,
    runbook,
    template,
)
from deploy.prometheus.thresholds import THRESHOLDS
from exporter import rules as packaged
from exporter.cohere.wire import REJECTED_KINDS
from exporter.errors import REASONS
from exporter.families import FAMILIES
from exporter.model import Status
from exporter.telemetry import Telemetry
from tests.editions import every_edition
from tests.exporter_model import Exporter, Model, always
from tests.programs import program, run

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

DEPLOY = RULES.parent
RUNBOOKS = INDEX.parent


def load(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


ALERTS = {rule["alert"]: rule for group in load(RULES)["groups"] for rule in group["rules"]}
PAGES = {page.stem: page for page in RUNBOOKS.glob("*.md") if page != INDEX}

every_alert = pytest.mark.parametrize("alert", ALERTS.values(), ids=ALERTS)
every_page = pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)


# What is committed is what the tables say.


@pytest.mark.parametrize(
    ("file", "written"),
    [(TEMPLATE, template), (DEFAULTS, default_values), (RULES, rules_file), (INDEX, index_page)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_every_generated_file_is_as_the_tables_would_write_it(file: Path, written: Any) -> None:
    assert file.read_text(encoding="utf-8") == written(), "run `make rules`"


@pytest.mark.parametrize("name", THRESHOLDS)
def test_every_threshold_is_in_use(name: str) -> None:
    assert f"@{name}@" in template()


# Rendered for an installation.


def rendered(**values: Any) -> dict[str, dict[str, Any]]:
    content = yaml.safe_load(packaged.render(values))
    return {rule["alert"]: rule for group in content["groups"] for rule in group["rules"]}


def test_thresholds_severities_labels_and_disabled_alerts_are_values() -> None:
    alerts = rendered(
        thresholds={"offline": 1234},
        severities={"CohereModelFailed": "page"},
        labels={"team": "ml"},
        disabled=["CohereSeriesDropped"],
    )
    assert set(alerts) == set(ALERTS) - {"CohereSeriesDropped"}
    assert alerts["CohereModelFailed"]["labels"] == {"severity": "page", "team": "ml"}
    assert alerts["CohereApiDown"]["labels"] == {"severity": "warning", "team": "ml"}
    assert "> 1234" in alerts["CohereModelStuck"]["expr"]
    assert "1234.0 | humanizeDuration" in alerts["CohereModelStuck"]["annotations"]["description"]


def test_without_a_url_an_alert_says_where_its_runbook_is_and_offers_no_dead_link() -> None:
    for name, alert in rendered().items():
        notes = alert["annotations"]
        assert set(notes) == {"summary", "description", "action", "ended", "runbook", "dashboard"}
        assert notes["runbook"] == runbook(name)


def test_a_url_of_slashes_is_none() -> None:
    assert packaged.rules({"url": "/", "grafanaUrl": "//"}) == packaged.rules()


def test_one_url_makes_every_link_absolute() -> None:
    for name, alert in rendered(url="https://ops.example.com/").items():
        notes = alert["annotations"]
        assert notes["runbook_url"] == f"https://ops.example.com/runbooks/{name}.md"
        assert notes["dashboard_url"].startswith("https://ops.example.com/d/cohere-finetuning-")
        assert notes.keys().isdisjoint({"runbook", "dashboard"})


def test_runbooks_and_grafana_may_be_in_different_places() -> None:
    notes = rendered(runbooksUrl="https://wiki.example.com/r", grafanaUrl="https://g.example.com")[
        "CohereApiDown"
    ]["annotations"]
    assert notes["runbook_url"] == "https://wiki.example.com/r/CohereApiDown.md"
    assert notes["dashboard_url"].startswith("https://g.example.com/d/cohere-finetuning-exporter?")


@pytest.mark.parametrize("alert", ALERTS)
def test_a_selector_is_in_every_selector_of_every_expression(alert: str) -> None:
    expr = rendered(selector='namespace="team-a"')[alert]["expr"]
    selectors = re.findall(
        r"\b(?:cohere_\w+|up)\b(\{.*?\})?", re.sub(r"\(cluster, namespace, job.*?\)", "", expr)
    )
    assert selectors
    assert all(selector.endswith('namespace="team-a"}') for selector in selectors)
    promql_parser.parse(expr)


def test_a_selector_may_be_in_any_quotes() -> None:
    for alert in rendered(selector="namespace='team-a'").values():
        assert "namespace='team-a'" in alert["expr"]
        assert "@selector@" not in str(alert)
    recorded = yaml.safe_load(packaged.render_recording({"selector": "namespace='team-a'"}))
    assert all("namespace='team-a'" in rule["expr"] for rule in recorded["groups"][0]["rules"])


TEXTS = ("selector", "url", "runbooksUrl", "grafanaUrl")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"threshold": {}}, "unknown value threshold"),
        ({"thresholds": {"ofline": 1}}, "unknown name in thresholds: ofline"),
        ({"thresholds": {"offline": "1h"}}, "offline must be a whole number"),
        ({"thresholds": {"offline": 0}}, "offline must be a whole number"),
        ({"severities": {"CohereDown": "page"}}, "unknown name in severities: CohereDown"),
        ({"severities": {1: "page"}}, "unknown name in severities: 1"),
        ({"severities": {"CohereApiDown": 1}}, "everything in severities must be text"),
        ({"disabled": ["CohereDown"]}, "unknown alert in disabled: CohereDown"),
        ({"disabled": [[]]}, "everything in disabled must be text"),
        ({"disabled": "CohereApiDown"}, "disabled must be a list"),
        ({"labels": {"team": 5}}, "everything in labels must be text"),
        ({"labels": {5: "team"}}, "everything in labels must be text"),
        *(({"labels": {name: "ml"}}, "not a label name") for name in ("a-b", "5", "", "a\n", "__name__")),
        ({"thresholds": 5}, "thresholds must be a mapping"),
        ({"selector": "team=`ml`"}, "selector must not have a backtick"),
        *(({"selector": f'a="b",{c}c="d"'}, "selector must be one line") for c in "\n\r\x85\u2028\x00"),
        *(({name: 5}, f"{name} must be text") for name in TEXTS),
        *(({name: "https://a\n"}, f"{name} must be one line") for name in TEXTS),
    ],
)
def test_a_value_that_cannot_be_used_is_an_error_that_names_it(values: Any, words: str) -> None:
    with pytest.raises(packaged.RulesError, match=words):
        packaged.render(values)


@pytest.mark.parametrize("name", packaged.defaults())
def test_a_value_that_is_null_is_the_default(name: str) -> None:
    assert packaged.rules({name: None}) == packaged.rules()


# Prometheus agrees.


@every_edition
@pytest.mark.parametrize("values", [{}, {"selector": 'namespace="a"', "url": "https://ops.example.com"}])
async def test_promtool_finds_nothing_wrong_with_the_rules(values: Any, tmp_path: Path) -> None:
    file = tmp_path / "rules.yml"
    file.write_text(packaged.render(values))
    code, out, err = await run(program("promtool"), "check", "rules", str(file))
    assert code == 0, err
    assert f"{len(ALERTS)} rules found" in out


def test_there_are_the_eleven_alerts_and_no_recordings() -> None:
    assert list(ALERTS) == [
        "CohereModelFailed",
        "CohereModelStuck",
        "CohereTrainingStalled",
        "CohereTrainingDiverged",
        "CohereFleetUnseen",
        "CohereApiDown",
        "CohereCredentialsRefused",
        "CohereAnswersUnreadable",
        "CohereExporterDown",
        "CohereReloadFailed",
        "CohereSeriesDropped",
    ]


@every_alert
def test_newer_versions_of_prometheus_can_parse_every_expression(alert: Mapping[str, str]) -> None:
    promql_parser.parse(alert["expr"])


# Expressions name what there is, and keep identities apart.


@every_alert
def test_every_metric_named_exists_and_is_in_the_model_of_the_tests(alert: Mapping[str, str]) -> None:
    named = set(metrics_in(alert["expr"]))
    assert named <= known_metrics()
    assert named <= modelled_metrics()


def test_the_model_of_the_tests_has_every_family() -> None:
    histogram = {f"cohere_exporter_api_request_duration_seconds_{end}" for end in ("bucket", "sum", "count")}
    budget = {"cohere_exporter_api_calls_left"}
    assert known_metrics() <= modelled_metrics() | histogram | budget


@every_page
def test_every_metric_of_a_runbook_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = {
        name for name in re.findall(r"\bcohere_(?:finetuned|exporter)_\w+[a-z]\b", text) if name[-1] != "_"
    }
    assert named <= known_metrics()


def test_every_status_and_reason_named_exists() -> None:
    text = template()
    reasons = chain.from_iterable(found.split("|") for found in re.findall(r'reason=~"(.*?)"', text))
    advised = re.findall(r'eq \$reason "(\w+)"', text)
    assert set(re.findall(r"STATUS_\w+", text)) <= set(Status)
    assert {*reasons, *advised} <= set(REASONS)


@every_alert
def test_the_identity_is_in_every_aggregation_and_every_match(alert: Mapping[str, str]) -> None:
    expr = alert["expr"]
    if alert["alert"] == "CohereFleetUnseen":  # That there is no exporter at all is about no identity.
        expr = re.sub(r"absent_over_time\(.*\)\s+unless on \(\)", "", expr)
    clauses = re.findall(r"\b(?:by|on) \((.*?)\)", expr)
    assert clauses
    assert all(clause.startswith("cluster, namespace, job") for clause in clauses)
    assert not re.search(r"\b(ignoring|without)\b", expr)


# An alert says what a person needs.


@every_alert
def test_an_alert_about_a_model_names_it_and_its_account(alert: Mapping[str, Any]) -> None:
    notes = alert["annotations"]
    about_a_model = alert["alert"].startswith(("CohereModel", "CohereTraining"))
    assert ("$labels.model_name" in notes["summary"]) == about_a_model
    assert "$labels.job" in notes["summary"] + notes["description"] or "instance" in notes["summary"]


def test_one_alert_is_critical() -> None:
    critical = [name for name, alert in ALERTS.items() if alert["labels"]["severity"] == "critical"]
    assert critical == ["CohereFleetUnseen"]


@every_alert
def test_a_notification_that_an_alert_ended_says_that_its_exporter_may_be_gone(
    alert: Mapping[str, Any],
) -> None:
    assert re.search(
        r"exporter (restarted or )?is gone|no exporter has|expected", alert["annotations"]["ended"]
    )


# The runbooks and the alerts are one to one.


def test_every_runbook_has_its_alert_and_every_alert_its_runbook() -> None:
    assert set(PAGES) == set(ALERTS)


@every_page
def test_a_runbook_has_all_its_parts_and_no_dead_link(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# {page.stem}\n")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [
        "Meaning",
        "Impact",
        "First command",
        "Causes, likeliest first",
        "Mitigation",
        "Silence",
    ]
    for link in re.findall(r"\]\((?!https?:)(.*?)\)", text):
        file, _, anchor = link.partition("#")
        assert (RUNBOOKS / file).is_file()
        heading = anchor.replace("-", " ").strip()
        assert heading in (RUNBOOKS / file).read_text(encoding="utf-8").lower()
    assert f"alertname={page.stem}" in text


@pytest.mark.parametrize("text", [page.read_text(encoding="utf-8") for page in PAGES.values()], ids=PAGES)
async def test_a_runbook_s_commands_are_valid(text: str) -> None:
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        code, _, err = await run("bash", "-n", "-c", block)
        assert code == 0, err
    for query in re.findall(r"promtool query instant PROMETHEUS \\?\s*'(.*?)'", text, re.DOTALL):
        promql_parser.parse(query)


# The examples.


@every_edition
async def test_promtool_accepts_the_example() -> None:
    code, out, err = await run(program("promtool"), "check", "config", str(DEPLOY / "prometheus.yml"))
    assert code == 0, out + err


@every_edition
async def test_amtool_accepts_the_example_for_alertmanager() -> None:
    code, out, err = await run(program("amtool"), "check-config", str(DEPLOY / "alertmanager.yml"))
    assert code == 0, out + err


def test_alertmanager_silences_only_alerts_that_exist() -> None:
    named = re.findall(r"Cohere\w+", (DEPLOY / "alertmanager.yml").read_text(encoding="utf-8"))
    assert named
    assert set(named) <= set(ALERTS)


def test_an_alert_silences_only_those_of_its_own_identity() -> None:
    for rule in load(DEPLOY / "alertmanager.yml")["inhibit_rules"]:
        assert rule["equal"][:3] == ["cluster", "namespace", "job"]


@every_edition
@pytest.mark.parametrize(
    "job",
    [
        pytest.param(job, id=job["job_name"])
        for job in load(DEPLOY / "scrape-kubernetes.yml")["scrape_configs"]
    ],
)
async def test_discovery_in_kubernetes_keeps_the_metrics_port_of_living_pods_a_job_per_account(
    tmp_path: Path, job: dict[str, Any]
) -> None:
    # Debian builds promtool without Kubernetes, so what it would discover is handed in.
    job = dict(job)
    (discovery,) = job.pop("kubernetes_sd_configs")
    assert discovery == {
        "role": "pod",
        "selectors": [{"role": "pod", "label": "app.kubernetes.io/name=cohere-finetune-exporter"}],
    }
    job["static_configs"] = [
        pod("10.0.0.1:10220", port="metrics", phase="Running"),
        pod("10.0.0.3:10220", port="metrics", phase="Running", instance="research"),
        pod("10.0.0.1:8080", port="other", phase="Running"),
        pod("10.0.0.2:10220", port="metrics", phase="Succeeded"),
    ]
    config = tmp_path / "prometheus.yml"
    config.write_text(json.dumps({"scrape_configs": [job]}))
    command = "check", "service-discovery", "--timeout=1s", str(config), job["job_name"]
    code, out, err = await run(program("promtool"), *command)
    assert code == 0, err
    found = [target["labels"] for target in json.loads(out) if target["labels"]]
    kept = sorted(found, key=lambda labels: str(labels["instance"]))  # promtool 3 keeps no order
    steps = "-steps" if "/steps" in job.get("metrics_path", "") else ""
    assert [(labels["instance"], labels["namespace"], labels["job"], labels["pod"]) for labels in kept] == [
        ("10.0.0.1:10220", "ml", f"cohere-finetune-exporter{steps}", "exporter-0"),
        ("10.0.0.3:10220", "ml", f"research{steps}", "exporter-0"),
    ]


def pod(address: str, *, port: str, phase: str, instance: str = "cohere-finetune-exporter") -> dict[str, Any]:
    meta = {
        "__meta_kubernetes_namespace": "ml",
        "__meta_kubernetes_pod_name": "exporter-0",
        "__meta_kubernetes_pod_container_port_name": port,
        "__meta_kubernetes_pod_phase": phase,
        "__meta_kubernetes_pod_label_app_kubernetes_io_instance": instance,
    }
    return {"targets": [address], "labels": meta}


def metrics_in(expression: str) -> list[str]:
    without_strings = re.sub(r'"[^"]*"', "", expression)
    return re.findall(r"\bcohere_\w+", without_strings)


def modelled_metrics() -> set[str]:
    model = Model(created=0, updated=0, completed=0, step=1, step_at=0, metrics={"loss": 1})
    (stored,) = Exporter(models=always(model)).samples([0])
    return {name for name, _ in stored}


def known_metrics() -> set[str]:
    telemetry = Telemetry(version="", revision="", endpoints=["a"], rejected_kinds=REJECTED_KINDS)
    metrics = list(telemetry.registry.collect())
    own = {sample.name for metric in metrics for sample in metric.samples}
    own |= {metric.name for metric in metrics if metric.type == "gauge"}
    return {family.name for family in FAMILIES} | {name for name in own if name.startswith("cohere_")}
