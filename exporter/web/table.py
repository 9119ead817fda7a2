"""The landing page's table of models: a row for each with its sparkline, and the way to further pages."""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from exporter.model import ModelState
from exporter.triage import base_of, loss_of, score_of, tone
from exporter.web.recent import Curve
from exporter.web.search import PAGE_SIZE, Selection
from exporter.web.words import age, number, status_words

_WIDTH, _HEIGHT, _MARGIN = 120, 28, 2  # of a sparkline
_HEADS = ("Status", "Model", "Step", "Loss", "Score", "Created")


def models_table(
    found: Sequence[ModelState], selection: Selection, *, curves: Mapping[str, Curve], now: float
) -> Iterable[str]:
    """Return the page of the models found that was asked for; `curves` are by the model's ID."""
    if not found:
        yield "<p>No model matches.</p>"
        return
    start = selection.start_of(found)
    shown = found[start : start + PAGE_SIZE]
    part = f"; {start + 1:,} to {start + len(shown):,} of {len(found):,}" if len(found) > PAGE_SIZE else ""
    heads = "".join(f'<th scope="col">{head}</th>' for head in _HEADS)
    rows = "\n".join(_row(state, curves.get(state.model.id), now) for state in shown)
    yield f"<table>\n<caption>Failed models first. Loss and score are evaluation metrics{part}</caption>"
    yield f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>"
    yield from _pages(selection, len(found))


def _row(state: ModelState, curve: Curve | None, now: float) -> str:
    model, progress = state.model, state.progress
    metrics = progress.metrics if progress else {}
    base = base_of(model)
    beneath = f'<span class="metric">{escape(base)}</span>' if base else ""
    return (
        f'<tr><td><span class="chip {tone(model.status)}">{status_words(model.status)}</span></td>'
        f'<th scope="row" title="{escape(model.id)}">{escape(model.name or model.id)}{beneath}</th>'
        f"<td>{f'{progress.step:,}' if progress else ''}</td>"
        f"<td>{_metric(metrics, loss_of(metrics), curve)}</td>"
        f"<td>{_metric(metrics, score_of(metrics), curve)}</td>"
        f"<td>{age(now - model.created_at) + ' ago' if model.created_at is not None else ''}</td></tr>"
    )


def _metric(metrics: Mapping[str, float], names: Sequence[str], curve: Curve | None) -> str:
    return "".join(
        f'{number(metrics[name])}<span class="metric">{escape(name)}</span>'
        f"{sparkline(curve) if curve and curve.metric == name else ''}"
        for name in names
    )


def _pages(selection: Selection, found: int) -> Iterable[str]:
    links = [
        f'<li><a href="./?{escape(selection.query(page))}">{label}</a></li>'
        for label, page in (("Previous", selection.page - 1), ("Next", selection.page + 1))
        if 1 <= page <= selection.last_page(found)
    ]
    if links:
        yield f'<nav aria-label="More models"><ul>{"".join(links)}</ul></nav>'


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
