"""The project's addresses: in one place, and from there wherever else they belong."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tools.links import FILES, ROOT, chart, site, urls

SET = {
    "Source": "https://git.example.com/a/b",
    "Documentation": "https://docs.example.com/",
    "Runbooks": "https://git.example.com/a/b/docs/runbooks",
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_hold_the_addresses_that_are_set_and_no_others(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    linked = FILES[path]
    assert linked(text, urls()) == text, "run make links"
    assert linked(linked(text, SET), urls()) == text
    assert "https://" not in linked(text, {})


def test_addresses_are_read_from_the_project() -> None:
    assert urls('[project]\nname = "x"\n') == {}
    assert urls('[project.urls]\nSource = "https://git.example.com/a/b"\n')["Source"] == SET["Source"]


def test_the_chart_says_where_it_comes_from() -> None:
    written = yaml.safe_load(chart("name: x\n", SET))
    assert (written["home"], written["sources"]) == (SET["Documentation"], [SET["Source"]])
    assert yaml.safe_load(chart("name: x\n", {"Source": SET["Source"]}))["home"] == SET["Source"]


def test_the_site_knows_its_address_and_links_to_the_source() -> None:
    assert site('[project]\nsite_name = "x"\n', SET).splitlines()[1:3] == [
        f'site_url = "{SET["Documentation"]}"',
        f'repo_url = "{SET["Source"]}"',
    ]


@pytest.mark.slow
def test_the_image_is_labelled_with_the_source_as_the_page_has_it_set(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "releasing.md").read_text(encoding="utf-8")
    sample = page.partition("```toml\n")[2].partition("```")[0]
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "exporter").mkdir()
    (tmp_path / "exporter" / "__init__.py").write_text('__version__ = "1"\n')
    (tmp_path / "pyproject.toml").write_text(f'{sample}\n[other]\nSource = "x"\n')
    command = ["make", "--dry-run", "image", "BUILDER=podman"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert f"--build-arg SOURCE={urls(sample)['Source']} \\\n" in run.stdout


@pytest.mark.slow
def test_the_base_that_the_page_pins_is_in_the_label() -> None:
    page = (ROOT / "docs" / "releasing.md").read_text(encoding="utf-8")
    variables = re.findall(r"\bBASE=\S+@sha256:[.\w]+", page)
    assert variables
    command = ["make", "--dry-run", "image", "BUILDER=podman", *variables]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--build-arg BASE_DIGEST=sha256:... " in run.stdout
