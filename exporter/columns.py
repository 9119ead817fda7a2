"""Text in columns that fit a width: first shortened, then dropped by priority.

Widths are those of a terminal's cells, in which many letters of East Asian scripts take two.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from unicodedata import combining, east_asian_width

_GAP = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """A column of text; the lowest `priority` is dropped first.

    `least` is the width down to which it may be shortened before that; None: not at all.
    """

    header: str
    cells: Sequence[str]
    priority: int
    least: int | None


def width(text: str) -> int:
    """Return the number of terminal cells that a text takes."""
    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)


def shorten(text: str, max_width: int) -> str:
    """Return the text, its end replaced by `…` where it does not fit."""
    if width(text) <= max_width:
        return text
    kept = ""
    for char in text:
        if width(kept + char) > max_width - 1:
            break
        kept += char
    return f"{kept}…"


def fit(columns: Sequence[Column], max_width: int | None) -> list[Column]:
    """Return the columns that fit into `max_width` cells, shortened to it; all in full when it is None."""
    kept = list(columns)
    if max_width is None:
        return kept
    while len(kept) > 1 and _needed([_least(column) for column in kept]) > max_width:
        kept.remove(min(kept, key=lambda column: column.priority))
    widths = {column.header: _least(column) for column in kept}
    spare = max_width - _needed(list(widths.values()))
    for column in sorted(kept, key=lambda column: -column.priority):
        more = max(min(spare, _natural(column) - widths[column.header]), 0)
        widths[column.header] += more
        spare -= more
    return [
        replace(column, cells=[shorten(cell, widths[column.header]) for cell in column.cells])
        for column in kept
    ]


def lines(columns: Sequence[Column]) -> list[list[str]]:
    """Return the rows, header first, each a list of cells padded to their columns' widths."""
    padded = []
    for column in columns:
        wide = _natural(column)
        padded.append([cell + " " * (wide - width(cell)) for cell in (column.header, *column.cells)])
    return [list(row) for row in zip(*padded, strict=True)]


def join(cells: Sequence[str]) -> str:
    """Return one row as a line."""
    return _GAP.join(cells).rstrip()


def _natural(column: Column) -> int:
    return max(map(width, (column.header, *column.cells)))


def _least(column: Column) -> int:
    natural = _natural(column)
    return natural if column.least is None else min(natural, max(column.least, width(column.header)))


def _needed(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)
