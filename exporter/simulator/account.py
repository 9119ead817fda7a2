"""The runs of one account: teams submit them day after day, and they train one after another, for ever.

A day is the program of the catalogue, laid out in minutes of simulated time: what trains, in which order, how
each run goes. It follows from the seed and the day's number alone, so any day can be made at any time. The
account keeps its newest `keep` models, as a plan with a limit on models does.
"""

import uuid
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from exporter.simulator.catalogue import PROGRAM, REPAIRED, RUNS_PER_DAY, SHOWN_FIRST, Work
from exporter.simulator.curves import Curve, chance, noise
from exporter.simulator.jobs import ROW_SECONDS, Job, Status

DAY = 1440.0  # minutes
BUSY = 0.995 * DAY  # minutes of a day in which something trains
BEFORE_ITS_END = 40.0  # minutes; where in its training the run shown first is at the start
_ROW = ROW_SECONDS / 60
_AGAIN = 2  # runs that train between a failure and the repaired run
_USED_EVERY = (0.0, 5.0, 20.0, 90.0)  # minutes

Turn = tuple[int, int]
"""The number of a run within its day, and which attempt: 0 or, for a repaired run, 1."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one attempt goes: `silence` minutes, then the first `rows` of its curve."""

    curve: Curve
    rows: int
    silence: float
    fails: bool

    @property
    def minutes(self) -> float:
        """The length of the training."""
        return self.silence + self.rows * _ROW


@dataclass(frozen=True, slots=True)
class Layout:
    """A day in minutes from its start: when runs were made and when each turn trains."""

    created: Sequence[float]
    trains: Mapping[Turn, tuple[float, float]]
    attempts: Mapping[Turn, Attempt]
    stretch: float


@dataclass(frozen=True, slots=True)
class RepairableJob:
    """A model of the account: its job and, from when that was queued again, the repaired one."""

    job: Job
    repaired: Job | None = None

    def at(self, now: float) -> Job:
        """Return the job in force."""
        return self.repaired if self.repaired and self.repaired.history[3][0] <= now else self.job


def works() -> Iterator[tuple[Work, int]]:
    """Return each run of a day: its work, and its number among the runs of that work."""
    return ((work, number) for work in PROGRAM for number in range(work.runs))


def first_run(place: int) -> int:
    """Return the number within its day of the first run of a work."""
    return sum(work.runs for work in PROGRAM[:place])


class Account:
    """The runs from `start` on and before; `period` is the length of a day, idle time after it included.

    Models have the same ids whenever a demo with the same `salt` is started.
    """

    def __init__(
        self,
        start: float,
        *,
        keep: int,
        speed: float = 1.0,
        seed: int = 0,
        salt: str = "",
        period: float = DAY,
    ) -> None:
        if not speed > 0:  # so written, NaN is refused too
            raise ValueError(f"speed must be greater than 0, not {speed}")
        self._keep = keep
        self._minute = 60 / speed
        self._seed = seed
        self._salt = salt
        self._period = period
        self._days_kept = keep // RUNS_PER_DAY + 2
        self._days: dict[int, list[RepairableJob]] = {}
        self._members_kept: list[RepairableJob] = []
        shown_first = first_run(SHOWN_FIRST) + PROGRAM[SHOWN_FIRST].runs - 1
        age = lay_out(seed, 0).trains[shown_first, 0][1] - BEFORE_ITS_END
        self._begin = start - age * self._minute

    def listed(self, now: float) -> list[Job]:
        """Return the newest models, oldest first."""
        today = int((now - self._begin) // (self._period * self._minute))
        members = self._recent(today)
        made = bisect_right(members, now, key=lambda member: member.job.created_at)
        return [member.at(now) for member in members[max(0, made - self._keep) : made]]

    def _recent(self, today: int) -> list[RepairableJob]:
        days = range(today - self._days_kept, today + 1)
        if self._days.keys() != set(days):
            self._days = {day: self._days.get(day) or list(self._members(day)) for day in days}
            self._members_kept = [member for day in days for member in self._days[day]]
        return self._members_kept

    def _members(self, day: int) -> Iterator[RepairableJob]:
        layout = lay_out(self._seed, day)
        for run, (work, number) in enumerate(works()):
            job = self._job(day, run, work, number, layout)
            is_repaired = (run, 1) in layout.attempts
            yield RepairableJob(job, self._repaired(day, run, job, layout) if is_repaired else None)

    def _job(self, day: int, run: int, work: Work, number: int, layout: Layout) -> Job:
        count = day * work.runs + number
        first = max(work.version, (self._days_kept + 1) * work.runs)
        name = f"{work.recipe.title}-v{first + count}" if work.versioned else work.recipe.title
        swept = {key: values[count % len(values)] for key, values in work.sweep.items()}
        key = f"{self._seed}:{day}:{run}"
        job = Job(
            id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self._salt}:{key}")),
            name=name,
            recipe=replace(work.recipe, hyperparameters={**work.recipe.hyperparameters, **swept}),
            history=((self._at(day, layout.created[run]), Status.QUEUED),),
            curve=layout.attempts[run, 0].curve,
            recorded=0,
            first_row_at=0.0,
            row_interval=0.0,
            dataset=f"{work.dataset}-{day // work.edition_days + 100}",
            used_every=_USED_EVERY[int(chance(key, "used") * len(_USED_EVERY))] * self._minute,
            lag=(1 + chance(key, "lag") * 4) / 60 * self._minute,
        )
        job = self._trained(job, day, (run, 0), layout)
        if work.is_renamed and job.history[-1][1] is Status.READY and chance(key, "renamed") < 1 / 3:
            renamed_at = job.history[-1][0] + 30 * self._minute
            job = replace(job, renamed=(renamed_at, f"{name}-approved"))
        return job

    def _repaired(self, day: int, run: int, job: Job, layout: Layout) -> Job:
        failed, begins = layout.trains[run, 0][1], layout.trains[run, 1][0]
        requeued = (self._at(day, (failed + begins) / 2), Status.QUEUED)
        return self._trained(replace(job, history=(*job.history, requeued)), day, (run, 1), layout)

    def _trained(self, job: Job, day: int, turn: Turn, layout: Layout) -> Job:
        """Return the job with the statuses and rows of one turn."""
        attempt = layout.attempts[turn]
        begins, ends = (self._at(day, minutes) for minutes in layout.trains[turn])
        ready = ends + (2 + 8 * chance(attempt.curve.seed, "deployment")) * self._minute
        end = [(ends, Status.FAILED)]
        if not attempt.fails:
            end = [(ends, Status.DEPLOYING_API), (ready, Status.READY)]
        return replace(
            job,
            history=(*job.history, (begins, Status.FINETUNING), *end),
            curve=attempt.curve,
            recorded=attempt.rows,
            first_row_at=begins + attempt.silence * layout.stretch * self._minute,
            row_interval=_ROW * layout.stretch * self._minute,
        )

    def _at(self, day: int, minutes: float) -> float:
        return self._begin + (day * self._period + minutes) * self._minute


