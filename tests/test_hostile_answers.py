"""Whatever an answer holds: the odd part costs itself, all else is told as before, no page or line breaks."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter.cohere.wire import STEP_VALUES_LIMIT, VALUES_LIMIT
from exporter.model import PollOutcome
from tests.hostile.answers import (
    READING_FAILURES,
    StepPages,
    beside,
    counted,
    differing,
    encode,
    models,
    pages_of,
    same,
    says,
    told,
)
from tests.hostile.fields import (
    EARLIER_FACTS,
    EMPTY,
    END,
    NO_PROGRESS,
    PLAIN_ROW,
    PLAIN_ROWS,
    RULES,
    TOKENS,
    VALUES,
    Facts,
    Json,
    changed,
    facts_of,
    fields_of,
    with_value,
)
from tests.hostile.oddities import MODELS, NONSENSE, STEPS, Nonsense, Oddity
from tests.hostile.server import Fault, FaultServer, Place
from tests.hostile.stage import Series, Stage, on_stage

pytestmark = pytest.mark.slow

LISTS = (Place.LIST, Place.LATER_PAGE)
GOOD = {"waiting", "training"}
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


def play_each(answers: Mapping[tuple[str, Place], Mapping[Place, Fault]]) -> dict[tuple[str, Place], Played]:
    """Play one answer after the other to one exporter, which must be as before after each."""

    async def run() -> dict[tuple[str, Place], Played]:
        async with FaultServer() as server, on_stage(server, UNLIMITED) as stage:
            await stage.poll()
            before, found = None, {}
            for key, faults in answers.items():
                found[key] = await play(stage, server, faults, before)
                before = found[key].after
            return found

    return asyncio.run(run())


@pytest.fixture(scope="module")
def oddities() -> dict[tuple[str, Place], Played]:
    places = [(oddity, place) for oddity in MODELS for place in LISTS]
    places += [(oddity, Place.STEPS) for oddity in STEPS]
    return play_each(
        {
            (oddity.name, place): {
                Place.LIST if place is Place.STEPS else place: beside(oddity.models, oddity.spelled),
                Place.STEPS: StepPages({}, pages_of(oddity.rows)),
            }
            for oddity, place in places
        }
    )


@pytest.fixture(scope="module")
def nonsense() -> dict[tuple[str, Place], Played]:
    return play_each({(row.name, place): {place: says(row.body)} for row in NONSENSE for place in Place})


@pytest.mark.parametrize("place", LISTS)
@pytest.mark.parametrize("oddity", MODELS, ids=lambda oddity: oddity.name)
def test_an_odd_model_is_shown_as_the_table_says(
    oddity: Oddity, place: Place, oddities: dict[tuple[str, Place], Played]
) -> None:
    assert_told(oddity, oddities[oddity.name, place])


@pytest.mark.parametrize("oddity", STEPS, ids=lambda oddity: oddity.name)
def test_odd_step_metrics_are_shown_as_the_table_says(
    oddity: Oddity, oddities: dict[tuple[str, Place], Played]
) -> None:
    assert_told(oddity, oddities[oddity.name, Place.STEPS])


def assert_told(oddity: Oddity, played: Played) -> None:
    assert played.outcome.reason is None
    assert models(played.before).items() <= models(played.during).items()
    found = {name: facts for name, facts in told(played.during).items() if name not in GOOD}
    expected = {name: differing(facts) for name, facts in oddity.becomes.items()}
    assert found.keys() == expected.keys()
    assert {name: found[name] for name in found if not same(found[name], expected[name])} == {}
    assert played.counted == ({oddity.counted: oddity.times} if oddity.counted else {})
    assert models(played.after) == models(played.before)


@pytest.mark.parametrize("place", Place)
@pytest.mark.parametrize("row", NONSENSE, ids=lambda row: row.name)
def test_nonsense_costs_the_whole_answer_and_says_why(
    row: Nonsense, place: Place, nonsense: dict[tuple[str, Place], Played]
) -> None:
    played = nonsense[row.name, place]
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


@pytest.mark.anyio
@pytest.mark.parametrize("place", Place)
async def test_check_says_what_makes_no_sense(place: Place) -> None:
    (half,) = (row for row in NONSENSE if row.name == "half an answer")
    async with FaultServer() as server, on_stage(server) as stage:
        server.faults[place] = says(half.body)
        checked = await stage.check()
        assert half.says in checked.err
        assert checked.code == (0 if place is Place.STEPS else 1)


def test_no_two_rows_have_one_name() -> None:
    for rows in (MODELS + STEPS, NONSENSE):
        assert len({row.name for row in rows}) == len(rows)


@pytest.mark.anyio
class TestEveryFieldWithEveryValue:
    """The matrix: fields of the specification, values, places."""

    @pytest.mark.parametrize("place", LISTS)
    async def test_of_a_model(self, place: Place) -> None:
        waiting = changed("status", "STATUS_QUEUED")
        odd: list[Json] = []
        expected: dict[str, dict[str, Any]] = {}
        skipped: Counter[str] = Counter()
        fields = list(fields_of("list-finetuned-models", "FinetunedModel"))
        assert len(fields) == 30
        for path, rule in fields:
            for value in VALUES:
                model_id = f"{path}={value}"
                odd.append(with_value(path, value, {**waiting, "id": model_id}))
                if path == "id" and value not in RULES["id"]:
                    skipped["model"] += 1
                    continue
                facts, is_counted = facts_of(path, rule, value)
                skipped["model_field"] += is_counted
                progress = {} if path == "status" else NO_PROGRESS
                shown_as = str(facts.get("id", model_id))
                expected[shown_as] = differing({"status": "STATUS_QUEUED", **progress, **facts, "id": None})
        async with FaultServer() as server, on_stage(server) as stage:
            await stage.poll()
            steps = StepPages({}, pages_of([PLAIN_ROWS]))
            played = await play(stage, server, {place: beside(odd), Place.STEPS: steps})
        assert_shown(played, expected)
        assert played.counted == skipped

    async def test_of_a_row_of_step_metrics(self) -> None:
        fields = list(fields_of("list-training-step-metrics", "TrainingStepMetrics"))
        assert [path for path, _ in fields] == ["created_at", "step_number", "metrics", "metrics.loss"]
        pages: dict[str, list[Json]] = {}
        expected: dict[str, dict[str, Any]] = {}
        skipped: Counter[str] = Counter()
        kinds = {"step_number": "step", "metrics.loss": "metric"}
        for path, rule in fields:
            for value in VALUES:
                rows = [with_value(path, value, PLAIN_ROW), PLAIN_ROWS[1]]
                pages[f"{path}={value}"] = pages_of([rows])
                expected[f"{path}={value}"] = differing(row_facts(path, rule, value))
                skipped[kinds.get(path, "step_field")] += value not in RULES[rule]
        skipped["metric"] += 1  # the text in an object of text
        played = await self.play_steps(pages)
        assert_shown(played, expected)
        assert played.counted == skipped
        assert played.newly(READING_FAILURES) == {}

    async def test_of_an_answer_with_step_metrics(self) -> None:
        pages: dict[str, list[Json]] = {}
        expected: dict[str, dict[str, Any]] = {}
        failures = 0
        (good,) = pages_of([PLAIN_ROWS])
        for field, _ in fields_of("list-training-step-metrics", "ListTrainingStepMetricsResponse"):
            for value in VALUES:
                name = f"{field}={value}"
                pages[name] = [with_value(field, value, good)]
                is_whole = field == "next_page_token" and value in (*END, *TOKENS)
                is_empty = field == "step_metrics" and value in (*EMPTY, "list of text")
                expected[name] = differing({} if is_whole else NO_PROGRESS)
                failures += not (is_whole or is_empty)
        assert len(pages) == 2 * len(VALUES)
        played = await self.play_steps(pages)
        assert_shown(played, expected)
        assert played.counted == {"step": 1}
        assert played.newly(READING_FAILURES) == {"invalid_response": failures}

    async def play_steps(self, pages: Mapping[str, Sequence[Json]]) -> Played:
        async with FaultServer() as server, on_stage(server) as stage:
            await stage.poll()
            odd = [changed("id", name) for name in pages]
            return await play(stage, server, {Place.LIST: beside(odd), Place.STEPS: StepPages(pages)})

    @pytest.mark.parametrize("place", LISTS)
    async def test_of_an_answer_with_models(self, place: Place) -> None:
        fields = [field for field, _ in fields_of("list-finetuned-models", "ListFinetunedModelsResponse")]
        assert [field for field in fields if "." not in field] == fields
        async with FaultServer() as server, on_stage(server, UNLIMITED) as stage:
            for field in fields:
                for value in VALUES:
                    server.faults[place] = holding(field, value)
                    error, listed = answer_becomes(field, value, place)
                    assert (field, value, (await stage.poll()).message) == (field, value, error)
                    snapshot = stage.exporter.exposition.snapshot
                    if not error:
                        assert snapshot is not None
                        found = {state.model.id for state in snapshot.states}
                        assert (field, value, found) == (field, value, listed)
            # A later page whose token is asked for comes twice.
            twice = {"duplicate_model": len(TOKENS)} if place is Place.LATER_PAGE else {}
            assert counted(await stage.series()) == {"model": 1, **twice}
            await assert_sound(stage)


def holding(field: str, value: str) -> Fault:
    """Answer with a value in a field of the answer."""
    return says(lambda good: encode(with_value(field, value, good)))


def assert_shown(played: Played, expected: Mapping[str, Mapping[str, Any]]) -> None:
    assert played.outcome.reason is None
    assert models(played.before).items() <= models(played.during).items()
    found = told(played.during)
    assert found.keys() - GOOD == expected.keys()
    assert {name: found[name] for name in expected if not same(found[name], expected[name])} == {}
    assert models(played.after) == models(played.before)


def row_facts(path: str, rule: str, value: str) -> Facts:
    """Return how a model differs from a plain one when its newer row has this value."""
    shown = RULES[rule].get(value)
    if path == "created_at":
        return {"step recorded": shown}
    if path == "step_number":
        # A row that has no step, or an earlier one, is not the newest.
        return EARLIER_FACTS
    return {"metric loss": EARLIER_FACTS["metric loss"] if shown is None else shown}


def answer_becomes(field: str, value: str, place: Place) -> tuple[str, set[str]]:
    """Return the error that a poll ends with, or "", and then the models that are listed."""
    one_page = {"waiting" if place is Place.LATER_PAGE else "training"}
    if field == "total_size":
        return "", GOOD
    if field == "finetuned_models":
        is_read = value in (*EMPTY, "list of text")
        return ("", one_page) if is_read else ("finetuned_models is not a list", set())
    if value in END:
        return "", GOOD if place is Place.LATER_PAGE else {"waiting"}
    if value == "long text":
        return "next_page_token does not fit into a URL", set()
    if value not in TOKENS:
        return "next_page_token is not text", set()
    if place is Place.LATER_PAGE:
        return "the list of pages goes in a circle: next_page_token repeats itself", set()
    return "", GOOD
