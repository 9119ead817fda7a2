"""tls_server_config → OpenSSL: what a file that cannot be used is told, and what a context allows."""

import json
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from exporter.runtime.reload import ReloadError
from exporter.web.config_schema import TlsConfig, WebConfig
from exporter.web.tls import Tls, open_tls
from exporter.web.tls_names import SUITES
from tests.certificates import HASH, Authority
from tests.programs import KEY, ROOT, environment, missing


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def config(authority: Authority, **options: object) -> TlsConfig:
    certificate, key = authority.issue("server", "localhost")
    return TlsConfig.model_validate({"cert_file": certificate, "key_file": key, **options})


def refusal(config: TlsConfig) -> str:
    with pytest.raises(ReloadError) as refused:
        open_tls(config)
    assert str(refused.value).isprintable()
    return str(refused.value)


def test_the_defaults_are_tls_1_2_and_1_3_without_renegotiation(authority: Authority) -> None:
    context = open_tls(config(authority)).context
    assert (context.minimum_version, context.maximum_version) == (
        ssl.TLSVersion.TLSv1_2,
        ssl.TLSVersion.TLSv1_3,
    )
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.options & ssl.OP_CIPHER_SERVER_PREFERENCE
    assert context.verify_mode == ssl.CERT_NONE


@pytest.mark.parametrize(("name", "suite"), SUITES.items())
def test_openssl_knows_each_suite(authority: Authority, name: str, suite: str) -> None:
    context = open_tls(config(authority, cipher_suites=[name])).context
    names = [cipher["name"] for cipher in context.get_ciphers()]
    assert [found for found in names if not found.startswith("TLS_")] == [suite]


def test_suites_of_tls_1_3_alone_leave_nothing_to_tls_1_2(authority: Authority) -> None:
    context = open_tls(config(authority, cipher_suites=["TLS_AES_128_GCM_SHA256"])).context
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("", ssl.CERT_NONE),
        ("NoClientCert", ssl.CERT_NONE),
        ("RequestClientCert", ssl.CERT_NONE),
        ("VerifyClientCertIfGiven", ssl.CERT_OPTIONAL),
        ("RequireAndVerifyClientCert", ssl.CERT_REQUIRED),
    ],
)
def test_each_way_to_ask_for_a_client_s_certificate(
    authority: Authority, name: str, mode: ssl.VerifyMode
) -> None:
    assert open_tls(config(authority, client_auth_type=name)).context.verify_mode == mode


def test_certificate_key_and_ca_may_stand_in_the_file_itself(authority: Authority) -> None:
    certificate, key = authority.issue("server", "localhost")
    inline = TlsConfig(
        cert=certificate.read_text(),
        key=key.read_text(),
        client_ca=authority.file.read_text(),
        client_auth_type="RequireAndVerifyClientCert",
    )
    assert open_tls(inline).context.get_ca_certs()


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        ({"min_version": "TLS10"}, "TLS 1.2 is the oldest"),
        ({"curve_preferences": ["X25519", "CurveP256"]}, "only the first curve"),
        ({"client_auth_type": "RequestClientCert"}, "admits everybody"),
        ({"client_auth_type": "RequireAndVerifyClientCert"}, "any CA of the system"),
        ({}, None),
    ],
)
def test_what_is_not_as_it_may_seem_is_warned_of(
    authority: Authority, options: dict[str, object], warning: str | None
) -> None:
    warnings = list(WebConfig(tls_server_config=config(authority, **options)).warnings())
    assert len(warnings) == (warning is not None)
    assert all(warning in found for found in warnings if warning)


def test_passwords_in_clear_text_are_warned_of_unless_they_stay_on_the_machine() -> None:
    config = WebConfig(basic_auth_users={"a": HASH})
    assert ["clear text" in warning for warning in config.warnings()] == [True]
    assert not list(config.warnings(local=True))


# What cannot be used


@pytest.mark.parametrize("name", ["cert_file", "key_file", "client_ca_file"])
def test_a_missing_file_is_named(authority: Authority, name: str) -> None:
    missing = authority.directory / "missing"
    asked = config(authority, **{"client_auth_type": "RequireAndVerifyClientCert", name: missing})
    assert refusal(asked) == f"cannot read {missing}: No such file or directory"


