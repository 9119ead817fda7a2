"""The rules of the game, written down a second time: when a poll is due, how it may end, what a scrape shows.

It sees the exporter from outside, by the outcome of its last poll and by its pages, and knows the schedule of
the faults and what the API has told. All times are virtual seconds.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from exporter.model import PollOutcome
from tools.soak.api import Api
from tools.soak.fleet import BEGIN, Listing
from tools.soak.pages import Page, read
from tools.soak.schedule import Row, between
from tools.soak.watch import refuse_secrets

INTERVAL = 60.0
STALE_AFTER = 5 * INTERVAL
LONGEST_PAUSE = {
    "unauthorized": 900.0,
    "forbidden": 900.0,
    "payment_required": 900.0,
    "gone": 600.0,
    # Told by the message only: a spent month, and pages that go in a circle.
    "month": 3600.0,
    "circle": 600.0,
}
LONGEST_RETRY_AFTER = 3600.0
KEY_CHECKED_EVERY = 1.0
# Three attempts of two pages, each until its deadline, and their turns behind step metrics.
LONGEST_POLL = 600.0
_GRAIN = 0.05
_ROUNDED = 1.1  # a Retry-After has no fractions of a second


@dataclass(frozen=True, slots=True)
class _Poll:
    started: float
    ended: float
    reason: str | None
    kind: str | None
    retry_after: float


class Referee:
    """Judges polls and pages; `find` is told what breaks a rule, `shown` of steps that pages show."""

    def __init__(
        self,
        api: Api,
        *,
        outcome: Callable[[], PollOutcome | None],
        now: Callable[[], float],
        find: Callable[[str], None],
        shown: Callable[[Mapping[str, float]], None],
    ) -> None:
        self.polls = 0
        self.failures: Counter[str] = Counter()
        self.stale_pages = 0
        self.key_changed_at = -1.0
        self._api = api
        self._outcome = outcome
        self._now = now
        self._find = find
        self._shown = shown
        self._seen: PollOutcome | None = None
        self._last = _Poll(0.0, 0.0, None, None, retry_after=0.0)
        self._repeated = 0
        self._accepted: tuple[float, Listing] | None = None
        self._before: Listing | None = None
        self._stale_after = STALE_AFTER

    def look(self) -> None:
        """See whether a poll has ended."""
        outcome = self._outcome()
        if outcome is not None and outcome is not self._seen:
            self._seen = outcome
            self._judge_poll(outcome)

    # When a poll begins, and how it ends.

    def _judge_poll(self, outcome: PollOutcome) -> None:
        now = self._now()
        started = now - outcome.duration
        self.polls += 1
        self._judge_start(started)
        rows = list(between(started, now))
        met = [row for _, _, row in rows if row.fails_polls]
        if outcome.reason is None:
            if any(row.fails_polls and begin < started and now < end for begin, end, row in rows):
                self._find(f"a poll from {started:.1f} to {now:.1f} was good within {met[0]}")
            if self._api.listed is not None:
                self._before = self._accepted[1] if self._accepted else None
                self._accepted = now, self._api.listed
        else:
            self.failures[outcome.reason] += 1
            if outcome.reason not in {row.reason for row in met}:
                self._find(f"nothing explains why a poll failed: {outcome}")
        self._take(outcome, started, now, met)

    def _take(self, outcome: PollOutcome, started: float, ended: float, met: Sequence[Row]) -> None:
        last = self._last
        asked = max((row.retry_after for row in met if row.reason == outcome.reason), default=0.0)
        kind = next((word for word in ("month", "circle") if word in outcome.message), outcome.reason)
        self._repeated = self._repeated + 1 if kind == last.kind else 1
        self._last = _Poll(started, ended, outcome.reason, kind, asked)
        if outcome.reason is None:
            self._stale_after = STALE_AFTER
        elif self._age() < self._stale_after:
            pause = max(self._pause(), min(asked, LONGEST_RETRY_AFTER))
            self._stale_after = STALE_AFTER + max(pause - INTERVAL, 0.0)

    def _age(self) -> float:
        """Return the seconds since the list that is shown was told."""
        return self._now() - (self._accepted[1].at - BEGIN) if self._accepted else math.inf

    def _judge_start(self, started: float) -> None:
        if self.polls == 1:
            return
        last, due = self._last, self._due()
        earliest, latest = due, due
        if last.retry_after > INTERVAL:
            latest += _ROUNDED
        if last.reason and self.key_changed_at > last.started:
            changed_at = max(last.ended, self.key_changed_at)
            earliest, latest = min(due, changed_at), min(latest, changed_at + KEY_CHECKED_EVERY)
        if not earliest - _GRAIN <= started <= latest + _GRAIN:
            self._find(f"a poll was due at {earliest:.2f} and began at {started:.2f}, after {last}")

    def _due(self) -> float:
        """Return when the next poll is due: an interval later, or a longer pause; at once when that is over.

        A rest that the API asked for counts from its answer, everything else from the poll's beginning.
        """
        last = self._last
        return max(last.started + self._pause(), last.ended + min(last.retry_after, LONGEST_RETRY_AFTER))

    def _pause(self) -> float:
        longest = LONGEST_PAUSE.get(self._last.kind or "", 0.0) if self._last.reason else 0.0
        return max(INTERVAL, min(INTERVAL * 2.0 ** (self._repeated - 1), longest))

    def judge_silence(self) -> None:
        """Report a poll that has not ended long after it was due."""
        if self._now() > self._due() + LONGEST_POLL:
            self._find(f"a poll was due at {self._due():.1f} and has not ended")

    # What a page shows.

    def judge_page(self, text: str, is_openmetrics: bool, thoroughly: bool) -> None:
        """Read a scrape and compare it with what the API has told."""
        refuse_secrets(text, self._find)
        try:
            page = read(text, is_openmetrics=is_openmetrics, thoroughly=thoroughly)
            self._judge_models(page)
        except ValueError as error:
            self._find(f"a scrape makes no sense: {error}")

    def _judge_models(self, page: Page) -> None:
        if self._accepted is None or self._api.listed is None:
            return
        accepted_at, accepted = self._accepted
        is_new = self._now() - accepted_at < _GRAIN  # a page that was asked for before may be judged now
        if not page.has_models:
            self.stale_pages += 1
            if self._age() < self._stale_after - _ROUNDED and not is_new:
                self._find("models are missing although the data is fresh")
            return
        # A list may be shown a moment before its poll has ended.
        if self._api.listed is accepted and self._now() - accepted_at > self._stale_after + _ROUNDED:
            self._find("models are shown although the data is stale")
        before = [self._before.shown] if is_new and self._before else []
        if page.shown() not in (accepted.shown, self._api.listed.shown, *before):
            self._find(f"models are not as the API told: {_difference(page.shown(), accepted.shown)}")
        self._shown(page.steps())
        for model_id, step in page.steps().items():
            told = self._api.steps.get(model_id, ())
            if step not in told:
                self._find(f"{model_id} shows step {step}, the API told {told}")


def _difference(shown: object, told: object) -> str:
    if not isinstance(shown, dict) or not isinstance(told, dict):
        return ""
    return str(sorted(set(shown.items()) ^ set(told.items()))[:4])
