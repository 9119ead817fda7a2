"""Resources over a run as a chart: a panel for each, drawn as an SVG that needs nothing.

Each panel has its own scale, from zero, so that a creep is as steep as it is large. The warm-up is shaded;
both medians that are compared are drawn over the hours they are of. Colours follow the benchmarks' charts.
"""

from collections.abc import Sequence
from html import escape

from tools.benchmarks.chart import _MARGIN, _STYLE, _WIDTH, _text
from tools.soak.resources import RESOURCES, Trend
from tools.soak.results import Report, amount

_LEFT, _TOP, _PLOT, _PANEL = 150, 72, 110, 156
_RIGHT = _WIDTH - _MARGIN
_HINT = "One point an hour. Shaded: the warm-up. Thick: medians of the first and the last quarter after it."
_LINES = """
  .line { fill: none; stroke: #9aa4af; stroke-width: 1 } .median { stroke: #0b6bcb; stroke-width: 3 }
  .axis { stroke: #d1d9e0 } .warm-up { fill: #9aa4af; opacity: 0.15 }
  @media (prefers-color-scheme: dark) {
    .line { stroke: #656c76 } .median { stroke: #58a6ff } .axis { stroke: #3d444d }
  }
"""


def svg(title: str, report: Report, names: Sequence[str]) -> str:
    """Draw the resources of these names."""
    parts = [_text(_MARGIN, 32, title, "title"), _text(_MARGIN, 52, _HINT, "note")]
    for place, name in enumerate(names):
        number = next(number for number, resource in enumerate(RESOURCES) if resource.name == name)
        parts += _panel(_TOP + place * _PANEL, report, [row[number] for row in report.rows], number)
    height = _TOP + len(names) * _PANEL
    ground = f'<rect class="ground" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{height - 1}" rx="8"/>'
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
    style = f"<style>{_STYLE}{_LINES}</style>"
    return "\n".join([head, f"<title>{escape(title)}</title>", style, ground, *parts]) + "\n</svg>\n"


def _panel(top: int, report: Report, values: Sequence[float], number: int) -> list[str]:
    trend = report.trends[number]
    scale = _PLOT / (1.15 * max(*values, 1.0))
    bottom = top + _PLOT + 20
    step = (_RIGHT - _LEFT) / max(len(values) - 1, 1)
    points = " ".join(
        f"{_LEFT + n * step:.1f},{bottom - value * scale:.1f}" for n, value in enumerate(values)
    )
    warm = report.warm_up * step
    unit = trend.resource.unit
    return [
        _text(_MARGIN, top + 34, trend.resource.name, "case"),
        _text(_MARGIN, top + 54, f"at most {amount(max(values), unit)}", "note"),
        f'<rect class="warm-up" x="{_LEFT}" y="{top + 20}" width="{warm:.1f}" height="{_PLOT}"/>',
        f'<line class="axis" x1="{_LEFT}" y1="{bottom}" x2="{_RIGHT}" y2="{bottom}"/>',
        f'<polyline class="line" points="{points}"/>',
        *_medians(trend, bottom, scale, (_LEFT + warm, _RIGHT)),
        *_days(bottom, report.hours, step),
    ]


def _medians(trend: Trend, bottom: int, scale: float, span: tuple[float, float]) -> list[str]:
    begin, end = span
    quarter = (end - begin) / 4
    parts = []
    for x, value in ((begin, trend.first), (end - quarter, trend.last)):
        y = bottom - value * scale
        label = amount(value, trend.resource.unit)
        parts.append(f'<line class="median" x1="{x:.1f}" y1="{y:.1f}" x2="{x + quarter:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(x + quarter / 2, round(y + 18), label, "", anchor="middle"))
    return parts


def _days(bottom: int, hours: int, step: float) -> list[str]:
    every = max(hours // 24 // 6, 1)
    return [
        _text(_LEFT + day * 24 * step, bottom + 15, f"day {day}", "note", anchor="middle")
        for day in range(0, hours // 24 + 1, every)
        if _LEFT + day * 24 * step < _RIGHT
    ]
