"""The exporter as a process, as users run it, and the API that it polls."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tools.benchmarks.fleets import FULL, PAGE_SIZE, Fleet
from tools.benchmarks.processes import Process, fetch, is_served, python, started, wait_until


@contextmanager
def exporter(*arguments: str) -> Iterator[Process]:
    """Run the exporter as users do, on a free port, and wait until its first poll has ended."""
    command = [sys.executable, "-m", "exporter", *arguments]
    command += ["--web.listen-address=127.0.0.1:0", "--log.format=json"]
    with tempfile.TemporaryFile() as log, started(command, stderr=log, stdout=subprocess.DEVNULL) as popen:

        def find_url() -> str | None:
            found = re.search(
                rb'"serving".*?"url": ?"(https?://127.0.0.1:\d+)', os.pread(log.fileno(), 1 << 16, 0)
            )
            return found and found[1].decode()

        wait_until(lambda: find_url() is not None or popen.poll() is not None)
        if popen.poll() is not None:
            raise RuntimeError(f"the exporter ended: {os.pread(log.fileno(), 4096, 0).decode()}")
        root = find_url() or ""
        wait_until(lambda: is_served(f"{root}/-/ready"))
        yield Process(popen, f"{root}/metrics")


def calls(api_url: str) -> int:
    """Return how many lists and step metrics an API has served."""
    served: dict[str, int] = json.loads(fetch(f"{api_url}/-/stats"))
    return served["lists"] + served["steps"]


class Pair:
    """An exporter and the API that it polls."""

    def __init__(self, api: Process, process: Process) -> None:
        self.api_url = api.url
        self.exporter = process

    def control(self, query: str) -> None:
        """Set how the API behaves."""
        fetch(f"{self.api_url}/-/control?{query}")

    def served(self, what: str) -> int:
        """Return how many lists, pages or step metrics the API has served."""
        stats: dict[str, int] = json.loads(fetch(f"{self.api_url}/-/stats"))
        return stats[what]

    def wait_for_list(self) -> None:
        """Wait until the fleet is listed once more."""
        listed = self.served("lists")
        wait_until(lambda: self.served("lists") > listed)


def polling_options(url: str, *, steps: bool) -> list[str]:
    """Return the flags of an exporter that polls `url` without limits; `steps` reads step metrics too."""
    options = ["--models.limit=0", f"--cohere.base-url={url}", f"--cohere.page-size={PAGE_SIZE}"]
    options += ["--cohere.requests-per-minute=1000000", "--poll.stale-after=1d"]
    return options if steps else [*options, "--metrics.exclude=cohere_finetuned_model_(training|step)_.*"]


def shows_steps(process: Process) -> int:
    """Return of how many models the exporter shows step metrics."""
    return fetch(process.url).count(b"\ncohere_finetuned_model_training_step{")


@contextmanager
def polled(
    fleet: Fleet, *, interval: str = "1h", steps: bool = False, flags: Sequence[str] = ()
) -> Iterator[Pair]:
    """Run an exporter that polls a fleet, and wait until it serves all of it and rests."""
    with python("tools.benchmarks.api", fleet.kind, str(fleet.count)) as api:
        options = polling_options(api.url, steps=steps)
        with exporter("serve", f"--poll.interval={interval}", *options, *flags) as process:
            pair = Pair(api, process)
            if steps:
                shown = fleet.count if fleet.kind == FULL else 0  # lean models have none to show
                wait_until(lambda: pair.served("steps") >= fleet.count and shows_steps(process) >= shown, 240)
            pair.control("hold=1")  # on a slow machine, one poll would follow the other
            process.settle()
            pair.control("hold=0")
            yield pair
