"""Every request, counted in three places: as the exporter sends it, as the API gets it, and in /metrics.

The three agree to the request, but for those that the API refused to connect; and no span of time has more of
them than it may.
"""

from collections import Counter, deque
from collections.abc import Callable

import httpx

from exporter.app import Exporter
from tools.soak.api import Api, endpoint

# Two requests that were let pass so long apart may come a few turns of the event loop closer.
_GRAIN = 0.001  # seconds


class Window:
    """The most requests there were in any span of `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.most = 0
        self._seconds = seconds - _GRAIN
        self._times: deque[float] = deque()

    def note(self, at: float) -> None:
        """Record a request."""
        self._times.append(at)
        while self._times[0] <= at - self._seconds:
            self._times.popleft()
        self.most = max(self.most, len(self._times))


class Ledger:
    """The counts; `now` gives seconds, `window` is the span of time that is looked at."""

    def __init__(self, exporter: Exporter, api: Api, now: Callable[[], float], window: "Window") -> None:
        self.begun: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.window = window
        self._api = api
        self._counted = exporter.telemetry.api_requests
        self._now = now
        self._settled = 0
        exporter.http.event_hooks = {"request": [self._begin]}

    async def _begin(self, request: httpx.Request) -> None:
        which = endpoint(request.url.path)
        self.begun[which] += 1
        if not self._api.is_listening:
            self.refused[which] += 1
        self.window.note(self._now())

    @property
    def under_way(self) -> int:
        """How many requests have begun and not ended."""
        begun = self.begun.total()
        if begun != self._settled:
            ended = self.counted().total()
            if ended == begun:
                self._settled = begun
            return begun - ended
        return 0

    def counted(self) -> Counter[str]:
        """Return what /metrics says, by endpoint."""
        counted: Counter[str] = Counter()
        for family in self._counted.collect():
            for sample in family.samples:
                counted[sample.labels["endpoint"]] += int(sample.value)
        return counted

    def differences(self) -> list[str]:
        """Say where the counts differ while nothing is under way."""
        pairs = (
            ("counted in /metrics", self.counted()),
            ("received by the API or refused", self._api.requests + self.refused),
        )
        return [
            f"{dict(self.begun)} requests were sent, {dict(other)} {name}"
            for name, other in pairs
            if +other != self.begun
        ]
