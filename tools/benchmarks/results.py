"""Figures, ratios and goals: what a benchmark gives, and its line on the screen.

A figure is the median of its rounds. A ratio is that of two medians, ours to theirs, so that it can be
checked against the two figures beside it.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

TIMES = "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True, slots=True)
class Figure:
    """Who was measured, and the median, the least and the greatest of the rounds."""

    name: str
    median: float
    least: float
    greatest: float
    rounds: int

    @classmethod
    def of(cls, name: str, rounds: Sequence[float]) -> Self:
        """Sum up the rounds."""
        return cls(name, statistics.median(rounds), min(rounds), max(rounds), len(rounds))


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on our figure, or on its ratio to the first other one."""

    bound: float
    on_ratio: bool = False
    at_least: bool = False

    def is_met(self, value: float) -> bool:
        """Return whether the value keeps to the bound."""
        return value >= self.bound if self.at_least else value <= self.bound


@dataclass(frozen=True, slots=True)
class Result:
    """One comparison: our figure beside others, in one unit."""

    benchmark: str
    case: str
    unit: str
    ours: Figure
    others: tuple[Figure, ...] = ()
    goal: Goal | None = None
    note: str = ""

    def ratio(self, other: Figure) -> float:
        """Return our figure as a multiple of another one."""
        return self.ours.median / other.median if other.median else math.inf

    @property
    def judged(self) -> float:
        """The value that the goal is about."""
        return self.ratio(self.others[0]) if self.goal and self.goal.on_ratio else self.ours.median

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is met; None without a goal."""
        return None if self.goal is None else self.goal.is_met(self.judged)

    def as_data(self) -> dict[str, Any]:
        """Return what `from_data` reads."""
        return asdict(self)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        """Read a result back."""
        figures = {"ours": Figure(**data["ours"]), "others": tuple(Figure(**one) for one in data["others"])}
        return cls(**{**data, **figures, "goal": Goal(**data["goal"]) if data["goal"] else None})


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the least of the values that `percent` % of them do not exceed (nearest rank)."""
    rank = max(1, math.ceil(len(values) * percent / 100))
    return sorted(values)[rank - 1]


def number(value: float) -> str:
    """Write a number with three digits that count."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(float(f"{value:.3g}")))))
    return f"{value:,.{digits}f}"


def times(ratio: float) -> str:
    """Write a ratio."""
    return f"{number(ratio)} {TIMES}"


def spread(figure: Figure) -> str:
    """Write the least and the greatest of the rounds; nothing where there was but one."""
    return "" if figure.rounds == 1 else f"{number(figure.least)} to {number(figure.greatest)}"


def goal_text(result: Result, goal: Goal) -> str:
    """Write the goal of a result: `at most 60 MiB`."""
    what = f"{TIMES} {result.others[0].name}" if goal.on_ratio else result.unit
    return f"at {'least' if goal.at_least else 'most'} {goal.bound:g} {what}"


def lines(result: Result) -> list[str]:
    """Write a result for the screen."""
    text = [f"{result.benchmark}: {result.case}" + (f" ({result.note})" if result.note else "")]
    for figure in (result.ours, *result.others):
        ratio = "" if figure is result.ours else times(result.ratio(figure))
        median, between = number(figure.median), spread(figure)
        text.append(f"    {figure.name:<40} {median:>9} {result.unit:<10} {between:<18} {ratio}".rstrip())
    if result.goal:
        verdict = "met" if result.is_met else "MISSED"
        text.append(f"    goal {goal_text(result, result.goal)}: {number(result.judged)}, {verdict}")
    return text
