"""The composition root: builds the rooms, joins them, starts and stops them in order.

The only module that sees both the API's side and the pages' side. `serve`, `demo` and `check` are what the
program does; each returns the exit code.
"""

import asyncio
import gc
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import structlog
from starlette.types import ASGIApp

from exporter import REVISION, __version__
from exporter.aside import OneThread
from exporter.check import failure, table
from exporter.clock import Clock, SystemClock
from exporter.cohere.client import CohereClient
from exporter.cohere.limits import MonthlyBudget, RateLimiter
from exporter.cohere.transport import Endpoint, Transport, open_http
from exporter.cohere.wire import REJECTED_KINDS
from exporter.exposition import Exposition, Format, Live
from exporter.families import PROGRESS_FAMILIES
from exporter.model import Snapshot
from exporter.poller import Poller
from exporter.settings import ApiKey, Settings, SettingsError
from exporter.signals import end_in_time, ending
from exporter.simulator import Simulator
from exporter.streams import say, show
from exporter.telemetry import Telemetry
from exporter.web.access import Access
from exporter.web.config import WebConfigError
from exporter.web.format import WebConfig
from exporter.web.guard import guarded
from exporter.web.landing import Overview
from exporter.web.pages import create_app
from exporter.web.server import WebServer, listen

log = structlog.stdlib.get_logger(__name__)

NAME = "cohere-finetune-exporter"
SWITCH_INTERVAL = 0.0001  # seconds
CHECK_INTERVAL = 86_400.0  # seconds; longer than any check takes


@dataclass(frozen=True, slots=True)
class Running:
    """The poll loop, which never ends by itself, and where the pages are."""

    polling: asyncio.Task[None]
    url: str


class Exporter:
    """Everything that stands between the API and the pages, built and joined but not yet running."""

    def __init__(self, settings: Settings, key: ApiKey, *, clock: Clock, simulated: bool = False) -> None:
        self._settings = settings
        self._key = key
        self._key_error: str | None = None
        self._clock = clock
        self._simulated = simulated
        cohere = settings.cohere
        self._budget = MonthlyBudget(cohere.calls_per_month, clock)
        self.telemetry = Telemetry(
            version=__version__,
            revision=REVISION,
            endpoints=Endpoint,
            rejected_kinds=REJECTED_KINDS,
            calls_left=(lambda: self._budget.left) if cohere.calls_per_month else None,
            process_metrics=not settings.web.disable_exporter_metrics,
        )
        self.http = _open_http(settings, trust_env=not simulated)
        transport = Transport(
            self.http,
            key=self._read_key,
            timeout=cohere.timeout,
            concurrency=cohere.concurrency,
            limiter=RateLimiter(cohere.requests_per_minute, clock),
            budget=self._budget,
            observer=self.telemetry,
            clock=clock,
        )
        aside = OneThread()
        client = CohereClient(
            transport,
            observer=self.telemetry,
            page_size=cohere.page_size,
            metric_limit=settings.training.metric_limit,
            aside=aside,
        )
        exclude = settings.metrics.exclude
        self.poller = Poller(
            client,
            publish=self._publish,
            observer=self.telemetry,
            clock=clock,
            key=self._read_key,
            interval=settings.poll.interval,
            idle_interval=settings.poll.idle_interval,
            stale_after=settings.poll.stale_after if settings.poll.stale_after_given else None,
            concurrency=cohere.concurrency,
            models_limit=settings.models.limit,
            budget=self._budget,
            # The API is not asked for what nobody is shown.
            with_progress=not (exclude and all(exclude.fullmatch(name) for name in PROGRESS_FAMILIES)),
        )
        self.live = Live(self.telemetry.registry, clock)
        self.exposition = Exposition(
            clock=clock, stale_after=lambda: self.poller.stale_after, exclude=exclude, aside=aside
        )

    def scrape(self, format_: Format, gzipped: bool) -> Sequence[bytes]:
        """Give /metrics as it is now."""
        return self.exposition.page(format_, self.live.page(format_), gzipped=gzipped)

    def overview(self) -> Overview:
        """Give what the landing page shows."""
        snapshot = self.exposition.snapshot
        return Overview(
            name=NAME,
            version=__version__,
            revision="" if REVISION == "unknown" else REVISION,
            telemetry_path=self._settings.web.telemetry_path,
            api_url=self._settings.cohere.base_url,
            simulated=self._simulated,
            outcome=self.poller.outcome,
            last_success_at=self.poller.last_success_at,
            interval=self.poller.interval,
            next_poll_at=self.poller.next_poll_at,
            stale_after=self.poller.stale_after,
            calls_left=self._budget.left if self._settings.cohere.calls_per_month else None,
            counts=snapshot.status_counts if snapshot else None,
            dropped=snapshot.dropped if snapshot else 0,
            now=self._clock.time(),
        )

    def open_access(self) -> Access | None:
        """Read the web configuration file, if there is one."""
        file = self._settings.web.config_file
        if file is None:
            return None
        try:
            return Access(file, on_reload=self._web_config_read_again)
        except WebConfigError as error:
            raise SettingsError(f"{self._settings.origin('web.config.file')}: {error}") from None

    @asynccontextmanager
    async def running(self, listener: socket.socket, access: Access | None = None) -> AsyncIterator[Running]:
        """Poll, and serve the pages on `listener`, until the context ends."""
        web = self._settings.web
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.http)
            polling = asyncio.create_task(self.poller.run(), name="poller")
            stack.push_async_callback(_end, polling)
            pages = create_app(
                scrape=self.scrape,
                overview=self.overview,
                is_healthy=lambda: not polling.done(),
                is_ready=lambda: self.poller.outcome is not None,
                telemetry_path=web.telemetry_path,
                max_requests=web.max_requests,
                on_rejected=self.telemetry.scrapes_rejected.inc,
            )
            server = await stack.enter_async_context(_server(pages, listener, access))
            scheme = "https" if access is not None and access.encrypted else "http"
            yield Running(polling, _url(web.listen_address.host, server.port, scheme))

    def _web_config_read_again(self, result: WebConfig | WebConfigError) -> None:
        if isinstance(result, WebConfig):
            log.info("the web configuration has changed and is in force")
            _warn_of_access(self._settings, result)
            return
        self.telemetry.web_config_reload_failures.inc()
        log.warning(
            "the web configuration cannot be used; the last good one stays in force", error=str(result)
        )

    async def _publish(self, snapshot: Snapshot) -> None:
        await self.exposition.publish(snapshot)
        self.telemetry.published(snapshot)

    def _read_key(self) -> str:
        """Read the key; log and count when it can no longer be read, and log when it can again."""
        value = self._key.read()
        if self._key.error and self._key.error != self._key_error:
            self.telemetry.key_reload_failures.inc()
            log.warning("the API key file cannot be used; the last good key stays", error=self._key.error)
        elif self._key_error and not self._key.error:
            log.info("the API key file can be used again")
        self._key_error = self._key.error
        return value


