"""The YAML file of `--config.file`: groups of options, with `-` or `_` in their names.

No message repeats a value of the file, nor what the YAML parser says about it, which quotes the text.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from exporter.runtime.files import Unreadable, read_once
from exporter.runtime.yaml import DuplicateKey, UniqueKeyLoader, cause
from exporter.settings.catalog import groups, options
from exporter.settings.options import SettingsError
from exporter.suggestions import suggestion

_LARGEST = 1 << 20  # bytes


def read_file(path: str) -> dict[str, dict[str, Any]]:
    """Return the values of the file, by group and field; SettingsError names the file and what is wrong.

    An empty group, and an option that is null, count as not given.
    """
    content = _parse(path)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError(f"{path}: must be a mapping of option groups, such as poll: {{interval: 60s}}")
    return {str(group): _read_group(path, str(group), members) for group, members in content.items()}


def _parse(path: str) -> object:
    try:
        text = read_once(Path(path), _LARGEST).decode("utf-8")
    except Unreadable as error:
        raise SettingsError(f"{path}: cannot be read: {error}") from None
    except ValueError:
        raise SettingsError(f"{path}: cannot be read: not a UTF-8 text file") from None
    try:
        return yaml.load(text, UniqueKeyLoader)  # noqa: S506 - a safe loader
    except yaml.MarkedYAMLError as error:
        what = "a key is given twice" if isinstance(error, DuplicateKey) else "is not valid YAML"
        where = f" (line {error.problem_mark.line + 1})" if error.problem_mark else ""
        raise SettingsError(f"{path}: {what}{where}{cause(error)}") from None
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError):
        # Besides its own errors the parser lets those of dates and numbers it cannot build pass.
        raise SettingsError(f"{path}: is not valid YAML") from None


def _read_group(path: str, group: str, members: object) -> dict[str, Any]:
    if group not in groups():
        known = list(groups())
        hint = suggestion(group, known) or f"; the groups are {', '.join(known)}"
        raise SettingsError(f"{path}: unknown key {group}{hint}")
    if members is None:
        return {}
    if not isinstance(members, dict):
        raise SettingsError(f"{path}: {group}: must be a mapping of options")
    values = _by_field(path, group, members)
    return {name: value for name, value in values.items() if value is not None}


def _by_field(path: str, group: str, members: Mapping[object, Any]) -> dict[str, Any]:
    known = {option.key: option.name for option in options() if option.group == group}
    values: dict[str, Any] = {}
    for member, value in _flat(members, known):
        key = f"{group}.{member.replace('_', '-')}"
        _refuse_misplaced(path, key)
        if key not in known:
            raise SettingsError(f"{path}: unknown key {group}.{member}{suggestion(key, list(known))}")
        if known[key] in values:
            raise SettingsError(f"{path}: {key} is given twice, in two spellings; keep one")
        values[known[key]] = value
    return values


def _flat(members: Mapping[object, Any], known: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Yield each member by its name: `config: {file: …}` is `config.file`."""
    nested = {key.split(".")[1] for key in known if key.count(".") > 1}
    for member, value in members.items():
        if member in nested and isinstance(value, dict):
            yield from ((f"{member}.{inner}", entry) for inner, entry in value.items())
        else:
            yield str(member), value


def _refuse_misplaced(path: str, key: str) -> None:
    if key == "config.file":
        raise SettingsError(f"{path}: config.file: cannot be set in the file itself")
    if key == "cohere.api-key":
        raise SettingsError(
            f"{path}: {key}: the API key cannot be set here; set COHERE_API_KEY or cohere.api-key-file"
        )
