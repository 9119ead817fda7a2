import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Timer

import pytest

from exporter.runtime.files import Unreadable, read_again, read_once, replacing
from tests.programs import ROOT

both = pytest.mark.parametrize("read", [read_again, read_once])
Read = Callable[[Path, int], bytes]


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@both
def test_a_file_is_read_up_to_its_limit_and_not_beyond(read: Read, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 2048)

    assert read(file, 2048) == b"x" * 2048
    with pytest.raises(Unreadable, match="larger than 1 KiB"):
        read(file, 1024)
    with pytest.raises(Unreadable):
        read_once(Path("/dev/zero"), 1024)


@both
def test_what_is_no_file_is_refused_and_leaves_nothing_open(read: Read, tmp_path: Path) -> None:
    before = open_files()
    for path, words in ((tmp_path, "Is a directory"), (tmp_path / "x", "No such file or directory")):
        with pytest.raises(Unreadable, match=f"^{words}$"):
            read(path, 10)
    with pytest.raises(Unreadable, match="not a file"):
        read_again(Path("/dev/zero"), 10)
    assert open_files() == before


def test_a_pipe_is_read_once_and_never_waited_for_again(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    began = time.monotonic()
    with pytest.raises(Unreadable, match="a pipe cannot be read again"):
        read_again(pipe, 10)
    assert time.monotonic() - began < 1

    Timer(0.05, lambda: pipe.write_bytes(b"late")).start()
    assert read_once(pipe, 10) == b"late"


def test_a_file_is_replaced_once_complete_and_not_before(tmp_path: Path) -> None:
    file = tmp_path / "steps.om"
    file.write_bytes(b"old")
    with pytest.raises(TypeError), replacing(file) as stream:
        stream.writelines([b"half", None])  # type: ignore[list-item]
    assert (file.read_bytes(), list(tmp_path.iterdir())) == (b"old", [file])
    with replacing(file) as stream:
        stream.write(b"new")
        assert file.read_bytes() == b"old"
    assert (file.read_bytes(), list(tmp_path.iterdir())) == (b"new", [file])


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_a_new_file_has_the_mode_of_any_other_and_one_that_is_replaced_keeps_its_own(tmp_path: Path) -> None:
    file = tmp_path / "steps.om"
    with replacing(file) as stream:
        stream.write(b"new")
    assert mode(file) == 0o640
    file.chmod(0o604)
    with replacing(file) as stream:
        stream.write(b"newer")
    assert (mode(file), file.read_bytes()) == (0o604, b"newer")


def test_what_a_link_leads_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    with replacing(tmp_path / "link") as stream:
        stream.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"


def test_links_in_a_circle_are_an_ordinary_error_and_stay(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="Too many levels of symbolic links"), replacing(tmp_path / "a"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_symlink()) == ["a", "b"]


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with replacing(pipe) as stream:
        stream.write(b"new")
    assert os.read(reading, 10) == b"new"
    os.close(reading)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert list(tmp_path.iterdir()) == [pipe]


WRITER = """
import sys, time
from pathlib import Path
from exporter.runtime import signals
signals.end_at_once()
from exporter.runtime.files import replacing
with replacing(Path(sys.argv[1])) as stream:
    stream.write(b"half")
    print("writing", flush=True)
    while True:
        time.sleep(0.01)  # a signal just before a long sleep is acted on after it
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_leaves_nothing_half_written(tmp_path: Path, number: signal.Signals) -> None:
    file = tmp_path / "steps.om"
    command = (sys.executable, "-c", WRITER, str(file))
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout
        assert process.stdout.readline() == b"writing\n"
        assert len(list(tmp_path.iterdir())) == 1
        process.send_signal(number)
        assert process.wait(30) == 128 + number
    assert list(tmp_path.iterdir()) == []


def test_signals_do_afterwards_what_they_did_before(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with replacing(tmp_path / "file"):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
