"""The demo's account: a day of it summarised, and what it has to show whenever it is looked at."""

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import mean

import pytest

from exporter.simulator import Fleet, Job, Status, demo_fleet
from exporter.simulator.catalogue import RUNS_PER_DAY

START = 1_760_000_000.25
DAY = 1440.0  # seconds; a day of the fleet at the demo's usual speed
SEEDS = (None, 1, 2)
LOSSES = {"cross_entropy", "loss"}


@dataclass(frozen=True)
class Summary:
    """Some days of a fleet, as somebody sees it who looks every second and never asks for the future."""

    jobs: dict[str, Job]
    lengths: dict[str, float]
    in_training: list[int]
    queued: list[int]

    @property
    def ended(self) -> list[Job]:
        """The jobs made in these days that have ended."""
        until = START + len(self.in_training)
        return [job for job in self.jobs.values() if job.history[-1][0] < until and ends(job)]

    @property
    def failures(self) -> dict[str, tuple[int, int]]:
        """How many attempts ended, and how many of them failed, by the title of the work."""
        attempts = Counter(job.recipe.title for job in self.ended for end in ends(job))
        failed = Counter(job.recipe.title for job in self.ended for end in ends(job) if end is Status.FAILED)
        return {title: (count, failed[title]) for title, count in attempts.items()}


def ends(job: Job) -> list[Status]:
    """Return how each attempt ended."""
    return [status for _, status in job.history if status in {Status.READY, Status.FAILED}]


def watch(fleet: Fleet, days: int) -> Summary:
    jobs: dict[str, Job] = {}
    lengths: Counter[str] = Counter()
    in_training, queued = [], []
    for second in range(int(days * DAY)):
        now = START + second
        listed = fleet.listed(now)
        jobs |= {job.id: job for job in listed if job.created_at > START}
        statuses = Counter(job.status(now) for job in listed)
        in_training.append(statuses[Status.FINETUNING])
        queued.append(statuses[Status.QUEUED])
        for job in listed:
            lengths[job.id] += job.status(now) is Status.FINETUNING
    return Summary(jobs, dict(lengths), in_training, queued)


@pytest.fixture(scope="module")
def week() -> Summary:
    return watch(demo_fleet(START), days=7)


def test_runs_train_one_after_another_and_others_wait(week: Summary) -> None:
    assert max(week.in_training) == 1
    assert mean(week.in_training) > 0.9
    assert 2 <= max(week.queued) <= 6
    assert len(week.jobs) == pytest.approx(7 * RUNS_PER_DAY, abs=RUNS_PER_DAY)


def test_no_work_always_fails_and_about_one_run_in_six_does(week: Summary) -> None:
    assert all(failed < count for count, failed in week.failures.values())
    share = sum(failed for _, failed in week.failures.values()) / sum(n for n, _ in week.failures.values())
    assert 0.08 < share < 0.3


def test_models_made_before_the_start_trained_as_fast_as_those_that_are_watched(week: Summary) -> None:
    resting = [job for job in demo_fleet(START).listed(START) if job.name.startswith("sales-chat")]
    by_its_times = [job.history[2][0] - job.history[1][0] for job in resting]
    watched = [length for job_id, length in week.lengths.items() if job_id in week.jobs]
    chat = [length for job_id, length in week.lengths.items() if is_chat(week.jobs.get(job_id))]
    assert max(watched) > 3 * min(length for length in watched if length > 10)
    assert 0.5 < mean(by_its_times) / mean(chat) < 2


def is_chat(job: Job | None) -> bool:
    return job is not None and job.recipe.base_type == "BASE_TYPE_CHAT"


def test_what_is_watched_is_what_the_times_say(week: Summary) -> None:
    for job in week.ended:
        spans = itertools.pairwise(job.history)
        by_its_times = sum(
            later - earlier for (earlier, status), (later, _) in spans if status is Status.FINETUNING
        )
        assert week.lengths[job.id] == pytest.approx(by_its_times, abs=4)


def test_several_runs_share_a_dataset_and_some_a_name(week: Summary) -> None:
    runs_of_a_dataset = Counter(job.dataset_id for job in week.jobs.values())
    assert mean(runs_of_a_dataset.values()) > 2
    assert Counter(job.name for job in week.jobs.values()).most_common(1)[0][1] >= 6
    works_of_a_dataset = {
        (job.dataset_id, job.recipe.title)
        for job in week.jobs.values()
        if job.dataset_id.startswith("tickets")
    }
    assert len({dataset for dataset, _ in works_of_a_dataset}) < len(works_of_a_dataset)


def test_the_best_row_is_often_not_the_last_and_some_runs_stop_early(week: Summary) -> None:
    trained = [job for job in week.ended if job.recorded and not job.curve.diverges]
    losses = {job.id: [loss(job, row) for row in range(job.recorded)] for job in trained}
    worse = [values for values in losses.values() if values[-1] > min(values) + 0.05]
    assert 0.1 < len(worse) / len(losses) < 0.7
    early = [job for job in trained if ends(job)[-1] is Status.READY and job.recorded < job.curve.rows]
    assert early
    for job in early:
        assert "early_stopping_patience" in job.recipe.hyperparameters


