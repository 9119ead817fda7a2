"""docs/compatibility.md: which programs the tests ran with, from what `make test-programs` wrote down."""

import json
from pathlib import Path
from textwrap import fill
from typing import Any

from docs.tables import markdown

RESULTS = Path(__file__).with_name("compatibility.json")

_PAGE = """<!-- Written by `make docs` from compatibility.json of `make test-programs`; do not edit. -->
# Compatibility

What the exporter, its rules and its dashboards were tried with. Each figure is the number of tests that
ended so in a run of `make test-programs` on {date}.

## Prometheus, Alertmanager and VictoriaMetrics, two editions each

Debian 12 has the older; `tools/programs/build.sh` builds the newer at the versions pinned in its
modules. Rules and dashboards are written for Prometheus 2.40 or later; older than 2.42 is not tried.

{editions}

The exporter offers the text format 0.0.4 and OpenMetrics 1.0.0. Who asks for protobuf first, or for
native histograms, which it has none of, gets one of the two.

## Both editions at once, other scrapers and databases

{others}

## Kubernetes

API servers with Debian's etcd and the resources of the Prometheus Operator {operator}. Every namespace
enforces Pod Security `restricted`; kubectl is of the server's version and applies on the server's side;
Helm is {helm}; a warning fails the test. `make test-kubernetes` is this part alone.

{kubernetes}

## The alerts, scenario by scenario

Each scenario states everything that fires at given moments, and nothing else may. promtool and vmalert
(its vmalert-tool, with a database of its own) run all of them, each rule with its `for` and its state.
Of an older VictoriaMetrics only the expressions are asked, minute by minute, so there run those that
are scraped every minute and take no more than four and a half hours.

{scenarios}

## Differences, and what was done

- **Targets in no order.** `promtool check service-discovery` of Prometheus 3 keeps no order: the test
  sorts.
- **Several points of a series on a page**, as `/metrics/steps` has them, are an error to `promtool
  check metrics` of Prometheus 3 alone; servers of both editions store them. promtool is given a page
  with one point a series.
- **Left-open ranges** of Prometheus 3 leave out a sample at their left edge: no rule or query depends
  on one, as the same answers in both editions show.
- **A step that is older than the window for late samples** fails the whole scrape, in both editions:
  `/metrics/steps` offers none.
- **VictoriaMetrics drops NaN** and keeps 15 digits of a value. The scenarios of
  `CohereTrainingDiverged` hold there too.
- **vmalert's replay**, all that Debian's can be tested with, leaves waiting alerts pending, so of that
  edition the expressions are asked; the newer has vmalert-tool, which begins at the year 2000 and has
  the times moved.
- **topologySpreadConstraints** without a `labelSelector` match no pod, of which a real API server
  warns: the chart's example has one.

## What stands in for what

- Kubernetes runs without controllers, of which 1.25's cannot be built from the module proxy: the tests
  make the pods that admission judges, and deleted claims go at once. Who owns pods and ReplicaSets is
  not shown.
- The module of the Grafana Operator is not to be had: a definition that takes any field stands in for
  GrafanaDashboard. The examples for Argo CD and Flux are not applied.
- `cluster-bootstrap` of Kubernetes 1.25.16 is not to be had: that of 1.25.8 is linked instead.
- VictoriaMetrics needs Go 1.27 from 1.152 on: {victoria} stands in for what is later.
- Telegraf and Grafana Alloy are not built: their `Accept` headers are replayed.

## What it takes

The cache holds {cache}. To build a version of Kubernetes takes 12 to 15 minutes of CPU, so it is built
and tried at night; its tests then take two to three minutes of CPU a version.

On a machine of two cores, with its programs built, `make test` takes 4 min 40 s as `.ci/run` calls it; the
fast tests on Python 3.12 and 3.13 follow. With empty caches of Go, npm and the programs, and other work
beside it, building them took 9 min 49 s (Prometheus 6 min 20 s, Alertmanager 1 min 45 s,
VictoriaMetrics 1 min 23 s, json_exporter 21 s), and what judges the manifests 1 min 17 s.

## Judged, not run

- Grafana 11, 12 and 13: every panel is valid by the types that Grafana publishes; no Grafana runs.
- Mimir and Thanos evaluate rules with Prometheus' own engine; neither was run.
"""


def compatibility_page() -> str:
    """Return docs/compatibility.md."""
    content = _read()
    versions, trials = content["versions"], content["trials"]
    servers = [trial for trial in trials if trial["programs"] == "Kubernetes"]
    each = [trial for trial in trials if "" not in trial["results"] and trial not in servers]
    alone = [trial for trial in trials if "" in trial["results"]]
    return _PAGE.format(
        date=content["date"],
        operator=versions["Prometheus Operator"][0],
        helm=" and ".join(versions["Helm"]),
        victoria=versions["VictoriaMetrics"][1],
        cache=", ".join(f"{size} MB of {name}" for name, size in content["megabytes"].items()),
        editions=markdown(
            ("tried", "with", *(_edition(versions, number) for number in (0, 1))),
            [_row(trial, "debian", "current") for trial in each],
        ),
        others=markdown(
            ("tried", "with", "result"),
            [_row({**trial, "programs": _named(versions, trial["programs"])}, "") for trial in alone],
        ),
        scenarios=markdown(
            (
                "scenario",
                *(f"promtool {one}" for one in versions["Prometheus"]),
                f"vmalert {versions['VictoriaMetrics'][1]}",
                *(f"VictoriaMetrics {one}" for one in versions["VictoriaMetrics"]),
            ),
            _scenarios(content),
        ),
        kubernetes=markdown(
            ("tried", *(f"Kubernetes {one}" for one in versions["Kubernetes"])),
            [(trial["what"], *_by_version(trial, versions["Kubernetes"])) for trial in servers],
        ),
    )


def tested_with() -> str:
    """Return the README's sentence about what was tested."""
    versions = _read()["versions"]
    programs = (
        "Prometheus",
        "Alertmanager",
        "VictoriaMetrics",
        "OpenTelemetry Collector",
        "Kubernetes",
        "Helm",
    )
    named = [f"{program} {' and '.join(versions[program])}" for program in programs]
    sentence = f"Tested with {', '.join(named)}: [what was tried, and the results](docs/compatibility.md)."
    return fill(sentence, 120, break_on_hyphens=False)


def _read() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    return content


def _edition(versions: dict[str, list[str]], number: int) -> str:
    programs = ("Prometheus", "Alertmanager", "VictoriaMetrics")
    return ", ".join(f"{program} {versions[program][number]}" for program in programs)


def _by_version(trial: dict[str, Any], versions: list[str]) -> list[str]:
    """Return the cells of a trial, one for each version; the results are those of minor versions."""
    minors = (version.rpartition(".")[0] for version in versions)
    return [_cell(trial["results"].get(minor, {})) for minor in minors]


def _named(versions: dict[str, list[str]], program: str) -> str:
    versions = {**versions, "vmalert": versions["VictoriaMetrics"][1:]}
    return f"{program} {' and '.join(versions[program])}" if program in versions else program


def _row(trial: dict[str, Any], *editions: str) -> tuple[str, ...]:
    cells = (_cell(trial["results"].get(edition, {})) for edition in editions)
    return trial["what"], trial["programs"], *cells


def _cell(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.items()) or "not run"


def _scenarios(content: dict[str, Any]) -> list[tuple[str, ...]]:
    engines = ("debian", "current", "vmalert", "victoria debian", "victoria current")
    return [(one["name"], *(one[engine] for engine in engines)) for one in content["scenarios"]]
