"""Step rows → the bytes of /metrics/steps, each sample at the time of its step.

What a reading brings is offered for `window` seconds after it was first shown, to whoever asks: there is no
cursor, so two scrapers get the same rows and one that timed out asks again. It is not offered for longer than
two windows, because Prometheus warns of samples that it has stored already. At most `VALUES_LIMIT` values are
held. Rows beyond it, the oldest, unless they were served, rows that would be older than `OLDEST` before they
are no longer offered or are further ahead than `AHEAD`, and rows without a time, or with that of another
step, are counted as missed; those that were too old when this began are not: an exporter that ran before may
have offered them. Nor are rows that come again with a model that was not listed for a while, or runs anew.
"""

import asyncio
import math
import re
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from exporter.clock import Clock
from exporter.exposition.lines import Format, head, identity, milliseconds, step_lines
from exporter.exposition.payload import Chunk, Payload
from exporter.families import STEP_FAMILIES
from exporter.model import StepRow, StepRows
from exporter.runtime.worker import Worker

VALUES_LIMIT = 200_000
# Prometheus gives up a whole scrape for one sample beyond its out-of-order window, of which 6 h are advised.
# It counts from the newest sample it has, which may be `AHEAD` of now.
OLDEST = 5 * 3600.0  # seconds
AHEAD = 600.0  # seconds; Prometheus takes nothing of a later time
MOST_MODELS = 10_000  # whose newest row is remembered
_LONG = 128  # bytes; most names of models and metrics are shorter
_ROWS = 500  # of one arrival; what is dropped beyond the limit is dropped by as many
_END = {Format.TEXT: b"", Format.OPENMETRICS: b"# EOF\n"}
_NOTHING = Payload(())


