"""`check --config-only`: every file that `serve` reads is read, and nothing is called."""

from pathlib import Path

import pytest

from tests.programs import called
from tools.ports import unused_port


def check(*flags: str, host: str = "127.0.0.1", **environ: str) -> tuple[int, str, str]:
    base_url = f"--cohere.base-url=http://{host}:{unused_port()}"
    return called("check", "--config-only", base_url, *flags, **environ)


def test_a_valid_configuration_is_valid_though_nobody_answers() -> None:
    assert check() == (0, "the configuration is valid\n", "")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("poll: {interval: 0s}", "poll.interval: must be at least 1s"),
        ("poll: {intervall: 1m}", "config.yml: line 1: poll: unknown key; did you mean poll.interval?"),
        ("cohere: {api-key-file: missing}", "config.yml: cohere.api-key-file: cannot read missing"),
        ("web: {config.file: missing}", "config.yml: web.config.file: "),
    ],
)
def test_an_invalid_configuration_is_named_in_one_line(content: str, named: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    file.write_text(content)
    code, out, err = check(f"--config.file={file}")
    assert (code, out) == (2, "")
    assert named in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "variable",
    [
        "COHERE_EXPORTER_WEB_CONFIG_FILE",
        "COHERE_EXPORTER_COHERE_API_KEY_FILE",
        "COHERE_EXPORTER_COHERE_CA_FILE",
        "COHERE_EXPORTER_COHERE_CLIENT_CERT_FILE",
    ],
)
def test_a_missing_file_is_named_as_it_was_given(variable: str) -> None:
    code, _, err = check(**{variable: "/nonexistent"})
    assert code == 2
    assert err.startswith(f"cohere-finetune-exporter: {variable}: ")


def test_a_proxy_that_cannot_be_used_is_invalid() -> None:
    # No proxy is ever asked for this machine's own loopback.
    code, _, err = check(host="gateway.example.com", HTTP_PROXY="socks9://proxy.example.com:1")
    assert code == 2, err
    assert "HTTP_PROXY" in err
