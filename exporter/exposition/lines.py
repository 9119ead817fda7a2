"""Samples → lines of the exposition: the same bytes that prometheus_client writes, in a sixth of its time.

The library can write any metric in any format, which holds the interpreter for seconds when 10,000 models
change. Model families need little of that: all are gauges without a time, whose lines are the same in both
formats. The tests hold every line to the library's.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from functools import cache
from types import MappingProxyType

from prometheus_client.utils import floatToGoString

from exporter.families import IDENTITY, Family, FleetFamily, ModelFamily, StepFamily
from exporter.model import FinetunedModel, ModelState, Snapshot, StepRow


class Format(Enum):
    """An exposition format; the value is its content type."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def head(family: Family | StepFamily) -> bytes:
    """Write the lines that introduce a family."""
    return f"# HELP {family.name} {family.help}\n# TYPE {family.name} gauge\n".encode()


def fleet_lines(family: FleetFamily, snapshot: Snapshot) -> bytes:
    """Write the samples of a family that speaks of the whole fleet."""
    lines = []
    for values, value in family.samples(snapshot):
        labels = ",".join(_pairs(family.labels, values))
        lines.append(f"{family.name}{'{' + labels + '}' if labels else ''} {_number(value)}\n")
    return "".join(lines).encode()


def model_lines(family: ModelFamily, states: Iterable[ModelState], identities: Iterable[str]) -> bytes:
    """Write the samples of some models, whose `identities` are as `identity` gives them."""
    around = _around(family.own_labels)
    lines = []
    for state, labels in zip(states, identities, strict=True):
        for values, value in family.samples(state):
            before, after = around(values)
            lines.append(f"{family.name}{{{before}{labels}{after}}} {_number(value)}\n")
    return "".join(lines).encode()


def step_lines(family: StepFamily, labels: str, rows: Iterable[StepRow], format_: Format) -> bytes:
    """Write the samples of one model's rows, which come in the order of their times; series by series."""
    around = _around(family.own_labels)
    series: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        at = _timestamp(row, format_)
        for values, value in family.samples(row):
            series.setdefault(values, []).append(f"{_number(value)} {at}\n")
    lines = []
    for values in sorted(series):
        before, after = around(values)
        start = f"{family.name}{{{before}{labels}{after}}} "
        lines += [start + sample for sample in series[values]]
    return "".join(lines).encode()


def milliseconds(seconds: float) -> int:
    """Return a time as Prometheus stores it."""
    return round(seconds * 1000)


def _timestamp(row: StepRow, format_: Format) -> str:
    at = milliseconds(row.at or 0.0)
    if format_ is Format.TEXT:
        return str(at)
    text = f"{at / 1000:.3f}"
    # Prometheus cuts the product with 1000 to an integer, which may fall just below the millisecond.
    return text if int(float(text) * 1000) == at else f"{text}1"


def identity(model: FinetunedModel, labels: Mapping[str, str] = MappingProxyType({})) -> str:
    """Write the labels that every sample of a model has, and `labels` behind them."""
    further = _pairs(tuple(labels), tuple(labels.values()))
    return ",".join((*_pairs(IDENTITY, (model.id, model.name)), *further))


def _around(labels: tuple[str, ...]) -> Callable[[tuple[str, ...]], tuple[str, str]]:
    """Return a function of a family's own values → its labels before the identity, and behind it."""
    count_before = sum(label < IDENTITY[0] for label in labels)  # none sorts between the two of the identity

    @cache  # models share the few statuses and names of metrics
    def around(values: tuple[str, ...]) -> tuple[str, str]:
        pairs = _pairs(labels, values)
        before, after = pairs[:count_before], pairs[count_before:]
        return "".join(f"{pair}," for pair in before), "".join(f",{pair}" for pair in after)

    return around


def _pairs(labels: Sequence[str], values: Sequence[str]) -> list[str]:
    """Write labels, sorted by name as the library does."""
    return [f'{label}="{_escaped(value)}"' for label, value in sorted(zip(labels, values, strict=True))]


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    if value in (0.0, 1.0):  # most samples are
        return repr(float(value))
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]
