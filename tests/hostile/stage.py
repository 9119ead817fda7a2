"""The exporter beside an API that fails: its poll loop, its pages over HTTP, its log, and `check`.

Time stands still but for what a poll waits for, so a poll that retries, or rests for a quarter of an hour, is
over at once. What the API does takes real time, by the deadline of a request above all: it is long, lest a
busy machine look like a failure, and `HURRIED` where it is to pass.
"""

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from exporter import app, commands
from exporter.model import PollOutcome
from exporter.runtime import log as exporter_log
from exporter.settings import ApiKey, Command, Subcommand, load
from exporter.web.server import listen
from tests.conftest import FakeClock, HastyClock, unconfigure_log
from tests.hostile.server import WANDB_KEY, FaultServer
from tests.programs import KEY

HERE = str(Path(__file__).parent)
INTERVAL = 60.0  # seconds
DAY = 86_400.0
HURRY = 0.2  # seconds for one request
HURRIED = f"--cohere.timeout={HURRY * 1000:g}ms"

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass
class Checked:
    """What the verb `check` came to."""

    code: int
    out: str
    err: str


_LONGEST_RETRY = 30.0  # seconds
_MOST_IDLE = 2000  # turns in which nothing happens


@dataclass
class Stage:
    """The exporter at work; `log` grows with each line that it writes."""

    exporter: app.Exporter
    clock: FakeClock
    settings: Any
    key: ApiKey
    http: httpx.AsyncClient
    stream: io.StringIO

    async def poll(self) -> PollOutcome:
        """Let the next poll begin, and wait until it and its step metrics are done."""
        poller = self.exporter.poller
        before = poller.outcome
        async with self._told_within(120):  # only a fault takes so long, on the busiest machine too
            due = poller.schedule.next_at
            while (outcome := poller.outcome) is before:
                # Nobody sleeps past the poll's beginning, and while it waits for the network only its own
                # retries may pass, not its neighbours' hours.
                now, begins = self.clock.monotonic(), max(due, poller.schedule.next_at)
                await self._pass_time(0, until=now + _LONGEST_RETRY if now >= due else begins + 1.5)
            finishing = asyncio.create_task(poller.finish())
            idle = 0
            while not finishing.done() and idle < _MOST_IDLE:
                idle = await self._pass_time(idle, until=poller.schedule.next_at)
            # What waits until after the next poll, as the API asked for, is no part of this one.
            finishing.cancel()
        assert outcome is not None
        return outcome

    @asynccontextmanager
    async def _told_within(self, seconds: float) -> AsyncIterator[None]:
        """Fail after so many seconds of real time, and tell what every task was waiting for."""
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError:
            tasks = "\n".join(map(_awaited_by, asyncio.all_tasks()))
            told = f"sleepers: {self.clock.sleeping}\ntasks:\n{tasks}\nlog:\n{self.stream.getvalue()}"
            raise AssertionError(f"no end after {seconds} s\n{told}") from None

    async def _pass_time(self, idle: int, *, until: float) -> int:
        """Wake the next sleeper, unless it sleeps till a second before `until` (monotonic) or longer.

        Return how many turns in a row no time has passed; `idle` is how many it were before.
        """
        sleeping, before = self.clock.sleeping, self.clock.monotonic()
        if sleeping and before + sleeping[0] < until - 1:
            await self.clock.advance(sleeping[0])
        await asyncio.sleep(0.001)
        return 0 if self.clock.monotonic() > before else idle + 1

    async def page(self, path: str = "/metrics") -> str:
        """Return a page, which must be a good one and hold no secret."""
        answer = await self.http.get(path)
        answer.raise_for_status()
        assert KEY not in answer.text
        assert WANDB_KEY not in answer.text
        return answer.text

    async def series(self) -> Series:
        """Return /metrics as Prometheus would read it, each series once."""
        answer = await self.http.get("/metrics", headers={"Accept": "application/openmetrics-text"})
        found: Series = {}
        for family in text_string_to_metric_families(answer.text):  # type: ignore[no-untyped-call]
            for sample in family.samples:
                name = (sample.name, frozenset(sample.labels.items()))
                assert name not in found
                found[name] = sample.value
        return found

    async def probe(self, path: str) -> int:
        """Return the status that a probe sees."""
        return (await self.http.get(path)).status_code

    def log(self) -> list[dict[str, Any]]:
        """Return the lines written since it was last asked for."""
        text = self.stream.getvalue()
        self.stream.seek(0)
        self.stream.truncate()
        assert KEY not in text
        assert WANDB_KEY not in text
        assert "Traceback" not in text
        return [json.loads(line) for line in text.splitlines()]

    async def check(self) -> Checked:
        """Run `check` as a user would, who does not wait."""
        out, err = io.StringIO(), io.StringIO()
        logging.disable()  # as the command line does
        try:
            with redirect_stdout(out), redirect_stderr(err):
                code = await commands.check(
                    self.settings, self.key, Command(Subcommand.CHECK), clock=HastyClock()
                )
        finally:
            logging.disable(logging.NOTSET)
        text = out.getvalue() + err.getvalue()
        assert KEY not in text
        assert WANDB_KEY not in text
        assert "Traceback" not in text
        return Checked(code, out.getvalue(), err.getvalue())


def _awaited_by(task: asyncio.Task[Any]) -> str:
    """Return where a task stands, from the outermost coroutine to what it waits for."""
    found: list[str] = []
    awaited: Any = task.get_coro()
    while awaited:
        frame = getattr(awaited, "cr_frame", None)
        found.append(f"{frame.f_code.co_name}:{frame.f_lineno}" if frame else repr(awaited))
        awaited = getattr(awaited, "cr_await", None)
    return " > ".join(found)


@asynccontextmanager
async def on_stage(
    server: FaultServer, *flags: str, environ: Mapping[str, str] | None = None, key: ApiKey | None = None
) -> AsyncIterator[Stage]:
    """Run the exporter against `server`, before its first poll."""
    defaults = {
        "--cohere.base-url": server.url,
        "--poll.interval": f"{INTERVAL:g}s",
        "--cohere.timeout": "10s",
        "--web.listen-address": "127.0.0.1:0",
    }
    chosen = defaults | dict(flag.split("=", 1) for flag in flags)
    _, settings = load([f"{flag}={value}" for flag, value in chosen.items()], environ or {})
    is_fixed, key, clock = key is None, key or ApiKey(KEY), FakeClock()
    with _logging_to(key) as stream, pytest.MonkeyPatch.context() as patch:
        # None, but for those of SSL_CERT_FILE: all of the system's take longer to read than a poll.
        patch.setenv("SSL_CERT_DIR", HERE)
        if is_fixed:
            # What cannot change need not be compared each second of a pause.
            patch.setattr("exporter.polling.poller.KEY_CHECK_INTERVAL", DAY)
        exporter = app.Exporter(settings, key, clock=clock)
        async with (
            exporter.running(listen("127.0.0.1", 0)) as running,
            httpx.AsyncClient(base_url=running.url, trust_env=False, verify=False) as http,
        ):
            yield Stage(exporter, clock, settings, key, http, stream)
            assert not running.polling.done()


@contextmanager
def _logging_to(key: ApiKey) -> Iterator[io.StringIO]:
    stream = io.StringIO()
    exporter_log.configure("info", "json", stream, secrets=key.secrets)
    try:
        yield stream
    finally:
        unconfigure_log()
