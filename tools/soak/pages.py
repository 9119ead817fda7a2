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
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")
STATUS = "cohere_finetuned_model_status{"
STEP = "cohere_finetuned_model_training_step{"
OF_MODELS = "cohere_finetuned_model"


@dataclass(frozen=True)
class Page:
    """Series, as they are written, and their values."""

    series: Mapping[str, float]

    def shown(self) -> Mapping[str, tuple[str, str]]:
        """Give name and status of each model by its id; ValueError where one has not exactly one status."""
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
        """Give the highest step of each model that has one."""
        return {
            labels(series)["model_id"]: value
            for series, value in self.series.items()
            if series.startswith(STEP)
        }

    @property
    def has_models(self) -> bool:
        """Whether there is a series of a model."""
        return any(series.startswith(OF_MODELS) for series in self.series)


def labels(series: str) -> Mapping[str, str]:
    """Give the labels of a series."""
    return {name: _ESCAPED.sub(_plain, value) for name, value in _LABEL.findall(series)}


def read(text: str, *, is_openmetrics: bool, thoroughly: bool = False) -> Page:
    """Read a page; ValueError when it is none."""
    lines = text.removesuffix("# EOF\n")
    if is_openmetrics is (lines == text):
        raise ValueError("the page does not end as its format does")
    good = _LINES.match(lines)
    if good is None or good.end() < len(lines):
        at = good.end() if good else 0
        raise ValueError(f"no line of an exposition: {lines[at : at + 200]!r}")
    pairs = [line.rsplit(" ", 1) for line in lines.split("\n") if line and line[0] != "#"]
    series = {name: float(value) for name, value in pairs}
    if len(series) < len(pairs):
        raise ValueError("a series comes twice")
    if thoroughly:
        for _ in (parse_openmetrics if is_openmetrics else parse_text)(text):
            pass
    return Page(series)


def _plain(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]
