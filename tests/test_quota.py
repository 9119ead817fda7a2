"""No month holds more calls than it may, restarts included, and the list is polled to its end."""

import asyncio
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path, PosixPath
from subprocess import PIPE
from typing import Any

import pytest
from structlog.testing import capture_logs

from exporter.errors import QuotaSpent
from exporter.polling.budget_file import NOT_READ, NOT_WRITTEN, BudgetFile
from exporter.polling.quota import MONTH, Quota
from tests.conftest import FakeClock
from tests.programs import ROOT

HOUR = 3_600.0
DAY = 86_400.0


class TestQuota:
    @pytest.mark.anyio
    async def test_calls_come_back_a_month_after_the_hour_they_were_spent_in(self, clock: FakeClock) -> None:
        quota = Quota(2, clock)
        quota.spend(discretionary=False)
        await clock.advance(10 * DAY)
        quota.spend(discretionary=False)
        await clock.advance(21 * DAY)
        with pytest.raises(QuotaSpent):
            quota.spend(discretionary=False)
        await clock.advance(HOUR)
        assert quota.left == 1
        quota.spend(discretionary=False)
        with pytest.raises(QuotaSpent):
            quota.spend(discretionary=False)

    def test_of_zero_is_no_quota(self, clock: FakeClock) -> None:
        quota = Quota(0, clock)
        for _ in range(10_000):
            quota.spend(discretionary=False)
        assert quota.has_discretionary
        assert quota.interval(1000, is_busy=True) == 0.0
        assert quota.readings(60.0) is None

    def test_keeps_half_for_the_list_at_first(self, clock: FakeClock) -> None:
        quota = Quota(10, clock)
        # Of the other half one is kept for a list under way, and a part of one because calls come back late.
        for _ in range(3):
            quota.spend(discretionary=True)
        assert not quota.has_discretionary
        with pytest.raises(QuotaSpent, match="kept for listing"):
            quota.spend(discretionary=True)
        assert quota.left == 7
        for _ in range(7):
            quota.spend(discretionary=False)

    def test_lets_a_list_grow_by_a_page_and_not_without_end(self, clock: FakeClock) -> None:
        quota = Quota(10, clock)
        for _ in range(3):
            quota.spend(discretionary=True)
        quota.spend(discretionary=False, page=0)
        quota.spend(discretionary=False, page=1)
        with pytest.raises(QuotaSpent, match="more than 2 pages") as caught:
            quota.spend(discretionary=False, page=2)
        assert "--cohere.page-size" in caught.value.advice
        quota.pages = 2
        quota.spend(discretionary=False, page=2)
        assert quota.left == 4

    @pytest.mark.anyio
    async def test_what_the_list_can_no_longer_need_is_discretionary(self, clock: FakeClock) -> None:
        quota = Quota(10, clock)
        for _ in range(3):
            quota.spend(discretionary=True)
        assert not quota.has_discretionary
        await clock.advance(MONTH / 2)
        for _ in range(3):
            quota.spend(discretionary=True)
        assert not quota.has_discretionary

    def test_keeps_as_much_beside_as_a_list_of_many_pages_needs(self, clock: FakeClock) -> None:
        quota = Quota(20, clock)
        quota.pages = 6
        for _ in range(3):
            quota.spend(discretionary=True)
        assert not quota.has_discretionary

    def test_spends_on_an_idle_fleet_as_if_the_rest_were_to_last_a_month(self, clock: FakeClock) -> None:
        quota = Quota(1000, clock)
        assert quota.interval(0, is_busy=False) == pytest.approx(MONTH / 1000)
        quota.pages = 4
        assert quota.interval(0, is_busy=False) == pytest.approx(4 * MONTH / 1000)

    def test_spends_what_is_discretionary_over_three_days_while_something_trains(
        self, clock: FakeClock
    ) -> None:
        quota = Quota(1000, clock)
        calls_a_day = 500 / 31 + 500 / 3
        assert quota.interval(3, is_busy=True) == pytest.approx(4 * DAY / calls_a_day)

    def test_waits_for_the_baseline_when_too_much_is_spent(self, clock: FakeClock) -> None:
        quota = Quota(100, clock)
        for _ in range(60):
            quota.spend(discretionary=False)
        assert quota.interval(0, is_busy=True) == pytest.approx((1 + 10) * MONTH / 50, rel=0.01)
        assert quota.readings(60.0) == 0

    def test_reads_a_fleet_at_rest_little_by_little(self, clock: FakeClock) -> None:
        assert Quota(1000, clock).readings(60.0) == 10
        assert Quota(10, clock).readings(60.0) == 4
        assert Quota(2, clock).readings(60.0) == 0

    def test_reads_more_models_where_polls_are_further_apart(self, clock: FakeClock) -> None:
        assert Quota(1000, clock).readings(6 * HOUR) == 41
        assert Quota(1_000_000, clock).readings(60.0) == 115
        assert Quota(1000, clock).readings(20 * DAY) == 499

    def test_reads_one_model_however_little_is_discretionary(self, clock: FakeClock) -> None:
        assert spent(1000, 490, clock).readings(60.0) == 1
        assert spent(1000, 498, clock).readings(60.0) == 0

    def test_keeps_a_call_beside_the_list_for_readings_once_everything_discretionary_is_spent(
        self, clock: FakeClock
    ) -> None:
        quota = spent(1000, 498, clock)
        evenly = MONTH / 500
        assert quota.interval(0, is_busy=True) == pytest.approx(evenly, rel=0.1)
        for readings in (1, 300):
            assert quota.interval(readings, is_busy=True) == pytest.approx(2 * evenly, rel=0.1)

    def test_begins_no_list_that_it_cannot_pay_for_to_its_end(self, clock: FakeClock) -> None:
        quota = Quota(20, clock)
        quota.pages = 12
        for page in range(12):
            quota.spend(discretionary=False, page=page)
        with pytest.raises(QuotaSpent, match="8 calls left of the 12"):
            quota.spend(discretionary=False)
        assert quota.left == 8

    @pytest.mark.anyio
    async def test_tries_a_list_that_is_longer_than_was_known_with_a_whole_quota_and_then_never_again(
        self, clock: FakeClock
    ) -> None:
        quota, made = Quota(20, clock), []
        for _ in range(4):
            made.append(pages_paid(quota))
            await clock.advance(quota.interval(0, is_busy=False))
        assert made == [8, 17, 20, 0]
        assert quota.interval(0, is_busy=False) <= 2 * MONTH
        with pytest.raises(QuotaSpent, match="more than 20 pages") as caught:
            quota.spend(discretionary=False)
        assert "--cohere.page-size" in caught.value.advice


