"""TLS to the API over real handshakes: whom it trusts, what it reloads, and what it says of certificates."""

import asyncio
import ipaddress
import socket
import ssl
import threading
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from exporter.cohere.client_tls import Authorities, ClientCertificate, TlsContexts
from exporter.cohere.connection_errors import ConnectionErrors
from exporter.cohere.transport import ConnectionTrace
from exporter.errors import ApiError
from exporter.runtime.reload import ReloadError
from tests.clients import open_client
from tests.programs import no_descriptors, program
from tools.ports import unused_port

pytestmark = pytest.mark.anyio

HOST = "127.0.0.1"
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
DAY = timedelta(days=1)
BROKEN = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


def server_context(authority: trustme.CA, *names: str, until: datetime | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*(names or (HOST,)), not_after=until).configure_cert(context)
    return context


def _serve(listener: socket.socket, context: ssl.SSLContext, answer: bytes) -> None:
    """Serve every connection; a server of asyncio would drop the alert of a handshake that fails."""
    with suppress(OSError):
        while True:
            accepted, _ = listener.accept()
            threading.Thread(target=_respond, args=(accepted, context, answer), daemon=True).start()


def _respond(accepted: socket.socket, context: ssl.SSLContext, answer: bytes) -> None:
    accepted.settimeout(60)
    with suppress(OSError), accepted:
        try:
            with context.wrap_socket(accepted.dup(), server_side=True) as stream:
                while stream.recv(65_536):
                    stream.sendall(answer)
        except ssl.SSLError:
            accepted.shutdown(socket.SHUT_WR)
            while accepted.recv(65_536):
                pass


@asynccontextmanager
async def serving(context: ssl.SSLContext, answer: bytes = GOOD) -> AsyncIterator[str]:
    """Answer each request with the same bytes; yield the base URL."""
    with socket.create_server((HOST, 0)) as listener:
        thread = threading.Thread(target=_serve, args=(listener, context, answer), daemon=True)
        thread.start()
        yield f"https://{HOST}:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


async def ask(client: httpx.AsyncClient) -> str:
    """Return the body, or what the exporter says of the failure and what to do."""
    trace = ConnectionTrace()
    try:
        response = await client.get("/v1", extensions={"trace": trace})
    except (httpx.HTTPError, OSError) as error:
        errors = ConnectionErrors(client.base_url)
        failure: ApiError = errors.failed(error, is_connected=trace.is_connected)
        return f"{failure}. {failure.advice}"
    return response.text


