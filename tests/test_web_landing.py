"""What a person reads on the landing page."""

import math
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.families import UNKNOWN_STATUSES_LIMIT
from exporter.model import FinetunedModel, ModelState, PollOutcome, Snapshot, Status, TrainingProgress
from exporter.web.landing import Overview, content_security_policy
from exporter.web.landing import render as rendered
from exporter.web.recent import Curve
from exporter.web.search import PAGE_SIZE

NOW = 1_700_000_000.0
VOID = {"meta", "link", "br", "hr", "img", "input"}
WORKED = PollOutcome(finished_at=NOW - 12, duration=0.4)
FAILED = PollOutcome(finished_at=NOW - 12, duration=0.4, reason="unauthorized", message="invalid api token")


def state(number: int, status: str = Status.READY, **fields: Any) -> ModelState:
    model = FinetunedModel(
        id=f"id-{number}", name=f"model-{number}", status=status, created_at=NOW - 7_300, **fields
    )
    return ModelState(
        model, TrainingProgress(step=1_280, metrics={"cross_entropy": 1.23456, "accuracy": 0.7})
    )


def fleet(*states: ModelState, dropped: int = 0) -> Snapshot:
    counts = Counter(each.model.status for each in states)
    return Snapshot(states=states, status_counts=counts, dropped=dropped)


def counted(counts: Mapping[str, int], dropped: int = 0) -> Snapshot:
    return Snapshot(states=(), status_counts=counts, dropped=dropped)


FLEET = fleet(
    *(state(number) for number in range(12)), *(state(12 + number, Status.FINETUNING) for number in range(3))
)
OVERVIEW = Overview(
    name="cohere-finetune-exporter",
    version="1.2.3",
    revision="4f2c91e",
    telemetry_path="/metrics",
    api_url="https://api.cohere.com",
    simulated=False,
    outcome=WORKED,
    last_success_at=NOW - 12,
    interval=60,
    stale_after=300,
    snapshot=FLEET,
    now=NOW,
)


def render(overview: Overview, query: str = "") -> str:
    return rendered(overview, query).decode()