@dataclass(slots=True, eq=False)
class _Arrival:
    """Rows of one model that arrived together.

    `size` counts their values, the step's number included; each `_LONG` bytes of its names are one more.
    """

    labels: str
    rows: Sequence[StepRow]
    shown_at: float = math.inf

    @property
    def size(self) -> int:
        one = 1 + len(self.labels.encode()) // _LONG
        names = Counter(name for row in self.rows for name in row.metrics)
        metrics = sum(count * (one + len(name.encode()) // _LONG) for name, count in names.items())
        return one * len(self.rows) + metrics


class StepExposition:
    """The rows on offer, rendered in the formats that somebody has asked for."""

    def __init__(
        self,
        *,
        clock: Clock,
        window: float,
        worker: Worker,
        on_missed: Callable[[int], None],
        exclude: re.Pattern[str] | None = None,
    ) -> None:
        self._clock = clock
        self._window = window
        self._oldest = OLDEST - 2 * window
        self._began = clock.monotonic()
        self._asked_at = -math.inf
        self._newest: dict[str, tuple[float, float]] = {}  # time and step, by the model's id
        self._worker = worker
        self._on_missed = on_missed
        self._families = [
            family for family in STEP_FAMILIES if not (exclude and exclude.fullmatch(family.name))
        ]
        self._arrivals: deque[_Arrival] = deque()
        self._size = 0
        self._revision = self._shown_revision = 0  # of the arrivals
        self._offered_until = -math.inf
        self._payloads: dict[Format, Payload] = {}
        self._rendering = asyncio.Lock()

    def offer(self, new: StepRows) -> None:
        """Take the rows of a reading; scrapes show them from the next `publish` on."""
        labels = identity(new.model)
        taken = self._on_offer(labels)
        distinct, missed = self._since_last(new)
        rows = [row for row in in_time(distinct) if self._is_timely(row) and _time(row) not in taken]
        missed += len(distinct) - len(rows)
        for start in range(0, len(rows), _ROWS):
            arrival = _Arrival(labels, rows[start : start + _ROWS])
            self._arrivals.append(arrival)
            self._size += arrival.size
            self._revision += 1
        while self._size > VALUES_LIMIT:
            dropped = self._drop_oldest()
            missed += 0 if self._was_served(dropped) else len(dropped.rows)
        if missed:
            self._on_missed(missed)

    async def publish(self) -> None:
        """Show what has arrived, and no longer what was shown for long enough."""
        async with self._rendering:
            now = self._clock.monotonic()
            while self._arrivals and self._arrivals[0].shown_at <= now - self._window:
                self._drop_oldest()
            if self._revision != self._shown_revision:
                await self._show()

    async def chunks(self, format_: Format, gzipped: bool = False) -> Sequence[bytes]:
        """Return the exposition in chunks; it is empty once the newest rows were offered for long enough."""
        if format_ not in self._payloads:
            async with self._rendering:  # from now on `publish` keeps it up to date
                if format_ not in self._payloads:
                    self._payloads[format_] = await self._worker(self._render, tuple(self._arrivals), format_)
        self._asked_at = self._clock.monotonic()
        payload = self._payloads[format_] if self._clock.monotonic() <= self._offered_until else _NOTHING
        return payload.chunks(_END[format_], gzipped=gzipped)

    async def _show(self) -> None:
        revision, arrivals = self._revision, tuple(self._arrivals)
        self._payloads = {one: await self._worker(self._render, arrivals, one) for one in self._payloads}
        self._shown_revision, now = revision, self._clock.monotonic()
        for arrival in arrivals:
            arrival.shown_at = min(arrival.shown_at, now)
        self._offered_until = arrivals[-1].shown_at + self._window if arrivals else -math.inf

    def _since_last(self, new: StepRows) -> tuple[Sequence[StepRow], int]:
        """Return each row that was neither taken before nor too old at the start, and how many were not read.

        Among rows that come again is the newest one taken. What was not read is older than what was.
        """
        began = self._clock.time() - (self._clock.monotonic() - self._began)  # by the clock as it is now
        floor = (began - self._oldest, math.inf)
        times = sorted((row.at, row.step) for row in new.rows if row.at is not None)
        newest = self._newest.pop(new.model.id, None)
        is_again = newest in times
        if newest and is_again:
            floor = max(floor, newest)
        if known := [*times[-1:], *([newest] if newest else [])]:
            self._newest[new.model.id] = max(known)
            if len(self._newest) > MOST_MODELS:
                del self._newest[next(iter(self._newest))]
        # Pages may shift while they are read, and have a row twice.
        distinct = {(row.at, row.step): row for row in new.rows if not (is_again and row.at is None)}
        since = [row for row in distinct.values() if row.at is None or (row.at, row.step) > floor]
        return since, int(min(new.missed, _most_between(floor[0], [at for at, _ in times])))

    def _on_offer(self, labels: str) -> Collection[int]:
        """Return the times of a model on offer; of one time Prometheus keeps the first value."""
        arrivals = (arrival for arrival in self._arrivals if arrival.labels == labels)
        return {_time(row) for arrival in arrivals for row in arrival.rows}

    def _is_timely(self, row: StepRow) -> bool:
        return -self._oldest < (row.at or 0.0) - self._clock.time() <= AHEAD

    def _was_served(self, arrival: _Arrival) -> bool:
        """Return whether somebody has asked since it was shown, or could have for the whole window."""
        return arrival.shown_at <= max(self._asked_at, self._clock.monotonic() - self._window)

    def _drop_oldest(self) -> _Arrival:
        self._revision += 1
        arrival = self._arrivals.popleft()
        self._size -= arrival.size
        return arrival

    def _render(self, arrivals: Iterable[_Arrival], format_: Format) -> Payload:
        runs: dict[str, list[StepRow]] = {}
        for arrival in arrivals:
            runs.setdefault(arrival.labels, []).extend(arrival.rows)
        for labels, rows in runs.items():
            runs[labels] = in_time(rows)
        return Payload(map(Chunk, self._lines(runs, format_)))

    def _lines(self, runs: Mapping[str, Sequence[StepRow]], format_: Format) -> Iterator[bytes]:
        for family in self._families:
            yield head(family)
            for labels, rows in runs.items():
                yield step_lines(family, labels, rows, format_)


def in_time(rows: Iterable[StepRow]) -> list[StepRow]:
    """Return the rows that have a time, in its order; of those of one millisecond the highest step."""
    by_time: dict[int, StepRow] = {}
    for row in sorted(rows, key=lambda row: row.step):
        if row.at is not None:
            by_time[_time(row)] = row
    return [by_time[at] for at in sorted(by_time)]


def _most_between(floor: float, times: Sequence[float]) -> float:
    """Return how many rows there may have been since `floor` before these, if they came as often."""
    if not times or times[0] <= floor:
        return 0.0 if times else math.inf
    duration = times[-1] - times[0]
    return (times[0] - floor) * (len(times) - 1) / duration if duration else math.inf


def _time(row: StepRow) -> int:
    return milliseconds(row.at or 0.0)
