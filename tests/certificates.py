"""Certificates made for a test, and the web configuration files that name them."""

import ssl
from datetime import datetime
from pathlib import Path

import trustme

PASSWORD = "a-password"
# A bcrypt hash of it, at the lowest cost there is.
HASH = "$2b$04$AAAAAAAAAAAAAAAAAAAAAORHk2Z2A02NhI8iWTxWarbu96ONeCLrO"


class Authority:
    """A CA with the files of a server and its clients under `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._ca = trustme.CA()
        self.file = directory / "ca.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def issue(self, name: str, *identities: str, expiry: datetime | None = None) -> tuple[Path, Path]:
        """Write `name`.pem and `name`.key for these identities; return their paths."""
        issued = self._ca.issue_cert(*identities, not_after=expiry)
        certificate, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        # As those who renew certificates do: beside the old one, then in its place.
        for path, content in ((certificate, chain(issued)), (key, issued.private_key_pem.bytes())):
            fresh = path.with_suffix(path.suffix + ".new")
            fresh.write_bytes(content)
            fresh.rename(path)
        return certificate, key

    def trusting(self, client: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        """Return a client's context that trusts this CA, with the client's own certificate if it has one."""
        context = ssl.create_default_context(cafile=str(self.file))
        if client:
            context.load_cert_chain(*client)
        return context


def chain(issued: trustme.LeafCert) -> bytes:
    """Return a certificate and what leads to its CA."""
    return b"".join(blob.bytes() for blob in issued.cert_chain_pems)
