"""The YAML file of `--config.file`: groups of options, with `-` or `_` in their names.

No message repeats a value of the file, nor what the YAML parser says about it, which quotes the text.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from exporter.runtime.files import Unreadable, read_once
from exporter.runtime.yaml import DuplicateKey, UniqueKeyLoader, cause
from exporter.settings.catalog import options, titles
from exporter.settings.options import SettingsError
from exporter.suggestions import suggestion

_LARGEST = 1 << 20  # bytes


def read_file(path: str) -> dict[str, Any]:
    """Return the values of the file by the options' keys; SettingsError names the file and what is wrong.

    An empty group, and an option that is null, count as not given.
    """
    content = _parse(path)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError(f"{path}: must be a mapping of option groups, such as poll: {{interval: 60s}}")
    values: dict[str, Any] = {}
    for group, members in content.items():
        for key, value in _read_group(path, str(group), members):
            if key in values:
                raise SettingsError(f"{path}: {key} is given twice, in two spellings; keep one")
            values[key] = value
    return {key: value for key, value in values.items() if value is not None}


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
        what = (
            f"{_named(error.name)} is given twice" if isinstance(error, DuplicateKey) else "is not valid YAML"
        )
        where = f" (line {error.problem_mark.line + 1})" if error.problem_mark else ""
        raise SettingsError(f"{path}: {what}{where}{cause(error)}") from None
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError):
        # Besides its own errors the parser lets those of dates and numbers it cannot build pass.
        raise SettingsError(f"{path}: is not valid YAML") from None


def _named(key: str) -> str:
    """Return a key that options have; any other may be a value in the wrong place."""
    known = {part for option in options() for part in (*option.key.split("."), option.key.partition(".")[2])}
    return key if key.replace("_", "-") in known else "a key"


def _read_group(path: str, group: str, members: object) -> Iterator[tuple[str, Any]]:
    groups = list(titles())
    if group not in groups:
        outer, _, inner = group.partition(".")
        _refuse_misplaced(path, group.replace("_", "-"))
        nested = f"; write it as {outer}: {{{inner}: ...}}" if outer in groups else ""
        hint = nested or suggestion(group, groups) or f"; the groups are {', '.join(groups)}"
        raise SettingsError(f"{path}: unknown key {group}{hint}")
    if members is not None and not isinstance(members, dict):
        raise SettingsError(f"{path}: {group}: must be a mapping of options")
    known = [option.key for option in options() if option.group == group]
    for name, value in _flat(group, members or {}, known):
        key = name.replace("_", "-")
        _refuse_misplaced(path, key)
        if key not in known:
            raise SettingsError(f"{path}: unknown key {name}{suggestion(key, known)}")
        yield key, value


def _flat(group: str, members: Mapping[object, Any], known: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Yield each member by its name: in `web`, `config: {file: …}` is `web.config.file`."""
    for member, value in members.items():
        name = f"{group}.{member}"
        if isinstance(value, dict) and any(key.startswith(f"{name}.") for key in known):
            yield from ((f"{name}.{inner}", entry) for inner, entry in value.items())
        else:
            yield name, value


def _refuse_misplaced(path: str, key: str) -> None:
    if key == "config.file":
        raise SettingsError(f"{path}: config.file: cannot be set in the file itself")
    if key == "cohere.api-key":
        raise SettingsError(
            f"{path}: {key}: the API key cannot be set here; set COHERE_API_KEY or cohere.api-key-file"
        )
