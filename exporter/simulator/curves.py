"""Training curves: the evaluation metrics of a job, row by row.

One number drives all metrics of a row: the skill reached, which rises from 0 towards 1 as training goes on,
with a little noise. So the metrics of one row always agree with each other. Everything is deterministic: the
same curve and row give the same values. Names are those of the API for each base type.

A run may overfit, so that its best row is not its last, or diverge to NaN.
"""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

TURNING_POINT = 0.5  # a diverging training gets worse from this part of it on
BREAKDOWN = 0.8  # … and measures nothing but NaN from here on


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """How one training run goes: `rows` evaluations planned for a model of `base_type`.

    A metric in `sparse` is measured on every so many rows only; each of `classes` has an F1 of its own.
    """

    base_type: str
    seed: str
    rows: int
    diverges: bool = False
    overfits: bool = False
    sparse: Mapping[str, int] = field(default_factory=dict)
    classes: tuple[str, ...] = ()

    def metrics(self, row: int) -> dict[str, float]:
        """Return the metrics of evaluation `row` (0 … rows - 1) by name; NaN where training broke down."""
        measured = METRICS[self.base_type](self.skill(row))
        for name in self.classes:
            measured[f"f1/{name}"] = measured["f1"] * (0.9 + 0.1 * noise(self.seed, name))
        return {
            name: round(value, 6) for name, value in measured.items() if row % self.sparse.get(name, 1) == 0
        }

    def skill(self, row: int) -> float:
        """Return how good the model is at evaluation `row`: about 0 at first, at most about 1."""
        progress = row / max(self.rows, 1)
        # No two runs are alike: each has its own final level and its own pace.
        talent = 0.93 + 0.05 * noise(self.seed, "talent")
        pace = 5.0 + 1.5 * noise(self.seed, "pace")
        skill = talent * (1 - math.exp(-pace * progress)) + 0.015 * noise(self.seed, row)
        if self.overfits:
            onset = 0.45 + 0.15 * noise(self.seed, "onset")
            skill -= 1.2 * max(0.0, progress - onset) ** 2
        if not self.diverges:
            return skill
        return skill - 14 * max(0.0, progress - TURNING_POINT) ** 2 if progress < BREAKDOWN else math.nan

    def stops_after(self, patience: int, threshold: float) -> int:
        """Return the rows before early stopping: `patience` rows in a row no better by `threshold`."""
        best, best_row = -math.inf, 0
        for row in range(self.rows):
            skill = self.skill(row)
            if skill > best + threshold:
                best, best_row = skill, row
            elif row - best_row >= patience:
                return row + 1
        return self.rows


@lru_cache(maxsize=1 << 14, typed=True)
def noise(*parts: object) -> float:
    """Return a number in [-1, 1) that depends on nothing but `parts`."""
    # A hash, for seeding a generator for each row would cost more than all the rest.
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**63 - 1


def chance(*parts: object) -> float:
    """Return a number in [0, 1) that depends on nothing but `parts`."""
    return (noise(*parts) + 1) / 2


def _generation(skill: float) -> dict[str, float]:
    return {
        "accuracy": 0.45 + 0.30 * skill,
        "cross_entropy": 0.9 + 1.9 * (1 - skill),
        "generation_accuracy": 0.40 + 0.32 * skill,
        "generation_cross_entropy": 1.1 + 2.2 * (1 - skill),
    }


def _classification(skill: float) -> dict[str, float]:
    precision = 0.40 + 0.53 * skill
    recall = 0.30 + 0.60 * skill
    return {
        "loss": 0.12 + 0.65 * (1 - skill),
        "accuracy": 0.50 + 0.43 * skill,
        "f1": 2 * precision * recall / (precision + recall),
        "precision": precision,
        "recall": recall,
    }


def _rerank(skill: float) -> dict[str, float]:
    # The share of queries whose one relevant document comes first, within three, or later; a rank gives
    # 1/rank to MRR and 1/log2(1 + rank) to nDCG.
    first = 0.35 + 0.35 * skill
    in_three = first + 0.55 * (1 - first)
    later = 1 - in_three
    return {
        "Accuracy@1": first,
        "Accuracy@3": in_three,
        "MRR@10": first + 0.42 * (in_three - first) + 0.12 * later,
        "nDCG@10": first + 0.57 * (in_three - first) + 0.28 * later,
        "cross_entropy": 0.25 + 0.75 * (1 - skill),
    }


METRICS: Mapping[str, Callable[[float], dict[str, float]]] = {
    "BASE_TYPE_GENERATIVE": _generation,
    "BASE_TYPE_CHAT": _generation,
    "BASE_TYPE_CLASSIFICATION": _classification,
    "BASE_TYPE_RERANK": _rerank,
}
