"""What the process holds, hour by hour, and whether that is flat.

Memory is judged as the kernel sees it (resident) and as the interpreter does (allocated blocks), beside open
files, threads, tasks and garbage that cannot be freed. Flat is: the median of the last quarter of the run is
above that of the first, the warm-up left out, by no more than a tolerance.
"""

import asyncio
import ctypes
import gc
import os
import statistics
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from exporter.simulator import protojson
from exporter.simulator.curves import noise

_PAGE = os.sysconf("SC_PAGE_SIZE")
_MIB = 1 << 20


@dataclass(frozen=True)
class Resource:
    """One thing that must not grow: by at most `share` of what it was, or `least` where that is more."""

    name: str
    unit: str
    measure: Callable[[], float]
    share: float = 0.0
    least: float = 0.0

    def allowed(self, first: float) -> float:
        """Return the growth that is tolerated."""
        return max(self.least, self.share * first)


def _give_back() -> None:
    """Make the C library return what is free: by itself, glibc keeps buffers of large answers for hours."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * _PAGE / _MIB


def _files() -> float:
    return float(sum(1 for _ in Path("/proc/self/fd").iterdir()))


def _threads() -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("Threads:")))


RESOURCES: Sequence[Resource] = (
    Resource("resident memory", "MiB", _resident, share=0.03, least=3.0),
    Resource("allocated blocks", "blocks", lambda: float(sys.getallocatedblocks()), share=0.02),
    # Up to four connections to the API wait, closed by its side, until they would be used again.
    Resource("open files", "files", _files, least=4.0),
    Resource("threads", "threads", _threads),
    # Three readings, each with two tasks that wait for its turn, may be under way in any hour.
    Resource("tasks", "tasks", lambda: float(len(asyncio.all_tasks())), least=9.0),
    Resource("garbage kept", "objects", lambda: float(len(gc.garbage))),
)


@dataclass(frozen=True)
class Trend:
    """A resource over the run: medians of the first and the last quarter after the warm-up."""

    resource: Resource
    first: float
    last: float

    @property
    def is_flat(self) -> bool:
        """Whether it has grown by no more than is tolerated."""
        return self.last - self.first <= self.resource.allowed(self.first)


# What the simulated API remembers fills up over days, and is not the exporter's.
_SIMULATED = (noise, protojson.timestamp)


class Samples:
    """Figures of the process, hour by hour."""

    def __init__(self) -> None:
        # In an array, whose few blocks are not seen among those that are counted.
        self._values = array("d")

    def take(self) -> None:
        """Measure what is in use, and not what waits to be freed or returned."""
        for cache in _SIMULATED:
            cache.cache_clear()
        gc.collect()
        _give_back()
        self._values.extend(resource.measure() for resource in RESOURCES)

    @property
    def rows(self) -> list[list[float]]:
        """One row for each hour, in the order of `RESOURCES`."""
        width = len(RESOURCES)
        values = [round(value, 2) for value in self._values]
        return [values[begin : begin + width] for begin in range(0, len(values), width)]


def trends(rows: Sequence[Sequence[float]], warm_up: int) -> Iterator[Trend]:
    """Judge the rows but for the first `warm_up`."""
    judged = rows[warm_up:]
    quarter = max(len(judged) // 4, 1)
    for number, resource in enumerate(RESOURCES):
        values = [row[number] for row in judged]
        yield Trend(resource, statistics.median(values[:quarter]), statistics.median(values[-quarter:]))
