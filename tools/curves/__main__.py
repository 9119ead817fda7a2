"""Live through the scenarios and print how much of each run reaches Prometheus; takes four minutes.

Needs Prometheus of every edition (`tools/programs/build.sh`). `--write` writes docs/training-curves.json, of
which `make docs` makes the table, and the picture.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from docs.training_curves import table
from tools.curves.chart import svg
from tools.curves.replay import SERVERS, SPEED, Stored, replay
from tools.curves.scenarios import SCENARIOS, figures, lived

DOCS = Path(__file__).parents[2] / "docs"
DRAWN = (3, 5, 6)  # of the scenarios


def main(argv: Sequence[str]) -> int:
    """Run and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.curves", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the results and the picture into docs/")
    arguments = parser.parse_args(argv)
    if missing := [server.edition.name for server in SERVERS if not server.edition.find("prometheus")]:
        parser.error(f"no Prometheus of the edition {missing[0]}")
    lives = [lived(scenario) for scenario in SCENARIOS]
    stored = asyncio.run(replay(lives))
    results = _results(stored)
    print(table(results))
    for name, one in stored.items():
        print(f"{name}: {one.refused:,} samples refused, {one.failed} scrapes failed")
    if arguments.write:
        (DOCS / "training-curves.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        drawn = [(SCENARIOS[number], lives[number]) for number in DRAWN]
        (DOCS / "images/training-curves.svg").write_text(svg(drawn), encoding="utf-8")
    return 0


def _results(stored: Mapping[str, Stored]) -> dict[str, Any]:
    runs = [
        {
            "run": scenario.run,
            "polls": scenario.polls,
            **figures(scenario),
            "stored": {name: one.shares[number] for name, one in stored.items()},
        }
        for number, scenario in enumerate(SCENARIOS)
    ]
    return {"speed": SPEED, "servers": list(stored), "runs": runs}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
