"""A snapshot → its payload, rendering only what has changed.

Models are rendered in groups, family by family, and what was rendered for a group of models that stayed as
they were is used again. Groups are counted from the oldest model on, so that a new one leaves the others be.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from exporter.exposition.lines import fleet_lines, head, identity, model_lines
from exporter.exposition.payload import Chunk, Payload
from exporter.families import Family, FleetFamily, ModelFamily
from exporter.model import ModelState, Snapshot

GROUP = 512  # models; small enough to be worth keeping, large enough to be sent at once and to compress well


@dataclass(frozen=True, slots=True)
class _Group:
    states: Sequence[ModelState]
    chunks: dict[str, Chunk]


class Renderer:
    """Renders one snapshot after the other; remembers the last."""

    def __init__(self, families: Sequence[Family]) -> None:
        self._families = families
        self._heads = {family.name: Chunk(head(family)) for family in families}
        self._groups: list[_Group] = []

    def render(self, snapshot: Snapshot) -> Payload:
        """Render a snapshot; raises whatever a family raises, and is as good as before then."""
        earlier = dict(enumerate(self._groups))
        groups = []
        for number, states in enumerate(_groups(snapshot.states)):
            same = earlier.get(number)
            groups.append(same if same and same.states == states else self._group(states))
        payload = Payload(self._chunks(snapshot, groups))
        self._groups = groups
        return payload

    def _group(self, states: Sequence[ModelState]) -> _Group:
        identities = [identity(state.model) for state in states]
        return _Group(
            states,
            {
                family.name: Chunk(model_lines(family, states, identities))
                for family in self._families
                if isinstance(family, ModelFamily)
            },
        )

    def _chunks(self, snapshot: Snapshot, groups: Sequence[_Group]) -> Iterator[Chunk]:
        for family in self._families:
            yield self._heads[family.name]
            if isinstance(family, FleetFamily):
                yield Chunk(fleet_lines(family, snapshot))
            else:
                for group in reversed(groups):
                    yield group.chunks[family.name]


def _groups(states: Sequence[ModelState]) -> Iterator[Sequence[ModelState]]:
    """Cut states that stand newest first into groups, the oldest first."""
    for end in range(len(states), 0, -GROUP):
        yield states[max(0, end - GROUP) : end]
