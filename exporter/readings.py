"""The training progress of each model: which must be read again, and the last good reading of each.

A model in training is read at every poll; a model at rest once for each state (status and `updated_at`) that
it is seen in; a model in the queue has not begun. A reading that fails leaves the last good one in place.
"""

import asyncio
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Protocol, TypeAlias

import structlog

from exporter.clock import Clock
from exporter.errors import ApiError, Gone, InvalidResponse, PaymentRequired, RateLimited, Unauthorized
from exporter.model import FinetunedModel, Status, TrainingProgress
from exporter.patience import Patience, asked_rest

log = structlog.stdlib.get_logger(__name__)

LONGEST_BACKOFF = 8  # polls left out, at most, after failures on one model
# A failure on one model that every other model would meet too.
_CONCERNS_ALL = (Unauthorized, PaymentRequired, RateLimited)

_State: TypeAlias = tuple[str, float | None]


class ProgressApi(Protocol):
    """What is asked of the API."""

    async def training_progress(
        self, model_id: str, earlier: TrainingProgress | None = None
    ) -> TrainingProgress | None:
        """Give the latest step metrics of one model, None when it has none; raise `ApiError`."""
        ...


class ReadingObserver(Protocol):
    """Who is told of failures."""

    def training_metrics_failed(self, reason: str) -> None:
        """Take note of a model whose step metrics could not be read."""
        ...


@dataclass(slots=True)
class _Reading:
    """One model's progress, the state of the model it was read for, and how reading it has failed since."""

    progress: TrainingProgress | None = None
    read_for: _State | None = None
    error: ApiError | None = None
    failures: int = 0
    failed_for: _State | None = None
    asked_at: float = -math.inf
    retry_at: float = -math.inf

    def is_due(self, model: FinetunedModel, now: float) -> bool:
        if model.status == Status.QUEUED or (now < self.retry_at and self.failed_for == _state(model)):
            return False
        return model.status == Status.FINETUNING or self.read_for != _state(model)

    def settle(self, model: FinetunedModel) -> None:
        self.read_for, self.error, self.failures = _state(model), None, 0

    def back_off(self, model: FinetunedModel, interval: float, *, rest_until: float) -> None:
        polls_left_out = min(2**self.failures - 1, LONGEST_BACKOFF)
        # Half an interval is left for polls that come a moment early.
        self.retry_at = max(self.asked_at + (polls_left_out + 0.5) * interval, rest_until)
        self.failed_for = _state(model)
        self.failures = min(self.failures + 1, LONGEST_BACKOFF)


class Readings:
    """Holds the last good reading of each model."""

    def __init__(
        self, api: ProgressApi, *, observer: ReadingObserver, clock: Clock, concurrency: int
    ) -> None:
        self._api = api
        self._observer = observer
        self._clock = clock
        self._concurrency = concurrency
        self._patience = Patience()
        self._resume_at = -math.inf
        self._readings: dict[str, _Reading] = {}
        self._was_failing = False
        self._begun = 0
        self._at_rest_first = False

    def progress(self, model: FinetunedModel) -> TrainingProgress | None:
        """Give the last good reading of a model."""
        reading = self._readings.get(model.id)
        return reading.progress if reading else None

    @property
    def errors(self) -> list[ApiError]:
        """The errors of the models whose last reading failed."""
        return [reading.error for reading in self._readings.values() if reading.error]

    async def refresh(
        self, models: Sequence[FinetunedModel], interval: float, limit: int | None = None
    ) -> int:
        """Read what is due, `limit` models at most (None: all), beginning nothing after `interval` seconds.

        `interval` is the time between refreshes, too. A failure that every model would meet ends a refresh
        early; then those that come too soon read nothing. Gives how many models it began to read.
        """
        self._begun = 0
        self._readings = {model.id: self._readings.get(model.id) or _Reading() for model in models}
        now = self._clock.monotonic()
        if now < self._resume_at:
            return 0
        due = self._due(models)[:limit]
        queue = iter(due)
        async with asyncio.TaskGroup() as group:
            workers = [
                group.create_task(self._work(queue, now + interval, interval))
                for _ in due[: self._concurrency]
            ]
        setback = next((error for worker in workers if (error := worker.result())), None)
        self._halt(setback, interval)
        self._report()
        return self._begun

    def resume(self) -> None:
        """Let the next refresh read at once: what stood in the way may be gone."""
        self._resume_at = -math.inf

    def _halt(self, setback: ApiError | None, interval: float) -> None:
        pause = self._patience.pause(setback, interval)
        # Half an interval is left for polls that come a moment early, but none of what the API asked for.
        rest = max(pause - interval / 2, asked_rest(setback))
        self._resume_at = self._clock.monotonic() + rest if setback else -math.inf

    def _due(self, models: Iterable[FinetunedModel]) -> list[FinetunedModel]:
        """Give the models to read, those in training and those at rest in turn, longest waiting first.

        So neither a deadline nor a limit that is always too short starves anybody.
        """
        now = self._clock.monotonic()
        due = [model for model in models if self._readings[model.id].is_due(model, now)]
        due.sort(key=lambda model: self._readings[model.id].asked_at)
        training = [model for model in due if model.status == Status.FINETUNING]
        at_rest = [model for model in due if model.status != Status.FINETUNING]
        kinds = (at_rest, training) if self._at_rest_first else (training, at_rest)
        return [model for pair in zip_longest(*kinds) for model in pair if model]

    async def _work(
        self, queue: Iterator[FinetunedModel], deadline: float, interval: float
    ) -> ApiError | None:
        for model in queue:
            if self._clock.monotonic() >= deadline:
                break
            error = await self._read(model)
            if isinstance(error, _CONCERNS_ALL):
                # The other workers find the queue empty.
                for _ in queue:
                    pass
                return error
            if error and not isinstance(error, Gone):
                rest_until = self._clock.monotonic() + asked_rest(error)
                self._readings[model.id].back_off(model, interval, rest_until=rest_until)
        return None

    async def _read(self, model: FinetunedModel) -> ApiError | None:
        reading = self._readings[model.id]
        reading.asked_at = self._clock.monotonic()
        self._begun += 1
        # A refresh that reads one model only reads the other kind the next time.
        self._at_rest_first = model.status == Status.FINETUNING
        try:
            reading.progress = await self._api.training_progress(model.id, reading.progress)
        except ApiError as caught:
            error = caught.kept()
        except Exception as bug:
            # Whatever one model's metrics hold, the others are read.
            log.exception("step metrics of a model failed in a way nobody foresaw", model_id=model.id)
            error = InvalidResponse(f"unexpected {type(bug).__name__}; see the log")
        else:
            reading.settle(model)
            return None
        self._observer.training_metrics_failed(error.reason)
        log.debug("step metrics of a model failed", model_id=model.id, **error.fields())
        reading.error = error
        if isinstance(error, Gone):
            # The API has none: asking again changes nothing before the model changes.
            reading.settle(model)
        return error

    def _report(self) -> None:
        """Log one line when readings begin to fail, and one when none fails any more."""
        errors = self.errors
        if errors and not self._was_failing:
            log.warning(
                "step metrics cannot be read; last good values stay", models=len(errors), **errors[0].fields()
            )
        elif self._was_failing and not errors:
            log.info("step metrics can be read again")
        self._was_failing = bool(errors)


def _state(model: FinetunedModel) -> _State:
    return model.status, model.updated_at
