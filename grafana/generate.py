"""Writes the dashboards as the JSON that Grafana reads: `python -m grafana.generate`.

The output depends on nothing but this package, so it is committed, and a test compares the two.
"""

import json
from collections.abc import Callable
from pathlib import Path

from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana import exporter, fleet, model
from grafana.board import as_json

FOLDER = Path(__file__).with_name("dashboards")
DASHBOARDS: dict[str, Callable[[], Dashboard]] = {
    "cohere-finetuning-fleet.json": fleet.build,
    "cohere-finetuning-model.json": model.build,
    "cohere-finetuning-exporter.json": exporter.build,
}


def render(name: str) -> str:
    """Return the content of the file `name`."""
    dashboard = as_json(DASHBOARDS[name]())
    return json.dumps(dashboard, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> None:
    """Write every file."""
    for name in DASHBOARDS:
        (FOLDER / name).write_text(render(name), encoding="utf-8")


if __name__ == "__main__":
    main()
