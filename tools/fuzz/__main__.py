"""`python -m tools.fuzz [TARGET ...] [--seconds N]`: fuzzes each target for a while, in a process of its own.

Ends with 1 when a target fell; the input that felled it then stands in the target's folder of the corpus,
where the tests find it from now on. Ends with 2 where atheris is missing.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec

from tools.fuzz.targets import CORPUS, TARGETS

_LONGEST_INPUT = 8192  # bytes
_SLOWEST = 10  # seconds for one input
_LARGEST = 1024  # MiB of memory


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz what the command line names; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.fuzz", description="Fuzz what reads foreign bytes."
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"any of {', '.join(TARGETS)}; all")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    options = parser.parse_args(arguments)
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    if options.seconds < 1:
        parser.error("--seconds must be at least 1")
    if find_spec("atheris") is None:
        parser.error("atheris is not installed: `make fuzz` does it (Linux on x86-64, Python up to 3.13)")
    fallen = [target for target in options.targets or TARGETS if not _fuzz(target, options.seconds)]
    for target in fallen:
        print(f"{target} fell; the input is the newest file in {CORPUS / target}", file=sys.stderr)
    return 1 if fallen else 0


def _fuzz(target: str, seconds: int) -> bool:
    """Fuzz one target; return whether it passed."""
    seeds = CORPUS / target
    with tempfile.TemporaryDirectory() as grown:
        command = [
            *(sys.executable, "-m", "tools.fuzz.engine", target),
            *(grown, str(seeds)),  # what is found on the way goes to the first, and away with it
            f"-artifact_prefix={seeds}/",
            f"-max_total_time={seconds}",
            f"-timeout={_SLOWEST}",
            f"-rss_limit_mb={_LARGEST}",
            f"-max_len={_LONGEST_INPUT}",
            "-print_final_stats=1",
        ]
        return subprocess.run(command, check=False).returncode == 0  # noqa: S603 - our own command


if __name__ == "__main__":
    sys.exit(main())
