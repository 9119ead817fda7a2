"""--web.config.file on the real process: a real Prometheus that is let in, and others that are not."""

import asyncio
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.certificates import HASH, PASSWORD, Authority
from tests.conftest import until
from tests.editions import every_edition_at_night
from tests.manifests import Manifest, exporter_of, with_components
from tests.monitoring import scraping, target
from tests.programs import Running, called, eventually, exporter
from tests.test_helm import LEAST, render
from tools.ports import unused_port

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

USER = "the-user-of-prometheus"
AUTH = (USER, PASSWORD)
TLS = "tls_server_config: {cert_file: server.pem, key_file: server.key}\n"
USERS = f"basic_auth_users: {{{USER}: {HASH}}}\n"
RELOADED = 'cohere_exporter_reload_successful{file="web_config"}'


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    authority = Authority(tmp_path)
    authority.issue("server", "localhost", "127.0.0.1")
    authority.issue("client", "prometheus")
    return authority


def job(name: str, running: Running, tls: dict[str, str], **options: Any) -> dict[str, Any]:
    return target(running.url, name, tls_config=tls, **options)


@every_edition_at_night
async def test_a_real_prometheus_comes_in_by_password_or_certificate_and_only_so(
    authority: Authority, tmp_path: Path
) -> None:
    passwords, certificates = tmp_path / "passwords.yml", tmp_path / "certificates.yml"
    passwords.write_text(TLS + USERS)
    certificates.write_text(
        TLS.replace("}", ", client_ca_file: ca.pem, client_auth_type: RequireAndVerifyClientCert}")
    )
    (tmp_path / "stranger").mkdir()
    strange = Authority(tmp_path / "stranger").issue("client", "prometheus")
    trusting, context = {"ca_file": str(authority.file)}, authority.trusting()
    mutual = authority.trusting((tmp_path / "client.pem", tmp_path / "client.key"))
    client = {"cert_file": str(tmp_path / "client.pem"), "key_file": str(tmp_path / "client.key")}
    stranger = {"cert_file": str(strange[0]), "key_file": str(strange[1])}
    login = {"username": USER, "password": PASSWORD}
    async with (
        exporter("demo", f"--web.config.file={passwords}", client={"verify": context, "auth": AUTH}) as one,
        exporter("demo", f"--web.config.file={certificates}", client={"verify": mutual}) as other,
        scraping(
            tmp_path,
            job("password", one, trusting, basic_auth=login),
            job("wrong password", one, trusting, basic_auth={**login, "password": "wrong"}),
            job("wrong user", one, trusting, basic_auth={**login, "username": "root"}),
            job("no password", one, trusting),
            job("no trust", one, {}, basic_auth=login),
            job("no TLS", one, {}, basic_auth=login, scheme="http"),
            job("certificate", other, {**trusting, **client}),
            job("no certificate", other, trusting),
            job("a stranger's certificate", other, {**trusting, **stranger}),
        ) as query,
    ):
        assert one.url.startswith("https://")
        await query("count(up) == 9")
        up = {labels["which"]: value for labels, value in await query(relabelled("up"))}
        assert {which for which, value in up.items() if value == 1} == {"password", "certificate"}
        assert [value for _, value in await query("count(cohere_up == 1)")] == [2.0]
        for running in (one, other):
            assert await running.stop(signal.SIGTERM) == 0
            assert not [event for event in running.events if event["level"] not in ("info", "warn")]
            seen = "".join(running.lines)
            assert not [secret for secret in (USER, PASSWORD, HASH) if secret in seen]


def relabelled(metric: str) -> str:
    """Keep the job's name where the query would take it away."""
    return f'label_replace({metric}, "which", "$1", "job", "(.*)")'


def by_helm(folder: Path) -> tuple[Manifest, ...]:
    return render({**LEAST, "web": {"tlsSecret": "certificate", "existingSecret": "passwords"}})


def by_kustomize(folder: Path) -> tuple[Manifest, ...]:
    return with_components(folder, {"own": ["tls"]})["own"]


async def test_the_kubelet_may_probe_a_pod_whose_pages_want_tls_and_a_password(
    authority: Authority, tmp_path: Path
) -> None:
    file = tmp_path / "web-config.yml"
    file.write_text(TLS + USERS)
    port = unused_port()  # in the place of the container's
    flags = (f"--web.config.file={file}", f"--web.probe-address=127.0.0.1:{port}")
    context = authority.trusting()
    async with (
        exporter("demo", *flags, client={"verify": context, "auth": AUTH}) as running,
        httpx.AsyncClient(trust_env=False, verify=context) as stranger,
    ):
        for way in (by_helm, by_kustomize):
            for path in probed(exporter_of(way(tmp_path))):
                assert (await stranger.get(f"http://127.0.0.1:{port}{path}")).status_code == 200
                assert (await stranger.get(running.url + path)).status_code == 401
        for path in ("/", "/metrics"):
            assert (await stranger.get(f"http://127.0.0.1:{port}{path}")).status_code == 404
            assert (await stranger.get(running.url + path)).status_code == 401


