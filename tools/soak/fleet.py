"""What the API has: models that come, train, step, end, fail, change and vanish, all by the time alone.

Models in training are those of the simulator's account. Those at rest change their name once a day and their
status every three hours, one after the other, also to one that no specification has; each training run has a
metric of its own name.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exporter.simulator import Account, Fleet, Job, at_rest, protojson
from exporter.simulator.catalogue import WANDB
from exporter.simulator.jobs import STEPS_PER_ROW

BEGIN = 1_772_323_200.0  # Unix seconds; a midnight
DAY, HOUR = 86_400.0, 3_600.0
RESTING = 10
COMING = 8  # models that come, train and leave
PERIOD = 2160.0  # minutes between two days' work; so something trains two thirds of the time
STATUSES = (
    "STATUS_READY",
    "STATUS_PAUSED",
    "STATUS_TEMPORARILY_OFFLINE",
    "STATUS_ARCHIVED",
    "STATUS_DELETED",
)
_LINGER = 600.0  # seconds for which the steps of a model that has left are still there
# What a name may hold, which has to be escaped somewhere on its way.
_ODD = ' "quoted" \\ ünï\n<b>&amp;'

Shown = tuple[str, str]
"""Name and status of a model."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The models at one moment, in Unix seconds: as JSON objects, and what is to be shown of each id."""

    at: float
    models: Sequence[Mapping[str, Any]]
    shown: Mapping[str, Shown]


class SoakFleet:
    """The models at any moment after `BEGIN`."""

    def __init__(self) -> None:
        resting = at_rest(RESTING, until=BEGIN - DAY)
        self._resting = {job.id: number for number, job in enumerate(resting)}
        self._fleet = Fleet(resting, Account(BEGIN, keep=COMING, period=PERIOD))

    def listing(self, at: float) -> Listing:
        """Return the models at a Unix time."""
        jobs = sorted(self._fleet.listed(at), key=lambda job: (job.created_at, job.id))
        models = [self._model(job, at) for job in jobs]
        shown = {model["id"]: (model["name"], model["status"]) for model in models}
        return Listing(at, models, shown)

    def steps(
        self, model_id: str, at: float, begin: int, end: int
    ) -> tuple[list[dict[str, Any]], bool] | None:
        """Return step metrics of a model, and whether there are more; None: no such model.

        Those of every other model come newest first, those of the others oldest first.
        """
        job = self._fleet.find(model_id, at) or self._fleet.find(model_id, at - _LINGER)
        if job is None:
            return None
        recorded = job.rows(at)[:: 1 if is_ascending(model_id) else -1]
        rows = [protojson.step_metrics(job, row) for row in recorded[begin:end]]
        for row in rows:
            row["metrics"][f"eval_{job.name}"] = 0.5
        return rows, len(recorded) > end

    def rows(self, model_id: str, at: float) -> set[int]:
        """Return the steps that a model has at a Unix time; of one that has left, those it had."""
        job = self._fleet.find(model_id, at) or self._fleet.find(model_id, at - _LINGER)
        return {row * STEPS_PER_ROW for row in job.rows(at)} if job else set()

    def has_row(self, model_id: str, step: int, at: int, now: float) -> bool:
        """Return whether a model has a step with a time in milliseconds, or had it before it left."""
        return abs(self.recorded_at(model_id, step, now) * 1000 - at) < 2

    def recorded_at(self, model_id: str, step: int, now: float) -> float:
        """Return when a model recorded a step, also one that left within two hours; else minus infinity."""
        job = self._fleet.find(model_id, now) or self._fleet.find(model_id, now - 2 * HOUR)
        return job.row_at(step // STEPS_PER_ROW) if job else -math.inf

    def _model(self, job: Job, at: float) -> dict[str, Any]:
        model = protojson.model(job, at)
        number = self._resting.get(job.id)
        if number is None:
            return model
        turns = int((at - BEGIN) // (3 * HOUR)) + number
        changed_at = BEGIN + (turns - number) * 3 * HOUR
        model["name"] = f"{job.name} of day {int((at - BEGIN) // DAY)}" + (_ODD if number == 0 else "")
        model["status"] = STATUSES[turns % len(STATUSES)]
        model["updated_at"] = protojson.timestamp(changed_at, digits=6)
        model["settings"]["wandb"] = WANDB
        return model


def is_ascending(model_id: str) -> bool:
    """Return whether the steps of a model come oldest first."""
    return int(model_id[-1], 16) % 2 == 1
