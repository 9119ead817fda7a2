"""When the step metrics of one run are read next (`Run`), and when those of no model are (`Outage`).

A table in docs/design.md says which model is read when. Nothing here waits or asks: `step_metrics` does.
"""

import asyncio
import math
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

import structlog

from exporter.clock import Clock
from exporter.cohere.step_reading import Cursor, StepReading
from exporter.cohere.steps import newest_seen
from exporter.errors import ApiError, Forbidden, PaymentRequired, RateLimited, Unauthorized
from exporter.model import FinetunedModel, Status, TrainingProgress
from exporter.polling.schedule import PAUSES, Backoff, doubled

log = structlog.stdlib.get_logger(__name__)

REREAD = (60.0, 300.0, 1200.0, 3660.0)  # seconds after a model came to rest; the last is a whole reading
LONG_AT_REST = 7200.0
FIRST_BACKOFF = 60.0  # or the interval, if that is shorter
LONGEST_BACKOFF, LONGEST_BACKOFF_AT_REST = 900.0, 86_400.0
_RUN_IS_OVER = frozenset({Status.READY, Status.FAILED, Status.DELETED, Status.DEPLOYING_API})
_RUN_GOES_ON = frozenset({Status.QUEUED, Status.FINETUNING})

FIRST_PAUSE = 60.0  # after refusals, which do not pass by themselves
# How many models close it: while open, while probing for the first time, and again. Access may be refused
# model by model.
_CLOSES = {Unauthorized: (2, 4, 4), Forbidden: (2, 4, 4), PaymentRequired: (2, 4, 4), RateLimited: (2, 1, 1)}
_OTHERS_CLOSE = (5, 4, 1)


@dataclass(slots=True)
class Run:
    """One run of a model, what is known of it, and when it is read next, on the monotonic clock."""

    model: FinetunedModel
    progress: TrainingProgress | None = None
    cursor: Cursor | None = None
    is_read: bool = False  # to the end, or no further; otherwise the next reading goes on
    rested_at: float = -math.inf
    asked_at: float = -math.inf
    due_at: float = math.inf
    failures: int = 0  # in a row
    error: ApiError | None = None
    reading: asyncio.Task[None] | None = None

    @property
    def is_training(self) -> bool:
        """Whether the model is in training; otherwise it is at rest."""
        return self.model.status == Status.FINETUNING

    @property
    def wants_all(self) -> bool:
        """Whether this is the last reading of a model at rest, which begins at the first page."""
        return REREAD[-1] <= self._rested < math.inf and not (self.cursor and self.cursor.token)

    @property
    def _rested(self) -> float:
        """The seconds from when the model came to rest to its last reading; 0 in training."""
        return 0.0 if self.is_training else self.asked_at - self.rested_at

    def end_reading(self) -> None:
        """End the reading in flight, if there is one."""
        if self.reading:
            self.reading.cancel()

    def is_over(self, model: FinetunedModel) -> bool:
        """Return whether the model, as listed now, begins another run; nothing is kept of this one."""
        return model.status == Status.QUEUED or (
            model.status == Status.FINETUNING and self.model.status in _RUN_IS_OVER
        )

    def listed(self, model: FinetunedModel, clock: Clock, interval: float) -> None:
        """Plan to read a model that is new, has changed or is in training."""
        was, self.model = self.model, model
        has_moved = model.status != was.status
        if has_moved:
            self.failures = 0
        if model.status == Status.QUEUED or self.failures:
            return
        now = clock.monotonic()
        if self.is_training and not has_moved:
            # Not twice within an interval, when a list comes early.
            is_due = self.asked_at <= now - interval / 2
        else:
            is_due = has_moved or model.updated_at != was.updated_at
            if is_due and not self.is_training and self._has_come_to_rest(was, clock.time()):
                self.rested_at = now
        if is_due:
            self.due_at = min(self.due_at, now)

    def _has_come_to_rest(self, was: FinetunedModel, now: float) -> bool:
        """Return whether the run ended after the last list or, if it was never read, a short while ago."""
        ended = max(self.model.updated_at or 0.0, self.model.completed_at or 0.0)
        return was.status in _RUN_GOES_ON or not (self.is_read or 0.0 < ended < now - LONG_AT_REST)

    def learn(self, reading: StepReading, interval: float, least_gap: float) -> bool:
        """Take what a reading brought, and plan the next; return whether that is news.

        Between readings at rest there is a `least_gap`.
        """
        if reading.progress is None and self.progress:
            self.back_off(interval)  # the API had rows of this run
            return False
        is_news = reading.progress != self.progress or bool(reading.rows)  # late ones change no progress
        if not self.is_training:
            if is_news and self.is_read:
                self.rested_at = self.asked_at
            elif reading.progress is None and not self.is_read and self.rested_at == -math.inf:
                self.rested_at = self.asked_at - REREAD[-2]  # no rows of a run long over: ask once more
        # What got no further is not tried again soon.
        self.is_read = reading.is_complete or not (is_news or reading.cursor != self.cursor)
        self.progress, self.cursor, self.failures = reading.progress, reading.cursor, 0
        if self.due_at == math.inf:  # no list came meanwhile
            self._plan(interval, least_gap)
        return is_news

    def _plan(self, interval: float, least_gap: float) -> None:
        if not self.is_read:
            self.due_at = self.asked_at + min(interval, FIRST_BACKOFF)
        elif self.is_training:
            return  # until the next list
        elif after := next((at for at in REREAD if at > self._rested), None):
            earliest = min(self.asked_at + least_gap, self.rested_at + REREAD[-1])
            self.due_at = max(self.rested_at + after, earliest)
        elif self.cursor:
            # Thousands may rest for good.
            self.cursor = replace(self.cursor, seen=newest_seen(self.cursor.seen))

    def back_off(self, interval: float, *, not_before: float = -math.inf) -> None:
        """Plan to try again; what is known stays."""
        longest = LONGEST_BACKOFF if self.is_training else LONGEST_BACKOFF_AT_REST
        pause = doubled(min(interval, FIRST_BACKOFF), self.failures, max(longest, interval))
        self.failures += 1
        self.due_at = max(self.asked_at + pause, not_before)


