"""A fine-tuning job and its whole life, laid out on the wall clock when it is made.

    QUEUED → FINETUNING (silence, then rows) → DEPLOYING_API → READY
                                             └→ FAILED, its rows kept

A job never changes: what the API would say at a moment is asked of it with that moment, in Unix seconds,
and nothing it answers lies later than the moment asked about. A failed run that staff repair is a second job
with the same id, whose history begins with that of the first.
"""

import math
import uuid
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from exporter.simulator.curves import Curve

ROW_SECONDS = 50.0  # of simulated time between two evaluations, as in the specification's example job
STEPS_PER_ROW = 10


class Status(StrEnum):
    """The statuses of the API."""

    UNSPECIFIED = "STATUS_UNSPECIFIED"
    FINETUNING = "STATUS_FINETUNING"
    DEPLOYING_API = "STATUS_DEPLOYING_API"
    READY = "STATUS_READY"
    FAILED = "STATUS_FAILED"
    DELETED = "STATUS_DELETED"
    TEMPORARILY_OFFLINE = "STATUS_TEMPORARILY_OFFLINE"
    PAUSED = "STATUS_PAUSED"
    QUEUED = "STATUS_QUEUED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What is trained and how: all that stays the same from one version of a model to the next.

    `sparse` names metrics that are measured on every so many rows only, `classes` those with an F1 of each.
    """

    title: str
    base_type: str
    base_model: str
    base_model_version: str
    strategy: str = ""
    creator: str = "mlops"
    hyperparameters: Mapping[str, float | str] = field(default_factory=dict)
    multi_label: bool = False
    wandb: Mapping[str, str] = field(default_factory=dict)
    sparse: Mapping[str, int] = field(default_factory=dict)
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long each phase of a job takes, in minutes of simulated time, and how it ends.

    `silence` is the part of FINETUNING before the first row, `training` the part after it. A model that
    serves is used every `used_every` minutes; 0 is never.
    """

    queue: float
    silence: float
    training: float
    deployment: float = 0.0
    fails: bool = False
    used_every: float = 0.0

    @property
    def rows(self) -> int:
        """The number of evaluations before the training ends."""
        return int(self.training * 60 / ROW_SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job; `history` is each status with the time it began, earliest first.

    Row i of the `recorded` ones is recorded at `first_row_at + i * row_interval`. The list has the job until
    `leaves_at`. A change is written to the record, as `updated_at`, `lag` seconds after it happened.
    """

    id: str
    name: str
    recipe: Recipe
    history: tuple[tuple[float, Status], ...]
    curve: Curve
    recorded: int
    first_row_at: float
    row_interval: float
    dataset: str = ""
    used_every: float = 0.0
    used_until: float = math.inf
    leaves_at: float = math.inf
    lag: float = 0.0
    renamed: tuple[float, str] | None = None

    @property
    def created_at(self) -> float:
        """The time the job was made."""
        return self.history[0][0]

    @property
    def dataset_id(self) -> str:
        """The dataset it is trained on; one of its own unless it shares one."""
        return self.dataset or f"{self.recipe.title}-{self.id[:6]}"

    def is_listed(self, now: float) -> bool:
        """Return whether the API knows the job."""
        return self.created_at <= now < self.leaves_at

    def name_at(self, now: float) -> str:
        """Return the name in force."""
        return self.renamed[1] if self.renamed and self.renamed[0] <= now else self.name

    def status(self, now: float) -> Status:
        """Return the status in force."""
        return self._latest(now)[1]

    def updated_at(self, now: float) -> float:
        """Return the time at which the record was last written."""
        changes = [at + self.lag for at, _ in self.history[1:]] + ([self.renamed[0]] if self.renamed else [])
        return max((at for at in changes if at <= now), default=self.created_at)

    def completed_at(self, now: float) -> float | None:
        """Return the end of a training that went well; None before it, and for good when it failed."""
        ends = (at for at, status in self.history if status is Status.DEPLOYING_API and at <= now)
        return next(ends, None)

    def last_used(self, now: float) -> float | None:
        """Return the last use of a model that is READY; None when there was none."""
        since, status = self._latest(now)
        now = min(now, self.used_until)
        if status is not Status.READY or not self.used_every or now < since + self.used_every:
            return None
        return min(now, since + (now - since) // self.used_every * self.used_every)

    def row_at(self, row: int) -> float:
        """Return the time at which `row` is recorded."""
        return self.first_row_at + row * self.row_interval

    def rows(self, now: float) -> range:
        """Return the rows recorded so far."""
        # Asked of row_at itself, so that rounding cannot show a row before its time.
        return range(bisect_right(range(self.recorded), now, key=self.row_at))

    def _latest(self, now: float) -> tuple[float, Status]:
        # A moment before the job was made is answered as its first.
        index = bisect_right(self.history, now, key=lambda entry: entry[0])
        return self.history[max(index - 1, 0)]


def start_job(
    recipe: Recipe,
    plan: Plan,
    *,
    version: int,
    created_at: float,
    speed: float = 1.0,
    seed: int = 0,
    leaves_at: float = math.inf,
    then: tuple[tuple[float, Status], ...] = (),
) -> Job:
    """Lay out the life of version `version` of a model from `created_at`, `speed` times faster than planned.

    `then` adds later statuses with their Unix times. The curve follows from seed and name; the id from the
    time as well, so that a demo started anew has new models.
    """
    minute = 60.0 / speed
    name = f"{recipe.title}-v{version}"
    first_row_at = created_at + (plan.queue + plan.silence) * minute
    return Job(
        id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"{seed}:{name}:{created_at}")),
        name=name,
        recipe=recipe,
        history=(*_history(plan, created_at, minute), *then),
        curve=Curve(base_type=recipe.base_type, seed=f"{seed}:{name}", rows=plan.rows),
        recorded=plan.rows,
        first_row_at=first_row_at,
        row_interval=ROW_SECONDS / speed,
        used_every=plan.used_every * minute,
        leaves_at=leaves_at,
    )


def _history(plan: Plan, created_at: float, minute: float) -> tuple[tuple[float, Status], ...]:
    training_at = created_at + plan.queue * minute
    ended_at = training_at + (plan.silence + plan.training) * minute
    begun = ((created_at, Status.QUEUED), (training_at, Status.FINETUNING))
    if plan.fails:
        return (*begun, (ended_at, Status.FAILED))
    ready_at = ended_at + plan.deployment * minute
    return (*begun, (ended_at, Status.DEPLOYING_API), (ready_at, Status.READY))
