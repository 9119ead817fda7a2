"""Results as a chart: horizontal bars, a group for each result, drawn as an SVG that needs nothing.

Each bar carries its figure and the exporter's ratio to it, because groups whose figures lie far apart have
scales of their own. The colours follow the reader's light or dark scheme, background included.
"""

from collections.abc import Sequence
from html import escape

from tools.benchmarks.results import Figure, Result, number, times

_WIDTH, _MARGIN, _LABELS, _BARS = 860, 20, 250, 360
_BAR, _GAP, _HEADING = 16, 6, 30
_HINT = "In brackets: this exporter's figure divided by the one beside it."
_SCALES = " Each group has a scale of its own."
_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .title { font-size: 16px; font-weight: 600 } .case { font-weight: 600 } .note { fill: #59636e }
  .ground { fill: #ffffff; stroke: #d1d9e0 } .ours { fill: #0b6bcb } .other { fill: #9aa4af }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .note { fill: #9198a1 }
    .ground { fill: #0d1117; stroke: #3d444d } .ours { fill: #58a6ff } .other { fill: #656c76 }
  }
"""


def svg(title: str, results: Sequence[Result], *, one_scale: bool = False) -> str:
    """Draw results that share a unit, each group to its own scale or all to one."""
    scales = [max(one.median for one in (result.ours, *result.others)) for result in results]
    hint = _HINT + ("" if one_scale else _SCALES)
    parts, y = [_text(_MARGIN, 32, title, "title"), _text(_MARGIN, 52, hint, "note")], 64
    for result, own_scale in zip(results, scales, strict=True):
        longest = max(scales) if one_scale else own_scale
        parts.append(_text(_MARGIN, y + 20, result.case, "case"))
        y += _HEADING
        for figure in (result.ours, *result.others):
            parts += _bar(y, figure, result, longest)
            y += _BAR + _GAP
        y += _GAP
    ground = f'<rect class="ground" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{y + 11}" rx="8"/>'
    size = f'viewBox="0 0 {_WIDTH} {y + 12}" width="{_WIDTH}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
    body = "\n".join([head, f"<title>{escape(title)}</title>", f"<style>{_STYLE}</style>", ground, *parts])
    return f"{body}\n</svg>\n"


def _bar(y: int, figure: Figure, result: Result, longest: float) -> list[str]:
    is_ours = figure is result.ours
    # A sliver is left of what is very small, so that it is seen to be there.
    width = max(1.5, _BARS * figure.median / longest)
    label = number(figure.median) + ("" if is_ours else f"  ({times(result.ratio(figure))})")
    x = _MARGIN + _LABELS
    middle = y + _BAR - 3
    colour = "ours" if is_ours else "other"
    return [
        _text(x - 10, middle, figure.name, "note", anchor="end"),
        f'<rect class="{colour}" x="{x}" y="{y}" width="{width:.1f}" height="{_BAR}"/>',
        _text(x + width + 8, middle, label, ""),
    ]


def _text(x: float, y: float, text: str, class_: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y}" class="{class_}" text-anchor="{anchor}">{escape(text)}</text>'
