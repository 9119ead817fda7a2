"""What changed from one poll to the next, as lines of the log: one for each change, none without one.

A fleet that changes as a whole, as when it goes offline, gets `MOST_LINES` of them and one about the rest.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeAlias

import structlog

from exporter.errors import ApiError
from exporter.model import FinetunedModel, Status

log = structlog.stdlib.get_logger(__name__)

MOST_LINES = 100
_Change: TypeAlias = tuple[str, dict[str, Any]]
_Models: TypeAlias = Mapping[str, FinetunedModel]


class Events:
    """Remembers what was last seen and logs what is new."""

    def __init__(self) -> None:
        self._models: dict[str, FinetunedModel] | None = None
        self._failing_with: str | None = None
        self._failed_polls = 0
        self._was_stale = False

    def listed(self, models: Iterable[FinetunedModel]) -> None:
        """Log models that appeared, changed their status or left."""
        before, self._models = self._models, {model.id: model for model in models}
        if before is None:
            training = sum(model.status == Status.FINETUNING for model in self._models.values())
            log.info("models listed", models=len(self._models), training=training)
            return
        changes = _changes(before, self._models)
        for message, fields in islice(changes, MOST_LINES):
            log.info(message, **fields)
        if more := sum(1 for _ in changes):
            log.info("more models appeared, changed their status or left", models=more)

    def polled(self, error: ApiError | None, *, is_stale: bool = False) -> None:
        """Log when polling begins to fail, fails in another way, has failed for too long, or works again."""
        reason = error.reason if error else None
        if error and reason != self._failing_with:
            log.error("polling the API fails", **error.fields())
        elif reason is None and self._failing_with:
            log.info("polling the API works again", failed_polls=self._failed_polls)
        if is_stale and not self._was_stale:
            log.error("data is stale: metrics of models are absent until polling works again")
        self._was_stale = is_stale
        self._failing_with = reason
        self._failed_polls = self._failed_polls + 1 if error else 0


def _changes(before: _Models, after: _Models) -> Iterator[_Change]:
    for model_id, model in after.items():
        earlier = before.get(model_id)
        if earlier is None:
            yield "model appeared", {**_identity(model), "status": model.status}
        elif earlier.status != model.status:
            yield "model status changed", {**_identity(model), "status": model.status, "was": earlier.status}
    for model_id, model in before.items():
        if model_id not in after:
            yield "model left the list", {**_identity(model), "was": model.status}


def _identity(model: FinetunedModel) -> dict[str, str]:
    return {"model_id": model.id, "model_name": model.name}
