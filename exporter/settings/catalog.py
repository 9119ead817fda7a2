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

# Spelled as in every other exporter.
_SPELLED = {"web.config-file": "web.config.file"}


@dataclass(frozen=True, slots=True)
class Option:
    """One option, as the command line, the environment, the file and the documentation need it."""

    group: str
    name: str
    declared: FieldInfo

    @property
    def key(self) -> str:
        """The YAML key, written with a dot: `poll.stale-after`."""
        key = f"{self.group}.{self.name}".replace("_", "-")
        return _SPELLED.get(key, key)

    @property
    def flag(self) -> str:
        """The flag: `--poll.stale-after`."""
        return f"--{self.key}"

    @property
    def variable(self) -> str:
        """The environment variable: `COHERE_EXPORTER_POLL_STALE_AFTER`."""
        return f"{ENV_PREFIX}{self.group}_{self.name}".upper()

    @property
    def meaning(self) -> str:
        """What the option is for, in sentences."""
        return self.declared.description or ""

    @property
    def default(self) -> str:
        """The default as users would write it, or in words; "" when there is none."""
        extra = self.declared.json_schema_extra
        default = extra["default"] if isinstance(extra, dict) else self.declared.default
        return "" if default is None else str(default)

    @property
    def metavar(self) -> str:
        """The word for a value in `--help` and the documentation; "" for a switch."""
        if get_origin(self.declared.annotation) is Literal:
            return "|".join(get_args(self.declared.annotation))
        return self.declared.title or ""

    @property
    def repeatable(self) -> bool:
        """Whether the flag may be given several times; its values then arrive as a list."""
        return get_origin(self.declared.annotation) is tuple

    @property
    def bounds(self) -> Mapping[str, float]:
        """The limits of a number, by "ge", "gt" and "le"."""
        names = ("ge", "gt", "le")
        limits = self.declared.metadata
        return {name: getattr(limit, name) for limit in limits for name in names if hasattr(limit, name)}


def titles() -> dict[str, str]:
    """Return what `--help` and the documentation call each group, by its name."""
    return {name: (group.__doc__ or name).partition(".")[0] for name, group in _groups()}


def options() -> Iterator[Option]:
    """Yield one row per option, in the order of the declaration."""
    for name, group in _groups():
        for field, declared in group.model_fields.items():
            yield Option(name, field, declared)


def _groups() -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in Settings.model_fields.items():
        yield name, type(field.default)
