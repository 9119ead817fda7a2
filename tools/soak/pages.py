"""A scrape → its series, read strictly and quickly; what is in it of the models.

Every line is a sample or a comment that the format knows, no series comes twice, and what the page says of
itself holds. The library's own parsers, which are slow, read some pages besides.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

_LABELS = r'[a-zA-Z_]\w*="(?:[^"\\\n]|\\["\\n])*"'
_SAMPLE = rf"[a-zA-Z_:][\w:]*(?:\{{{_LABELS}(?:,{_LABELS})*\}})? [^\s]+"
_COMMENT = r"# (?:HELP|TYPE) [a-zA-Z_:][\w:]* [^\n]+"
_LINES = re.compile(rf"(?>(?:{_SAMPLE}|{_COMMENT})\n)*+", re.ASCII)
_TIMED_LINES = re.compile(rf"(?>(?:{_SAMPLE} [\d.]+|{_COMMENT})\n)*+", re.ASCII)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")
STATUS = "cohere_finetuned_model_status{"
STEP_NUMBER = "cohere_finetuned_model_step_number{"
STEP = "cohere_finetuned_model_training_step{"
OF_MODELS = "cohere_finetuned_model"


@dataclass(frozen=True)
class Page:
    """Series, as they are written, and their values."""

    series: Mapping[str, float]

    def shown(self) -> Mapping[str, tuple[str, str]]:
        """Return name and status of each model by its id; ValueError where one has not exactly one status."""
        models: dict[str, tuple[str, str]] = {}
        for series, value in self.series.items():
            if series.startswith(STATUS) and value:
                own = labels(series)
                if own["model_id"] in models:
                    raise ValueError(f"{own['model_id']} has two statuses, or two names")
                models[own["model_id"]] = own["model_name"], own["status"]
        if len(models) * 9 > sum(series.startswith(STATUS) for series in self.series):
            raise ValueError("a model has not all nine statuses")
        return models

    def steps(self) -> Mapping[str, float]:
        """Return the highest step of each model that has one."""
        return {
            labels(series)["model_id"]: value
            for series, value in self.series.items()
            if series.startswith(STEP)
        }

    @property
    def has_models(self) -> bool:
        """Whether there is a series of a model."""
        return any(series.startswith(OF_MODELS) for series in self.series)


@dataclass(frozen=True)
class Step:
    """A step as a page has it; `at` is in milliseconds."""

    model_id: str
    number: int
    at: int


def read_steps(text: str, *, is_openmetrics: bool, thoroughly: bool = False) -> list[Step]:
    """Read a page of steps, each with its time, in its order within a series; ValueError when it is none."""
    lines = _lines(_TIMED_LINES, text, is_openmetrics=is_openmetrics, thoroughly=thoroughly)
    steps, last = [], ("", 0)
    for series, value, timestamp in (line.rsplit(" ", 2) for line in lines):
        at = round(float(timestamp) * 1000) if is_openmetrics else int(timestamp)
        if series == last[0] and at <= last[1]:
            raise ValueError(f"the samples of a series are not in the order of their times: {series}")
        last = series, at
        if series.startswith(STEP_NUMBER):
            steps.append(Step(labels(series)["model_id"], int(float(value)), at))
    return steps


def labels(series: str) -> Mapping[str, str]:
    """Return the labels of a series."""
    return {name: _ESCAPED.sub(_plain, value) for name, value in _LABEL.findall(series)}


def read(text: str, *, is_openmetrics: bool, thoroughly: bool = False) -> Page:
    """Read a page; ValueError when it is none."""
    lines = _lines(_LINES, text, is_openmetrics=is_openmetrics, thoroughly=thoroughly)
    series = {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}
    if len(series) < len(lines):
        raise ValueError("a series comes twice")
    return Page(series)


def _lines(pattern: re.Pattern[str], text: str, *, is_openmetrics: bool, thoroughly: bool) -> list[str]:
    """Return the samples of a page; ValueError when it is none."""
    lines = text.removesuffix("# EOF\n")
    if is_openmetrics is (lines == text):
        raise ValueError("the page does not end as its format does")
    good = pattern.match(lines)
    if good is None or good.end() < len(lines):
        at = good.end() if good else 0
        raise ValueError(f"no line of an exposition: {lines[at : at + 200]!r}")
    if thoroughly:
        for _ in (parse_openmetrics if is_openmetrics else parse_text)(text):
            pass
    return [line for line in lines.split("\n") if line and line[0] != "#"]


def _plain(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]
