"""Text and colour of every value that has them: the one place from which all panels take them.

A panel that shows a status in a table or over time needs it as a number, so each has one. The larger the
number, the sooner somebody should look: tables sort by it, and when two exporters disagree for a moment the
worse status is shown.
"""

from dataclasses import dataclass

from grafana_foundation_sdk.models.dashboard import (
    DashboardSpecialValueMapOptions,
    SpecialValueMap,
    SpecialValueMatch,
    ValueMap,
    ValueMapping,
    ValueMappingResult,
)

from exporter.model import Status


@dataclass(frozen=True, slots=True)
class Look:
    """How a status is shown."""

    text: str
    color: str


NEUTRAL = "text"
"""The colour of ordinary text in light and dark themes."""
OTHER = Look("Other", "#c9c9c9")
"""A status that the API has added since; its number is 0."""

LOOKS: dict[Status, Look] = {
    Status.UNSPECIFIED: Look("Unspecified", "#a0a4a8"),
    Status.DELETED: Look("Deleted", "#55595f"),
    Status.PAUSED: Look("Paused", "#7b8087"),
    Status.READY: Look("Ready", "green"),
    Status.QUEUED: Look("Queued", "yellow"),
    Status.DEPLOYING_API: Look("Deploying", "purple"),
    Status.FINETUNING: Look("Training", "blue"),
    Status.TEMPORARILY_OFFLINE: Look("Offline", "orange"),
    Status.FAILED: Look("Failed", "red"),
}
"""In the order of their numbers, which begin at 1."""


def code(status: Status) -> int:
    """Give the number that stands for a status in panels."""
    return list(LOOKS).index(status) + 1


def by_code() -> list[ValueMapping]:
    """Give the mappings that turn the numbers of statuses into texts and colours."""
    return words(
        {"0": (OTHER.text, OTHER.color)}
        | {str(code(status)): (look.text, look.color) for status, look in LOOKS.items()}
    )


def up_or_down() -> list[ValueMapping]:
    """Give the mappings of `cohere_up`."""
    return words({"1": ("up", "green"), "0": ("down", "red")})


def zero() -> list[ValueMapping]:
    """Give the mapping that lets a 0 recede, whatever colour other numbers have."""
    return words({"0": ("0", NEUTRAL)})


def severities() -> list[ValueMapping]:
    """Give the mappings of alerts' severities; any other is shown as it is."""
    return words(
        {"critical": ("critical", "red"), "warning": ("warning", "orange"), "info": ("info", "blue")}
    )


def base_types() -> list[ValueMapping]:
    """Give the mappings of the API's base types; any other is shown as it is."""
    names = ("Chat", "Generative", "Classification", "Rerank", "Unspecified")
    return words({f"BASE_TYPE_{name.upper()}": (name, NEUTRAL) for name in names})


def unknown(text: str) -> list[ValueMapping]:
    """Give the mapping of NaN, by which a query stands in for a number that there is not."""
    result = ValueMappingResult(text=text, color=NEUTRAL)
    return [
        SpecialValueMap(options=DashboardSpecialValueMapOptions(match=SpecialValueMatch.NA_N, result=result))
    ]


def words(texts: dict[str, tuple[str, str]]) -> list[ValueMapping]:
    """Give mappings of values to a text and a colour."""
    results = {
        value: ValueMappingResult(text=text, color=color, index=index)
        for index, (value, (text, color)) in enumerate(texts.items())
    }
    return [ValueMap(options=results)]
