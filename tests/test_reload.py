"""A value that files hold: read again when they change, and until that works."""

import os
from pathlib import Path

import pytest

from exporter.runtime.reload import RETRY_DELAY, ReadFile, Reloader, ReloadError
from exporter.web.config_reloader import WebConfigReloader
from exporter.web.config_schema import WebConfig
from tests.certificates import HASH, Authority
from tests.conftest import FakeClock
from tests.programs import no_descriptors

pytestmark = pytest.mark.anyio


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "value"
    file.write_text("first")
    return file


def write(file: Path, text: str) -> None:
    file.write_text(text)


def remove(file: Path) -> None:
    file.unlink()


class Value:
    """What the reloader under test holds, how often its file was read, and what was reported."""

    def __init__(self, file: Path, clock: FakeClock) -> None:
        self.reads = 0
        self.reports: list[str | None] = []
        self.seconds = 0.0  # that reading takes
        self._file, self._clock = file, clock
        self.reloader = Reloader(self._read, self.reports.append, clock.monotonic)

    def _read(self, read: ReadFile) -> str:
        self.reads += 1
        self._clock.now += self.seconds
        text = read(self._file).decode()
        if text == "bad":
            raise ReloadError("it is bad")
        return text


def test_a_file_that_does_not_change_is_read_once(file: Path, clock: FakeClock) -> None:
    value = Value(file, clock)
    assert [value.reloader.current() for _ in range(3)] == ["first"] * 3
    assert (value.reads, value.reports) == (1, [])


def test_a_change_is_in_use_at_once(file: Path, clock: FakeClock) -> None:
    value = Value(file, clock)
    write(file, "second")
    assert value.reloader.current() == "second"
    assert value.reports == [None]


def test_a_value_that_cannot_be_used_at_the_start_is_refused(file: Path, clock: FakeClock) -> None:
    write(file, "bad")
    with pytest.raises(ReloadError, match="it is bad"):
        Value(file, clock)


async def test_the_last_good_value_stays_and_each_failure_is_reported_once(
    file: Path, clock: FakeClock
) -> None:
    value = Value(file, clock)
    write(file, "bad")
    for _ in range(3):
        assert value.reloader.current() == "first"
        await clock.advance(RETRY_DELAY)
    remove(file)
    assert value.reloader.current() == "first"
    write(file, "second")
    assert value.reloader.current() == "second"
    assert value.reports == ["it is bad", f"cannot read {file}: No such file or directory", None]


async def test_a_failure_is_tried_again_each_second_and_not_at_each_request(
    file: Path, clock: FakeClock
) -> None:
    value = Value(file, clock)
    write(file, "bad")
    for _ in range(100):
        value.reloader.current()
    assert value.reads == 2
    await clock.advance(RETRY_DELAY)
    value.reloader.current()
    assert value.reads == 3


async def test_what_takes_long_to_read_takes_a_small_part_of_the_time(file: Path, clock: FakeClock) -> None:
    value = Value(file, clock)
    value.seconds = 7.0
    write(file, "bad")
    for _ in range(700):
        value.reloader.current()
        await clock.advance(1.0)
    assert 4 <= value.reads <= 6


async def test_a_moment_without_descriptors_loses_no_change(file: Path, clock: FakeClock) -> None:
    value = Value(file, clock)
    write(file, "second")
    with no_descriptors():
        assert value.reloader.current() == "first"
    assert value.reports == [f"cannot read {file}: Too many open files"]
    await clock.advance(RETRY_DELAY)
    assert value.reloader.current() == "second"
    assert value.reports[1:] == [None]


@pytest.mark.parametrize("free", range(4))
def test_a_new_password_and_a_new_certificate_come_through_a_shortage_of_descriptors(
    free: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.runtime.reload.RETRY_DELAY", 0.0)
    authority = Authority(tmp_path)
    authority.issue("server", "localhost")
    file = tmp_path / "web.yml"
    tls = "tls_server_config: {cert_file: server.pem, key_file: server.key}\n"
    file.write_text(tls + f"basic_auth_users: {{a: {HASH}}}\n")
    reports: list[WebConfig | str] = []
    reloader = WebConfigReloader(file, reports.append)
    before = reloader.tls()
    authority.issue("server", "localhost")
    file.write_text(tls + f"basic_auth_users: {{b: {HASH}}}\n")
    spare = [os.dup(0) for _ in range(free)]
    with no_descriptors():
        for descriptor in spare:
            os.close(descriptor)
        reloader.policy()
        in_time = list(reloader.config.basic_auth_users) == ["b"]
        spare = [] if in_time else [os.dup(0) for _ in range(free)]
    for descriptor in spare:
        os.close(descriptor)
    assert reloader.tls().context is not before.context
    assert list(reloader.config.basic_auth_users) == ["b"]
    assert in_time or isinstance(reports[0], str)
