"""`tls_server_config` → what a connection needs: OpenSSL's context and the names that clients may have.

What is served is what the file asks for or stricter, never less. Certificates and keys are read once and
handed to OpenSSL as they were read. On Linux that happens in memory, so an inline key touches no disk.
"""

import ipaddress
import os
import ssl
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporter.runtime.reload import ReadFile, ReloadError, read_file
from exporter.web.config_schema import TlsConfig
from exporter.web.tls_names import CLIENT_AUTH, CURVES, SUITES, VERSIONS

_SANS = ("DNS", "IP Address", "email", "URI")  # those that Go compares
_MEMORY = "/dev/shm"  # noqa: S108 - files of random names
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class Tls:
    """How connections are encrypted; `allowed_sans` is None when every verified client may come in."""

    context: ssl.SSLContext
    allowed_sans: frozenset[str] | None = None

    def admits(self, certificate: Mapping[str, Any] | None) -> bool:
        """Return whether a client with this verified certificate, as `getpeercert` gives it, may come in."""
        expiry = (certificate or {}).get("notAfter")
        if expiry and ssl.cert_time_to_seconds(expiry) < time.time():
            return False  # OpenSSL looks at it in a full handshake, not when a session is resumed
        if self.allowed_sans is None:
            return True
        return any(
            entry[0] in _SANS and _san(*entry) in self.allowed_sans
            for entry in (certificate or {}).get("subjectAltName", ())
        )


def open_tls(config: TlsConfig, read: ReadFile = read_file) -> Tls:
    """Build what the configuration asks for; raise ReloadError when a file of it cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    context.minimum_version = VERSIONS.get(config.min_version, ssl.TLSVersion.TLSv1_2)
    context.maximum_version = VERSIONS[config.max_version]
    _choose_ciphers(context, config)
    _load_certificate(context, config, read)
    context.verify_mode = CLIENT_AUTH[config.client_auth_type]
    if config.verifies:
        _load_client_ca(context, config, read)
    sans = config.client_allowed_sans
    return Tls(context, None if sans is None else frozenset(map(_canonical, sans)))


def _choose_ciphers(context: ssl.SSLContext, config: TlsConfig) -> None:
    if not config.prefer_server_cipher_suites:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    if suites := [SUITES[name] for name in config.cipher_suites if name in SUITES]:
        context.set_ciphers(":".join(suites))
    elif config.cipher_suites:
        context.minimum_version = ssl.TLSVersion.TLSv1_3  # all that was named is of TLS 1.3
    if config.curve_preferences:
        context.set_ecdh_curve(CURVES[config.curve_preferences[0]])


def _load_certificate(context: ssl.SSLContext, config: TlsConfig, read: ReadFile) -> None:
    certificate = _pem(config.cert, config.cert_file, read)
    key = _pem(config.key, config.key_file, read)
    where = f"{config.cert_file or 'cert'} and {config.key_file or 'key'}"
    if _CERTIFICATE not in certificate:
        raise ReloadError(f"{config.cert_file or 'cert'}: holds no certificate in PEM format")
    if b"PRIVATE KEY-----" not in key:
        raise ReloadError(f"{config.key_file or 'key'}: holds no private key in PEM format")
    try:
        with _as_file(certificate) as certificate_file, _as_file(key) as key_file:
            context.load_cert_chain(certificate_file, key_file, password=_no_password)
    except _Encrypted:
        raise ReloadError(f"{config.key_file or 'key'}: is encrypted; give it without a password") from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ReloadError(f"{where}: the key does not match the certificate") from None
        raise ReloadError(f"{where}: OpenSSL cannot use them: {_reason(error)}") from None


def _load_client_ca(context: ssl.SSLContext, config: TlsConfig, read: ReadFile) -> None:
    if not config.client_ca and not config.client_ca_file:
        context.load_default_certs(ssl.Purpose.CLIENT_AUTH)  # as Go does
        return
    # As in Go, an intermediate or the client's own certificate may stand here, not only a root.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    where = config.client_ca_file or "client_ca"
    content = _pem(config.client_ca, config.client_ca_file, read)
    if _CERTIFICATE not in content:
        raise ReloadError(f"{where}: holds no certificate in PEM format")
    try:
        # What stands around the certificates may be in any encoding.
        context.load_verify_locations(cadata=content.decode("ascii", "replace").replace("\ufffd", "?"))
    except ssl.SSLError as error:
        raise ReloadError(f"{where}: OpenSSL cannot use it: {_reason(error)}") from None


def _pem(inline: str, file: Path | None, read: ReadFile) -> bytes:
    return inline.encode() if file is None else read(file)


class _Encrypted(Exception):
    """A key wants a password."""


def _no_password() -> str:
    raise _Encrypted  # OpenSSL would ask the terminal


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """Yield the path of a file with this content, because OpenSSL reads only files."""
    if sys.platform == "linux" and Path("/proc/self/fd").exists():
        descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            yield f"/proc/self/fd/{descriptor}"
    else:  # only the owner may read what is made here
        with tempfile.NamedTemporaryFile(dir=_MEMORY if Path(_MEMORY).is_dir() else None) as file:
            file.write(content)
            file.flush()
            yield file.name


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or "not valid PEM").lower().replace("_", " ")


def _san(kind: str, name: str) -> str:
    return _canonical(name) if kind == "IP Address" else name


def _canonical(name: str) -> str:
    """Return an IP address in its one canonical form, as Go compares them, and any other name as it is."""
    try:
        return str(ipaddress.ip_address(name.strip()))
    except ValueError:
        return name