async def ask_once(url: str, *files: Authorities | ClientCertificate) -> str:
    async with open_client(url, *files) as client:
        return await ask(client)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def bundle(path: Path, *authorities: trustme.CA) -> Authorities:
    """Write a CA bundle, as tools that rotate it do: beside the old one, then in its place."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(b"# \xc5\x91 comment\n" + b"".join(one.cert_pem.bytes() for one in authorities))
    fresh.rename(path)
    return Authorities("--cohere.ca-file", (path,))


# Which CAs are trusted.


def test_the_flag_counts_before_the_environment_and_that_before_the_system(tmp_path: Path) -> None:
    environ = {"SSL_CERT_FILE": "/f", "SSL_CERT_DIR": "/d1:/d2"}
    assert Authorities.find(tmp_path, "--cohere.ca-file", environ).files == (tmp_path,)
    named = Authorities.find(None, "", environ)
    assert (named.origin, named.files, named.directories) == (
        "SSL_CERT_FILE",
        (Path("/f"),),
        (Path("/d1"), Path("/d2")),
    )
    assert Authorities.find(None, "", {"SSL_CERT_DIR": "/d"}).origin == "SSL_CERT_DIR"
    system = Authorities.find(None, "", {"SSL_CERT_FILE": ""})
    context = TlsContexts([system], on_reload=lambda *_: None).current()
    assert context.cert_store_stats()["x509_ca"] > 50


async def test_a_directory_needs_no_hash_links(authority: trustme.CA, tmp_path: Path) -> None:
    data = tmp_path / "..data"
    data.mkdir()
    authority.cert_pem.write_to_path(data / "ca.crt")
    (tmp_path / "ca.crt").symlink_to("..data/ca.crt")
    (tmp_path / "README").write_text("no certificate")
    (tmp_path / "broken.pem").write_text(BROKEN)
    (tmp_path / "gone.pem").symlink_to("nowhere")
    async with serving(server_context(authority)) as url:
        assert await ask_once(url, Authorities("SSL_CERT_DIR", (), (tmp_path,))) == "{}"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot read {file}: No such file or directory"),
        ("", "there is no certificate (PEM) in {file}"),
        ("-----BEGIN PRIVATE KEY-----\n", "there is no certificate (PEM) in {file}"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
            "a certificate in {file} is not valid",
        ),
    ],
)
def test_a_bundle_that_cannot_be_used_is_named(content: str | None, says: str, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ReloadError) as refused:
        TlsContexts([Authorities("SSL_CERT_FILE", (file,))], on_reload=lambda *_: None)
    assert str(refused.value) == f"SSL_CERT_FILE: {says.format(file=file)}"


def test_a_start_without_a_descriptor_left_names_the_file_that_was_to_be_opened(
    authority: trustme.CA, tmp_path: Path
) -> None:
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(file)
    with no_descriptors(), pytest.raises(ReloadError) as refused:
        TlsContexts([Authorities("SSL_CERT_FILE", (file,))], on_reload=lambda *_: None)
    assert str(refused.value) == f"SSL_CERT_FILE: cannot read {file}: Too many open files"


def test_a_directory_without_a_certificate_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReloadError, match="SSL_CERT_DIR: there is no certificate"):
        TlsContexts([Authorities("SSL_CERT_DIR", (), (tmp_path / "x",))], on_reload=lambda *_: None)


def test_a_key_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReloadError, match=r"SSLKEYLOGFILE: cannot write .*: No such file or directory"):
        TlsContexts([], key_log=str(tmp_path / "x" / "keys"), on_reload=lambda *_: None)


def test_a_key_log_that_fails_at_a_reload_is_blamed_on_no_single_file(
    authority: trustme.CA, tmp_path: Path
) -> None:
    parts, log = (bundle(tmp_path / "ca.pem", authority), issued(authority, tmp_path)), tmp_path / "keys"
    reloads: list[tuple[str, str | None]] = []
    contexts = TlsContexts(parts, key_log=str(log), on_reload=lambda *seen: reloads.append(seen))
    log.unlink()
    log.mkdir()
    issued(authority, tmp_path)
    contexts.current()
    said = f"SSLKEYLOGFILE: cannot write {log}: Is a directory"
    assert reloads == [("ca", said), ("client_cert", said)]


# Rotation.


async def test_a_rotated_bundle_is_used_without_a_restart(authority: trustme.CA, tmp_path: Path) -> None:
    file, after, reloads = tmp_path / "ca.pem", trustme.CA(), list[tuple[str, str | None]]()
    context = server_context(authority)
    async with serving(context) as url, open_client(url, bundle(file, authority), reloads=reloads) as client:
        assert await ask(client) == "{}"
        bundle(file, after)
        assert "signed by a CA that is not trusted here" in await ask(client)
        after.issue_cert(HOST).configure_cert(context)
        assert await ask(client) == "{}"
    assert reloads == [("ca", None)]


async def test_a_bundle_that_goes_bad_leaves_the_last_good_one(authority: trustme.CA, tmp_path: Path) -> None:
    file, reloads = tmp_path / "ca.pem", list[tuple[str, str | None]]()
    async with (
        serving(server_context(authority)) as url,
        open_client(url, bundle(file, authority), reloads=reloads) as client,
    ):
        file.write_text("")
        assert await ask(client) == "{}"
        assert await ask(client) == "{}"
        bundle(file, authority)
        assert await ask(client) == "{}"
    assert reloads == [("ca", f"--cohere.ca-file: there is no certificate (PEM) in {file}"), ("ca", None)]


def test_a_rotation_in_a_moment_without_descriptors_is_made_up_for(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.runtime.reload.RETRY_DELAY", 0.0)
    file, reloads = tmp_path / "ca.pem", list[tuple[str, str | None]]()
    contexts = TlsContexts([bundle(file, authority)], on_reload=lambda *seen: reloads.append(seen))
    before = contexts.current()
    bundle(file, trustme.CA())
    with no_descriptors():
        assert contexts.current() is before
    assert contexts.current() is not before
    assert reloads == [("ca", f"--cohere.ca-file: cannot read {file}: Too many open files"), ("ca", None)]


# What is said of certificates.


async def test_a_gateway_that_speaks_http2_only_refuses_the_handshake_and_is_named(
    authority: trustme.CA, tmp_path: Path
) -> None:
    """As RFC 7301, 3.2 asks of a server, by an alert for which Python's ssl has no name."""
    leaf, port = authority.issue_cert(HOST), unused_port()
    leaf.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    command = (
        "s_server",
        "-quiet",
        "-alpn",
        "h2",
        "-accept",
        f"{HOST}:{port}",
        "-cert",
        tmp_path / "server.pem",
    )
    server = await asyncio.create_subprocess_exec(
        program("openssl"), *map(str, command), stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL
    )
    try:
        said = "Connection refused"
        async with asyncio.timeout(60):
            while "Connection refused" in said:  # until it listens
                said = await ask_once(f"https://{HOST}:{port}", bundle(tmp_path / "ca.pem", authority))
        assert f"cannot connect to {HOST}:{port}: it speaks HTTP/2 only" in said
        assert "Have the gateway offer HTTP/1.1 as well as HTTP/2." in said
    finally:
        server.kill()
        await server.wait()


