"""Whatever an answer holds: the odd part costs itself, all else is told as before, no page or line breaks."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter.cohere.wire import HYPERPARAMETERS, STEP_VALUES_LIMIT, VALUES_LIMIT
from exporter.model import PollOutcome
from tests.hostile.answers import (
    READING_FAILURES,
    StepPages,
    beside,
    counted,
    differing,
    models,
    pages_of,
    same,
    says,
    told,
)
from tests.hostile.fields import CUT, LONG, NO_PROGRESS, PLAIN, PLAIN_FACTS, PLAIN_ROWS, Json, changed
from tests.hostile.oddities import MODELS, NONSENSE, STEPS, Nonsense, Oddity
from tests.hostile.server import Fault, FaultServer, Place
from tests.hostile.stage import Series, Stage, on_stage

pytestmark = pytest.mark.slow

GOOD = {"waiting", "training"}
ODDITIES = MODELS + STEPS
# Each on the list, the first of each message on each answer: lists and step metrics are read by one function.
_FIRST = {row.says: row for row in reversed(NONSENSE)}.values()
PLACES = [(row, place) for row in NONSENSE for place in (Place if row in _FIRST else [Place.LIST])]
K = TypeVar("K")

UNLIMITED = "--cohere.requests-per-minute=100000"  # the ceiling is not the matter here


async def assert_sound(stage: Stage) -> None:
    """Every page is there and holds no secret, every series is one, every line of the log is one."""
    for path in ("/-/healthy", "/-/ready", "/"):
        await stage.page(path)
    samples = [
        (sample.name, *sorted(sample.labels.items()))
        for family in text_string_to_metric_families(await stage.page("/metrics"))
        for sample in family.samples
    ]
    assert len(samples) == len(set(samples))
    stage.log()


@dataclass(frozen=True)
class Played:
    """What came of an answer: the series before, during and after it, how the poll ended, and the log."""

    before: Series
    during: Series
    after: Series
    outcome: PollOutcome
    log: Sequence[dict[str, Any]]

    def newly(self, family: str) -> dict[str, float]:
        """Return what a family of counters has counted."""
        return dict(Counter(counted(self.during, family)) - Counter(counted(self.before, family)))

    @property
    def counted(self) -> dict[str, float]:
        """Return the parts that were skipped, by their kind."""
        return dict(Counter(counted(self.during)) - Counter(counted(self.before)))


async def play(
    stage: Stage, server: FaultServer, faults: Mapping[Place, Fault], before: Series | None = None
) -> Played:
    before = before or await stage.series()
    server.faults.update(faults)
    stage.log()
    outcome = await stage.poll()
    log = stage.log()
    during = await stage.series()
    await assert_sound(stage)
    await server.heal()
    assert (await stage.poll()).reason is None
    return Played(before, during, await stage.series(), outcome, log)


def play_each(answers: Mapping[K, Mapping[Place, Fault]]) -> dict[K, Played]:
    """Play one answer after the other to one exporter, which must be as before after each."""

    async def run() -> dict[K, Played]:
        async with FaultServer() as server, on_stage(server, UNLIMITED) as stage:
            await stage.poll()
            before: Series | None = None
            found: dict[K, Played] = {}
            for key, faults in answers.items():
                found[key] = await play(stage, server, faults, before)
                before = found[key].after
            return found

    return asyncio.run(run())


@pytest.fixture(scope="module")
def oddities() -> dict[str, Played]:
    return play_each(
        {
            oddity.name: {
                Place.LIST: beside(oddity.models, oddity.spelled),
                Place.STEPS: StepPages({}, pages_of(oddity.rows)),
            }
            for oddity in ODDITIES
        }
    )


@pytest.fixture(scope="module")
def nonsense() -> dict[tuple[Nonsense, Place], Played]:
    return play_each({(row, place): {place: says(row.body)} for row, place in PLACES})


@pytest.mark.parametrize("oddity", ODDITIES, ids=lambda oddity: oddity.name)
def test_what_is_odd_is_shown_as_the_table_says(oddity: Oddity, oddities: dict[str, Played]) -> None:
    played = oddities[oddity.name]
    assert played.outcome.reason is None
    assert models(played.before).items() <= models(played.during).items()
    found = {name: facts for name, facts in told(played.during).items() if name not in GOOD}
    expected = {name: differing(facts) for name, facts in oddity.becomes.items()}
    assert found.keys() == expected.keys()
    assert {name: found[name] for name in found if not same(found[name], expected[name])} == {}
    assert played.counted == ({oddity.counted: oddity.times} if oddity.counted else {})
    assert models(played.after) == models(played.before)


@pytest.mark.parametrize(("row", "place"), PLACES, ids=lambda value: getattr(value, "name", value))
def test_nonsense_costs_the_whole_answer_and_says_why(
    row: Nonsense, place: Place, nonsense: dict[tuple[Nonsense, Place], Played]
) -> None:
    played = nonsense[row, place]
    error = row.says.format(
        key="step_metrics" if place is Place.STEPS else "finetuned_models",
        values=f"{STEP_VALUES_LIMIT if place is Place.STEPS else VALUES_LIMIT:,}",
    )
    assert models(played.before) == models(played.during) == models(played.after)
    assert played.counted == {}
    (line,) = played.log
    assert (line["reason"], line["error"]) == ("invalid_response", error)
    if place is Place.STEPS:
        assert played.outcome.reason is None
        assert played.newly(READING_FAILURES) == {"invalid_response": 1}
    else:
        assert (played.outcome.reason, played.outcome.message) == ("invalid_response", error)


def test_no_two_rows_have_one_name() -> None:
    for rows in (ODDITIES, NONSENSE):
        assert len({row.name for row in rows}) == len(rows)


def leaves(base: Mapping[str, Json], before: str = "") -> Iterator[str]:
    """Yield the path of each field that holds no other fields."""
    for name, value in base.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{before}{name}.")
        else:
            yield f"{before}{name}"


@pytest.mark.anyio
async def test_a_field_of_another_type_or_too_long_costs_that_field_alone_and_a_zero_nothing() -> None:
    paths = sorted(set(leaves(PLAIN)) - {"id", "settings.wandb.api_key"})
    kinds = {"typed": {"another": "type"}, "true": True, "long": LONG, "zero": 0, "empty": ""}
    odd = [changed("id", f"{kind} {path}", changed(path, kinds[kind])) for path in paths for kind in kinds]
    steps = StepPages({}, pages_of([PLAIN_ROWS]))
    async with FaultServer() as server, on_stage(server) as stage:
        await stage.poll()
        played = await play(stage, server, {Place.LIST: beside(odd), Place.STEPS: steps})
    found = told(played.during)
    lost = [
        [fact for fact in PLAIN_FACTS if found[f"typed {path}"].get(fact) != PLAIN_FACTS[fact]]
        for path in paths
    ]
    assert [facts for facts in lost if len(facts) != 1] == []
    assert {fact for (fact,) in lost} == PLAIN_FACTS.keys() - NO_PROGRESS.keys()
    texts = [path for path in paths if CUT in found[f"long {path}"].values()]
    assert len(texts) == 12
    assert all(LONG not in facts.values() for facts in found.values())
    enums = {path for path in texts if "0" not in found[f"zero {path}"].values()}
    assert {path.rpartition(".")[2] for path in enums} == {
        *("status", "base_type", "strategy", "lora_target_modules")
    }
    # Only one field is a boolean; of the empty ones, numbers alone make no sense.
    assert played.counted == {"model_field": 3 * len(paths) - 1 - len(texts) + len(HYPERPARAMETERS)}
