"""The training progress of each model: a queue of readings, and the last good values.

    the model                       is read
    ──────────────────────────────  ────────────────────────────────────────────────────────────────────────
    is queued                       never: its run has not begun
    is in training                  with each list, or as soon as its turn comes
    comes to rest                   at once, and again after each of `REREAD`: its last rows may come late;
                                    with a quota in no two of them between two lists, but for the last
    is first seen long at rest      once, to the last page; once more if it has no rows
    changes at rest                 once; if that brings anything new, as if it came to rest
    could not be read               after a backoff of its own
    lost the rows it had            the same: one odd answer ends nothing

Who has waited longest is next; models in training and at rest take turns. A refusal concerns all models only
when a second, different one is refused with no success between: then nothing is read for a while, and
afterwards one model at a time until one succeeds. The refused ones were meant alone then, and what they are
answered from now on says nothing about others. What a reading brings is dropped if its run is over; its rows
count as missed.
"""

import asyncio
import heapq
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from exporter.clock import Clock, Wakeup
from exporter.cohere.client import Cursor, StepReading
from exporter.errors import ApiError, Forbidden, Gone, PaymentRequired, QuotaSpent, RateLimited, Unauthorized
from exporter.model import FinetunedModel, Status, StepRows, TrainingProgress
from exporter.polling.changes import Unexpected
from exporter.polling.schedule import Backoff, asked_to_wait

log = structlog.stdlib.get_logger(__name__)

REREAD = (60.0, 300.0, 1200.0, 3660.0)  # seconds after a model came to rest; the last is a whole reading
LONG_AT_REST = 7200.0
LONGEST_BACKOFF, LONGEST_BACKOFF_AT_REST = 900.0, 86_400.0
FIRST_BACKOFF = 60.0
LATEST = 1.5  # intervals after which a model in training is read even if no list has come
CONCERNS_ALL = 2
_REFUSALS = (Unauthorized, Forbidden, PaymentRequired, RateLimited)
_GONE_ADVICE = (
    "Was the model deleted? The API had step metrics of it before; it is asked again, less and less often."
)
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


class StepsObserver(Protocol):
    """Who is told of failures."""

    def training_metrics_failed(self, reason: str) -> None:
        """Take note of a model whose step metrics could not be read."""
        ...


@dataclass(slots=True)
class _Entry:
    """One model, what is known of its run, and when it is read next."""

    model: FinetunedModel
    progress: TrainingProgress | None = None
    cursor: Cursor | None = None
    is_read: bool = False  # to the last page, at least once
    run: int = 0
    changed_at: float = -math.inf
    rested_at: float = -math.inf
    asked_at: float = -math.inf
    due_at: float = math.inf
    error: ApiError | None = None
    failures: int = 0
    is_in_flight: bool = False

    @property
    def is_training(self) -> bool:
        return self.model.status == Status.FINETUNING


