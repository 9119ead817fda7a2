"""Which programs of which versions the tests ran with, and how it went: a pytest plugin that writes it down.

`make test-programs` runs the tests of TRIALS with it. It writes docs/compatibility.json, of which `make docs`
makes docs/compatibility.md and the sentence in the README. A run of a part writes nothing.
"""

import json
import re
import subprocess
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.editions import (
    CURRENT,
    DEBIAN,
    EDITIONS,
    FOLDERS,
    KUBERNETES,
    OPERATOR,
    kubernetes,
    pinned,
    stale,
    version,
)
from tests.programs import program

FILE = Path(__file__).parents[1] / "docs/compatibility.json"


@dataclass(frozen=True)
class Trial:
    """What was tried, with which programs, by which tests; of each edition or version, or of one program."""

    what: str
    programs: str
    tests: tuple[str, ...]
    each_edition: bool = True


TRIALS = (
    Trial(
        "Scrapes negotiated by itself: what is stored equals what prometheus_client's parser reads; "
        "Prometheus 3 also when it asks for protobuf, first or alone, for native histograms, for text 1.0.0, "
        "0.0.4 or OpenMetrics 0.0.1 alone, with every option for names, without compression",
        "Prometheus",
        ("test_scrapers.py::test_prometheus_stores_what_the_parser_reads",),
    ),
    Trial(
        "Scrapes through TLS, with basic auth and client certificates, and refused ones",
        "Prometheus",
        ("test_tls_end_to_end.py::test_a_real_prometheus_comes_in_by_password_or_certificate_and_only_so",),
    ),
    Trial(
        "`/metrics/steps`, both editions with and without an out-of-order window: every step is stored",
        "Prometheus",
        ("test_training_curves.py::test_every_server_stores_every_step_that_the_api_shows_at_its_time",),
        each_edition=False,
    ),
    Trial(
        "Blocks that promtool makes of what `history` writes, of both editions: queried back and joined",
        "Prometheus",
        ("test_training_curves.py::test_the_history_s_blocks_are_queried_back_from_running_servers",),
        each_edition=False,
    ),
    Trial(
        "The same blocks read remotely by another Prometheus, each edition by each",
        "Prometheus",
        ("test_training_curves.py::test_another_prometheus_reads_the_history_s_blocks_remotely",),
    ),
    Trial(
        "`promtool check metrics` finds nothing to say",
        "promtool",
        (
            "test_end_to_end.py::test_promtool_finds_nothing_to_say_about_the_metrics",
            "test_exposition.py::test_text_with_telemetry_is_clean_to_promtool",
            "test_exposition_steps.py::test_promtool_finds_nothing_to_say",
        ),
    ),
    Trial(
        "The alerts, all scenarios below",
        "promtool",
        ("test_alerts.py::test_the_alerts_fire_when_they_should_and_nothing_else",),
    ),
    Trial(
        "The alerts, all scenarios below, as vmalert evaluates them",
        "vmalert",
        ("test_alerts.py::test_vmalert_fires_them_as_well",),
        each_edition=False,
    ),
    Trial(
        "The recording rules and the questions of [reading the numbers](reading-the-numbers.md)",
        "promtool",
        ("test_recording.py::test_the_ten_questions_have_the_right_answers",),
    ),
    Trial(
        "Every query of the dashboards is understood, has an answer, and the right one when things go wrong",
        "Prometheus",
        ("test_dashboards_queries.py::test_",),
    ),
    Trial(
        "Queries of the dashboards give known answers",
        "promtool",
        (
            "test_dashboards_values.py::test_the_queries_answer_what_is_known",
            "test_dashboards_accounts.py::test_",
        ),
    ),
    Trial(
        "The rules and the examples of configuration are accepted, discovery in Kubernetes finds the pods",
        "promtool, amtool",
        ("test_rules.py::test_promtool", "test_rules.py::test_amtool", "test_rules.py::test_discovery"),
    ),
    Trial(
        "What Docker Compose runs; two accounts in a namespace, by kustomize and by Helm: each scraped once",
        "Prometheus, Alertmanager",
        (
            "test_compose.py::test_prometheus_and_alertmanager_run_with_what_compose_gives_them",
            "test_two_accounts.py::test_two_accounts_in_a_namespace_are_scraped_once_each",
        ),
    ),
    Trial(
        "Notifications to Slack, PagerDuty and by e-mail for 1 and 40 failures, firing, half ended and ended",
        "Alertmanager",
        ("test_notifications.py::test_",),
    ),
    Trial(
        "From a model that fails to the alert that names it",
        "Prometheus, Alertmanager",
        ("test_alerting_end_to_end.py::test_a_failed_model_is_an_alert",),
    ),
    Trial(
        "vmagent scrapes and delivers to VictoriaMetrics: as the parser reads, but for NaN, which it drops, "
        "and the last of 16 digits",
        "VictoriaMetrics",
        ("test_scrapers.py::test_vmagent_delivers_what_the_parser_reads_but_nan",),
    ),
    Trial(
        "What `history` writes is imported",
        "VictoriaMetrics",
        ("test_training_curves.py::test_victoria_metrics_imports_the_history",),
    ),
    Trial(
        "The alerts: vmalert accepts the rules, and the expressions are asked minute by minute in the "
        "scenarios below",
        "VictoriaMetrics",
        ("test_alerts_victoria.py::test_",),
    ),
    Trial(
        "Every overlay: applied, nothing left to change, its pod, if any, admitted, deleted without a trace",
        "Kubernetes",
        ("test_apiserver.py::test_an_overlay_is_applied_and_deleted_without_a_trace",),
    ),
    Trial(
        "The chart in fifteen configurations: the same",
        "Kubernetes",
        ("test_apiserver.py::test_the_chart_is_applied_and_deleted_without_a_trace",),
    ),
    Trial(
        "Overlays, and configurations of the chart, each applied over the one before, forth and back",
        "Kubernetes",
        (
            "test_apiserver.py::test_every_overlay_takes_the_place_of_another",
            "test_apiserver.py::test_every_configuration_of_the_chart_takes_the_place_of_another",
        ),
    ),
    Trial(
        "`helm upgrade` from each configuration to the next, then `helm uninstall`, by two Helms",
        "Kubernetes",
        ("test_apiserver.py::test_helm_upgrades_a_release_from_each_configuration_to_the_next",),
    ),
    Trial(
        "What is wrong is refused: another selector, an unknown field, a pod that may be root",
        "Kubernetes",
        ("test_apiserver.py::test_what_is_wrong_is_refused",),
    ),
    Trial(
        "A collector of the prometheus receiver and the file exporter stores what the parser reads",
        "OpenTelemetry Collector",
        ("test_scrapers.py::test_the_opentelemetry_collector_stores_what_the_parser_reads",),
        each_edition=False,
    ),
    Trial(
        "The `Accept` headers of Telegraf 1.37, Grafana Alloy 1 (native histograms too) and Prometheus 3 "
        "with OpenMetrics 2.0 first, replayed: the same series",
        "headers",
        ("test_scrapers.py::test_the_headers_of_other_scrapers_bring_the_same_series",),
        each_edition=False,
    ),
)

