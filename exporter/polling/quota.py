"""At most so many calls in any 31 days, over restarts too, and how often that lets the API be polled.

Half of the calls are a baseline rate that keeps the list polled, come what may; what the baseline will not
need before spent calls come back, or did not use, is discretionary. Discretionary calls go to step metrics,
to retries and to polling more often, a share of them at a time, so that some are always left. The API does
not say how many calls are left: a file remembers what was spent, and without one a process begins with all of
them.
"""

import asyncio
import errno
import math
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor, wait

from exporter.clock import Clock
from exporter.errors import QuotaSpent
from exporter.polling.budget_file import NOT_READ, NOT_WRITTEN, BudgetFile

HOUR = 3_600.0
MONTH = 31 * 86_400.0  # the longest, so that the quota of a shorter month lasts too
# Discretionary calls are spread over so long while something trains: a run takes between an hour and a day,
# and the jobs of an account run one after another (Cohere's documentation), so more may follow.
TRAINING = 3 * 86_400.0
KEPT_FROM_FURTHER_PAGES = 0.25  # of the quota: step metrics beyond their first page leave so many calls
TOO_LONG_ADVICE = (
    "Raise --cohere.page-size, so that a list takes fewer calls, or raise --cohere.calls-per-month."
)
LONGEST_WAIT = 5.0  # seconds for the file, at the start and with each call
EARLIEST = 1.7e9  # 2023: a clock that says less was never set


