"""The YAML file of `--config.file`: groups of options, with `-` or `_` in their names.

No message repeats a value of the file, nor what the YAML parser says about it, which quotes the text.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from exporter.runtime.yaml import NotYaml, read_yaml
from exporter.settings.catalog import options, titles
from exporter.settings.options import SettingsError
from exporter.suggestions import suggestion

_ELSEWHERE = {
    "config.file": "cannot be set in the file itself",
    "cohere.api-key": "the API key cannot be set here; set COHERE_API_KEY or cohere.api-key-file",
}


def read_file(path: str) -> dict[str, Any]:
    """Return the values of the file by the options' keys; SettingsError names the file and what is wrong.

    An empty group, and an option that is null, count as not given.
    """
    try:
        return {key: value for key, value in _by_key(read_yaml(Path(path))).items() if value is not None}
    except NotYaml as error:
        what = error.what if error.key is None else f"{_named(error.key)} is given twice"
        where = f" (line {error.line})" if error.line else ""
        raise SettingsError(f"{path}: {what}{where}{error.why}") from None
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from None


def _named(key: str) -> str:
    """Return a key that options have; any other may be a value in the wrong place."""
    known = {part for option in options() for part in (*option.key.split("."), option.key.partition(".")[2])}
    return key if key.replace("_", "-") in known else "a key"


def _by_key(content: object) -> dict[str, Any]:
    if not isinstance(content, dict | None):
        raise SettingsError("must be a mapping of option groups, such as poll: {interval: 60s}")
    values: dict[str, Any] = {}
    for group, members in (content or {}).items():
        for name, value in _entries(str(group), members):
            key = name.replace("_", "-")
            if key in values:
                raise SettingsError(f"{key} is given twice, in two spellings; keep one")
            values[key] = value
    return values


def _entries(group: str, members: object) -> Iterator[tuple[str, Any]]:
    """Yield the values of a group by their names: in `web`, `config: {file: …}` is `web.config.file`."""
    groups = titles()
    if group not in groups:
        outer, _, inner = group.partition(".")
        nested = f"; write it as {outer}: {{{inner}: ...}}" if outer in groups else ""
        raise _unknown(group, nested or suggestion(group, groups) or f"; the groups are {', '.join(groups)}")
    if not isinstance(members, dict | None):
        raise SettingsError(f"{group}: must be a mapping of options")
    known = [option.key for option in options() if option.group == group]
    entries: list[tuple[str, Any]] = []
    for member, value in (members or {}).items():
        name = f"{group}.{member}"
        if isinstance(value, dict) and any(key.startswith(f"{name}.") for key in known):
            entries += ((f"{name}.{inner}", entry) for inner, entry in value.items())
        else:
            entries.append((name, value))
    for name, value in entries:
        key = name.replace("_", "-")
        if key in _ELSEWHERE or key not in known:
            raise _unknown(name, suggestion(key, known))
        yield name, value


def _unknown(name: str, hint: str) -> SettingsError:
    elsewhere = _ELSEWHERE.get(key := name.replace("_", "-"))
    return SettingsError(f"{key}: {elsewhere}" if elsewhere else f"unknown key {name}{hint}")
