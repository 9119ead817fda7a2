"""Programs of the Prometheus family, run for real on a free port of the loopback while a test needs them."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from tests.clients import plain_client
from tests.programs import program, wait_for
from tools.ports import unused_port

Query: TypeAlias = Callable[[str], Awaitable[list[tuple[dict[str, str], float]]]]
"""A query of Prometheus → its series: labels, value."""


@asynccontextmanager
async def prometheus(folder: Path, config: Mapping[str, Any]) -> AsyncIterator[str]:
    """Run a Prometheus that keeps its data in `folder`; return its URL."""
    file = folder / "prometheus.yml"
    file.write_text(json.dumps(config))
    flags = (f"--config.file={file}", f"--storage.tsdb.path={folder}/prometheus")
    async with serving("prometheus", *flags) as url:
        yield url


@asynccontextmanager
async def scraping(folder: Path, *jobs: Mapping[str, Any]) -> AsyncIterator[Query]:
    """Run a Prometheus with these jobs, each once a second; return a function that asks it."""
    config = {"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}

    async def query(expression: str) -> list[tuple[dict[str, str], float]]:
        """Ask until there is an answer; return it without the labels that Prometheus adds."""
        async with asyncio.timeout(30):
            while not (result := await ask(url, expression)):  # noqa: ASYNC110 - other processes change it
                await asyncio.sleep(0.2)
        return [(_own(series["metric"]), float(series["value"][1])) for series in result]

    async with prometheus(folder, config) as url:
        yield query


async def ask(url: str, expression: str) -> list[dict[str, Any]]:
    """Return the series that answer a query at present."""
    async with plain_client() as client:
        answer = await client.post(f"{url}/api/v1/query", data={"query": expression})
    assert answer.status_code == 200, answer.text
    series: list[dict[str, Any]] = answer.json()["data"]["result"]
    return series


def target(url: str, name: str = "any", **options: Any) -> dict[str, Any]:
    """Write the job that scrapes an exporter at `url`."""
    parts = urlsplit(url)
    return {
        "job_name": name,
        "scheme": parts.scheme,
        "static_configs": [{"targets": [parts.netloc]}],
        **options,
    }


@asynccontextmanager
async def text_pages(page: Callable[[str], bytes]) -> AsyncIterator[str]:
    """Serve to scrapers what `page` gives for a path, in the text format; return the address."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            body = page(head.decode().split(" ", 2)[1])
            writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n\r\n" + body)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def _own(labels: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in labels.items() if name not in ("__name__", "instance", "job")}


def serving(name: str, *flags: str, port: int = 0) -> AbstractAsyncContextManager[str]:
    """Run a program of the Prometheus family, by its Debian name; yield its URL once it is ready."""
    return running(program(name), *flags, port=port)


def victoria(name: str, *flags: str) -> AbstractAsyncContextManager[str]:
    """Run a program of VictoriaMetrics; yield its URL once it is ready."""
    return running(program(name), *flags, listen="-httpListenAddr", ready="/health")


@asynccontextmanager
async def running(
    path: str, *flags: str, port: int = 0, listen: str = "--web.listen-address", ready: str = "/-/ready"
) -> AsyncIterator[str]:
    """Run a program of the Prometheus family; yield its URL once it is ready."""
    address = f"127.0.0.1:{port or unused_port()}"
    process = await asyncio.create_subprocess_exec(
        path, *flags, f"{listen}={address}", stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await wait_for(f"http://{address}{ready}")
        yield f"http://{address}"
    finally:
        process.kill()
        await process.wait()
