"""The history of a fleet as OpenMetrics: every step at its time, and what becomes of errors."""

import asyncio
import io
import math
import os
import pty
import sys
import tracemalloc
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from exporter.backfill import _print_what_is_missing
from exporter.errors import ApiError, Forbidden, Gone, QuotaSpent, ServerError
from exporter.history import LATE, History, parse_labels, parse_time, write_history
from exporter.model import FinetunedModel, Status, StepRow
from tests.programs import run

pytestmark = pytest.mark.anyio

T0 = 1_700_000_000.0
CHAT, RERANK = FinetunedModel(id="m1", name="chat"), FinetunedModel(id="m2", name="rerank")


@dataclass
class Api:
    """Answers with pages of rows, and an error instead or after them, by the model's id."""

    answers: Mapping[str, Sequence[StepRow] | ApiError]
    errors: Mapping[str, ApiError] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def all_steps(self, model_id: str) -> AsyncGenerator[list[StepRow]]:
        self.asked.append(model_id)
        answer = self.answers[model_id]
        if isinstance(answer, ApiError):
            raise answer
        for start in range(0, len(answer), 2):
            yield list(answer[start : start + 2])
        if model_id in self.errors:
            raise self.errors[model_id]


async def history(api: Api, labels: Mapping[str, str] | None = None, **wanted: Any) -> tuple[History, str]:
    out = io.BytesIO()
    done = await write_history(api.all_steps, [CHAT, RERANK], out, labels=labels or {}, **wanted)
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


@pytest.mark.parametrize("order", [list, lambda steps: sorted(steps, reverse=True)])
async def test_pages_in_any_order_come_out_in_that_of_time(
    order: Callable[[Iterable[int]], Iterable[int]],
) -> None:
    steps = [*order(step * 37 % 1100 for step in range(1100))]
    rows = [StepRow(step, T0 + step, {"loss": step / 7}) for step in (*steps, *steps[:10])]
    done, text = await history(Api({"m1": rows, "m2": []}))
    assert samples(text) == [
        *(("metric", "loss/m1/chat", step / 7, step) for step in range(1100)),
        *(("number", "m1/chat", step, step) for step in range(1100)),
    ]
    assert (done.rows, done.left_out) == (1100, {})


async def test_odd_values_and_large_steps_are_written_as_they_are() -> None:
    step = 2**63 - 1
    rows = [StepRow(step, T0 + 0.25, {"a": math.nan, "b": math.inf, "c": 5e-324, 'd"\\\n\0ü': -0.0})]
    text = (await history(Api({"m1": rows, "m2": []})))[1]
    assert [line.split()[-2:] for line in text.splitlines() if line.startswith("cohere")] == [
        ["NaN", "1700000000.250"],
        ["+Inf", "1700000000.250"],
        ["5e-324", "1700000000.250"],
        ["-0.0", "1700000000.250"],
        ["9.223372036854776e+18", "1700000000.250"],
    ]


async def test_metrics_beyond_the_limit_are_left_out_and_counted() -> None:
    rows = [
        StepRow(1, T0, {"f1": 0.5, "loss": 0.5, "precision": 0.5}),
        StepRow(2, T0 + 1, {"precision": 0.5, "loss": 0.5}),
    ]
    done, text = await history(Api({**ROWS, "m1": rows}), metric_limit=2)
    assert {name for family, name, *_ in samples(text) if family == "metric"} == {
        "MRR@10/m2/rerank",
        "loss/m1/chat",
        "precision/m1/chat",  # on more rows
    }
    assert (done.left_out_metrics, done.errors) == ({"m1": 1}, {})


@pytest.mark.parametrize("error", [Gone("HTTP 404"), ServerError("HTTP 500")])
async def test_a_model_is_written_whole_or_not_at_all(error: ApiError) -> None:
    done, text = await history(Api(ROWS, errors={"m1": error}))
    assert [value for family, _, value, _ in samples(text) if family == "number"] == [5.0]
    assert (done.errors, done.rows) == ({"m1": error}, 1)


@pytest.mark.parametrize(
    ("fields", "is_asked"),
    [
        ({"completed_at": T0, "status": Status.READY}, False),
        ({"completed_at": T0, "updated_at": T0 + 9e6, "status": Status.PAUSED}, False),
        ({"updated_at": T0, "status": Status.FAILED}, False),
        ({"updated_at": T0 + 9e6, "status": Status.FAILED}, True),
        ({"completed_at": T0 + 100, "status": Status.READY}, True),  # its last step may be later
        ({"completed_at": T0, "status": Status.FINETUNING}, True),
        ({"status": Status.READY}, True),
    ],
)
async def test_a_model_whose_run_ended_before_since_costs_no_call(
    fields: dict[str, Any], is_asked: bool
) -> None:
    api = Api(ROWS)
    model = FinetunedModel(id="m1", **fields)
    done = await write_history(api.all_steps, [model], Nowhere(), labels={}, since=T0 + LATE + 50)
    assert (api.asked, done.read) == (["m1"] * is_asked, 1)


async def test_a_model_without_steps_is_no_error() -> None:
    done, text = await history(Api({"m1": Gone("HTTP 404: none"), "m2": []}))
    assert samples(text) == []
    assert (done.models, done.errors) == (0, {})