class Page(HTMLParser):
    """A page as its reader has it: text, elements and attributes; fails on elements left open."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.lists: dict[str, list[str]] = {}
        self._list: list[str] = []
        self._open: list[str] = []
        self._texts: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open, f"left open: {self._open}"

    @property
    def text(self) -> str:
        return " ".join("".join(self._texts).split())

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if label := dict(attrs).get("aria-label"):
            self._list = self.lists.setdefault(label, [])
        if tag == "li":
            self._list.append("")
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self._texts.append(data)
        if {"th", "td"} & set(self._open):
            self.rows[-1][-1] += data
        if "li" in self._open:
            self._list[-1] += data


def test_a_poll_that_worked_is_said_to_have_worked_with_its_time() -> None:
    page = Page(render(OVERVIEW))
    assert "The last poll succeeded" in page.text
    assert "12 s ago (2023-11-14 22:13:08 UTC)" in page.text
    assert {"datetime": "2023-11-14T22:13:08Z"} in page.attributes("time")
    assert "every 1 min" in page.text


def test_the_calls_left_are_told_where_there_is_a_budget() -> None:
    page = render(replace(OVERVIEW, calls_left=1234))
    assert "<dt>Calls left</dt><dd>1,234 of the monthly quota</dd>" in page
    assert "Calls left" not in render(OVERVIEW)


def chips(page: Page) -> list[str]:
    return page.lists.get("Models in each status", [])


def test_each_status_that_has_models_is_counted_failed_first_and_one_unknown_to_us_too() -> None:
    counts = {"STATUS_READY": 1_200, "STATUS_REPAIRING": 1, "STATUS_FAILED": 2, "STATUS_QUEUED": 0}
    page = Page(render(replace(OVERVIEW, snapshot=counted(counts))))
    assert "1,203 models" in page.text
    assert chips(page) == ["2 FAILED", "1,200 READY", "1 REPAIRING"]


def test_few_of_many_statuses_unknown_to_us_are_named() -> None:
    counts = {f"STATUS_{number}": 2 for number in range(1_000)}
    page = Page(render(replace(OVERVIEW, snapshot=counted(counts))))
    assert "2,000 models" in page.text
    assert len(chips(page)) == UNKNOWN_STATUSES_LIMIT + 1
    assert chips(page)[-1] == f"{2 * (1_000 - UNKNOWN_STATUSES_LIMIT):,} other"


@pytest.mark.parametrize(
    ("ready", "dropped", "words"), [(1, 0, "1 model "), (0, 0, "0 models"), (300, 203, "203 of them")]
)
def test_the_fleet_is_counted_in_words(ready: int, dropped: int, words: str) -> None:
    models = counted({"STATUS_READY": ready} if ready else {}, dropped=dropped)
    assert words in Page(render(replace(OVERVIEW, snapshot=models))).text


def test_models_are_shown_failed_first_with_their_latest_step_and_metrics() -> None:
    models = fleet(
        state(1, base_model="command-r", base_model_version="08-2024"),
        ModelState(FinetunedModel(id="id-2", status=Status.QUEUED)),
        state(3, Status.FAILED),
    )
    assert Page(render(replace(OVERVIEW, snapshot=models))).rows == [
        ["Status", "Model", "Step", "Loss", "Score", "Created"],
        ["! FAILED", "model-3", "1,280", "1.235cross_entropy", "0.7accuracy", "2 h ago"],
        ["QUEUED", "id-2", "", "", "", ""],
        ["READY", "model-1command-r 08-2024", "1,280", "1.235cross_entropy", "0.7accuracy", "2 h ago"],
    ]


def test_a_model_in_training_has_a_sparkline_beneath_its_metric() -> None:
    steps, values = array("q", [1, 2]), array("d", [2.0, 1.0])
    curves = {"id-13": Curve("accuracy", steps, values), "id-14": Curve("cross_entropy", steps, values)}
    page = Page(render(replace(OVERVIEW, curves=curves)))
    assert [row[3:5] for row in page.rows if "Steps" in "".join(row)] == [
        ["1.235cross_entropy", "0.7accuracySteps 1 to 2: from 2 to 1"],
        ["1.235cross_entropySteps 1 to 2: from 2 to 1", "0.7accuracy"],
    ]
    assert len(page.attributes("path")) == 2


def test_a_status_has_the_colour_of_what_it_asks_for_and_its_word() -> None:
    html = render(replace(OVERVIEW, snapshot=fleet(*(state(0, status) for status in Status))))
    for kind, word in {
        "alarm": "! FAILED",
        "busy": "FINETUNING",
        "warn": "TEMPORARILY OFFLINE",
        "good": "READY",
        "quiet": "UNSPECIFIED",
    }.items():
        assert f'<span class="chip {kind}">{word}</span>' in html
    assert '<span class="chip warn">PAUSED</span>' in html


def test_a_metric_that_is_no_number_is_marked() -> None:
    lost = ModelState(state(1).model, TrainingProgress(step=3, metrics={"loss": math.nan}))
    html = render(replace(OVERVIEW, snapshot=fleet(lost)))
    assert '<span class="chip alarm">NaN</span><span class="metric">loss</span>' in html


MANY = fleet(
    *(state(number, Status.FAILED if number % 1_000 == 0 else Status.READY) for number in range(10_000))
)
LARGE = replace(OVERVIEW, snapshot=MANY)


def test_of_many_models_a_page_is_shown_at_a_time() -> None:
    first, last = Page(render(LARGE)), Page(render(LARGE, "page=100"))
    assert [row[0] for row in first.rows[1:12]] == ["! FAILED"] * 10 + ["READY"]
    assert len(first.rows) == len(last.rows) == 1 + PAGE_SIZE
    assert "1 to 100 of 10,000" in first.text
    assert first.lists["More models"] == ["Next"]
    assert "9,901 to 10,000 of 10,000" in last.text
    assert last.lists["More models"] == ["Previous"]
    assert Page(render(LARGE, "page=999999")).rows == last.rows
    assert len(render(LARGE)) < 60_000


def test_models_are_searched_by_name_id_and_base_model() -> None:
    assert [row[1] for row in Page(render(LARGE, "q=MODEL-4711")).rows[1:]] == ["model-4711"]
    assert [row[1] for row in Page(render(LARGE, "q=id-9999")).rows[1:]] == ["model-9999"]
    assert "No model matches" in Page(render(LARGE, "q=xyzzy")).text
    found = Page(render(LARGE, "q=model-1&status=STATUS_FAILED"))
    assert [row[1] for row in found.rows[1:]] == ["model-1000"]
    fields = {field["name"]: field["value"] for field in found.attributes("input")}
    assert fields == {"q": "model-1", "status": "STATUS_FAILED"}
    assert {"class": "chip alarm", "href": "./?", "aria-current": "true"} in found.attributes("a")


@pytest.mark.parametrize(
    "query", ["page=0", "page=-1", "page=x", "page=²", "q=", "&&&=", "a=1" * 10_000, "page=" + "9" * 5_000]
)
def test_a_query_that_makes_no_sense_asks_for_nothing(query: str) -> None:
    assert render(LARGE, query) == render(LARGE)


def test_few_models_need_no_search() -> None:
    assert Page(render(OVERVIEW)).attributes("form") == []
    assert Page(render(LARGE)).attributes("form") == [{"action": "./", "role": "search"}]


def test_a_failed_poll_gives_its_reason_its_message_and_what_to_do() -> None:
    page = Page(render(replace(OVERVIEW, outcome=replace(FAILED, advice="Look at the <key>."))))
    assert "The last poll failed" in page.text
    assert "unauthorized: invalid api token" in page.text
    assert "Look at the <key>." in page.text


def test_while_the_api_fails_the_last_good_numbers_are_shown_as_such() -> None:
    page = Page(render(replace(OVERVIEW, outcome=FAILED, last_success_at=NOW - 194)))
    assert "15 models" in page.text
    assert "from the last successful poll" in page.text
    assert "3 min 14 s ago" in page.text


def test_stale_numbers_are_not_shown_and_it_says_why() -> None:
    page = Page(render(replace(OVERVIEW, outcome=FAILED, last_success_at=NOW - 94_000, snapshot=None)))
    assert "stale: the last successful poll was more than 5 min ago" in page.text
    assert "1 d 2 h ago" in page.text
    assert not page.rows


@pytest.mark.parametrize(
    ("outcome", "words"), [(None, "Waiting for the first poll"), (FAILED, "No poll has succeeded yet")]
)
def test_before_any_good_poll_it_says_so(outcome: PollOutcome | None, words: str) -> None:
    page = Page(render(replace(OVERVIEW, outcome=outcome, last_success_at=None, snapshot=None)))
    assert words in page.text
    assert not page.rows


def test_simulated_data_is_announced_and_only_then() -> None:
    assert "Simulated data" in Page(render(replace(OVERVIEW, simulated=True))).text
    assert "Simulated data" not in Page(render(OVERVIEW)).text


def test_it_links_to_the_other_pages() -> None:
    links = Page(render(replace(OVERVIEW, telemetry_path="/m&m"))).attributes("a")
    assert [link["href"] for link in links[-3:]] == ["./m&m", "./-/healthy", "./-/ready"]
    assert all(str(link["href"]).startswith("./") for link in links), "they work behind a path prefix"


def test_it_can_be_read_by_machines_and_on_phones() -> None:
    page = Page(render(OVERVIEW))
    assert page.attributes("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.attributes("meta")
    assert {tag for tag, _ in page.elements} >= {"title", "h1", "h2", "main", "nav", "caption"}
    assert all(attributes["scope"] in ("row", "col") for attributes in page.attributes("th"))


def test_it_loads_nothing_and_runs_nothing() -> None:
    html = render(OVERVIEW)
    page = Page(html)
    assert not {tag for tag, _ in page.elements} & {"script", "img", "iframe", "object"}
    assert page.attributes("link") == [{"rel": "icon", "href": "data:,"}]
    assert all(not name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert "url(" not in html
    assert len(html) < 16_000


def test_its_policy_allows_its_own_style_sheet_only() -> None:
    policy = content_security_policy()
    assert "default-src 'none'" in policy
    assert "style-src 'sha256-" in policy
    assert "unsafe" not in policy
    assert 'style="' not in render(OVERVIEW)


def test_the_metrics_are_said_to_be_of_evaluation() -> None:
    assert "Loss and score are evaluation metrics" in Page(render(OVERVIEW)).text


def test_a_clock_that_went_back_gives_no_negative_age() -> None:
    assert "0 s ago" in Page(render(replace(OVERVIEW, now=NOW - 1_000))).text


@settings(deadline=None)  # the machine may be busy
@given(st.text().map(lambda text: f"<script>{text}</script>\"'&lt;"))
def test_no_text_gets_out_of_its_place(text: str) -> None:
    failed = replace(FAILED, reason=text, message=text)
    names = replace(OVERVIEW, name=text, version=text, revision=text, telemetry_path=text, api_url=text)
    model = FinetunedModel(id=text, name=text, status=text, base_model=text)
    odd = fleet(ModelState(model, TrainingProgress(step=1, metrics={text: 1.0})))
    plain = FinetunedModel(id="i", name="n", status="STATUS_NEW", base_model="b")
    usual = fleet(ModelState(plain, TrainingProgress(step=1, metrics={"m": 1.0})))
    query = urlencode({"q": text, "status": text}, errors="replace")
    page = Page(render(replace(names, outcome=failed, snapshot=odd), query))
    expected = Page(render(replace(OVERVIEW, outcome=FAILED, snapshot=usual), "q=n&status=STATUS_NEW"))
    # In any order: a metric whose name says loss is in another column.
    assert Counter(tag for tag, _ in page.elements) == Counter(tag for tag, _ in expected.elements)


def test_a_next_poll_later_than_usual_is_announced() -> None:
    failed = replace(OVERVIEW, outcome=FAILED)
    assert "next one" not in Page(render(replace(failed, next_poll_at=NOW + 48))).text
    assert "the next one in 4 min" in Page(render(replace(failed, next_poll_at=NOW + 240))).text
