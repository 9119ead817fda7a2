"""What a client accepts → what it is sent (RFC 9110, sections 12.4.2, 12.5.1 and 12.5.3).

A header is only a wish here: one that makes no sense, or that nothing on offer satisfies, gets the default,
because a scrape in the wrong format is worth more than a 406. Nothing in this module raises on any text.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from exporter.exposition import Format

# Text stands first, because the first is the default.
_OFFERS = {
    Format.TEXT: ("text/plain", "0.0.4"),
    Format.OPENMETRICS: ("application/openmetrics-text", "1.0.0"),
}
_LONGEST = 1024  # characters of a header; a longer one says nothing more and would hold up everybody
_QUALITY = re.compile(r"0?\.[0-9]+|0\.?|1(?:\.0*)?")


@dataclass(frozen=True, slots=True)
class _Preference:
    """One element of a header, in lower case: `text/plain;version=0.0.4;q=0.5`."""

    value: str
    parameters: Mapping[str, str]
    quality: float


def choose_format(accept: str) -> Format:
    """Return the exposition format that an `Accept` header asks for; text 0.0.4 when it asks for neither.

    Each format is as welcome as the most specific range that matches it says; the most welcome wins, and
    of two alike the one named first.
    """
    preferences = list(_preferences(accept))
    ranks = {offer: _rank(preferences, *names) for offer, names in _OFFERS.items()}
    best = max(ranks, key=lambda offer: ranks[offer])
    return best if ranks[best][0] > 0 else Format.TEXT


def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether an `Accept-Encoding` header allows gzip and does not prefer a response as it is."""
    qualities: dict[str, float] = {}
    for preference in _preferences(accept_encoding):
        coding = preference.value.removeprefix("x-")  # x-gzip is an old name of gzip
        qualities[coding] = max(preference.quality, qualities.get(coding, 0.0))
    gzip = qualities.get("gzip", qualities.get("*", 0.0))
    return gzip > 0 and gzip >= qualities.get("identity", 0.0)


def _preferences(header: str) -> Iterable[_Preference]:
    """Read the elements of a header, leaving out those whose quality cannot be read."""
    for element in header[:_LONGEST].lower().split(","):
        value, *rest = (part.strip() for part in element.split(";"))
        parameters = {
            name.strip(): text.strip(' \t"') for name, _, text in (part.partition("=") for part in rest)
        }
        quality = parameters.get("q", "1")
        if _QUALITY.fullmatch(quality):
            yield _Preference(value, parameters, float(quality))


def _rank(preferences: Iterable[_Preference], media_type: str, version: str) -> tuple[float, int]:
    """Return the quality the preferences leave to an offer, and for ties minus the place that says so."""
    matches = [
        (specificity, preference.quality, -place)
        for place, preference in enumerate(preferences)
        if (specificity := _specificity(preference, media_type, version))
    ]
    _, quality, place = max(matches, default=(0, 0.0, 0))
    return quality, place


def _specificity(preference: _Preference, media_type: str, version: str) -> int:
    """Return how closely a range names an offer: from 0, not at all, to 4, by its type and version.

    Other parameters (`escaping`, `charset`) do not tell one offer from another.
    """
    if preference.parameters.get("version", version) != version:
        return 0
    if preference.value == media_type:
        return 4 if "version" in preference.parameters else 3
    if preference.value == media_type.partition("/")[0] + "/*":
        return 2
    return 1 if preference.value == "*/*" else 0
