"""What every test may use: the one event-loop backend and a clock that the test moves."""

import asyncio
import gc
import heapq
import logging
import os
import re
import signal
from collections.abc import Callable, Coroutine, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, settings

from exporter.runtime import log
from tests import editions

# pytest-xdist tells its workers the size of its terminal, to which `check` would fit its table.
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)

# What `nohup` protects is the run: a process that a test starts must not inherit that SIGHUP is ignored.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)

# What a file says when all its tests are slow; `make test-fast` then need not import it.
_ALL_SLOW = re.compile(r"^pytestmark = (?:\[[^]]*)?pytest\.mark\.slow\b", re.MULTILINE)

# What takes longest begins first, so that no worker is left alone with it at the end.
_LONGEST = [
    "test_image.py",
    "test_systemd.py",
    "test_alerts.py",
    "test_dashboards_queries.py",
    "test_training_curves.py",
    "test_helm.py",
    "test_polling_properties.py",
    "test_process.py",
    "test_kubernetes.py",
    "test_two_accounts.py",
    "test_scrapers.py",
    "test_end_to_end.py",
    "test_failure_modes.py",
    "test_hostile_clients.py",
    "test_soak.py",
]

_PLAIN = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)

# How long an example takes, to make or to run, says nothing on a busy machine.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
# Many more worlds, and larger ones, which `make nightly` lives through; a glance, for `make test-fast`.
settings.register_profile("nightly", settings())
settings.register_profile("fast", settings(), max_examples=20)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out files in which nothing would be selected: importing them costs more than the tests kept."""
    fast = config.getoption("-m") == "not slow" and collection_path.suffix == ".py"
    return True if fast and _ALL_SLOW.search(collection_path.read_text(encoding="utf-8")) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the longest files come first; the order of the others stays."""
    items.sort(key=lambda item: (*_LONGEST, item.path.name).index(item.path.name))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage while files are imported, which takes a third of the time, nor in them later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


class FakeClock:
    """A clock that stands still until a test moves it; sleepers wake in order.

    `unix` is the wall time at the start; both clocks move together.
    """

    def __init__(self, unix: float = 1_700_000_000.0) -> None:
        self.now = 1_000.0
        self.unix_offset = unix - self.now
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._sequence = 0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now + self.unix_offset

    def sleep(self, seconds: float) -> Coroutine[Any, Any, None]:
        """Wait from this call on, though the task that does may begin when time has moved on."""
        return self._sleep_until(self.now + max(seconds, 0.0))

    async def _sleep_until(self, due: float) -> None:
        if due < self.now:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sequence += 1
        heapq.heappush(self._sleepers, (due, self._sequence, future))
        await future

    @property
    def sleeping(self) -> list[float]:
        """Seconds that each sleeper has still to wait, soonest first."""
        return [due - self.now for due, _, future in sorted(self._sleepers) if not future.done()]

    async def advance(self, seconds: float) -> None:
        """Move time on, waking every sleeper whose time comes and letting it run before the next."""
        end = self.now + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, future = heapq.heappop(self._sleepers)
            self.now = max(self.now, due)
            if not future.done():
                future.set_result(None)
            await settle()
        self.now = end
        await settle()


class HastyClock(FakeClock):
    """A clock on which every wait is over at once; for a single caller."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        """Move time on instead of waiting."""
        self.slept.append(seconds)
        self.now += max(seconds, 0.0)
        await asyncio.sleep(0)


async def settle() -> None:
    """Let every task run until it waits for something."""
    for _ in range(25):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait in real time until `condition` holds; fail after `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - any condition, no event to wait for
            await asyncio.sleep(0.005)


def unconfigure_log() -> None:
    """Log as if the exporter had never configured it, and with plain tracebacks: rich's take 0.1 s each."""
    logging.disable(logging.NOTSET)
    root = logging.getLogger()
    root.handlers[:] = [one for one in root.handlers if type(one).__module__ != log.__name__]
    root.setLevel(logging.WARNING)
    for name in ("asyncio", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    structlog.reset_defaults()
    structlog.configure(processors=[structlog.processors.add_log_level, _PLAIN])


@pytest.fixture(autouse=True)
def unconfigured_log() -> Iterator[None]:
    """Begin and end each test with a log that is not configured."""
    unconfigure_log()
    yield
    unconfigure_log()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def edition(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> editions.Edition:
    """Run the test with the programs of one edition."""
    chosen: editions.Edition = request.param
    monkeypatch.setattr(editions, "in_use", chosen)
    return chosen
