"""The web configuration file: what exporter-toolkit takes is taken, and the rest is told in one line."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.runtime.reload import ReloadError
from exporter.web.config import read_config
from exporter.web.config_reloader import WebConfigReloader
from exporter.web.config_schema import HttpConfig, RateLimit, TlsConfig, WebConfig
from exporter.web.tls_names import CURVES, SUITES, TLS13_SUITES
from tests.certificates import HASH

TLS = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "web.yml"


def read(file: Path, text: str) -> WebConfig:
    file.write_text(text)
    return read_config(file)


def refusal(file: Path, text: str) -> str:
    """Return the message, without the name of the file that stands before it."""
    with pytest.raises(ReloadError) as refused:
        read(file, text)
    message = str(refused.value)
    assert message.isprintable()
    assert message.startswith(f"{file}: ")
    return message.removeprefix(f"{file}: ")


# What is taken


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}", "tls_server_config:\nbasic_auth_users: {}\n"])
def test_an_empty_file_asks_for_nothing(file: Path, text: str) -> None:
    config = read(file, text)
    assert not config.tls_server_config.enabled
    assert (config.basic_auth_users, config.http_server_config.headers, config.rate_limit.interval) == (
        {},
        {},
        0.0,
    )


def test_the_defaults_are_the_toolkit_s(file: Path) -> None:
    tls = read(file, TLS).tls_server_config
    assert tls.enabled
    assert (tls.client_auth_type, tls.min_version, tls.max_version) == ("NoClientCert", "TLS12", "TLS13")
    assert (tls.cipher_suites, tls.curve_preferences, tls.prefer_server_cipher_suites) == ((), (), True)


def test_paths_are_relative_to_the_directory_of_the_file(file: Path) -> None:
    text = (
        "tls_server_config: {cert_file: tls/a.pem, key_file: /b.key, client_ca_file: ../ca.pem,\n"
        "  client_auth_type: RequireAndVerifyClientCert}"
    )
    tls = read(file, text).tls_server_config
    assert (tls.cert_file, tls.key_file) == (file.parent / "tls/a.pem", Path("/b.key"))
    assert tls.client_ca_file == file.parent / "../ca.pem"


def test_every_suite_curve_and_version_of_go_has_its_name(file: Path) -> None:
    names: dict[str, Any] = {
        "cipher_suites": [*SUITES, *TLS13_SUITES],
        "curve_preferences": [*CURVES],
        "min_version": "TLS10",
        "max_version": "TLS13",
        "prefer_server_cipher_suites": False,
    }
    text = yaml.safe_dump({"tls_server_config": {"cert_file": "a", "key_file": "b", **names}})
    tls = read(file, text).tls_server_config
    assert list(tls.cipher_suites) == names["cipher_suites"]
    assert list(tls.curve_preferences) == names["curve_preferences"]
    assert not tls.prefer_server_cipher_suites


def test_headers_are_the_toolkit_s_and_blank_ones_are_unset(file: Path) -> None:
    text = """
http_server_config:
  http2: yes
  headers:
    X-Frame-Options: deny
    Strict-Transport-Security: max-age=31536000; includeSubDomains
    X-Content-Type-Options:
    X-XSS-Protection: 1
    Content-Security-Policy: >
      default-src 'self'
      *.example.net
