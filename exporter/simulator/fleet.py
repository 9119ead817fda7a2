"""A fleet: jobs that are given, and an account in which new ones keep starting.

Which jobs there are is a pure function of the start time, the seed and the moment asked about. Life goes
`speed` times faster than planned, but every time given out is on the wall clock.
"""

import math
import uuid
from collections.abc import Iterable
from dataclasses import replace

from exporter.simulator.account import Account
from exporter.simulator.catalogue import (
    CHAT,
    CLASSIFICATION,
    GENERATIVE,
    RERANK,
    RESTING,
    STEADY,
    WAKING_UP,
    IdleModel,
)
from exporter.simulator.jobs import Job, Plan, Status, start_job

DAY = 86400.0
MODELS = 20  # of the demo


class Fleet:
    """The given jobs and those of an account."""

    def __init__(self, jobs: Iterable[Job] = (), account: Account | None = None) -> None:
        self._jobs = {job.id: job for job in jobs}
        self._account = account

    def listed(self, now: float) -> list[Job]:
        """Return the jobs that the API lists at `now`, in no particular order."""
        given = [job for job in self._jobs.values() if job.is_listed(now)]
        return given + (self._account.listed(now) if self._account else [])

    def find(self, job_id: str, now: float) -> Job | None:
        """Return the job `job_id`, or None when the API does not know it at `now`."""
        job = self._jobs.get(job_id)
        if job is None and self._account:
            return next((job for job in self._account.listed(now) if job.id == job_id), None)
        return job if job and job.is_listed(now) else None


def demo_fleet(
    start: float, *, speed: float = 60.0, seed: int | None = None, models: int | None = None
) -> Fleet:
    """Return the fleet of the catalogue, of `models` models, as it stands at the Unix time `start`.

    With a seed every start has the same models; without one it has new ones that live alike.
    """
    models = MODELS if models is None else models
    salt = f"start {start}" if seed is None else f"seed {seed}"
    table = RESTING[: models // 2]
    account = Account(start, keep=models - len(table), speed=speed, seed=seed or 0, salt=salt)
    return Fleet((_idle_job(entry, start, speed, seed or 0, salt) for entry in table), account)


def _idle_job(model: IdleModel, start: float, speed: float, seed: int, salt: str) -> Job:
    """Return a model at rest; what happened after READY did so half-way from its making to the start."""
    job = start_job(
        model.recipe,
        replace(STEADY, fails=model.status is Status.FAILED),
        version=model.version,
        created_at=start - model.days * DAY,
        speed=speed,
        seed=seed,
        then=_afterwards(model, start, speed),
    )
    name = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{salt}:{job.name}"))
    return replace(
        job, id=name, used_until=start - model.unused_days * DAY if model.unused_days else math.inf
    )


def _afterwards(model: IdleModel, start: float, speed: float) -> tuple[tuple[float, Status], ...]:
    turned_at = start - model.days * DAY / 2
    if model.status in {Status.READY, Status.FAILED}:
        return ()
    if model.status is Status.DEPLOYING_API:
        waking = ((start - 30 / speed, model.status), (start + WAKING_UP * 60 / speed, Status.READY))
        return ((turned_at, Status.PAUSED), *waking)
    return ((turned_at, model.status),)


def at_rest(count: int, *, rows: int = 20, until: float = 1_700_000_000.0, seed: int = 0) -> list[Job]:
    """Return `count` READY jobs of all base types, made a minute apart, that do not change after `until`.

    Each has `rows` rows of metrics; cheap enough for tens of thousands.
    """
    bases = (CHAT, GENERATIVE, CLASSIFICATION, RERANK)
    # A quarter of a second within the last row, so that rounding cannot lose it.
    plan = Plan(queue=1, silence=5, training=(rows * 50 + 0.25) / 60, deployment=2)
    life = (plan.queue + plan.silence + plan.training + plan.deployment) * 60
    return [
        start_job(
            bases[number % len(bases)],
            plan,
            version=number + 1,
            created_at=until - life - (count - number) * 60,
            seed=seed,
        )
        for number in range(count)
    ]
