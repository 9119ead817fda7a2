"""Text and colour of every value that has them: the one place from which all panels take them.

A panel that shows a status in a table or over time needs it as a number, so each has one. The larger the
number, the sooner somebody should look: tables sort by it, and when two exporters disagree for a moment the
worse status is shown.
"""

from dataclasses import dataclass

from grafana_foundation_sdk.models.dashboard import ValueMap, ValueMapping, ValueMappingResult

from exporter.model import Status


@dataclass(frozen=True, slots=True)
class Look:
    """How a status is shown."""

    text: str
    color: str


NEUTRAL = "text"
"""The colour of ordinary text in light and dark themes."""
CLEAR = "transparent"
"""The colour of the panel itself, for filled stats that have nothing to say."""
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

BASE_TYPES = {
    f"BASE_TYPE_{name.upper()}": name
    for name in ("Chat", "Generative", "Classification", "Rerank", "Unspecified")
}
"""The texts of the API's base types."""


def code(status: Status) -> int:
    """Return the number that stands for a status in panels."""
    return list(LOOKS).index(status) + 1


def by_code() -> list[ValueMapping]:
    """Return the mappings that turn the numbers of statuses into texts and colours."""
    return words(
        {"0": (OTHER.text, OTHER.color)}
        | {str(code(status)): (look.text, look.color) for status, look in LOOKS.items()}
    )


def zero() -> list[ValueMapping]:
    """Return the mapping that lets a 0 recede, whatever colour other numbers have."""
    return words({"0": ("0", NEUTRAL)})


def severities() -> list[ValueMapping]:
    """Return the mappings of alerts' severities; any other is shown as it is."""
    return words(
        {"critical": ("critical", "red"), "warning": ("warning", "orange"), "info": ("info", "blue")}
    )


def base_types() -> list[ValueMapping]:
    """Return the mappings of the API's base types; any other is shown as it is."""
    return words({base_type: (text, NEUTRAL) for base_type, text in BASE_TYPES.items()})


def statuses() -> list[ValueMapping]:
    """Return the mappings of statuses by their names in the API; any other is shown as it is."""
    return words({status.value: (look.text, look.color) for status, look in LOOKS.items()})


def words(texts: dict[str, tuple[str, str]]) -> list[ValueMapping]:
    """Return mappings of values to a text and a colour."""
    results = {
        value: ValueMappingResult(text=text, color=color, index=index)
        for index, (value, (text, color)) in enumerate(texts.items())
    }
    return [ValueMap(options=results)]
