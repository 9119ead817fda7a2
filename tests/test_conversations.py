"""Whole conversations with an API that changes, fails and lies: what must hold after each poll and each wait.

The exporter is the real one; only the network is replaced, and time, which leaps. What must be seen is told
by a few lines here from what the API really said. CONVERSATIONS=2000 in the environment has so many of them.

A page has at most N * (24 + M) + 10 + U series of models, with N models exported, M metrics of each and U
statuses that the specification does not know: for each model 1 info, 9 statuses and its own, 4 times, 7
hyperparameters, 2 of the step and M; for the fleet 9 statuses, those U, and what was dropped.
"""

import asyncio
import gzip
import io
import math
import os
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar
from unittest.mock import patch

import httpx
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.app import Exporter
from exporter.errors import REASONS
from exporter.exposition import Format
from exporter.families import FAMILIES, PROGRESS_FAMILIES
from exporter.model import PollOutcome, Status
from exporter.runtime import log
from exporter.settings import ApiKey, load
from exporter.web.landing import render
from tests.conftest import unconfigure_log
from tests.leaping import LeapingLoop, LoopClock
from tests.strategies import json_values
from tests.talking_api import Fault, Job, Reading, TalkingApi, readable
from tests.test_properties import Series, of, series

pytestmark = pytest.mark.slow

T = TypeVar("T")
Labels: TypeAlias = tuple[tuple[str, str], ...]
FAMILY = "cohere_finetuned_model"
DAY = 86_400.0
MONTH = 31 * DAY

ECHO = '{"message": "no good: KEY"}'
FAULTS = (
    Fault("unauthorized", 401, ECHO),
    Fault("payment_required", 402, ECHO),
    Fault("forbidden", 403, "<html>KEY</html>", (("content-type", "text/html"),)),
    Fault("gone", 404, "KEY was removed", (("content-type", "text/plain"),)),
    Fault("gone", 410, ECHO),
    Fault("timeout", 408),
    Fault("timeout", silent=True),
    Fault("rate_limited", 429, ECHO, (("retry-after", "7"), ("x-debug-trace-id", "trace KEY"))),
    Fault("rate_limited", 429, ECHO, (("retry-after", "86400"),)),
    Fault(
        "rate_limited", 429, '{"message": "limited to 1000 API calls / month"}', (("retry-after", "soon"),)
    ),
    Fault("server_error", 500, ECHO),
    Fault("server_error", 503, "KEY", (("content-type", "text/plain"), ("retry-after", "0"))),
    Fault("connection", broken=httpx.ConnectError),
    Fault("connection", broken=httpx.ReadError),
    Fault("connection", broken=httpx.RemoteProtocolError),
    Fault("invalid_response", 302, headers=(("location", "http://elsewhere.test/"),)),
    Fault("invalid_response", 400, ECHO),
    Fault("invalid_response", 498, ECHO),
    Fault("invalid_response", body="<html>KEY</html>"),
    Fault("invalid_response", body=ECHO),
    Fault("invalid_response", body="[" * 5000),
    Fault("invalid_response", body='{"finetuned_models": 7, "step_metrics": 7}'),
    Fault("invalid_response", body="rubbish", headers=(("content-encoding", "gzip"),)),
)
RUN_IS_OVER = (Status.READY, Status.FAILED, Status.DELETED, Status.DEPLOYING_API)
UNKNOWN_STATUSES = ("STATUS_CANCELLED", 'STATUS_"\\\n')
IDS = ("a", "b", "c", "d/e?f", "..", 'q"\\\n', "é😀", "\ud800z", "x" * 1100)
NAMES = ("one", "two", "", '"} 1\n# EOF', "\udfff", "n" * 3000)
# What may stand for a value, and what must be seen of it: nothing, or a number.
VALUES: tuple[tuple[Any, float | None], ...] = (
    *((0.25, 0.25), (3, 3.0), (-1e300, -1e300), ("1e3", 1000.0), (10**400, math.inf)),
    *(("NaN", math.nan), ("Infinity", math.inf), ("-Infinity", -math.inf)),
    *((None, None), (True, None), ([], None), ({"api_key": 1}, None), ("much", None)),
)
METRICS = ("loss", "accuracy", "nDCG@10", "total", "\ud83d", "m" * 2000, "")
NOISE: tuple[list[Any], ...] = (
    [],
    [None, 7, [], "x", {"id": "", "step_number": -1}, {"id": [], "step_number": True}],
)
EXCLUDES = ("", ".*_training_.*", ".*_(status|info)", ".*")

