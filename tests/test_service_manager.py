"""What systemd is told, over a real datagram socket."""

import asyncio
import os
import signal
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from exporter.runtime.service_manager import ServiceManager
from tests.programs import exporter

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(30)
        yield receiver


async def received(manager: socket.socket) -> str:
    return (await asyncio.to_thread(manager.recv, 4096)).decode()


def watched(manager: socket.socket, **more: str) -> Mapping[str, str]:
    return {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "20000", **more}


async def test_it_reports_readiness_life_and_the_stop(manager: socket.socket) -> None:
    async with ServiceManager(watched(manager)).serving("at /", lambda: True):
        assert await received(manager) == "READY=1\nSTATUS=at /"
        assert [await received(manager) for _ in range(3)] == ["WATCHDOG=1"] * 3
    while (last := await received(manager)) == "WATCHDOG=1":
        pass
    assert last == "STOPPING=1\nSTATUS=stopping"


async def test_what_is_not_alive_says_nothing(manager: socket.socket) -> None:
    async with ServiceManager(watched(manager)).serving("", lambda: False):
        await received(manager)
        await asyncio.sleep(0.05)
    assert await received(manager) == "STOPPING=1\nSTATUS=stopping"


async def test_another_process_is_watched(manager: socket.socket) -> None:
    environ = watched(manager, WATCHDOG_PID=str(os.getpid() + 1))
    async with ServiceManager(environ).serving("", lambda: True):
        await received(manager)
        await asyncio.sleep(0.05)
    assert await received(manager) == "STOPPING=1\nSTATUS=stopping"


async def test_a_socket_without_a_file_is_reached() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("")  # the kernel finds a name
        receiver.settimeout(30)
        name = receiver.getsockname().decode().replace("\0", "@")
        async with ServiceManager({"NOTIFY_SOCKET": name}).serving("", lambda: True):
            assert (await received(receiver)).startswith("READY=1")


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "1000"},
        {"NOTIFY_SOCKET": "vsock:2:1"},
        {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "soon"},
    ],
)
async def test_nobody_to_tell_harms_nothing(environ: dict[str, str]) -> None:
    async with ServiceManager(environ).serving("", lambda: True):
        await asyncio.sleep(0)


async def test_the_exporter_reports_from_start_to_stop(manager: socket.socket) -> None:
    async with exporter("demo", environ={"NOTIFY_SOCKET": manager.getsockname()}) as running:
        assert await received(manager) == f"READY=1\nSTATUS=serving {running.url}/"
        assert await running.stop(signal.SIGTERM) == 0
        assert await received(manager) == "STOPPING=1\nSTATUS=stopping"
