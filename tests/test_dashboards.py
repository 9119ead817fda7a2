"""The dashboards keep the rules of the house and of Grafana."""

import json
import re
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.models.dashboard import ValueMap
from jsonschema import Draft7Validator

from deploy.prometheus.thresholds import THRESHOLDS
from exporter.families import FAMILIES, STEP_FAMILIES
from exporter.model import Status
from exporter.telemetry import Telemetry
from grafana.board import EXPORTER, FLEET, MODEL
from grafana.generate import DASHBOARDS, FOLDER, render
from grafana.looks import CLEAR, LOOKS, NEUTRAL, OTHER, by_code, code
from grafana.panels import NOTHING
from grafana.promql import CHOSEN, CHOSEN_STEPS, HOLD, REMEMBERED
from tests.dashboards import BOARDS, PANEL_IDS, PANELS, QUERIES, Query, everywhere, variables
from tests.programs import ROOT

pytestmark = pytest.mark.slow

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
PROMETHEUS_FIELDS = {"expr", "titleFormat", "textFormat", "useValueForTime"}
"""What Prometheus' datasource adds to annotations; Grafana's own types do not have it."""

NOT_SHOWN = {
    "cohere_exporter_last_poll_timestamp_seconds": "what counts is the last success",
    "cohere_exporter_reload_success_timestamp_seconds": "what counts is whether the last reload succeeded",
}
"""Families that no dashboard shows, with the reason."""

FIXED_WINDOWS = {
    "[5m]": "the inner rate of an average over a day, whatever the dashboard's range is",
    "[1d:15s]": "the average over a day",
    f"[{HOLD}s]": "for how long the alerts hold what was last known",
    f"[{HOLD}s:1m]": "the same, minute by minute",
    f"[{THRESHOLDS['failed_age'].value}s]": "failures of the last 24 hours",
    "[30d:5m]": "what another model had at the same step, however long ago it was trained",
    "[$__range:1m]": "minutes in each status",
    f"[{REMEMBERED}s]": "for how long the alerts expect an exporter that was there",
    "[10m]": "pace over time: steps are a minute apart, the rate interval may be shorter",
}
"""Windows that are not Grafana's, with the reason."""

SCHEMAS = ROOT / "tests" / "data" / "grafana"
HIDES_NO_COLUMN = {"11": "hideFrom", "12": "hidden", "13": "hidden"}
"""The way to hide a column that a Grafana does not know, where the other one does it."""

