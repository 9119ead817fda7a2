"""Whether step metrics as a whole cannot be read, which no model alone can tell.

    state     readings         ends
    ────────  ───────────────  ────────────────────────────────────────────────────────────────────────────
    open      as many as may   different models fail with no success between: closed
    closed    none             after a pause, as between lists that fail in this way: probing
    probing   one at a time    models fail: closed for longer; one succeeds: open

How many models it takes is `_CLOSES`; one that had failed before says nothing about others. A success of a
reading that began before opens it, too.
"""

import math
from collections.abc import Set as AbstractSet

import structlog

from exporter.clock import Clock
from exporter.errors import ApiError, Forbidden, PaymentRequired, RateLimited, Unauthorized
from exporter.polling.schedule import PAUSES, Backoff

log = structlog.stdlib.get_logger(__name__)

FIRST_PAUSE = 60.0  # after refusals, which do not pass by themselves
# How many models close it while open, and while probing. Access may be refused model by model.
_CLOSES = {Unauthorized: (2, 4), Forbidden: (2, 4), PaymentRequired: (2, 4), RateLimited: (2, 1)}
_OTHERS_CLOSE = (5, 1)


class Outage:
    """The state; `closed_until` is on the monotonic clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._suspects: set[str] = set()  # failed since the last success, or pause
        self.end()

    def end(self) -> None:
        """Open: the last reading succeeded, or what stood in the way may be gone."""
        self._suspects.clear()
        self._backoff = Backoff()
        self.is_open = True
        self.closed_until = -math.inf

    def failed(self, model_id: str, error: ApiError, interval: float, *, is_first: bool) -> None:
        """Take note of a failed reading, the `is_first` in a row of this model."""
        now = self._clock.monotonic()
        if now < self.closed_until or (self.is_open and not is_first):
            return
        self._suspects.add(model_id)
        while_open, while_probing = _CLOSES.get(type(error), _OTHERS_CLOSE)
        if len(self._suspects) < (while_open if self.is_open else while_probing):
            return
        if self.is_open:
            log.warning(
                "step metrics of different models cannot be read; they are tried one at a time",
                **error.fields(),
                advice=error.advice,
            )
        self._suspects.clear()
        self.is_open = False
        first = max(interval, FIRST_PAUSE) if type(error) in PAUSES else interval
        self.closed_until = now + self._backoff.pause(error, first)

    def keep(self, model_ids: AbstractSet[str]) -> None:
        """Forget what others than these said."""
        self._suspects &= model_ids
