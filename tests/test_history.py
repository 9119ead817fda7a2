"""The history of a fleet as OpenMetrics: every step at its time, and what becomes of errors."""

import asyncio
import io
import os
import pty
import sys
import tracemalloc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from exporter.cohere.client import Cursor, StepReading
from exporter.errors import ApiError, Gone, QuotaSpent, ServerError
from exporter.history import History, parse_labels, parse_time, write_history
from exporter.model import FinetunedModel, StepRow, TrainingProgress
from tests.programs import run

pytestmark = pytest.mark.anyio

T0 = 1_700_000_000.0
CHAT, RERANK = FinetunedModel(id="m1", name="chat"), FinetunedModel(id="m2", name="rerank")


@dataclass
class Api:
    """Answers with rows or an error, by the model's id."""

    answers: Mapping[str, Sequence[StepRow] | ApiError]
    bound: int = 1000
    missed: int = 0
    dropped: int = 0
    asked: list[str] = field(default_factory=list)

    async def training_steps(
        self, model_id: str, known: TrainingProgress | None = None, cursor: Cursor | None = None
    ) -> StepReading:
        self.asked.append(model_id)
        answer = self.answers[model_id]
        if isinstance(answer, ApiError):
            raise answer
        start = known.step if known else 0
        rows = answer[start : start + self.bound]
        end = start + len(rows)
        is_complete = end == len(answer) or bool(self.missed)
        return StepReading(
            TrainingProgress(step=end, dropped=self.dropped),
            list(rows),
            is_complete=is_complete,
            missed=self.missed,
        )


async def history(
    api: Api, labels: Mapping[str, str] | None = None, since: float | None = None
) -> tuple[History, str]:
    out = io.BytesIO()
    done = await write_history(api, [CHAT, RERANK], out, labels=labels or {}, since=since)
    return done, out.getvalue().decode()


def samples(text: str) -> list[tuple[str, str, float, float]]:
    return [
        (
            sample.name.removeprefix("cohere_finetuned_model_step_"),
            "/".join(sample.labels.values()),
            sample.value,
            float(str(sample.timestamp)) - T0,
        )
        for family in text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
        for sample in family.samples
    ]


ROWS = {
    "m1": [StepRow(20, T0 + 2, {"loss": 0.5}), StepRow(10, T0 + 1, {"loss": 0.75})],
    "m2": [StepRow(5, T0 + 9, {"MRR@10": 0.25})],
}


async def test_every_step_is_written_at_its_time_family_by_family() -> None:
    done, text = await history(Api(ROWS))
    assert samples(text) == [
        ("metric", "loss/m1/chat", 0.75, 1.0),
        ("metric", "loss/m1/chat", 0.5, 2.0),
        ("metric", "MRR@10/m2/rerank", 0.25, 9.0),
        ("number", "m1/chat", 10.0, 1.0),
        ("number", "m1/chat", 20.0, 2.0),
        ("number", "m2/rerank", 5.0, 9.0),
    ]
    assert (done.models, done.rows, done.errors) == (2, 3, {})


async def test_labels_are_added_to_each_series() -> None:
    _, text = await history(Api(ROWS), {"job": "cohere", "instance": 'a"b:1'})
    assert 'model_id="m1",model_name="chat",instance="a\\"b:1",job="cohere"} 0.75 1700000001.000\n' in text
    assert len(samples(text)) == 6


async def test_rows_up_to_since_are_left_out() -> None:
    done, text = await history(Api(ROWS), since=T0 + 1)
    assert [value for family, _, value, _ in samples(text) if family == "number"] == [20.0, 5.0]
    assert done.rows == 2


async def test_rows_without_a_time_of_their_own_are_left_out_and_counted() -> None:
    rows = [
        StepRow(1, None, {"loss": 1.0}),
        StepRow(2, T0 + 5, {"loss": 0.9}),
        StepRow(3, T0 + 5.0001, {"loss": 0.8}),
        StepRow(4, T0 + 6, {"loss": 0.7}),
        StepRow(4, T0 + 6, {"loss": 0.7}),  # twice, because the pages shifted
    ]
    done, text = await history(Api({"m1": rows, "m2": ROWS["m2"]}))
    assert [value for family, _, value, _ in samples(text) if family == "number"] == [3.0, 4.0, 5.0]
    assert (done.rows, done.left_out, done.errors) == (3, {"m1": 2}, {})
    done, _ = await history(Api({"m1": rows, "m2": []}), since=T0 + 5.5)
    assert (done.rows, done.left_out) == (1, {"m1": 1})


async def test_a_model_that_cannot_be_read_costs_that_model_only() -> None:
    api = Api({**ROWS, "m1": ServerError("HTTP 500: broken")})
    done, text = await history(api)
    assert [value for family, _, value, _ in samples(text) if family == "number"] == [5.0]
    assert list(done.errors) == ["m1"]


async def test_readings_go_on_until_they_have_the_last_step() -> None:
    rows = [StepRow(step, T0 + step, {"loss": 0.5}) for step in range(25)]
    api = Api({"m1": rows, "m2": []}, bound=10)
    done, text = await history(api)
    assert [value for family, _, value, _ in samples(text) if family == "number"] == list(range(25))
    assert (done.rows, api.asked) == (25, ["m1"] * 3 + ["m2"])


async def test_a_model_whose_older_steps_are_cut_off_is_told() -> None:
    done, text = await history(Api(ROWS, bound=1, missed=1))
    assert [value for family, _, value, _ in samples(text) if family == "number"] == [20.0, 5.0]
    assert {model_id: error.message for model_id, error in done.errors.items()} == dict.fromkeys(
        ("m1", "m2"),
        "the older ones are beyond the quota or the bounds of one reading; the newer ones are written",
    )


