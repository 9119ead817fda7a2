"""The training progress of each model: a queue of readings, and the last good values.

Whose step metrics are read when is a table in docs/design.md. A model that waits keeps its place, whatever
lists come, so who has waited longest is next; models in training and at rest take turns. One that could not
be read is tried again after a backoff of its own; what is known stays. A reading whose run is over, or whose
model has left the list, is ended.
"""

import asyncio
import heapq
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from exporter.clock import Clock, Wakeup
from exporter.cohere.client import Cursor, StepReading
from exporter.cohere.steps import newest_seen
from exporter.errors import ApiError, Gone, QuotaSpent
from exporter.model import FinetunedModel, Status, StepRows, TrainingProgress
from exporter.polling.changes import unexpected
from exporter.polling.outage import Outage
from exporter.polling.schedule import asked_to_wait

log = structlog.stdlib.get_logger(__name__)

REREAD = (60.0, 300.0, 1200.0, 3660.0)  # seconds after a model came to rest; the last is a whole reading
LONG_AT_REST = 7200.0
FIRST_BACKOFF = 60.0  # or the interval, if that is shorter
LONGEST_BACKOFF, LONGEST_BACKOFF_AT_REST = 900.0, 86_400.0
_GONE_ADVICE = "Was the model deleted? The exporter retries with exponential backoff."
_RUN_IS_OVER = frozenset({Status.READY, Status.FAILED, Status.DELETED, Status.DEPLOYING_API})


class StepsApi(Protocol):
    """What is asked of the API."""

    async def training_steps(
        self,
        model_id: str,
        known: TrainingProgress | None = None,
        cursor: Cursor | None = None,
        *,
        is_whole: bool = False,
    ) -> StepReading:
        """Read the steps of one model that are not `known`, or all; raise `ApiError`."""
        ...


@dataclass(slots=True)
class _Entry:
    """One run of a model, what is known of it, and when it is read next."""

    model: FinetunedModel
    progress: TrainingProgress | None = None
    cursor: Cursor | None = None
    is_read: bool = False  # to the last page, at least once
    rested_at: float = -math.inf
    asked_at: float = -math.inf
    due_at: float = math.inf
    failures: int = 0  # in a row
    error: ApiError | None = None
    reading: asyncio.Task[None] | None = None

    @property
    def is_training(self) -> bool:
        return self.model.status == Status.FINETUNING

    @property
    def rested(self) -> float:
        """The seconds from when the model came to rest to its last reading; 0 in training."""
        return 0.0 if self.is_training else self.asked_at - self.rested_at

    def end_reading(self) -> None:
        if self.reading:
            self.reading.cancel()


