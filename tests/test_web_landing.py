"""What a person reads on the landing page."""

from dataclasses import replace
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from exporter.families import UNKNOWN_STATUSES_LIMIT
from exporter.model import PollOutcome, Status
from exporter.web.landing import Overview, content_security_policy, render

NOW = 1_700_000_000.0
VOID = {"meta", "link", "br", "hr", "img", "input"}
WORKED = PollOutcome(finished_at=NOW - 12, duration=0.4)
FAILED = PollOutcome(finished_at=NOW - 12, duration=0.4, reason="unauthorized", message="invalid api token")
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
    counts={"STATUS_READY": 12, "STATUS_FINETUNING": 3},
    dropped=0,
    now=NOW,
)


class Page(HTMLParser):
    """A page as its reader has it: text, elements and attributes; fails on elements left open."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
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


def test_a_poll_that_worked_is_said_to_have_worked_with_its_time() -> None:
    page = Page(render(OVERVIEW))
    assert "The last poll worked" in page.text
    assert "12 s ago (2023-11-14 22:13:08 UTC)" in page.text
    assert {"datetime": "2023-11-14T22:13:08Z"} in page.attributes("time")
    assert "every 1 min" in page.text


def test_the_calls_left_are_told_where_there_is_a_budget() -> None:
    page = render(replace(OVERVIEW, calls_left=1234))
    assert "<dt>Calls left</dt><dd>1,234 of the month's budget</dd>" in page
    assert "Calls left" not in render(OVERVIEW)


def test_every_status_has_a_row_and_a_status_unknown_to_us_too() -> None:
    counts = {"STATUS_READY": 1_200, "STATUS_REPAIRING": 1}
    page = Page(render(replace(OVERVIEW, counts=counts)))
    assert "1,201 models" in page.text
    rows = dict(row for row in page.rows[1:])
    assert len(rows) == len(Status) + 1
    assert rows["READY"] == "1,200"
    assert rows["DEPLOYING API"] == "0"
    assert rows["REPAIRING"] == "1"


def test_few_of_many_statuses_unknown_to_us_have_a_row() -> None:
    counts = {f"STATUS_{number}": 2 for number in range(1_000)}
    page = Page(render(replace(OVERVIEW, counts=counts)))
    assert "2,000 models" in page.text
    assert len(page.rows) == 1 + len(Status) + UNKNOWN_STATUSES_LIMIT + 1
    assert page.rows[-1] == ["other", f"{2 * (1_000 - UNKNOWN_STATUSES_LIMIT):,}"]


def test_one_model_is_not_called_models() -> None:
    assert "1 model " in Page(render(replace(OVERVIEW, counts={"STATUS_READY": 1}))).text


def test_an_empty_fleet_is_shown_as_none() -> None:
    assert "0 models" in Page(render(replace(OVERVIEW, counts={}))).text


def test_failed_models_stand_out_and_not_by_colour_alone() -> None:
    html = render(replace(OVERVIEW, counts={"STATUS_FAILED": 2}))
    assert '<tr class="failed">' in html
    assert ["! FAILED", "2"] in Page(html).rows


def test_no_failed_models_no_alarm() -> None:
    html = render(OVERVIEW)
    assert '<tr class="failed">' not in html
    assert ["FAILED", "0"] in Page(html).rows


def test_a_failed_poll_gives_its_reason_its_message_and_what_to_do() -> None:
    page = Page(render(replace(OVERVIEW, outcome=replace(FAILED, advice="Look at the <key>."))))
    assert "The last poll failed" in page.text
    assert "unauthorized: invalid api token" in page.text
    assert "Look at the <key>." in page.text


def test_while_the_api_fails_the_last_good_numbers_are_shown_as_such() -> None:
    page = Page(render(replace(OVERVIEW, outcome=FAILED, last_success_at=NOW - 194)))
    assert "15 models" in page.text
    assert "from the last good poll" in page.text
    assert "3 min 14 s ago" in page.text


def test_stale_numbers_are_not_shown_and_it_says_why() -> None:
    page = Page(render(replace(OVERVIEW, outcome=FAILED, last_success_at=NOW - 94_000, counts=None)))
    assert "stale: the last good poll is more than 5 min old" in page.text
    assert "1 d 2 h ago" in page.text
    assert not page.rows


def test_before_the_first_poll_it_says_so() -> None:
    page = Page(render(replace(OVERVIEW, outcome=None, last_success_at=None, counts=None)))
    assert "Waiting for the first poll" in page.text
    assert not page.rows


def test_when_no_poll_ever_worked_it_says_so() -> None:
    page = Page(render(replace(OVERVIEW, outcome=FAILED, last_success_at=None, counts=None)))
    assert "No poll has worked yet" in page.text


def test_simulated_data_is_announced_and_only_then() -> None:
    assert "Simulated data" in Page(render(replace(OVERVIEW, simulated=True))).text
    assert "Simulated data" not in Page(render(OVERVIEW)).text


def test_models_over_the_limit_are_mentioned() -> None:
    assert "203 of them" in Page(render(replace(OVERVIEW, dropped=203))).text


def test_it_links_to_the_other_pages() -> None:
    links = Page(render(replace(OVERVIEW, telemetry_path="/m&m"))).attributes("a")
    assert [link["href"] for link in links] == ["/m&m", "/-/healthy", "/-/ready"]


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
    assert len(html) < 8_000


def test_its_policy_allows_its_own_style_sheet_only() -> None:
    policy = content_security_policy()
    assert "default-src 'none'" in policy
    assert "style-src 'sha256-" in policy
    assert "unsafe" not in policy
    assert 'style="' not in render(OVERVIEW)


def test_a_clock_that_went_back_gives_no_negative_age() -> None:
    assert "0 s ago" in Page(render(replace(OVERVIEW, now=NOW - 1_000))).text


@given(st.text().map(lambda text: f"<script>{text}</script>\"'&lt;"))
def test_no_text_gets_out_of_its_place(text: str) -> None:
    failed = replace(FAILED, reason=text, message=text)
    names = replace(OVERVIEW, name=text, version=text, revision=text, telemetry_path=text, api_url=text)
    page = Page(render(replace(names, outcome=failed, counts={text: 1})))
    expected = Page(render(replace(OVERVIEW, outcome=FAILED, counts={"STATUS_NEW": 1})))
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in expected.elements]


def test_a_next_poll_later_than_usual_is_announced() -> None:
    failed = replace(OVERVIEW, outcome=FAILED)
    assert "next one" not in Page(render(replace(failed, next_poll_at=NOW + 48))).text
    assert "the next one in 4 min" in Page(render(replace(failed, next_poll_at=NOW + 240))).text