async def test_the_dot_of_an_absolute_name_is_not_looked_for_in_the_certificate(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str | None] = []
    context = server_context(authority, "gw.example.test")
    context.sni_callback = lambda _, name, __: names.append(name)
    real, asked = socket.getaddrinfo, list[object]()

    def look_up(host: object, *args: Any, **kwargs: Any) -> Any:
        asked.append(host)
        return real(HOST, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    async with serving(context) as url:
        dotted = url.replace(HOST, "gw.example.test.")
        assert await ask_once(dotted, bundle(tmp_path / "ca.pem", authority)) == "{}"
    assert names == ["gw.example.test"]
    assert asked[-1] in ("gw.example.test.", b"gw.example.test."), "an absolute name is looked up as such"


# Client certificates.


@pytest.fixture
def demanding(authority: trustme.CA) -> ssl.SSLContext:
    """A server's context that asks for a client certificate."""
    context = server_context(authority)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def issued(authority: trustme.CA, directory: Path) -> ClientCertificate:
    client = authority.issue_cert("exporter")
    client.cert_chain_pems[0].write_to_path(directory / "tls.crt")
    client.private_key_pem.write_to_path(directory / "tls.key")
    return ClientCertificate("--cohere.client-cert-file", directory / "tls.crt", directory / "tls.key")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_client_certificate_is_shown_and_its_absence_is_told(
    version: ssl.TLSVersion, authority: trustme.CA, demanding: ssl.SSLContext, tmp_path: Path
) -> None:
    demanding.maximum_version = version
    trusted = bundle(tmp_path / "ca.pem", authority)
    async with serving(demanding) as url:
        assert await ask_once(url, trusted, issued(authority, tmp_path)) == "{}"
        assert "--cohere.client-cert-file" in await ask_once(url, trusted)
        assert "client certificate" in await ask_once(url, trusted, issued(trustme.CA(), tmp_path))


async def test_a_renewed_client_certificate_is_shown_without_a_restart(
    authority: trustme.CA, demanding: ssl.SSLContext, tmp_path: Path
) -> None:
    trusted, reloads = bundle(tmp_path / "ca.pem", authority), list[tuple[str, str | None]]()
    certificate = issued(trustme.CA(), tmp_path)
    async with serving(demanding) as url, open_client(url, trusted, certificate, reloads=reloads) as client:
        assert "client certificate" in await ask(client)
        issued(authority, tmp_path)
        assert await ask(client) == "{}"
        (tmp_path / "tls.key").write_bytes(trustme.CA().issue_cert("x").private_key_pem.bytes())
        assert await ask(client) == "{}"
    assert reloads[:2] == [("ca", None), ("client_cert", None)]
    assert reloads[2][1] is not None
    assert "does not match the certificate" in reloads[2][1]


def test_a_client_key_that_is_encrypted_is_named_and_asks_nobody(
    authority: trustme.CA, tmp_path: Path
) -> None:
    certificate = issued(authority, tmp_path)
    key = serialization.load_pem_private_key(certificate.key.read_bytes(), None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"x"),
    )
    certificate.key.write_bytes(encrypted)
    with pytest.raises(ReloadError, match="is encrypted"):
        TlsContexts([certificate], on_reload=lambda *_: None)
    certificate.key.write_text("nothing")
    with pytest.raises(ReloadError, match="no certificate and key"):
        TlsContexts([certificate], on_reload=lambda *_: None)


