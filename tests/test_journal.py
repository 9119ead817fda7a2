"""Priorities for the journal."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from exporter import NAME
from exporter.runtime import journal
from tests.programs import ROOT, environment

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("level", "prefix"),
    [
        (logging.CRITICAL, "<2>"),
        (logging.ERROR, "<3>"),
        (logging.WARNING, "<4>"),
        (logging.INFO, "<6>"),
        (logging.DEBUG, "<7>"),
    ],
)
def test_each_level_has_its_priority(level: int, prefix: str) -> None:
    assert journal.priority(level) == prefix


def names(file: int) -> str:
    stat = os.fstat(file)
    return f"{stat.st_dev}:{stat.st_ino}"


def test_the_journal_is_known_by_the_stream_that_it_reads(tmp_path: Path) -> None:
    with (tmp_path / "a").open("w") as stream, (tmp_path / "b").open("w") as other:
        assert journal.reads(stream.fileno(), {"JOURNAL_STREAM": names(stream.fileno())})
        assert not journal.reads(other.fileno(), {"JOURNAL_STREAM": names(stream.fileno())})
        assert not journal.reads(stream.fileno(), {})


@pytest.mark.parametrize(
    ("flag", "first"),
    [
        ("--poll.interval=soon", f"<3>{NAME}: --poll.interval: "),  # before there is a log
        ("--web.listen-address=256.0.0.1:1", "<4>"),
    ],
)
def test_lines_on_the_journals_stream_have_their_priority(flag: str, first: str, tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log:
        environ = {"COHERE_EXPORTER_UNKNOWN_OPTION": "1", "COHERE_API_KEY": "a"}
        done = subprocess.run(
            (sys.executable, "-m", "exporter", flag),
            env=environment({**environ, "JOURNAL_STREAM": names(log.fileno())}),
            stderr=log,
            cwd=ROOT,
            timeout=60,
            check=False,
        )
    assert done.returncode == 2
    text = (tmp_path / "log").read_text()
    assert text.startswith(first)
    assert all(line.startswith("<") for line in text.splitlines())
