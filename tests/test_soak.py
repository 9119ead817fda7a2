"""The soak: a short run of it, what it makes of an exporter that is broken, and its page."""

import asyncio
import json
import os
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exporter.errors import REASONS, InternalError, PaymentRequired, Unauthorized
from exporter.exposition import Exposition
from exporter.exposition.training_steps import StepExposition
from exporter.model import PollOutcome
from exporter.polling.allowance import RequestAllowance
from exporter.polling.changes import Changes
from exporter.polling.poller import Poller
from exporter.polling.quota import Quota
from exporter.polling.schedule import Backoff, Freshness
from exporter.telemetry import Telemetry
from tests.programs import ROOT, at_night
from tools.soak import __main__ as command
from tools.soak import document, pages, run
from tools.soak.faults import KINDS
from tools.soak.fleet import BEGIN, HOUR, SoakFleet
from tools.soak.ledger import Window
from tools.soak.resources import RESOURCES, trends
from tools.soak.results import Report, lines
from tools.soak.schedule import LATER, LIST, ROWS, STEPS, between
from tools.soak.virtual import VirtualLoop
from tools.soak.watch import KEY_PREFIX, MOST, Findings, LogReader

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


def findings(hours: int = 1) -> str:
    return "\n".join(run.hostile(hours).findings)


