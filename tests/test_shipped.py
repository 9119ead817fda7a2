"""What the package brings for Grafana and Prometheus."""

import json
from pathlib import Path

import pytest
import yaml

from exporter.cli import main

DASHBOARDS = Path(__file__).parents[1] / "grafana" / "dashboards"
NOT_USABLE = {"COHERE_EXPORTER_POLL_INTERVAL": "never"}  # no matter: nothing is polled


def test_dashboards_are_written_into_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "new" / "dashboards"
    assert main(["dashboards", str(folder)], NOT_USABLE) == 0
    written = sorted(folder.iterdir())
    assert capsys.readouterr().out.splitlines() == list(map(str, written))
    for file in written:
        assert json.loads(file.read_text()) == json.loads((DASHBOARDS / file.name).read_text())
    assert len(written) == len(list(DASHBOARDS.glob("*.json")))


def test_a_folder_that_cannot_be_written_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["dashboards", str(tmp_path / "file")], {}) == 2
    assert capsys.readouterr().err == f"cohere-finetune-exporter: {tmp_path}/file: File exists\n"


def test_an_installation_without_dashboards_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.shipped._PACKAGE", tmp_path)
    assert main(["dashboards", str(tmp_path / "new")], {}) == 2
    assert capsys.readouterr().err.endswith("/new: this installation has no dashboards\n")
    assert not (tmp_path / "new").exists()


def test_dashboards_need_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboards"], {}) == 2
    assert capsys.readouterr().err == "cohere-finetune-exporter: dashboards takes DIR; see --help\n"


def test_rules_are_written_into_a_file_or_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    committed = (DASHBOARDS.parents[1] / "deploy/prometheus/cohere-finetuning.rules.yml").read_text()
    assert main(["rules", str(tmp_path / "rules.yml")], NOT_USABLE) == 0
    assert capsys.readouterr().out == f"{tmp_path}/rules.yml\n"
    assert yaml.safe_load((tmp_path / "rules.yml").read_text()) == yaml.safe_load(committed)
    assert main(["rules"], NOT_USABLE) == 0
    assert capsys.readouterr().out == (tmp_path / "rules.yml").read_text()


def test_the_recording_rules_are_written_apart_from_the_alerts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    committed = (DASHBOARDS.parents[1] / "deploy/prometheus/cohere-finetuning.recording.yml").read_text()
    assert main(["rules", "--recording", str(tmp_path / "rules.yml")], NOT_USABLE) == 0
    assert (tmp_path / "rules.yml").read_text() == committed
    (tmp_path / "values.yml").write_text('selector: job="research"\n')
    capsys.readouterr()
    assert main(["rules", "--recording", f"--values={tmp_path}/values.yml"], {}) == 0
    assert 'cohere_finetuned_model_info{job="research"}' in capsys.readouterr().out


def test_rules_take_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "values.yml").write_text("disabled: [CohereModelFailed]\nlabels: {team: ml}\n")
    assert main(["rules", f"--values={tmp_path}/values.yml"], {}) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    alerts = [rule for group in printed["groups"] for rule in group["rules"] if "alert" in rule]
    assert "CohereModelFailed" not in {alert["alert"] for alert in alerts}
    assert {alert["labels"]["team"] for alert in alerts} == {"ml"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("disabled: [Nobody]", "unknown alert in disabled: Nobody"),
        ("- a", "must be a mapping"),
        (
            "a: [b",
            "values.yml: line 1: is not valid YAML: a bracket or brace is not closed, or a comma is missing",
        ),
    ],
)
def test_values_that_make_no_sense_are_one_line(
    content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "values.yml").write_text(content)
    assert main(["rules", f"--values={tmp_path}/values.yml"], {}) == 2
    assert capsys.readouterr().err.endswith(f"{message}\n")
    assert main(["rules", str(tmp_path / "none" / "x")], {}) == 2