class StepMetrics:
    """Reads and holds the progress of the models last listed.

    `on_change` is called when there is something new to show, `on_rows` with all that a reading newly
    brought, `on_failure` with the reason why a model could not be read.
    """

    def __init__(
        self,
        api: StepsApi,
        *,
        clock: Clock,
        concurrency: int,
        on_change: Callable[[], None],
        on_rows: Callable[[StepRows], None],
        on_failure: Callable[[str], None],
    ) -> None:
        self._api = api
        self._clock = clock
        self._most_in_flight = max(concurrency - 1, 1)
        self._on_change = on_change
        self._on_rows = on_rows
        self._on_failure = on_failure
        self._entries: dict[str, _Entry] = {}
        # By whether the model is in training; places that are out of date are dropped when their turn comes.
        self._queues: dict[bool, list[tuple[float, float, str]]] = {True: [], False: []}
        self._last_was_training = False
        self._interval = FIRST_BACKOFF
        self._left: float = math.inf  # readings that the quota allows until the next list
        self._least_gap = 0.0  # between readings of a model at rest
        self._in_flight = 0
        self._wakeup = Wakeup(clock)
        self._outage = Outage(clock)
        self._reported: set[str] = set()  # reasons, since all models could be read

    def progress(self, model_id: str) -> TrainingProgress | None:
        """Return the last good values of a model."""
        entry = self._entries.get(model_id)
        return entry.progress if entry else None

    @property
    def errors(self) -> list[ApiError]:
        """The errors of the models whose last reading failed."""
        return [entry.error for entry in self._entries.values() if entry.error]

    # What the poller says.

    def listed(self, models: Iterable[FinetunedModel], *, interval: float, limit: int | None) -> None:
        """Take note of the models there are; `limit` of them may be read until the next list (None: all)."""
        self._interval = interval
        self._left, self._least_gap = (math.inf, 0.0) if limit is None else (limit, interval)
        before, self._entries = self._entries, {}
        for model in models:
            known = before.get(model.id)
            if known and known.model is model and model.status != Status.FINETUNING:
                self._entries[model.id] = known  # the same page of the list: nothing has changed
                continue
            was = known.model if known else None
            if known and _begins_anew(known.model, model):
                known.end_reading()
                known = None
            entry = self._entries[model.id] = known or _Entry(model)
            entry.model = model
            self._plan_after_list(entry, was)
        if left := before.keys() - self._entries.keys():
            for model_id in left:
                before[model_id].end_reading()
            self._forget_others()
        self._report_recovery()
        self._wakeup.call()

    def _plan_after_list(self, entry: _Entry, was: FinetunedModel | None) -> None:
        """Plan to read a model that is new, has changed or is in training."""
        now, model = self._clock.monotonic(), entry.model
        has_moved = was is None or model.status != was.status
        if has_moved:
            entry.failures = 0
        if model.status == Status.QUEUED or entry.failures:
            return
        if not has_moved and entry.is_training:
            # Not twice within an interval, when a list comes early.
            is_due = entry.asked_at <= now - self._interval / 2
        else:
            is_due = was is None or has_moved or model.updated_at != was.updated_at
            came_to_rest = was and was.status in (Status.QUEUED, Status.FINETUNING)
            if is_due and not entry.is_training and (came_to_rest or self._may_be_new(entry)):
                entry.rested_at = now
        if is_due and (has_moved or entry.due_at > now):
            self._plan(entry, min(entry.due_at, now))

    def _may_be_new(self, entry: _Entry) -> bool:
        """Return whether a model that was never read may have come to rest a short while ago."""
        ended = max(entry.model.updated_at or 0.0, entry.model.completed_at or 0.0)
        return not entry.is_read and not (0.0 < ended < self._clock.time() - LONG_AT_REST)

    def _forget_others(self) -> None:
        """Drop what is kept of models that are listed no more; a place in a queue may last for a day."""
        self._outage.keep(self._entries.keys())
        for kind, queue in self._queues.items():
            self._queues[kind] = [place for place in queue if place[-1] in self._entries]
            heapq.heapify(self._queues[kind])

    def pause(self) -> None:
        """Begin no reading before the next list: the last one failed, and step metrics would, too."""
        self._left = 0

    def resume(self) -> None:
        """Forget every backoff: what stood in the way may be gone."""
        self._outage.end()
        for entry in self._entries.values():
            if entry.failures:
                entry.failures = 0
                self._plan(entry, self._clock.monotonic())
        self._wakeup.call()

    # The queue.

    async def run(self) -> None:
        """Read what is due, for ever."""
        async with asyncio.TaskGroup() as readings:
            while True:
                await self._wakeup.wait(self._begin_due(readings))

    async def drain(self) -> None:
        """Read what is due now, and nothing that becomes due meanwhile."""
        latest = self._clock.monotonic()
        async with asyncio.TaskGroup() as readings:
            self._begin_due(readings, latest)
            while self._in_flight:
                await self._wakeup.wait(math.inf)
                self._begin_due(readings, latest)

    def _begin_due(self, readings: asyncio.TaskGroup, latest: float = math.inf) -> float:
        """Begin every reading that may begin now; return the seconds until the next may."""
        while self._left >= 1 and self._in_flight < (self._most_in_flight if self._outage.is_open else 1):
            now = self._clock.monotonic()
            first = [entry for entry in map(self._first, self._queues) if entry]
            next_at = max(self._outage.closed_until, min((entry.due_at for entry in first), default=math.inf))
            if next_at > min(now, latest):
                return next_at - now
            due = [entry for entry in first if entry.due_at <= min(now, latest)]
            self._begin(
                max(due, key=lambda entry: entry.is_training is not self._last_was_training), readings
            )
        return math.inf

    def _begin(self, entry: _Entry, readings: asyncio.TaskGroup) -> None:
        entry.due_at, entry.asked_at = math.inf, self._clock.monotonic()
        self._last_was_training = entry.is_training
        self._left -= 1
        self._in_flight += 1
        entry.reading = readings.create_task(self._read(entry), name="step metrics")
        entry.reading.add_done_callback(self._ended)

    def _ended(self, _: object) -> None:
        self._in_flight -= 1
        self._wakeup.call()

    def _first(self, is_training: bool) -> _Entry | None:
        """Return the entry of one kind that is due first."""
        queue = self._queues[is_training]
        while queue:
            due_at, _, model_id = queue[0]
            entry = self._entries.get(model_id)
            if entry and entry.due_at == due_at and entry.is_training is is_training:
                return entry
            heapq.heappop(queue)
        return None

    def _plan(self, entry: _Entry, due_at: float) -> None:
        """Plan the next reading; while one is in flight it takes its place in the queue after that."""
        entry.due_at = due_at
        if due_at < math.inf and not entry.reading:
            heapq.heappush(self._queues[entry.is_training], (due_at, entry.asked_at, entry.model.id))

    # Reading.

    async def _read(self, entry: _Entry) -> None:
        try:
            self._succeeded(entry, await self._ask(entry))
        except ApiError as error:
            self._failed(entry, error.without_traceback())
        except Exception as bug:  # noqa: BLE001 - whatever one model's metrics hold, the others are read
            message = "unexpected error in step metrics"
            self._failed(entry, unexpected(message, bug, model_id=entry.model.id))

    async def _ask(self, entry: _Entry) -> StepReading:
        is_whole = REREAD[-1] <= entry.rested < math.inf and not (entry.cursor and entry.cursor.token)
        try:
            return await self._api.training_steps(
                entry.model.id, entry.progress, entry.cursor, is_whole=is_whole
            )
        finally:
            entry.reading = None

    def _succeeded(self, entry: _Entry, reading: StepReading) -> None:
        self._outage.end()
        entry.error = None
        if reading.progress is None and entry.progress:
            self._back_off(entry)  # the API had rows of this run
        else:
            self._learn(entry, reading)

    def _learn(self, entry: _Entry, reading: StepReading) -> None:
        is_news = reading.progress != entry.progress or bool(reading.rows)  # late ones change no progress
        if not entry.is_training:
            if is_news and entry.is_read:
                entry.rested_at = entry.asked_at
            elif reading.progress is None and not entry.is_read and entry.rested_at == -math.inf:
                entry.rested_at = entry.asked_at - REREAD[-2]  # no rows of a run long over: ask once more
        # What got no further is not tried again soon.
        entry.is_read = reading.is_complete or not (is_news or reading.cursor != entry.cursor)
        entry.progress, entry.cursor, entry.failures = reading.progress, reading.cursor, 0
        if reading.rows or reading.missed:
            self._on_rows(
                StepRows(
                    model=entry.model,
                    rows=reading.rows,
                    missed=reading.missed,
                    is_new_run=reading.is_new_run,
                )
            )
        if is_news:
            self._on_change()
        self._plan_after_reading(entry)
        self._report_recovery()

    def _plan_after_reading(self, entry: _Entry) -> None:
        if entry.due_at < math.inf:  # a list came meanwhile
            self._plan(entry, entry.due_at)
        elif not entry.is_read:
            self._plan(entry, entry.asked_at + self._first_backoff)
        elif entry.is_training:
            return  # until the next list
        elif after := next((at for at in REREAD if at > entry.rested), None):
            earliest = min(entry.asked_at + self._least_gap, entry.rested_at + REREAD[-1])
            self._plan(entry, max(entry.rested_at + after, earliest))
        elif entry.cursor:
            # Thousands may rest for good.
            entry.cursor = replace(entry.cursor, seen=newest_seen(entry.cursor.seen))

    def _failed(self, entry: _Entry, error: ApiError) -> None:
        if isinstance(error, QuotaSpent) and error.status is None:
            self._left = 0  # the model has done nothing wrong
            self._plan(entry, self._clock.monotonic())
            return
        self._on_failure(error.reason)
        log.debug("step metrics cannot be read", model_id=entry.model.id, **error.fields())
        if isinstance(error, Gone) and not entry.progress:
            entry.error = None
            self._learn(entry, StepReading(None, []))  # the API has none, or none yet
            return
        entry.error = error
        self._report_failure(entry.model.id, error)
        self._outage.failed(entry.model.id, error, self._interval, is_first=not entry.failures)
        self._back_off(entry)

    @property
    def _first_backoff(self) -> float:
        return min(self._interval, FIRST_BACKOFF)

    def _back_off(self, entry: _Entry) -> None:
        longest = LONGEST_BACKOFF if entry.is_training else LONGEST_BACKOFF_AT_REST
        pause = min(self._first_backoff * 2.0 ** min(entry.failures, 20), max(longest, self._interval))
        entry.failures += 1
        until = self._clock.monotonic() + asked_to_wait(entry.error)
        self._plan(entry, max(entry.asked_at + pause, until))

    # The log.

    def _report_failure(self, model_id: str, error: ApiError) -> None:
        if error.reason not in self._reported:
            log.warning(
                "step metrics cannot be read; last good values stay",
                model_id=model_id,
                **error.fields(),
                advice=_GONE_ADVICE if isinstance(error, Gone) else error.advice,
            )
        self._reported.add(error.reason)

    def _report_recovery(self) -> None:
        if self._reported and not any(entry.error for entry in self._entries.values()):
            log.info("step metrics can be read again")
            self._reported.clear()


def _begins_anew(was: FinetunedModel, now: FinetunedModel) -> bool:
    """Return whether what is known of a model is about a run that is over, of which nothing is kept."""
    return now.status == Status.QUEUED or (now.status == Status.FINETUNING and was.status in _RUN_IS_OVER)
