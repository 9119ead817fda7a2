"""`python -m tools.benchmarks [NAME ...]`: runs all or those named; `--write` writes docs/benchmarks.md.

Exits with 0 also when a benchmark was skipped or a goal missed: figures are to be read, not to be passed.
"""

import argparse
import sys
import time
from collections.abc import Sequence

from tools.benchmarks import page
from tools.benchmarks.processes import Missing
from tools.benchmarks.results import Result, lines
from tools.benchmarks.table import BENCHMARKS, Benchmark


def main(argv: Sequence[str]) -> int:
    """Run; return the exit code."""
    names = {benchmark.name: benchmark for benchmark in BENCHMARKS}
    parser = argparse.ArgumentParser(prog="python -m tools.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}; all when none")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md and its charts")
    arguments = parser.parse_args(argv)
    if unknown := [name for name in arguments.names if name not in names]:
        parser.error(f"no benchmark is called {unknown[0]}; there are {', '.join(names)}")
    if arguments.write and arguments.names:
        parser.error("--write takes a full run: name no benchmark")
    begin = time.monotonic()
    try:
        results = _run([names[name] for name in arguments.names or names])
    except KeyboardInterrupt:
        return 130
    print(f"took {time.monotonic() - begin:.0f} s")
    if arguments.write:
        page.write(results)
    return 0


def _run(benchmarks: Sequence[Benchmark]) -> list[Result]:
    results = []
    for benchmark in benchmarks:
        try:
            for result in benchmark.results():
                print("\n".join(lines(result)), flush=True)
                results.append(result)
        except Missing as missing:
            print(f"{benchmark.name}: skipped, {missing}", flush=True)
    return results


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
