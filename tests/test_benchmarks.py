"""The benchmarks' arithmetic, their page, and a small run of each so that none rots."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from exporter.cohere.steps import latest
from exporter.cohere.wire import read_models, read_steps
from exporter.exposition.rendering import Renderer
from exporter.families import FAMILIES
from exporter.model import ModelState, Snapshot
from tests.programs import ROOT, at_night, program
from tools.benchmarks import (
    __main__ as command,
)
from tools.benchmarks import (
    during_poll,
    encrypted,
    json_peer,
    latency,
    lone,
    memory,
    page,
    poll_cost,
    processes,
    start,
    steps,
    table,
    throughput,
)
from tools.benchmarks.api import MODELS
from tools.benchmarks.fleets import FULL, LEAN, Fleet
from tools.benchmarks.inside import Heartbeat
from tools.benchmarks.load import GZIP
from tools.benchmarks.processes import Missing, fetch
from tools.benchmarks.results import Figure, Result, percentile
from tools.benchmarks.table import BENCHMARKS

pytestmark = pytest.mark.slow

FEW = Fleet(LEAN, 12)


def test_a_figure_is_the_median_of_its_rounds_with_the_least_and_the_greatest() -> None:
    assert Figure.of("ours", [9.0, 1.0, 2.0]) == Figure("ours", median=2.0, least=1.0, greatest=9.0, rounds=3)
    assert Figure.of("ours", [1.0, 2.0]).median == 1.5


@pytest.mark.parametrize(("percent", "expected"), [(50, 50), (99, 99), (99.5, 100), (100, 100), (0, 1)])
def test_a_percentile_is_a_value_that_was_seen(percent: float, expected: float) -> None:
    assert percentile([float(value) for value in range(100, 0, -1)], percent) == expected


@pytest.mark.anyio
async def test_the_heartbeat_tells_how_long_the_loop_was_held() -> None:
    async with Heartbeat() as heartbeat:
        await asyncio.sleep(0.01)
        time.sleep(0.05)  # noqa: ASYNC251 - it is to hold the loop
    assert 0.045 < heartbeat.longest < 2.0


# ── the page ──────────────────────────────────────────────────────────────────────────────────────────────


def data() -> dict[str, object]:
    written: dict[str, object] = json.loads((ROOT / "docs/benchmarks.json").read_text(encoding="utf-8"))
    return written


@pytest.mark.parametrize("path", sorted(page.files(data())), ids=lambda path: path.name)
def test_the_page_and_its_charts_are_what_their_data_gives(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == page.files(data())[path]


def test_the_page_names_no_machine_and_no_path() -> None:
    text = (ROOT / "docs/benchmarks.json").read_text(encoding="utf-8")
    assert os.uname().nodename not in text
    assert "/root" not in text
    assert "/home" not in text


# ── the command ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_missing_program_skips_its_benchmark_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def find(name: str) -> str:
        raise Missing(f"{name} is not installed")

    monkeypatch.setattr(table, "find", find)
    assert command.main(["throughput"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "throughput: skipped, wrk is not installed"


def test_an_unknown_name_is_told_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["thruput"])
    assert "no benchmark is called thruput; there are throughput," in capsys.readouterr().err


def test_a_part_of_the_benchmarks_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["start", "--write"])
    assert "full run" in capsys.readouterr().err


def test_nothing_is_left_running_when_the_run_is_killed() -> None:
    code = (
        "from tools.benchmarks.processes import python\n"
        "with python('tools.benchmarks.api', 'lean', '1') as api: print(api.pid, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as run:
        assert run.stdout is not None
        child = int(run.stdout.readline())
        run.send_signal(signal.SIGKILL)
    processes.wait_until(lambda: not is_running(child), 10)


def is_running(pid: int) -> bool:
    try:
        # An orphan that nobody waits for stays as a zombie.
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# ── each of them, small ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", [LEAN, FULL])
def test_a_fleet_has_the_series_that_it_says(kind: str) -> None:
    fleet = Fleet(kind, 8)
    rows = {model: read_steps(body, reject).items for model, body in fleet.steps().items()}
    models = [model for page_ in fleet.pages(0) for model in read_models(page_, reject).items]
    states = tuple(ModelState(model, latest(rows[model.id], limit=50)) for model in models)
    payload = Renderer(FAMILIES).render(Snapshot(states=states, status_counts={}))
    text = b"".join(payload.chunks(b"", gzipped=False)).decode()
    assert len(re.findall(r"^cohere_finetuned_model_\w+\{", text, re.MULTILINE)) == fleet.series


def reject(kind: str, name: str) -> None:
    raise AssertionError(kind, name)


def test_a_fleet_that_changes_does_so_in_every_model_and_one_that_stays_in_none() -> None:
    with processes.python("tools.benchmarks.api", LEAN, "3") as api:
        first, second = listed(api), listed(api)
        fetch(f"{api.url}/-/control?changing=1")
        third, fourth = listed(api), listed(api)
    assert first == second
    assert len(first) == 3
    for one, other in ((second, third), (third, fourth)):
        assert all(a["last_used"] != b["last_used"] for a, b in zip(one, other, strict=True))


def listed(api: processes.Process) -> list[dict[str, object]]:
    page_: dict[str, list[dict[str, object]]] = json.loads(fetch(f"{api.url}{MODELS}"))
    return page_["finetuned_models"]


SMALL: dict[str, Callable[[], Iterable[Result]]] = {
    throughput.NAME: lambda: throughput.compare([throughput.Case(12, GZIP, goal=0.5, seconds=1)], rounds=1),
    encrypted.NAME: lambda: [encrypted.compare(Fleet(LEAN, 12), rounds=1)],
    lone.NAME: lambda: lone.compare(FEW, Fleet(LEAN, 24), rounds=2),
    during_poll.NAME: lambda: [during_poll.measure(FEW, rounds=1, seconds=0.5)],
    poll_cost.NAME: lambda: poll_cost.compare(FEW, rounds=1),
    latency.NAME: lambda: [latency.measure(latency.Case(12, 0.01, rounds=1))],
    steps.NAME: lambda: steps.measure(2, 3, interval="1s", minutes=1 / 30, scrapes=3),
    memory.NAME: lambda: [memory.measure(memory.Case(Fleet(FULL, 4), 60, interval="1s"), polls=1)],
    start.NAME: lambda: [start.measure(rounds=1)],
    json_peer.NAME: lambda: json_peer.compare([Fleet(FULL, 3)], seconds=2),
}


BY_DAY = (throughput.NAME, latency.NAME)


@pytest.mark.parametrize(
    "benchmark",
    [pytest.param(one, id=one.name, marks=() if one.name in BY_DAY else at_night) for one in BENCHMARKS],
)
def test_it_gives_figures_that_are_possible(benchmark: table.Benchmark) -> None:
    for needed in benchmark.needs:
        program(needed)
    results = list(SMALL[benchmark.name]())
    assert results
    for one in results:
        assert one.benchmark == benchmark.name
        assert one.ours.median > 0
        # An exporter that nobody scrapes may well use no CPU for a second.
        assert all(other.median > 0 or "not scraped" in other.name for other in one.others)
        assert all(other.median >= 0 for other in one.others)
        assert one.others or one.goal
