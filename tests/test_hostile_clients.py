"""The real process among clients that mean no good: a good scraper beside them is served throughout."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import httpx
import pytest

from exporter.simulator import at_rest
from tests.certificates import Authority
from tests.conftest import until
from tests.hostile_clients import ATTACKS
from tests.programs import KEY, ROOT, Running, environment, exporter, simulated_api

pytestmark = [
    pytest.mark.slow,
    pytest.mark.anyio,
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="memory and sockets are read from /proc"),
]

MODELS = 1_500  # an exposition of 4 MB
SCRAPES = 4  # one of each kind
EVERY = 0.1  # seconds
PATIENCE = 10.0  # seconds, as Prometheus has; without other load, answers come within one
MEMORY = 64 * 1024  # KiB that all attacks together may add
TOGETHER = "leave,pipeline"  # so few that there is room for all
BEYOND = ("silent,loris", "scrape", "trickle,sip")  # more than there is room for
WITHIN_TLS = ("silent,hello", "loris+tls,pipeline+tls,trickle+tls")


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def serving(models: int, *arguments: str, **options: Any) -> AsyncIterator[Running]:
    async with (
        simulated_api(jobs=at_rest(models, rows=0)) as (_, url),
        exporter(
            "serve",
            f"--cohere.base-url={url}",
            "--cohere.page-size=1000",
            "--poll.interval=1h",
            "--models.limit=0",
            "--metrics.exclude=cohere_finetuned_model_(training|step)_.*",  # else each model is asked for
            *arguments,
            environ={"COHERE_API_KEY": KEY},
            **options,
        ) as running,
    ):
        yield running


@pytest.fixture(scope="module")
async def plain(anyio_backend: str) -> AsyncIterator[Running]:
    async with serving(MODELS) as running:
        await Scraper(running, MODELS).scrape(4)
        yield running


class Scraper:
    """A scraper as Prometheus is one, that takes all kinds of answers in turn."""

    def __init__(self, running: Running, models: int, **client: Any) -> None:
        self._url = f"{running.url}/metrics"
        self._models = models
        self._client: dict[str, Any] = {"trust_env": False, "timeout": PATIENCE, **client}

    async def scrape(self, count: int, *, refusable: bool = False) -> None:
        """Scrape, and demand that each answer is good and whole; `refusable` ones may have to come again."""
        kinds = cycle((encoding, close) for close in (False, True) for encoding in ("gzip", "identity"))
        async with httpx.AsyncClient(**self._client) as kept:
            for encoding, close in islice(kinds, count):
                async with asyncio.timeout(PATIENCE):
                    status, body = await self._get(None if close else kept, encoding)
                    while refusable and status == 503:
                        await asyncio.sleep(EVERY)
                        status, body = await self._get(None if close else kept, encoding)
                assert status == 200, (encoding, close, body)
                assert body.count(b"\ncohere_finetuned_model_info{") == self._models
                await asyncio.sleep(EVERY)

    async def is_served(self) -> bool:
        """Return whether there is room for a scrape."""
        return (await self._get(None, "gzip"))[0] == 200

    async def _get(self, kept: httpx.AsyncClient | None, encoding: str) -> tuple[int, bytes]:
        headers = {"Accept-Encoding": encoding}
        if kept:
            try:
                answer = await kept.get(self._url, headers=headers)
            except (httpx.ReadError, httpx.RemoteProtocolError):
                pass  # the connection was idle and had to give way; Go's client, too, takes a new one
            else:
                return answer.status_code, answer.content
        async with httpx.AsyncClient(**self._client) as client:
            try:
                answer = await client.get(self._url, headers={**headers, "Connection": "close"})
            except (httpx.ReadError, httpx.RemoteProtocolError):
                return 503, b"evicted"  # with its response in flight; as good as refused
            return answer.status_code, answer.content


@asynccontextmanager
async def attacked(running: Running, names: str) -> AsyncIterator[dict[str, dict[str, int]]]:
    """Let hostile clients at the exporter meanwhile; return what befell those of each attack, at its end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.hostile_clients", names, running.url.rsplit(":", 1)[1]),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=environment(None),
        cwd=ROOT,
    )
    assert process.stdin
    assert process.stdout
    tallies: dict[str, dict[str, int]] = {}
    try:
        async with asyncio.timeout(60):
            assert await process.stdout.readline() == b"under way\n"
        yield tallies
        process.stdin.close()
        async with asyncio.timeout(60):
            tallies |= json.loads(await process.stdout.read())
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def descriptors(running: Running) -> int:
    return len(list(Path(f"/proc/{running.process.pid}/fd").iterdir()))


def peak(running: Running) -> int:
    """Return the most memory, in KiB, that the process has had since it was last asked to forget it."""
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


async def until_served(scraper: Scraper) -> None:
    """Wait until slow clients are known as such, which takes a moment."""
    async with asyncio.timeout(PATIENCE):
        while not await scraper.is_served():  # noqa: ASYNC110 - another process makes it so
            await asyncio.sleep(EVERY)


async def stands(running: Running, scraper: Scraper, attacks: str) -> dict[str, dict[str, int]]:
    """Demand that a good scraper is served beside attacks, and that nothing is left of them afterwards."""
    before, lines = descriptors(running), len(running.lines)
    async with attacked(running, attacks) as tallies:
        await until_served(scraper)
        # Where more scrape at once than may, a place that a slow one leaves may go to the next that comes.
        is_crowded = any(name in attacks for name in ("scrape", "trickle", "sip"))
        await scraper.scrape(SCRAPES, refusable=is_crowded)
    await until(lambda: descriptors(running) <= before, 30)
    await scraper.scrape(1)
    assert running.lines[lines:] == []
    for name, tally in tallies.items():
        attack, _, tls = name.partition("+")
        assert tally["came"] >= ATTACKS[attack][1] // (10 if tls else 1)
    return tallies


@pytest.fixture(scope="module")
def at_first(plain: Running) -> int:
    return peak(plain)


def test_every_attack_takes_place() -> None:
    names = ",".join((TOGETHER, *BEYOND, *WITHIN_TLS)).split(",")
    assert {name.partition("+")[0] for name in names} == set(ATTACKS)


@pytest.mark.parametrize("attacks", [TOGETHER, *BEYOND])
async def test_a_good_scraper_is_served_beside(attacks: str, plain: Running, at_first: int) -> None:
    tallies = await stands(plain, Scraper(plain, MODELS), attacks)
    assert peak(plain) < at_first + MEMORY
    # How many come at once, and so whether one is refused, is for a busy machine to say.
    assert attacks != "scrape" or tallies["scrape"]["200"]


# TLS


@pytest.fixture(scope="module")
async def encrypted(
    anyio_backend: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Running, Scraper]]:
    directory = tmp_path_factory.mktemp("tls")
    authority = Authority(directory)
    authority.issue("server", "localhost", "127.0.0.1")
    config = directory / "web.yml"
    config.write_text("tls_server_config: {cert_file: server.pem, key_file: server.key}\n")
    client = {"verify": authority.trusting()}
    async with serving(1_000, f"--web.config.file={config}", client=client) as running:
        scraper = Scraper(running, 1_000, **client)
        await scraper.scrape(4)
        yield running, scraper


@pytest.mark.parametrize("attacks", WITHIN_TLS)
async def test_a_good_scraper_is_served_within_tls_beside(
    attacks: str, encrypted: tuple[Running, Scraper]
) -> None:
    running, scraper = encrypted
    await stands(running, scraper, attacks)
    assert peak(running) < 128 * 1024  # what the manifests grant
