"""Takes the pictures of the dashboards: `python shoot.py PROMETHEUS_URL MINUTES FOLDER`.

Draws the panels of each committed dashboard from the last MINUTES of a Prometheus that scrapes the exporter,
in headless Chromium. Needs `npm install` and `npm run build` before; no other package of Python.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DASHBOARDS = HERE.parent / "dashboards"
WIDTH = 1600
ROW = 38  # pixels, as in Grafana
PAGE = """<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="{here}/bundle.css">
<body style="margin:0"><div id="root"></div><div id="grafana-portal-container"></div>
<script>window.INPUT = {input}</script><script src="{here}/bundle.js"></script>"""


def longest_trained(prometheus: str) -> tuple[str, int]:
    """Give the model in training that has come furthest, for its curves show most: its id and its age."""
    query = (
        "topk(1, time() - cohere_finetuned_model_created_timestamp_seconds"
        ' and on (model_id) cohere_finetuned_model_status{status="STATUS_FINETUNING"} == 1)'
    )
    url = f"{prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": query})
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - the caller's own Prometheus
        model = json.load(answer)["data"]["result"][0]
    return model["metric"]["model_id"], int(float(model["value"][1]))


def picture(dashboard: dict[str, Any], data: dict[str, Any], file: Path) -> None:
    """Draw one dashboard into a PNG file."""
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"])
    chromium = shutil.which("chromium") or shutil.which("google-chrome") or "chrome"
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        content = json.dumps({**data, "dashboard": dashboard, "width": WIDTH, "row": ROW})
        page.write_text(
            PAGE.format(here=HERE.as_uri(), input=content.replace("</", "<\\/")), encoding="utf-8"
        )
        subprocess.run(  # noqa: S603 - our own command
            [
                chromium,
                "--headless",
                "--no-sandbox",
                "--hide-scrollbars",
                "--allow-file-access-from-files",
                f"--user-data-dir={folder}/profile",
                f"--window-size={WIDTH},{rows * ROW + 64}",
                "--virtual-time-budget=20000",
                f"--screenshot={file}",
                page.as_uri(),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )


def main(prometheus: str, minutes: str, folder: str) -> None:
    """Draw every dashboard."""
    now = int(time.time())
    model_id, age = longest_trained(prometheus)
    variables = {"model_id": model_id, "instance": ".*"}
    for file in sorted(DASHBOARDS.glob("*.json")):
        name = file.stem.removeprefix("cohere-finetuning-")
        seconds = age + 60 if name == "model" else int(minutes) * 60
        data = {"prometheus": prometheus, "from": now - seconds, "to": now, "variables": variables}
        target = Path(folder).resolve() / f"dashboard-{name}.png"
        picture(json.loads(file.read_text(encoding="utf-8")), data, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
