"""One row per option, derived from the declaration.

The command line, the environment, the file and the documentation are all built from these rows, so that no
name, default or meaning is written twice.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from exporter.settings.options import ENV_PREFIX, Settings
from exporter.settings.values import Metavar, Repeatable, Spelled


@dataclass(frozen=True, slots=True)
class Option:
    """One option, as the command line, the environment, the file and the documentation need it.

    `name` is the field's, `spelling` what users write; `default` is what they would write, "" when there is
    none; `metavar` is "" for a switch; `bounds` has the limits of a number by "ge", "gt" and "le". A
    `repeatable` one is a list of texts when it comes by flags.
    """

    group: str
    name: str
    default: str
    metavar: str
    meaning: str
    spelling: str
    is_integer: bool
    bounds: Mapping[str, float]
    repeatable: bool = False

    @property
    def key(self) -> str:
        """The YAML key, written with a dot: `poll.stale-after`."""
        return f"{self.group}.{self.spelling}"

    @property
    def flag(self) -> str:
        """The flag: `--poll.stale-after`."""
        return f"--{self.key}"

    @property
    def variable(self) -> str:
        """The environment variable: `COHERE_EXPORTER_POLL_STALE_AFTER`."""
        return f"{ENV_PREFIX}{self.group}_{self.name}".upper()


def groups() -> dict[str, type[BaseModel]]:
    """Return the class of each group by its name, in the order of the declaration."""
    return {name: type(field.default) for name, field in Settings.model_fields.items()}


def options() -> Iterator[Option]:
    """Yield one row per option, in the order of the declaration."""
    for group, declared in groups().items():
        for name, field in declared.model_fields.items():
            yield Option(
                group,
                name,
                _default(field),
                _metavar(field),
                field.description or "",
                _spelling(name, field),
                field.annotation is int,
                _bounds(field),
                any(isinstance(entry, Repeatable) for entry in field.metadata),
            )


def _default(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    if isinstance(extra, dict):
        return str(extra["default"])
    return "" if field.default is None else str(field.default)


def _metavar(field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return "|".join(get_args(field.annotation))
    return next(entry.word for entry in field.metadata if isinstance(entry, Metavar))


def _bounds(field: FieldInfo) -> dict[str, float]:
    names = ("ge", "gt", "le")
    return {name: getattr(entry, name) for entry in field.metadata for name in names if hasattr(entry, name)}


def _spelling(name: str, field: FieldInfo) -> str:
    spelled = (entry.name for entry in field.metadata if isinstance(entry, Spelled))
    return next(spelled, name.replace("_", "-"))