_COLUMNS = (*(edition.name for edition in EDITIONS), *KUBERNETES)
_outcomes: dict[str, str] = {}


def pytest_sessionstart() -> None:
    """Refuse to try programs of versions that are not the pinned ones."""
    if found := stale():
        raise pytest.UsageError(f"not of the pinned version: {', '.join(found)}; run tools/programs/build.sh")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note how a test ended."""
    if report.when == "call" or report.outcome != "passed":
        _outcomes[report.nodeid.removeprefix("tests/")] = report.outcome


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write down what was tried; of several processes, only the one that hears of every test."""
    if hasattr(session.config, "workerinput"):
        return
    # Not above: this plugin is loaded before pytest can rewrite the assertions of the tests.
    from tests.test_alerts import AREAS  # noqa: PLC0415
    from tests.test_alerts_victoria import CHOSEN  # noqa: PLC0415

    scenarios = [
        {"name": one.name, **_engines(area, asked=one in CHOSEN[area])}
        for area, scenarios in AREAS.items()
        for one in scenarios
    ]
    trials = [_result(trial) for trial in TRIALS]
    if all(trial["results"] for trial in trials) and not any("not run" in one.values() for one in scenarios):
        today = datetime.now(UTC).date().isoformat()
        content = {
            "date": today,
            "versions": versions(),
            "megabytes": megabytes(),
            "trials": trials,
            "scenarios": scenarios,
        }
        FILE.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _engines(area: str, *, asked: bool) -> dict[str, str]:
    """Return how the scenarios of an area ended on each engine, which run together."""
    promtool = "test_alerts.py::test_the_alerts_fire_when_they_should_and_nothing_else"
    vmalert = f"test_alerts.py::test_vmalert_fires_them_as_well[{area}]"
    victoria = "test_alerts_victoria.py::test_the_alerts_hold_on_victoria_metrics"
    names = [edition.name for edition in EDITIONS]
    found = {name: _outcomes.get(f"{promtool}[{area}-{name}]", "not run") for name in names}
    found["vmalert"] = _outcomes.get(vmalert, "not run")
    return found | {
        f"victoria {name}": _outcomes.get(f"{victoria}[{area}-{name}]", "not run") if asked else ""
        for name in names
    }