def test_files_that_hold_something_else_are_named(authority: Authority) -> None:
    certificate, key = authority.issue("server", "localhost")
    assert refusal(TlsConfig(cert_file=key, key_file=key)) == f"{key}: holds no certificate in PEM format"
    assert refusal(TlsConfig(cert_file=certificate, key_file=certificate)) == (
        f"{certificate}: holds no private key in PEM format"
    )
    for text in ("", "nonsense", "ä"):
        file = authority.directory / "ca"
        file.write_text(text)
        asked = config(authority, client_auth_type="RequireAndVerifyClientCert", client_ca_file=file)
        assert refusal(asked) == f"{file}: holds no certificate in PEM format"


def test_a_broken_certificate_is_told_without_its_content(authority: Authority) -> None:
    asked = config(authority)
    assert asked.cert_file is not None
    text = asked.cert_file.read_text()
    asked.cert_file.write_text(text[:200] + "\n-----END CERTIFICATE-----\n")
    message = refusal(asked)
    assert "OpenSSL cannot use them" in message
    assert text[40:60] not in message


def test_a_key_of_another_certificate_is_told(authority: Authority) -> None:
    certificate, _ = authority.issue("server", "localhost")
    _, key = authority.issue("other", "localhost")
    message = refusal(TlsConfig(cert_file=certificate, key_file=key))
    assert message == f"{certificate} and {key}: the key does not match the certificate"


def test_an_encrypted_key_is_told_and_nobody_is_asked_for_a_password(authority: Authority) -> None:
    asked = config(authority)
    assert asked.key_file is not None
    key = load_pem_private_key(asked.key_file.read_bytes(), None)
    encryption = BestAvailableEncryption(b"password")
    asked.key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    assert "is encrypted" in refusal(asked)


# Names of clients


@pytest.mark.parametrize(
    ("allowed", "sans", "admitted"),
    [
        (None, None, True),
        (["prometheus"], [("DNS", "prometheus")], True),
        (["prometheus"], [("DNS", "other"), ("DNS", "prometheus")], True),
        (["prometheus"], [("DNS", "prometheus.example")], False),
        (["prometheus"], [("DNS", "*")], False),
        (["prometheus"], [], False),
        (["prometheus"], None, False),
        (["::1"], [("IP Address", "0:0:0:0:0:0:0:1")], True),
        (["10.0.0.1"], [("IP Address", "10.0.0.1")], True),
        (["a@example.com"], [("email", "a@example.com")], True),
        (["spiffe://x/y"], [("URI", "spiffe://x/y")], True),
        (["1.2.3.4"], [("Registered ID", "1.2.3.4")], False),
        (["prometheus"], [("othername", "prometheus")], False),
    ],
)
def test_a_client_comes_in_by_a_name_that_is_exactly_in_the_list(
    allowed: list[str] | None, sans: list[tuple[str, str]] | None, admitted: bool
) -> None:
    tls = Tls(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), None if allowed is None else frozenset(allowed))
    assert tls.admits(None if sans is None else {"subjectAltName": tuple(sans)}) is admitted


WITHOUT_PROC = "umount -l /proc"
WITHOUT_ROOM = (
    "for folder in /dev/shm /tmp /var/tmp; do"
    " mount --bind $folder $folder; mount -o remount,ro,bind $folder; done; cd /sys"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setup", "code", "says"),
    [
        (WITHOUT_PROC, 0, "the configuration is valid"),
        (f"{WITHOUT_ROOM}; {WITHOUT_PROC}", 2, "cohere-finetune-exporter: --web.config.file: "),
    ],
)
def test_a_machine_without_proc_needs_memory_for_files(
    setup: str, code: int, says: str, tmp_path: Path
) -> None:
    unshare = shutil.which("unshare")
    if not unshare or subprocess.run([unshare, "--mount", "true"], check=False).returncode:
        missing("this machine takes no mounts")
    certificate, key = Authority(tmp_path).issue("server", "localhost")
    tls = {"cert": Path(certificate).read_text(), "key": Path(key).read_text()}
    (tmp_path / "web.yml").write_text(json.dumps({"tls_server_config": tls}))
    command = f"{sys.executable} -m exporter check --config-only --web.config.file={tmp_path / 'web.yml'}"
    told = subprocess.run(
        [unshare, "--mount", "sh", "-c", f"{setup}; exec {command}"],
        env=environment({"COHERE_API_KEY": KEY, "PYTHONPATH": str(ROOT)}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (told.returncode, (told.stdout + told.stderr).count("\n")) == (code, 1)
    assert (told.stdout + told.stderr).startswith(says)
