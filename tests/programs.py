"""Programs beside Python that a test may want, and the exporter itself as a process of its own."""

import asyncio
import io
import json
import os
import resource
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

import httpx
import pytest

from exporter.cli import main
from exporter.demo import serve_api
from exporter.simulator import Simulator
from exporter.web.server import listen
from tests import editions
from tests.clients import plain_client

ROOT = Path(__file__).parents[1]
KEY = "a-key-that-nobody-may-see"
at_night = pytest.mark.skipif("NIGHTLY" not in os.environ, reason="`make nightly` runs it")
"""Marks what takes long where others of its kind run by day."""


def program(name: str) -> str:
    """Return the path of a program; skip the test where it is missing, fail it where all tests are required.

    Of a program of the Prometheus family it is the edition that the test runs for (see `editions`).
    """
    path = editions.path(name)
    return path if path is not None else missing(f"{name} ({editions.describe(name)}) is not installed")


def missing(reason: str) -> NoReturn:
    """Skip the test for what this machine does not have; fail it where all tests are required."""
    if os.environ.get("REQUIRE_ALL_TESTS"):
        pytest.fail(f"{reason}, and REQUIRE_ALL_TESTS is set")
    pytest.skip(reason)


@asynccontextmanager
async def simulated_api(**options: Any) -> AsyncIterator[tuple[Simulator, str]]:
    """Serve a simulated API that takes `KEY`; return it and its base URL."""
    simulator = Simulator(api_key=KEY, **options)
    async with serve_api(simulator, listen("127.0.0.1", 0)) as server:
        yield simulator, f"http://127.0.0.1:{server.port}"


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Leave this process without a free descriptor."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 2, hard))
    held = []
    try:
        while True:
            held.append(os.dup(0))
    except OSError:
        yield
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def run(
    *command: str, stdin: bytes = b"", environ: Mapping[str, str] | None = None
) -> tuple[int, str, str]:
    """Run a command to its end; return exit code, standard output and standard error."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(environ),
        cwd=ROOT,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate(stdin)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def called(*arguments: str, **environ: str) -> tuple[int, str, str]:
    """Run a command of the exporter within this process; return exit code, standard output and error."""
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.dict(os.environ, environment(environ), clear=True),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        code = main(arguments, os.environ)
    return code, out.getvalue(), err.getvalue()


@dataclass
class Running:
    """The exporter as a process: where it serves, and what it logs."""

    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)
    url: str = ""

    @property
    def events(self) -> list[dict[str, Any]]:
        """The log lines, parsed."""
        return [_event(line) for line in self.lines]

    async def stop(self, signal_number: int) -> int:
        """Send a signal; return the exit code, which must come within ten seconds: its own limit is four."""
        self.process.send_signal(signal_number)
        async with asyncio.timeout(10):
            return await self.process.wait()


def _event(line: str) -> dict[str, Any]:
    try:
        event: dict[str, Any] = json.loads(line)
    except ValueError:
        pytest.fail(f"a line of the log is no JSON: {line!r}")
    return event


@asynccontextmanager
async def exporter(
    *arguments: str, environ: Mapping[str, str] | None = None, client: Mapping[str, Any] | None = None
) -> AsyncIterator[Running]:
    """Run `python -m exporter` on a free port of the loopback, and wait until it is ready.

    `client` is what httpx needs to know to be let in.
    """
    async with started(*arguments, environ=environ) as running:
        await wait_for_line(running, "serving")
        running.url = next(event["url"] for event in running.events if event["msg"] == "serving").rstrip("/")
        await wait_for(f"{running.url}/-/ready", client=client)
        yield running


@asynccontextmanager
async def started(
    *arguments: str, environ: Mapping[str, str] | None = None, **options: Any
) -> AsyncIterator[Running]:
    """Run the exporter and read its log, without waiting for anything; `options` are those of the process."""
    flags = ("--web.listen-address=127.0.0.1:0", "--log.format=json")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "exporter", *arguments, *(() if "check" in arguments else flags)),
        **{"stdout": asyncio.subprocess.DEVNULL, "stderr": asyncio.subprocess.PIPE, **options},
        env=environment(environ),
        cwd=ROOT,
    )
    running = Running(process)
    reading = asyncio.create_task(_read(running))
    try:
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading


async def _read(running: Running) -> None:
    if running.process.stderr:
        async for line in running.process.stderr:
            running.lines.append(line.decode())


async def wait_for_line(running: Running, message: str, seconds: float = 30.0) -> None:
    """Wait until the exporter has logged `message`."""
    async with asyncio.timeout(seconds):
        while not any(event["msg"] == message for event in running.events):
            assert running.process.returncode is None, running.lines
            await asyncio.sleep(0.02)


async def wait_for(url: str, seconds: float = 30.0, client: Mapping[str, Any] | None = None) -> None:
    """Wait until `url` answers 200."""
    async with asyncio.timeout(seconds), plain_client(**{"timeout": 5, **(client or {})}) as http:
        while True:
            try:
                if (await http.get(url)).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)


async def eventually(condition: Callable[[], Awaitable[object]], seconds: float = 30.0) -> None:
    """Ask again and again, until `condition` holds or the time is over."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - other processes make it hold
            await asyncio.sleep(0.1)


_OF_THE_RUNNER = {"ARGS", "COLUMNS", "LINES", "NO_COLOR", "MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES"}


def environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    """Return this process's environment without what would configure the exporter.

    COLUMNS and LINES come from pytest-xdist, ARGS and MAKEFLAGS from the `make` that runs the tests.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("COHERE_", "CO_API_"))
        and not name.lower().endswith("_proxy")
        and name not in _OF_THE_RUNNER
    }
    return {**kept, **(extra or {})}
