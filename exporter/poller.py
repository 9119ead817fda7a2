"""The loop: list the models, read the step metrics that are due, build a snapshot, hand it on.

Polls never overlap. A poll that cannot list every page publishes nothing. Statuses never wait for step
metrics: where these take longer than a moment, the poll publishes the statuses and ends, and the round of
readings goes on beside the next polls.
"""

import asyncio
import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import structlog

from exporter.clock import Clock
from exporter.cohere.client import Listing
from exporter.errors import ApiError, InvalidResponse
from exporter.events import Events
from exporter.model import FinetunedModel, ModelState, PollOutcome, Snapshot, Status
from exporter.pace import Budget, Pace
from exporter.patience import Patience, asked_rest
from exporter.readings import ProgressApi, ReadingObserver, Readings

log = structlog.stdlib.get_logger(__name__)

LONGEST_JITTER = 1.0  # seconds before the first poll, so that exporters rolled out together spread
STATUSES_WAIT = 2.0  # seconds for which new statuses wait to be published with their step metrics
KEY_CHECK_INTERVAL = 1.0


class Api(ProgressApi, Protocol):
    """What the poller asks of the API."""

    async def list_models(self) -> Listing:
        """List every model; raise `ApiError`."""
        ...


class Observer(ReadingObserver, Protocol):
    """Who is told how polling goes."""

    def poll_ended(self, outcome: PollOutcome) -> None:
        """Take note of a poll's end."""
        ...

    def paced(self, interval: float, stale_after: float) -> None:
        """Take note of the times in force, in seconds."""
        ...


