"""The composition root: builds the parts, joins them, starts and stops them in order.

The only module that sees both the API's side and the pages' side.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from exporter import NAME, REVISION, __version__
from exporter.clock import Clock
from exporter.cohere.client import CohereClient
from exporter.cohere.http import open_http
from exporter.cohere.proxies import Proxy
from exporter.cohere.transport import Endpoint, Transport
from exporter.cohere.wire import REJECTED_KINDS
from exporter.exposition import Exposition, SelfMetrics
from exporter.exposition.training_steps import StepExposition
from exporter.families import PROGRESS_FAMILIES, STEP_FAMILIES
from exporter.listeners import browser_url
from exporter.model import Snapshot, StepRows
from exporter.polling.allowance import RequestAllowance
from exporter.polling.budget_file import BudgetFile
from exporter.polling.poller import Poller
from exporter.polling.quota import Quota
from exporter.polling.schedule import PollSchedule
from exporter.reloads import Reloads
from exporter.runtime.worker import WorkerThread
from exporter.settings import ApiKey, Settings
from exporter.telemetry import Telemetry
from exporter.upstream import find_upstream
from exporter.web.config_reloader import WebConfigReloader
from exporter.web.connection import Connection, Handler
from exporter.web.landing import Overview
from exporter.web.limits import Limits
from exporter.web.policy import enforce
from exporter.web.recent import Curve, RecentValues
from exporter.web.server import WebServer
from exporter.web.views import PROBES, create_views, route

PROBE_LIMITS = Limits(connections=16, idle_seconds=30.0)


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
        self._clock = clock
        self._simulated = simulated
        self.published = asyncio.Event()
        self.telemetry = self._open_telemetry()
        self.reloads = Reloads(settings, key, self.telemetry, clock)
        self._quota = self._open_quota()
        allowance = RequestAllowance(
            clock,
            requests_per_minute=settings.cohere.requests_per_minute,
            concurrency=settings.cohere.concurrency,
            quota=self._quota,
        )
        upstream = find_upstream(settings, {} if simulated else os.environ)
        self.http = open_http(
            upstream.base_url,
            client_name=settings.cohere.client_name,
            user_agent=f"{NAME}/{__version__}",
            connections=settings.cohere.concurrency,
            tls=upstream.open_tls(self.reloads),
            proxy=upstream.proxy,
        )
        worker = WorkerThread()
        self.client = self._open_client(allowance, upstream.proxy, worker)
        self.steps = StepExposition(
            clock=clock,
            window=settings.training.steps_window,
            worker=worker,
            on_missed=self.telemetry.training_steps_missed.inc,
            exclude=settings.metrics.exclude,
        )
        self.recent = RecentValues()
        self._curves: Mapping[str, Curve] = {}
        self.poller = self._open_poller(allowance)
        self.exposition = Exposition(
            is_fresh=self.poller.schedule.freshness.is_fresh,
            own=SelfMetrics(self.telemetry.registry, clock).render,
            exclude=settings.metrics.exclude,
            worker=worker,
        )

    def _open_telemetry(self) -> Telemetry:
        return Telemetry(
            version=__version__,
            revision=REVISION,
            endpoints=Endpoint,
            rejected_kinds=REJECTED_KINDS,
            calls_left=(lambda: self._quota.left) if self._settings.cohere.calls_per_month else None,
            next_poll_at=lambda: self.poller.next_poll_at or 0.0,
            interval=lambda: self.poller.schedule.interval,
            stale_after=lambda: self.poller.schedule.freshness.stale_after,
            has_budget_file=self._settings.cohere.budget_file is not None,
            process_metrics=not self._settings.web.disable_exporter_metrics,
        )

    def _open_quota(self) -> Quota:
        cohere, failed = self._settings.cohere, self.telemetry.budget_file_failures.inc
        file = BudgetFile(cohere.budget_file, failed, cohere.page_size) if cohere.budget_file else None
        return Quota(cohere.calls_per_month, self._clock, file)

    def _open_client(
        self, allowance: RequestAllowance, proxy: Proxy | None, worker: WorkerThread
    ) -> CohereClient:
        cohere, training = self._settings.cohere, self._settings.training
        transport = Transport(
            self.http,
            key=self._key.read,
            timeout=cohere.timeout,
            allowance=allowance,
            observer=self.telemetry,
            clock=self._clock,
            proxy=proxy,
        )
        return CohereClient(
            transport,
            observer=self.telemetry,
            page_size=cohere.page_size,
            metric_limit=training.metric_limit,
            metrics=training.metrics,
            saves_calls=cohere.calls_per_month > 0,
            worker=worker,
        )

    def _open_poller(self, allowance: RequestAllowance) -> Poller:
        settings, poll = self._settings, self._settings.poll
        schedule = PollSchedule(
            self._clock,
            interval=poll.interval,
            idle_interval=poll.idle_interval,
            stale_after=poll.stale_after,
            quota=self._quota,
            allowance=allowance,
        )
        return Poller(
            self.client,
            schedule=schedule,
            publish=self._publish,
            observer=self.telemetry,
            clock=self._clock,
            key=self._key.read,
            concurrency=settings.cohere.concurrency,
            models_limit=settings.models.limit,
            with_progress=shows_steps(settings),
            on_rows=self._take_rows,
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

    @asynccontextmanager
    async def running(
        self,
        *listeners: socket.socket,
        access: WebConfigReloader | None = None,
        probes: socket.socket | None = None,
    ) -> AsyncIterator[Running]:
        """Poll, and serve the views on `listeners` and the probes on theirs, until the context ends."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.http)
            polling = asyncio.create_task(self.poller.run(), name="poller")
            stack.push_async_callback(_end, polling)
            in_flight = set[Connection]()
            views = self._create_views(polling, in_flight)
            if probes is not None:
                only = route({path: views[path] for path in PROBES})
                await stack.enter_async_context(WebServer(only, probes, limits=PROBE_LIMITS))
            view = route(views) if access is None else enforce(route(views), access.policy)
            tls = access.tls if access is not None and access.encrypted else None
            server = WebServer(view, *listeners, in_flight=in_flight, tls=tls)
            await stack.enter_async_context(server)
            host = self._settings.web.listen_address[0].host
            yield Running(polling, browser_url(host, server.port, "http" if tls is None else "https"))

    def _create_views(self, polling: asyncio.Task[None], in_flight: set[Connection]) -> dict[str, Handler]:
        return create_views(
            in_flight=in_flight,
            scrape=self.exposition.chunks,
            scrape_steps=self.steps.chunks if self._settings.training.steps_window else None,
            overview=self.overview,
            is_healthy=lambda: not polling.done(),
            is_ready=lambda: self.poller.outcome is not None,
            telemetry_path=self._settings.web.telemetry_path,
            max_requests=self._settings.web.max_requests,
            on_rejected=self.telemetry.scrapes_rejected.inc,
        )

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


def shows_steps(settings: Settings) -> bool:
    """Return whether anything of training steps is shown; the API is not asked for what nobody is shown."""
    exclude = settings.metrics.exclude
    timed = [family.name for family in STEP_FAMILIES] if settings.training.steps_window else []
    return exclude is None or not all(exclude.fullmatch(name) for name in (*PROGRESS_FAMILIES, *timed))


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it has cleaned up."""
    task.cancel()
    await asyncio.wait({task})
