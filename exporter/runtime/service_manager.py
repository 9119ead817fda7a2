"""What systemd is told: that the service is ready, that it is alive, that it stops.

The protocol is that of sd_notify(3): a datagram of `NAME=value` lines to the socket in NOTIFY_SOCKET. With
WatchdogSec= systemd restarts a service that stays silent for so long. Without that environment nothing is
sent, and a report that cannot be sent never harms the service.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress


class ServiceManager:
    """The service manager that started this process, or none."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._interval = _watchdog_seconds(environ) / 2

    @asynccontextmanager
    async def serving(self, status: str, is_alive: Callable[[], bool]) -> AsyncIterator[None]:
        """Report that the service is ready; while it is alive, keep saying so; report the stop at the end."""
        self._send("READY=1", f"STATUS={status}")
        keeping_alive = asyncio.create_task(self._keep_alive(is_alive), name="watchdog")
        try:
            yield
        finally:
            keeping_alive.cancel()
            self._send("STOPPING=1", "STATUS=stopping")

    async def _keep_alive(self, is_alive: Callable[[], bool]) -> None:
        while self._interval and is_alive():
            self._send("WATCHDOG=1")
            await asyncio.sleep(self._interval)

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        with (
            suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
        ):
            sender.setblocking(False)
            sender.sendto("\n".join(lines).encode(), self._address)


def _address(name: str) -> str:
    """Return the address of a Unix socket; a leading @ means one without a file."""
    return f"\0{name[1:]}" if name.startswith("@") else name if name.startswith("/") else ""


def _watchdog_seconds(environ: Mapping[str, str]) -> float:
    """Return how long systemd waits for a sign of life, 0 when it does not wait for this process."""
    microseconds = environ.get("WATCHDOG_USEC", "")
    meant = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(microseconds) / 1e6 if meant and microseconds.isascii() and microseconds.isdigit() else 0.0
