"""The bytes of /metrics: valid in both formats, one gzip member, rendered once, gone when stale."""

import asyncio
import gc
import gzip
import re
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

import exporter.exposition
from exporter.exposition import Exposition, Format, SelfMetrics, render
from exporter.exposition.payload import Chunk, Payload
from exporter.families import FAMILIES, FleetFamily, Sample
from exporter.model import FinetunedModel, ModelState, Snapshot, Status, TrainingProgress
from exporter.polling.schedule import Freshness
from exporter.telemetry import Telemetry
from tests.conftest import FakeClock, settle, until
from tests.editions import every_edition
from tests.programs import program

pytestmark = pytest.mark.anyio

T = TypeVar("T")

NAMES = [family.name for family in FAMILIES]
STALE_AFTER = 300.0
START = 1_000.0  # of the fake clock


def fleet(*models: FinetunedModel, progress: TrainingProgress | None = None) -> Snapshot:
    counts = dict.fromkeys((status.value for status in Status), 0)
    for model in models:
        counts[model.status] = counts.get(model.status, 0) + 1
    return Snapshot(
        states=tuple(ModelState(model, progress) for model in models), status_counts=counts, listed_at=START
    )


MODEL = FinetunedModel(
    id="m1",
    name="first",
    status=Status.READY,
    created_at=1.7e9,
    hyperparameters={"learning_rate": 0.01, "train_epochs": 3.0},
)
PROGRESS = TrainingProgress(step=7, step_at=1.7e9 + 5, metrics={"accuracy": 0.5, "loss": 0.25})
SNAPSHOT = fleet(MODEL, progress=PROGRESS)


def freshness(clock: FakeClock) -> Freshness:
    return Freshness(clock, interval=STALE_AFTER / 5, setting=None)


class Exposed(Exposition):
    """An exposition whose own metrics the test gives."""

    def __init__(self, clock: FakeClock, exclude: str | None) -> None:
        pattern = re.compile(exclude) if exclude is not None else None
        super().__init__(is_fresh=freshness(clock).is_fresh, own=lambda _: self.live, exclude=pattern)
        self.live = b""


def exposition(clock: FakeClock, exclude: str | None = None) -> Exposed:
    return Exposed(clock, exclude)


def telemetry() -> Telemetry:
    return Telemetry(version="1", revision="", endpoints=["list"], rejected_kinds=["model"])


def page(subject: Exposed, format_: Format, live: bytes = b"", *, gzipped: bool = False) -> bytes:
    subject.live = live
    return b"".join(subject.chunks(format_, gzipped))


def families_on(text: bytes) -> list[str]:
    """Return the families of a page in order, by their HELP lines."""
    return re.findall(r"^# HELP (\S+)", text.decode(), re.MULTILINE)