async def test_what_all_models_would_meet_ends_it_with_what_was_read_and_names_the_rest() -> None:
    error = QuotaSpent("spent", status=429)
    api = Api({"m1": ROWS["m1"], "m2": ROWS["m2"], "m3": []}, errors={"m2": error})
    out = io.BytesIO()
    done = await write_history(api.all_steps, [CHAT, RERANK, FinetunedModel(id="m3")], out, labels={})
    assert api.asked == ["m1", "m2"]
    assert [name for family, name, *_ in samples(out.getvalue().decode()) if family == "number"] == [
        "m1/chat",
        "m1/chat",
    ]
    assert (done.ended_by, done.unread) == (error, ["m2", "m3"])


@pytest.mark.parametrize(
    ("refused", "asked", "unread"),
    [("1", "1234", ""), ("13", "1234", ""), ("12", "12", "34"), ("34", "1234", ""), ("1234", "12", "34")],
)
async def test_one_model_that_is_forbidden_costs_that_model_and_two_in_a_row_end_it(
    refused: str, asked: str, unread: str
) -> None:
    api = Api({number: Forbidden("HTTP 403") if number in refused else ROWS["m1"] for number in "1234"})
    done = await write_history(
        api.all_steps, [FinetunedModel(id=number) for number in "1234"], Nowhere(), labels={}
    )
    assert ("".join(api.asked), "".join(done.unread)) == (asked, unread)
    assert set(done.errors) == set(refused) & set(asked)


async def test_a_quota_short_of_a_further_page_leaves_out_that_model_only() -> None:
    spent = QuotaSpent("spent")
    api = Api({"1": ROWS["m1"], "2": ROWS["m1"], "3": spent, "4": []}, errors={"1": spent})
    done = await write_history(
        api.all_steps, [FinetunedModel(id=number) for number in "123"], Nowhere(), labels={}
    )
    assert (api.asked, done.models, done.ended_by, done.unread) == (["1", "2", "3"], 1, spent, ["3", "1"])
    api.answers = {**api.answers, "3": []}
    done = await write_history(
        api.all_steps, [FinetunedModel(id=number) for number in "123"], Nowhere(), labels={}
    )
    assert (done.models, str(done.ended_by), done.unread) == (1, "spent", ["1"])


def test_ids_do_not_act_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    wild = "m\x1b[2J\n"
    error = ServerError("HTTP 500")
    _print_what_is_missing(
        History(
            left_out={wild: 1},
            left_out_metrics={wild: 1},
            errors={wild: error},
            ended_by=error,
            unread=[wild],
        )
    )
    err = capsys.readouterr().err
    assert err.count("m?[2J?") == 4
    assert "\x1b" not in err


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


def test_milliseconds_are_refused() -> None:
    with pytest.raises(ValueError, match="must be Unix seconds, not milliseconds"):
        parse_time("1700000000000")


@pytest.mark.parametrize("text", ["yesterday", "nan", "-inf", "inf", ""])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a time such as"):
        parse_time(text)


class Nowhere(io.BytesIO):
    """Keeps nothing."""

    def write(self, data: Any, /) -> int:
        return len(data)


@dataclass
class Long(Api):
    """Has as many pages of 100 rows for every model, the newest first."""

    pages: int = 0

    async def all_steps(self, model_id: str) -> AsyncGenerator[list[StepRow]]:
        for page in reversed(range(self.pages)):
            yield [
                StepRow(step, T0 + step, {"loss": step / 7}) for step in range(page * 100, page * 100 + 100)
            ]


async def test_memory_grows_neither_with_a_run_nor_with_the_fleet() -> None:
    async def peak(models: int, pages: int) -> int:
        fleet = [FinetunedModel(id=f"m{number}") for number in range(models)]
        tracemalloc.start()
        try:
            done = await write_history(Long({}, pages=pages).all_steps, fleet, Nowhere(), labels={})
            assert done.rows == 100 * pages * models
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    await peak(1, 1)
    least = await peak(1, 10)  # as many lines as are written at once
    assert await peak(1, 20) < 1.2 * least
    assert await peak(2, 10) < 1.2 * least


TO_GO_ON = "not read; name these models to go on: "
COMMAND = (sys.executable, "-m", "exporter", "history", "--demo")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (("--demo.models=10",), 0, "steps of"),
        (("--demo.models=10", "--training.metric-limit=1"), 0, "left out by --training.metric-limit"),
        (("no-such-model",), 1, "lists no model no-such-model"),
        (("--cohere.calls-per-month=1",), 1, "the history is not complete: the quota of 1 calls a month"),
        (("--demo.seed=1", "--demo.models=10", "--cohere.calls-per-month=20"), 1, TO_GO_ON),
        (("--label=metric=a",), 2, "metric is a label of the series already"),
        (("--label=job=\udcff",), 2, "the value of job must be UTF-8"),
    ],
    ids=["good", "metrics", "unknown model", "no quota", "quota", "label", "bytes"],
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
    assert file.exists() is (code == 0 or words == TO_GO_ON)
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
