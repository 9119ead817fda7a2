"""One run: the exporter as `serve` runs it, the API, the clients, and those who watch.

`Soak` joins them in an event loop of virtual time; `hostile` is a time with faults and clients, `frugal` one
that lives on a budget.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from exporter.app import Exporter
from exporter.errors import REASONS
from exporter.settings import ApiKey, load
from exporter.web.server import listen
from tools.soak.api import Api
from tools.soak.clients import Clients
from tools.soak.curves import WINDOW, StepJudge
from tools.soak.fleet import BEGIN, DAY, HOUR, SoakFleet
from tools.soak.ledger import Ledger, Window
from tools.soak.play import Play
from tools.soak.referee import Referee
from tools.soak.resources import Samples
from tools.soak.results import Report
from tools.soak.virtual import VirtualClock, VirtualLoop
from tools.soak.watch import Findings, LogReader, watching

MINUTE, MONTH = 60.0, 31 * DAY
REQUESTS_PER_MINUTE = 16  # so few that three attempts of everything, or a whole fleet's steps, must wait
CALLS_PER_MONTH = 1000  # of a trial key
FRUGAL_DAYS = 40
HOSTILE = (
    "--poll.interval=60s",
    f"--cohere.requests-per-minute={REQUESTS_PER_MINUTE}",
    "--cohere.concurrency=4",
    f"--training.steps-window={WINDOW:.0f}s",
)
FRUGAL = (f"--cohere.calls-per-month={CALLS_PER_MONTH}",)
SEED = 5
_QUIET_WITHIN = 900.0  # seconds


class Soak:
    """Everything of a run, built and joined; `options` are the exporter's flags, `window` counts requests."""

    def __init__(self, folder: Path, options: Sequence[str], window: Window) -> None:
        loop = asyncio.get_running_loop()
        if not isinstance(loop, VirtualLoop):
            raise TypeError("a soak needs an event loop in virtual time")
        self._loop = loop
        self.clock = VirtualClock(BEGIN)
        self.findings = Findings(loop.time)
        self.log = LogReader(self.findings.add, loop.time)
        self.samples = Samples()
        fleet = SoakFleet()
        self.curves = StepJudge(fleet, now=loop.time, find=self.findings.add)
        self.api = Api(fleet, self.clock, lambda _: self.clients.api_asked())
        self._folder = folder
        self._options = options
        self._window = window

    @asynccontextmanager
    async def running(self, *, is_hostile: bool) -> AsyncIterator[None]:
        """Poll and serve to the end of the block; where it is hostile, with faults and clients."""
        async with AsyncExitStack() as stack:
            stack.enter_context(watching(self.findings, self.log))
            await self.api.listen()
            stack.push_async_callback(self.api.stop)
            self._build()
            listener = listen("127.0.0.1", 0)
            port = listener.getsockname()[1]
            judges = {"/metrics": self.referee.judge_page, "/metrics/steps": self.curves.judge}
            self.clients = Clients(port, judges=judges, find=self.findings.add)
            self._loop.watch(is_busy=self._is_busy, on_turn=self.referee.look if is_hostile else _nothing)
            running = await stack.enter_async_context(self.exporter.running(listener))
            if is_hostile:
                for work in (self.play.for_ever(), self.clients.come_and_go(), self._read_histories()):
                    stack.push_async_callback(_end, asyncio.create_task(work))
            yield
            self._loop.watch(is_busy=self._is_busy, on_turn=_nothing)
            if running.polling.done():
                self.findings.add("polling has ended by itself")

    def _build(self) -> None:
        key_file = self._folder / "key"
        self.play = Play(self.api, self.clock, key_file, self._key_has_changed)
        flags = (f"--cohere.base-url=http://127.0.0.1:{self.api.port}", f"--cohere.api-key-file={key_file}")
        _, settings = load(["serve", *flags, *self._options], {})
        exporter = Exporter(settings, ApiKey(file=key_file), clock=self.clock)
        now = self._loop.time
        self.exporter = exporter
        self.ledger = Ledger(exporter, self.api, now, self._window)
        self.referee = Referee(
            self.api,
            outcome=lambda: exporter.poller.outcome,
            now=now,
            find=self.findings.add,
            shown=self.curves.shown,
        )

    def _key_has_changed(self) -> None:
        self.referee.key_changed_at = self._loop.time()

    def _is_busy(self) -> bool:
        return self.ledger.under_way > self.api.held or self.clients.waiting > 0

    async def _read_histories(self) -> None:
        """Write the history of the newest model that has steps in the middle of every third hour."""
        while True:
            await asyncio.sleep(1.5 * HOUR)
            snapshot = self.exporter.exposition.snapshot
            state = next((state for state in snapshot.states if state.progress), None) if snapshot else None
            if state:
                await self.curves.read_history(self.exporter.client.all_steps, state.model)
            await asyncio.sleep(1.5 * HOUR)

    async def settle(self) -> None:
        """Wait until nothing is under way, nor about to be, and compare the counts of requests."""
        began = self._loop.time()
        while self.ledger.under_way or self.clients.waiting or self._loop.time() % MINUTE < 40:
            if self._loop.time() > began + _QUIET_WITHIN:
                self.findings.add("something has been under way for too long")
                break
            await asyncio.sleep(1.0)
        for difference in self.ledger.differences():
            self.findings.add(difference)

    async def audit(self) -> None:
        """Settle, compare all other counts, and measure."""
        await self.settle()
        self.referee.judge_silence()
        self.curves.judge_missed(self.value("cohere_exporter_training_steps_missed_total"))
        polls = self.value("cohere_exporter_polls_total")
        if polls != self.referee.polls:
            self.findings.add(f"{self.referee.polls} polls were made, {polls:.0f} counted")
        for reason in REASONS:
            failed = self.value("cohere_exporter_poll_failures_total", reason=reason)
            if failed != self.referee.failures[reason]:
                self.findings.add(
                    f"{self.referee.failures[reason]} polls failed with {reason}, {failed:.0f} counted"
                )
        self.samples.take()

    def value(self, name: str, **labels: str) -> float:
        """Return one of the exporter's own metrics."""
        return self.exporter.telemetry.registry.get_sample_value(name, labels) or 0.0


