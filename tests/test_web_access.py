"""The web configuration in force: read again when a file of it changes, kept when that fails."""

import shutil
from pathlib import Path

import pytest

from exporter.web.access import Access
from exporter.web.config import WebConfigError
from exporter.web.format import WebConfig
from tests.certificates import HASH, Authority

HEADERS = "http_server_config: {headers: {X-Frame-Options: deny}}\n"
TLS = "tls_server_config: {cert_file: server.pem, key_file: server.key}\n"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    authority = Authority(tmp_path)
    authority.issue("server", "localhost")
    return authority


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "web.yml"


class Reports:
    """What was reported, one line each."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, result: WebConfig | WebConfigError) -> None:
        self.lines.append(str(result) if isinstance(result, WebConfigError) else "in force")


def test_nothing_is_read_again_while_nothing_changes(authority: Authority, file: Path) -> None:
    file.write_text(TLS)
    reports = Reports()
    access = Access(file, reports)
    before = access.tls()
    assert access.encrypted
    assert (access.tls(), access.rules().logins, reports.lines) == (before, None, [])


def test_a_changed_file_is_in_force_at_once(file: Path) -> None:
    file.write_text("")
    reports = Reports()
    access = Access(file, reports)
    assert access.rules().headers == {}
    file.write_text(HEADERS)
    assert access.rules().headers == {"X-Frame-Options": "deny"}
    assert reports.lines == ["in force"]


@pytest.mark.parametrize("broken", ["a: b\n", "[", None])
def test_a_broken_file_keeps_the_last_good_one_and_is_told_once(file: Path, broken: str | None) -> None:
    file.write_text(HEADERS)
    reports = Reports()
    access = Access(file, reports)
    if broken is None:
        file.unlink()
    else:
        file.write_text(broken)
    for _ in range(3):
        assert access.rules().headers == {"X-Frame-Options": "deny"}
    assert len(reports.lines) == 1
    assert str(file) in reports.lines[0]
    file.write_text("")
    assert access.rules().headers == {}
    assert reports.lines[1:] == ["in force"]


def test_a_new_certificate_is_served_to_the_next_connection(authority: Authority, file: Path) -> None:
    file.write_text(TLS)
    access = Access(file)
    before = access.tls()
    authority.issue("server", "localhost")
    assert access.tls().context is not before.context


def test_a_key_that_does_not_belong_to_the_certificate_yet_is_waited_for(
    authority: Authority, file: Path, tmp_path: Path
) -> None:
    file.write_text(TLS)
    reports = Reports()
    access = Access(file, reports)
    before = access.tls()
    (tmp_path / "new").mkdir()
    certificate, key = Authority(tmp_path / "new").issue("server", "localhost")
    shutil.copy(certificate, tmp_path / "server.pem")
    assert access.tls() is before
    shutil.copy(key, tmp_path / "server.key")
    assert access.tls() is not before
    assert reports.lines == [
        f"{tmp_path}/server.pem and {tmp_path}/server.key: the key does not belong to the certificate",
        "in force",
    ]


def test_files_are_followed_through_links_as_kubernetes_makes_them(authority: Authority, file: Path) -> None:
    first, second = file.parent / "..1", file.parent / "..2"
    for directory, text in ((first, ""), (second, HEADERS)):
        directory.mkdir()
        (directory / "web.yml").write_text(text)
    current = file.parent / "..data"
    current.symlink_to(first)
    file.symlink_to("..data/web.yml")
    access = Access(file)
    assert access.rules().headers == {}
    fresh = file.parent / "..data_tmp"
    fresh.symlink_to(second)
    fresh.rename(current)
    assert access.rules().headers == {"X-Frame-Options": "deny"}


@pytest.mark.parametrize(("before", "after"), [(TLS, ""), ("", TLS)])
def test_tls_is_neither_turned_on_nor_off(authority: Authority, file: Path, before: str, after: str) -> None:
    file.write_text(before)
    reports = Reports()
    access = Access(file, reports)
    file.write_text(after + HEADERS)
    assert access.rules().headers == {}
    assert access.encrypted == bool(before)
    assert reports.lines == [f"{file}: TLS is neither turned on nor off while the exporter runs; restart it"]


def test_new_users_begin_with_an_empty_memory_and_the_same_ones_keep_theirs(file: Path) -> None:
    file.write_text(f"basic_auth_users: {{a: {HASH}}}\n")
    access = Access(file)
    before = access.rules().logins
    file.write_text(f"basic_auth_users: {{a: {HASH}}}\n" + HEADERS)
    assert access.rules().logins is before
    assert access.rules().headers
    file.write_text(f"basic_auth_users: {{b: {HASH}}}\n")
    assert access.rules().logins not in (before, None)


OPENINGS = {
    "passwords": (f"basic_auth_users: {{a: {HASH}}}\n", ""),
    "client certificates": (TLS.replace("}", ", client_auth_type: RequireAndVerifyClientCert}"), TLS),
}


@pytest.mark.parametrize("what", OPENINGS)
def test_what_keeps_others_out_is_not_turned_off_lest_a_half_written_file_let_them_in(
    authority: Authority, file: Path, what: str
) -> None:
    before, after = OPENINGS[what]
    file.write_text(before)
    reports = Reports()
    access = Access(file, reports)
    in_force = access.rules()
    file.write_text(after)
    assert access.rules() is in_force
    assert reports.lines == [f"{file}: {what} are not turned off while the exporter runs; restart it"]
    file.write_text(before + HEADERS)
    assert access.rules().headers
    assert reports.lines[1:] == ["in force"]


def test_a_rate_limit_is_there_when_asked_for(file: Path) -> None:
    file.write_text("rate_limit: {interval: 0, burst: 0}")
    access = Access(file)
    assert access.rules().limit is None
    file.write_text("rate_limit: {interval: 1h, burst: 1}")
    limit = access.rules().limit
    assert limit is not None
    assert [limit.take(), limit.take()] == [True, False]
    assert access.rules().limit is limit
