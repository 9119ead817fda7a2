"""A curve as a small SVG within the page: no script, no style of its own, a title in words."""

import math
from html import escape

from exporter.web.recent import Curve

_WIDTH, _HEIGHT, _MARGIN = 120, 28, 2


def sparkline(curve: Curve | None) -> str:
    """Return the curve as SVG; "" when there are fewer than two numbers. A value that is none is a gap."""
    finite = [value for value in curve.values if math.isfinite(value)] if curve else []
    if curve is None or len(finite) < 2:
        return ""
    title = f"Steps {curve.steps[0]:,} to {curve.steps[-1]:,}: from {finite[0]:.4g} to {finite[-1]:.4g}"
    return (
        f'<svg class="curve" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">'
        f'<title>{escape(title)}</title><path d="{_path(curve, min(finite), max(finite))}"/></svg>'
    )


def _path(curve: Curve, lowest: float, highest: float) -> str:
    """Return the curve's path, a part for each stretch between gaps; one value alone is a dot."""
    first, length = curve.steps[0], curve.steps[-1] - curve.steps[0]
    # Halves, because the difference of two numbers may be more than there is room for.
    half = highest / 2 - lowest / 2
    parts, is_apart = [], True
    for step, value in zip(curve.steps, curve.values, strict=True):
        if not math.isfinite(value):
            is_apart = True
            continue
        x = _MARGIN + (_WIDTH - 2 * _MARGIN) * (step - first) / length
        share = (value / 2 - lowest / 2) / half if half else 0.5
        y = _MARGIN + (_HEIGHT - 2 * _MARGIN) * (1 - share)
        parts.append(f"{'M' if is_apart else 'L'}{x:.0f} {y:.1f}{'h0' if is_apart else ''}")
        is_apart = False
    return "".join(parts)
