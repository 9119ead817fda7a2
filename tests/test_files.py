import os
import time
from collections.abc import Callable
from pathlib import Path
from threading import Timer

import pytest

from exporter.runtime.files import Unreadable, read_again, read_once

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
