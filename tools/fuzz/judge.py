"""What must hold for whatever was read, told without the exporter's own code wherever that is possible.

Every function raises AssertionError when it does not hold.
"""

import gzip
import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import fields

from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from exporter.exposition.rendering import Renderer
from exporter.families import FAMILIES
from exporter.model import FinetunedModel, ModelState, Snapshot, StepRow
from tools.benchmarks.client_server import Collected

LONGEST_TEXT = 1024
HYPERPARAMETERS = frozenset(
    {
        *("early_stopping_patience", "early_stopping_threshold", "train_batch_size", "train_epochs"),
        *("learning_rate", "lora_alpha", "lora_rank"),
    }
)
_TIMES = ("created_at", "updated_at", "completed_at", "last_used")
_END = b"# EOF\n"


def text(value: object) -> None:
    """Check that text is text that UTF-8 can carry, and is cut."""
    assert isinstance(value, str)
    assert len(value) <= LONGEST_TEXT
    value.encode()


def line(value: str, longest: int) -> None:
    """Check that a message is one line for people."""
    value.encode()
    assert value == " ".join(value.split()), value
    assert 0 < len(value) <= longest, len(value)


def time(value: float | None) -> None:
    """Check that a time, if there is one, is a number, and after 1970."""
    assert value is None or (isinstance(value, float) and math.isfinite(value) and value > 0), value


def number(value: float) -> None:
    """Check a measured value, which may be NaN: NaN, unlike any number, does not equal itself."""
    assert isinstance(value, float)
    assert id(value) == id(math.nan) or not math.isnan(value)


def model(read: FinetunedModel) -> None:
    """Check that a model has an id, and holds nothing but what its fields are for."""
    assert read.id
    assert read.status
    for field in fields(read):
        value = getattr(read, field.name)
        if field.name in _TIMES:
            time(value)
        elif field.name == "multi_label":
            assert isinstance(value, bool)
        elif field.name == "hyperparameters":
            assert set(value) <= HYPERPARAMETERS
            for one in value.values():
                number(one)
        else:
            text(value)


def row(read: StepRow) -> None:
    """Check that a row has a step that is one, and metrics of text and number."""
    assert type(read.step) is int
    assert 0 <= read.step < 2**63
    time(read.at)
    assert "step" not in read.metrics
    for name, value in read.metrics.items():
        text(name)
        number(value)


def secretless(body: bytes) -> tuple[bytes, bytes] | None:
    """Return two bodies that are `body` but for what each `api_key` holds; None when it is no JSON."""
    try:
        parsed = json.loads(body.decode("utf-8-sig", errors="replace"))
        return tuple(json.dumps(_with_keys(parsed, secret)).encode() for secret in ("one", ["another"]))  # type: ignore[return-value] # two
    except (ValueError, RecursionError):
        return None


def _with_keys(value: object, secret: object) -> object:
    if isinstance(value, dict):
        return {
            key: secret if key == "api_key" else _with_keys(inner, secret) for key, inner in value.items()
        }
    return [_with_keys(inner, secret) for inner in value] if isinstance(value, list) else value


def rendering(states: Iterable[ModelState]) -> None:
    """Check that models are rendered as the library does, parse strictly, and no series comes twice."""
    states = tuple(states)
    counts = Counter(state.model.status for state in states)
    snapshot = Snapshot(states=states, status_counts=counts)
    payload = Renderer(FAMILIES).render(snapshot)
    page = b"".join(payload.chunks(_END, gzipped=False))
    assert page == generate_latest(Collected(snapshot, steps=True)) + _END
    assert gzip.decompress(b"".join(payload.chunks(_END, gzipped=True))) == page
    series = Counter(
        (sample.name, *sorted(sample.labels.items()))
        for family in parse_openmetrics(page.decode())  # type: ignore[no-untyped-call]
        for sample in family.samples
    )
    assert not series or max(series.values()) == 1
    assert sum(name == "cohere_finetuned_model_info" for name, *_ in series) == len(states)