class Outage:
    """Whether step metrics as a whole cannot be read, which no model alone can tell.

        state     readings         ends
        ────────  ───────────────  ──────────────────────────────────────────────────────────────────────────
        open      as many as may   different models fail with no success between: closed
        closed    none             after a pause, as between lists that fail in this way: probing
        probing   one at a time    models fail: closed, for longer if all failed before; one succeeds: open

    How many models it takes is `_CLOSES`; one that had failed before says nothing about others. So the pauses
    stay short until each model was tried, since the last one may be the good one. A success of a reading that
    began before opens it, too. `closed_until` is on the monotonic clock.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # Who failed since the last success, or pause, and whether for the first time.
        self._suspects: dict[str, bool] = {}
        self.end()

    def end(self) -> None:
        """Open: the last reading succeeded, or what stood in the way may be gone."""
        self._suspects.clear()
        self._backoff = Backoff()
        self.is_open = True
        self.closed_until = -math.inf

    def failed(self, model_id: str, error: ApiError, interval: float, *, is_first: bool) -> None:
        """Take note of a failed reading, the `is_first` in a row of this model."""
        now = self._clock.monotonic()
        if now < self.closed_until or (self.is_open and not is_first):
            return
        self._suspects.setdefault(model_id, is_first)
        while_open, at_first, again = _CLOSES.get(type(error), _OTHERS_CLOSE)
        is_first_time = all(self._suspects.values())  # so others may wait who were never tried
        if len(self._suspects) < (while_open if self.is_open else at_first if is_first_time else again):
            return
        if self.is_open:
            log.warning(
                "step metrics of different models cannot be read; they are tried one at a time",
                **error.fields(),
                advice=error.advice,
            )
        self._suspects.clear()
        self.is_open = False
        first = max(interval, FIRST_PAUSE) if type(error) in PAUSES else interval
        self.closed_until = now + (Backoff() if is_first_time else self._backoff).pause(error, first)

    def keep(self, model_ids: AbstractSet[str]) -> None:
        """Forget what others than these said."""
        self._suspects = {
            model_id: first for model_id, first in self._suspects.items() if model_id in model_ids
        }
