"""The table of docs/training-curves.md, from what `python -m tools.curves --write` measured."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from docs.tables import filled, markdown

_HERE = Path(__file__).parent


def table(results: Mapping[str, Any]) -> str:
    """Return the results as a table."""
    servers = results["servers"]
    header = ("run", "polls", "rows", "`/metrics`", "`/metrics/steps`", *servers, "calls", "more calls")
    return markdown(header, [_row(run, servers) for run in results["runs"]])


def training_curves_page() -> str:
    """Return docs/training-curves.md with its table as last measured; the rest stays as it is written."""
    results = json.loads((_HERE / "training-curves.json").read_text(encoding="utf-8"))
    page = (_HERE / "training-curves.md").read_text(encoding="utf-8")
    return filled(page, "shares", table(results))


def _row(run: Mapping[str, Any], servers: list[str]) -> tuple[str, ...]:
    shares = (run["polled"], run["offered"], *(run["stored"][server] for server in servers))
    return (
        run["run"],
        run["polls"],
        f"{run['rows']:,}",
        *map(_percent, shares),
        f"{run['calls']:,}",
        str(run["extra_calls"]),
    )


def _percent(share: float) -> str:
    """Write a share; what is not whole is never written as 100 %."""
    return "100 %" if share == 1 else f"{min(100 * share, 99.9):.1f} %"
