"""What `make audit` takes for a finding: here without a network, on reports as the tools write them."""

from pathlib import Path
from typing import Any

import pytest

from tests import audit

pytestmark = pytest.mark.slow

GOOD = {"name": "h11", "version": "0.16.0", "vulns": []}
BAD = {"name": "h11", "version": "0.15.0", "vulns": [{"id": "GHSA-1", "fix_versions": ["0.16.0"]}]}
UNKNOWN = {
    "name": "idna",
    "skip_reason": "Dependency not found on PyPI and could not be audited: idna (3.20)",
}


def finding(file: Path, *lines: int) -> dict[str, Any]:
    result = {
        "filename": str(file),
        "test_id": "B310",
        "issue_text": "Audit url open.",
        "line_number": lines[0],
        "line_range": list(lines),
    }
    return {"errors": [], "results": [result]}


def test_packages_without_advisories_are_no_finding() -> None:
    assert list(audit.advisories({"dependencies": [GOOD]})) == []


def test_a_known_vulnerability_is_a_finding_that_says_what_mends_it() -> None:
    assert list(audit.advisories({"dependencies": [GOOD, BAD]})) == ["h11 0.15.0: GHSA-1, mended in 0.16.0"]


@pytest.mark.parametrize("report", [{"dependencies": [GOOD, UNKNOWN]}, {"dependencies": []}, None])
def test_advisories_that_cannot_be_reached_are_no_success(report: dict[str, Any] | None) -> None:
    (line,) = audit.advisories(report)
    assert "cannot be reached" in line


@pytest.mark.parametrize(
    ("comment", "is_explained"),
    [
        ("# noqa: S310 - our own address", True),
        ("# noqa: ASYNC210, S310 - our own address", True),
        ("# noqa: S310", False),
        ("# noqa: S311 - of another rule", False),
        ("", False),
    ],
)
def test_a_finding_of_bandit_s_is_explained_by_a_reason_on_its_lines(
    tmp_path: Path, comment: str, is_explained: bool
) -> None:
    file = tmp_path / "module.py"
    file.write_text(f"open_url(\n    url,  {comment}\n)\n")
    assert bool(list(audit.unexplained(finding(file, 1, 2)))) is not is_explained


@pytest.mark.parametrize(
    ("file", "is_explained"), [("tools/fuzz/judge.py", True), ("exporter/cli.py", False)]
)
def test_what_is_no_rule_for_whole_files_is_no_finding_there(file: str, is_explained: bool) -> None:
    report = finding(Path(file), 1)
    report["results"][0]["test_id"] = "B101"  # an assertion
    assert bool(list(audit.unexplained(report))) is not is_explained


def test_a_file_that_bandit_cannot_read_and_a_missing_report_are_findings() -> None:
    assert list(audit.unexplained({"errors": [{"filename": "x.py", "reason": "syntax"}], "results": []}))
    assert list(audit.unexplained(None))


def test_all_code_but_the_tests_is_looked_at() -> None:
    assert {"exporter", "tools", "deploy"} <= set(audit.code())
    assert "tests" not in audit.code()
