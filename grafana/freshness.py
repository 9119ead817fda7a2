"""Whether the data can be trusted: two stats that more than one dashboard shows."""

from grafana_foundation_sdk.models.dashboard import Panel

from grafana.looks import up_or_down
from grafana.panels import single
from grafana.promql import age_of_data, braces

AGE_COLORS = {"fresh": "green", "late": "orange", "stale": "red"}


def api(selector: str = "", by: str = "") -> Panel:
    """Build the stat that tells whether the API answers."""
    group = f" by ({by})" if by else ""
    return single(
        "API",
        "Whether the last poll listed every page of models. Where several exporters disagree, down wins. "
        "While it is down the last good data is shown, until it is too old.",
        (f"min{group} (cohere_up{braces(selector)})", f"{{{{{by}}}}}" if by else ""),
        mappings=up_or_down(),
        names=bool(by),
        filled=True,
        empty="no exporter",
    )


def age(selector: str = "", by: str = "") -> Panel:
    """Build the stat of the time since the last success."""
    return single(
        "Age of data",
        "Time since a poll last listed every model; of several exporters the worst is shown, unless each has "
        "its own. Fresh up to half the time that old data is kept (--poll.stale-after), late beyond that, "
        "stale once the models' metrics have been taken away.",
        (age_of_data(selector, by), f"{{{{{by}}}}}: {{{{age}}}}" if by else "{{age}}"),
        unit="s",
        colors=AGE_COLORS,
        names=bool(by),
        filled=True,
        empty="no poll has succeeded",
    )