async def test_metrics_beyond_the_limit_are_counted() -> None:
    done, _ = await history(Api(ROWS, bound=1, dropped=3))
    assert (done.left_out_metrics, done.errors) == ({"m1": 3, "m2": 3}, {})
    assert (await history(Api(ROWS)))[0].left_out_metrics == {}


async def test_a_model_without_steps_is_no_error() -> None:
    done, text = await history(Api({"m1": Gone("HTTP 404: none"), "m2": []}))
    assert samples(text) == []
    assert (done.models, done.errors) == (0, {})


async def test_what_all_models_would_meet_ends_the_text_unfinished() -> None:
    api = Api({**ROWS, "m1": QuotaSpent("spent")})
    out = io.BytesIO()
    with pytest.raises(QuotaSpent):
        await write_history(api, [CHAT, RERANK], out, labels={})
    assert api.asked == ["m1"]
    assert b"# EOF" not in out.getvalue()


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["job"], "must be NAME=VALUE"),
        (["1st=a"], "must be NAME=VALUE"),
        (["__name__=a"], "must be NAME=VALUE"),
        (["model_id=a"], "model_id is a label of the series already"),
        (["metric=a"], "metric is a label of the series already"),
        (["job=a", "job=b"], "job is given twice"),
        (["job=\udcff"], "the value of job must be UTF-8"),  # as the byte 0xff arrives
    ],
)
def test_labels_that_cannot_be_are_refused(texts: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_labels(texts)


def test_a_value_may_hold_anything() -> None:
    assert parse_labels(["job=a=b", "instance="]) == {"job": "a=b", "instance": ""}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1700000000.5", 1_700_000_000.5), ("2023-11-14T22:13:20Z", T0), ("2023-11-14T23:13:20+01:00", T0)],
)
def test_times_are_read(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["yesterday", "nan", "-inf", ""])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a time such as"):
        parse_time(text)


class Endless(Api):
    """Has steps for every model."""

    async def training_steps(
        self, model_id: str, known: TrainingProgress | None = None, cursor: Cursor | None = None
    ) -> StepReading:
        rows = [StepRow(step, T0 + step, {"loss": step / 7, "f1": step / 9}) for step in range(200)]
        return StepReading(TrainingProgress(step=199), rows)


class Nowhere(io.BytesIO):
    """Keeps nothing."""

    def write(self, data: Any, /) -> int:
        return len(data)


async def test_memory_does_not_grow_with_the_length_of_the_history() -> None:
    async def peak(models: int) -> int:
        fleet = (FinetunedModel(id=f"m{number}") for number in range(models))
        tracemalloc.start()
        try:
            done = await write_history(Endless({}), fleet, Nowhere(), labels={})
            assert done.rows == 200 * models
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    await peak(1)
    assert await peak(30) < 1.2 * await peak(3)


COMMAND = (sys.executable, "-m", "exporter", "history", "--demo")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (("--demo.models=10",), 0, "steps of"),
        (("--demo.models=10", "--training.metric-limit=1"), 0, "left out by --training.metric-limit"),
        (("no-such-model",), 1, "lists no model no-such-model"),
        (("--cohere.calls-per-month=5",), 1, "the history is not complete: the quota of 5 calls a month"),
        (("--label=metric=a",), 2, "metric is a label of the series already"),
        (("--label=job=\udcff",), 2, "the value of job must be UTF-8"),
    ],
    ids=["good", "metrics", "unknown model", "quota", "label", "bytes"],
)
async def test_the_command_ends_with_its_exit_code_and_a_complete_file_or_none(
    tmp_path: Path, flags: tuple[str, ...], code: int, words: str
) -> None:
    file = tmp_path / "steps.om"
    ended, out, err = await run(*COMMAND, *flags, f"--output={file}")
    assert (ended, out) == (code, "")
    assert words in err
    assert "\r" not in err
    assert "Traceback" not in err
    assert not file.exists() or file.read_text().endswith("# EOF\n")
    assert file.exists() is (code == 0)
    assert list(tmp_path.iterdir()) == ([file] if file.exists() else [])


@pytest.mark.slow
async def test_a_file_is_replaced_where_some_model_was_read_and_kept_where_none_was(tmp_path: Path) -> None:
    file = tmp_path / "steps.om"
    file.write_text("old")
    ended, _, err = await run(*COMMAND, "no-such-model", f"--output={file}")
    assert (ended, file.read_text()) == (1, "old")
    assert f"0 steps of 0 models; {file} is left as it was\n" in err
    fleet = ("--demo.models=10", "--demo.seed=1")
    _, text, _ = await run(*COMMAND, *fleet)
    read = text.split('model_id="')[1].split('"')[0]
    ended, _, err = await run(*COMMAND, *fleet, "no-such-model", read, f"--output={file}")
    assert (ended, file.read_text().endswith("# EOF\n")) == (1, True)
    assert "as it was" not in err


@pytest.mark.slow
async def test_a_terminal_sees_the_progress() -> None:
    terminal, other_end = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "--demo.models=10", stdout=asyncio.subprocess.DEVNULL, stderr=other_end
    )
    os.close(other_end)
    assert await process.wait() == 0
    shown = os.read(terminal, 1 << 16).decode()
    os.close(terminal)
    assert "\r1 of 10 models, " in shown
    assert "\r9 of 10 models, " in shown
