"""The steps of one model in a temporary file: added in any order, read series by series in order of time.

However long a run is, memory holds a page of it. A series has one sample a millisecond: of several steps of
one time the highest counts. A row that is read twice, because the list of pages shifts, counts once.
"""

import math
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice

from exporter.cohere.steps import select
from exporter.exposition.lines import Format, milliseconds, step_lines
from exporter.families import StepFamily
from exporter.model import StepRow

_NO_TIME = -1
_TABLES = """
CREATE TABLE step (ms INTEGER, number INTEGER, PRIMARY KEY (ms, number)) WITHOUT ROWID;
CREATE TABLE sample (metric TEXT, ms INTEGER, number INTEGER, value, PRIMARY KEY (metric, ms, number))
    WITHOUT ROWID;
"""
_SERIES = """
SELECT ms, number, value FROM sample WHERE metric = ?
AND number = (SELECT max(number) FROM step WHERE step.ms = sample.ms) ORDER BY ms
"""
_LINES = 1000  # written at once


class StepSpool:
    """The steps of one model; raises OSError when they cannot be kept."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._db.executescript(_TABLES)

    def add(self, rows: Iterable[StepRow]) -> None:
        """Keep rows; of one step at one time the last."""
        timed = [(_NO_TIME if row.at is None else milliseconds(row.at), row) for row in rows]
        self._db.executemany(
            "INSERT OR REPLACE INTO step VALUES (?, ?)", ((ms, row.step) for ms, row in timed)
        )
        self._db.executemany(
            "INSERT OR REPLACE INTO sample VALUES (?, ?, ?, ?)",
            (
                (name, ms, row.step, value)
                for ms, row in timed
                if ms != _NO_TIME
                for name, value in row.metrics.items()
            ),
        )

    @property
    def written(self) -> int:
        """The number of steps that the series have."""
        return self._number("SELECT count(DISTINCT ms) FROM step WHERE ms >= 0")

    @property
    def left_out(self) -> int:
        """The number of steps that have no time, or that of a later step."""
        return self._number("SELECT count(*) FROM step") - self.written

    def metrics(self, limit: int) -> tuple[list[str], int]:
        """Return the names of the metrics kept, at most `limit` (0: all), and how many are left out."""
        names = [name for (name,) in self._db.execute("SELECT DISTINCT metric FROM sample")]
        kept = select(names, self._db.execute("SELECT metric FROM sample"), (), limit)
        return kept, len(names) - len(kept)

    def lines(self, family: StepFamily, labels: str, metrics: Iterable[str]) -> Iterator[bytes]:
        """Yield the samples of a family, as OpenMetrics."""
        for rows in self._series(metrics) if family.own_labels else [self._steps()]:
            while some := list(islice(rows, _LINES)):
                yield step_lines(family, labels, some, Format.OPENMETRICS)

    def _series(self, metrics: Iterable[str]) -> Iterator[Iterator[StepRow]]:
        for name in metrics:
            yield (
                StepRow(
                    number, ms / 1000, {name: math.nan if value is None else value}
                )  # NaN is kept as NULL
                for ms, number, value in self._db.execute(_SERIES, (name,))
            )

    def _steps(self) -> Iterator[StepRow]:
        query = "SELECT ms, max(number) FROM step WHERE ms >= 0 GROUP BY ms ORDER BY ms"
        return (StepRow(number, ms / 1000, {}) for ms, number in self._db.execute(query))

    def _number(self, query: str) -> int:
        return int(self._db.execute(query).fetchone()[0])


@contextmanager
def open_spool() -> Iterator[StepSpool]:
    """Open a spool that leaves nothing behind; raise OSError when the disk is full or refuses."""
    db = sqlite3.connect("")  # a file without a name, of which little is held in memory
    try:
        yield StepSpool(db)
    except sqlite3.Error as error:
        raise OSError(f"temporary file: {error}") from error
    finally:
        db.close()