def probed(container: Manifest) -> Iterator[str]:
    """Yield the paths that the kubelet asks for, on the port of the probes, with neither TLS nor a header."""
    variables = {one["name"]: one["value"] for one in container["env"]}
    assert variables["COHERE_EXPORTER_WEB_CONFIG_FILE"] == "/run/secrets/web/web-config.yml"
    (named,) = (port["name"] for port in container["ports"] if port["containerPort"] == 10221)
    assert variables["COHERE_EXPORTER_WEB_PROBE_ADDRESS"] == ":10221"
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = container[probe]["httpGet"]
        assert asked.keys() == {"path", "port"}
        assert asked["port"] == named
        yield asked["path"]


async def test_renewed_certificates_new_users_and_broken_files_cost_no_scrape(
    authority: Authority, tmp_path: Path
) -> None:
    file = tmp_path / "web.yml"
    file.write_text(TLS + USERS)
    context = authority.trusting()
    client: dict[str, Any] = {"verify": context, "auth": AUTH}
    async with exporter("demo", f"--web.config.file={file}", client=client) as running:
        scrapes: list[int] = []
        stopping = asyncio.Event()

        async def scrape(*, keep_alive: bool) -> None:
            limits = httpx.Limits(max_keepalive_connections=int(keep_alive))
            async with httpx.AsyncClient(trust_env=False, limits=limits, verify=context, auth=AUTH) as http:
                while not stopping.is_set():
                    scrapes.append((await http.get(f"{running.url}/metrics")).status_code)

        async def more_scrapes(number: int) -> None:
            enough = len(scrapes) + number
            await until(lambda: len(scrapes) >= enough, seconds=60)

        async def change_and_wait(change: Any, events: int) -> None:
            change()
            await until(lambda: len(reloads(running)) == events, seconds=60)

        scraping = [asyncio.create_task(scrape(keep_alive=keep)) for keep in (True, False)]
        await more_scrapes(10)
        await change_and_wait(lambda: replace(file, TLS + USERS + f"  # {USER}\n"), 1)
        await change_and_wait(lambda: replace(file, "tls_server_config: [\n"), 2)
        await change_and_wait(lambda: replace(file, TLS + USERS.replace("}", f", another: {HASH}}}")), 3)
        await change_and_wait(lambda: replace(file, USERS), 4)
        await change_and_wait(lambda: replace(file, TLS + USERS), 5)
        for _ in range(10):  # certificate and key are two files: between the two, some of these fail
            authority.issue("server", "localhost", "127.0.0.1", "renewed")
            await more_scrapes(2)
        await more_scrapes(10)
        stopping.set()
        await asyncio.gather(*scraping)

        assert set(scrapes) == {200}
        async with httpx.AsyncClient(trust_env=False, **client) as http:

            async def shown() -> bool:
                return f"{RELOADED} 1.0\n" in (await http.get(f"{running.url}/metrics")).text

            await eventually(shown)
            certificate = await served_certificate(running, context)
        assert ("DNS", "renewed") in certificate["subjectAltName"]
        assert await running.stop(signal.SIGTERM) == 0
    seen = "".join(running.lines)
    assert not [secret for secret in (USER, PASSWORD, HASH) if secret in seen]


def replace(file: Path, text: str) -> None:
    fresh = file.with_suffix(".new")
    fresh.write_text(text)
    fresh.rename(file)


def reloads(running: Running) -> list[str]:
    return [
        event["msg"] for event in running.events if re.search("web configuration.* reloaded", event["msg"])
    ]


async def served_certificate(running: Running, context: Any) -> dict[str, Any]:
    url = urlsplit(running.url)
    _, writer = await asyncio.open_connection(url.hostname, url.port, ssl=context)
    certificate: dict[str, Any] = writer.get_extra_info("peercert")
    writer.transport.abort()
    return certificate


BAD_FILES = {
    "": "bad.yml: No such file or directory",
    "tls_server_config: {cert_file: server.pem, key_file: client.key}": "does not match the certificate",
    f"basic_auth_users: {{{USER}: {PASSWORD}}}": "line 1: basic_auth_users: must be a bcrypt hash",
}


@pytest.mark.parametrize(("text", "words"), BAD_FILES.items())
def test_a_file_that_cannot_be_used_is_one_line_and_exit_code_2(
    text: str, words: str, authority: Authority
) -> None:
    file = authority.directory / "bad.yml"
    if text:
        file.write_text(text)
    flags = ("--cohere.base-url=http://127.0.0.1:9", "--web.listen-address=127.0.0.1:0")
    code, out, err = called(*flags, f"--web.config.file={file}")
    assert (code, out, len(err.splitlines())) == (2, "", 1), err
    assert err.startswith("cohere-finetune-exporter: --web.config.file: ")
    assert f"{authority.directory}/" in err
    assert words in err
    assert not [secret for secret in (USER, PASSWORD) if secret in err]
