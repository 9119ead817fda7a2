"""A fleet: jobs that are given and slots in which new jobs keep starting.

Which jobs there are is a pure function of the start time, the seed and the moment asked about. Life goes
`speed` times faster than planned, but every time given out is on the wall clock. Slots keep it alive for
ever while the number of models stays bounded: each holds one or two jobs.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from exporter.simulator.catalogue import (
    CHAT,
    CLASSIFICATION,
    GENERATIVE,
    RERANK,
    RESTING,
    SLOTS,
    STEADY,
    Rest,
    Slot,
)
from exporter.simulator.jobs import Job, Plan, Status, start_job

DAY = 86400.0
STAY = 1.25  # periods of its slot that a job stays in the list


class Fleet:
    """Jobs and slots; `start` is the Unix time at which the slots stand where their tables say."""

    def __init__(
        self,
        jobs: Iterable[Job] = (),
        slots: Iterable[Slot] = (),
        *,
        start: float = 0.0,
        speed: float = 1.0,
        seed: int = 0,
    ) -> None:
        if not speed > 0:  # so written, NaN is refused too
            raise ValueError(f"speed must be greater than 0, not {speed}")
        self._jobs = {job.id: job for job in jobs}
        self._slots = tuple(slots)
        self._start = start
        self._speed = speed
        self._seed = seed

    def listed(self, now: float) -> list[Job]:
        """Give the jobs that the API lists at `now`, in no particular order."""
        return [job for job in (*self._jobs.values(), *self._recurring(now)) if job.is_listed(now)]

    def find(self, job_id: str, now: float) -> Job | None:
        """Give the job `job_id`, or None when the API does not know it at `now`."""
        job = self._jobs.get(job_id) or next((job for job in self._recurring(now) if job.id == job_id), None)
        return job if job and job.is_listed(now) else None

    def _recurring(self, now: float) -> Iterator[Job]:
        for slot in self._slots:
            age = (now - self._start) * self._speed / 60 + slot.age
            generation = int(age // slot.period)
            # A job stays for less than two periods, so no older one can still be listed.
            yield self._job(slot, generation - 1)
            yield self._job(slot, generation)

    def _job(self, slot: Slot, generation: int) -> Job:
        minute = 60 / self._speed
        created_at = self._start + (generation * slot.period - slot.age) * minute
        return start_job(
            slot.recipe,
            slot.plan,
            version=slot.version + generation,
            created_at=created_at,
            speed=self._speed,
            seed=self._seed,
            leaves_at=created_at + STAY * slot.period * minute,
        )


def demo_fleet(start: float, *, speed: float = 60.0, seed: int = 0) -> Fleet:
    """Give the fleet of the catalogue as it stands at the Unix time `start`."""
    resting = (_rest(entry, start, seed) for entry in RESTING)
    return Fleet(resting, SLOTS, start=start, speed=speed, seed=seed)


def _rest(rest: Rest, start: float, seed: int) -> Job:
    """Give a model at rest; what befell it after READY did so half-way from its making to the start."""
    turned_at = start - rest.days * DAY / 2
    return start_job(
        rest.recipe,
        replace(STEADY, fails=rest.status is Status.FAILED),
        version=rest.version,
        created_at=start - rest.days * DAY,
        seed=seed,
        then=() if rest.status in {Status.READY, Status.FAILED} else ((turned_at, rest.status),),
    )


def at_rest(count: int, *, rows: int = 20, until: float = 1_700_000_000.0, seed: int = 0) -> list[Job]:
    """Give `count` READY jobs of all base types, made a minute apart, at which nothing happens after `until`.

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
