"""Starts processes that serve on the loopback, and ends them; talks to them over HTTP.

Each process is a context, at whose end it is sent SIGTERM. Should this one be killed, the kernel does so.
"""

import ctypes
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools.benchmarks.machine import cpu_seconds

ROOT = Path(__file__).parents[2]
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


class Missing(Exception):
    """A program that a benchmark compares with is not installed; the message names it."""


class Process:
    """A process that serves: where, and what it costs."""

    def __init__(self, popen: "subprocess.Popen[bytes]", url: str = "") -> None:
        self._popen = popen
        self.url = url
        self.pid = popen.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._popen.poll() is None

    def cpu(self) -> float:
        """Return the CPU seconds it has used."""
        return cpu_seconds(self.pid)

    def settle(self, seconds: float = 240.0) -> None:
        """Wait until it has nothing left to do."""

        def is_quiet() -> bool:
            before = self.cpu()
            time.sleep(0.5)
            return self.cpu() - before < 0.02

        wait_until(is_quiet, seconds)


def find(name: str) -> str:
    """Return the path of a program; raise `Missing` where it is not installed."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    built = Path(os.environ.get("PROGRAMS") or cache / "cohere-finetune-exporter/programs") / "bin"
    path = shutil.which(name, path=built) or shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if path is None:
        raise Missing(f"{name} is not installed")
    return path


def fetch(url: str, headers: dict[str, str] | None = None) -> bytes:
    """Return the body at `url` as it was sent."""
    # A certificate that was made for a run is no secret's guard.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    handlers = urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    opener = urllib.request.build_opener(*handlers)
    with opener.open(urllib.request.Request(url, headers=headers or {}), timeout=60) as response:  # noqa: S310 - ours
        body: bytes = response.read()
        return body


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until `condition` holds; raise TimeoutError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("what the benchmark waits for did not come")
        time.sleep(0.05)


def is_served(url: str) -> bool:
    """Return whether `url` answers 200."""
    try:
        fetch(url)
    except OSError:
        return False
    return True


@contextmanager
def running(command: Sequence[str], url: str = "") -> Iterator[Process]:
    """Run a command in the background; where `url` is given, wait until it answers."""
    with started(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as popen:
        process = Process(popen, url)
        if url:
            wait_until(lambda: is_served(url) or not process.alive)
            if not process.alive:
                raise RuntimeError(f"{command[0]} did not start")
        yield process


@contextmanager
def python(*arguments: str, path: str = "") -> Iterator[Process]:
    """Run a module of ours that serves, and prints its port first."""
    with started([sys.executable, "-m", *arguments], stdout=subprocess.PIPE) as popen:
        port = popen.stdout.readline().decode().strip() if popen.stdout else ""
        if not port:
            raise RuntimeError(f"{arguments[0]} did not start")
        yield Process(popen, f"http://127.0.0.1:{port}{path}")


@contextmanager
def started(command: Sequence[str], **streams: Any) -> "Iterator[subprocess.Popen[bytes]]":
    """Run a command until the block ends."""
    with subprocess.Popen(command, **_surroundings(), **streams) as popen:  # noqa: S603 - our own command
        try:
            yield popen
        finally:
            popen.terminate()
            try:
                popen.wait(5)
            except subprocess.TimeoutExpired:
                popen.kill()


def run(*command: str) -> str:
    """Run a command to its end and give its standard output; raise when it fails."""
    with started(command, stdout=subprocess.PIPE) as popen:
        told, _ = popen.communicate(timeout=300)
    if popen.returncode:
        raise RuntimeError(f"{command[0]} failed")
    return told.decode()


def _surroundings() -> dict[str, Any]:
    """Return what all our processes are started with.

    In a session of their own Ctrl-C reaches this process only, which then ends them in good order.
    """
    environ = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("COHERE_", "CO_API_")) and not name.lower().endswith("_proxy")
    }
    return {"cwd": ROOT, "env": environ, "start_new_session": True, "preexec_fn": _end_with_parent}


def _end_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
