"""Text of every kind, and pages and metrics without number: told and asked for as they are, and bounded."""

import unicodedata
from collections.abc import Callable, Iterable, Iterator
from html.parser import HTMLParser
from itertools import count
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter.cohere.pagination import BOUNDS, CIRCLE
from exporter.cohere.transport import Endpoint
from exporter.web.search import PAGE_SIZE
from tests.hostile.answers import READING_FAILURES, StepPages, beside, counted, encode, models, pages_of, told
from tests.hostile.fields import LONG, PLAIN_ROWS, Json, changed
from tests.hostile.server import Exchange, FaultServer, Place
from tests.hostile.stage import on_stage

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

GOOD = 2  # models of the good API

CHARACTERS = sorted(
    {unicodedata.category(chr(code)): chr(code) for code in range(0x20000)}.items()
)  # one, the last, of each category
AWKWARD = (
    ".",
    "..",
    "...",
    "/",
    "//",
    "../../v1/models",
    "a/b",
    "a%2Fb",
    "%",
    "%2e%2e",
    "%00",
    "?page_size=1",
    "a?b",
    "a#b",
    "a b+c&d=e;f:g@h,i",
    "http://192.0.2.1/",
    "//192.0.2.1/",
    "\\..\\",
    '"',
    "'",
    "\\",
    '\\"',
    "\\n",
    "{}",
    '"} 1\nup{a="',
    "\n",
    "\r\nHost: 192.0.2.1\r\n\r\n",
    "\t",
    "\x00",
    "\x1b]0;title\x07\x1b[2J",
    "\x7f",
    "\x85",
    "\u2028",
    "\u202egnitset",
    "\u200f",
    "\ufeff",
    "\uffff",
    "e\u0301",
    "<script>alert(1)</script>",
    "# HELP",
    "# EOF",
    "{{ 1 }}",
    "ü-模型-😀",
    " ",
    "x" * 1023,
)


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


class EndlessPages:
    """Answers with one page after the other, each with a new token; `asked` is each that was given back."""

    def __init__(self, key: str, items: Callable[[int], Json], tokens: Iterable[str]) -> None:
        self._key = key
        self._items = items
        self._tokens = iter(tokens)
        self._number = count()
        self.asked: list[str] = []

    async def __call__(self, exchange: Exchange) -> None:
        """Answer."""
        self.asked += parse_qs(urlsplit(exchange.target).query, keep_blank_values=True).get("page_token", [])
        items = self._items(next(self._number))
        await exchange.answer(encode({self._key: items, "next_page_token": next(self._tokens, "")}))


A_MINUTE = 62.0  # seconds; how long the rate limit may hold a page, and what the stage needs besides


class TestTokens:
    async def test_of_every_kind_of_character_come_back_as_they_were(self) -> None:
        tokens = [*AWKWARD, *(f"{category} {char}" for category, char in CHARACTERS if category != "Cs")]
        tokens += ["x" * 4096]
        endless = EndlessPages("finetuned_models", lambda page: [changed("id", f"m{page}")], tokens)
        async with FaultServer() as server, on_stage(server) as stage:
            server.faults = {Place.LIST: endless, Place.LATER_PAGE: endless}
            server.faults[Place.STEPS] = StepPages({}, pages_of([PLAIN_ROWS]))
            assert (await stage.poll()).reason is None
            assert endless.asked == tokens
            assert len(told(await stage.series())) == len(tokens) + 1

    async def test_without_an_end_cost_a_thousand_calls_within_the_ceiling_and_what_is_known_stays(
        self,
    ) -> None:
        # So long that what is known stays while such a list is under way.
        async with FaultServer() as server, on_stage(server, "--poll.stale-after=10m") as stage:
            await stage.poll()
            before = models(await stage.series())
            endless = EndlessPages("finetuned_models", lambda page: [changed("id", f"m{page}")], numbers())
            server.faults = {Place.LIST: endless, Place.LATER_PAGE: endless}
            server.requests.clear()
            outcome = await stage.poll(longest_wait=A_MINUTE)
            assert (outcome.reason, outcome.message) == (
                "invalid_response",
                "the list has no end within 1000 pages",
            )
            assert 180 <= outcome.duration <= 300  # at 300 a minute
            pages = BOUNDS[Endpoint.LIST_FINETUNED_MODELS].pages
            asked = [place for place in server.requests if place is not Place.STEPS]
            assert asked[:pages] == [Place.LIST, *[Place.LATER_PAGE] * (pages - 1)]
            # The next poll, long due, may have begun.
            assert asked[pages : pages + 1] in ([], [Place.LIST])
            assert models(await stage.series()) == before

    async def test_of_a_list_without_an_end_leave_a_budget_that_lists_can_live_on(self) -> None:
        async with FaultServer() as server, on_stage(server, "--cohere.calls-per-month=1000") as stage:
            assert (await stage.poll()).reason is None
            endless = EndlessPages("finetuned_models", lambda page: [changed("id", f"m{page}")], numbers())
            server.faults = {Place.LIST: endless, Place.LATER_PAGE: endless}
            for _ in range(3):
                outcome = await stage.poll(longest_wait=A_MINUTE)
                assert outcome.message.startswith(
                    "the quota of 1000 calls a month (--cohere.calls-per-month)"
                )
            assert 490 < len(server.requests) < 520
            await server.heal()
            assert (await stage.poll()).reason is None
            assert stage.exporter.poller.schedule.interval < 4 * 3600

    async def test_of_a_list_that_begins_anew_are_not_followed_for_long(self) -> None:
        async with FaultServer() as server, on_stage(server) as stage:
            endless = EndlessPages("finetuned_models", lambda _: [changed("id", "same")], numbers())
            server.faults = {Place.LIST: endless, Place.LATER_PAGE: endless}
            outcome = await stage.poll()
            assert outcome.message == "the list goes in a circle: 10 pages without a new model"
            assert len(server.requests) == CIRCLE + 1

    async def test_of_step_metrics_without_an_end_hold_up_no_other_model(self) -> None:
        async with FaultServer() as server, on_stage(server) as stage:
            await stage.poll()
            rows = EndlessPages("step_metrics", lambda page: [{"step_number": page}], numbers())
            others = StepPages({}, pages_of([PLAIN_ROWS]))

            async def answer(exchange: Exchange) -> None:
                await (rows if "/endless/" in exchange.target else others)(exchange)

            odd = [changed("id", "endless"), *(changed("id", f"m{number}") for number in range(20))]
            server.faults = {Place.LIST: beside(odd), Place.STEPS: answer}
            server.requests.clear()
            assert (await stage.poll()).reason is None
            found = told(await stage.series())
            assert {name: found[name].get("step") for name in found if name.startswith("m")} == {
                f"m{number}": 20.0 for number in range(20)
            }
            # What was read of it is kept, and the next reading goes on from there.
            assert found["endless"]["step"] >= BOUNDS[Endpoint.LIST_TRAINING_STEP_METRICS].pages - 2
            assert not any(counted(await stage.series(), READING_FAILURES).values())