ids = st.sampled_from(IDS)
statuses = st.just(Status.FINETUNING) | st.sampled_from([*Status, *UNKNOWN_STATUSES])
moments = st.none() | st.integers(1_700_000_000, 1_700_000_009)
rows = st.lists(
    st.tuples(
        st.integers(0, 12),
        st.dictionaries(
            st.sampled_from(METRICS), st.sampled_from([value for value, _ in VALUES]), max_size=4
        ),
    ),
    max_size=7,
    unique_by=lambda row: row[0],
)
# Items on a page, the newest model first, the newest row first, and what stands beside them.
manners = st.tuples(st.sampled_from([1, 2, 3]), st.booleans(), st.booleans(), st.sampled_from(NOISE))
odd_fields = st.dictionaries(
    st.sampled_from(["creator_id", "organization_id", "completed_at", "last_used", "multi_label"]),
    json_values,
)
options = st.fixed_dictionaries(
    {
        "--models.limit": st.sampled_from([0, 1, 3]),
        "--training.metric-limit": st.sampled_from([0, 2]),
        "--cohere.page-size": st.sampled_from([0, 2]),
        "--cohere.requests-per-minute": st.sampled_from([300, 300, 4]),
        "--cohere.calls-per-month": st.sampled_from([0, 0, 60]),
        "--poll.interval": st.sampled_from([60, 3600]),
        "--metrics.exclude": st.sampled_from(EXCLUDES),
    }
)


@dataclass
class Progress:
    """What must be seen of a model's steps; `metrics` None: nobody can tell."""

    step: int
    metrics: dict[str, float] | None = field(default_factory=dict)


