"""The lines of model families are those that prometheus_client writes, in either format."""

import math
from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from exporter.exposition import Format, render
from exporter.exposition.lines import fleet_lines, head, identity, model_lines
from exporter.families import FAMILIES, IDENTITY, Family, FleetFamily, ModelFamily, Sample
from exporter.model import FinetunedModel, ModelState, Snapshot, Status, TrainingProgress
from tools.benchmarks.client_server import samples

# What `cohere.wire` lets through: text that UTF-8 can carry, and any number.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ['"', "\\", "\n", "\\n"]
)
numbers = st.floats() | st.sampled_from(
    [0.0, -0.0, 1.0, math.nan, math.inf, 1e5, 1e6, 1e7, 123456789.125, 5e-324]
)
times = st.none() | numbers
named = st.dictionaries(texts, numbers, max_size=3)
states = st.builds(
    ModelState,
    st.builds(
        FinetunedModel,
        id=texts,
        name=texts,
        status=st.sampled_from(list(Status)) | texts,
        base_type=texts,
        base_model=texts,
        dataset_id=texts,
        wandb_entity=texts,
        created_at=times,
        updated_at=times,
        completed_at=times,
        last_used=times,
        hyperparameters=named,
    ),
    st.none() | st.builds(TrainingProgress, step=st.integers(0, 2**63 - 1), step_at=times, metrics=named),
)
snapshots = st.builds(
    Snapshot,
    states=st.lists(states, max_size=3).map(tuple),
    status_counts=st.dictionaries(texts, st.integers(0, 10**6), max_size=3),
    dropped=st.integers(0, 10**6),
)


class Library(Collector):
    """One gauge, as the library is told of it."""

    def __init__(self, family: Family, samples: Iterable[Sample]) -> None:
        self._metric = GaugeMetricFamily(family.name, family.help, labels=family.labels)
        for values, value in samples:
            self._metric.add_metric(values, value)

    def collect(self) -> Iterable[Metric]:
        return (self._metric,)


def written(family: Family, snapshot: Snapshot) -> bytes:
    if isinstance(family, FleetFamily):
        return head(family) + fleet_lines(family, snapshot)
    return head(family) + model_lines(
        family, snapshot.states, (identity(state.model) for state in snapshot.states)
    )


@given(snapshot=snapshots)
@example(snapshot=Snapshot(states=(), status_counts={}))
def test_every_line_is_the_library_s_own_in_both_formats(snapshot: Snapshot) -> None:
    for family in FAMILIES:
        library = Library(family, samples(family, snapshot))
        lines = written(family, snapshot)
        assert lines == render(library, Format.TEXT)
        assert lines + b"# EOF\n" == render(library, Format.OPENMETRICS)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_no_label_sorts_between_those_of_the_identity(family: Family) -> None:
    # The lines rely on it, and on help texts that need no escape.
    own = set(family.labels) - set(IDENTITY)
    assert not any(IDENTITY[0] <= label <= IDENTITY[1] for label in own)
    assert not set('"\\\n') & set(family.help)


def test_models_without_their_identities_are_refused() -> None:
    family = next(row for row in FAMILIES if isinstance(row, ModelFamily))
    with pytest.raises(ValueError, match="shorter"):
        model_lines(family, [ModelState(FinetunedModel(id="a"))], [])