async def serve(settings: Settings, key: ApiKey, *, simulated: bool = False) -> int:
    """Poll and serve until a signal asks for an end; end with 1 should polling end by itself."""
    exporter = Exporter(settings, key, clock=SystemClock(), simulated=simulated)
    access = exporter.open_access()
    listener = _listen(settings)
    _warn_of_key(settings, key)
    if access is not None:
        _warn_of_access(settings, access.config)
    if simulated:
        log.warning("this is a demo: all data is simulated", speed=settings.demo.speed)
    favour_scrapes()
    stopping = _stop_signal()
    async with exporter.running(listener, access) as running:
        log.info("serving", version=__version__, url=running.url, api=settings.cohere.base_url)
        ends: tuple[asyncio.Future[Any], ...] = (running.polling, stopping)
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if running.polling.done():
            log.critical("polling has ended, which it never should", exc_info=running.polling.exception())
            return 1
        running.polling.cancel()  # at once: scrapes under way may take their time yet
        log.info("stopping", signal=stopping.result().name)
    return 0


async def demo(settings: Settings, key: ApiKey) -> int:
    """Serve what is polled from a simulated API inside this process, over HTTP; `key` is the one it takes."""
    simulator = Simulator(api_key=key.read(), speed=settings.demo.speed)
    async with WebServer(simulator, listen("127.0.0.1", 0)) as server:
        pointed = settings.cohere.model_copy(update={"base_url": f"http://127.0.0.1:{server.port}"})
        return await serve(settings.model_copy(update={"cohere": pointed}), key, simulated=True)


