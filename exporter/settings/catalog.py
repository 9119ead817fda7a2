"""One row per option, derived from the declaration.

The command line, the environment, the file and the documentation are all built from these rows, so that no
name, default or meaning is written twice.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from exporter.settings.durations import format_duration
from exporter.settings.options import ENV_PREFIX, Settings
from exporter.settings.subcommands import Flag

_LIMITS = {"ge": "at least", "gt": "more than", "le": "at most"}
# Spelled as in every other exporter.
_SPELLED = {"web.config-file": "web.config.file"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Option(Flag):
    """One option, as the command line, the environment, the file and the documentation need it.

    `key` is the YAML key, written with a dot; `default` is as users would write it, or in words, and "" when
    there is none; `bounds` are the limits of a number, by "ge", "gt" and "le".
    """

    name: str
    key: str
    variable: str
    bounds: Mapping[str, float]
    declared: FieldInfo

    def limit(self, bound: str) -> str:
        """Return one of the bounds in words: "at least 1s"."""
        limit = self.bounds[bound]
        written = format_duration(limit) if self.metavar == "DURATION" else f"{limit:g}"
        return f"{_LIMITS[bound]} {written}"


def titles() -> dict[str, str]:
    """Return what `--help` and the documentation call each group, by its name."""
    return {name: (group.__doc__ or name).partition(".")[0] for name, group in _groups()}


def options() -> Iterator[Option]:
    """Yield one row per option, in the order of the declaration."""
    for name, group in _groups():
        for field, declared in group.model_fields.items():
            yield _option(name, field, declared)


def _groups() -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in Settings.model_fields.items():
        yield name, type(field.default)


def _option(group: str, name: str, declared: FieldInfo) -> Option:
    key = f"{group}.{name}".replace("_", "-")
    key = _SPELLED.get(key, key)
    kind, extra = get_origin(declared.annotation), declared.json_schema_extra
    return Option(
        flag=f"--{key}",
        meaning=declared.description or "",
        metavar="|".join(get_args(declared.annotation)) if kind is Literal else declared.title or "",
        repeatable=kind is tuple,
        group=group,
        name=name,
        key=key,
        variable=f"{ENV_PREFIX}{group}_{name}".upper(),
        default=str(extra["default"]) if isinstance(extra, dict) else "",
        bounds={
            bound: getattr(limit, bound)
            for limit in declared.metadata
            for bound in _LIMITS
            if hasattr(limit, bound)
        },
        declared=declared,
    )
