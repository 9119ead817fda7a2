"""Which request may be sent now: one rate limit, one concurrency and one quota, and the list before all else.

    what limits              the list of models                  step metrics
    ───────────────────────  ──────────────────────────────────  ──────────────────────────────────────────
    requests in any 60 s     all of them                         what the lists that come within 60 s leave
    requests in flight       all of them                         one less; if that is none, none beside a list
    Retry-After              that of the list                    that of either
    calls of the month       all of them                         discretionary ones

Each kind is first come, first served. Time and limits are as requests are sent, retries included.
"""

import asyncio
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

from exporter.clock import Clock, Wakeup
from exporter.cohere.transport import Endpoint
from exporter.errors import QuotaSpent
from exporter.polling.quota import Quota

MINUTE = 60.0
LONGEST_RETRY_AFTER = 3_600.0
_LIST = Endpoint.LIST_FINETUNED_MODELS


class RequestAllowance:
    """Admits requests; the schedule says when lists are due, the quota how many pages they have."""

    def __init__(self, clock: Clock, *, requests_per_minute: int, concurrency: int, quota: Quota) -> None:
        self._clock = clock
        self._limit = requests_per_minute
        self._concurrency = concurrency
        self._quota = quota
        self._sent: list[float] = []
        self._in_flight = Counter[bool]()
        self._turns = {endpoint: asyncio.Lock() for endpoint in Endpoint}
        self._closed_until = dict.fromkeys(Endpoint, -math.inf)
        self._changed = Wakeup(clock)
        self._due = math.inf  # until there is a plan
        self._interval = MINUTE
        self._answered: int | None = None  # pages of the list in progress
        self._on_page: Callable[[], None] = lambda: None

    def least_interval(self, list_seconds: float, *, has_step_metrics: bool) -> float:
        """Return the seconds between lists that leave room for step metrics, where there are any to read.

        A list takes `list_seconds`. No minute overlaps more lists than fit into the limit, beside one request
        for step metrics. Where one list fills the limit, that request needs a minute before and after it, and
        a second to be sent in.
        """
        pages, beside = self._quota.pages, int(has_step_metrics)
        lists = (self._limit - beside) // pages
        apart = (MINUTE + list_seconds) / lists if lists else list_seconds + beside * (2 * MINUTE + 1)
        return max(MINUTE * (pages + beside) / self._limit, apart)

    def list_began(self, on_page: Callable[[], None] = lambda: None) -> None:
        """Take note that a list is in progress; `on_page` is called for each page that is answered."""
        self._answered, self._on_page = 0, on_page

    def plan(self, *, due: float, interval: float) -> None:
        """Take note that the next list is due at `due`, and others an `interval` apart."""
        self._due, self._interval = due, interval

    def list_ended(self) -> None:
        """Take note that no list is in progress."""
        self._answered = None
        self._changed.call()

    def wait(self, endpoint: Endpoint, seconds: float) -> None:
        """Take note that the API asked for a pause; asked for by the list it concerns step metrics, too."""
        until = self._clock.monotonic() + min(seconds, LONGEST_RETRY_AFTER)
        for closed in Endpoint if endpoint is _LIST else (endpoint,):
            self._closed_until[closed] = max(self._closed_until[closed], until)

    def reopen(self) -> None:
        """Forget what the API asked for: it asked another key."""
        self._closed_until = dict.fromkeys(Endpoint, -math.inf)
        self._changed.call()

    def can_retry(self) -> bool:
        """Return whether a call can be spent on trying again."""
        return self._quota.has_discretionary

    @asynccontextmanager
    async def request(self, endpoint: Endpoint, page: int) -> AsyncIterator[float]:
        """Wait for a turn, and keep it while the context lasts; yield the seconds waited."""
        is_list = endpoint is _LIST
        asked = self._clock.monotonic()
        async with self._turns[endpoint]:
            while (pause := self._pause(endpoint)) > 0:
                await self._changed.wait(pause)
            try:
                self._quota.spend(discretionary=not is_list, page=page)
            except QuotaSpent:
                await self._quota.remember()  # how many pages a list has at least
                raise
            self._sent.append(now := self._clock.monotonic())
            self._in_flight[is_list] += 1
        try:
            await self._quota.remember()
            yield now - asked
            if is_list and self._answered is not None:
                self._answered += 1
                self._on_page()
        finally:
            self._in_flight[is_list] -= 1
            self._changed.call()

    def _pause(self, endpoint: Endpoint) -> float:
        """Return the seconds to wait before looking again; 0: go; infinity: until something changes."""
        is_list = endpoint is _LIST
        if not self._has_slot(is_list=is_list):
            return math.inf
        now = self._clock.monotonic()
        del self._sent[: bisect_right(self._sent, now - MINUTE)]
        free_at = self._sent[-self._limit] + MINUTE if len(self._sent) >= self._limit else now
        pause = max(free_at, self._closed_until[endpoint]) - now
        return pause if is_list or pause > 0 else self._pause_for_lists(now)

    def _has_slot(self, *, is_list: bool) -> bool:
        beside_list = max(self._concurrency - 1, self._answered is None)  # with one place, none
        return self._in_flight.total() < self._concurrency and (
            is_list or self._in_flight[False] < beside_list
        )

    def _pause_for_lists(self, now: float) -> float:
        """Return the seconds until the list that a request sent now would hold up; 0 when there is none."""
        for due, pages in self._lists(now):
            in_window = len(self._sent) - bisect_right(self._sent, due - MINUTE)
            if in_window + 1 + pages > self._limit:
                return due - now if due > now else MINUTE
        return 0.0

    def _lists(self, now: float) -> Iterator[tuple[float, int]]:
        """Yield when each list within a minute is due, and the pages of all until then."""
        pages = 0
        if self._answered is not None:
            pages = max(self._quota.pages - self._answered, 1)
            yield now, pages
        elif self._due < now - MINUTE:
            return  # nobody lists
        due = max(self._due, now)
        while due < now + MINUTE:
            pages += self._quota.pages
            yield due, pages
            due += self._interval