def hostile(hours: int) -> Report:
    """Soak for so many hours."""
    return _run(lambda folder: _hostile(folder, hours))


def frugal(days: int = FRUGAL_DAYS) -> Report:
    """Live on the calls of a trial key for longer than a month, without faults or clients."""
    return _run(lambda folder: _frugal(folder, days))


def _run(main: Callable[[Path], Coroutine[Any, Any, Report]]) -> Report:
    random.seed(SEED)
    with TemporaryDirectory() as folder, asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main(Path(folder)))


async def _hostile(folder: Path, hours: int) -> Report:
    soak = Soak(folder, HOSTILE, Window(MINUTE))
    async with soak.running(is_hostile=True):
        for hour in range(1, hours + 1):
            await asyncio.sleep(hour * HOUR - soak.clock.monotonic())
            await soak.audit()
        counts, reasons = _counts(soak), dict(soak.referee.failures.most_common())
    _judge_rate(soak, REQUESTS_PER_MINUTE, "a minute")
    return Report(hours, counts, reasons, soak.samples.rows, soak.findings.told())


async def _frugal(folder: Path, days: int) -> Report:
    soak = Soak(folder, FRUGAL, Window(MONTH))
    async with soak.running(is_hostile=False):
        await asyncio.sleep(days * DAY)
        await soak.settle()
    _judge_rate(soak, CALLS_PER_MONTH, "31 days")
    counts = {
        "polls": int(soak.value("cohere_exporter_polls_total")),
        "requests to the API": soak.ledger.begun.total(),
        "most requests in 31 days": soak.ledger.window.most,
    }
    return Report(days * 24, counts, findings=soak.findings.told())


def _judge_rate(soak: Soak, limit: int, span: str) -> None:
    most = soak.ledger.window.most
    if most > limit:
        soak.findings.add(f"{most} requests in {span}, {limit} are allowed")


def _counts(soak: Soak) -> dict[str, int]:
    return {
        "polls": soak.referee.polls,
        "polls that failed": soak.referee.failures.total(),
        "models seen": soak.api.models_seen,
        "requests to the API": soak.ledger.begun.total(),
        "of them refused a connection": soak.ledger.refused.total(),
        "most requests in a minute": soak.ledger.window.most,
        "seconds that requests waited for the limit": int(
            soak.value("cohere_exporter_api_throttled_seconds_total")
        ),
        "faults": soak.play.faults,
        "scrapes": soak.clients.scrapes,
        "scrapes of stale data": soak.referee.stale_pages,
        "of them scrapes of training steps": soak.curves.pages,
        "training steps on them": soak.curves.steps,
        "steps of /metrics that were on none, and are counted as missed": soak.curves.unseen,
        "histories written": soak.curves.histories,
        "other visits": soak.clients.answers.total() - soak.clients.scrapes,
        "lines of the log": soak.log.lines.total(),
    }


def _nothing() -> None:
    """Do nothing."""


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled() and (error := task.exception()):
        raise error
