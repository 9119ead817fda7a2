"""TLS to the API: whom it trusts and which client certificate it shows, read again when their files change.

A context is whole or not made at all: when a file cannot be used, the last good context stays in use. It
verifies as OpenSSL does at its strictest, whatever the version of Python; a certificate that only this
strictness refuses is accepted with a warning that names its flaw, as curl accepts it without.
"""

import os
import re
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import certifi
import structlog

from exporter.runtime.reload import ReadFile, Reloader, ReloadError

log = structlog.stdlib.get_logger(__name__)

KEY_LOG = "SSLKEYLOGFILE"
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
# Where the systems keep the bundle that curl and Go read.
_SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # macOS, BSD
)
# What X509_V_FLAG_X509_STRICT alone finds (OpenSSL's x509_vfy.h): a CA whose constraints are not critical, a
# missing key identifier, and the like.
_STRICT_ONLY = range(79, 95)


@dataclass(frozen=True, slots=True)
class Authorities:
    """The CAs that are trusted: those in `files`, and in whatever files `directories` hold.

    Reloads are counted under `name`; messages say that the files were named by `origin`.
    """

    origin: str
    files: tuple[Path, ...] = ()
    directories: tuple[Path, ...] = ()
    name: str = "ca"

    @classmethod
    def find(cls, file: Path | None, origin: str, environ: Mapping[str, str]) -> "Authorities":
        """Return those of `file`, else of SSL_CERT_FILE and SSL_CERT_DIR, else of the system."""
        if file:
            return cls(origin, (file,))
        files = tuple(map(Path, filter(None, [environ.get("SSL_CERT_FILE", "")])))
        directories = tuple(map(Path, filter(None, environ.get("SSL_CERT_DIR", "").split(os.pathsep))))
        if files or directories:
            return cls("SSL_CERT_FILE" if files else "SSL_CERT_DIR", files, directories)
        bundles = [path for path in map(Path, _SYSTEM_BUNDLES) if path.is_file()]
        return cls("the system's CA bundle", (next(iter(bundles), Path(certifi.where())),))

    def load(self, context: ssl.SSLContext, read: ReadFile) -> None:
        """Load every certificate; skip a file of a directory that cannot be read or parsed, as Go does."""
        for file in self.files:
            pems = _PEM.findall(_read(file, self.origin, read))
            if not pems:
                raise ReloadError(f"{self.origin}: there is no certificate (PEM) in {file}")
            try:
                _trust(context, pems)
            except ssl.SSLError:
                raise ReloadError(f"{self.origin}: a certificate in {file} is not valid") from None
        for file in self._found(read):
            with suppress(ReloadError, ssl.SSLError):
                _trust(context, _PEM.findall(read(file)))
        if not context.cert_store_stats()["x509"]:
            names = ", ".join(map(str, self.directories))
            raise ReloadError(f"{self.origin}: there is no certificate (PEM) in {names}")

    def _found(self, read: ReadFile) -> Iterator[Path]:
        for directory in self.directories:
            with suppress(ReloadError):
                read(directory)  # in vain, but a file that comes or goes is seen from now on
            with suppress(OSError):
                yield from sorted(path for path in directory.iterdir() if path.is_file())


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """The certificate that the API is shown if it asks, and its key, which may be in the same file."""

    origin: str
    certificate: Path
    key: Path
    name: str = "client_cert"

    def load(self, context: ssl.SSLContext, read: ReadFile) -> None:
        """Load both; raise ReloadError."""
        for file in (self.certificate, self.key):
            _read(file, self.origin, read)  # to know which of them cannot be read
        try:
            context.load_cert_chain(self.certificate, self.key, password=self._no_password)
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                what = f"the key in {self.key} does not match the certificate in {self.certificate}"
            else:
                what = f"no certificate and key (PEM) in {self.certificate} and {self.key}"
            raise ReloadError(f"{self.origin}: {what}") from None

    def _no_password(self) -> str:
        raise ReloadError(f"{self.origin}: the key in {self.key} is encrypted; give it without a password")


TlsFiles = Authorities | ClientCertificate


class TlsContexts:
    """The context for new connections: another one once a file has changed.

    `on_reload` is called with the name of each part that was read again, and why it cannot be used, if so.
    """

    def __init__(
        self,
        parts: Sequence[TlsFiles],
        *,
        key_log: str = "",
        on_reload: Callable[[str, str | None], None],
    ) -> None:
        """Read the files; raise ReloadError."""
        self._parts = parts
        self._key_log = key_log
        self._on_reload = on_reload
        self._loading: Sequence[str] = ()  # the names of parts
        self._reloader = Reloader(self._load, self._report)

    def current(self) -> ssl.SSLContext:
        """Return the context for a new connection, the files read again if they have changed."""
        return self._reloader.current()

    def tolerates(self, error: ssl.SSLCertVerificationError) -> bool:
        """Return whether the certificate that was refused is accepted after all, from now on."""
        if error.verify_code not in _STRICT_ONLY:
            return False
        context = self._reloader.value
        if context.verify_flags & ssl.VERIFY_X509_STRICT:
            log.warning("the API's certificate chain is flawed but accepted", flaw=error.verify_message)
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return True

    def _load(self, read: ReadFile) -> ssl.SSLContext:
        self._loading = names = [part.name for part in self._parts]
        context = self._new_context()
        for part in self._parts:
            self._loading = [part.name]
            part.load(context, read)
        self._loading = names
        return context

    def _report(self, error: str | None) -> None:
        for name in self._loading:
            self._on_reload(name, error)

    def _new_context(self) -> ssl.SSLContext:
        context = _Context(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # An intermediate CA may be trusted by itself, as in curl and Go.
        context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
        if self._key_log:
            try:
                context.keylog_filename = self._key_log
            except OSError as error:
                raise ReloadError(f"{KEY_LOG}: cannot write {self._key_log}: {error.strerror}") from None
        return context


class _Context(ssl.SSLContext):
    """Ask for a host, and verify it, without the dot that ends an absolute name: certificates have none."""

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Wrap two buffers, as the base class does."""
        if isinstance(server_hostname, bytes):
            server_hostname = server_hostname.decode("ascii")
        server_hostname = server_hostname and server_hostname.removesuffix(".")
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)


def _trust(context: ssl.SSLContext, pems: Sequence[bytes]) -> None:
    if pems:
        context.load_verify_locations(cadata=b"\n".join(pems).decode("ascii", "replace"))


def _read(file: Path, origin: str, read: ReadFile) -> bytes:
    try:
        return read(file)
    except ReloadError as error:
        raise ReloadError(f"{origin}: {error}") from None
