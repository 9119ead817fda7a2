"""Whether the data can be trusted: two stats that more than one dashboard shows."""

from grafana_foundation_sdk.models.dashboard import Panel

from grafana.looks import words
from grafana.panels import single
from grafana.promql import IDENTITY, age_of_data, chosen, expected

AGE_COLORS = {"fresh": "green", "late": "orange", "stale": "red", "never": "red", "gone": "red"}


def api(*matchers: str) -> Panel:
    """Build the stat of the API's state as the last polls saw it."""
    up = chosen("cohere_up", *matchers)
    return single(
        "API",
        "Whether the last poll listed every page of models. Of several accounts the worst is shown, also "
        "one whose exporter cannot be scraped: it vanished within a week, or never answered. While the API "
        "is down the last good data is shown until it is stale.",
        f"min(max by ({IDENTITY}) ({up})\nor 0 * {expected(IDENTITY, *matchers)} - 1)",
        mappings=words({"1": ("up", "green"), "0": ("down", "red"), "-1": ("exporter down", "red")}),
        filled=True,
        empty="no exporter",
    )


def age(*matchers: str) -> Panel:
    """Build the stat of the time since the last success."""
    return single(
        "Age of data",
        "Time since a poll last listed every model; of several accounts the worst is shown. Green up to half "
        "of --poll.stale-after, orange beyond that, red once the models' metrics were dropped, and where an "
        "exporter vanished within a week, never answered or never succeeded.",
        (age_of_data(*matchers), "{{age}}"),
        unit="s",
        colors=AGE_COLORS,
        mappings=words({"-1": ("no success yet", "red")}),
        filled=True,
        empty="no data",
    )
