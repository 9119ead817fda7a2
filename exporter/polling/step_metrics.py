"""The training progress of each model: a queue of readings, and the last good values.

Whose step metrics are read when is in `readings`. A model that waits stays due when it was, whatever lists
come, so who has waited longest is next; models in training and at rest take turns. One that could not be read
is tried again after a backoff of its own; what is known stays. A reading whose run is over, or whose model
has left the list, is ended.
"""

import asyncio
import heapq
import math
from collections.abc import Callable, Iterable
from typing import Protocol

import structlog

from exporter.clock import Clock, Wakeup
from exporter.cohere.step_reading import Cursor, StepReading
from exporter.errors import ApiError, Gone, QuotaSpent
from exporter.model import FinetunedModel, Status, StepRows, TrainingProgress
from exporter.polling.changes import Failures, unexpected
from exporter.polling.readings import Outage, Run
from exporter.polling.schedule import asked_to_wait

log = structlog.stdlib.get_logger(__name__)

_GONE_ADVICE = "Was the model deleted? The exporter retries with exponential backoff."

_Place = tuple[float, float, str, Run]


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
        self._runs: dict[str, Run] = {}
        # Who waits, by whether it is in training and failed last: when it is due, when it was last read.
        self._queues: dict[tuple[bool, bool], list[_Place]] = {}
        self._last_was_training = False
        self._interval = 0.0
        self._left: float = 0.0  # readings that the quota allows until the next list
        self._least_gap = 0.0  # between readings of a model at rest
        self._in_flight = 0
        self._wakeup = Wakeup(clock)
        self._outage = Outage(clock)
        self._failures = Failures(clock)

    def progress(self, model_id: str) -> TrainingProgress | None:
        """Return the last good values of a model."""
        run = self._runs.get(model_id)
        return run.progress if run else None

    @property
    def errors(self) -> list[ApiError]:
        """The errors of the models whose last reading failed."""
        return [run.error for run in self._runs.values() if run.error]

    # What the poller says.

    def listed(self, models: Iterable[FinetunedModel], *, interval: float, limit: int | None) -> None:
        """Take note of the models there are; `limit` of them may be read until the next list (None: all)."""
        self._interval = interval
        self._left, self._least_gap = (math.inf, 0.0) if limit is None else (limit, interval)
        before, self._runs = self._runs, {}
        for model in models:
            run = before.pop(model.id, None)
            if run and run.model is model and model.status != Status.FINETUNING:
                self._runs[model.id] = run  # the page of the list has not changed
                continue
            if run and run.is_over(model):
                run.end_reading()
                run = None
            self._runs[model.id] = run = run or Run(FinetunedModel(id=model.id, status=""))
            run.listed(model, self._clock, interval)
        for run in before.values():
            run.end_reading()
        self._outage.keep(self._runs.keys())
        self._line_up()
        self._report_recovery()

    def pause(self) -> None:
        """Begin no reading before the next list: the last one failed, and step metrics would, too."""
        self._left = 0

    def resume(self) -> None:
        """Forget every backoff: what stood in the way may be gone."""
        self._outage.end()
        for run in self._runs.values():
            if run.failures:
                run.failures, run.due_at = 0, self._clock.monotonic()
        self._line_up()

    # The queue.

    def _line_up(self) -> None:
        """Queue everybody who waits, and nobody else."""
        self._queues = {}
        for run in self._runs.values():
            if run.due_at < math.inf:
                self._queue(run)
        self._wakeup.call()

    def _queue(self, run: Run) -> None:
        """Queue a run that is to be read; while a reading is in flight the next one waits for its end."""
        if run.due_at < math.inf and not run.reading:
            place = run.due_at, run.asked_at, run.model.id, run
            heapq.heappush(self._queues.setdefault((run.is_training, run.failures > 0), []), place)

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
            queues = [queue for queue in self._queues.values() if queue]
            next_at = max(self._outage.closed_until, min((queue[0][0] for queue in queues), default=math.inf))
            if next_at > min(now, latest):
                return next_at - now
            due = [queue for queue in queues if queue[0][0] <= min(now, latest)]
            self._begin(heapq.heappop(min(due, key=self._turn))[-1], readings)
        return math.inf

    def _turn(self, queue: list[_Place]) -> tuple[bool, bool, float]:
        """Return what is least where the next reading is; of an outage, who never failed says most."""
        due_at, *_, run = queue[0]
        is_known_to_fail = not self._outage.is_open and run.failures > 0
        return is_known_to_fail, run.is_training is self._last_was_training, due_at

    def _begin(self, run: Run, readings: asyncio.TaskGroup) -> None:
        run.due_at, run.asked_at = math.inf, self._clock.monotonic()
        self._last_was_training = run.is_training
        self._left -= 1
        self._in_flight += 1
        run.reading = readings.create_task(self._read(run), name="step metrics")
        run.reading.add_done_callback(self._ended)

    def _ended(self, _: object) -> None:
        self._in_flight -= 1
        self._wakeup.call()

    # Reading.

    async def _read(self, run: Run) -> None:
        try:
            reading = await self._api.training_steps(
                run.model.id, run.progress, run.cursor, is_whole=run.wants_all
            )
            self._outage.end()
            self._learn(run, reading)
        except ApiError as error:
            self._failed(run, error.without_traceback())
        except Exception as bug:  # noqa: BLE001 - whatever one model's metrics hold, the others are read
            self._failed(run, unexpected("unexpected error in step metrics", bug, model_id=run.model.id))
        run.reading = None
        self._queue(run)

    def _learn(self, run: Run, reading: StepReading) -> None:
        run.error = None
        if reading.rows or reading.missed:
            self._on_rows(
                StepRows(
                    model=run.model,
                    rows=reading.rows,
                    missed=reading.missed,
                    is_new_run=reading.is_new_run,
                )
            )
        if run.learn(reading, self._interval, self._least_gap):
            self._on_change()
        self._report_recovery()

    def _failed(self, run: Run, error: ApiError) -> None:
        if isinstance(error, QuotaSpent) and error.status is None:
            self._left = 0  # the model has done nothing wrong
            run.due_at = self._clock.monotonic()
            return
        self._on_failure(error.reason)
        log.debug("step metrics cannot be read", model_id=run.model.id, **error.fields())
        if isinstance(error, Gone) and not run.progress:
            self._learn(run, StepReading(None, []))  # the API has none, or none yet
            return
        run.error = error
        self._report_failure(run.model.id, error)
        self._outage.failed(run.model.id, error, self._interval, is_first=not run.failures)
        run.back_off(self._interval, not_before=self._clock.monotonic() + asked_to_wait(error))

    # The log.

    def _report_failure(self, model_id: str, error: ApiError) -> None:
        if self._failures.is_news(error.reason):
            log.warning(
                "step metrics cannot be read; last good values stay",
                model_id=model_id,
                **error.fields(),
                advice=_GONE_ADVICE if isinstance(error, Gone) else error.advice,
            )

    def _report_recovery(self) -> None:
        # Asked after each reading, so all models are looked through only where one has failed.
        if self._failures.lasting and not any(run.error for run in self._runs.values()):
            self._failures.end()
            log.info("step metrics can be read again")
