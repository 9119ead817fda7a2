"""Run the soak: a month by default, `--days 1` a short one; `--write` writes docs/soak.md from the run.

Exits with 1 when something was found.
"""

import argparse
import sys
import time
from collections.abc import Sequence

from exporter.runtime.tuning import tune_interpreter
from tools.soak import document
from tools.soak.results import lines
from tools.soak.run import CALLS_PER_MONTH, frugal, hostile

DAYS = 31
_DAYS_TO_WRITE = 7  # whose quarters show whether anything grows


def main(argv: Sequence[str]) -> int:
    """Run and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.soak", description=__doc__)
    parser.add_argument(
        "--days", type=int, default=DAYS, help="days of the hostile run (default: %(default)s)"
    )
    parser.add_argument("--write", action="store_true", help="write docs/soak.md and its charts")
    arguments = parser.parse_args(argv)
    if arguments.days < 1 or (arguments.write and arguments.days < _DAYS_TO_WRITE):
        parser.error(f"give at least one day, and at least {_DAYS_TO_WRITE} with --write")
    tune_interpreter()
    begin = time.monotonic()
    print(f"{arguments.days} days among faults and clients", flush=True)
    long = hostile(24 * arguments.days)
    print("\n".join(lines(long)), flush=True)
    budgeted = frugal()
    print(f"{budgeted.hours // 24} days on {CALLS_PER_MONTH} calls a month")
    print("\n".join(lines(budgeted)))
    print(f"took {time.monotonic() - begin:.0f} s")
    if arguments.write:
        document.write(long, budgeted)
    return 0 if long.is_good and budgeted.is_good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
