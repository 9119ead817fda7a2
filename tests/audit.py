"""What `make audit` runs: pip-audit over the lock files, bandit over the code.

It asks the network, and its answer may change while nothing here does, so it is no test. A package whose
advisories could not be had is not taken for a good one. A finding of bandit's is explained where ruff's is,
by `noqa: S...` with a reason on its lines, or for whole files in pyproject.toml: both have the same rules by
the same numbers.
"""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
REASONED = re.compile(r"# noqa: ([A-Z0-9, ]*\bS[0-9]+[A-Z0-9, ]*) - \w")
# An import calls nothing, and each call has a rule of its own.
_NO_FINDING = "B404"


def main() -> int:
    """Print what was found, one line each; 0 only when everything was looked at and nothing found."""
    failed = False
    for lock in sorted(ROOT.glob("requirements*.lock")):
        options = ("--disable-pip", "--require-hashes", "--progress-spinner=off", "--format=json")
        failed |= _tell(lock.name, advisories(_report("pip_audit", *options, f"--requirement={lock}")))
    report = _report("bandit", "--quiet", "--recursive", "--format=json", f"--skip={_NO_FINDING}", *code())
    failed |= _tell("the code", unexplained(report))
    return int(failed)


def code() -> list[str]:
    """Name the directories of the code that is not the tests'."""
    return [name for name in _tools()["mypy"]["files"] if name != "tests"]


def advisories(report: dict[str, Any] | None) -> Iterator[str]:
    """Yield one line for each known vulnerability, and one when advisories could not be had."""
    packages = report["dependencies"] if report else []
    for package in packages:
        for known in package.get("vulns", ()):
            fixed = ", ".join(known["fix_versions"]) or "no version yet"
            yield f"{package['name']} {package['version']}: {known['id']}, mended in {fixed}"
    unknown = sum("skip_reason" in package for package in packages)
    if unknown or not packages:
        share = f"of {unknown} of {len(packages)} packages " if packages else ""
        yield f"the advisories {share}cannot be reached: nothing is known of them; try again with a network"


def unexplained(report: dict[str, Any] | None) -> Iterator[str]:
    """Yield one line for each finding that has no reason beside it, and for what bandit cannot read."""
    if report is None:
        yield "bandit gave no report"
        return
    for error in report["errors"]:
        yield f"{error['filename']}: {error['reason']}"
    for finding in report["results"]:
        file, rule = Path(finding["filename"]), finding["test_id"].replace("B", "S")
        lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
        reasons = (REASONED.search(lines[number - 1]) for number in finding["line_range"])
        if rule not in _excepted(file) and not any(match and rule in match[1] for match in reasons):
            yield f"{file}:{finding['line_number']}: {finding['test_id']} {finding['issue_text']}"


def _excepted(file: Path) -> set[str]:
    """Name the rules that do not hold for a file as a whole."""
    exceptions = _tools()["ruff"]["lint"]["per-file-ignores"]
    return {rule for pattern, rules in exceptions.items() if fnmatch(str(file), pattern) for rule in rules}


def _tools() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return dict(project["tool"])


def _report(tool: str, *options: str) -> dict[str, Any] | None:
    """Return a tool's report; None, and what the tool said instead, when it made none."""
    done = subprocess.run([sys.executable, "-m", tool, *options], cwd=ROOT, capture_output=True, check=False)
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        sys.stderr.write(done.stderr.decode(errors="replace"))
        return None
    return report


def _tell(subject: str, findings: Iterator[str]) -> bool:
    lines = [f"{subject}: {finding}\n" for finding in findings]
    sys.stdout.writelines(lines or [f"{subject}: nothing found\n"])
    return bool(lines)


if __name__ == "__main__":
    sys.exit(main())