def pages_paid(quota: Quota) -> int:
    """Return how many pages of a list without end can be paid for."""
    for page in range(1000):
        try:
            quota.spend(discretionary=False, page=page)
        except QuotaSpent:
            return page
    raise AssertionError


def spent(calls: int, discretionary: int, clock: FakeClock) -> Quota:
    """Return a quota of which so many discretionary calls are spent."""
    quota = Quota(calls, clock)
    for _ in range(discretionary):
        quota.spend(discretionary=True)
    return quota


class TestReadingsOfManyPages:
    """As of long runs, or with an API that gives the oldest step metrics first."""

    def test_leave_a_quarter_of_the_calls_alone_beyond_their_first_page(self, clock: FakeClock) -> None:
        spent(1000, 240, clock).spend(discretionary=True, page=1)
        quota = spent(1000, 260, clock)
        with pytest.raises(QuotaSpent):
            quota.spend(discretionary=True, page=1)
        quota.spend(discretionary=True, page=0)

    def test_make_later_ones_no_rarer_than_the_calls_that_are_left(self, clock: FakeClock) -> None:
        quota, cheap = Quota(1000, clock), spent(1000, 10, clock)
        for page in range(10):
            quota.spend(discretionary=True, page=page)
        assert quota.readings(HOUR) == cheap.readings(HOUR)
        assert quota.interval(10, is_busy=True) == cheap.interval(10, is_busy=True)


class DeadMount(PosixPath):
    """A file on a file system that does not answer until it `answers`."""

    def __init__(self, path: Path) -> None:
        if sys.version_info >= (3, 12):
            super().__init__(path)
        self.answers = threading.Event()

    def exists(self, **options: bool) -> bool:
        self.answers.wait(30.0)
        return super().exists(**options)


