"""Polled and complete curves as a picture: a panel for each run, drawn as an SVG that needs nothing.

The line is every row at its own time, as /metrics/steps brings it; dots are what scrapes of /metrics saw.
"""

from collections.abc import Sequence
from html import escape

from tools.benchmarks.chart import _MARGIN, _STYLE, _WIDTH, _text
from tools.curves.scenarios import METRIC, Lived, Scenario

_TOP, _PLOT, _PANEL, _LEFT = 72, 150, 226, 64
_RIGHT = _WIDTH - _MARGIN
_TITLE = f"One run's {METRIC}: complete from /metrics/steps, polled from /metrics"
_HINT = "Line: every row, at its own time. Dots: the values that scrapes of /metrics saw, when they saw them."
_LINES = """
  .complete { fill: none; stroke: #0b6bcb; stroke-width: 1.2 }
  .polled { fill: #d1242f } .axis { stroke: #d1d9e0 }
  @media (prefers-color-scheme: dark) {
    .complete { stroke: #58a6ff } .polled { fill: #ff7b72 } .axis { stroke: #3d444d }
  }
"""


def svg(runs: Sequence[tuple[Scenario, Lived]]) -> str:
    """Draw some runs."""
    parts = [_text(_MARGIN, 32, _TITLE, "title"), _text(_MARGIN, 52, _HINT, "note")]
    for place, (scenario, life) in enumerate(runs):
        parts += _panel(_TOP + place * _PANEL, scenario, life)
    height = _TOP + len(runs) * _PANEL
    ground = f'<rect class="ground" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{height - 1}" rx="8"/>'
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
    style = f"<style>{_STYLE}{_LINES}</style>"
    return "\n".join([head, f"<title>{escape(_TITLE)}</title>", style, ground, *parts]) + "\n</svg>\n"


def _panel(top: int, scenario: Scenario, life: Lived) -> list[str]:
    complete = sorted((at / 1000, value) for (at, _), value in life.rows.items())
    polled = sorted(life.polled.values())
    begin, end = complete[0][0], max(complete[-1][0], polled[-1][0] if polled else 0.0)
    least, most = (choose(value for _, value in complete) for choose in (min, max))
    bottom = top + 36 + _PLOT

    def place(at: float, value: float) -> tuple[float, float]:
        across = _LEFT + (at - begin) / (end - begin) * (_RIGHT - _LEFT)
        return across, bottom - (value - least) / (most - least) * _PLOT

    line = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in complete)
    dots = (place(*point) for point in polled)
    rows, seen = len(complete), len(polled)
    title = f"{scenario.run}; polls: {scenario.polls}. {rows:,} rows, {seen:,} of them in /metrics"
    return [
        _text(_MARGIN, top + 22, title, "case"),
        _text(_LEFT - 8, bottom, f"{least:.1f}", "note", anchor="end"),
        _text(_LEFT - 8, bottom - _PLOT + 10, f"{most:.1f}", "note", anchor="end"),
        f'<line class="axis" x1="{_LEFT}" y1="{bottom}" x2="{_RIGHT}" y2="{bottom}"/>',
        f'<polyline class="complete" points="{line}"/>',
        *(f'<circle class="polled" cx="{x:.1f}" cy="{y:.1f}" r="2.2"/>' for x, y in dots),
        _text(_RIGHT, bottom + 16, f"{(end - begin) / 60:.0f} minutes", "note", anchor="end"),
    ]
