"""The last values of each model in training, for the landing page's sparklines.

Of a model only its headline metric is kept, the loss if it has one, on its `LENGTH` highest steps: 16 bytes a
value, under a kilobyte a model. Values are forgotten with their run, and when the model no longer trains.
"""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass

from exporter.model import Snapshot, Status, StepRows
from exporter.triage import loss_of, score_of

LENGTH = 30


@dataclass(frozen=True, slots=True)
class Curve:
    """One metric by step, ascending; both arrays are of one length."""

    metric: str
    steps: "array[int]"
    values: "array[float]"


class RecentValues:
    """The curve of each model in training, by the model's ID."""

    def __init__(self) -> None:
        self._curves: dict[str, Curve] = {}

    def add(self, new: StepRows) -> None:
        """Add the rows of a reading; they may be older than those known."""
        if new.is_new_run:
            self._curves.pop(new.model.id, None)
        known = self._curves.get(new.model.id)
        names = dict.fromkeys({known.metric} if known else (), 0.0)
        for row in new.rows:
            names.update(row.metrics)
        if new.model.status != Status.FINETUNING or not names:
            return
        metric = (*loss_of(names), *score_of(names))[0]
        points = dict(zip(known.steps, known.values, strict=True)) if known and known.metric == metric else {}
        points |= {row.step: row.metrics[metric] for row in new.rows if metric in row.metrics}
        steps = sorted(points)[-LENGTH:]
        self._curves[new.model.id] = Curve(
            metric, array("q", steps), array("d", [points[step] for step in steps])
        )

    def of(self, snapshot: Snapshot) -> Mapping[str, Curve]:
        """Forget the models that are no longer in training; return the curves as they are now."""
        if self._curves:
            training = {
                state.model.id for state in snapshot.states if state.model.status == Status.FINETUNING
            }
            self._curves = {key: curve for key, curve in self._curves.items() if key in training}
        return dict(self._curves)
