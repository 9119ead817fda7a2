"""What /metrics says of a run whose best is not its last, that drops a metric, or that is repaired."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from docs.world import START, World
from exporter.families import FAMILIES, ModelFamily
from exporter.simulator import Fleet, Job, Plan, Status, start_job
from exporter.simulator.catalogue import CLASSIFICATION
from exporter.simulator.curves import Curve

pytestmark = pytest.mark.anyio

MINUTE = 60.0
# Thirty rows, and over an hour before the first poll.
PAST = Plan(queue=1, silence=5, training=30 * 50 / 60 + 0.01, deployment=2)
ROWS = range(30)


def a_run(plan: Plan = PAST, *, began: float = START - 2 * 3600, **curve: object) -> Job:
    job = start_job(CLASSIFICATION, plan, version=1, created_at=began)
    return replace(job, curve=replace(job.curve, **curve))  # type: ignore[arg-type]


async def numbers(world: World) -> Mapping[str, float]:
    """Poll until all is read, and return the numbers of the only model, by name and metric."""
    await world.poll()
    await world.poll()
    assert world.snapshot
    (state,) = world.snapshot.states
    return {
        " ".join((family.name.removeprefix("cohere_finetuned_model_training_"), *labels)): value
        for family in FAMILIES
        if isinstance(family, ModelFamily) and "_training_" in family.name
        for labels, value in family.samples(state)
    }


def of_all(curve: Curve, metric: str) -> list[float]:
    return [curve.metrics(row)[metric] for row in ROWS if metric in curve.metrics(row)]


@pytest.mark.parametrize("ascending", [False, True])
async def test_the_best_value_is_kept_though_all_rows_come_at_once(ascending: bool) -> None:
    job = a_run(overfits=True)
    accuracies = of_all(job.curve, "accuracy")
    assert max(accuracies) - accuracies[-1] > 0.05
    found = await numbers(World([job], ascending_steps=ascending))
    assert found["metric accuracy"] == accuracies[-1]
    assert (found["metric_min accuracy"], found["metric_max accuracy"]) == (min(accuracies), max(accuracies))
    assert found["step"] == found["metric_step accuracy"] == 290


async def test_a_metric_that_is_no_longer_reported_shows_the_step_it_comes_from() -> None:
    job = a_run(sparse={"f1": 1000, "recall": 7})
    found = await numbers(World([job]))
    assert (found["step"], found["metric_step accuracy"]) == (290, 290)
    assert (found["metric_step f1"], found["metric_step recall"]) == (0, 280)
    assert found["metric f1"] == of_all(job.curve, "f1")[0]


async def test_a_repaired_run_inherits_nothing_of_the_one_that_failed() -> None:
    failed = a_run(replace(PAST, fails=True))
    world = World([failed])
    before = await numbers(world)
    assert before["step"] == 290
    now = START + world.clock.now
    anew = replace(failed.curve, seed="anew")
    repaired = replace(
        failed,
        history=(*failed.history, (now, Status.QUEUED), (now + 5 * MINUTE, Status.FINETUNING)),
        curve=anew,
        first_row_at=now + 10 * MINUTE,
    )
    world.simulator.fleet = Fleet([repaired])
    assert await numbers(world) == {}
    world.clock.now += 6 * MINUTE
    assert await numbers(world) == {}
    world.clock.now += 4 * MINUTE
    found = await numbers(world)
    rows = repaired.rows(START + world.clock.now - MINUTE)
    assert 0 < found["step"] < 100
    assert found["metric_max loss"] in [anew.metrics(row)["loss"] for row in rows]
    assert found["metric_max loss"] == max(
        anew.metrics(row)["loss"] for row in range(int(found["step"]) // 10 + 1)
    )
