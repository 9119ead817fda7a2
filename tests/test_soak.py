"""The soak: a short run of it, what it makes of an exporter that is broken, and its page."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exporter.errors import REASONS, InternalError
from exporter.exposition import Exposition
from exporter.polling.changes import Changes
from exporter.polling.poller import Poller
from exporter.polling.quota import Quota
from exporter.polling.schedule import Backoff, Freshness
from exporter.telemetry import Telemetry
from tests.programs import ROOT, at_night
from tools.soak import __main__ as command
from tools.soak import document, pages, run
from tools.soak.faults import KINDS
from tools.soak.ledger import Window
from tools.soak.resources import RESOURCES, trends
from tools.soak.results import Report
from tools.soak.schedule import LATER, LIST, ROWS, STEPS, between
from tools.soak.virtual import VirtualLoop
from tools.soak.watch import KEY_PREFIX, Findings, LogReader

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]


def test_hours_among_faults_and_clients_find_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run the first two hours of the day; as many days as SOAK_DAYS says where it is set."""
    days = os.environ.get("SOAK_DAYS", "")
    if not days:
        monkeypatch.setattr(command, "hostile", lambda _: run.hostile(2))
        monkeypatch.setattr(command, "frugal", lambda: run.frugal(2))
    assert command.main(["--days", days or "1"]) == 0, capsys.readouterr().out[-4000:]
    assert "most requests in a minute" in capsys.readouterr().out


# ── an exporter that is broken is found out ───────────────────────────────────────────────────────────────


PAUSE, FRESH, PUBLISH = Backoff.pause, Freshness.is_fresh, Exposition.publish
REQUEST, ENDED = Telemetry.request, Telemetry.poll_ended


async def publish_once(self: Exposition, snapshot: Any) -> None:
    if self.snapshot is None:
        await PUBLISH(self, snapshot)


BROKEN: dict[str, tuple[str, Callable[..., Any] | str, str]] = {
    "a limiter that lets all pass": (
        "polling.allowance.RequestAllowance._pause",
        lambda *_: 0.0,
        f"requests in a minute, {run.REQUESTS_PER_MINUTE} are allowed",
    ),
    "polls a second early": ("polling.schedule.Backoff.pause", lambda *a: PAUSE(*a) - 1, "a poll was due at"),
    "polls a second late": ("polling.schedule.Backoff.pause", lambda *a: PAUSE(*a) + 1, "a poll was due at"),
    "steps that are never offered": (
        "exposition.training_steps.StepExposition.offer",
        lambda *_: None,
        "steps were never offered, 0 counted as missed",
    ),
    "steps at another time": (
        "exposition.lines.milliseconds",
        lambda at: round(at * 1000) + 5,
        "no such step",
    ),
    "a request that is counted twice": (
        "telemetry.Telemetry.request",
        lambda *a: (REQUEST(*a), REQUEST(*a)),
        "counted in /metrics",
    ),
    "a failure by another name": (
        "errors.Unauthorized.reason",
        "gone",
        "explains why a poll failed",
    ),
    "a failure that is not counted": (
        "telemetry.Telemetry.poll_ended",
        lambda self, outcome: ENDED(self, replace(outcome, reason=None)),
        "3 polls failed with unauthorized, 0 counted",
    ),
    "a list that stays": (
        "exposition.Exposition.publish",
        publish_once,
        "models are not as the API told",
    ),
    "models that are dropped too soon": (
        "polling.schedule.Freshness.is_fresh",
        lambda self, listed_at: listed_at is not None and FRESH(self, listed_at - 200.0),
        "models are missing although the data is fresh",
    ),
}


@at_night
@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_found(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target, broken, finding = BROKEN[what]
    monkeypatch.setattr(f"exporter.{target}", broken)
    assert finding in "\n".join(run.hostile(1).findings)


def test_a_bug_a_lost_task_and_a_poll_loop_that_stops_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Changes.listed

    async def fail() -> None:
        raise RuntimeError("nobody asks for this")

    def listed(self: Changes, models: Any) -> None:
        asyncio.create_task(fail())  # noqa: RUF006 - it is to be lost
        right(self, models)
        raise RuntimeError("a bug")

    monkeypatch.setattr(Changes, "listed", listed)
    monkeypatch.setattr(Poller, "_wait_for_next", lambda *_: asyncio.Event().wait())
    found = "\n".join(run.hostile(1).findings)
    for finding in ("unexpected error while polling", "nobody asks for this", "has not ended"):
        assert finding in found


@at_night
def test_what_grows_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []

    async def leaking(self: Exposition, snapshot: Any) -> None:
        kept.extend((Path("/dev/null").open(), [object() for _ in range(1000)]))  # noqa: ASYNC230, SIM115
        kept.append(asyncio.create_task(asyncio.sleep(1e9)))
        await PUBLISH(self, snapshot)

    monkeypatch.setattr(Exposition, "publish", leaking)
    report = run.hostile(2)
    for file in kept[::3]:
        file.close()
    grown = {trend.resource.name for trend in report.trends if not trend.is_flat}
    assert {"allocated blocks", "open files", "tasks"} <= grown
    assert not report.is_good


@at_night
def test_a_budget_that_is_not_kept_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Quota, "spend", lambda *_, **__: None)
    monkeypatch.setattr(run, "CALLS_PER_MONTH", 100)
    monkeypatch.setattr(run, "FRUGAL", ("--cohere.calls-per-month=100",))
    assert "requests in 31 days, 100 are allowed" in "\n".join(run.frugal(1).findings)