# Flaws that only strict verification finds, on every version of Python.


def chain(directory: Path, *, critical: bool, with_akid: bool) -> tuple[Authorities, ssl.SSLContext]:
    """Make a CA and a server's context as old tools do: constraints not critical, no key identifiers."""

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    def builder(subject: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        made = x509.CertificateBuilder(issuer_name=name("corporate CA"), subject_name=name(subject))
        made = made.public_key(key.public_key()).serial_number(x509.random_serial_number())
        return made.not_valid_before(now - DAY).not_valid_after(now + DAY)

    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    identifier = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    ca = builder("corporate CA", ca_key).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical
    )
    ca = ca.add_extension(identifier, critical=False)
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
    )
    unused = dict.fromkeys((*names, "encipher_only", "decipher_only"), False)
    usage = x509.KeyUsage(key_cert_sign=True, crl_sign=True, **unused)
    leaf = builder("api", key).add_extension(
        x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), critical=False
    )
    if with_akid:
        akid = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
        leaf = leaf.add_extension(akid, critical=False)
    pem = serialization.Encoding.PEM
    bundle_file, leaf_file = directory / "ca.pem", directory / "leaf.pem"
    bundle_file.write_bytes(ca.add_extension(usage, True).sign(ca_key, hashes.SHA256()).public_bytes(pem))
    leaf_file.write_bytes(
        leaf.sign(ca_key, hashes.SHA256()).public_bytes(pem)
        + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(leaf_file)
    return Authorities("--cohere.ca-file", (bundle_file,)), context


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    monkeypatch.setattr(
        "exporter.cohere.client_tls.log.warning", lambda _, flaw: seen.append(flaw), raising=False
    )
    return seen


@pytest.mark.parametrize(
    ("critical", "with_akid", "flaw"),
    [
        (True, True, None),
        (True, False, "Missing Authority Key Identifier"),
        (False, True, "Basic Constraints of CA cert not marked critical"),
    ],
)
async def test_a_flawed_corporate_ca_is_accepted_with_a_warning(
    critical: bool, with_akid: bool, flaw: str | None, tmp_path: Path, warnings: list[str]
) -> None:
    trusted, context = chain(tmp_path, critical=critical, with_akid=with_akid)
    async with serving(context) as url, open_client(url, trusted) as client:
        assert await ask(client) == "{}"
        assert await ask(client) == "{}"
    assert warnings == ([flaw] if flaw else [])