def loss(job: Job, row: int) -> float:
    return next(value for name, value in job.curve.metrics(row).items() if name in LOSSES)


def test_a_failed_run_is_repaired_under_its_id_and_its_rows_begin_anew() -> None:
    fleet = demo_fleet(START)
    seen: dict[str, list[tuple[Status, int]]] = {}
    for second in range(int(DAY)):
        for job in fleet.listed(START + second):
            seen.setdefault(job.id, []).append((job.status(START + second), len(job.rows(START + second))))
    lives = [
        [status for status, _ in itertools.groupby(life, key=lambda each: each[0])] for life in seen.values()
    ]
    repaired = [
        list(seen.values())[number]
        for number, life in enumerate(lives)
        if life[-4:] == [Status.QUEUED, Status.FINETUNING, Status.DEPLOYING_API, Status.READY]
        and Status.FAILED in life
    ]
    assert repaired
    for life in repaired:
        failed = [rows for status, rows in life if status is Status.FAILED]
        again = [rows for status, rows in life[life.index((Status.FAILED, failed[0])) :]]
        assert failed[-1] > 0
        assert 0 in again
        assert again[-1] > failed[-1]


def test_settings_differ_from_run_to_run_as_those_of_people_do(week: Summary) -> None:
    recipes = [job.recipe for job in week.jobs.values()]
    assert any(not recipe.hyperparameters for recipe in recipes)
    assert any(recipe.multi_label for recipe in recipes)
    assert any(recipe.classes for recipe in recipes)
    assert any(recipe.wandb for recipe in recipes)
    rates = {
        recipe.hyperparameters.get("learning_rate") for recipe in recipes if recipe.title == "support-chat"
    }
    assert len(rates) > 2


def test_a_model_is_renamed_and_a_record_is_written_a_moment_after_what_it_tells(week: Summary) -> None:
    renamed = [job for job in week.jobs.values() if job.renamed]
    assert renamed
    for job in renamed:
        assert job.renamed
        at, name = job.renamed
        assert (job.name_at(at - 1), job.name_at(at)) == (job.name, name)
    for job in week.ended:
        ended_at = job.history[-1][0]
        assert ended_at < job.updated_at(ended_at + 1) <= ended_at + 0.1


def moments(days: float, every: float) -> Iterator[float]:
    return (START + number * every for number in range(int(days * DAY / every)))


@pytest.mark.parametrize("seed", SEEDS)
def test_some_model_is_in_training_with_rows_most_of_the_time(seed: int | None) -> None:
    fleet = demo_fleet(START, seed=seed)
    trains = [
        any(job.status(now) is Status.FINETUNING and job.rows(now) for job in fleet.listed(now))
        for now in moments(days=3, every=3.7)
    ]
    assert sum(trains) / len(trains) > 0.8


@pytest.mark.parametrize("seed", SEEDS)
def test_something_visible_happens_every_half_minute(seed: int | None) -> None:
    fleet = demo_fleet(START, seed=seed)
    seen = [
        {(job.id, job.status(now), len(job.rows(now))) for job in fleet.listed(now)}
        for now in moments(days=1, every=30)
    ]
    assert all(before != after for before, after in itertools.pairwise(seen))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_start_shows_every_status_a_run_with_a_curve_and_a_failure_to_come(seed: int | None) -> None:
    fleet = demo_fleet(START, seed=seed)
    listed = fleet.listed(START)
    assert {job.status(START) for job in listed} == set(Status)
    (training,) = (job for job in listed if job.status(START) is Status.FINETUNING)
    assert training.recipe.title == "support-chat"
    assert len(training.rows(START)) > 20
    before = {job.id for job in listed if job.status(START) is Status.FAILED}
    after = {job.id for job in fleet.listed(START + 120) if job.status(START + 120) is Status.FAILED}
    assert after - before


@pytest.mark.parametrize("models", [10, 20, 300])
def test_the_fleet_has_as_many_models_as_asked_for_at_any_time(models: int) -> None:
    fleet = demo_fleet(START, models=models)
    for now in itertools.chain(moments(days=2, every=33.3), (START + 30 * 86400.0 + n for n in range(60))):
        listed = fleet.listed(now)
        assert len({job.id for job in listed}) == len(listed) == models
        assert all(job.created_at <= now for job in listed)


def test_a_seed_makes_every_start_have_the_same_models() -> None:
    def life(start: float, seed: int | None) -> list[tuple[str, str, float, Status]]:
        return [
            (job.id, job.name, round(job.created_at - start, 3), job.status(start + 50))
            for job in demo_fleet(start, seed=seed).listed(start + 50)
        ]

    assert life(START, 7) == life(START + 86_400.0, 7)
    assert life(START, 7) != life(START, 8)
    one, other = life(START, None), life(START + 86_400.0, None)
    assert not {model[0] for model in one} & {model[0] for model in other}
    assert [model[1:] for model in one] == [model[1:] for model in other]