def lay_out(seed: int, day: int) -> Layout:
    """Return the day's layout: its turns one after another, stretched so that they fill it."""
    attempts = _attempts(seed, day)
    clock, trains = 0.0, {}
    turns = [(run, 0) for run in range(RUNS_PER_DAY)]
    turns.insert(_broken(day) + 1 + _AGAIN, (_broken(day), 1))
    for turn in turns:
        begins = clock + 1 + 2 * chance(seed, day, turn, "pause")
        clock = begins + attempts[turn].minutes
        trains[turn] = (begins, clock)
    stretch = BUSY / clock
    trains = {turn: (begins * stretch, ends * stretch) for turn, (begins, ends) in trains.items()}
    return Layout(_created(seed, day, trains), trains, attempts, stretch)


def _broken(day: int) -> int:
    return first_run(REPAIRED[day % len(REPAIRED)])


def _attempts(seed: int, day: int) -> dict[Turn, Attempt]:
    attempts = {}
    for run, (work, number) in enumerate(works()):
        key = f"{seed}:{day}:{run}"
        # The first day of a demo goes as planned, for it has to show certain things in its first minutes.
        fails = day != 0 and run != _broken(day) and chance(key, "fails") < work.fails
        attempts[run, 0] = _attempt(work, key, day * work.runs + number, fails=fails)
        if run == _broken(day):
            attempts[run, 1] = attempts[run, 0]
            broken = _attempt(work, f"{key}:broken", 1, fails=False)
            attempts[run, 0] = replace(broken, rows=12 + int(10 * chance(key, "broken")), fails=True)
    return attempts


def _attempt(work: Work, key: str, count: int, *, fails: bool) -> Attempt:
    diverges = bool(work.diverges_every) and count % work.diverges_every == 0
    # Datasets and machines differ: most runs take 0.7 to 1.4 times as long as usual, one in eight twice that.
    length = work.minutes * 2 ** (0.5 * noise(key, "length")) * (2 if chance(key, "long") < 1 / 8 else 1)
    curve = Curve(
        base_type=work.recipe.base_type,
        seed=key,
        rows=int(length / _ROW),
        diverges=diverges,
        overfits=chance(key, "overfits") < work.overfits,
        sparse=work.recipe.sparse,
        classes=work.recipe.classes,
    )
    silence = 5 + 8 * chance(key, "silence")
    return Attempt(curve, _rows(curve, work, key, fails=fails and not diverges), silence, fails or diverges)


def _rows(curve: Curve, work: Work, key: str, *, fails: bool) -> int:
    if fails:  # some before their first row
        return int(curve.rows * max(0.0, 1.1 * chance(key, "breaks") - 0.2))
    patience = work.recipe.hyperparameters.get("early_stopping_patience")
    threshold = work.recipe.hyperparameters.get("early_stopping_threshold")
    if curve.diverges or not isinstance(patience, int) or not isinstance(threshold, float):
        return curve.rows
    return curve.stops_after(patience, threshold)


def _created(seed: int, day: int, trains: Mapping[Turn, tuple[float, float]]) -> list[float]:
    """Return when each run was submitted: with the others of its work, while earlier ones train."""
    created: list[float] = []
    for run, (_, number) in enumerate(works()):
        submitted = trains[run, 0][0] - BEFORE_ITS_END * (1.2 + chance(seed, day, run, "submitted"))
        earliest = created[-1] + 0.5 if created else 0.0
        created.append(earliest if number else max(submitted, earliest))
    return created
