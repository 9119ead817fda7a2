"""The way to the API, as settings and environment describe it: its URL, a proxy, and the files of TLS.

What cannot be used is a SettingsError that names the option or variable.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import httpx

from exporter.cohere.client_tls import KEY_LOG, Authorities, ClientCertificate, TlsContexts, TlsFiles
from exporter.cohere.http import parse_base_url
from exporter.cohere.proxies import Proxy, UnusableProxy, proxy_for
from exporter.reloads import Reloads
from exporter.runtime.reload import ReloadError
from exporter.settings import Settings, SettingsError


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where requests go, through which proxy, and the files that TLS on this way is made of."""

    base_url: httpx.URL
    proxy: Proxy | None
    files: Sequence[TlsFiles]
    key_log: str

    def open_tls(self, reloads: Reloads) -> TlsContexts:
        """Read the files; `reloads` hears of it, and of every reload."""
        try:
            contexts = TlsContexts(self.files, key_log=self.key_log, on_reload=reloads.tls)
        except ReloadError as error:
            raise SettingsError(str(error)) from None
        for part in self.files:
            reloads.loaded(part.name)
        return contexts


def find_upstream(settings: Settings, environ: Mapping[str, str]) -> Upstream:
    """Return the way to the API."""
    try:
        base_url = parse_base_url(settings.cohere.base_url)
    except ValueError as error:
        raise SettingsError(f"{settings.origin('cohere.base-url')}: {error}") from None
    try:
        proxy = proxy_for(base_url, environ)
    except UnusableProxy as error:
        raise SettingsError(str(error)) from None
    is_encrypted = "https" in (base_url.scheme, proxy and proxy.url.scheme)
    files = tuple(_tls_files(settings, environ, is_encrypted=is_encrypted))
    return Upstream(base_url, proxy, files, environ.get(KEY_LOG, ""))


def _tls_files(settings: Settings, environ: Mapping[str, str], *, is_encrypted: bool) -> Iterator[TlsFiles]:
    """Yield the files that TLS needs; those that are named are checked in any case."""
    cohere = settings.cohere
    if is_encrypted or cohere.ca_file:
        yield Authorities.find(cohere.ca_file, settings.origin("cohere.ca-file"), environ)
    if certificate := cohere.client_cert_file:
        key = cohere.client_key_file or certificate
        yield ClientCertificate(settings.origin("cohere.client-cert-file"), certificate, key)
