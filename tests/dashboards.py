"""The committed dashboards as tests read them: as JSON, with every query that Grafana would send."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "grafana" / "dashboards"
BOARDS: dict[str, dict[str, Any]] = {
    file.stem.removeprefix("cohere-finetuning-"): json.loads(file.read_text(encoding="utf-8"))
    for file in sorted(FOLDER.glob("*.json"))
}
PANELS = [
    (name, panel) for name, board in BOARDS.items() for panel in board["panels"] if panel["type"] != "row"
]
PANEL_IDS = [f"{name}: {panel['title']}" for name, panel in PANELS]


@dataclass(frozen=True)
class Query:
    """A query with the place it stands in: `fleet: Failed A`."""

    place: str
    expr: str
    is_range: bool
    is_table: bool = False


def _queries() -> Iterator[Query]:
    """Yield the queries of all panels and annotations."""
    for name, panel in PANELS:
        for target in panel["targets"]:
            place = f"{name}: {panel['title']} {target['refId']}"
            yield Query(place, target["expr"], target.get("range", False), target["format"] == "table")
    for name, board in BOARDS.items():
        for annotation in board["annotations"]["list"]:
            yield Query(f"{name}: annotation {annotation['name']}", annotation["expr"], is_range=True)


QUERIES = tuple(_queries())


def filled(expr: str, variables: Mapping[str, str]) -> str:
    """Return a query with its variables filled in."""
    return re.sub(r"\$([a-z_]+)", lambda name: variables[name[1]], expr)


def variables(name: str) -> dict[str, dict[str, Any]]:
    """Return the variables of a dashboard by their names."""
    return {variable["name"]: variable for variable in BOARDS[name]["templating"]["list"]}


def everywhere(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every object within a JSON value."""
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from everywhere(part)


def colors(panel: dict[str, Any], target: dict[str, Any], labels: dict[str, str], value: str) -> set[str]:
    """Return the colors that a stat or a table gives to a number, those of thresholds left out."""
    own = panel["fieldConfig"]["defaults"]
    ref_id = f" #{target['refId']}" if len(panel["targets"]) > 1 else ""
    name = re.sub(r"{{(\w+)}}", lambda label: labels[label[1]], target["legendFormat"]) or f"Value{ref_id}"
    values = {} if panel["type"] == "table" else {"mappings": own.get("mappings", [])}
    for override in panel["fieldConfig"]["overrides"]:
        pattern = override["matcher"]["options"]
        if pattern == name or (pattern.startswith("/") and re.search(pattern.strip("/"), name)):
            values |= {each["id"]: each["value"] for each in override["properties"]}
    painted = {values["color"]["fixedColor"]} if "color" in values else set()
    return painted | {
        mapping["options"][value]["color"]
        for mapping in values.get("mappings", [])
        if value in mapping["options"]
    }
