"""What the dashboards' queries answer on series whose answer is known, calculated by promtool."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from grafana.comparison import PREDECESSOR
from tests.dashboards import QUERIES, filled
from tests.editions import every_edition_at_night
from tests.firing import compared

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

HOUR = 3600
DAYS = 20
NOW = DAYS * 24 * HOUR
"""Samples come every half hour, from time 0 until now."""
LABELS = ("cluster", "namespace", "job", "instance", "base_type", "dataset", "creator")
CHOSEN = dict.fromkeys(LABELS, ".*") | {"model_id": "b", "metric": "loss", "compare": "none", "baseline": "a"}
CHOSEN |= {"predecessor": "a", "__range": "24h", "__rate_interval": "2h"}

Values = list[tuple[float, float | None]]
"""From which hour before now on (counted down) a series has which value; None: no samples."""


@dataclass(frozen=True)
class Case:
    """A query of a dashboard, series by their names, and the answer by its labels."""

    name: str
    place: str
    series: Mapping[str, float | Values]
    answer: dict[str, float]
    variables: dict[str, str] = field(default_factory=dict)


def model(family: str, model_id: str, **labels: str) -> str:
    """Return the name of a series of a model."""
    inner = ",".join(
        f'{name}="{value}"' for name, value in {"job": "j", "model_id": model_id, **labels}.items()
    )
    return f"cohere_finetuned_model_{family}{{{inner}}}"


def failed(model_id: str) -> str:
    return model("status", model_id, status="STATUS_FAILED")


def updated(model_id: str) -> str:
    return model("updated_timestamp_seconds", model_id)


def ago(hours: float) -> float:
    return NOW - hours * HOUR


EXPRESSIONS = {query.place: query.expr for query in QUERIES} | {"model: predecessor": PREDECESSOR}
LAST_SUCCESS, STALE_AFTER = (
    f'cohere_exporter_{name}_seconds{{job="%s"}}' for name in ("last_success_timestamp", "stale_after")
)
FRESH = {LAST_SUCCESS % "a": ago(0.01), STALE_AFTER % "a": 600.0}
INFO = {
    model("info", "a", model_name="one", base_type="CHAT", dataset_id="d", creator_id="x"): 1.0,
    model("info", "b", model_name="two", base_type="CHAT", dataset_id="d", creator_id="x"): 1.0,
}
ALERTING = {
    "A": 'cluster="c",namespace="ns",job="j",model_id="a",model_name="n"',
    "B": 'job="j",instance="i:1"',
    "C": 'namespace="ns",job="j",reason="timeout"',
}
TO_MODEL, TO_EXPORTER = (f'board="cohere-finetuning-{board}"' for board in ("model", "exporter"))

CASES = [
    Case(
        "the age of the data is that of the worst account",
        "fleet: Age of data A",
        {**FRESH, LAST_SUCCESS % "b": ago(0.5), STALE_AFTER % "b": 600.0},
        {'age="stale"': 1800},
    ),
    Case(
        "an account whose exporter vanished is worse than a stale one",
        "fleet: Age of data A",
        {
            LAST_SUCCESS % "a": ago(8),
            STALE_AFTER % "a": 600.0,
            LAST_SUCCESS % "b": [(480, ago(6)), (5, None)],
            STALE_AFTER % "b": [(480, 600.0), (5, None)],
        },
        {'age="gone"': 6 * HOUR},
    ),
    Case(
        "data is not fresh once its exporter has vanished, however young it is",
        "exporter: Age of data A",
        {
            LAST_SUCCESS % "a": [(480, ago(0.6)), (0.4, None)],
            STALE_AFTER % "a": [(480, 36000.0), (0.4, None)],
        },
        {'age="gone"': 2160},
    ),
    Case(
        "another instance of the account keeps its data fresh",
        "fleet: Age of data A",
        {
            LAST_SUCCESS.replace("%s", 'a",instance="2'): [(480, ago(6)), (5, None)],
            **FRESH,
        },
        {'age="fresh"': 36},
    ),
    Case(
        "an account that never succeeded has no fresh data, whatever another one has",
        "fleet: Age of data A",
        {**FRESH, LAST_SUCCESS % "b": 0.0, STALE_AFTER % "b": 600.0},
        {'age="never"': -1},
    ),
    Case(
        "a clock that is ahead makes no negative age",
        "fleet: Age of data A",
        {LAST_SUCCESS % "a": ago(-0.1), STALE_AFTER % "a": 600.0},
        {'age="fresh"': 0},
    ),
    Case(
        "another instance of the account keeps the API up",
        "fleet: API A",
        {'cohere_up{job="a",instance="1"}': 1, 'cohere_up{job="a",instance="2"}': [(480, 0), (5, None)]},
        {"": 1},
    ),
    Case(
        "an alert that fires names its model or instance and its account, and leads to its dashboard",
        "fleet: Alerts that fire A",
        {
            f'ALERTS{{alertname="Cohere{name}",alertstate="firing",severity="warning",{labels}}}': 1.0
            for name, labels in ALERTING.items()
        }
        | {f'ALERTS_FOR_STATE{{alertname="CohereA",severity="warning",{ALERTING["A"]}}}': ago(2)},
        {
            f'alertname="CohereA",severity="warning",{ALERTING["A"]},about="n",account="c/ns/j",{TO_MODEL}'.replace(
                ',model_name="n"', ""
            ): 1000 * ago(2),
            'alertname="CohereB",severity="warning",job="j",about="i:1",account="j",' + TO_EXPORTER: 0,
            'alertname="CohereC",severity="warning",namespace="ns",job="j",account="ns/j",' + TO_EXPORTER: 0,
        },
    ),
    Case(
        "models of one name have lines of their own, sorted by name",
        "fleet: Status of models over time A",
        {
            model("status", f"{each}-0123456789", model_name="n", status="STATUS_FAILED"): 1.0
            for each in ("aaa", "bbb")
        },
        {'model="n · aaa-0123"': 9, 'model="n · bbb-0123"': 9},
    ),
    Case(
        "the best run of a dataset has the lowest loss and the highest accuracy",
        "fleet: Best of each dataset A",
        {
            **INFO,
            model("training_metric_min", "a", metric="loss"): 0.2,
            model("training_metric_min", "b", metric="loss"): 0.3,
            model("training_metric_max", "a", metric="loss"): 0.9,
            model("training_metric_max", "a", metric="accuracy"): 0.8,
            model("training_metric_max", "b", metric="accuracy"): 0.9,
        },
        {
            'job="j",model_id="a",model_name="one",base_type="CHAT",dataset_id="d",metric="loss"': 0.2,
            'job="j",model_id="b",model_name="two",base_type="CHAT",dataset_id="d",metric="accuracy"': 0.9,
        },
    ),
    Case(
        "datasets of two accounts are not compared, even if they have one id",
        "fleet: Best of each dataset A",
        {
            f'cohere_finetuned_model_{family}{{job="{job}",model_id="{job}",{labels}}}': value
            for job, best in (("x", 0.2), ("y", 0.3))
            for family, labels, value in (
                ("info", 'base_type="CHAT",dataset_id="d",model_name="n"', 1.0),
                ("training_metric_min", 'metric="loss"', best),
            )
        },
        {
            f'job="{job}",model_id="{job}",model_name="n",base_type="CHAT",dataset_id="d",metric="loss"': best
            for job, best in (("x", 0.2), ("y", 0.3))
        },
    ),
    Case(
        "the predecessor is the model of the same name and account that was created last before",
        "model: predecessor",
        {
            model("created_timestamp_seconds", "b", model_name="n"): ago(10),
            model("created_timestamp_seconds", "old", model_name="n"): ago(30),
            model("created_timestamp_seconds", "older", model_name="n"): ago(40),
            model("created_timestamp_seconds", "newer", model_name="n"): ago(5),
            model("created_timestamp_seconds", "named-otherwise", model_name="m"): ago(20),
            model("created_timestamp_seconds", "elsewhere", model_name="n", cluster="other"): ago(20),
        },
        {'job="j",model_id="old",model_name="n"': ago(30)},
    ),
    *(
        Case(
            f"{share} of the runs take no longer than the number says",
            f"fleet: Turnaround {query}",
            {
                **INFO,
                model("created_timestamp_seconds", "a"): ago(50),
                model("completed_timestamp_seconds", "a"): ago(48),
                model("created_timestamp_seconds", "b"): ago(30),
                model("completed_timestamp_seconds", "b"): ago(26),
            },
            {'base_type="CHAT"': hours * HOUR},
        )
        for share, query, hours in (("half", "B", 3), ("nine of ten", "C", 3.8))
    ),
    Case(
        "runs count in the week in which they finished or failed, and every week has a number",
        "fleet: Finished and failed by week A",
        {
            **INFO,
            model("completed_timestamp_seconds", "a"): ago(72),
            failed("b"): 1.0,
            updated("b"): ago(240),
        },
        {
            f'base_type="CHAT",how="{how}",run="CHAT {how}",week="{week}"': float(week == ended)
            for how, ended in (("finished", 0), ("failed", 1))
            for week in range(8)
        },
    ),
    Case(
        "a ready model that nobody used for 30 days is unused, also one that never was",
        "fleet: Unused for 30 days B",
        {
            **{model("status", each, status="STATUS_READY"): 1.0 for each in "abcd"},
            **{model("created_timestamp_seconds", each): ago(800) for each in "abc"},
            model("created_timestamp_seconds", "d"): ago(100),
            model("last_used_timestamp_seconds", "a"): ago(744),
            model("last_used_timestamp_seconds", "b"): ago(24),
            **{model("info", each, base_type="CHAT", dataset_id="d", creator_id="x"): 1.0 for each in "abcd"},
        },
        {'job="j",model_id="a"': 1000 * ago(744), 'job="j",model_id="c"': 0},
    ),
    Case(
        "a run is measured against the median of the finished runs of its base type",
        "model: Elapsed, and typical A",
        {
            **INFO,
            model("info", "c", base_type="RERANK"): 1.0,
            model("status", "b", status="STATUS_FINETUNING"): 1.0,
            model("created_timestamp_seconds", "b"): ago(5),
            **{model("created_timestamp_seconds", each): ago(50) for each in "ac"},
            model("completed_timestamp_seconds", "a"): ago(48),
            model("completed_timestamp_seconds", "c"): ago(40),
        },
        {'what="so far"': 5 * HOUR, 'what="typical"': 2 * HOUR},
    ),
    *(
        Case(
            f"Weights & Biases is linked with both an entity and a project, not {without}",
            "model: Weights & Biases A",
            {model("info", "b", **labels): 1.0},
            {'wandb_entity="e",wandb_project="p"': 1} if len(labels) == 2 else {},
        )
        for without, labels in (
            ("less", {"wandb_entity": "e", "wandb_project": "p"}),
            ("without an entity", {"wandb_project": "p"}),
            ("without a project", {"wandb_entity": "e"}),
        )
    ),
    Case(
        "the baseline is read where it was no further than this model is now",
        "model: Evaluation G",
        {
            model("training_metric_step", "b", metric="loss"): 25,
            model("training_metric_step", "a", metric="loss"): [(48, 10), (47, 20), (46, 30)],
            model("training_metric", "a", metric="loss"): [(48, 0.9), (47, 0.7), (46, 0.5)],
        },
        {'metric="loss"': 0.7},
    ),
    Case(
        "of the models to compare the five created last are drawn, and the model itself",
        "model: One evaluation metric by training step B",
        {
            **{model("training_metric", each, model_name=each, metric="loss"): 0.5 for each in "bcdefgh"},
            **{model("info", each, model_name=each): 1.0 for each in "bcdefgh"},
            **{
                model("created_timestamp_seconds", each): ago(hours)
                for hours, each in enumerate("hgdefb", start=1)
            },
        },
        {f'model="{each} · {each}"': 0.5 for each in "bhgdef"},
        variables={"compare": "c|d|e|f|g|h"},
    ),
]


@every_edition_at_night
async def test_the_queries_answer_what_is_known(tmp_path: Path) -> None:
    assert not await compared(tmp_path, [group(case) for case in CASES], evaluation_interval="30m")


def group(case: Case) -> dict[str, object]:
    """Return a case as promtool reads it."""
    answer = [{"labels": f"{{{labels}}}", "value": value} for labels, value in case.answer.items()]
    query = {
        "expr": filled(EXPRESSIONS[case.place], CHOSEN | case.variables),
        "eval_time": f"{NOW}s",
        "exp_samples": answer,
    }
    series = [{"series": name, "values": values(given)} for name, given in case.series.items()]
    return {"name": case.name, "interval": "30m", "input_series": series, "promql_expr_test": [query]}


def values(given: float | Values) -> str:
    """Return a series in promtool's notation."""
    if not isinstance(given, list):
        return f"{given}+0x{2 * 24 * DAYS}"
    parts = []
    ends = [*(hours for hours, _ in given[1:]), -0.5]
    for (start, value), end in zip(given, ends, strict=True):
        count = round(2 * (start - end))
        parts.append(f"_x{count}" if value is None else f"{value}+0x{count - 1}")
    return " ".join(parts)
