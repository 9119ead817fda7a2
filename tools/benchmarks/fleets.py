"""Fleets for benchmarks: the simulator's models at rest, as answers of the API that are ready to be sent.

Two kinds. A model of a `lean` fleet has the 14 series that the goals speak of: nine statuses, the info and
four timestamps. One of a `full` fleet is as the simulator makes it, with hyperparameters and training
metrics. Every model is in use, so `last_used` changes them all from one tide to the next.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from exporter.simulator import Job, at_rest, protojson

LEAN, FULL = "lean", "full"
SERIES = {LEAN: 14.0, FULL: 39.0}
PAGE_SIZE = 1000
TIDES = 2  # versions of the list that take turns where the fleet changes
_HOUR = 3600.0
_NOW = 1_700_100_000.0


@dataclass(frozen=True)
class Fleet:
    """`count` models of a kind."""

    kind: str
    count: int

    @cached_property
    def _jobs(self) -> Sequence[Job]:
        rows = 0 if self.kind == LEAN else 2
        jobs = (replace(job, used_every=_HOUR) for job in at_rest(self.count, rows=rows))
        if self.kind == LEAN:
            jobs = (replace(job, recipe=replace(job.recipe, hyperparameters={})) for job in jobs)
        return list(jobs)

    @property
    def series(self) -> int:
        """The number of series that the models have."""
        return round(self.count * SERIES[self.kind])

    def pages(self, tide: int) -> list[bytes]:
        """Return the pages of the list, which lead to each other by number."""
        jobs = self._jobs
        now = _NOW + tide * _HOUR
        starts = range(0, len(jobs), PAGE_SIZE)
        return [
            _json(
                finetuned_models=[protojson.model(job, now) for job in jobs[start : start + PAGE_SIZE]],
                next_page_token="" if start == starts[-1] else str(number),
                total_size=len(jobs),
            )
            for number, start in enumerate(starts, start=1)
        ]

    def steps(self) -> Mapping[str, bytes]:
        """Return the step metrics of each model by its id, newest first."""
        return {
            job.id: _json(step_metrics=[protojson.step_metrics(job, row) for row in reversed(job.rows(_NOW))])
            for job in self._jobs
        }


def _json(**message: object) -> bytes:
    return json.dumps(protojson.without_zeros(message), separators=(",", ":")).encode()
