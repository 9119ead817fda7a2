"""The pages that the documentation site is made of, and the links between them."""

import re
import tomllib
from pathlib import Path

import pytest

from tools import site

pytestmark = pytest.mark.slow


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "README.md").write_text("# The start\n\n## What it `costs`, and [why](x.md)\n")
    (tmp_path / "docs" / "README.md").write_text("# Docs\n")
    (tmp_path / "docs" / "picture.svg").write_text("<svg/>")
    monkeypatch.setattr(site, "ROOT", tmp_path)
    monkeypatch.setattr(site, "GATHERED", tmp_path / "build" / "site")
    return tmp_path


def gathered(root: Path, text: str) -> tuple[str, list[str]]:
    broken: list[str] = []
    (root / "docs" / "page.md").write_text(text)
    return site.gathered(Path("docs/page.md"), broken), broken


@pytest.mark.parametrize(
    ("link", "becomes"),
    [
        ("[a](../README.md#what-it-costs-and-why)", "[a](../README.md#what-it-costs-and-why)"),
        ("[a](https://example.com/x.md)", "[a](https://example.com/x.md)"),
        ("[a](../docs)", "[a](../docs/README.md)"),
        ("[a](../empty)", "a"),
        ("`[a](nowhere.md)`", "`[a](nowhere.md)`"),
    ],
)
def test_links_lead_to_pages_of_the_site(root: Path, link: str, becomes: str) -> None:
    assert gathered(root, link) == (becomes, [])


def test_what_a_page_shows_comes_with_it(root: Path) -> None:
    assert gathered(root, "![a](picture.svg)") == ("![a](picture.svg)", [])
    assert (root / "build" / "site" / "docs" / "picture.svg").exists()


@pytest.mark.parametrize(
    ("address", "fault"),
    [("no.md", "is not there"), ("../README.md#no", "no such heading"), ("../../x", "is not there")],
)
def test_a_broken_link_is_named(root: Path, address: str, fault: str) -> None:
    (problem,) = gathered(root, f"[a]({address})")[1]
    assert problem.startswith(f"docs/page.md: {address}")
    assert problem.endswith(fault)


@pytest.mark.skipif(not (site.ROOT / ".git").exists(), reason="pages are listed by git")
def test_no_page_of_the_repository_has_a_broken_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(site, "GATHERED", tmp_path)
    assert (site.main(), capsys.readouterr().err) == (0, "")
    assert (tmp_path / "README.md").exists()


@pytest.mark.skipif(not (site.ROOT / ".git").exists(), reason="pages are listed by git")
def test_the_navigation_leads_to_every_page_that_no_other_lists() -> None:
    nav = tomllib.loads((site.ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]
    index = Path("docs/runbooks/README.md")
    listed = {index.parent, Path("grafana/render")}  # by the index, and by the dashboards' page
    expected = {page for page in site.pages() if page == index or page.parent not in listed}
    named = re.findall(r"[\w/-]+\.md", str(nav))
    assert sorted(map(Path, named)) == sorted(expected)
