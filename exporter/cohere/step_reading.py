"""One reading of a model's training steps: its pages so far, when it is complete, where the next begins.

Whatever was read is kept if it brought anything new, and the next reading goes on from there. Nothing here
asks the API: `client` does.
"""

from collections.abc import Collection
from dataclasses import dataclass, field, replace

import structlog

from exporter.cohere import steps
from exporter.cohere.pagination import CIRCLE, count_idle
from exporter.cohere.wire import Page
from exporter.errors import InvalidResponse, PaginationLimitExceeded
from exporter.model import StepRow, TrainingProgress

log = structlog.stdlib.get_logger(__name__)

MOST_NAMES = 20  # of metrics in a line of the log
MOST_SKIPPED = 1000  # pages of rows that are known, on the way to new ones
NO_STEPS = f"step metrics do not end: {CIRCLE} pages without a step"


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where the next reading begins, with pages of which size, and the rows `seen` by those before it.

    Ascending steps go on at the page that held the newest row, or at the next one (`is_next`) where a reading
    was cut off; others begin at the first page.
    """

    token: str = ""
    page_size: int = 0
    is_next: bool = False
    seen: bytes = field(default=b"", repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class StepReading:
    """What a reading of one model's steps brought; `progress` None when the API has no row of it.

    `rows` are those that were not known; `missed` estimates how many between them and what was known could
    not be read; `is_complete` is False when the newest rows may be still to come.
    """

    progress: TrainingProgress | None
    rows: list[StepRow]
    cursor: Cursor | None = None
    missed: int = 0
    is_new_run: bool = False
    is_complete: bool = True


class StepChain:
    """The pages of one reading, and what they come to."""

    def __init__(
        self, model_id: str, known: TrainingProgress | None, begin: Cursor, *, is_whole: bool = False
    ) -> None:
        self.model_id = model_id
        self.wants_all = is_whole
        self.known = known
        self.begin = begin
        self.next_token = ""
        self.pages = self.empty_pages = 0  # the latter in a row
        self.rows: list[StepRow] = []
        self.cursors: list[Cursor] = []
        self.refusal: InvalidResponse | None = None  # of a large page
        self.is_cut_off = False
        self.is_done = False
        self.is_at_end = False

    def take(self, page: Page[StepRow], cursor: Cursor) -> None:
        """Add a page; the chain is done at its last one, or when the rest is known."""
        self.pages += 1
        self.empty_pages = count_idle(self.empty_pages, NO_STEPS, is_idle=not page.items)
        self.rows += page.items
        if page.items or not self.cursors:
            self.cursors.append(cursor)
        self.next_token = page.next_token
        self.is_at_end = not page.next_token
        self.is_done = self.is_at_end or (
            self.known is not None
            and not self.wants_all
            and steps.is_descending(self.rows)
            and steps.has_newest_of(self.known, self.rows)
        )

    def become(self, other: "StepChain") -> None:
        """Take the place of another reading of the same steps."""
        self.rows, self.cursors, self.is_cut_off = other.rows, other.cursors, other.is_cut_off
        self.is_done, self.is_at_end, self.next_token = True, other.is_at_end, other.next_token

    def goes_on(self, known: TrainingProgress) -> bool:
        """Return whether the pages from a cursor on belong to the run known."""
        return steps.has_newest_of(known, self.rows) or (
            self.begin.is_next and all(row.step > known.step for row in self.rows)
        )

    def news(self) -> list[StepRow]:
        """Return the rows that no reading of the run known has brought."""
        return steps.unknown_rows(self.known, self.rows, self.begin.seen)

    def may_end_here(self) -> bool:
        """Return whether what was read brought anything new, or shows that there is nothing new."""
        return steps.is_descending(self.rows) or bool(self.news())

    def may_skip(self) -> bool:
        """Return whether all these rows are known, as where a long run begins."""
        is_known = self.known is not None and not self.wants_all
        return is_known and steps.is_ascending(self.rows) and self.pages < MOST_SKIPPED

    def skip(self) -> None:
        """Hold only as many of the rows as show the order."""
        self.rows = self.rows[-2:]

    def reading(self, limit: int) -> StepReading:
        """Return what the rows come to; nothing of the metrics that `limit` leaves out is in it."""
        rows = self.rows
        if not (rows or self._is_resumed):
            return StepReading(None, [])
        is_new_run, kept = self._begin_anew()
        is_descending = steps.is_descending(rows)
        if self.is_cut_off and not (is_descending or self._is_resumed or steps.is_ascending(rows)):
            raise PaginationLimitExceeded(
                "step metrics in no order do not end within the bounds of a reading"
            )
        known = None if self.wants_all and self.is_at_end else self.known
        progress = steps.latest(rows, limit=limit, known=known, kept=kept)
        if progress and progress.dropped and not (self.known and self.known.dropped):
            self._report_dropped(progress)
        return StepReading(
            progress,
            steps.within_limit(progress, self.news()),
            replace(self._cursor(), seen=steps.seen(rows, self.begin.seen)),
            missed=steps.missed_rows(self.known, rows) if self.is_cut_off and is_descending else 0,
            is_new_run=is_new_run,
            is_complete=not self.is_cut_off or is_descending,
        )

    def _report_dropped(self, progress: TrainingProgress) -> None:
        dropped = sorted({name for row in self.rows for name in row.metrics} - progress.metrics.keys())
        log.warning(
            "training metrics left out by --training.metric-limit; --training.metrics chooses among them",
            model_id=self.model_id,
            kept=len(progress.metrics),
            dropped=len(dropped),
            names=", ".join(dropped[:MOST_NAMES]) + (", …" if len(dropped) > MOST_NAMES else ""),
        )

    def _begin_anew(self) -> tuple[bool, Collection[str]]:
        """Forget what is known if it is of another run; return whether it was, and the metrics kept of it."""
        if self.known is None:
            return False, ()
        if self._is_resumed or not steps.is_new_run(self.known, self.rows, is_whole=self.is_at_end):
            return False, self.known.metrics
        self.known, self.begin = None, Cursor()
        return True, ()

    def _cursor(self) -> Cursor:
        """Return where the next reading begins: new rows are on the last page if they ascend."""
        if steps.is_descending(self.rows):
            return Cursor()
        if self.is_cut_off:
            return replace(self.cursors[-1], token=self.next_token, is_next=True)
        if not self.rows:
            return self.begin
        return self.cursors[-1 if self._is_resumed or steps.is_ascending(self.rows) else 0]

    @property
    def _is_resumed(self) -> bool:
        return bool(self.begin.token)