class StepMetrics:
    """Reads and holds the progress of the models last listed.

    `on_change` is called when there is something new to show, `on_rows` with all that a reading newly
    brought.
    """

    def __init__(
        self,
        api: StepsApi,
        *,
        observer: StepsObserver,
        clock: Clock,
        concurrency: int,
        unexpected: Unexpected,
        on_change: Callable[[], None],
        on_rows: Callable[[StepRows], None] | None = None,
    ) -> None:
        self._api = api
        self._observer = observer
        self._clock = clock
        self._most_in_flight = max(concurrency - 1, 1)
        self._unexpected = unexpected
        self._on_change = on_change
        self._on_rows = on_rows or (lambda _: None)
        self._entries: dict[str, _Entry] = {}
        self._queues: dict[bool, list[tuple[float, float, str]]] = {True: [], False: []}
        self._last_was_training = False
        self._interval = FIRST_BACKOFF
        self._left: float = math.inf  # readings that the quota allows until the next list
        self._least_gap = 0.0  # between readings of a model at rest
        self._in_flight: set[asyncio.Task[None]] = set()
        self._wakeup = Wakeup(clock)
        self._refused: set[str] = set()  # since the last success
        self._refused_alone: set[str] = set()
        self._backoff = Backoff()
        self._closed_until = -math.inf
        self._was_failing = False

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
            entry = before.get(model.id)
            if entry is None:
                entry = self._entries[model.id] = _Entry(model)
                self._see(entry, None)
            else:
                self._entries[model.id] = entry
                earlier, entry.model = entry.model, model
                if earlier is not model and _state(earlier) != _state(model):
                    self._see(entry, earlier)
                elif entry.is_training:
                    self._hurry(entry)
        if not before.keys() <= self._entries.keys():
            self._forget_others()
        self._report_recovery()
        self._wakeup.call()

    def _forget_others(self) -> None:
        """Drop what is kept of models that are listed no more; a place in a queue may last for a day."""
        self._refused &= self._entries.keys()
        self._refused_alone &= self._entries.keys()
        for kind, queue in self._queues.items():
            self._queues[kind] = [place for place in queue if place[-1] in self._entries]
            heapq.heapify(self._queues[kind])

    def pause(self) -> None:
        """Begin no reading before the next list: the last one failed, and step metrics would, too."""
        self._left = 0

    def resume(self) -> None:
        """Forget every backoff: what stood in the way may be gone."""
        self._closed_until = -math.inf
        self._refused.clear()
        self._refused_alone.clear()
        now = self._clock.monotonic()
        for entry in self._entries.values():
            if entry.failures:
                entry.failures = 0
                self._plan(entry, now)

    def _see(self, entry: _Entry, earlier: FinetunedModel | None) -> None:
        """Take note of a model that is new or has changed."""
        now, model = self._clock.monotonic(), entry.model
        was = earlier.status if earlier else None
        entry.changed_at = now
        if model.status == Status.QUEUED or (entry.is_training and was in _RUN_IS_OVER):
            self._forget(entry)
        if model.status != was:
            entry.failures = 0
        if model.status == Status.QUEUED:
            self._plan(entry, math.inf)
        elif not (entry.is_training and was == Status.FINETUNING) and not entry.failures:
            if not entry.is_training and (was in (Status.QUEUED, Status.FINETUNING) or self._is_new(entry)):
                entry.rested_at = now
            self._plan(entry, now)

    def _hurry(self, entry: _Entry) -> None:
        """Read a model in training with the list, rather than a while later."""
        now = self._clock.monotonic()
        if (
            not entry.failures
            and now < entry.due_at < math.inf
            and entry.asked_at <= now - self._interval / 2
        ):
            self._plan(entry, now)

    def _is_new(self, entry: _Entry) -> bool:
        """Return whether a model that was never read may have come to rest a short while ago."""
        ended = max(entry.model.updated_at or 0.0, entry.model.completed_at or 0.0)
        return not entry.is_read and not (0.0 < ended < self._clock.time() - LONG_AT_REST)

    def _forget(self, entry: _Entry) -> None:
        if entry.progress:
            self._on_change()
        entry.progress = entry.cursor = entry.error = None
        entry.is_read = False
        entry.run += 1

    # Reading.

    async def run(self) -> None:
        """Read what is due, for ever."""
        await self._work(is_endless=True)

    async def drain(self) -> None:
        """Read what is due now; return when nothing more is to be had."""
        await self._work(is_endless=False)

    async def _work(self, *, is_endless: bool) -> None:
        latest = math.inf if is_endless else self._clock.monotonic()
        try:
            while True:
                while entry := self._next(latest):
                    task = asyncio.create_task(self._read(entry), name="step metrics")
                    self._in_flight.add(task)
                    task.add_done_callback(self._done)
                if not self._in_flight and not is_endless:
                    return
                await self._wakeup.wait(self._seconds_to_next())
        finally:
            tasks = tuple(self._in_flight) if is_endless else ()
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        self._wakeup.call()
        if not task.cancelled() and (bug := task.exception()):
            self._unexpected("unexpected error in step metrics", bug)

    def _plan(self, entry: _Entry, due_at: float) -> None:
        entry.due_at = due_at
        if due_at < math.inf:
            heapq.heappush(self._queues[entry.is_training], (due_at, entry.asked_at, entry.model.id))

    def _first(self, *, is_training: bool) -> _Entry | None:
        """Return the entry that is due first, whose place in the queue is dropped if it is out of date."""
        queue = self._queues[is_training]
        while queue:
            due_at, _, model_id = queue[0]
            entry = self._entries.get(model_id)
            if (
                entry
                and entry.due_at == due_at
                and entry.is_training is is_training
                and not entry.is_in_flight
            ):
                return entry
            heapq.heappop(queue)
        return None

    def _due(self) -> Sequence[_Entry]:
        """Return who is first in each queue, the one whose turn it is first."""
        order = (not self._last_was_training, self._last_was_training)
        return [entry for kind in order if (entry := self._first(is_training=kind))]

    def _next(self, latest: float) -> _Entry | None:
        """Take the next model to read; None when none is due or none may be read now."""
        now = self._clock.monotonic()
        most = 1 if len(self._refused) >= CONCERNS_ALL else self._most_in_flight
        if self._left < 1 or now < self._closed_until or len(self._in_flight) >= most:
            return None
        entry = next((entry for entry in self._due() if entry.due_at <= min(now, latest)), None)
        if entry:
            self._left -= 1
            self._last_was_training = entry.is_training
            entry.due_at, entry.asked_at, entry.is_in_flight = math.inf, now, True
        return entry

    def _seconds_to_next(self) -> float:
        if self._left < 1 or len(self._in_flight) >= self._most_in_flight:
            return math.inf
        due_at = min((entry.due_at for entry in self._due()), default=math.inf)
        now = self._clock.monotonic()
        # Overdue, but with others in flight that must end first.
        return math.inf if due_at <= now >= self._closed_until else max(due_at, self._closed_until) - now

    async def _read(self, entry: _Entry) -> None:
        model, run = entry.model, entry.run
        is_whole = REREAD[-1] <= self._rested(entry) < math.inf and not entry.cursor
        reading, error = None, None
        try:
            reading = await self._api.training_steps(
                model.id, entry.progress, entry.cursor, is_whole=is_whole
            )
        except ApiError as caught:
            error = caught.kept()
        except Exception as bug:  # noqa: BLE001 - whatever one model's metrics hold, the others are read
            error = self._unexpected("unexpected error in step metrics", bug, model_id=model.id)
        finally:
            entry.is_in_flight = False
        has_left = self._entries.get(model.id) is not entry
        if reading and (has_left or entry.run != run) and (missed := reading.missed + len(reading.rows)):
            self._on_rows(StepRows(model=model, rows=(), missed=missed))
        if has_left:
            return
        if entry.run != run:
            self._plan_regularly(entry)
        elif error:
            self._failed(entry, error)
        elif reading:
            self._succeeded(entry, reading)

    def _rested(self, entry: _Entry) -> float:
        """Return the seconds from when a model came to rest to its last reading; 0 in training."""
        return 0.0 if entry.is_training else entry.asked_at - entry.rested_at

    def _succeeded(self, entry: _Entry, reading: StepReading) -> None:
        self._refused_alone = (self._refused_alone | self._refused) - {entry.model.id}
        self._refused.clear()
        self._backoff = Backoff()
        entry.error = None
        if reading.progress is None and entry.progress:
            self._back_off(entry)  # the API had rows of this run
            return
        if reading.progress is None and reading.is_complete:
            self._has_none(entry)
            return
        is_news = reading.progress != entry.progress
        if is_news and entry.is_read and not entry.is_training:
            entry.rested_at = entry.asked_at
        entry.progress, entry.cursor, entry.failures = reading.progress, reading.cursor, 0
        entry.is_read = reading.is_complete
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
        self._plan_regularly(entry)
        self._report_recovery()

    def _has_none(self, entry: _Entry) -> None:
        """Take note that a run has no rows; where it is long over, that is asked about once more."""
        if not entry.is_read and not entry.is_training and entry.rested_at == -math.inf:
            entry.rested_at = entry.asked_at - REREAD[-2]
        entry.is_read, entry.failures = True, 0
        self._plan_regularly(entry)
        self._report_recovery()

    def _plan_regularly(self, entry: _Entry) -> None:
        """Plan the next reading after one that brought what there was."""
        if entry.model.status == Status.QUEUED:
            return
        if not entry.is_read or entry.asked_at < entry.changed_at:
            self._plan(entry, self._clock.monotonic())
        elif entry.is_training:
            self._plan(entry, entry.asked_at + LATEST * self._interval)
        else:
            after = next((after for after in REREAD if after > self._rested(entry)), math.inf)
            earliest = min(entry.asked_at + self._least_gap, entry.rested_at + REREAD[-1])
            self._plan(entry, max(entry.rested_at + after, earliest))

    def _failed(self, entry: _Entry, error: ApiError) -> None:
        if isinstance(error, QuotaSpent) and error.status is None:
            self._left = 0  # the model has done nothing wrong
            self._plan(entry, self._clock.monotonic())
            return
        self._observer.training_metrics_failed(error.reason)
        log.debug("step metrics cannot be read", model_id=entry.model.id, **error.fields())
        if isinstance(error, Gone) and not entry.progress:
            entry.error = None  # the API has none, or none yet
            self._has_none(entry)
            return
        entry.error = error
        self._report_failure(entry, error)
        self._back_off(entry)
        if isinstance(error, _REFUSALS) and entry.model.id not in self._refused_alone:
            self._refused.add(entry.model.id)
            now = self._clock.monotonic()
            if len(self._refused) >= CONCERNS_ALL and now >= self._closed_until:
                pause = self._backoff.pause(error, max(self._interval, FIRST_BACKOFF))
                self._closed_until = now + pause

    def _back_off(self, entry: _Entry) -> None:
        longest = LONGEST_BACKOFF if entry.is_training else LONGEST_BACKOFF_AT_REST
        if entry.error and not isinstance(entry.error, Gone):
            longest = LONGEST_BACKOFF
        first = min(self._interval, FIRST_BACKOFF)
        pause = max(self._interval, min(first * 2.0 ** min(entry.failures, 20), longest))
        entry.failures += 1
        until = self._clock.monotonic() + asked_to_wait(entry.error)
        self._plan(entry, max(entry.asked_at + pause, until))

    # The log.

    def _report_failure(self, entry: _Entry, error: ApiError) -> None:
        if not self._was_failing:
            log.warning(
                "step metrics cannot be read; last good values stay",
                model_id=entry.model.id,
                **error.fields(),
                advice=_GONE_ADVICE if isinstance(error, Gone) else error.advice,
            )
        self._was_failing = True

    def _report_recovery(self) -> None:
        if self._was_failing and not any(entry.error for entry in self._entries.values()):
            log.info("step metrics can be read again")
            self._was_failing = False


def _state(model: FinetunedModel) -> tuple[str, float | None]:
    return model.status, model.updated_at
