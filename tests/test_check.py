"""What `check` prints, for people at terminals of any width and for programs."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from exporter.check import ApiAddress, document, failure, failure_document, table
from exporter.columns import width
from exporter.model import FinetunedModel, ModelState, PollOutcome, Snapshot, Status, TrainingProgress

NOW = 1_700_000_000.0
ASKED = ApiAddress("https://api.cohere.com")
PROGRESS = TrainingProgress(
    step=560,
    step_at=NOW - 60,
    metrics={"accuracy": 0.69661, "cross_entropy": 1.239, "generation_accuracy": 0.7},
)


def state(name: str, status: str = Status.READY, progress: TrainingProgress | None = PROGRESS) -> ModelState:
    model = FinetunedModel(
        id=f"id-of-{name}",
        name=name,
        status=status,
        base_model="command-r",
        base_model_version="08-2024",
        created_at=NOW - 7_200,
    )
    return ModelState(model, progress)


def snapshot(*states: ModelState) -> Snapshot:
    counts: dict[str, int] = {}
    for each in states:
        counts[each.model.status] = counts.get(each.model.status, 0) + 1
    return Snapshot(states=states, status_counts=counts)


FLEET = snapshot(
    state("support-chat-v12"),
    state("sales-chat-v9-with-a-long-name", Status.TEMPORARILY_OFFLINE),
    state("tool-use-chat-v3", Status.QUEUED, None),
    state("intent-router-v5", Status.FAILED),
)


def test_a_wide_table_shows_everything_failed_models_first() -> None:
    header, *rows = table(FLEET, ASKED, NOW, max_width=None).splitlines()
    assert header.split() == ["STATUS", "NAME", "STEP", "LATEST", "EVALUATION", "AGE", "BASE", "MODEL", "ID"]
    assert " ".join(rows[0].split()) == (
        "FAILED intent-router-v5 560 accuracy=0.6966 cross_entropy=1.239 generation_accuracy=0.7 "
        "2h command-r 08-2024 id-of-intent-router-v5"
    )
    assert " ".join(rows[1].split()) == (
        "QUEUED tool-use-chat-v3 - - 2h command-r 08-2024 id-of-tool-use-chat-v3"
    )
    assert [row.split()[0] for row in rows[2:4]] == ["TEMPORARILY_OFFLINE", "READY"]
    assert rows[4:] == [
        "",
        "4 models at https://api.cohere.com: 1 FAILED, 1 QUEUED, 1 TEMPORARILY_OFFLINE, 1 READY",
    ]


def test_at_80_columns_names_are_shortened_and_the_least_important_columns_dropped() -> None:
    assert table(FLEET, ASKED, NOW, max_width=80).splitlines() == [
        "STATUS        NAME               STEP  EVAL LOSS            EVAL SCORE       AGE",
        "FAILED        intent-router-v5   560   cross_entropy=1.239  accuracy=0.6966  2h",
        "QUEUED        tool-use-chat-v3   -     -                    -                2h",
        "TEMPORARILY…  sales-chat-v9-wi…  560   cross_entropy=1.239  accuracy=0.6966  2h",
        "READY         support-chat-v12   560   cross_entropy=1.239  accuracy=0.6966  2h",
        "",
        "4 models at https://api.cohere.com: 1 FAILED, 1 QUEUED, 1 TEMPORARILY_OFFLINE,",
        "1 READY",
    ]


@pytest.mark.parametrize("max_width", [80, 120])
def test_the_page_of_first_steps_shows_these_columns(max_width: int) -> None:
    page = (Path(__file__).parents[1] / "docs" / "first-steps.md").read_text(encoding="utf-8")
    shown = re.search(
        rf"^## check at {max_width} columns$.*?^\$ .*? check --demo\n(.*?)\n", page, re.MULTILINE | re.DOTALL
    )
    assert shown
    assert shown[1].split() == table(FLEET, ASKED, NOW, max_width=max_width).splitlines()[0].split()


@pytest.mark.parametrize("max_width", [28, 40, 60, 80, 100, 120, 200])
def test_no_line_is_wider_than_the_terminal_and_no_number_is_cut(max_width: int) -> None:
    fleet = snapshot(*FLEET.states, state("微调模型-客服-第十二版-很长的名字"))
    printed = table(fleet, ASKED, NOW, max_width=max_width)
    assert all(width(line) <= max_width for line in printed.splitlines())
    assert printed.count("=1.239") in (0, 4)
    assert printed.count("=0.6966") in (0, 4)
    assert "FAILED" in printed
    assert "intent-router" in printed


@pytest.mark.parametrize("max_width", [20, 24, 28])
def test_a_narrow_terminal_has_status_and_name(max_width: int) -> None:
    assert table(FLEET, ASKED, NOW, max_width=max_width).splitlines()[0].split() == ["STATUS", "NAME"]


def test_colour_repeats_the_status_and_takes_no_room() -> None:
    plain = table(FLEET, ASKED, NOW, max_width=80)
    coloured = table(FLEET, ASKED, NOW, max_width=80, colour=True)
    assert "\x1b[1;31mFAILED\x1b[0m        intent-router-v5" in coloured
    for code in ("1", "1;31", "36", "33", "32", "0"):
        coloured = coloured.replace(f"\x1b[{code}m", "")
    assert [line.rstrip() for line in coloured.splitlines()] == plain.splitlines()


def test_what_a_terminal_might_act_on_is_shown_as_a_question_mark() -> None:
    assert "evil?[2J" in table(snapshot(state("evil\x1b[2J")), ASKED, NOW, max_width=None)


def test_no_models_one_model_and_models_left_out_are_counted() -> None:
    empty = snapshot()
    assert table(empty, ApiAddress("", simulated=True), NOW, max_width=80) == "0 models at the simulated API"
    assert "1 model at" in table(snapshot(state("a")), ASKED, NOW, max_width=80)
    left_out = replace(empty, status_counts={"STATUS_READY": 3}, dropped=3)
    assert table(left_out, ASKED, NOW, max_width=None).endswith(
        "3 READY; 3 of them left out by --models.limit"
    )


def test_json_has_the_names_of_the_api_and_leaves_out_what_it_did_not_give() -> None:
    progress = TrainingProgress(
        step=3,
        metrics={"loss": math.nan, "f1": math.inf},
        metric_steps={"loss": 3, "f1": 2},
        lowest={"loss": 0.5},
        highest={"loss": 0.75},
    )
    written = json.loads(document(snapshot(state("a", progress=progress)), ASKED, ["HTTP 500"]))
    assert written == {
        "api": {"url": "https://api.cohere.com"},
        "models": [
            {
                "id": "id-of-a",
                "name": "a",
                "status": "STATUS_READY",
                "base_model": "command-r",
                "base_model_version": "08-2024",
                "multi_label": False,
                "created_at": "2023-11-14T20:13:20Z",
                "hyperparameters": {},
                "training": {
                    "step": 3,
                    "metrics": {"loss": "NaN", "f1": "Infinity"},
                    "metric_steps": {"loss": 3, "f1": 2},
                    "lowest": {"loss": 0.5},
                    "highest": {"loss": 0.75},
                    "dropped": 0,
                },
            }
        ],
        "statuses": {"STATUS_READY": 1},
        "dropped": 0,
        "unread": ["HTTP 500"],
    }


def test_a_failure_says_which_api_was_asked_why_and_what_to_do() -> None:
    outcome = PollOutcome(finished_at=NOW, duration=1, reason="gone", message="HTTP 404", advice="Look.")
    assert failure(outcome, ASKED).splitlines() == [
        "cannot poll https://api.cohere.com: HTTP 404",
        "  reason:     gone",
        "  what to do: Look.",
    ]
    assert json.loads(failure_document(outcome, ASKED)) == {
        "api": {"url": "https://api.cohere.com"},
        "error": {"reason": "gone", "message": "HTTP 404", "advice": "Look."},
    }


@pytest.mark.parametrize("max_width", range(30, 100))
def test_a_number_stays_with_its_status(max_width: int) -> None:
    counts = {"STATUS_READY": 12, "STATUS_FAILED": 3, "STATUS_TEMPORARILY_OFFLINE": 41}
    summary = table(Snapshot(states=(), status_counts=counts), ASKED, NOW, max_width=max_width).splitlines()
    for part in ("12 READY", "3 FAILED", "41 TEMPORARILY_OFFLINE"):
        assert any(part in line for line in summary)
