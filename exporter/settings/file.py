"""The YAML file of `--config.file`: groups of options, as in `poll: {interval: 60s}`.

No message repeats a value of the file or a key that is no option's, because either may be a secret in the
wrong place, nor what the YAML parser says about it, which quotes the text.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from exporter.runtime.yaml import NotYaml, read_yaml
from exporter.settings.catalog import options
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
        entries = list(_entries(read_yaml(Path(path))))
    except NotYaml as error:
        where = f" (line {error.line})" if error.line else ""
        raise SettingsError(f"{path}: {error.what}{where}{error.why}") from None
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from None
    values: dict[str, Any] = {}
    for key, value in entries:
        if key in values:
            raise SettingsError(f"{path}: {key} is given twice, nested and with a dot; keep one")
        values[key] = value
    return {key: value for key, value in values.items() if value is not None}


def _entries(content: object, group: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values by key, nested or with dots: both {config: {file: x}} and config.file: x in `web`."""
    if not isinstance(content, dict | None):
        what = f"{group}: must be a mapping of options" if group else "must be a mapping of option groups"
        raise SettingsError(f"{what}, such as poll: {{interval: 60s}}")
    known = {option.key for option in options()}
    for name, value in (content or {}).items():
        key = f"{group}.{name}" if group else str(name)
        if elsewhere := _ELSEWHERE.get(key.replace("_", "-")):
            raise SettingsError(f"{key}: {elsewhere}")
        if key in known:
            yield key, value
        elif any(option.startswith(f"{key}.") for option in known):
            yield from _entries(value, key)
        else:
            raise SettingsError(_unknown(key, group))


def _unknown(key: str, group: str) -> str:
    known = [option.key for option in options() if option.key not in _ELSEWHERE]
    groups = dict.fromkeys(name.partition(".")[0] for name in known)
    inside = [name for name in known if name.startswith(f"{group}.")] if group else groups
    hint = suggestion(key, [*known, *groups]) or f"; known are {', '.join(inside)}"
    return f"{group}: unknown key{hint}" if group else f"unknown key{hint}"
