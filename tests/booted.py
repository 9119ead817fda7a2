"""A pristine Linux system with systemd as its first process, for tests of units.

It runs in a container of systemd-nspawn whose /usr is this machine's, read-only; everything else is empty at
the start and gone at the end. Its network is a loopback of its own, so nobody else sees what listens there.
"""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.programs import KEY, ROOT, environment, eventually, missing, program

PATHS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SIMULATED_API = f"""
import asyncio
from exporter.simulator import Simulator
from exporter.demo import serve_api
from exporter.web.server import listen
async def main():
    async with serve_api(Simulator(api_key={KEY!r}), listen("127.0.0.1", 8000)):
        print("ready", flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""
PAGE = """
import ssl, sys, urllib.request
url, trusted = sys.argv[1:]
context = ssl.create_default_context(cafile=trusted) if trusted else None
print(urllib.request.urlopen(url, timeout=5, context=context).read().decode())
"""


class System:
    """A booted system; `pid` is its first process as this machine numbers it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    async def run(self, script: str, stdin: str = "", folder: str = "/") -> tuple[int, str]:
        """Run a script in the system, as root; return its exit code and what it printed."""
        process = await asyncio.create_subprocess_exec(
            *self._enter("--all"),
            *("/bin/sh", "-ec", f"cd {folder}\n{script}"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={"PATH": PATHS},
            cwd="/",
        )
        async with asyncio.timeout(60):
            out, _ = await process.communicate(stdin.encode())
        assert process.returncode is not None
        return process.returncode, out.decode()

    async def output(self, script: str, stdin: str = "", folder: str = "/") -> str:
        """Run a script that must succeed; return what it printed."""
        code, out = await self.run(script, stdin, folder)
        assert code == 0, f"{script}\n{out}"
        return out.strip()

    async def is_up(self) -> bool:
        """Say whether the boot is over; degraded is as good, where a unit of this /usr misses something."""
        return await self.output("systemctl is-system-running || true") in ("running", "degraded")

    async def page(self, path: str, trusted: Path | None = None) -> str:
        """Return a page that is served on the system's loopback, over TLS if `trusted`; "" if nobody does."""
        url = f"{'https' if trusted else 'http'}://localhost:10220{path}"
        command = (*self._enter("--net"), sys.executable, "-c", PAGE, url, str(trusted or ""))
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, env=environment(None)
        )
        out, _ = await process.communicate()
        return out.decode()

    async def until_page(self, path: str, pattern: str, trusted: Path | None = None) -> str:
        """Ask for a page until `pattern` is found in it, for 30 seconds at most."""
        return await _until(lambda: self.page(path, trusted), pattern)

    async def until_output(self, script: str, pattern: str) -> str:
        """Run a script until `pattern` is found in what it prints, for 30 seconds at most."""
        return await _until(lambda: self.output(script), pattern)

    @asynccontextmanager
    async def simulated_api(self) -> AsyncIterator[str]:
        """Serve a simulated API that takes `KEY` on the system's loopback; return its base URL there."""
        process = await asyncio.create_subprocess_exec(
            *self._enter("--net"),
            *(sys.executable, "-c", SIMULATED_API),
            stdout=asyncio.subprocess.PIPE,
            env=environment(None),
            cwd=ROOT,
        )
        try:
            assert process.stdout is not None
            assert await asyncio.wait_for(process.stdout.readline(), 60) == b"ready\n"
            yield "http://127.0.0.1:8000"
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def _enter(self, *namespaces: str) -> Sequence[str]:
        return program("nsenter"), f"--target={self.pid}", *namespaces, "--"


async def _until(read: Callable[[], Awaitable[str]], pattern: str) -> str:
    found = ""

    async def has_it() -> bool:
        nonlocal found
        found = await read()
        return re.search(pattern, found) is not None

    await eventually(has_it)
    return found


@asynccontextmanager
async def booted(*binds: str) -> AsyncIterator[System]:
    """Boot a system with `binds` (FROM:TO); skip the test where that cannot be done."""
    nspawn = program("systemd-nspawn")
    if os.geteuid() != 0:
        missing("only root may boot a container")
    process = await asyncio.create_subprocess_exec(
        nspawn,
        *("--quiet", "--register=no", "--keep-unit", "--private-network", "--console=pipe"),
        *("--directory=/", "--volatile=yes", *(f"--bind={bind}" for bind in binds)),
        *("--boot", "--", "--unit=basic.target", "--show-status=no", "systemd.condition-first-boot=no"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        system = System(await _first_process(process))
        await eventually(system.is_up)
        await system.output("mkdir --parents /etc/systemd/system")  # which every distribution has
        yield system
    finally:
        await _power_off(process)


async def _first_process(nspawn: asyncio.subprocess.Process) -> int:
    """Wait until systemd runs in the container, and give it."""
    found: list[int] = []

    async def is_there() -> bool:
        assert nspawn.returncode is None, "the container ended before it was up"
        found.extend(_systemd_below(nspawn.pid))
        return bool(found)

    await eventually(is_there)
    return found[0]


def _systemd_below(nspawn: int) -> Iterator[int]:
    for pid in Path(f"/proc/{nspawn}/task/{nspawn}/children").read_text().split():
        with suppress(OSError):  # a helper of nspawn's that has just ended
            if Path(f"/proc/{pid}/exe").readlink().name == "systemd":
                yield int(pid)


async def _power_off(nspawn: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        nspawn.terminate()
    try:
        await asyncio.wait_for(nspawn.wait(), 20)
    except TimeoutError:
        nspawn.kill()
        await nspawn.wait()
    _remove_control_groups()


def _remove_control_groups() -> None:
    """Remove what nspawn leaves behind, if it is empty."""
    for name in ("payload", "supervisor"):
        for group in sorted(Path("/sys/fs/cgroup").glob(f"*/{name}/**/"), reverse=True):
            with suppress(OSError):
                group.rmdir()