class TestBroken:
    @at_night
    def test_not_one_that_is_whole(self) -> None:
        report = run.hostile(1)
        assert not report.findings
        assert report.counts["polls"] == 57
        assert report.reasons == {"unauthorized": 3, "payment_required": 1}
        # What is kept for the list is not always needed.
        assert report.counts["most requests in a minute"] > 0.8 * run.REQUESTS_PER_MINUTE

    @at_night
    def test_a_limiter_that_lets_all_pass(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(RequestAllowance, "_pause", lambda *_: 0.0)
        assert f"requests in a minute, {run.REQUESTS_PER_MINUTE} are allowed" in findings()

    @at_night
    @pytest.mark.parametrize("wrong_by", [-1.0, 1.0])
    def test_polls_that_come_a_second_early_or_late(
        self, monkeypatch: pytest.MonkeyPatch, wrong_by: float
    ) -> None:
        right = Backoff.pause
        monkeypatch.setattr(Backoff, "pause", lambda *arguments: right(*arguments) + wrong_by)
        assert "a poll was due at" in findings()

    @at_night
    def test_steps_that_are_never_offered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(StepExposition, "offer", lambda *_: None)
        assert "steps were never offered, 0 counted as missed" in findings()

    def test_steps_at_another_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("exporter.exposition.lines.milliseconds", lambda at: round(at * 1000) + 5)
        assert "no such step" in findings()

    def test_a_poll_loop_that_stops(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def rest_for_ever(*_: object) -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(Poller, "_wait_for_next", rest_for_ever)
        assert "has not ended" in findings()

    @at_night
    def test_a_request_that_is_counted_twice(self, monkeypatch: pytest.MonkeyPatch) -> None:
        right = Telemetry.request

        def twice(*arguments: Any) -> None:
            right(*arguments)
            right(*arguments)

        monkeypatch.setattr(Telemetry, "request", twice)
        assert "counted in /metrics" in findings()

    @at_night
    def test_a_failure_that_is_counted_under_another_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(PaymentRequired, "reason", "gone")
        monkeypatch.setattr(Unauthorized, "reason", "gone")
        assert "nothing explains why a poll failed" in findings()

    @at_night
    def test_a_failure_that_is_not_counted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        right = Telemetry.poll_ended

        def without_reason(self: Telemetry, outcome: PollOutcome) -> None:
            right(self, replace(outcome, reason=None))

        monkeypatch.setattr(Telemetry, "poll_ended", without_reason)
        assert "3 polls failed with unauthorized, 0 counted" in findings()

    @at_night
    def test_a_snapshot_that_stays_for_ever(self, monkeypatch: pytest.MonkeyPatch) -> None:
        right = Exposition.publish

        async def once(self: Exposition, snapshot: Any) -> None:
            if self.snapshot is None:
                await right(self, snapshot)

        monkeypatch.setattr("tools.soak.referee.STALE_AFTER", 100.0)
        monkeypatch.setattr(Freshness, "is_fresh", lambda *_: True)
        monkeypatch.setattr(Exposition, "publish", once)
        found = findings()
        assert "models are not as the API told" in found
        assert "models are shown although the data is stale" in found

    @at_night
    def test_models_that_are_dropped_too_soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        right = Freshness.is_fresh

        def is_fresh(self: Freshness, listed_at: float | None) -> bool:
            return listed_at is not None and right(self, listed_at - 200.0)

        monkeypatch.setattr(Freshness, "is_fresh", is_fresh)
        assert "models are missing although the data is fresh" in findings()

    def test_a_bug_and_a_task_that_nobody_looks_after(self, monkeypatch: pytest.MonkeyPatch) -> None:
        right = Changes.listed

        async def fail() -> None:
            raise RuntimeError("nobody asks for this")

        def listed(self: Changes, models: Any) -> None:
            asyncio.create_task(fail())  # noqa: RUF006 - it is to be lost
            right(self, models)
            raise RuntimeError("a bug")

        monkeypatch.setattr(Changes, "listed", listed)
        found = findings()
        assert "unexpected error while polling" in found
        assert "nobody asks for this" in found

    @at_night
    def test_what_grows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        kept: list[object] = []
        right = Exposition.publish

        async def leaking(self: Exposition, snapshot: Any) -> None:
            kept.extend((Path("/dev/null").open(), [object() for _ in range(1000)]))  # noqa: ASYNC230, SIM115
            kept.append(asyncio.create_task(asyncio.sleep(1e9)))
            await right(self, snapshot)

        monkeypatch.setattr(Exposition, "publish", leaking)
        report = run.hostile(2)
        for file in kept[::3]:
            file.close()  # type: ignore[attr-defined]
        grown = {trend.resource.name for trend in report.trends if not trend.is_flat}
        assert {"allocated blocks", "open files", "tasks"} <= grown
        assert not report.is_good
        assert any("HAS GROWN" in line for line in lines(report))

    @at_night
    def test_a_budget_that_is_not_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_findings_beyond_the_most_that_are_kept_are_counted() -> None:
    found = Findings(lambda: 86_400.0)
    for _ in range(MOST + 3):
        found.add("something")
    assert found.told()[0] == "day 1, 00:00:00: something"
    assert found.told()[MOST:] == ["and 3 more"]


def test_lines_that_a_fault_explains_pass() -> None:
    found = Findings(lambda: 0.0)
    log = LogReader(found.add, lambda: 31 * 60.0)
    log.write('{"level": "error", "msg": "poll failed"}\n{"level": "info", "msg": "serving"}\n')
    assert not found.texts
    assert log.lines.total() == 2


# ── time ──────────────────────────────────────────────────────────────────────────────────────────────────


def in_virtual_time(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())


def test_a_year_of_sleep_takes_no_time() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(365 * 86_400)
        assert loop.time() == pytest.approx(365 * 86_400, abs=0.01)

    begin = time.monotonic()
    in_virtual_time(main)
    assert time.monotonic() - begin < 5


def test_time_stands_still_while_a_thread_works() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(0.001):
            await asyncio.to_thread(time.sleep, 0.05)
        assert loop.time() < 0.001

    in_virtual_time(main)


def test_what_never_goes_on_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.watch(is_busy=lambda: True, on_turn=lambda: None)
        await asyncio.sleep(1)

    monkeypatch.setattr("tools.soak.virtual.STUCK", 0.05)
    with pytest.raises(TimeoutError, match="has not gone on"):
        in_virtual_time(main)


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
    begin, end, row = next(between(3 * 86_400 + 31 * 60, 3 * 86_400 + 31 * 60))
    assert (begin, end, row) == (3 * 86_400 + 1800, 3 * 86_400 + 2160, ROWS[0])
    assert not list(between(0, 29 * 60))


def test_models_come_change_and_vanish_within_a_day() -> None:
    fleet = SoakFleet()
    first, last = (fleet.listing(BEGIN + hour * HOUR).shown for hour in (0, 24))
    assert first.keys() - last.keys()
    assert last.keys() - first.keys()
    stayed = first.keys() & last.keys()
    assert any(first[model][0] != last[model][0] for model in stayed)
    assert any(first[model][1] != last[model][1] for model in stayed)
    trained = {name for hour in range(24) for _, name in fleet.listing(BEGIN + hour * HOUR).shown.values()}
    assert {"STATUS_FINETUNING", "STATUS_FAILED", "STATUS_ARCHIVED"} <= trained


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


def test_a_page_tells_its_models() -> None:
    page = pages.read(f"# HELP x y\n{STATUSES}x 1.0\n# EOF\n", is_openmetrics=True)
    assert page.shown() == {"a": ('b "c"', "3")}
    assert page.series["x"] == 1.0


@pytest.mark.parametrize(
    "text",
    ["x 1\nx 1\n# EOF\n", "x 1\n", 'x{a="b} 1\n# EOF\n', "x\n# EOF\n", "x 1\n\n# EOF\n", "x one\n# EOF\n"],
)
def test_what_is_no_page_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"page|line|series|float"):
        pages.read(text, is_openmetrics=True)


def test_a_page_of_steps_is_read_with_its_times() -> None:
    text = f'{pages.STEP_NUMBER}model_id="a"}} 10.0 1.5\n{pages.STEP_NUMBER}model_id="a"}} 20.0 2.5\n'
    steps = pages.read_steps(f"{text}# EOF\n", is_openmetrics=True)
    assert steps == [pages.Step("a", 10, 1500), pages.Step("a", 20, 2500)]
    with pytest.raises(ValueError, match="order of their times"):
        pages.read_steps("x 1 5\nx 1 5\n", is_openmetrics=False)
    with pytest.raises(ValueError, match="no line"):
        pages.read_steps("x 1\n", is_openmetrics=False)


def test_a_model_with_two_statuses_is_refused() -> None:
    page = pages.read(STATUSES.replace('"4"} 0.0', '"4"} 1.0'), is_openmetrics=False)
    with pytest.raises(ValueError, match="two statuses"):
        page.shown()


def test_a_model_without_a_status_is_not_shown() -> None:
    assert not pages.read(STATUSES.replace('"3"} 1.0', '"3"} 0.0'), is_openmetrics=False).shown()


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


def test_the_data_survives_being_written_and_read() -> None:
    assert (ROOT / "docs/soak.json").read_text(encoding="utf-8") == document.dump(data())


def test_the_page_names_no_machine_and_no_path() -> None:
    text = (ROOT / "docs/soak.json").read_text(encoding="utf-8")
    assert not any(word in text for word in (os.uname().nodename, "/root", "/home", "/tmp"))


def test_a_chart_draws_every_hour_of_each_resource() -> None:
    drawn = ET.fromstring((ROOT / "docs/images/soak-memory.svg").read_text(encoding="utf-8"))
    for line in drawn.iterfind(".//{*}polyline"):
        assert len(line.get("points", "").split()) == data()["long"]["hours"]


def test_a_short_run_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--days", "1", "--write"])
    assert "at least 7 with --write" in capsys.readouterr().err