class Conversations(RuleBasedStateMachine):
    """An exporter, the API it talks to, and what must be seen of it."""

    @initialize(
        options=options,
        stale_after=st.sampled_from([None, 2, 4]),
        fleet=st.lists(st.tuples(ids, statuses, moments, rows), min_size=2, max_size=7),
        manners=manners,
    )
    def start(
        self,
        options: dict[str, Any],
        stale_after: int | None,
        fleet: list[tuple[str, str, int | None, Any]],
        manners: tuple[int, bool, bool, list[Any]],
    ) -> None:
        self.options = options
        flags = [f"{flag}={value}" for flag, value in options.items() if value != ""]
        if stale_after:
            flags.append(f"--poll.stale-after={stale_after * options['--poll.interval']}")
        self.loop = LeapingLoop()
        self.errors: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.errors.append(context))
        self.folder = tempfile.TemporaryDirectory()
        self.key_file = Path(self.folder.name) / "key"
        self.secrets: list[str] = []
        self.rotate_the_key()
        key = ApiKey(file=self.key_file)
        self.log = io.StringIO()
        log.configure("debug", "logfmt", self.log, secrets=key.secrets)
        self.api = TalkingApi(self.loop.time)
        flags += [
            "--web.disable-exporter-metrics",
            "--training.steps-window=0",
            "--cohere.base-url=http://api.test/prefix",
        ]
        self.exporter = self.run(self._build(flags, key))
        self.listed: dict[str, Job] = {}
        self.listed_at: float | None = None
        self.progress: dict[str, Progress] = {}
        self.outcome: PollOutcome | None = None
        self.polls = Counter[str | None]()
        self.before: Series = {}
        self.looked_at = -math.inf
        for model_id, status, created, steps in fleet:
            self.a_model_comes(model_id, "one", status, created, {}, steps)
        self.the_api_answers_in_another_way(manners)

    async def _build(self, flags: list[str], key: ApiKey) -> Exporter:
        with patch("httpx.AsyncHTTPTransport", lambda **_: httpx.MockTransport(self.api)):
            return Exporter(load(flags, {})[1], key, clock=LoopClock(self.loop), simulated=True)

    def run(self, doing: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(doing)

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        self.run(self._end())
        self.loop.close()
        self.folder.cleanup()
        unconfigure_log()

    async def _end(self) -> None:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await self.exporter.http.aclose()

    # The fleet.

    @rule(
        model_id=ids, name=st.sampled_from(NAMES), status=statuses, created=moments, odd=odd_fields, rows=rows
    )
    def a_model_comes(
        self,
        model_id: str,
        name: str,
        status: str,
        created: int | None,
        odd: dict[str, Any],
        rows: list[tuple[int, dict[str, Any]]],
    ) -> None:
        """A new one, or one that was there before."""
        secret = f"wandb-secret-{len(self.secrets)}-of-a-user"
        self.secrets.append(secret)
        self.api.jobs[model_id] = Job(model_id, name, status, created, created, secret, odd, list(rows))

    @precondition(lambda self: self.api.jobs)
    @rule(pick=st.integers(0, 8), status=statuses, updated=moments)
    def a_model_changes_its_status(self, pick: int, status: str, updated: int | None) -> None:
        job = self._pick(pick)
        job.status, job.updated = status, updated

    @precondition(lambda self: self.api.jobs)
    @rule(pick=st.integers(0, 8), name=st.sampled_from(NAMES), created=moments)
    def a_model_is_renamed_and_moves_in_time(self, pick: int, name: str, created: int | None) -> None:
        job = self._pick(pick)
        job.name, job.created = name, created

    @precondition(lambda self: self.api.jobs)
    @rule(pick=st.integers(0, 8), rows=rows, anew=st.booleans())
    def a_model_trains(self, pick: int, rows: list[tuple[int, dict[str, Any]]], anew: bool) -> None:
        job = self._pick(pick)
        known = {} if anew else dict(job.rows)
        job.status, job.rows = Status.FINETUNING, list({**known, **dict(rows)}.items())

    @precondition(lambda self: self.api.jobs)
    @rule(pick=st.integers(0, 8))
    def a_model_leaves(self, pick: int) -> None:
        del self.api.jobs[self._pick(pick).id]

    # The API.

    @rule(manners=manners)
    def the_api_answers_in_another_way(self, manners: tuple[int, bool, bool, list[Any]]) -> None:
        api = self.api
        api.page_size, api.newest_first, api.rows_newest_first, api.noise = manners
        api.rows_per_page = api.page_size

    @rule(page=st.integers(0, 2), fault=st.sampled_from(FAULTS), times=st.sampled_from([1, 3, 12]))
    def a_page_of_the_list_fails(self, page: int, fault: Fault, times: int) -> None:
        self.api.list_faults[page].extend([fault] * times)

    @rule(model_id=ids, fault=st.sampled_from(FAULTS), times=st.sampled_from([1, 3, 12]))
    def step_metrics_of_a_model_fail(self, model_id: str, fault: Fault, times: int) -> None:
        self.api.step_faults[readable(model_id)].extend([fault] * times)

    @rule()
    def the_api_is_well_again(self) -> None:
        self.api.list_faults.clear()
        self.api.step_faults.clear()

    @rule()
    def page_tokens_repeat(self) -> None:
        self.api.circling = True

    @rule(page=st.integers(0, 2), model_id=ids, status=statuses)
    def a_model_comes_or_goes_between_two_pages(self, page: int, model_id: str, status: str) -> None:
        """One that comes stands first, so that another comes twice; which has a new status by then."""

        def change() -> None:
            for job in self.api.jobs.values():
                job.status = status
            if self.api.jobs.pop(model_id, None) is None:
                created = 1_800_000_000 if self.api.newest_first else 1
                self.a_model_comes(model_id, "between", status, created, {}, [])

        self.api.shifts[page] = change

    @rule()
    def rotate_the_key(self) -> None:
        self.secrets.append(f"api-key-{len(self.secrets)}-of-ours")
        self.key_file.write_text(self.secrets[-1])

    # Time, and what must be seen.

    @rule(seconds=st.sampled_from([0.0, 0.5, 3.0, 61.0, 3600.0, DAY, 4 * DAY]))
    def time_passes(self, seconds: float) -> None:
        self.run(LoopClock(self.loop).sleep(seconds))
        self.check()

    @precondition(lambda self: self.listed_at is not None)
    @rule(seconds=st.sampled_from([-0.5, 0.5]))
    def the_cut_off_comes(self, seconds: float) -> None:
        assert self.listed_at is not None
        left = (
            self.listed_at + self.exporter.poller.schedule.freshness.stale_after + seconds - self.loop.time()
        )
        if left > 1.5:
            self.time_passes(left)

    @invariant()
    def poll(self) -> None:
        """Whatever happened, a poll comes next."""
        if not hasattr(self, "api"):
            return
        self._poll()
        self.run(self.exporter.poller.finish())
        self.learn()
        self.check()

    @precondition(lambda self: self.api.jobs)
    @rule(pick=st.integers(0, 8), status=statuses, leaves=st.booleans())
    def step_metrics_hang(self, pick: int, status: str, leaves: bool) -> None:
        """Statuses do not wait for them, and the next poll comes beside the round of readings."""
        silent = next(fault for fault in FAULTS if fault.silent)
        for model_id in IDS:
            self.api.step_faults[readable(model_id)].appendleft(silent)
        self._pick(pick).status = status
        self._poll()
        self.check()
        if leaves:
            self.a_model_leaves(pick)
        before = set(self.progress)
        self._poll()
        self.run(self.exporter.poller.finish())
        # Whether a model that was away meanwhile is a new one depends on how long the round took.
        for model_id in before:
            self.progress[model_id] = Progress(-1, None)
        self.learn()
        self.check()

    def _pick(self, pick: int) -> Job:
        jobs = list(self.api.jobs.values())
        return jobs[pick % len(jobs)]

    def _poll(self) -> None:
        self.api.forget()
        began = self.loop.time()
        outcome = self.outcome = self.run(self.exporter.poller.poll())
        self.api.circling = False
        self.polls[outcome.reason] += 1
        if self.api.listed_at is not None:
            assert outcome.reason is None, outcome
            before, self.listed, self.listed_at = self.listed, self.api.listed, began
            for model_id, job in self.listed.items():
                was = before[model_id].status if model_id in before else None
                begins_anew = job.status == Status.FINETUNING and was in RUN_IS_OVER
                if job.status == Status.QUEUED or begins_anew:
                    self.progress.pop(readable(model_id), None)
            self.progress = {
                model_id: self.progress[model_id] for model_id in self.shown if model_id in self.progress
            }
            return
        assert outcome.reason in REASONS
        assert outcome.message
        assert outcome.advice
        expected = self.api.list_fault.reason if self.api.list_fault else "invalid_response"
        assert outcome.reason == expected or (
            self.options["--cohere.calls-per-month"] and outcome.reason == "rate_limited"
        )

    @property
    def shown(self) -> dict[str, Job]:
        """The models that must be seen, newest first, by the id that must be seen."""
        newest_first = sorted(self.listed.values(), key=lambda job: (-(job.created or 0), readable(job.id)))
        return {readable(job.id): job for job in newest_first[: self.options["--models.limit"] or None]}

    @property
    def with_steps(self) -> bool:
        return self.options["--metrics.exclude"] not in (".*_training_.*", ".*")

    def learn(self) -> None:
        """Record what the API said of steps since the last time."""
        readings, self.api.readings = self.api.readings, []
        assert self.with_steps or not readings
        for reading in readings:
            if reading.failed or reading.model_id not in self.shown:
                continue
            if reading.ended or (falling(reading) and self._reaches_what_is_known(reading)):
                self._learn(reading)
            elif self.options["--cohere.calls-per-month"]:
                # A quota may leave no call for the next page; what was read is shown, with what was known.
                self.progress[reading.model_id] = Progress(-1, None)

    def _reaches_what_is_known(self, reading: Reading) -> bool:
        """Return whether rows from the newest on lead to the step that was seen: no need to read on."""
        earlier = self.progress.get(reading.model_id)
        return earlier is None or earlier.step in {step for step, _ in reading.rows}

    def _learn(self, reading: Reading) -> None:
        if not reading.rows:
            return  # what was known stays
        earlier = self.progress.pop(reading.model_id, None)
        steps = {step for step, _ in reading.rows}
        step, metrics = max(steps), measured(reading)
        if earlier is None or (not reading.is_part and reading.ended and earlier.step not in steps):
            # All that there is, or another run.
            self.progress[reading.model_id] = Progress(step, None if reading.is_part else self._cut(metrics))
            return
        # What was not asked for again is as it was; a whole reading forgets what is not there any more.
        merged = None if earlier.metrics is None else self._cut({**earlier.metrics, **metrics})
        if reading.is_part or (reading.ended and merged != self._cut(metrics)):
            merged = None
        self.progress[reading.model_id] = Progress(
            max(step, earlier.step) if reading.is_part else step, merged
        )

    def _cut(self, metrics: dict[str, float]) -> dict[str, float] | None:
        """Return the metrics if none is left out; which ones are is for another test."""
        limit = self.options["--training.metric-limit"]
        return metrics if not limit or len(metrics) <= limit else None

    def check(self) -> None:
        """Hold everything that must hold."""
        if self.loop.time() - self.looked_at < 1.1:  # scrapes share a page for a second
            self.run(LoopClock(self.loop).sleep(1.1))
        self.looked_at = self.loop.time()
        pages = {format_: self._page(format_) for format_ in Format}
        found = series(pages[Format.OPENMETRICS])
        text = {
            (sample.name, frozenset(sample.labels.items())): repr(sample.value)
            for family in parse_text(pages[Format.TEXT])
            for sample in family.samples
        }
        assert text == {key: repr(value) for key, value in found.items()}
        self.check_models({key: value for key, value in found.items() if key[0].startswith(FAMILY)})
        self.check_own(found)
        self.check_secrets(*pages.values(), render(self.exporter.overview()).decode())
        self.check_requests()
        assert not self.errors, self.errors

    def _page(self, format_: Format) -> str:
        plain = b"".join(self.exporter.exposition.chunks(format_))
        assert gzip.decompress(b"".join(self.exporter.exposition.chunks(format_, True))) == plain
        return plain.decode()

    def check_models(self, found: Series) -> None:
        age = math.inf if self.listed_at is None else self.loop.time() - self.listed_at
        if age >= self.exporter.poller.schedule.freshness.stale_after:
            assert not found
            return
        exclude = re.compile(self.options["--metrics.exclude"])
        families = {family.name for family in FAMILIES if not exclude.fullmatch(family.name)}
        assert {name for name, _ in found} <= families
        for name, expected in self.expected().items():
            seen = {
                labels_of(labels): repr(value)
                for labels, value in of(found, name)
                if self.is_told(name, labels)
            }
            assert seen == (expected if name in families else {}), name
        metrics = self.options["--training.metric-limit"] or len(METRICS)
        assert len(found) <= len(self.shown) * (25 + 4 * metrics) + 10 + len(UNKNOWN_STATUSES)

    def is_told(self, name: str, labels: dict[str, str]) -> bool:
        """Return whether it is known what must be seen."""
        progress = self.progress.get(labels.get("model_id", ""))
        if progress is None or name not in PROGRESS_FAMILIES:
            return True
        return progress.step >= 0 if name.endswith("_step") else progress.metrics is not None

    def expected(self) -> dict[str, dict[Labels, str]]:
        """Return what must be seen of some families: of what makes a series its own, and its value."""
        expected: dict[str, dict[Labels, str]] = defaultdict(dict)
        counts = Counter({status.value: 0 for status in Status})
        counts.update(job.status for job in self.listed.values())
        for model_id, job in self.shown.items():
            key = {"model_id": model_id, "model_name": readable(job.name)}
            expected[f"{FAMILY}_info"][labels_of(key)] = "1.0"
            for status in {*Status, job.status}:
                one = labels_of({**key, "status": status})
                expected[f"{FAMILY}_status"][one] = repr(float(status == job.status))
            for name, at in {"created": job.created, "updated": job.updated}.items():
                if at is not None:
                    expected[f"{FAMILY}_{name}_timestamp_seconds"][labels_of(key)] = repr(float(at))
            progress = self.progress.get(model_id)
            if progress and progress.step >= 0:
                expected[f"{FAMILY}_training_step"][labels_of(key)] = repr(float(progress.step))
            for name, value in ((progress and progress.metrics) or {}).items():
                expected[f"{FAMILY}_training_metric"][labels_of({**key, "metric": name})] = repr(value)
        for status, count in counts.items():
            expected[f"{FAMILY}s"][labels_of({"status": status})] = repr(float(count))
        expected[f"{FAMILY}s_dropped"][()] = repr(float(len(self.listed) - len(self.shown)))
        for name in ("info", "status", "training_step", "training_metric"):
            expected.setdefault(f"{FAMILY}_{name}", {})  # none of a model that is not there
        return expected

    def check_own(self, found: Series) -> None:
        assert self.outcome is None or of(found, "cohere_up") == [({}, float(self.outcome.reason is None))]
        assert of(found, "cohere_exporter_polls_total") == [({}, float(self.polls.total()))]
        failures = {
            labels["reason"]: value for labels, value in of(found, "cohere_exporter_poll_failures_total")
        }
        assert failures == {reason: float(self.polls[reason]) for reason in REASONS}
        growing = {
            key: value
            for key, value in found.items()
            if key[0].endswith(("_total", "_count", "_sum", "_bucket"))
        }
        assert growing.keys() >= self.before.keys()
        assert all(growing[key] >= value for key, value in self.before.items()), "a counter fell"
        self.before = growing

    def check_secrets(self, *pages: str) -> None:
        said = self.log.getvalue()
        self.log.seek(0)
        self.log.truncate()
        for foul in ("unexpected error", "Traceback"):
            assert foul not in said, said
        for secret in self.secrets:
            assert not any(secret in text for text in (said, *pages)), secret

    def check_requests(self) -> None:
        times = self.api.requests
        for limit, span in (
            (self.options["--cohere.requests-per-minute"], 60.0),
            (self.options["--cohere.calls-per-month"], MONTH),
        ):
            if limit:
                assert all(later - at >= span - 1e-6 for at, later in zip(times, times[limit:], strict=False))


def labels_of(labels: dict[str, str]) -> Labels:
    """Return what makes a series its own: its labels, but for what only describes."""
    return tuple(
        sorted(
            (name, labels[name]) for name in ("model_id", "model_name", "status", "metric") if name in labels
        )
    )


def falling(reading: Reading) -> bool:
    """Return whether rows prove by themselves that the newest came first."""
    steps = [step for step, _ in reading.rows]
    return len(steps) > 1 and steps == sorted(steps, reverse=True) and steps[0] > steps[-1]


def measured(reading: Reading) -> dict[str, float]:
    """Return the latest value of each metric that makes sense."""
    meaning = {repr(value): seen for value, seen in VALUES}
    latest = {}
    for _, metrics in sorted(reading.rows, key=lambda row: row[0]):
        for name, value in metrics.items():
            if (seen := meaning[repr(value)]) is not None:
                latest[readable(name)] = seen
    return latest


TestConversations = Conversations.TestCase
TestConversations.settings = settings(
    max_examples=int(os.environ.get("CONVERSATIONS", "20")),
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[phase for phase in Phase if phase is not Phase.explain],  # which would take minutes
)