each_grafana = pytest.mark.parametrize("grafana", HIDES_NO_COLUMN)
each_panel = pytest.mark.parametrize(("board", "panel"), PANELS, ids=PANEL_IDS)
each_board = pytest.mark.parametrize("name", BOARDS)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_the_committed_json_is_what_the_code_gives(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == render(name), "run `make dashboards`"


def test_no_other_json_is_committed() -> None:
    assert {file.name for file in FOLDER.iterdir()} == set(DASHBOARDS)


@each_grafana
@each_board
def test_a_dashboard_is_valid_by_the_types_that_grafana_publishes(name: str, grafana: str) -> None:
    board = json.loads(json.dumps(BOARDS[name]))
    for annotation in board["annotations"]["list"]:
        for field in PROMETHEUS_FIELDS:
            del annotation[field]
    assert problems(grafana, "dashboard", board) == []


@each_grafana
@each_panel
def test_a_panel_and_what_it_overrides_are_valid_by_the_types_that_grafana_publishes(
    board: str, panel: dict[str, Any], grafana: str
) -> None:
    field = panel["fieldConfig"]
    panels = []
    for override in ({"properties": []}, *field["overrides"]):
        values = {each["id"]: each["value"] for each in override["properties"]}
        custom = {name.removeprefix("custom."): value for name, value in values.items() if "." in name}
        if panel["type"] == "table":
            custom.pop(HIDES_NO_COLUMN[grafana], None)
        custom = field["defaults"].get("custom", {}) | custom
        assert problems(grafana, panel["type"], {"options": panel["options"], "custom": custom}) == []
        plain = {name: value for name, value in values.items() if "." not in name}
        panels.append({**panel, "fieldConfig": {"defaults": plain, "overrides": []}})
    one_each = {**BOARDS[board], "panels": panels, "annotations": {"list": []}}
    assert problems(grafana, "dashboard", one_each) == []


def test_the_dashboards_are_found_by_uids_that_never_change() -> None:
    found = {name: (board["uid"], board["id"]) for name, board in BOARDS.items()}
    assert found == {
        "fleet": ("cohere-finetuning-fleet", None),
        "model": ("cohere-finetuning-model", None),
        "exporter": ("cohere-finetuning-exporter", None),
    }
    assert {uid for uid, _ in found.values()} == {FLEET, MODEL, EXPORTER}


@each_board
def test_each_dashboard_links_to_the_others_with_time_range_and_variables(name: str) -> None:
    links = BOARDS[name]["links"]
    others = {f"/d/{board['uid']}" for other, board in BOARDS.items() if other != name}
    assert {link["url"] for link in links} == others
    assert all(link["keepTime"] and link["includeVars"] for link in links)


@each_board
def test_panels_have_ids_and_titles_of_their_own(name: str) -> None:
    panels = BOARDS[name]["panels"]
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
    titles = [panel["title"] for panel in panels]
    assert all(titles)
    assert len(set(titles)) == len(titles)


@each_board
def test_panels_fill_24_columns_and_do_not_overlap(name: str) -> None:
    boxes = [panel["gridPos"] for panel in BOARDS[name]["panels"]]
    for one, other in combinations(boxes, 2):
        apart_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart_y = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart_x or apart_y, (one, other)
    height = max(box["y"] + box["h"] for box in boxes)
    assert all(box["x"] + box["w"] <= 24 for box in boxes)
    assert sum(box["w"] * box["h"] for box in boxes) == 24 * height  # no holes


@each_board
def test_a_dashboard_asks_few_queries(name: str) -> None:
    assert sum(len(panel["targets"]) for board, panel in PANELS if board == name) <= 32
    assert all(len(panel["targets"]) <= 8 for board, panel in PANELS if board == name)


@each_panel
def test_a_panel_says_what_it_shows_in_which_unit_and_what_it_means_when_empty(
    board: str, panel: dict[str, Any]
) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    assert re.fullmatch(r"[A-Z].{30,}\.", panel["description"])
    assert defaults["unit"]
    assert re.search(r"no (fresh )?data|no exporter", defaults["noValue"], re.IGNORECASE)
    assert defaults["thresholds"]["steps"][0]["value"] is None


@each_panel
def test_without_data_nothing_is_green(board: str, panel: dict[str, Any]) -> None:
    assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"][0]["color"] in {NEUTRAL, CLEAR}
    for target in panel["targets"]:
        assert "vector(" not in target["expr"], "a number that is there without data"


@each_panel
def test_a_sentence_for_an_empty_panel_does_not_stand_in_its_cells_and_legends(
    board: str, panel: dict[str, Any]
) -> None:
    if panel["type"] in {"table", "timeseries"}:
        first, *others = panel["fieldConfig"]["overrides"]
        assert first["matcher"] == {"id": "byRegexp", "options": "/.*/"}
        assert first["properties"] == [{"id": "noValue", "value": NOTHING}]
        assert {each["value"] for each in everywhere(others) if each.get("id") == "noValue"} <= {NOTHING}


@each_panel
def test_a_legend_has_no_value_where_a_stat_or_a_table_has_the_present_one(
    board: str, panel: dict[str, Any]
) -> None:
    # Grafana ends a chart at a whole step, so its last value may be one step older.
    if panel["type"] in {"timeseries", "xychart"}:
        assert panel["options"]["legend"]["calcs"] == (["last"] if board == "exporter" else [])


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.place)
def test_every_query_asks_for_the_accounts_that_are_chosen(query: Query) -> None:
    for selector in re.findall(r"\b(?:cohere_|process_|ALERTS|up\b)[A-Za-z_]*(\{[^}]*\})?", query.expr):
        assert CHOSEN in selector or CHOSEN_STEPS in selector, query.expr


@each_board
def test_accounts_are_chosen_by_cluster_namespace_and_job(name: str) -> None:
    for label in ("cluster", "namespace", "job"):
        variable = variables(name)[label]
        assert (variable["multi"], variable["includeAll"], variable["allValue"]) == (True, True, ".*")
        assert variable["current"]["value"] == ["$__all"]


@each_panel
def test_numbers_in_a_table_have_a_unit(board: str, panel: dict[str, Any]) -> None:
    if panel["type"] != "table":
        return
    for override in panel["fieldConfig"]["overrides"]:
        if override["matcher"]["options"].startswith("Value"):
            assert "unit" in {each["id"] for each in override["properties"]}, override


@each_panel
def test_queries_are_named_a_to_z(board: str, panel: dict[str, Any]) -> None:
    assert [target["refId"] for target in panel["targets"]] == list("ABCDEFGH"[: len(panel["targets"])])


@each_panel
def test_what_is_shown_as_now_is_asked_for_now(board: str, panel: dict[str, Any]) -> None:
    is_now = panel["type"] in {"stat", "table"}
    assert all(target["instant"] is is_now and target["range"] is not is_now for target in panel["targets"])


@each_panel
def test_a_stat_of_several_numbers_names_each(board: str, panel: dict[str, Any]) -> None:
    if panel["type"] == "stat" and any("{{" in target["legendFormat"] for target in panel["targets"]):
        names = {"Age of data": "value"}  # whose name is its colour
        assert panel["options"]["textMode"] == names.get(panel["title"], "value_and_name")


