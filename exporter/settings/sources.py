"""Where settings come from: the command line, over the environment, over the YAML file.

Each value comes with what its source calls the option, so that an error can name the option the way its user
gave it. Only declared variables are read: Kubernetes fills the environment of every container with variables
named after Services, and one called `cohere-exporter` shares the prefix.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import EnvSettingsSource

from exporter.refusals import refusal
from exporter.settings.catalog import options
from exporter.settings.file import read_file
from exporter.settings.flags import parse
from exporter.settings.options import ENV_PREFIX, Settings, SettingsError
from exporter.settings.subcommands import SUBCOMMANDS, Command, Subcommand
from exporter.suggestions import suggestion

_SDK_BASE_URL = "CO_API_URL"
# What Kubernetes makes of a Service; its …_PORT is a URL, so that a guess such as WEB_PORT=80 is not hidden.
_KUBERNETES = re.compile(
    r"\w+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?)=.*"
    r"|\w+_PORT=(tcp|udp|sctp)://.*",
    re.DOTALL,
)


class _Given(NamedTuple):
    """A value, and what its source calls the option."""

    value: Any
    origin: str


# A demo in which nothing moves for a minute shows little.
_DEMO = {"poll.interval": _Given("5s", "--poll.interval")}


def load(argv: Sequence[str], environ: Mapping[str, str]) -> tuple[Command, Settings]:
    """Read command and settings; `argv` is without the program's name.

    Raises SettingsError for the first thing that is wrong, and SystemExit(0) after `--help` and `--version`.
    """
    command, flags = parse(argv)
    if not SUBCOMMANDS[command.subcommand].reads:
        return command, Settings()
    given = _environment(environ) | {key: _Given(value, f"--{key}") for key, value in flags.items()}
    if "config.file" in given and (path := given["config.file"].value.strip()):
        given = {key: _Given(value, f"{path}: {key}") for key, value in read_file(path).items()} | given
    if command.subcommand is Subcommand.DEMO:
        given = _DEMO | given
    return command, _settings(given)


def unknown_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with our prefix that are no option, each with a suggestion or ""."""
    known = {option.variable for option in options()}
    ours = {name: value for name, value in environ.items() if name.startswith(ENV_PREFIX) and value.strip()}
    return {
        name: suggestion(name, known, ENV_PREFIX)
        for name, value in sorted(ours.items())
        if name not in known and not _KUBERNETES.fullmatch(f"{name}={value}")
    }


def _environment(environ: Mapping[str, str]) -> dict[str, _Given]:
    """Return the values of the declared variables that are not blank; ours win over that of Cohere's SDK."""
    declared = [option for option in options() if environ.get(option.variable, "").strip()]
    source = EnvSettingsSource(Settings)
    source.env_vars = {option.variable.lower(): environ[option.variable] for option in declared}
    values = source()
    url = environ.get(_SDK_BASE_URL, "")
    return ({"cohere.base-url": _Given(url, _SDK_BASE_URL)} if url.strip() else {}) | {
        option.key: _Given(values[option.group][option.name], option.variable) for option in declared
    }


def _settings(given: Mapping[str, _Given]) -> Settings:
    values: dict[str, Any] = {}
    for option in options():
        if option.key in given:
            values.setdefault(option.group, {})[option.name] = given[option.key].value
    origins = {key: origin for key, (_, origin) in given.items()}
    try:
        return Settings.build(values, origins)
    except ValidationError as error:
        raise SettingsError(_explain(error.errors()[0], origins)) from None


def _explain(error: ErrorDetails, origins: Mapping[str, str]) -> str:
    option = next(option for option in options() if (option.group, option.name) == error["loc"][:2])
    bound = next((bound for bound in error.get("ctx", ()) if bound in option.bounds), None)
    allowed = f"must be {option.limit(bound)}" if bound else refusal(error)
    return f"{origins.get(option.key, option.flag)}: {allowed}"
