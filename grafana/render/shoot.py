"""Takes the pictures of the dashboards: `python shoot.py PROMETHEUS_URL MINUTES FOLDER [INTERVAL [TIME]]`.

Draws the panels of each committed dashboard from the last MINUTES before TIME (now) of a Prometheus that
scrapes the exporter every INTERVAL seconds (5), in headless Chromium. Needs `npm install` and `npm run build`
before; no other package of Python.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DASHBOARDS = HERE.parent / "dashboards"
WIDTH = 1600
ROW = 38  # pixels, as in Grafana
PAGE = """<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="{here}/bundle.css">
<body style="margin:0"><div id="root"></div><div id="grafana-portal-container"></div>
<script>window.INPUT = {input}</script><script src="{here}/bundle.js"></script>"""


LABELS = ("cluster", "namespace", "job", "instance", "base_type", "dataset", "creator")


def asked(prometheus: str, query: str, now: int) -> list[dict[str, str]]:
    """Return the labels of the series that answer a query."""
    url = f"{prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": query, "time": now})
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - the caller's own Prometheus
        return [series["metric"] for series in json.load(answer)["data"]["result"]]


def choices(prometheus: str, now: int) -> dict[str, str]:
    """Return the variables: all accounts, the model in training that has come furthest, others beside it."""
    ask = partial(asked, prometheus, now=now)
    chosen = dict.fromkeys(LABELS, ".*") | dict.fromkeys(
        ("model_id", "metric", "compare", "baseline"), "none"
    )
    far = "topk(1, cohere_finetuned_model_training_step and on (model_id) {})"
    training = far.format('cohere_finetuned_model_status{status="STATUS_FINETUNING"} == 1')
    for model in ask(f"{training} or {far.format('cohere_finetuned_model_info')}")[:1]:
        chosen["model_id"] = this = model["model_id"]
        same_metric = "cohere_finetuned_model_training_metric"
        metrics = ask(f'{same_metric}{{model_id="{this}"}}')
        chosen["metric"] = min((each["metric"] for each in metrics), default="none")
        others = ask(f'{same_metric}{{metric="{chosen["metric"]}", model_id!="{this}"}}')
        chosen["compare"] = "|".join(sorted({each["model_id"] for each in others})[:4]) or "none"
        chosen["baseline"] = chosen["compare"].split("|")[0]
    board = json.loads((DASHBOARDS / "cohere-finetuning-model.json").read_text(encoding="utf-8"))
    [hidden] = [each for each in board["templating"]["list"] if each["name"] == "predecessor"]
    query = hidden["query"]["query"].removeprefix("query_result(").removesuffix(")")
    for name, value in chosen.items():
        query = query.replace(f"${name}", value)
    chosen["predecessor"] = next((each["model_id"] for each in ask(query)), "")
    return chosen


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


def main(prometheus: str, minutes: str, folder: str, interval: str = "5", at: str = "") -> None:
    """Draw every dashboard."""
    now = int(at or time.time())
    variables = {**choices(prometheus, now), "__rate_interval": f"{4 * int(interval)}s"}
    for file in sorted(DASHBOARDS.glob("*.json")):
        name = file.stem.removeprefix("cohere-finetuning-")
        since = now - int(minutes) * 60
        data = {"prometheus": prometheus, "from": since, "to": now, "variables": variables}
        target = Path(folder).resolve() / f"dashboard-{name}.png"
        picture(json.loads(file.read_text(encoding="utf-8")), data, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
