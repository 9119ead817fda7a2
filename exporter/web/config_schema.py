"""The web configuration as frozen values: exporter-toolkit's keys, defaults and names.

One file is to serve every exporter of a fleet, so nothing in it may be ignored here: what cannot be honoured
is refused, or named by `warnings`. A refusal never repeats a value: it may be a secret.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from exporter.web.tls_names import CLIENT_AUTH, CURVES, SUITES, TLS13_SUITES

_HASH = re.compile(r"\$2[aby]\$(?:0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")
_INTERVAL = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{0,9})?(?:ns|us|µs|ms|s|m|h))+")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_UNVERIFIED = ("RequireAnyClientCert", "RequireClientCert")  # the second is an old name of the first
# What may be set, and to what; no values: any. The list is the toolkit's.
_HEADERS: Mapping[str, tuple[str, ...]] = {
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
    "Content-Security-Policy": (),
}


def _path(value: object, info: ValidationInfo) -> Path | None:
    if value is None or isinstance(value, Path):
        return value
    if not isinstance(value, str) or "\0" in value:
        raise ValueError("must be the path of a file")
    # A path is shown in messages; a key put here by mistake must not be.
    if "\n" in value or "-----" in value:
        raise ValueError("must be the path of a file, not its content")
    # Relative to the directory of the file that names it, as in the toolkit.
    return (info.context or {}).get("directory", Path()) / value if value else None


def _interval(value: object) -> float:
    """Return the seconds of a duration as Go writes it."""
    text = value if isinstance(value, str) else ""  # of a list, aliases may have made an endless one
    if text == "0":
        return 0.0
    if not _INTERVAL.fullmatch(text):
        raise ValueError("must be a duration with a unit, such as 1s or 100ms; 0 is no limit")
    return sum(float(number) * _SECONDS[unit] for number, unit in re.findall(r"([0-9.]+)([a-zµ]+)", text))


def _suite(name: str) -> str:
    if name not in SUITES and name not in TLS13_SUITES:
        raise ValueError("is not one of the cipher suites that Go considers secure; see the documentation")
    return name


def _curve(name: str) -> str:
    if name not in CURVES:
        raise ValueError(f"must be one of {', '.join(CURVES)}")
    return name


def _client_auth(name: str) -> str:
    if name in _UNVERIFIED:
        raise ValueError(
            f"{name} cannot be served, because Python's TLS accepts no unverified certificate; "
            "set RequireAndVerifyClientCert and client_ca_file"
        )
    if name and name not in CLIENT_AUTH:
        raise ValueError(f"must be one of {', '.join(CLIENT_AUTH)}")
    return name or "NoClientCert"


def _user(name: str) -> str:
    if ":" in name:
        raise ValueError("a user name must not contain a colon: no client could send it")
    return name


def _hash(text: str) -> str:
    if not _HASH.fullmatch(text):
        raise ValueError(
            "must be a bcrypt hash as htpasswd -B writes it: $2y$, the cost, $ and 53 characters"
        )
    return text


_File = Annotated[Path | None, BeforeValidator(_path)]
_Version = Literal["TLS10", "TLS11", "TLS12", "TLS13"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: object) -> object:
        """Take a key without a value for one that is not there; an unknown one stays, to be refused."""
        if given is None:
            return {}
        if not isinstance(given, dict):
            return given
        return {
            key: value for key, value in given.items() if value is not None or key not in cls.model_fields
        }


class TlsConfig(_Section):
    """`tls_server_config`; TLS is served as soon as it has a key."""

    cert: str = ""
    key: str = Field(default="", repr=False)
    client_ca: str = ""
    cert_file: _File = None
    key_file: _File = None
    client_ca_file: _File = None
    client_auth_type: Annotated[str, AfterValidator(_client_auth)] = "NoClientCert"
    client_allowed_sans: tuple[str, ...] | None = None
    min_version: _Version = "TLS12"
    max_version: _Version = "TLS13"
    cipher_suites: tuple[Annotated[str, AfterValidator(_suite)], ...] = ()
    curve_preferences: tuple[Annotated[str, AfterValidator(_curve)], ...] = ()
    prefer_server_cipher_suites: bool = True

    @property
    def enabled(self) -> bool:
        """Whether TLS is served."""
        return bool(self.model_fields_set)

    @property
    def verifies(self) -> bool:
        """Whether the certificates of clients are verified."""
        return self.client_auth_type in ("VerifyClientCertIfGiven", "RequireAndVerifyClientCert")

    @property
    def requires(self) -> bool:
        """Whether nobody comes in without a verified certificate."""
        return self.client_auth_type == "RequireAndVerifyClientCert"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.enabled:
            self._check_files()
            self._check_clients()
            self._check_versions()
        return self

    def _check_files(self) -> None:
        for name in ("cert", "key", "client_ca"):
            if getattr(self, name) and getattr(self, f"{name}_file"):
                raise ValueError(f"{name} and {name}_file are both set; keep one")
        for name in ("cert", "key"):
            if not getattr(self, name) and not getattr(self, f"{name}_file"):
                raise ValueError(f"{name}_file (or {name}) is missing")

    def _check_clients(self) -> None:
        if (self.client_ca or self.client_ca_file) and self.client_auth_type == "NoClientCert":
            raise ValueError("a client CA needs a client_auth_type, such as RequireAndVerifyClientCert")
        if self.client_allowed_sans is None:
            return
        if not self.client_allowed_sans:
            raise ValueError("client_allowed_sans is empty and would admit nobody; add names or leave it out")
        if not self.verifies:
            raise ValueError("client_allowed_sans needs client_auth_type: RequireAndVerifyClientCert")

    def _check_versions(self) -> None:
        if self.max_version in ("TLS10", "TLS11"):
            raise ValueError("max_version must be TLS12 or TLS13: older versions are not served")
        if self.min_version > self.max_version:  # the names are in the order of the versions
            raise ValueError("min_version is above max_version")
        if self.max_version == "TLS12" and self.cipher_suites and TLS13_SUITES.issuperset(self.cipher_suites):
            raise ValueError("cipher_suites has no suite for TLS12, which max_version requires")


class HttpConfig(_Section):
    """`http_server_config`."""

    http2: bool = True
    headers: dict[str, str] = Field(default_factory=dict)

    @field_validator("headers", mode="before")
    @classmethod
    def _blank_is_unset(cls, headers: object) -> object:
        if not isinstance(headers, dict):
            return headers
        return {name: value for name, value in headers.items() if value or name not in _HEADERS}

    @field_validator("headers")
    @classmethod
    def _allowed(cls, headers: dict[str, str]) -> dict[str, str]:
        return {name: _header(name, value) for name, value in headers.items()}


def _header(name: str, value: str) -> str:
    if name not in _HEADERS:
        raise ValueError(f"only these can be set, in this spelling: {', '.join(_HEADERS)}")
    if _HEADERS[name] and value not in _HEADERS[name]:
        raise ValueError(f"{name} must be {' or '.join(_HEADERS[name])}")
    value = " ".join(value.split())  # folded text of YAML ends with a newline
    if not (value.isascii() and value.isprintable()):
        raise ValueError(f"{name} must be printable ASCII text")
    return value


class RateLimit(_Section):
    """`rate_limit`: `burst` requests at once and one more each `interval` seconds; 0 is no limit."""

    interval: Annotated[float, BeforeValidator(_interval)] = 0.0
    burst: int = Field(default=0, le=1_000_000_000)

    @model_validator(mode="after")
    def _lets_some_pass(self) -> Self:
        if self.interval and self.burst < 1:
            raise ValueError("burst must be at least 1; otherwise every request is refused")
        return self


class WebConfig(_Section):
    """The whole file."""

    tls_server_config: TlsConfig = TlsConfig()
    http_server_config: HttpConfig = HttpConfig()
    rate_limit: RateLimit = RateLimit()
    basic_auth_users: dict[Annotated[str, AfterValidator(_user)], Annotated[str, AfterValidator(_hash)]] = (
        Field(default_factory=dict, repr=False)
    )

    def warnings(self, *, local: bool = False) -> Iterator[str]:
        """Yield warnings of what may not work as intended; `local` when only this machine is served."""
        tls = self.tls_server_config
        if tls.min_version in ("TLS10", "TLS11"):
            yield "min_version: TLS 1.0 and 1.1 are not served; TLS 1.2 is the oldest"
        if len(tls.curve_preferences) > 1:
            yield "curve_preferences: only the first curve is used; Python's TLS supports only one"
        if tls.client_auth_type == "RequestClientCert":
            yield "client_auth_type: RequestClientCert admits everybody; no certificate is requested"
        if tls.verifies and not (tls.client_ca or tls.client_ca_file or tls.client_allowed_sans):
            yield "client_ca_file is missing: a certificate from any CA of the system admits a client"
        if self.basic_auth_users and not tls.enabled and not local:
            yield "basic_auth_users without tls_server_config: passwords cross the network in clear text"