class TestTheBudgetFile:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "budget.json"

    def start(self, path: Path, clock: FakeClock, calls: int = 30) -> tuple[Quota, list[int]]:
        failures: list[int] = []
        return Quota(calls, clock, BudgetFile(path, lambda: failures.append(1))), failures

    @pytest.mark.anyio
    async def test_gives_calls_back_a_month_later(self, path: Path, clock: FakeClock) -> None:
        quota, _ = self.start(path, clock, calls=1)
        quota.spend(discretionary=False)
        await quota.remember()
        for later, left in ((MONTH, 0), (MONTH + HOUR, 1)):
            assert self.start(path, FakeClock(unix=clock.time() + later), calls=1)[0].left == left

    @pytest.mark.anyio
    async def test_keeps_a_call_no_longer_where_the_clock_was_put_back(self, path: Path) -> None:
        quota, _ = self.start(path, FakeClock(unix=2_000_000_000.0), calls=1)
        quota.spend(discretionary=False)
        await quota.remember()
        clock = FakeClock()
        quota, _ = self.start(path, clock, calls=1)
        await clock.advance(MONTH + HOUR)
        assert quota.left == 1

    @pytest.mark.anyio
    async def test_remembers_the_pages_of_a_list_with_its_calls(self, path: Path, clock: FakeClock) -> None:
        quota, _ = self.start(path, clock, calls=100)
        for page in range(12):
            quota.spend(discretionary=False, page=page)
            await quota.remember()
        assert self.start(path, clock, calls=100)[0].pages == 12

    @pytest.mark.anyio
    async def test_counts_pages_anew_where_they_have_another_size(self, path: Path, clock: FakeClock) -> None:
        quota, _ = self.start(path, clock)
        quota.pages = 12
        await quota.remember()
        for page_size, pages in ((0, 12), (1000, 1)):
            assert Quota(30, clock, BudgetFile(path, lambda: None, page_size)).pages == pages

    @pytest.mark.parametrize(
        "content",
        [
            *("", "{", "[]", "null", "9" * 10**6, '{"calls": 1}'),
            *('{"calls": {"x": 1}, "pages": 1}', '{"calls": {"1": null}}'),
        ],
    )
    @pytest.mark.anyio
    async def test_that_is_corrupt_is_a_warning_and_is_written_anew(
        self, path: Path, clock: FakeClock, content: str
    ) -> None:
        path.write_text(content)
        with capture_logs() as lines:
            quota, failures = self.start(path, clock)
        assert [(line["log_level"], line["file"]) for line in lines] == [("warning", str(path))]
        assert (failures, quota.left) == ([1], 30)
        quota.spend(discretionary=False)
        await quota.remember()
        assert list(json.loads(path.read_text())["calls"].values()) == [1]
        assert self.start(path, clock)[0].left == 29

    @pytest.mark.anyio
    async def test_that_cannot_be_written_is_one_warning_and_counted_each_time(
        self, tmp_path: Path, clock: FakeClock
    ) -> None:
        quota, failures = self.start(tmp_path / "missing" / "budget.json", clock)
        with capture_logs() as lines:
            for _ in range(3):
                quota.spend(discretionary=False)
                await quota.remember()
        assert len(failures) == 3
        assert [line["log_level"] for line in lines] == ["warning"]

    @pytest.mark.anyio
    async def test_that_hangs_holds_up_one_call_and_is_written_when_it_works_again(
        self, path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("exporter.polling.quota.LONGEST_WAIT", 0.05)
        fifo = path.with_name(f".{path.name}.new")
        os.mkfifo(fifo)  # to open it for writing waits for a reader
        quota, failures = self.start(path, clock)
        with capture_logs() as lines:
            for _ in range(20):
                quota.spend(discretionary=False)
                async with asyncio.timeout(60):
                    await quota.remember()
        assert len(failures) == 20
        assert [(line["log_level"], line["event"]) for line in lines] == [("warning", NOT_WRITTEN)]
        assert lines[0]["error"] == "timed out"
        monkeypatch.undo()  # a disk may be slow
        fifo.open("rb").close()
        fifo.unlink()
        async with asyncio.timeout(60):
            while not path.exists():
                await quota.remember()
                await asyncio.sleep(0.005)
        assert self.start(path, clock)[0].left == 10

    @pytest.mark.anyio
    async def test_that_hangs_at_the_start_counts_as_soon_as_it_is_read_and_is_not_overwritten(
        self, path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before, _ = self.start(path, clock)
        before.spend(discretionary=False)
        await before.remember()
        monkeypatch.setattr("exporter.polling.quota.LONGEST_WAIT", 0.05)
        content, mount = path.read_text(), DeadMount(path)
        with capture_logs() as lines:
            quota, failures = self.start(mount, clock)
            quota.spend(discretionary=False)
            await quota.remember()
        assert (len(failures), quota.left) == (2, 29)
        assert [(line["event"], line["error"]) for line in lines] == [(NOT_READ, "timed out")]
        assert path.read_text() == content
        monkeypatch.undo()  # a disk may be slow
        mount.answers.set()
        async with asyncio.timeout(60):
            while quota.left == 29:
                await asyncio.sleep(0.005)
                await quota.remember()
        assert quota.left == 28
        assert self.start(path, clock)[0].left == 28

    @pytest.mark.anyio
    async def test_keeps_calls_made_while_the_clock_was_not_set(self, path: Path) -> None:
        quota, _ = self.start(path, FakeClock(unix=1e8))
        quota.spend(discretionary=False)
        await quota.remember()
        clock = FakeClock()
        quota, _ = self.start(path, clock)
        assert quota.left == 29
        await clock.advance(MONTH + HOUR)
        assert quota.left == 30

    @pytest.mark.anyio
    async def test_holds_every_call_of_those_that_are_made_at_once(
        self, path: Path, clock: FakeClock
    ) -> None:
        quota, failures = self.start(path, clock, calls=1000)

        async def call() -> None:
            quota.spend(discretionary=False)
            made = 1000 - quota.left
            await quota.remember()
            assert sum(json.loads(path.read_text())["calls"].values()) >= made

        await asyncio.gather(*(call() for _ in range(100)))
        assert not failures

    @pytest.mark.anyio
    async def test_is_replaced_atomically_and_for_its_owner_alone(
        self, path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        quota, failures = self.start(path, clock)
        quota.spend(discretionary=False)
        await quota.remember()
        before = path.read_text()

        def full(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            quota.spend(discretionary=False)
            await quota.remember()
        assert failures == [1]
        assert path.read_text() == before
        assert stat.S_ISREG(path.stat().st_mode)


# Makes calls as the transport does, each told by a full stop, then waits to be killed.
CALLER = """
import asyncio, sys
from pathlib import Path, PosixPath
from exporter.clock import SystemClock
from exporter.polling import quota as module
from exporter.polling.budget_file import BudgetFile
module.LONGEST_WAIT = 600.0  # a disk may be slow
async def main():
    file = BudgetFile(Path(sys.argv[1]), lambda: sys.exit("cannot be saved"))
    quota = module.Quota(100, SystemClock(), file)
    for _ in range(int(sys.argv[2])):
        quota.spend(discretionary=False)
        await quota.remember()
        sys.stdout.write(".")
        sys.stdout.flush()
    sys.stdin.read()
asyncio.run(main())
"""


@pytest.mark.slow
def test_a_quota_is_kept_over_kills_at_any_moment(tmp_path: Path) -> None:
    path, made, starts = tmp_path / "budget.json", 0, 0
    while True:
        starts += 1
        # It is killed while it makes ten more calls than are waited for: whatever is scheduled when, three
        # starts leave calls, and the fourth spends them all.
        command = (sys.executable, "-c", CALLER, str(path), str(11 * starts + 10))
        with subprocess.Popen(command, cwd=ROOT, stdin=PIPE, stdout=PIPE, stderr=PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            made += len(process.stdout.read(11 * starts))
            process.kill()
            made += len(process.stdout.read())
            errors = process.stderr.read().decode()
        json.loads(path.read_text())
        if "QuotaSpent" in errors:
            break
        assert not errors
    assert starts == 4
    assert 100 - starts <= made <= 100, "each kill loses a call at most, and none is made twice"
