"""The grid: headings and shelves of panels from top to bottom, 24 columns wide, each as high as it says."""

from collections.abc import Iterable
from dataclasses import dataclass

from grafana_foundation_sdk.models.dashboard import GridPos, Panel, RowPanel

COLUMNS = 24


@dataclass(frozen=True, slots=True)
class Shelf:
    """Panels side by side: their common height, and each one's width with the panel."""

    height: int
    panels: tuple[tuple[int, Panel], ...]


@dataclass(frozen=True, slots=True)
class Heading:
    """A row's title, under which the shelves that follow can be folded."""

    title: str


def place(parts: Iterable[Shelf | Heading]) -> list[Panel | RowPanel]:
    """Return the panels with places and ids, in reading order; raise ValueError for a shelf not 24 wide."""
    placed: list[Panel | RowPanel] = []
    y = 0
    for part in parts:
        if isinstance(part, Heading):
            grid = GridPos(x=0, y=y, w=COLUMNS, h=1)
            placed.append(RowPanel(title=part.title, grid_pos=grid, id_val=len(placed) + 1, panels=[]))
            y += 1
            continue
        x = 0
        for width, panel in part.panels:
            panel.grid_pos = GridPos(x=x, y=y, w=width, h=part.height)
            panel.id_val = len(placed) + 1
            placed.append(panel)
            x += width
        if x != COLUMNS:
            raise ValueError(f"a shelf must be {COLUMNS} columns wide, not {x}")
        y += part.height
    return placed