def samples(subject: Exposed) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Return the samples by family, as a strict reader of OpenMetrics finds them."""
    text = page(subject, Format.OPENMETRICS, b"# EOF\n").decode()
    return {
        family.name: [(sample.labels, sample.value) for sample in family.samples]
        for family in parse_openmetrics(text)  # type: ignore[no-untyped-call]
    }


# What is on the page.


async def test_before_the_first_snapshot_there_is_only_what_lives(clock: FakeClock) -> None:
    subject = exposition(clock)
    assert subject.snapshot is None
    assert page(subject, Format.TEXT, b"up 0\n") == b"up 0\n"


async def test_a_snapshot_is_every_family_in_the_order_of_the_table(clock: FakeClock) -> None:
    subject = exposition(clock)
    await subject.publish(SNAPSHOT)
    assert subject.snapshot is SNAPSHOT
    for format_ in Format:
        assert families_on(page(subject, format_)) == NAMES


@settings(max_examples=5)
@given(texts=st.lists(st.text(max_size=20), min_size=5, max_size=10))
def test_no_text_in_a_label_breaks_the_page(texts: list[str]) -> None:
    given_ = {f"m{number}": text for number, text in enumerate(texts)}

    async def publish() -> Exposed:
        subject = exposition(FakeClock(), exclude="(?!.*_info).*")
        await subject.publish(
            fleet(*(replace(MODEL, id=id_, name=text, dataset_id=text) for id_, text in given_.items()))
        )
        return subject

    found = samples(asyncio.run(publish()))["cohere_finetuned_model_info"]
    assert {labels["model_id"]: labels["dataset_id"] for labels, _ in found} == given_


@pytest.mark.slow
@every_edition
async def test_text_with_telemetry_is_clean_to_promtool(clock: FakeClock) -> None:
    promtool = program("promtool")
    subject = exposition(clock)
    await subject.publish(SNAPSHOT)
    whole = page(subject, Format.TEXT, render(telemetry().registry, Format.TEXT))
    check = await asyncio.to_thread(
        subprocess.run, [promtool, "check", "metrics"], input=whole, capture_output=True, timeout=60
    )
    assert (check.stdout + check.stderr).decode() == ""
    assert check.returncode == 0


@pytest.mark.parametrize("live_only", [True, False])
async def test_openmetrics_with_telemetry_is_strictly_valid(clock: FakeClock, live_only: bool) -> None:
    subject = exposition(clock)
    if not live_only:
        await subject.publish(SNAPSHOT)
    whole = page(subject, Format.OPENMETRICS, render(telemetry().registry, Format.OPENMETRICS)).decode()
    names = [family.name for family in parse_openmetrics(whole)]  # type: ignore[no-untyped-call]
    assert len(names) == len(set(names))
    assert set(NAMES).isdisjoint(names) == live_only
    assert "cohere_up" in names
    assert whole.count("# EOF") == 1
    assert whole.endswith("# EOF\n")


# --metrics.exclude


@pytest.mark.parametrize(
    ("pattern", "excluded"),
    [
        ("", set()),
        ("cohere_finetuned_model", set()),
        ("models", set()),
        ("cohere_finetuned_models", {"cohere_finetuned_models"}),
        (".*_training_.*", {name for name in NAMES if "_training_" in name}),
        ("cohere_finetuned_models|.*_info", {"cohere_finetuned_models", "cohere_finetuned_model_info"}),
        (".*", set(NAMES)),
    ],
)
async def test_exclusion_is_anchored_at_both_ends(clock: FakeClock, pattern: str, excluded: set[str]) -> None:
    subject = exposition(clock, exclude=pattern)
    await subject.publish(SNAPSHOT)
    for format_ in Format:
        assert families_on(page(subject, format_)) == [name for name in NAMES if name not in excluded]


async def test_exclusion_leaves_the_exporter_s_own_families(clock: FakeClock) -> None:
    subject = exposition(clock, exclude=".*")
    await subject.publish(SNAPSHOT)
    live = render(telemetry().registry, Format.TEXT)
    assert page(subject, Format.TEXT, live) == live


# Compression.


def inflate(member: bytes) -> bytes:
    """Inflate what must be one gzip member, and nothing behind it."""
    inflater = zlib.decompressobj(wbits=31)
    plain = inflater.decompress(member) + inflater.flush()
    assert inflater.eof
    assert inflater.unused_data == b""
    return plain


@given(plains=st.lists(st.binary(max_size=2000), max_size=4), rest=st.binary(max_size=2000))
@example(plains=[], rest=b"")
@example(plains=[], rest=b"x")
@example(plains=[b"", b"x", b""], rest=b"")
@example(plains=[b"cohere " * 30_000, b"cohere " * 20_000], rest=b"cohere " * 30_000)
def test_any_page_is_one_gzip_member(plains: list[bytes], rest: bytes) -> None:
    payload = Payload(map(Chunk, plains))
    whole = b"".join(plains) + rest
    member = b"".join(payload.chunks(rest, gzipped=True))
    assert inflate(member) == whole
    assert gzip.decompress(member) == whole
    assert b"".join(payload.chunks(rest, gzipped=False)) == whole


@given(plain=st.binary(max_size=200), rests=st.lists(st.binary(max_size=200), max_size=4))
def test_a_block_serves_any_number_of_pages(plain: bytes, rests: list[bytes]) -> None:
    payload = Payload([Chunk(plain)])
    for rest in rests:
        assert inflate(b"".join(payload.chunks(rest, gzipped=True))) == plain + rest


@pytest.mark.parametrize("format_", Format)
async def test_a_gzip_page_is_the_plain_page_and_smaller(clock: FakeClock, format_: Format) -> None:
    subject = exposition(clock)
    await subject.publish(SNAPSHOT)
    plain = page(subject, format_, b"# EOF\n")
    member = page(subject, format_, b"# EOF\n", gzipped=True)
    assert inflate(member) == plain
    assert len(member) < len(plain) / 3


# Rendering once.


@pytest.mark.parametrize("format_", Format)
@pytest.mark.parametrize("gzipped", [True, False])
async def test_an_unchanged_snapshot_is_not_rendered_again(
    clock: FakeClock, format_: Format, gzipped: bool
) -> None:
    subject = exposition(clock)
    await subject.publish(SNAPSHOT)
    *first, _ = subject.chunks(format_, gzipped)
    await subject.publish(fleet(replace(MODEL), progress=replace(PROGRESS)))
    subject.live = b"live\n"
    *second, _ = subject.chunks(format_, gzipped)
    assert list(map(id, second)) == list(map(id, first))


async def test_scrapes_of_one_page_share_its_bytes(clock: FakeClock) -> None:
    subject = exposition(clock)
    await subject.publish(SNAPSHOT)
    assert subject.chunks(Format.TEXT, gzipped=True) is subject.chunks(Format.TEXT, gzipped=True)


async def test_no_page_keeps_a_snapshot_that_is_no_longer_served(clock: FakeClock) -> None:
    subject = exposition(clock)
    await subject.publish(SNAPSHOT)
    page(subject, Format.TEXT)
    kept = payloads()
    await subject.publish(fleet())
    assert payloads() == kept


def payloads() -> int:
    gc.collect()
    return sum(isinstance(kept, Payload) for kept in gc.get_objects())


async def test_two_that_are_published_at_once_are_served_in_their_order(clock: FakeClock) -> None:
    begun, go_on = threading.Event(), threading.Event()

    async def slowly(function: Callable[..., T], /, *arguments: object) -> T:
        def work() -> T:
            begun.set()
            assert go_on.wait(10)
            return function(*arguments)

        return await asyncio.to_thread(work)

    subject = Exposition(is_fresh=freshness(clock).is_fresh, worker=slowly)
    first = asyncio.create_task(subject.publish(SNAPSHOT))
    await until(begun.is_set)
    begun.clear()
    second = asyncio.create_task(subject.publish(fleet()))
    await settle()
    assert not begun.is_set()
    go_on.set()
    await asyncio.gather(first, second)
    assert subject.snapshot == fleet()


async def test_the_exporter_s_own_metrics_are_a_second_old_at_most(clock: FakeClock) -> None:
    counts = telemetry()
    live = SelfMetrics(counts.registry, clock)
    first = live.render(Format.TEXT)
    counts.polls.inc()
    await clock.advance(1.0)
    assert live.render(Format.TEXT) is first
    assert live.render(Format.OPENMETRICS).count(b"cohere_exporter_polls_total 1.0") == 1
    await clock.advance(0.001)
    assert live.render(Format.TEXT).count(b"cohere_exporter_polls_total 1.0") == 1


@pytest.mark.parametrize(
    "changed",
    [
        fleet(replace(MODEL, last_used=1.8e9), progress=PROGRESS),
        fleet(MODEL, progress=replace(PROGRESS, metrics={"accuracy": 0.5, "loss": 0.125})),
        fleet(MODEL),
        replace(SNAPSHOT, dropped=1),
        fleet(),
    ],
)
async def test_a_changed_snapshot_is_served_at_once(clock: FakeClock, changed: Snapshot) -> None:
    subject, afresh = exposition(clock), exposition(clock)
    await subject.publish(SNAPSHOT)
    before = page(subject, Format.TEXT)
    await subject.publish(changed)
    await afresh.publish(changed)
    assert page(subject, Format.TEXT) == page(afresh, Format.TEXT) != before


def slow_family(begun: threading.Event, go_on: threading.Event) -> FleetFamily:
    def wait(snapshot: Snapshot) -> Iterable[Sample]:
        begun.set()
        assert go_on.wait(10)
        return [((), float(len(snapshot.states)))]

    return FleetFamily("slow", "Slow.", (), wait)


async def test_a_scrape_during_a_rendering_gets_the_old_page_at_once(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    go_on.set()
    monkeypatch.setattr(exporter.exposition, "FAMILIES", (slow_family(begun, go_on),))
    subject = exposition(clock)
    await subject.publish(SNAPSHOT)
    old = page(subject, Format.TEXT)
    begun.clear()
    go_on.clear()
    publishing = asyncio.create_task(subject.publish(fleet()))
    try:
        await until(begun.is_set)
        assert page(subject, Format.TEXT) == old
        assert subject.snapshot is SNAPSHOT
    finally:
        go_on.set()
        await publishing
    assert page(subject, Format.TEXT) == old.replace(b"slow 1.0", b"slow 0.0") != old


async def test_a_rendering_that_fails_leaves_the_old_page(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def collect(snapshot: Snapshot) -> Iterable[Sample]:
        return [((), 1 / len(snapshot.states))]

    monkeypatch.setattr(exporter.exposition, "FAMILIES", (FleetFamily("each", "Each.", (), collect),))
    subject = exposition(clock)
    await subject.publish(SNAPSHOT)
    old = page(subject, Format.TEXT)
    await clock.advance(200)
    with pytest.raises(ZeroDivisionError):
        await subject.publish(fleet())
    assert page(subject, Format.TEXT) == old
    await clock.advance(101)
    assert page(subject, Format.TEXT) == b"", "a failed rendering must not make old data younger"


# Freshness.


async def test_old_data_ends(clock: FakeClock) -> None:
    subject = exposition(clock)
    await subject.publish(SNAPSHOT)
    await clock.advance(STALE_AFTER - 0.001)
    assert families_on(page(subject, Format.TEXT)) == NAMES
    await clock.advance(0.001)
    assert subject.snapshot is None
    for format_ in Format:
        assert page(subject, format_, b"live\n") == b"live\n"
        assert inflate(page(subject, format_, b"live\n", gzipped=True)) == b"live\n"