@each_board
def test_every_query_goes_to_the_datasource_of_the_variable(name: str) -> None:
    assert variables(name)["datasource"]["query"] == "prometheus"
    asked = [entry["datasource"] for entry in everywhere(BOARDS[name]) if "datasource" in entry]
    assert len(asked) > sum(board == name for board, _ in PANELS)
    assert all(datasource == DATASOURCE for datasource in asked)


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.place)
def test_windows_are_grafanas_own_unless_there_is_a_reason(query: Query) -> None:
    for window in re.findall(r"\[[^\]]*\]", query.expr):
        assert window in {"[$__rate_interval]", "[$__range]", *FIXED_WINDOWS}


def test_every_reason_for_a_window_is_needed() -> None:
    expressions = "".join(query.expr for query in QUERIES)
    assert [window for window in FIXED_WINDOWS if window not in expressions] == []


def test_every_metric_in_a_query_exists() -> None:
    assert metrics_shown() - known_metrics() == set()


def test_every_family_is_shown_or_left_out_for_a_reason() -> None:
    own = {name for name in known_metrics() if name.startswith("cohere_")}
    shown = {re.sub(r"_bucket$", "", name) for name in metrics_shown()}
    histogram_parts = {
        name for name in own if name.endswith(("_seconds_bucket", "_seconds_count", "_seconds_sum"))
    }
    assert own - histogram_parts - shown == set(NOT_SHOWN)


def test_every_status_has_a_text_a_colour_and_a_number_of_its_own() -> None:
    assert set(LOOKS) == set(Status)
    looks = [OTHER, *LOOKS.values()]
    assert len({look.text for look in looks}) == len({look.color for look in looks}) == len(looks)
    [mapping] = by_code()
    assert isinstance(mapping, ValueMap)
    assert mapping.options is not None
    texts = {number: result.text for number, result in mapping.options.items()}
    assert texts == {"0": OTHER.text} | {str(code(status)): LOOKS[status].text for status in Status}


def test_the_worst_status_has_the_largest_number() -> None:
    order = sorted(Status, key=code, reverse=True)
    assert order[:3] == [Status.FAILED, Status.TEMPORARILY_OFFLINE, Status.FINETUNING]


def test_grafana_is_provisioned_with_the_dashboards_and_a_prometheus() -> None:
    folder = ROOT / "grafana" / "provisioning"
    [datasource] = load(folder / "datasources" / "prometheus.yaml")["datasources"]
    assert (datasource["type"], datasource["isDefault"]) == ("prometheus", True)
    assert re.fullmatch(r"\d+s", datasource["jsonData"]["timeInterval"])
    [provider] = load(folder / "dashboards" / "cohere-finetuning.yaml")["providers"]
    assert (provider["type"], provider["options"]["path"]) == ("file", "/var/lib/grafana/dashboards")


def problems(grafana: str, schema: str, value: object) -> list[str]:
    """Return what is wrong with a value by one of the schemas that grafana/schemas/make.sh made."""
    errors = validator(grafana, schema).iter_errors(value)
    return [f"{list(error.path)}: {error.message}" for error in errors]


@cache
def validator(grafana: str, schema: str) -> Draft7Validator:
    file = SCHEMAS / grafana / f"{schema}.json"
    return Draft7Validator(json.loads(file.read_text(encoding="utf-8")))


def metrics_shown() -> set[str]:
    text = " ".join(query.expr for query in QUERIES)
    return set(re.findall(r"\b(?:cohere|process)_[a-z_]+\b", text))


def known_metrics() -> set[str]:
    """Return the names of all series that the exporter serves."""
    telemetry = Telemetry(
        version="0", revision="", endpoints=["any"], rejected_kinds=["any"], calls_left=lambda: 0.0
    )
    telemetry.reloaded("any", successful=True, now=0.0)
    own = {sample.name for family in telemetry.registry.collect() for sample in family.samples}
    histograms = {name.removesuffix("_bucket") for name in own if name.endswith("_bucket")}
    # What only Linux gives must be known on every machine.
    process = {"process_resident_memory_bytes", "process_cpu_seconds_total", "process_start_time_seconds"}
    return own | histograms | process | {family.name for family in (*FAMILIES, *STEP_FAMILIES)}


def load(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize(("name", "panel"), PANELS, ids=PANEL_IDS)
def test_values_of_metrics_are_said_to_be_of_evaluation(name: str, panel: dict[str, Any]) -> None:
    values = re.compile(r"_training_metric(_min|_max)?\{|_step_metric\{")
    if any(values.search(target["expr"]) for target in panel["targets"]):
        assert "evaluat" in (panel["title"] + panel.get("description", "")).lower(), name
