"""The loop: list the models, publish the list, note how it went, and plan the next poll.

Polls never overlap. A poll that cannot list every page publishes nothing; a good one publishes its list at
once, and ends when that is what a scrape gets. Step metrics are read beside it all the time (`step_metrics`);
what they bring is published a moment later, many at a time.
"""

import asyncio
import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Protocol

import structlog

from exporter.clock import Clock, Wakeup
from exporter.cohere.client import Listing
from exporter.errors import ApiError, Forbidden, PaymentRequired, Unauthorized
from exporter.model import FinetunedModel, ModelState, PollOutcome, Snapshot, Status, StepRows
from exporter.polling.changes import Changes, unexpected
from exporter.polling.schedule import RESOLUTION, PollSchedule
from exporter.polling.step_metrics import StepMetrics, StepsApi

log = structlog.stdlib.get_logger(__name__)

LONGEST_JITTER = 1.0  # seconds before the first poll, so that exporters rolled out together spread
KEY_CHECK_INTERVAL = 1.0
LONGEST_GATHERING = 1.0  # seconds for which results of step metrics wait for others
RENDERING_SHARE = 10  # and at least so many times what publishing took
_OF_THE_KEY = frozenset(error.reason for error in (Unauthorized, Forbidden, PaymentRequired))


class Api(StepsApi, Protocol):
    """What the poller asks of the API."""

    async def list_models(self) -> Listing:
        """List every model; raise `ApiError`."""


class Observer(Protocol):
    """Who is told how polling goes."""

    def poll_ended(self, outcome: PollOutcome) -> None:
        """Take note of a poll's end."""

    def training_metrics_failed(self, reason: str) -> None:
        """Take note of a model whose step metrics could not be read."""


