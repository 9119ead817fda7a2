"""Where settings come from: the command line, over the environment, over the YAML file.

The layers are joined here, and not by the library, so that an error can name the option the way its user gave
it. Only declared variables are read: Kubernetes fills the environment of every container with variables named
after Services, and one called `cohere-exporter` shares the prefix.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import EnvSettingsSource

from exporter.settings.catalog import Option, options
from exporter.settings.durations import format_duration
from exporter.settings.file import read_file
from exporter.settings.flags import parse
from exporter.settings.options import ENV_PREFIX, Settings, SettingsError
from exporter.settings.subcommands import SUBCOMMANDS, Command, Subcommand
from exporter.suggestions import suggestion

_SDK_BASE_URL = "CO_API_URL"
_REAL_API = frozenset({"base_url", "api_key_file"})
# A demo in which nothing moves for a minute shows little.
_DEMO = {"poll": {"interval": "5s"}}
# What Kubernetes makes of a Service; its …_PORT is a URL, so that a guess such as WEB_PORT=80 is not hidden.
_KUBERNETES = re.compile(
    r"(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:ADDR|PORT|PROTO))?)=.*"
    r"|(?:\w+_)?PORT=(?:tcp|udp|sctp)://.*",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class _Layer:
    """What one source gives, by group and field, and what that source calls an option."""

    values: Mapping[str, Mapping[str, Any]]
    name: Callable[[Option], str]


def load(argv: Sequence[str], environ: Mapping[str, str]) -> tuple[Command, Settings]:
    """Read command and settings; `argv` is without the program's name.

    Raises SettingsError for the first thing that is wrong, and SystemExit(0) after `--help` and `--version`.
    """
    command, flags = parse(argv)
    if not SUBCOMMANDS[command.subcommand].reads_settings:
        return command, Settings()
    _refuse_in_demo(command, flags)
    layers = [
        _Layer(flags, lambda option: option.flag),
        _Layer(_environment(environ), lambda option: option.variable),
        _Layer(_sdk_environment(environ), lambda _: _SDK_BASE_URL),
    ]
    if path := _join(layers)[0].get("config", {}).get("file", "").strip():
        layers.append(_Layer(read_file(path), lambda option: f"{path}: {option.key}"))
    if command.subcommand is Subcommand.DEMO:
        layers.append(_Layer(_DEMO, lambda option: option.flag))
    values, origins = _join(layers)
    try:
        return command, Settings.build(values, origins)
    except ValidationError as error:
        # The library's own message would repeat the value.
        raise SettingsError(_explain(error.errors()[0], origins)) from None


def unknown_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with our prefix that are no option, each with a suggestion or "".

    Those that Kubernetes makes of Services are none of ours.
    """
    known = {option.variable: option for option in options()}
    names = sorted(
        name
        for name, value in environ.items()
        if name.startswith(ENV_PREFIX)
        and value.strip()
        and name not in known
        and not _KUBERNETES.fullmatch(f"{name.removeprefix(ENV_PREFIX)}={value}")
    )
    return {name: suggestion(name, known, ENV_PREFIX) for name in names}


def _refuse_in_demo(command: Command, flags: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse flags that point at an API where the simulated one is asked for.

    Variables and the file may be there for other runs; they are ignored.
    """
    given = flags.get("cohere", {})
    for option in options():
        if (
            command.simulated
            and option.group == "cohere"
            and option.name in given
            and option.name in _REAL_API
        ):
            raise SettingsError(f"{option.flag}: cannot be used with the simulated API of {command.words}")


def _environment(environ: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    source = EnvSettingsSource(Settings)
    source.env_vars = {
        option.variable.lower(): environ[option.variable]
        for option in options()
        if environ.get(option.variable, "").strip()
    }
    return source()


def _sdk_environment(environ: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    url = environ.get(_SDK_BASE_URL, "").strip()
    return {"cohere": {"base_url": url}} if url else {}


def _join(layers: Sequence[_Layer]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return the values by group and field, and by key what the source of each calls it; first layer wins."""
    values: dict[str, dict[str, Any]] = {}
    origins: dict[str, str] = {}
    for option in options():
        for layer in layers:
            given = layer.values.get(option.group, {})
            if option.name in given:
                values.setdefault(option.group, {})[option.name] = given[option.name]
                origins[option.key] = layer.name(option)
                break
    return values, origins


def _explain(error: ErrorDetails, origins: Mapping[str, str]) -> str:
    option = next(option for option in options() if (option.group, option.name) == error["loc"][:2])
    name = origins.get(option.key, option.flag)
    return f"{name}: {_refusal(error, is_duration=option.metavar == 'DURATION')}"


def _refusal(error: ErrorDetails, *, is_duration: bool) -> str:
    """Say what is allowed; the value itself is never repeated, it may be a secret in the wrong place."""
    limits = error.get("ctx", {})
    match error["type"]:
        case "value_error":
            return str(limits["error"])
        case "greater_than_equal":
            return f"must be at least {_shown(limits['ge'], is_duration=is_duration)}"
        case "less_than_equal":
            return f"must be at most {_shown(limits['le'], is_duration=is_duration)}"
        case "greater_than":
            return f"must be more than {limits['gt']:g}"
        case "literal_error":
            return f"must be {limits['expected']}"
    return "is not valid"


def _shown(limit: float, *, is_duration: bool) -> str:
    return format_duration(limit) if is_duration else f"{limit:g}"