def current() -> dict[str, str]:
    """Return the newest version of each program, as it is pinned."""
    folders = {
        "Prometheus": "prometheus",
        "Alertmanager": "alertmanager",
        "VictoriaMetrics": "victoria",
        "OpenTelemetry Collector": "otelcol",
        "Kubernetes": f"kubernetes-{KUBERNETES[-1]}",
        "Helm": "helm",
        "Prometheus Operator": "operator",
    }
    return {program: pinned(folder) for program, folder in folders.items()}


def versions() -> dict[str, list[str]]:
    """Return the versions of each program, oldest first."""
    newest = {program: [version] for program, version in current().items()}
    return newest | {
        "Prometheus": [version(DEBIAN, "prometheus") or "", *newest["Prometheus"]],
        "Alertmanager": [version(DEBIAN, "alertmanager") or "", *newest["Alertmanager"]],
        "VictoriaMetrics": [_packaged("victoria-metrics"), *newest["VictoriaMetrics"]],
        "Kubernetes": [pinned(f"kubernetes-{minor}") for minor in KUBERNETES],
        "Helm": [_helm(), *newest["Helm"]],
    }


def megabytes() -> dict[str, int]:
    """Return how large what is built is, in the cache."""
    built = {name: [CURRENT / each for each in names] for name, names in FOLDERS.items()}
    servers = [path for minor in KUBERNETES for path in kubernetes(minor).iterdir()]
    paths = built | {"Kubernetes": servers, "schemas": list(OPERATOR.iterdir())}
    return {name: round(sum(path.stat().st_size for path in paths[name]) / 1e6) for name in paths}


def _helm() -> str:
    done = subprocess.run(
        [program("helm"), "version", "--template={{.Version}}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return done.stdout.removeprefix("v")


def _packaged(package: str) -> str:
    done = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${Version}", package],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return re.split(r"[+~-]", done.stdout)[0]


def _result(trial: Trial) -> dict[str, Any]:
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for test, outcome in _outcomes.items():
        names = set(test.partition("[")[2].rstrip("]").split("-"))
        edition = next((one for one in _COLUMNS if one in names), "")
        if test.startswith(trial.tests) and bool(edition) == trial.each_edition:
            counts[edition][outcome] += 1
    return {"what": trial.what, "programs": trial.programs, "results": counts}
