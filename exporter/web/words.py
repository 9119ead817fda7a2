"""Times, durations, numbers and statuses as the landing page words them."""

import math
from datetime import UTC, datetime
from html import escape

from exporter.triage import short_status, tone

_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def moment(at: float, now: float) -> str:
    """Return a time in Unix seconds as HTML: how long ago, and when."""
    when = datetime.fromtimestamp(at, UTC)
    written = f'<time datetime="{when:%Y-%m-%dT%H:%M:%SZ}">{when:%Y-%m-%d %H:%M:%S} UTC</time>'
    return f'{duration(max(now - at, 0))} ago <span class="soft">({written})</span>'


def duration(seconds: float) -> str:
    """Return a duration in its one or two largest units: 12 s, 1 min 30 s, 2 h, 3 d 4 h."""
    rest = round(seconds)
    parts = []
    for unit, size in _UNITS:
        count, rest = divmod(rest, size)
        parts.append((count, unit))
    while len(parts) > 1 and parts[0][0] == 0:
        del parts[0]
    return " ".join(f"{count} {unit}" for i, (count, unit) in enumerate(parts[:2]) if count or i == 0)


def age(seconds: float) -> str:
    """Return an age in its largest unit: 12 s, 3 min, 2 h, 90 d."""
    return " ".join(duration(max(seconds, 0)).split()[:2])


def number(value: float) -> str:
    """Return a measured number, marked when it is none."""
    if math.isfinite(value):
        return f"{value:.4g}"
    return f'<span class="chip alarm">{"NaN" if math.isnan(value) else "∞" if value > 0 else "-∞"}</span>'


def status_words(status: str) -> str:
    """Return a status as HTML in words, with a mark where it is an alarm."""
    mark = "! " if tone(status) == "alarm" else ""
    return mark + escape(short_status(status).replace("_", " "))
