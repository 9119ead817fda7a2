"""The pages under docs/ say what the code says."""

import json
import re
from pathlib import Path

import pytest

from docs import compatibility
from docs.generate import PAGES, complete_file
from exporter.app import Exporter
from exporter.clock import SystemClock
from exporter.errors import REASONS
from exporter.exposition import Format, render
from exporter.families import FAMILIES, ModelFamily
from exporter.settings import ApiKey, Settings, load, options
from exporter.web.config_schema import HttpConfig, RateLimit, TlsConfig, WebConfig
from exporter.web.tls_names import CLIENT_AUTH, CURVES, SUITES, TLS13_SUITES
from tests.certificates import Authority
from tests.compatibility import TRIALS, current
from tests.test_telemetry import ADDED, CONTRACT

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_as_the_code_would_write_it(name: str) -> None:
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == PAGES[name](), "run `make docs`"


def test_the_readme_names_what_was_tested() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"\n{compatibility.tested_with()}\n" in readme, "run `make docs`"


def test_what_was_tried_is_what_the_tests_try_and_it_passed() -> None:
    content = json.loads(compatibility.RESULTS.read_text(encoding="utf-8"))
    trials = content["trials"]
    assert [trial["what"] for trial in trials] == [trial.what for trial in TRIALS], "run `make test-programs`"
    for trial in trials:
        assert (
            [list(counts) for counts in trial["results"].values()]
            == [["passed"]] * len(trial["results"])
            != []
        )
    for scenario in content["scenarios"]:
        assert {scenario[engine] for engine in scenario if engine != "name"} <= {"passed", ""}, scenario


def test_what_was_tried_is_of_the_versions_that_are_pinned() -> None:
    versions = json.loads(compatibility.RESULTS.read_text(encoding="utf-8"))["versions"]
    assert {program: found[-1] for program, found in versions.items()} == current(), (
        "run `make test-programs`"
    )


def test_the_page_for_contributors_names_the_go_that_the_programs_want() -> None:
    modules = (ROOT / "tools/programs").glob("*/go.mod")
    lines = [
        re.findall(r"^go ([\d.]+)$", file.read_text(encoding="utf-8"), re.MULTILINE)[0] for file in modules
    ]
    newest = max(lines, key=lambda version: [int(part) for part in version.split(".")])
    assert f"Go {newest} or later" in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("test", [test for trial in TRIALS for test in trial.tests])
def test_each_trial_names_tests_there_are(test: str) -> None:
    file, _, name = test.partition("::")
    assert f"def {name}" in (ROOT / "tests" / file).read_text(encoding="utf-8")


def test_the_design_s_table_names_every_module() -> None:
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    rows = "".join(re.findall(r"^\| .*", page, re.MULTILINE))
    modules = [file.stem for file in (ROOT / "exporter").rglob("*.py") if not file.stem.startswith("__")]
    assert [name for name in modules if f"`{name}`" not in rows] == []


def test_the_metrics_page_names_every_label_of_the_exporter_s_own_metrics() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| `(\w+?)(?:_total)?` \| (?:gauge|counter|histogram) \| (.*?) \|", page, re.MULTILINE
    )
    named = {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    own = CONTRACT | ADDED
    assert {name: named.get(name) for name in own} == {name: labels for name, (_, labels) in own.items()}


@pytest.mark.anyio
async def test_the_metrics_page_names_every_file_that_is_reloaded(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, private_key = authority.issue("client", "client.example.com")
    key, web = tmp_path / "key", tmp_path / "web.yml"
    key.write_text("a-key")
    web.write_text("{}")
    flags = (
        "--cohere.base-url=https://gateway.example.com",
        f"--cohere.api-key-file={key}",
        f"--cohere.ca-file={authority.file}",
        f"--cohere.client-cert-file={certificate}",
        f"--cohere.client-key-file={private_key}",
        f"--web.config.file={web}",
    )
    exporter = Exporter(load(flags, {})[1], ApiKey(file=key), clock=SystemClock())
    exporter.reloads.open_access()
    await exporter.http.aclose()
    exposition = render(exporter.telemetry.registry, Format.TEXT).decode()
    files = re.findall(r'^cohere_exporter_reload_successful\{file="(\w+)"\}', exposition, re.MULTILINE)
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert f"- `file`: {', '.join(f'`{file}`' for file in sorted(files))}\n" in page


@pytest.mark.parametrize("page", ["failure-modes.md", "runbooks/CohereApiDown.md"])
def test_every_reason_why_polling_fails_has_its_row(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    rows = re.findall(r"^(?:\||[0-9]\.|Refused) .*$", text, re.MULTILINE)
    assert [reason for reason in REASONS if not any(f"`{reason}`" in row for row in rows)] == []


def test_the_example_of_the_metrics_page_has_every_family_of_a_model() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    example = page.partition("## Example: one model\n")[2].partition("## ")[0]
    families = [family.name for family in FAMILIES if isinstance(family, ModelFamily)]
    assert list(dict.fromkeys(re.findall(r"^(\w+)\{", example, re.MULTILINE))) == families
    assert set(re.findall(r'(\w+)=""', example)) == set()


def test_the_complete_file_is_one_and_holds_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "exporter.yml"
    file.write_text(complete_file(), encoding="utf-8")
    _, settings = load([f"--config.file={file}"], {})
    defaults = Settings().model_dump(exclude={"config"})
    assert settings.model_dump(exclude={"config"}) == defaults
    assert {option.key for option in options() if option.group != "config"} == {
        f"{group}.{match[1]}"
        for group, text in re.findall(r"^(\w+):\n((?:  .*\n)*)", complete_file(), re.MULTILINE)
        for match in re.finditer(r"^  (?:# )?([a-z.-]+):(?: .*)?$", text, re.MULTILINE)
        if f"{group}.{match[1]}" in {option.key for option in options()}
    }


def test_the_web_configuration_s_page_names_every_key_and_every_name() -> None:
    page = (ROOT / "docs" / "web-configuration.md").read_text(encoding="utf-8")
    keys = [key for section in (WebConfig, TlsConfig, HttpConfig, RateLimit) for key in section.model_fields]
    missing = [
        name for name in (*keys, *CLIENT_AUTH, *CURVES, *SUITES, *TLS13_SUITES) if f"`{name}`" not in page
    ]
    assert not missing