class Poller:
    """Polls as the `schedule` says.

    `publish` takes each snapshot; `key` gives the API key in force, which is only compared; `on_rows` is
    handed the rows that each reading newly brought; without `with_progress` only models are listed.
    """

    def __init__(
        self,
        api: Api,
        *,
        schedule: PollSchedule,
        publish: Callable[[Snapshot], Awaitable[None]],
        observer: Observer,
        clock: Clock,
        key: Callable[[], str],
        concurrency: int = 8,
        models_limit: int = 0,
        on_rows: Callable[[StepRows], None] = lambda _: None,
        with_progress: bool = True,
    ) -> None:
        self._api = api
        self.schedule = schedule
        self._publish = publish
        self._observer = observer
        self._clock = clock
        self._key = key
        self._last_key = key()
        self._models_limit = models_limit
        self._with_progress = with_progress
        self._changes = Changes(clock)
        self._news = asyncio.Event()
        self.step_metrics = StepMetrics(
            api,
            clock=clock,
            concurrency=concurrency,
            on_change=self._news.set,
            on_rows=on_rows,
            on_failure=self._training_metrics_failed,
        )
        self._changed = Wakeup(clock)  # how polling or step metrics fare
        self._exported: Sequence[FinetunedModel] = ()
        self._fleet = Snapshot(states=(), status_counts={})  # as listed last, but for the states
        self._publishing = asyncio.Lock()
        self._publishing_took = 0.0
        self.outcome: PollOutcome | None = None
        self.last_success_at: float | None = None

    @property
    def next_poll_at(self) -> float | None:
        """When the next poll begins, in Unix seconds as the wall clock counts them now."""
        if self.outcome is None:
            return None
        return self._clock.time() + (self.schedule.next_at - self._clock.monotonic())

    async def run(self) -> None:
        """Poll for ever, the first time almost at once."""
        longest = min(LONGEST_JITTER, self.schedule.interval / 10)
        await self._clock.sleep(random.uniform(0, longest))  # noqa: S311 - it hides nothing
        async with asyncio.TaskGroup() as beside:
            beside.create_task(self.step_metrics.run(), name="step metrics")
            beside.create_task(self._publish_news(), name="publish news")
            beside.create_task(self._watch_age(), name="watch age")
            while True:
                outcome = await self.poll()
                await self._wait_for_next(has_failed=outcome.reason is not None)

    async def poll(self) -> PollOutcome:
        """Poll once; a failure is the outcome, never an exception."""
        self._look_at_key()
        began = self.schedule.began()
        error: ApiError | None = None
        try:
            await self._list(began)
        except ApiError as caught:
            error = caught.without_traceback()
        except Exception as bug:  # noqa: BLE001 - whatever comes from outside, the loop goes on
            error = unexpected("unexpected error while polling", bug)
        return self._ended(error, began)

    async def _list(self, began: float) -> None:
        """List the models and publish them; between the steps, which a large fleet makes long, others run."""
        listing = await self._api.list_models()
        self._changes.listed(listing.models)
        await asyncio.sleep(0)
        self._listed(listing, began)
        await asyncio.sleep(0)
        await self._publish_now()

    def _ended(self, error: ApiError | None, began: float) -> PollOutcome:
        self.schedule.ended(error)
        self.outcome = PollOutcome(
            finished_at=self._clock.time(),
            duration=self._clock.monotonic() - began,
            reason=error.reason if error else None,
            message=error.message if error else "",
            advice=error.advice if error else "",
        )
        if error is None:
            self.last_success_at = self.outcome.finished_at
        else:
            self.step_metrics.pause()
        self._observer.poll_ended(self.outcome)
        self._changes.polled(error, next_in=self.schedule.next_at - self._clock.monotonic())
        self._changed.call()
        return self.outcome

    async def finish(self) -> None:
        """Read the step metrics that are due, and publish them."""
        await self.step_metrics.drain()
        if self._news.is_set() or self._publishing.locked():
            await self._publish_now()

    def _listed(self, listing: Listing, began: float) -> None:
        models = sorted(listing.models, key=lambda model: (-(model.created_at or -math.inf), model.id))
        self._exported = models[: self._models_limit or None]
        counts = Counter(model.status for model in models)
        self._fleet = Snapshot(
            states=(),
            status_counts=dict.fromkeys((status.value for status in Status), 0)
            | dict(sorted(counts.items())),
            dropped=len(models) - len(self._exported),
            listed_at=began,
        )
        read = self._exported if self._with_progress else ()
        training = sum(model.status == Status.FINETUNING for model in read)
        limit = self.schedule.listed(
            counts,
            pages=listing.pages,
            readings=training,
            has_step_metrics=any(model.status != Status.QUEUED for model in read),
        )
        self.step_metrics.listed(read, interval=self.schedule.regular, limit=limit)

    async def _publish_now(self) -> None:
        async with self._publishing:  # what is published last is the newest
            self._news.clear()
            began = self._clock.monotonic()
            progress = self.step_metrics.progress
            states = tuple(ModelState(model, progress(model.id)) for model in self._exported)
            await self._publish(replace(self._fleet, states=states))
            self._publishing_took = self._clock.monotonic() - began

    async def _publish_news(self) -> None:
        """Publish what step metrics bring, many results at a time."""
        while True:
            await self._news.wait()
            gathering = min(LONGEST_GATHERING, self.schedule.regular / 4)
            await self._clock.sleep(max(gathering, RENDERING_SHARE * self._publishing_took))
            try:
                if self._news.is_set():
                    await self._publish_now()
            except Exception as bug:  # noqa: BLE001 - the next result, or list, is another try
                unexpected("unexpected error while publishing step metrics", bug)

    async def _wait_for_next(self, *, has_failed: bool) -> None:
        """Wait; a new key ends every pause, and after a failed poll the wait.

        One list never follows another at once: with one slot, step metrics get it only in between.
        """
        await self._clock.sleep(RESOLUTION)
        while (left := self.schedule.next_at - self._clock.monotonic()) > 0:
            may_help = has_failed or any(one.reason in _OF_THE_KEY for one in self.step_metrics.errors)
            await self._changed.wait(min(left, KEY_CHECK_INTERVAL) if may_help else left)
            if may_help and self._look_at_key():
                if has_failed:
                    log.info("the API key has changed; polling at once")
                    return
                log.info("the API key has changed; reading step metrics at once")

    def _training_metrics_failed(self, reason: str) -> None:
        self._observer.training_metrics_failed(reason)
        self._changed.call()

    def _look_at_key(self) -> bool:
        """Return whether the key has changed since the last look; a new one ends every pause."""
        key, self._last_key = self._last_key, self._key()
        has_changed = key != self._last_key
        if has_changed:
            self.schedule.forget_failures()
            self.step_metrics.resume()
        return has_changed

    async def _watch_age(self) -> None:
        """Log that the list has grown too old at that moment, be it between polls or during one."""
        while True:
            await self._changed.wait(self.schedule.freshness.left)
            listed_at = self._fleet.listed_at
            self._changes.aged(
                is_stale=listed_at is not None and not self.schedule.freshness.is_fresh(listed_at)
            )
