"""A snapshot → the block of its lines, with the work that a change asks for and no more.

Models are rendered in groups, family by family, and what was rendered for a group of models that stayed as
they were is used again. Groups are counted from the oldest model on, so that a new one leaves the others be.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from exporter.exposition.block import Block, Piece
from exporter.exposition.lines import fleet_lines, head, identity, model_lines
from exporter.families import Family, FleetFamily, ModelFamily
from exporter.model import ModelState, Snapshot

GROUP = 512  # models; small enough to be worth keeping, large enough to be sent at once and to compress well


@dataclass(frozen=True, slots=True)
class _Group:
    states: Sequence[ModelState]
    pieces: dict[str, Piece]


class Renderer:
    """Renders one snapshot after the other; remembers the last."""

    def __init__(self, families: Sequence[Family]) -> None:
        self._families = families
        self._heads = {family.name: Piece(head(family)) for family in families}
        self._groups: list[_Group] = []

    def render(self, snapshot: Snapshot) -> Block:
        """Render a snapshot; raises whatever a family raises, and is as good as before then."""
        earlier = dict(enumerate(self._groups))
        groups = []
        for number, states in enumerate(_groups(snapshot.states)):
            same = earlier.get(number)
            groups.append(same if same and same.states == states else self._group(states))
        block = Block(self._pieces(snapshot, groups))
        self._groups = groups
        return block

    def _group(self, states: Sequence[ModelState]) -> _Group:
        identities = [identity(state.model) for state in states]
        return _Group(
            states,
            {
                family.name: Piece(model_lines(family, states, identities))
                for family in self._families
                if isinstance(family, ModelFamily)
            },
        )

    def _pieces(self, snapshot: Snapshot, groups: Sequence[_Group]) -> Iterator[Piece]:
        for family in self._families:
            yield self._heads[family.name]
            if isinstance(family, FleetFamily):
                yield Piece(fleet_lines(family, snapshot))
            else:
                for group in reversed(groups):
                    yield group.pieces[family.name]


def _groups(states: Sequence[ModelState]) -> Iterator[Sequence[ModelState]]:
    """Cut states that stand newest first into groups, the oldest first."""
    for end in range(len(states), 0, -GROUP):
        yield states[max(0, end - GROUP) : end]
