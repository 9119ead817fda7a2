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
ended so in the last run of `make test-programs`.

## Prometheus, Alertmanager and VictoriaMetrics, two editions each

Debian 12 has the older; `tools/programs/build.sh` builds the newer at the versions pinned in its modules.
Rules and dashboards need Prometheus 2.40 or later.

{editions}

## Other scrapers and databases

{others}

## Kubernetes

API servers with Debian's etcd and the resources of the Prometheus Operator. Every namespace enforces Pod
Security `restricted`; kubectl is of the server's version and applies on the server's side; a warning fails
the test. There are no controllers: the tests make the pods that admission judges. `make test-kubernetes` is
this part alone. Building a server and its kubectl takes 12 to 15 minutes of CPU, and 180 MB of the cache.

{kubernetes}

## The alerts, scenario by scenario

Each scenario states everything that fires at given moments, and nothing else may. promtool and vmalert (its
vmalert-tool, with a database of its own) run all of them, each rule with its `for` and its state. Of an older
VictoriaMetrics only the expressions are asked, minute by minute, so there run those that are scraped every
minute and take no more than four and a half hours.

{scenarios}

## Judged, not run

- Grafana 11.6 and 13.2: every panel is valid by the types that Grafana publishes; no Grafana runs.
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
                f"vmalert {versions['vmalert'][0]}",
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
    programs = ("Prometheus", "Alertmanager", "VictoriaMetrics", "OpenTelemetry Collector", "Kubernetes")
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
    return f"{program} {' and '.join(versions[program])}" if program in versions else program


def _row(trial: dict[str, Any], *editions: str) -> tuple[str, ...]:
    cells = (_cell(trial["results"].get(edition, {})) for edition in editions)
    return trial["what"], trial["programs"], *cells


def _cell(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.items()) or "not run"


def _scenarios(content: dict[str, Any]) -> list[tuple[str, ...]]:
    engines = ("debian", "current", "vmalert", "victoria debian", "victoria current")
    return [(one["name"], *(one[engine] for engine in engines)) for one in content["scenarios"]]
