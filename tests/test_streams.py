import fcntl
import json
import os
import time
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path

import pytest

from exporter.runtime.streams import NonBlockingStream, print_error, print_result

PAGE = 4096  # bytes; the least that a pipe may hold


class Pipe:
    """A pipe of one page, and what reads it."""

    def __init__(self) -> None:
        self.reader, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PAGE)
        os.set_blocking(self.reader, False)
        self.stream = os.fdopen(writer, "w", encoding="utf-8")

    def read(self) -> str:
        return os.read(self.reader, 16 * PAGE).decode()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.stream.close()
    os.close(pipe.reader)


def test_lines_arrive_as_they_were_written(pipe: Pipe) -> None:
    NonBlockingStream(pipe.stream).write("modèle €\n")

    assert pipe.read() == "modèle €\n"


def test_what_the_encoding_does_not_have_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "log"
    with file.open("w", encoding="ascii") as stream:
        NonBlockingStream(stream).write("modèle\n")

    assert file.read_text() == "mod?le\n"


def test_a_line_without_room_is_refused_after_a_moment_and_the_next_at_once(pipe: Pipe) -> None:
    stream = NonBlockingStream(pipe.stream)
    stream.write("x" * PAGE)
    began = time.monotonic()

    with pytest.raises(BlockingIOError):
        stream.write("first\n")
    waited = time.monotonic() - began
    for _ in range(1000):
        with pytest.raises(BlockingIOError):
            stream.write("more\n")

    assert 0.09 < waited < 1
    assert time.monotonic() - began - waited < 0.5
    pipe.read()
    stream.write("again\n")
    assert pipe.read() == "again\n"


def test_half_a_line_spoils_no_other(pipe: Pipe) -> None:
    stream = NonBlockingStream(pipe.stream)
    with pytest.raises(BlockingIOError):
        stream.write("x" * (PAGE + 1) + "\n")
    assert pipe.read() == "x" * PAGE

    stream.write(json.dumps({"msg": "whole"}) + "\n")

    assert json.loads(pipe.read().splitlines()[1]) == {"msg": "whole"}


def test_a_full_disk_and_a_reader_that_left_are_errors(pipe: Pipe) -> None:
    os.close(pipe.reader)
    with pytest.raises(BrokenPipeError):
        NonBlockingStream(pipe.stream).write("line\n")
    pipe.reader = os.open(os.devnull, os.O_RDONLY)
    with Path("/dev/full").open("w") as full, pytest.raises(OSError, match="No space"):
        NonBlockingStream(full).write("line\n")


def test_what_is_shown_fails_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert print_result("a table") == 0
    assert capsys.readouterr().out == "a table\n"
    with Path("/dev/full").open("wb", buffering=0) as raw:
        monkeypatch.setattr("sys.stdout", full := TextIOWrapper(raw, write_through=True))
        assert print_result("a table") == 1
        assert capsys.readouterr().err == "cannot write to standard output: No space left on device\n"
        monkeypatch.setattr("sys.stderr", full)
        print_error("nobody hears this")
        full.detach()
