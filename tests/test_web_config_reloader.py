"""The web configuration in force: read again when a file of it changes, kept when that fails."""

import shutil
from pathlib import Path

import pytest

from exporter.web.config_reloader import WebConfigReloader
from exporter.web.config_schema import WebConfig
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

    def __call__(self, result: WebConfig | str) -> None:
        self.lines.append(result if isinstance(result, str) else "in force")


@pytest.mark.parametrize("broken", ["a: b\n", "[", None])
def test_a_broken_file_keeps_the_last_good_one_and_is_told_once(file: Path, broken: str | None) -> None:
    file.write_text(HEADERS)
    reports = Reports()
    reloader = WebConfigReloader(file, reports)
    if broken is None:
        file.unlink()
    else:
        file.write_text(broken)
    for _ in range(3):
        assert reloader.policy().headers == {"X-Frame-Options": "deny"}
    assert len(reports.lines) == 1
    assert str(file) in reports.lines[0]
    file.write_text("")
    assert reloader.policy().headers == {}
    assert reports.lines[1:] == ["in force"]


def test_a_key_that_does_not_belong_to_the_certificate_yet_is_waited_for(
    authority: Authority, file: Path, tmp_path: Path
) -> None:
    file.write_text(TLS)
    reports = Reports()
    reloader = WebConfigReloader(file, reports)
    before = reloader.tls()
    (tmp_path / "new").mkdir()
    certificate, key = Authority(tmp_path / "new").issue("server", "localhost")
    shutil.copy(certificate, tmp_path / "server.pem")
    assert reloader.tls() is before
    shutil.copy(key, tmp_path / "server.key")
    assert reloader.tls() is not before
    assert reports.lines == [
        f"{tmp_path}/server.pem and {tmp_path}/server.key: the key does not match the certificate",
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
    reloader = WebConfigReloader(file)
    assert reloader.policy().headers == {}
    fresh = file.parent / "..data_tmp"
    fresh.symlink_to(second)
    fresh.rename(current)
    assert reloader.policy().headers == {"X-Frame-Options": "deny"}


@pytest.mark.parametrize(("before", "after"), [(TLS, ""), ("", TLS)])
def test_tls_is_neither_turned_on_nor_off(authority: Authority, file: Path, before: str, after: str) -> None:
    file.write_text(before)
    reports = Reports()
    reloader = WebConfigReloader(file, reports)
    file.write_text(after + HEADERS)
    assert reloader.policy().headers == {}
    assert reloader.encrypted == bool(before)
    assert reports.lines == [f"{file}: TLS cannot be turned on or off without a restart"]


def test_new_users_begin_with_an_empty_memory_and_the_same_ones_keep_theirs(file: Path) -> None:
    file.write_text(f"basic_auth_users: {{a: {HASH}}}\n")
    reloader = WebConfigReloader(file)
    before = reloader.policy().auth
    file.write_text(f"basic_auth_users: {{a: {HASH}}}\n" + HEADERS)
    assert reloader.policy().auth is before
    assert reloader.policy().headers
    file.write_text(f"basic_auth_users: {{b: {HASH}}}\n")
    assert reloader.policy().auth not in (before, None)


CLIENTS = TLS.replace("}", ", client_auth_type: RequireAndVerifyClientCert}")
OPENINGS = {
    "passwords": (f"basic_auth_users: {{a: {HASH}}}\n", ""),
    "client certificates": (CLIENTS, TLS),
    "client certificates, unless given": (
        CLIENTS,
        CLIENTS.replace("RequireAndVerify", "Verify").replace("Cert}", "CertIfGiven}"),
    ),
    "client_allowed_sans": (CLIENTS.replace("}", ", client_allowed_sans: [a.test]}"), CLIENTS),
}


@pytest.mark.parametrize("what", OPENINGS)
def test_what_keeps_others_out_is_not_turned_off_lest_a_half_written_file_let_them_in(
    authority: Authority, file: Path, what: str
) -> None:
    before, after = OPENINGS[what]
    file.write_text(before)
    reports = Reports()
    reloader = WebConfigReloader(file, reports)
    in_force = reloader.policy()
    file.write_text(after)
    assert reloader.policy() is in_force
    assert reports.lines == [f"{file}: {what.partition(',')[0]} cannot be turned off without a restart"]
    file.write_text(before + HEADERS)
    assert reloader.policy().headers
    assert reports.lines[1:] == ["in force"]


def test_a_rate_limit_is_there_when_asked_for(file: Path) -> None:
    file.write_text("rate_limit: {interval: 0, burst: 0}")
    reloader = WebConfigReloader(file)
    assert reloader.policy().limit is None
    file.write_text("rate_limit: {interval: 1h, burst: 1}")
    limit = reloader.policy().limit
    assert limit is not None
    assert [limit.take(), limit.take()] == [True, False]
    assert reloader.policy().limit is limit
