"""Text of every kind, and statuses without number: told and asked for as they are, and bounded."""

import unicodedata
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter.web.search import PAGE_SIZE
from tests.hostile.answers import READING_FAILURES, StepPages, beside, counted, pages_of, told
from tests.hostile.fields import LONG, PLAIN_ROWS, changed
from tests.hostile.server import FaultServer, Place
from tests.hostile.stage import on_stage

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

GOOD = 2  # models of the good API

CHARACTERS = sorted(
    {unicodedata.category(chr(code)): chr(code) for code in range(0x20000)}.items()
)  # one, the last, of each category
AWKWARD = (
    ".", "..", "...", "/", "//", "../../v1/models", "a/b", "a%2Fb", "%", "%2e%2e", "%00", "?page_size=1",
    "a?b", "a#b", "a b+c&d=e;f:g@h,i", "http://192.0.2.1/", "//192.0.2.1/", "\\..\\", '"', "'", "\\", '\\"',
    "\\n", "{}", '"} 1\nup{a="', "\n", "\r\nHost: 192.0.2.1\r\n\r\n", "\t", "\x00",
    "\x1b]0;title\x07\x1b[2J", "\x7f", "\x85", "\u2028", "\u202egnitset", "\u200f", "\ufeff", "\uffff",
    "e\u0301", "<script>alert(1)</script>", "# HELP", "# EOF", "{{ 1 }}", "ü-模型-😀", " ", "x" * 1023,
)  # fmt: skip


async def test_every_kind_of_character_reaches_the_api_the_metrics_and_a_terminal_as_itself_or_harmless() -> (
    None
):
    ids = [*AWKWARD, *(f"{category} {char}" for category, char in CHARACTERS if category != "Cs")]
    assert len(ids) == len(set(ids)) > 70
    odd = [changed("name", name, changed("id", name)) for name in ids]
    mended = ["\ud800", "a\udfff", "\udc00\ud800", LONG]
    odd += [changed("id", name) for name in mended]
    steps = StepPages({}, pages_of([PLAIN_ROWS]))
    async with FaultServer() as server, on_stage(server) as stage:
        await stage.poll()
        plain = rows_of(await stage.page("/"))
        stage.log()
        server.faults = {Place.LATER_PAGE: beside(odd), Place.STEPS: steps}
        assert (await stage.poll()).reason is None

        # Each label is the text, by both parsers; each request is for that model and no other.
        found = told(await stage.series())
        assert {name: found[name]["name"] for name in ids} == {name: name for name in ids}
        assert len(found) == len(ids) + len(mended) + GOOD
        by_text = {
            sample.labels["model_id"]
            for family in text_string_to_metric_families(await stage.page("/metrics"))
            for sample in family.samples
            if family.name == "cohere_finetuned_model_training_step"
        }
        assert by_text == {*ids, "training"}
        assert sorted(map(segment, steps.targets)) == sorted([*ids, "training"])
        assert counted(await stage.series(), READING_FAILURES) == {"invalid_response": len(mended)}

        # One line each, and nothing that a terminal would act on.
        assert {line["msg"] for line in stage.log()} == {
            "model appeared",
            "step metrics cannot be read; last good values stay",
        }
        # A row of the landing page each, too, with the elements of any other, whatever its name holds.
        pages = [await stage.page(f"/?page={number}") for number in range(1, 2 + len(found) // PAGE_SIZE)]
        rows = [row for page in pages for row in rows_of(page)]
        assert len(rows) == len(found)
        assert all(row in plain for row in rows)
        checked = await stage.check()
        assert checked.code == 0
        assert len(checked.out.split("\n")) == 1 + len(found) + 3
        assert all(char.isprintable() for char in (checked.out + checked.err).replace("\n", ""))


def rows_of(page: str) -> list[list[str]]:
    """Return the elements of each row of the landing page's table, with the names of their attributes."""
    rows: list[list[str]] = []

    class Rows(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag == "tr":
                rows.append([])
            rows[-1].append(" ".join([tag, *(name for name, _ in attrs)]))

    Rows().feed(page.partition("<tbody>")[2].partition("</tbody>")[0])
    return rows


def segment(target: str) -> str:
    """Return the id that a request for step metrics asks for, as a server reads it."""
    assert target.isascii()
    assert target.isprintable()
    url = urlsplit(target)
    before, model_id, after = url.path.rsplit("/", 2)
    assert (before, after) == ("/v1/finetuning/finetuned-models", "training-step-metrics")
    assert model_id not in (".", "..")
    assert (url.query, url.fragment) == ("", "")
    return unquote(model_id, errors="strict")


async def test_statuses_without_number_are_counted_under_another_one() -> None:
    odd = [{"id": f"m{number}", "status": f"S{number:03}{LONG}"} for number in range(60)]
    async with FaultServer() as server, on_stage(server) as stage:
        server.faults = {Place.LIST: beside(odd)}
        assert (await stage.poll()).reason is None
        series = await stage.series()
        numbers = [dict(labels)["status"] for name, labels in series if name == "cohere_finetuned_models"]
        assert len(numbers) == 9 + 32 + 1
        assert series["cohere_finetuned_models", frozenset({("status", "other")})] == 28
        summary = (await stage.check()).out.splitlines()[-1]
        assert summary.startswith("62 models at ")
        assert summary.endswith(" 28 other")
        assert len(summary) < 3000
