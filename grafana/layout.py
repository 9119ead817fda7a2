"""The grid: headings and shelves of panels from top to bottom, 24 columns wide, each as high as it says."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from grafana_foundation_sdk.models.dashboard import GridPos, Panel, RowPanel

COLUMNS = 24


@dataclass(frozen=True, slots=True)
class Shelf:
    """Panels side by side: their height, and each one's width with it, or with shelves in its place."""

    height: int
    panels: tuple[tuple[int, "Panel | tuple[Shelf, ...]"], ...]


@dataclass(frozen=True, slots=True)
class Heading:
    """A row's title, under which the shelves that follow can be folded."""

    title: str


def place(parts: Iterable[Shelf | Heading]) -> list[Panel | RowPanel]:
    """Return the panels with places and ids, in reading order; raise ValueError for what leaves gaps."""
    placed: list[Panel | RowPanel] = []
    y = 0
    for part in parts:
        if isinstance(part, Heading):
            placed.append(RowPanel(title=part.title, grid_pos=GridPos(x=0, y=y, w=COLUMNS, h=1), panels=[]))
            y += 1
        else:
            placed += _placed(part, 0, y, COLUMNS)
            y += part.height
    for number, panel in enumerate(placed, start=1):
        panel.id_val = number
    return placed


def _placed(shelf: Shelf, x: int, y: int, columns: int) -> Iterator[Panel]:
    if (total := sum(width for width, _ in shelf.panels)) != columns:
        raise ValueError(f"a shelf must be {columns} columns wide here, not {total}")
    for width, panel in shelf.panels:
        if isinstance(panel, Panel):
            panel.grid_pos = GridPos(x=x, y=y, w=width, h=shelf.height)
            yield panel
        else:
            if (total := sum(inner.height for inner in panel)) != shelf.height:
                raise ValueError(f"shelves must be {shelf.height} high here, not {total}")
            below = y
            for inner in panel:
                yield from _placed(inner, x, below, width)
                below += inner.height
        x += width
