"""What changed from one poll to the next, as lines of the log: one for each change, none without one.

A fleet that changes as a whole, as when it goes offline, gets `MOST_LINES` of them a minute and one about the
rest. A failure that comes and goes is logged once a minute.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import structlog

from exporter.clock import Clock
from exporter.errors import ApiError, InternalError
from exporter.model import FinetunedModel, Status

log = structlog.stdlib.get_logger(__name__)

MOST_LINES = 100
MINUTE = 60.0
_Change: TypeAlias = tuple[str, dict[str, Any]]
_Models: TypeAlias = Mapping[str, FinetunedModel]


class Failures:
    """Which failures are news: a reason that was not logged within a minute, and has not lasted since."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._logged_at: dict[str, float] = {}
        self.lasting: set[str] = set()  # reasons

    def is_news(self, reason: str, *, is_only: bool = False) -> bool:
        """Take note of a failure, the only one there is or one of several; return whether to log it."""
        now = self._clock.monotonic()
        if reason in self.lasting or now < self._logged_at.get(reason, -math.inf) + MINUTE:
            return False
        if is_only:
            self.lasting.clear()
        self.lasting.add(reason)
        self._logged_at[reason] = now
        return True

    def end(self) -> bool:
        """Take note that all is well, and return whether a failure had been logged."""
        had_any = bool(self.lasting)
        self.lasting.clear()
        return had_any


class Changes:
    """Remembers what was last seen and logs what is new."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._models: dict[str, FinetunedModel] | None = None
        self._failures = Failures(clock)
        self._failed_polls = 0
        self._was_stale = False
        self._begun_at, self._lines_left = -math.inf, MOST_LINES
        self._untold, self._has_summed_up = 0, False

    def listed(self, models: Iterable[FinetunedModel]) -> None:
        """Log models that appeared, changed their status or left."""
        before, self._models = self._models, {model.id: model for model in models}
        if before is None:
            training = sum(model.status == Status.FINETUNING for model in self._models.values())
            log.info("models listed", models=len(self._models), training=training)
            return
        self._begin_minute()
        for message, fields in _changes(before, self._models):
            if self._lines_left:
                self._lines_left -= 1
                log.info(message, **fields)
            else:
                self._untold += 1
        self._sum_up()

    def _begin_minute(self) -> None:
        if (now := self._clock.monotonic()) >= self._begun_at + MINUTE:
            self._begun_at, self._lines_left, self._has_summed_up = now, MOST_LINES, False

    def _sum_up(self) -> None:
        if self._untold and not self._has_summed_up:
            log.info("further changes of models not logged one by one", models=self._untold)
            self._untold, self._has_summed_up = 0, True

    def polled(self, error: ApiError | None, *, next_in: float = 0.0) -> None:
        """Log when polling begins to fail, fails in another way, or works again."""
        if error and self._failures.is_news(error.reason, is_only=True):
            log.error("poll failed", **error.fields(), advice=error.advice, next_poll_seconds=round(next_in))
        elif error is None and self._failures.end():
            log.info("poll succeeded again", failed_polls=self._failed_polls)
        self._failed_polls = self._failed_polls + 1 if error else 0

    def aged(self, *, is_stale: bool) -> None:
        """Log when what is known has grown too old to be shown."""
        if is_stale and not self._was_stale:
            log.error("data is stale: metrics of models are absent until a poll succeeds")
        self._was_stale = is_stale


def unexpected(message: str, bug: BaseException, **fields: Any) -> InternalError:
    """Log an error that nobody expected, with its traceback; return what it counts as."""
    log.error(message, error=repr(bug), exc_info=bug, **fields)
    return InternalError(f"unexpected {type(bug).__name__}; see the log")


def _changes(before: _Models, after: _Models) -> Iterator[_Change]:
    for model_id, model in after.items():
        earlier = before.get(model_id)
        if earlier is None:
            yield "model appeared", {**_identity(model), "status": model.status}
        elif earlier.status != model.status:
            yield "model status changed", {**_identity(model), "status": model.status, "was": earlier.status}
    for model in before.values() if before.keys() - after.keys() else ():
        if model.id not in after:
            yield "model left the list", {**_identity(model), "was": model.status}


def _identity(model: FinetunedModel) -> dict[str, str]:
    return {"model_id": model.id, "model_name": model.name}