class Quota:
    """At most `calls` in any month (0: no quota).

    `pages` are those of the list: as it had last, or more where the quota has cut it off. A file that cannot
    be read in time counts as soon as it has been, and until then it is not overwritten.
    """

    def __init__(self, calls: int, clock: Clock, file: BudgetFile | None = None) -> None:
        self._clock = clock
        self._calls = calls
        self._baseline = calls / 2 / MONTH
        self._file = file if calls else None
        # Calls by the moment they come back, to the end of the hour they were spent in, so that this stays
        # short whatever the quota.
        self._spent: dict[float, int] = {}
        self.pages = 1
        self._reached = 1  # pages of the first list while it is in progress; then 0
        self._remembered: tuple[dict[float, int], int] = {}, 0
        self._remembering = asyncio.Lock()
        self._write: asyncio.Task[bool] | None = None
        self._loading: Future[tuple[dict[float, int], int]] | None = None
        if self._file:
            thread = ThreadPoolExecutor(1)
            self._loading = thread.submit(self._file.load)
            thread.shutdown(wait=False)
            wait([self._loading], LONGEST_WAIT)
            self._has_loaded(self._file)

    def _has_loaded(self, file: BudgetFile) -> bool:
        """Return whether the calls in the file are counted; they are as soon as it has been read."""
        if not self._loading:
            return True
        if not self._loading.done():
            file.failed(NOT_READ, TimeoutError(errno.ETIMEDOUT, "timed out"))
            return False
        self._restore(*self._loading.result())
        self._loading = None
        return True

    def _restore(self, calls: dict[float, int], pages: int) -> None:
        now, unix = self._clock.monotonic(), self._clock.time()
        spent = Counter(self._spent)
        for at, count in calls.items():
            # A clock that was put back keeps no call for longer.
            left = min(at - unix if at > EARLIEST else math.inf, MONTH + HOUR)
            if left > 0:
                spent[now + left] += max(count, 0)
        self._spent = dict(sorted(spent.items()))
        if self._reached:
            # A start is a reason to try a list again that was beyond the quota.
            self.pages = min(max(pages, 1), self._calls)

    def listed(self, pages: int) -> None:
        """Take note of the pages of a whole list."""
        self.pages, self._reached = pages, 0

    @property
    def left(self) -> int:
        """The calls that may be made now."""
        now = self._clock.monotonic()
        while self._spent and (earliest := next(iter(self._spent))) <= now:
            del self._spent[earliest]
        return max(self._calls - sum(self._spent.values()), 0)

    @property
    def has_discretionary(self) -> bool:
        """Whether there is a call that neither the baseline nor the list in progress needs."""
        return not self._calls or self._discretionary() >= self.pages + 1

    def _has_for_steps(self, page: int) -> bool:
        kept = self._calls * KEPT_FROM_FURTHER_PAGES if page else 0.0
        return self._discretionary() >= self.pages + 1 + kept

    def can_list(self) -> bool:
        """Return whether a list may be tried before the baseline provides for it."""
        return not self._calls or self._discretionary() >= 2 * self.pages

    def spend(self, *, discretionary: bool, page: int = 0) -> None:
        """Take one call, a `discretionary` one for step metrics; raise `QuotaSpent` when there is none.

        `page` counts the pages of a chain from 0. A list may have grown by one; pages beyond that must be
        discretionary, too, for a list without end would take all there is. None is begun that cannot end.
        Further pages of step metrics bring what is older, or can wait: they are for times of plenty, or
        readings would be dear because they are rare, and rare because they are dear.
        """
        if not self._calls:
            return
        if discretionary and not self._has_for_steps(page):
            raise QuotaSpent(f"{self} has no calls left but those that are kept for listing models")
        if not discretionary and not self._has_for_list(page):
            raise self._list_refused(page)
        if not discretionary and self._reached:
            self._reached = page + 1
        self._add(1)

    def _has_for_list(self, page: int) -> bool:
        if not page:
            return self.left >= self.pages
        return self.left > 0 and (page <= self.pages or self.has_discretionary)

    def _list_refused(self, page: int) -> QuotaSpent:
        if not page and self.pages <= self._calls:
            left = f"has {self.left} calls left of the {self.pages} that a list takes"
            return QuotaSpent(f"{self} {left if self.left else 'is spent'}")
        if page:
            # Without a larger guess the first pages would be paid for again and again, and the last never. A
            # list that was known may be without end for a while only, so it is tried again soon.
            guess = 2 * (self._reached or self.pages)
            self.pages = min(guess, self._calls) if page < self._calls else page + 1
            self._reached = 0
        return QuotaSpent(
            f"{self} cannot pay for a list of more than {page or self._calls} pages", advice=TOO_LONG_ADVICE
        )

    def __str__(self) -> str:
        return f"the quota of {self._calls} calls a month (--cohere.calls-per-month)"

    def _add(self, calls: int) -> None:
        now = self._clock.monotonic()
        latest = next(reversed(self._spent), -math.inf)
        if latest - MONTH <= now:
            latest = now + MONTH + HOUR - self._clock.time() % HOUR
        self._spent[latest] = self._spent.get(latest, 0) + calls

    async def remember(self) -> None:
        """Write what was spent to the file, if there is one, before the call is made.

        A file that hangs holds up one call for `LONGEST_WAIT`; until it works again nothing is written.
        """
        if not self._file:
            return
        async with self._remembering:  # who waited finds that what it spent has been written
            if not self._has_loaded(self._file):
                return
            state = dict(self._spent), max(self.pages, self._reached)
            if state == self._remembered:
                return
            if not self._write or self._write.done():
                offset = self._clock.time() - self._clock.monotonic()
                calls = {round(at + offset, 1): count for at, count in state[0].items()}
                self._write = asyncio.create_task(asyncio.to_thread(self._file.save, calls, state[1]))
                await asyncio.wait({self._write}, timeout=LONGEST_WAIT)
            if not self._write.done():
                self._file.failed(NOT_WRITTEN, TimeoutError(errno.ETIMEDOUT, "timed out"))
            elif self._write.result():
                self._remembered = state

    def interval(self, readings: int, *, is_busy: bool) -> float:
        """Return the seconds from one poll to the next: a list, and so many `readings`.

        The readings hold up the list by one call at most: where they are many, polls come as often as the
        baseline pays for a list and that call, and each has as many readings as `readings` gives. Without
        that call there would be none once everything discretionary is spent.
        """
        if not self._calls:
            return 0.0
        discretionary = self._discretionary()
        rate = self._baseline + max(discretionary, 0.0) / (TRAINING if is_busy else MONTH)
        wanted = min((self.pages + min(readings, 1)) / self._baseline, (self.pages + readings) / rate)
        # Not before the baseline and what is discretionary can pay for the list.
        return max(wanted, (self.pages - discretionary) / self._baseline)

    def readings(self, interval: float) -> int | None:
        """Return the most models whose step metrics may be read in one interval; None: all."""
        if not self._calls:
            return None
        discretionary = self._discretionary()
        share = max(interval, self.pages / self._baseline) / TRAINING
        return int(max(0.0, min(discretionary - self.pages, max(1.0, discretionary * share))))

    def _discretionary(self) -> float:
        """Return the calls that the baseline does not need; below 0 it must catch up."""
        return self.left - self._reserve()

    def _reserve(self) -> float:
        """Return the calls that the baseline will need before spent ones come back."""
        now = self._clock.monotonic()
        needed, back = 0.0, 0
        for at, calls in self._spent.items():
            needed = max(needed, self._baseline * (at - now) - back)
            back += calls
        return max(needed, self._baseline * MONTH - back)