class Poller:
    """Polls every `interval` seconds, an idle fleet every `idle_interval`, or more seldom by the `budget`.

    `publish` takes each snapshot; `key` gives the API key in force, which is only compared; without
    `with_progress` only models are listed.
    """

    def __init__(
        self,
        api: Api,
        *,
        publish: Callable[[Snapshot], Awaitable[None]],
        observer: Observer,
        clock: Clock,
        key: Callable[[], str],
        interval: float,
        idle_interval: float | None = None,
        stale_after: float | None = None,
        concurrency: int = 8,
        models_limit: int = 0,
        budget: Budget | None = None,
        with_progress: bool = True,
    ) -> None:
        self._api = api
        self._publish = publish
        self._observer = observer
        self._clock = clock
        self._key = key
        self._pace = Pace(interval, idle_interval=idle_interval, stale_after=stale_after, budget=budget)
        self._models_limit = models_limit
        self._with_progress = with_progress
        self._readings = Readings(api, observer=observer, clock=clock, concurrency=concurrency)
        self._events = Events()
        self._error: ApiError | None = None
        self._patience = Patience()
        self._models: Sequence[FinetunedModel] = ()
        self._listed_at: float | None = None
        self._round: asyncio.Task[None] | None = None
        self.outcome: PollOutcome | None = None
        self.last_success_at: float | None = None
        self._due: float | None = None
        self._good_at: float | None = None
        observer.paced(self.interval, self.stale_after)

    @property
    def interval(self) -> float:
        """Seconds from one poll to the next, as in force."""
        return self._pace.interval

    @property
    def stale_after(self) -> float:
        """Seconds that a snapshot outlives the last success."""
        return self._pace.stale_after

    @property
    def next_poll_at(self) -> float | None:
        """When the next poll begins, in Unix seconds as the wall clock counts them now."""
        return None if self._due is None else self._clock.time() + (self._due - self._clock.monotonic())

    @property
    def unread(self) -> Sequence[ApiError]:
        """The error of each model whose step metrics could not be read."""
        return self._readings.errors

    async def run(self) -> None:
        """Poll for ever, the first time almost at once."""
        jitter = random.uniform(0, min(LONGEST_JITTER, self.interval / 10))  # noqa: S311 - it hides nothing
        await self._clock.sleep(jitter)
        last_key = ""
        try:
            while True:
                key, started = self._key(), self._clock.monotonic()
                if key != last_key:
                    self._readings.resume()
                last_key = key
                await self.poll()
                # What the API asks for is counted from its answer, however long the poll took.
                ended = self._clock.monotonic()
                self._due = max(started + self._pause(), ended + asked_rest(self._error))
                await self._rest(self._due, key)
        finally:
            if self._round:
                self._round.cancel()
                await self.finish()

    async def poll(self) -> PollOutcome:
        """Poll once; a failure is the outcome, never an exception.

        Step metrics that take longer than a moment to read are published once they are read.
        """
        started = self._clock.monotonic()
        error: ApiError | None = None
        try:
            await self._try_poll()
        except ApiError as caught:
            error = caught.kept()
        except Exception as bug:
            # Whatever comes from outside, the loop goes on.
            log.exception("a poll failed in a way nobody foresaw")
            error = InvalidResponse(f"unexpected {type(bug).__name__}; see the log")
        self._error = error
        if error:
            self._pace.failed(error)
            self._observer.paced(self.interval, self.stale_after)
        else:
            self._good_at = self._clock.monotonic()
        is_stale = self._good_at is not None and self._clock.monotonic() - self._good_at > self.stale_after
        self._events.polled(error, is_stale=is_stale)
        self.outcome = PollOutcome(
            finished_at=self._clock.time(),
            duration=self._clock.monotonic() - started,
            reason=error.reason if error else None,
            message=error.message if error else "",
            advice=error.advice if error else "",
        )
        if error is None:
            self.last_success_at = self.outcome.finished_at
        self._observer.poll_ended(self.outcome)
        return self.outcome

    async def finish(self) -> None:
        """Wait until the step metrics that the last poll began to read are published."""
        if self._round:
            await asyncio.wait({self._round})

    async def _try_poll(self) -> None:
        listing = await self._api.list_models()
        self._listed_at = self._clock.monotonic()
        self._events.listed(listing.models)
        self._models = sorted(listing.models, key=lambda model: (-(model.created_at or -math.inf), model.id))
        training = sum(model.status == Status.FINETUNING for model in self._exported)
        self._pace.listed(self._models, pages=listing.pages, readings=training if self._with_progress else 0)
        self._observer.paced(self.interval, self.stale_after)
        if self._round is None or self._round.done():
            self._round = asyncio.create_task(self._read_and_publish(), name="step metrics")
        if await self._ends_within(self._round, STATUSES_WAIT):
            self._round.result()
        else:
            await self._publish(self._snapshot())

    async def _read_and_publish(self) -> None:
        """Read the step metrics that are due, for however long it takes, beside the polls that follow."""
        try:
            if self._with_progress:
                limit = self._pace.readings_limit
                self._pace.read(await self._readings.refresh(self._exported, self.interval, limit))
            await self._publish(self._snapshot())
        except Exception:
            log.exception("step metrics could not be published")
            raise

    async def _ends_within(self, task: asyncio.Task[None], seconds: float) -> bool:
        waiting = asyncio.create_task(self._clock.sleep(seconds))
        try:
            await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        return task.done()

    @property
    def _exported(self) -> Sequence[FinetunedModel]:
        return self._models[: self._models_limit or None]

    def _snapshot(self) -> Snapshot:
        counts = Counter(sorted(model.status for model in self._models))
        return Snapshot(
            states=tuple(ModelState(model, self._readings.progress(model)) for model in self._exported),
            status_counts=dict.fromkeys((status.value for status in Status), 0) | counts,
            dropped=len(self._models) - len(self._exported),
            listed_at=self._listed_at,
        )

    def _pause(self) -> float:
        """Give the seconds from the start of the last poll to the next."""
        return self._patience.pause(self._error, self.interval)

    async def _rest(self, until: float, key: str) -> None:
        """Wait; after a failure a key that has changed since the poll began ends the wait."""
        while (left := until - self._clock.monotonic()) > 0:
            await self._clock.sleep(min(left, KEY_CHECK_INTERVAL) if self._error else left)
            if self._error and self._key() != key:
                log.info("the API key has changed; polling at once")
                return