@pytest.mark.parametrize(
    ("line", "finding"),
    [
        ('{"level": "error", "msg": "poll failed"}', "nothing explains"),
        (f'{{"level": "info", "msg": "key {KEY_PREFIX}1"}}', "a secret"),
        ("Traceback (most recent call last):", "no line of JSON"),
    ],
)
def test_a_line_of_the_log_that_should_not_be_there(line: str, finding: str) -> None:
    found = Findings(lambda: 0.0)
    LogReader(found.add, lambda: 60.0).write(line + "\n")
    assert finding in found.texts[0]


def test_time_stands_still_while_a_thread_works() -> None:
    async def main() -> float:
        async with asyncio.timeout(0.001):
            await asyncio.to_thread(time.sleep, 0.05)
        return asyncio.get_running_loop().time()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert runner.run(main()) < 0.001


# ── what is played ────────────────────────────────────────────────────────────────────────────────────────


def test_the_day_is_in_order_and_ends_where_the_next_begins_in_calm() -> None:
    ends = [row.at + row.minutes for row in ROWS]
    begins = [row.at for row in ROWS[1:]] + [1440 + ROWS[0].at]
    assert all(end < begin for end, begin in zip(ends, begins, strict=True))


def test_every_reason_is_met_on_the_list_and_on_step_metrics() -> None:
    of_the_api = set(REASONS) - {InternalError.reason}
    lists = {row.reason for row in ROWS if row.where in (LIST, LATER)}
    steps = {row.reason for row in ROWS if row.where == STEPS}
    assert lists == steps == of_the_api


def test_every_kind_of_fault_is_played_and_can_be() -> None:
    in_answers = {row.kind for row in ROWS if row.where and row.kind != "refused"}
    assert in_answers == set(KINDS)


def test_rows_are_found_on_every_day() -> None:
    at = 3 * 86_400 + 31 * 60
    assert next(between(at, at)) == (at - 60, at + 300, ROWS[0])
    assert not list(between(0, 29 * 60))


# ── what is judged ────────────────────────────────────────────────────────────────────────────────────────


def test_a_window_knows_the_most_there_ever_was_in_it() -> None:
    window = Window(60.0)
    for at in (0.0, 59.0, 60.0, 61.0, 200.0):
        window.note(at)
    assert window.most == 3


STATUSES = "".join(
    f'{pages.STATUS}model_id="a",model_name="b \\"c\\"",status="{number}"}} {number == 3:d}.0\n'
    for number in range(9)
)


@pytest.mark.parametrize(
    "text",
    ["x 1\nx 1\n# EOF\n", "x 1\n", 'x{a="b} 1\n# EOF\n', "x\n# EOF\n", "x 1\n\n# EOF\n", "x one\n# EOF\n"],
)
def test_what_is_no_page_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"page|line|series|float"):
        pages.read(text, is_openmetrics=True)


def test_a_model_with_two_statuses_is_refused() -> None:
    page = pages.read(STATUSES.replace('"4"} 0.0', '"4"} 1.0'), is_openmetrics=False)
    with pytest.raises(ValueError, match="two statuses"):
        page.shown()


def test_flat_is_what_has_not_grown_from_the_first_quarter_to_the_last() -> None:
    flat = [100.0, 200_000.0, 10.0, 2.0, 9.0, 0.0]
    creeping = [
        [value + hour * (number == 1) * 600 for number, value in enumerate(flat)] for hour in range(24)
    ]
    assert all(trend.is_flat for trend in trends([flat] * 24, warm_up=4))
    assert [trend.is_flat for trend in trends(creeping, warm_up=4)] == [True, False, True, True, True, True]
    assert len(flat) == len(RESOURCES)


# ── the page ──────────────────────────────────────────────────────────────────────────────────────────────


def data() -> dict[str, Any]:
    written: dict[str, Any] = json.loads((ROOT / "docs/soak.json").read_text(encoding="utf-8"))
    return written


def test_the_page_and_its_charts_are_what_their_data_gives() -> None:
    for path, text in document.files(data()).items():
        assert path.read_text(encoding="utf-8") == text, path


def test_the_recorded_run_was_a_month_and_is_told_as_it_was() -> None:
    long = Report.from_data(data()["long"])
    assert long.hours >= 31 * 24
    assert len(long.rows) == long.hours
    text = (ROOT / "docs/soak.md").read_text(encoding="utf-8")
    assert ("Nothing was found, and nothing has grown." in text) is long.is_good
    assert all(f"{count:,}" in text for count in (*long.counts.values(), *long.reasons.values()))


def test_a_bad_run_is_told_as_bad() -> None:
    recorded = Report.from_data(data()["long"])
    grown = [[*row[:1], row[1] + hour * 1000, *row[2:]] for hour, row in enumerate(recorded.rows)]
    bad = Report(recorded.hours, recorded.counts, recorded.reasons, grown, ["day 3: a leak"])
    text = document.render({"CPU": "any"}, bad, bad)
    assert "- **day 3: a leak**" in text
    assert "- **allocated blocks has grown**" in text


def test_the_page_names_no_machine_and_no_path() -> None:
    text = (ROOT / "docs/soak.json").read_text(encoding="utf-8")
    assert not any(word in text for word in (os.uname().nodename, "/root", "/home", "/tmp"))


def test_a_short_run_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--days", "1", "--write"])
    assert "at least 7 with --write" in capsys.readouterr().err
