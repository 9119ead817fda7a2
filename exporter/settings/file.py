"""The YAML file of `--config.file`: groups of options, as in `poll: {interval: 60s}`.

No message repeats a value of the file or a key that is no option's, because either may be a secret in the
wrong place, nor what the YAML parser says about it, which quotes the text.
"""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

from exporter.runtime.yaml import NotYaml, line_of, located, read_yaml
from exporter.settings.catalog import options
from exporter.settings.options import SettingsError
from exporter.suggestions import suggestion

_ELSEWHERE = {
    "config.file": "cannot be set in the file itself",
    "cohere.api-key": "the API key cannot be set here; set COHERE_API_KEY or cohere.api-key-file",
}
_Keys = tuple[Hashable, ...]  # on the way to a value


class _Refused(Exception):
    """What is wrong with what the keys lead to."""

    def __init__(self, said: str, keys: _Keys) -> None:
        super().__init__(said)
        self.keys = keys


def read_file(path: str) -> dict[str, Any]:
    """Return the values of the file by the options' keys; SettingsError says what is wrong, and where.

    An empty group, and an option that is null, count as not given.
    """
    root = None
    values: dict[str, Any] = {}
    try:
        content, root = read_yaml(Path(path))
        _collect(content, values)
    except NotYaml as error:
        raise SettingsError(located(path, error.line, str(error))) from None
    except _Refused as error:
        raise SettingsError(located(path, line_of(root, error.keys), str(error))) from None
    return {key: value for key, value in values.items() if value is not None}


def _collect(content: object, values: dict[str, Any], keys: _Keys = ()) -> None:
    """Add the values by option, nested or with dots: both {config: {file: x}} and config.file: x in `web`."""
    key = _joined(keys)
    known = {option.key for option in options()}
    if elsewhere := _ELSEWHERE.get(key.replace("_", "-")):
        raise _Refused(f"{key}: {elsewhere}", keys)
    if key in values:
        raise _Refused(f"{key} is given twice, nested and with a dot; keep one", keys)
    if key in known:
        values[key] = content
    elif keys and not any(option.startswith(f"{key}.") for option in known):
        raise _Refused(_unknown(key, _joined(keys[:-1])), keys)
    elif isinstance(content, dict | None):
        for name, value in (content or {}).items():
            _collect(value, values, (*keys, name))
    else:
        what = f"{key}: must be a mapping of options" if keys else "must be a mapping of option groups"
        raise _Refused(f"{what}, such as poll: {{interval: 60s}}", keys)


def _joined(keys: _Keys) -> str:
    return ".".join(map(str, keys))


def _unknown(key: str, group: str) -> str:
    known = [option.key for option in options() if option.key not in _ELSEWHERE]
    groups = dict.fromkeys(name.partition(".")[0] for name in known)
    inside = [name for name in known if name.startswith(f"{group}.")] if group else groups
    hint = suggestion(key, [*known, *groups]) or f"; known are {', '.join(inside)}"
    return f"{group}: unknown key{hint}" if group else f"unknown key{hint}"
