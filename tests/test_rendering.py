"""What stayed as it was is not rendered again, and the page is the same as if all of it had been."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import pytest

from exporter.exposition.payload import Payload
from exporter.exposition.rendering import GROUP, Renderer
from exporter.families import FAMILIES, ModelFamily, Sample
from exporter.model import FinetunedModel, ModelState, Snapshot


def fleet(*ids: int, name: str = "") -> Snapshot:
    """Return models by number, the newest, which has the highest, first."""
    numbers = sorted(ids, reverse=True)
    states = (ModelState(FinetunedModel(id=str(i), name=name, created_at=float(i))) for i in numbers)
    return Snapshot(states=tuple(states), status_counts={})


def plain(payload: Payload) -> bytes:
    return b"".join(payload.chunks(b"", gzipped=False))


class Asked:
    """A family that counts how often it is asked about each model."""

    def __init__(self) -> None:
        self.times: Counter[str] = Counter()
        self.family = ModelFamily("asked", "Asked.", (), self.samples)

    def samples(self, state: ModelState) -> Iterable[Sample]:
        self.times[state.model.id] += 1
        return (((), 1.0),)

    def count(self) -> int:
        asked = len(self.times)
        self.times.clear()
        return asked


FLEET = fleet(*range(3 * GROUP))
SHORTER = replace(FLEET, states=FLEET.states[1:])
FIRST_CHANGED = replace(FLEET, states=(ModelState(FinetunedModel(id="other")), *FLEET.states[1:]))
LAST_CHANGED = replace(FLEET, states=(*FLEET.states[:-1], ModelState(FinetunedModel(id="other"))))


@pytest.mark.parametrize(
    ("changed", "rendered"),
    [
        (replace(FLEET, dropped=7), 0),
        (fleet(*range(3 * GROUP + 1)), 1),
        (SHORTER, GROUP - 1),
        (FIRST_CHANGED, GROUP),
        (LAST_CHANGED, GROUP),
        (fleet(*range(3 * GROUP), name="renamed"), 3 * GROUP),
        (fleet(), 0),
    ],
    ids=["same models", "one more", "newest gone", "newest changed", "oldest changed", "all changed", "none"],
)
def test_only_groups_that_changed_are_rendered(changed: Snapshot, rendered: int) -> None:
    asked = Asked()
    renderer = Renderer([asked.family])
    renderer.render(FLEET)
    assert asked.count() == 3 * GROUP
    payload = renderer.render(changed)
    assert asked.count() == rendered
    assert plain(payload) == plain(Renderer([asked.family]).render(changed))


def test_the_newest_model_is_written_first() -> None:
    text = plain(Renderer(FAMILIES).render(FLEET)).decode()
    created = [line for line in text.splitlines() if line.startswith("cohere_finetuned_model_created")]
    assert [line.rpartition(" ")[2] for line in created[:2]] == [
        f"{n:.1f}" for n in (3 * GROUP - 1, 3 * GROUP - 2)
    ]
    assert len(created) == 3 * GROUP


def test_a_family_that_fails_costs_nothing_of_what_was_rendered() -> None:
    def samples(state: ModelState) -> Iterable[Sample]:
        return (((), 1 / state.model.created_at if state.model.created_at is not None else 0.0),)

    renderer = Renderer([ModelFamily("each", "Each.", (), samples)])
    good = fleet(1, 2)
    before = plain(renderer.render(good))
    with pytest.raises(ZeroDivisionError):
        renderer.render(fleet(0, 1, 2))
    assert plain(renderer.render(good)) == before
