"""The composition root: builds the parts, joins them, starts and stops them in order.

The only module that sees both the API's side and the pages' side; what the program does with them stands in
`commands`.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx

from exporter import NAME, REVISION, __version__
from exporter.clock import Clock
from exporter.cohere.client import CohereClient
from exporter.cohere.client_tls import (
    KEY_LOG,
    Authorities,
    ClientCertificate,
    TlsContexts,
    TlsFiles,
)
from exporter.cohere.http import open_http, parse_base_url
from exporter.cohere.proxies import Proxy, UnusableProxy, proxy_for
from exporter.cohere.transport import Endpoint, Transport
from exporter.cohere.wire import REJECTED_KINDS
from exporter.exposition import Exposition, SelfMetrics
from exporter.exposition.training_steps import StepExposition
from exporter.families import PROGRESS_FAMILIES, STEP_FAMILIES
from exporter.model import Snapshot, StepRows
from exporter.polling.allowance import RequestAllowance
from exporter.polling.poller import Poller
from exporter.polling.quota import BudgetFile, Quota
from exporter.polling.schedule import PollSchedule
from exporter.reloads import Reloads
from exporter.runtime.reload import ReloadError
from exporter.runtime.worker import WorkerThread
from exporter.settings import ApiKey, ListenAddress, Settings, SettingsError
from exporter.telemetry import Telemetry
from exporter.web.config_reloader import WebConfigReloader
from exporter.web.connection import Connection
from exporter.web.landing import Overview
from exporter.web.limits import Limits
from exporter.web.policy import enforce
from exporter.web.recent import Curve, RecentValues
from exporter.web.server import WebServer, listen
from exporter.web.views import PROBES, View, create_views, route

PROBE_CONNECTIONS = 16
PROBE_IDLE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Running:
    """The poll loop, which never ends by itself, and where the pages are."""

    polling: asyncio.Task[None]
    url: str


class Exporter:
    """Everything that stands between the API and the pages, built and joined but not yet running."""

    def __init__(self, settings: Settings, key: ApiKey, *, clock: Clock, simulated: bool = False) -> None:
        self._settings = settings
        self._clock = clock
        self._simulated = simulated
        self.published = asyncio.Event()
        cohere = settings.cohere
        self.telemetry = Telemetry(
            version=__version__,
            revision=REVISION,
            endpoints=Endpoint,
            rejected_kinds=REJECTED_KINDS,
            calls_left=(lambda: self._quota.left) if cohere.calls_per_month else None,
            next_poll_at=lambda: self.poller.next_poll_at or 0.0,
            interval=lambda: self.poller.schedule.interval,
            stale_after=lambda: self.poller.schedule.freshness.stale_after,
            has_budget_file=cohere.budget_file is not None,
            process_metrics=not settings.web.disable_exporter_metrics,
        )
        self._reloads = Reloads(settings, key, self.telemetry, clock)
        file = cohere.budget_file
        self._quota = Quota(
            cohere.calls_per_month,
            clock,
            BudgetFile(file, self.telemetry.budget_file_failed, cohere.page_size) if file else None,
        )
        allowance = RequestAllowance(
            clock,
            requests_per_minute=cohere.requests_per_minute,
            concurrency=cohere.concurrency,
            quota=self._quota,
        )
        environ = {} if simulated else os.environ
        base_url = _base_url(settings)
        proxy = _proxy(base_url, environ)
        self.http = open_http(
            base_url,
            client_name=cohere.client_name,
            user_agent=f"{NAME}/{__version__}",
            connections=cohere.concurrency,
            tls=self._open_tls(environ, needed="https" in (base_url.scheme, proxy and proxy.url.scheme)),
            proxy=proxy,
        )
        transport = Transport(
            self.http,
            key=self._reloads.key,
            timeout=cohere.timeout,
            allowance=allowance,
            observer=self.telemetry,
            clock=clock,
            proxy=proxy,
        )
        worker = WorkerThread()
        self.client = CohereClient(
            transport,
            observer=self.telemetry,
            page_size=cohere.page_size,
            metric_limit=settings.training.metric_limit,
            metrics=settings.training.metrics,
            saves_calls=cohere.calls_per_month > 0,
            worker=worker,
        )
        exclude = settings.metrics.exclude
        window = settings.training.steps_window
        self.steps = StepExposition(
            clock=clock,
            window=window,
            worker=worker,
            on_missed=self.telemetry.training_steps_missed.inc,
            exclude=exclude,
        )
        self.recent = RecentValues()
        self._curves: Mapping[str, Curve] = {}
        self.poller = Poller(
            self.client,
            schedule=PollSchedule(
                clock,
                interval=settings.poll.interval,
                idle_interval=settings.poll.idle_interval,
                stale_after=settings.poll.stale_after if settings.poll.stale_after_given else None,
                quota=self._quota,
                allowance=allowance,
            ),
            publish=self._publish,
            observer=self.telemetry,
            clock=clock,
            key=self._reloads.key,
            concurrency=cohere.concurrency,
            models_limit=settings.models.limit,
            with_progress=shows_steps(settings),
            on_rows=self._take_rows,
        )
        self.exposition = Exposition(
            is_fresh=self.poller.schedule.freshness.is_fresh,
            own=SelfMetrics(self.telemetry.registry, clock).render,
            exclude=exclude,
            worker=worker,
        )

    def overview(self) -> Overview:
        """Return what the landing page shows."""
        return Overview(
            name=NAME,
            version=__version__,
            revision="" if REVISION == "unknown" else REVISION,
            telemetry_path=self._settings.web.telemetry_path,
            api_url=self._settings.cohere.base_url,
            simulated=self._simulated,
            outcome=self.poller.outcome,
            last_success_at=self.poller.last_success_at,
            interval=self.poller.schedule.regular,
            next_poll_at=self.poller.next_poll_at,
            stale_after=self.poller.schedule.freshness.stale_after,
            calls_left=self._quota.left if self._settings.cohere.calls_per_month else None,
            snapshot=self.exposition.snapshot,
            curves=self._curves,
            now=self._clock.time(),
        )

    def open_access(self) -> WebConfigReloader | None:
        """Read the web configuration file, if there is one."""
        file = self._settings.web.config_file
        if file is None:
            return None
        try:
            access = WebConfigReloader(file, on_reload=self._reloads.web_config)
        except ReloadError as error:
            raise SettingsError(f"--web.config.file: {error}") from None
        self._reloads.loaded("web_config")
        return access

    @asynccontextmanager
    async def running(
        self,
        *listeners: socket.socket,
        access: WebConfigReloader | None = None,
        probes: socket.socket | None = None,
    ) -> AsyncIterator[Running]:
        """Poll, and serve the views on `listeners` and the probes on theirs, until the context ends."""
        web = self._settings.web
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.http)
            polling = asyncio.create_task(self.poller.run(), name="poller")
            stack.push_async_callback(_end, polling)
            in_flight = set[Connection]()
            views = create_views(
                in_flight=in_flight,
                scrape=self.exposition.chunks,
                scrape_steps=self.steps.chunks if self._settings.training.steps_window else None,
                overview=self.overview,
                is_healthy=lambda: not polling.done(),
                is_ready=lambda: self.poller.outcome is not None,
                telemetry_path=web.telemetry_path,
                max_requests=web.max_requests,
                on_rejected=self.telemetry.scrapes_rejected.inc,
            )
            if probes is not None:
                only = route({path: views[path] for path in PROBES})
                limits = Limits(connections=PROBE_CONNECTIONS, idle_seconds=PROBE_IDLE_SECONDS)
                await stack.enter_async_context(WebServer(only, probes, limits=limits))
            server = await stack.enter_async_context(_server(route(views), listeners, access, in_flight))
            scheme = "https" if access is not None and access.encrypted else "http"
            yield Running(polling, _url(web.listen_address[0].host, server.port, scheme))

    def _take_rows(self, new: StepRows) -> None:
        self.recent.add(new)
        if self._settings.training.steps_window:
            self.steps.offer(new)

    async def _publish(self, snapshot: Snapshot) -> None:
        curves = self.recent.of(snapshot)
        await self.exposition.publish(snapshot)
        self._curves = curves  # not before the numbers that stand beside them
        await self.steps.publish()
        self.telemetry.published(snapshot)
        self.published.set()

    def _open_tls(self, environ: Mapping[str, str], *, needed: bool) -> TlsContexts:
        files = _tls_files(self._settings, environ, needed=needed)
        try:
            contexts = TlsContexts(files, key_log=environ.get(KEY_LOG, ""), on_reload=self._reloads.tls)
        except ReloadError as error:
            raise SettingsError(str(error)) from None
        for part in files:
            self._reloads.loaded(part.name)
        return contexts


def _proxy(url: httpx.URL, environ: Mapping[str, str]) -> Proxy | None:
    try:
        return proxy_for(url, environ)
    except UnusableProxy as error:
        raise SettingsError(str(error)) from None


def _base_url(settings: Settings) -> httpx.URL:
    try:
        return parse_base_url(settings.cohere.base_url)
    except ValueError as error:
        raise SettingsError(f"--cohere.base-url: {error}") from None


def _tls_files(settings: Settings, environ: Mapping[str, str], *, needed: bool) -> list[TlsFiles]:
    """Return the files that TLS to the API is made of; those that are named are checked in any case."""
    cohere = settings.cohere
    files: list[TlsFiles] = []
    if needed or cohere.ca_file:
        files.append(Authorities.find(cohere.ca_file, "--cohere.ca-file", environ))
    if certificate := cohere.client_cert_file:
        key = cohere.client_key_file or certificate
        files.append(ClientCertificate("--cohere.client-cert-file", certificate, key))
    return files


def shows_steps(settings: Settings) -> bool:
    """Return whether anything of training steps is shown; the API is not asked for what nobody is shown."""
    exclude = settings.metrics.exclude
    timed = [family.name for family in STEP_FAMILIES] if settings.training.steps_window else []
    return exclude is None or not all(exclude.fullmatch(name) for name in (*PROGRESS_FAMILIES, *timed))


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it has cleaned up."""
    task.cancel()
    await asyncio.wait({task})


