"""Clients that scrape: wrk for throughput, one with a fixed pace for how long a scrape takes."""

import asyncio
import re
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from tools.benchmarks.processes import find, run

TEXT = "text/plain;version=0.0.4"
PLAIN, GZIP = "plain", "gzip"
_ENCODINGS = {PLAIN: "identity", GZIP: "gzip"}


def headers(encoding: str) -> dict[str, str]:
    """Return the request headers of a scrape."""
    return {"Accept": TEXT, "Accept-Encoding": _ENCODINGS[encoding]}


def wrk(url: str, encoding: str, *, connections: int, seconds: int) -> float:
    """Return the scrapes a second that wrk gets from one thread; raise RuntimeError when any went wrong."""
    command = [find("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s"]
    for name, value in headers(encoding).items():
        command += ["-H", f"{name}: {value}"]
    told = run(*command, url)
    rate = re.search(r"Requests/sec:\s*([\d.]+)", told)
    if rate is None or re.search("Socket errors|Non-2xx", told):
        raise RuntimeError(f"wrk had trouble with {url}: {told}")
    return float(rate[1])


@dataclass(frozen=True, slots=True)
class Scrape:
    """How many seconds it took from when it was due, and how many bytes came."""

    seconds: float
    size: int


async def paced(url: str, encoding: str, *, rate: float, seconds: float) -> list[Scrape]:
    """Scrape `rate` times a second, whether or not the scrapes before have ended."""
    begin = time.monotonic()

    async def scrape(number: int) -> Scrape:
        due = begin + number / rate
        await asyncio.sleep(due - time.monotonic())
        size = await _get(url, encoding)
        return Scrape(time.monotonic() - due, size)

    return await asyncio.gather(*(scrape(number) for number in range(int(rate * seconds))))


async def _get(url: str, encoding: str) -> int:
    where = urlsplit(url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port, limit=1 << 22)
    wanted = "".join(f"{name}: {value}\r\n" for name, value in headers(encoding).items())
    writer.write(
        f"GET {where.path} HTTP/1.1\r\nHost: benchmark\r\nConnection: close\r\n{wanted}\r\n".encode()
    )
    answer = bytearray()
    while chunk := await reader.read(1 << 20):
        answer += chunk
    writer.close()
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(f"{url}: {bytes(answer[:40])!r}")
    return len(answer)
