"""Durations as Prometheus writes them: `45s`, `1m30s`, `2h`, or plain seconds.

The grammar is that of Prometheus' configuration: the units y, w, d, h, m, s and ms in this order, each at
most once, with whole numbers; a year has 365 days. In the program a duration is a float of seconds, never
negative and never longer than Prometheus can hold.
"""

import re

_MILLISECONDS = {
    "y": 365 * 86_400_000,
    "w": 7 * 86_400_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1000,
    "ms": 1,
}
_UNITS = re.compile("".join(f"(?:(?P<{unit}>[0-9]{{1,18}}){unit})?" for unit in _MILLISECONDS))
_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+")
_LONGEST = 2**63 / 1e9  # Prometheus counts nanoseconds in 64 bits: some 292 years
_ALLOWED = "must be a duration such as 45s, 1m30s or 2h, or plain seconds"


def parse_duration(value: str | float) -> float:
    """Return the seconds in a text such as "1m30s" or "90", or in a number; ValueError when it is neither."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(_ALLOWED)  # noqa: TRY004 - pydantic collects ValueErrors only
    seconds = _parse_text(value.strip()) if isinstance(value, str) else value
    if not 0 <= seconds <= _LONGEST:  # false for NaN too
        raise ValueError(_ALLOWED)
    return float(seconds)


def _parse_text(text: str) -> float:
    if _SECONDS.fullmatch(text):
        return float(text)
    match = _UNITS.fullmatch(text)
    if not match or not text:
        raise ValueError(_ALLOWED)
    return sum(int(count) * _MILLISECONDS[unit] for unit, count in match.groupdict("0").items()) / 1000


def format_duration(seconds: float) -> str:
    """Return the shortest Prometheus text of `seconds`, to the millisecond: 90.0 is "1m30s"."""
    rest = round(seconds * 1000)
    parts = []
    for unit, size in _MILLISECONDS.items():
        # As Prometheus does: 90d reads better than 12w6d, so years and weeks only when they fit exactly.
        if rest >= size and (unit not in ("y", "w") or rest % size == 0):
            parts.append(f"{rest // size}{unit}")
            rest %= size
    return "".join(parts) or "0s"