async def check(settings: Settings, key: ApiKey, *, clock: Clock | None = None) -> int:
    """Poll once and print what was found, or what is wrong and what to do about it."""
    if settings.log.level != "debug":
        logging.disable()  # what is wrong is printed, in more words
    clock = clock or SystemClock()
    # Everything is read, for however long it takes and whatever is left of a budget.
    patient = {
        "poll": settings.poll.model_copy(
            update={"interval": CHECK_INTERVAL, "idle_interval": CHECK_INTERVAL}
        ),
        "cohere": settings.cohere.model_copy(update={"calls_per_month": 0}),
    }
    exporter = Exporter(settings.model_copy(update=patient), key, clock=clock)
    async with exporter.http:
        outcome = await exporter.poller.poll()
        if outcome.reason is None:
            await exporter.poller.finish()
    snapshot = exporter.exposition.snapshot
    if outcome.reason or snapshot is None:
        say(failure(outcome, settings.cohere.base_url))
        return 1
    code = show(table(snapshot, clock.time()))
    if unread := exporter.poller.unread:
        models = "1 model" if len(unread) == 1 else f"{len(unread)} models"
        say(f"step metrics of {models} could not be read: {unread[0]}")
    return code


def _open_http(settings: Settings, *, trust_env: bool) -> httpx.AsyncClient:
    cohere = settings.cohere
    try:
        return open_http(
            cohere.base_url,
            client_name=cohere.client_name,
            user_agent=f"{NAME}/{__version__}",
            connections=cohere.concurrency,
            trust_env=trust_env,
        )
    except (httpx.InvalidURL, ImportError, OSError, ValueError):
        # Not the library's words: a proxy's URL may hold a password.
        raise SettingsError(
            "the environment names a proxy or certificates that cannot be used: look at HTTPS_PROXY, "
            "HTTP_PROXY, ALL_PROXY (http and https only), NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR"
        ) from None


def favour_scrapes() -> None:
    """Keep what holds the interpreter short, so that a scrape beside a poll of a large fleet waits little."""
    # A scrape waits for the interpreter's lock at each write, by default 5 ms while another thread renders.
    sys.setswitchinterval(SWITCH_INTERVAL)
    # What stands by now stays, and the garbage collector need not go through it again and again.
    gc.freeze()


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it has put away what it had under way."""
    task.cancel()
    await asyncio.wait({task})


def _listen(settings: Settings) -> socket.socket:
    try:
        return listen(*settings.web.listen_address)
    except OSError as error:
        origin = settings.origin("web.listen-address")
        raise SettingsError(f"{origin}: {error.strerror or error}") from None


def _server(pages: ASGIApp, listener: socket.socket, access: Access | None) -> WebServer:
    if access is None:
        return WebServer(pages, listener)
    return WebServer(guarded(pages, access.rules), listener, tls=access.tls if access.encrypted else None)


def _url(host: str, port: int, scheme: str) -> str:
    """Give an address that opens in a browser on this machine."""
    if host in ("", "::", "0.0.0.0"):  # noqa: S104 - compared, not bound
        host = "localhost"
    return f"{scheme}://[{host}]:{port}/" if ":" in host else f"{scheme}://{host}:{port}/"


def _stop_signal() -> asyncio.Future[signal.Signals]:
    """Give a future that ends with the first signal that asks for an end."""
    loop = asyncio.get_running_loop()
    stopping: asyncio.Future[signal.Signals] = loop.create_future()

    def stop(number: signal.Signals) -> None:
        if not stopping.done():
            stopping.set_result(number)

    for number in ending():
        loop.add_signal_handler(number, stop, number)
    # The loop still wakes and calls `stop`; its own handlers, which do nothing, make room for ones that act
    # even while the loop is held up.
    end_in_time()
    return stopping


def _warn_of_key(settings: Settings, key: ApiKey) -> None:
    """Warn when the key would cross a network for everybody to read, or is missing where one may be meant."""
    file, base_url = settings.cohere.api_key_file, settings.cohere.base_url
    if file and not key.read():
        log.warning("the API key file is empty; no key is sent until it holds one", file=str(file))
    url = urlsplit(base_url)
    if url.scheme == "http" and key.read() and url.hostname not in ("localhost", "127.0.0.1", "::1"):
        log.warning("the API key is sent in clear text; give --cohere.base-url as https", api=base_url)


def _warn_of_access(settings: Settings, config: WebConfig) -> None:
    """Say what in the web configuration is not as whoever wrote it may think."""
    local = settings.web.listen_address.host in ("localhost", "127.0.0.1", "::1")
    for remark in config.remarks(local=local):
        log.warning("web configuration", remark=remark)
