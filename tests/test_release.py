"""What a release must agree on, and what the package's page may hold."""

import re
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest

from deploy import versions
from exporter import __version__
from tools import release
from tools.release import dependencies, section

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def test_another_version_leaves_none_of_the_old_one() -> None:
    written = dict(versions.files("98.76.54"))
    named = re.compile(rf"(?<![\d.]){re.escape(__version__)}(?!\.?\d)")
    kinds = {"", ".md", ".yml", ".yaml", ".tpl", ".txt"}
    pages = [*ROOT.glob("*.md"), *(ROOT / "deploy").rglob("*"), *(ROOT / "docs").rglob("*")]
    texts = {
        path.relative_to(ROOT): written.get(path, path.read_text(encoding="utf-8"))
        for path in pages
        if path.is_file() and path.suffix in kinds
    }
    recorded = Path("docs/first-steps.md")  # what a version of the time printed
    assert [path for path, text in texts.items() if named.search(text) and path != recorded] == []
    assert all("98.76.54" in text for text in written.values())


def test_the_changelog_has_a_section_for_what_comes_next() -> None:
    assert section((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), "Unreleased")


@pytest.mark.parametrize(
    ("heading", "text"), [("1.2.0", "### Added\n\n- b\n"), ("1.2.1", "- a\n"), ("1.2", ""), ("9", "")]
)
def test_the_notes_of_a_release_are_its_section(heading: str, text: str) -> None:
    changelog = "# Changelog\n\n## 1.2.1 - 2026-01-02\n\n- a\n\n## [1.2.0] - 2026-01-01\n\n### Added\n\n- b\n"
    assert section(changelog, heading) == text


def test_the_checksums_are_of_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "DIST", tmp_path / "dist")
    monkeypatch.setattr(sys, "argv", ["make release", "sums"])
    assert release.main() == 0
    lines = (tmp_path / "dist" / "SHA256SUMS").read_text(encoding="ascii").splitlines()
    assert {line.split()[1] for line in lines} == {
        path.name for path in (tmp_path / "dist").iterdir() if path.name != "SHA256SUMS"
    }
    assert lines


def test_an_sbom_says_what_depends_on_what() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    names = re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)
    root = {"name": "cohere-finetune-exporter", "bom-ref": "root"}
    bom = {
        "metadata": {"component": root},
        "components": [{"name": name, "bom-ref": f"ref-{name}"} for name in names],
    }
    found = {entry["ref"]: entry.get("dependsOn", []) for entry in dependencies(bom, lock)}
    direct = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    assert next(iter(found)) == "root"
    assert found["root"] == sorted(f"ref-{re.split('[<>=]', line)[0]}" for line in direct)
    assert {"ref-certifi", "ref-httpcore"} <= set(found["ref-httpx"])
    assert set(found) == {"root", *(ref for needed in found.values() for ref in needed)}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="git lists the files")
def test_the_sdist_holds_every_file_of_the_repository_and_no_other(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    git = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(git, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    assert packed == {"PKG-INFO", *(name for name in listed if (ROOT / name).exists())}


def test_the_package_s_page_has_nothing_that_an_index_cannot_show() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    page = (ROOT / project["readme"]).read_text(encoding="utf-8")
    assert re.findall(r"\]\((?!https?://)|<img|!\[", page) == []


def test_one_command_renews_every_lock() -> None:
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\nlock:")[2].partition("\n\n")[0]
    renewed = re.findall(r"--output-file (\S+)", recipe)
    assert sorted(renewed) == sorted(path.name for path in ROOT.glob("requirements*.lock"))