def numbers() -> Iterator[str]:
    """Return tokens without an end."""
    return map(str, count(2))


async def test_a_model_that_moves_to_a_later_page_is_shown_once_as_it_was_read_last() -> None:
    moved = [changed("name", "before"), changed("name", "after")]
    async with FaultServer() as server, on_stage(server) as stage:
        server.faults = {Place.LIST: beside(moved[:1]), Place.LATER_PAGE: beside(moved[1:])}
        assert (await stage.poll()).reason is None
        assert told(await stage.series())["odd"]["name"] == "after"
        assert counted(await stage.series()) == {"duplicate_model": 1}


class TestMuch:
    """More than anybody would train: what is left out is counted, and the rest is soon there."""

    @pytest.mark.parametrize(("rows", "metrics"), [(1, 100_000), (30_000, 1)])
    async def test_of_metrics(self, rows: int, metrics: int) -> None:
        names = [[f"m{row * metrics + number:06}" for number in range(metrics)] for row in range(rows)]
        listed = [
            {"step_number": step, "metrics": {name: int(name[1:]) for name in row}}
            for step, row in enumerate(names)
        ]
        pages = StepPages({"odd": pages_of([listed])})
        async with FaultServer() as server, on_stage(server) as stage:
            server.faults = {Place.LIST: beside([changed("id", "odd")]), Place.STEPS: pages}
            assert (await stage.poll()).reason is None
            series = await stage.series()
            shown = [name for name in told(series)["odd"] if name.startswith("metric ")]
            assert shown == [f"metric m{number:06}" for number in range(50)]
            assert series["cohere_exporter_training_metrics_dropped", frozenset()] == rows * metrics - 50

    async def test_of_models(self) -> None:
        odd = [{"id": f"m{number}", "status": "STATUS_QUEUED"} for number in range(40_000)]
        async with FaultServer() as server, on_stage(server) as stage:
            server.faults = {Place.LIST: beside(odd)}
            assert (await stage.poll()).reason is None
            series = await stage.series()
            assert len(told(series)) == 1000
            assert series["cohere_finetuned_models_dropped", frozenset()] == 40_002 - 1000

    async def test_of_statuses(self) -> None:
        odd = [{"id": f"m{number}", "status": f"S{number:03}{LONG}"} for number in range(100)]
        async with FaultServer() as server, on_stage(server) as stage:
            server.faults = {Place.LIST: beside(odd)}
            assert (await stage.poll()).reason is None
            series = await stage.series()
            numbers = [dict(labels)["status"] for name, labels in series if name == "cohere_finetuned_models"]
            assert len(numbers) == 9 + 32 + 1
            assert series["cohere_finetuned_models", frozenset({("status", "other")})] == 68
            summary = (await stage.check()).out.splitlines()[-1]
            assert summary.startswith("102 models at ")
            assert summary.endswith(" 68 other")
            assert len(summary) < 3000