def open_listeners(settings: Settings) -> list[socket.socket]:
    """Return the listening sockets of the views; SettingsError names the option when one cannot be had."""
    return [_open_listener(address, "--web.listen-address") for address in settings.web.listen_address]


def open_probe_listener(settings: Settings) -> socket.socket | None:
    """Return the listening socket of the probes alone, if they are to have one."""
    address = settings.web.probe_address
    return None if address is None else _open_listener(address, "--web.probe-address")


def _open_listener(address: ListenAddress, flag: str) -> socket.socket:
    try:
        return listen(*address)
    except OSError as error:
        raise SettingsError(f"{flag}: {error.strerror or error}") from None


def _server(
    view: View,
    listeners: Sequence[socket.socket],
    access: WebConfigReloader | None,
    in_flight: set[Connection],
) -> WebServer:
    if access is None:
        return WebServer(view, *listeners, in_flight=in_flight)
    tls = access.tls if access.encrypted else None
    return WebServer(enforce(view, access.policy), *listeners, in_flight=in_flight, tls=tls)


def _url(host: str, port: int, scheme: str) -> str:
    """Return an address that opens in a browser on this machine."""
    if host in ("", "::", "0.0.0.0"):  # noqa: S104 - compared, not bound
        host = "localhost"
    return f"{scheme}://[{host}]:{port}/" if ":" in host else f"{scheme}://{host}:{port}/"
