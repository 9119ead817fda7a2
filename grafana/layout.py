"""The grid: shelves of panels from top to bottom, each 24 columns wide and as high as it says."""

from collections.abc import Iterable
from dataclasses import dataclass

from grafana_foundation_sdk.models.dashboard import GridPos, Panel

COLUMNS = 24


@dataclass(frozen=True, slots=True)
class Shelf:
    """Panels side by side: their common height, and each one's width with the panel."""

    height: int
    panels: tuple[tuple[int, Panel], ...]


def place(shelves: Iterable[Shelf]) -> list[Panel]:
    """Give the panels their places and ids, in reading order; ValueError when a shelf is not 24 wide."""
    placed: list[Panel] = []
    y = 0
    for shelf in shelves:
        x = 0
        for width, panel in shelf.panels:
            panel.grid_pos = GridPos(x=x, y=y, w=width, h=shelf.height)
            panel.id_val = len(placed) + 1
            placed.append(panel)
            x += width
        if x != COLUMNS:
            raise ValueError(f"a shelf must be {COLUMNS} columns wide, not {x}")
        y += shelf.height
    return placed