"""
    assert read(file, text).http_server_config.headers == {
        "X-Frame-Options": "deny",
        "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
        "X-XSS-Protection": "1",
        "Content-Security-Policy": "default-src 'self' *.example.net",
    }


def test_a_user_may_have_any_name_even_one_that_yaml_takes_for_a_number(file: Path) -> None:
    text = f"basic_auth_users: {{0755: {HASH}, on: {HASH}, 2026-01-01: {HASH}, zoë: {HASH}, null: {HASH}}}"
    assert list(read(file, text.replace("null", "'null'")).basic_auth_users) == [
        "0755",
        "on",
        "2026-01-01",
        "zoë",
        "null",
    ]


@pytest.mark.parametrize(
    ("text", "seconds"), [("1s", 1.0), ("100ms", 0.1), ("1m30s", 90.0), ("1.5h", 5400.0), ("0", 0.0)]
)
def test_the_interval_is_a_duration_of_go(file: Path, text: str, seconds: float) -> None:
    limit = read(file, f"rate_limit: {{interval: {text}, burst: 3}}").rate_limit
    assert limit.interval == pytest.approx(seconds)
    assert limit.burst == 3


def test_an_anchor_and_a_merge_are_understood(file: Path) -> None:
    text = f"basic_auth_users: &users {{a: {HASH}}}\n"
    assert read(file, text).basic_auth_users == {"a": HASH}
    merged = "rate_limit: {<<: &limit {interval: 1s, burst: 2}, burst: 5}"
    assert read(file, merged).rate_limit == RateLimit(interval="1s", burst=5)


# What is refused: what is written → what is told

REFUSED = [
    ("hWkNKCp3fvIx3jKnsaBI\nTuEjdwNS8A2vYdFbiKqr\n", "must be a mapping"),
    ("a: [b\n", "line 2: is not valid YAML: a bracket or brace is not closed, or a comma is missing"),
    (
        "a: !!python/object:os.system {}",
        (
            "line 1: is not valid YAML: "
            "a tag (!) that is not known; a value that begins with ! must be in quotes"
        ),
    ),
    (
        "tls_server_config:\n  cert_filse: a\n",
        "line 2: tls_server_config: unknown key; did you mean cert_file?",
    ),
    (
        "tls_server_config:\n  ? {a: b}\n  : c\n",
        (
            "line 2: is not valid YAML: a mapping or a list as a key; "
            "a value that begins with { or [ must be in quotes"
        ),
    ),
    (
        "basic_auth_users:\nalice: x\n",
        (
            "line 2: unknown key; known are tls_server_config, http_server_config, rate_limit, "
            "basic_auth_users"
        ),
    ),
    ("basic_auth_users:\n  a: b\n  a: c\n", "line 3: the key is given twice"),
    ("tls_server_config: x", "line 1: tls_server_config: must be a mapping"),
    ("tls_server_config:\n  cert_file: a\n", "line 1: tls_server_config: key_file (or key) is missing"),
    ("tls_server_config: {min_version: TLS13}", "line 1: tls_server_config: cert_file (or cert) is missing"),
    (TLS + "  cert: x\n", "line 1: tls_server_config: cert and cert_file are both set; keep one"),
    (
        "tls_server_config: {cert_file: [a], key_file: b}",
        "line 1: tls_server_config.cert_file: must be the path of a file",
    ),
    (
        'tls_server_config: {cert_file: "a\\0", key_file: b}',
        "line 1: tls_server_config.cert_file: must be the path of a file",
    ),
    (
        'tls_server_config: {cert_file: a, key_file: "-----BEGIN PRIVATE KEY----- MIGH"}',
        "line 1: tls_server_config.key_file: must be the path of a file, not its content",
    ),
    ('tls_server_config:\n  cert_file: "a\\ud800"\n  key_file: b', "line 2: is not valid YAML"),
    (f"rate_limit: {{interval: 1s, burst: 1{'0' * 5_000}}}", "line 1: rate_limit.burst: is too large"),
    ("tls_server_config: {cert: {a: b}, key_file: b}", "line 1: tls_server_config.cert: must be text"),
    (
        TLS + "  client_auth_type: Maybe\n",
        (
            "line 4: tls_server_config.client_auth_type: must be one of NoClientCert, RequestClientCert, "
            "VerifyClientCertIfGiven, RequireAndVerifyClientCert"
        ),
    ),
    (
        TLS + "  client_auth_type: RequireAnyClientCert\n",
        (
            "line 4: tls_server_config.client_auth_type: RequireAnyClientCert cannot be served, because "
            "Python's TLS accepts no unverified certificate; set RequireAndVerifyClientCert "
            "and client_ca_file"
        ),
    ),
    (
        TLS + "  client_ca_file: ca.pem\n",
        (
            "line 1: tls_server_config: a client CA needs a client_auth_type, such as "
            "RequireAndVerifyClientCert"
        ),
    ),
    (
        TLS + "  client_allowed_sans: [a]\n",
        ("line 1: tls_server_config: client_allowed_sans needs client_auth_type: RequireAndVerifyClientCert"),
    ),
    (
        TLS + "  client_allowed_sans: []\n",
        (
            "line 1: tls_server_config: client_allowed_sans is empty and would admit nobody; add names "
            "or leave it out"
        ),
    ),
    (
        TLS + "  min_version: TLS111\n",
        "line 4: tls_server_config.min_version: must be 'TLS10', 'TLS11', 'TLS12' or 'TLS13'",
    ),
    (
        TLS + "  max_version: TLS11\n",
        "line 1: tls_server_config: max_version must be TLS12 or TLS13: older versions are not served",
    ),
    (
        TLS + "  min_version: TLS13\n  max_version: TLS12\n",
        "line 1: tls_server_config: min_version is above max_version",
    ),
    (
        TLS + "  max_version: TLS12\n  cipher_suites: [TLS_AES_128_GCM_SHA256]\n",
        "line 1: tls_server_config: cipher_suites has no suite for TLS12, which max_version requires",
    ),
    (
        TLS + "  cipher_suites:\n  - TLS_AES_128_GCM_SHA256\n  - TLS_RSA_WITH_RC4_128_SHA\n",
        (
            "line 6: tls_server_config.cipher_suites: is not one of the cipher suites that Go "
            "considers secure; see the documentation"
        ),
    ),
    (
        TLS + "  cipher_suites: TLS_AES_128_GCM_SHA256\n",
        "line 4: tls_server_config.cipher_suites: must be a list",
    ),
    (
        TLS + "  curve_preferences: [CurveP257]\n",
        (
            "line 4: tls_server_config.curve_preferences: must be one of CurveP256, CurveP384, CurveP521,"
            " X25519"
        ),
    ),
    (
        TLS + "  prefer_server_cipher_suites: maybe\n",
        "line 4: tls_server_config.prefer_server_cipher_suites: must be true or false",
    ),
    (
        "http_server_config: {headers: {Content-Type: foo}}",
        (
            "line 1: http_server_config.headers: only these can be set, in this spelling: Strict-Transport-"
            "Security, X-Content-Type-Options, X-Frame-Options, X-XSS-Protection, Content-Security-Policy"
        ),
    ),
    (
        "http_server_config: {headers: {X-Frame-Options: DENY}}",
        "line 1: http_server_config.headers: X-Frame-Options must be deny or sameorigin",
    ),
    (
        "http_server_config: {headers: {X-XSS-Protection: ä}}",
        "line 1: http_server_config.headers: X-XSS-Protection must be printable ASCII text",
    ),
    (
        "basic_auth_users: {john: doe}",
        (
            "line 1: basic_auth_users: must be a bcrypt hash as htpasswd -B writes it: $2y$, the cost, $ "
            "and 53 characters"
        ),
    ),
    (f"basic_auth_users:\n  john: {HASH}\n  jane:\n", "line 3: basic_auth_users: must be text"),
    (
        f"basic_auth_users: {{'a:b': {HASH}}}",
        "line 1: basic_auth_users: a user name must not contain a colon: no client could send it",
    ),
    (
        "rate_limit: {interval: 1, burst: 1}",
        ("line 1: rate_limit.interval: must be a duration with a unit, such as 1s or 100ms; 0 is no limit"),
    ),
    (
        "rate_limit: {interval: 1s}",
        "line 1: rate_limit: burst must be at least 1; otherwise every request is refused",
    ),
    ("rate_limit: {interval: 1s, burst: many}", "line 1: rate_limit.burst: must be a whole number"),
]


@pytest.mark.parametrize(("text", "expected"), REFUSED, ids=range(len(REFUSED)))
def test_what_cannot_be_used_is_told_in_one_line(file: Path, text: str, expected: str) -> None:
    assert refusal(file, text) == expected


@pytest.mark.parametrize("cost", ["03", "32", "1x"])
def test_a_hash_of_a_cost_that_bcrypt_has_not_is_none(file: Path, cost: str) -> None:
    text = f"basic_auth_users: {{john: {HASH.replace('$04$', f'${cost}$')}}}"
    assert "must be a bcrypt hash" in refusal(file, text)


def test_neither_a_name_nor_a_hash_nor_a_key_is_repeated(file: Path) -> None:
    for text in (
        f"basic_auth_users:\njohndoe: {HASH}",
        f"basic_auth_users: {{johndoe: {HASH}x}}",
        f"tls_server_config:\n  johndoe: {HASH}",
        f"tls_server_config: {{key: {HASH}, cert_file: [{HASH}]}}",
        f"http_server_config: {{headers: {{johndoe: {HASH}}}}}",
        f"johndoe {HASH}: [",
    ):
        message = refusal(file, text)
        assert "johndoe" not in message
        assert HASH[:20] not in message


def test_no_text_of_the_values_shows_a_hash_or_a_key(file: Path) -> None:
    text = f"tls_server_config: {{cert: a, key: s3cretKey}}\nbasic_auth_users: {{johndoe: {HASH}}}"
    shown = repr(read(file, text))
    assert "s3cretKey" not in shown
    assert HASH not in shown
    assert "johndoe" not in shown


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(ReloadError) as refused:
            read_config(path)
        assert str(refused.value) == f"cannot read {path}: {reason}"
    with pytest.raises(ReloadError, match="not a file"):
        read_config(Path("/dev/zero"))


def test_a_file_in_another_encoding_is_none(file: Path) -> None:
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ReloadError, match="is not a UTF-8 text file"):
        read_config(file)


# Whatever it holds

KEYS = st.sampled_from(
    [name for section in (WebConfig, TlsConfig, HttpConfig, RateLimit) for name in section.model_fields]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["", "TLS12", "1s", HASH, "RequireAndVerifyClientCert", "a.pem"])
    | st.sampled_from(["a\ud800", "\ud800", 10**400, "-----BEGIN PRIVATE KEY-----\nMIGH"])
    | st.dates()
    | st.binary(max_size=4)
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | SCALARS, inner, max_size=4),
    max_leaves=12,
)


def read_or_be_told(file: Path) -> str:
    try:
        return " ".join(WebConfigReloader(file).config.warnings())
    except ReloadError as refused:
        return str(refused)


@example(text='tls_server_config: {cert_file: "a\\ud800", key_file: b}')
@example(text='tls_server_config: {cert: "\\ud800", key: b}')
@example(text=f'basic_auth_users: {{"\\ud800": {HASH}}}')
@example(text=f"rate_limit: {{interval: 1s, burst: 1{'0' * 400}}}")
@given(text=TREES.map(lambda tree: yaml.dump(tree, allow_unicode=True)) | st.text(max_size=80))
def test_any_file_is_taken_or_refused_in_one_line(
    text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.getbasetemp() / "web.yml"
    file.write_bytes(text.encode(errors="surrogatepass"))
    told = read_or_be_told(file)
    assert told.isprintable()
    assert len(told) < 1_000


@pytest.mark.parametrize(
    "text", ["&a [*a]", "tls_server_config: &a {cert: *a}", "basic_auth_users: &a {b: *a}", "[" * 1_000]
)
def test_a_file_without_end_is_refused(file: Path, text: str) -> None:
    assert refusal(file, text)
