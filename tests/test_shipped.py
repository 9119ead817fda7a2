"""What the package brings for Grafana and Prometheus."""

import json
from pathlib import Path

import pytest

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


def test_dashboards_need_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboards"], {}) == 2
    assert capsys.readouterr().err == "cohere-finetune-exporter: dashboards takes DIR; see --help\n"
