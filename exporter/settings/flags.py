"""The command line: a subcommand and flags, by a plain parser built from the declared options.

A flag is spelled out in full and given once. No message repeats what was typed as a value or as a subcommand:
somebody may type the API key there.
"""

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from exporter import REVISION, __version__
from exporter.settings.catalog import Option, options, titles
from exporter.settings.options import SettingsError
from exporter.settings.subcommands import SUBCOMMANDS, Command, OwnFlag, Subcommand
from exporter.suggestions import suggestion

PROGRAM = "cohere-finetune-exporter"
# Flags have neither digits nor capitals; a key typed in their place has, and is not repeated.
_REPEATABLE = re.compile(r"--?[a-z][a-z._-]{0,60}")
_KEY_LIKE = re.compile(r"api.?key", re.IGNORECASE)

_Add = Callable[..., object]  # add_argument of a section of the help

_DESCRIPTION = "Prometheus exporter for fine-tuning on Cohere's API.\n\nsubcommands:\n"

_EPILOG = """\
Every flag is also an environment variable, COHERE_EXPORTER_ and its name:
--poll.interval is COHERE_EXPORTER_POLL_INTERVAL, and in the YAML file of
--config.file it is poll: {interval: ...}. A flag wins over the environment,
the environment over the file.

The API key is never given on the command line: set COHERE_API_KEY (or
CO_API_KEY), or --cohere.api-key-file.

A DURATION is written as Prometheus does (45s, 1m30s, 2h) or in plain seconds."""


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=80, max_help_position=6)


class _Once(argparse.Action):
    """Store a value, or for a switch whether it is turned on; refuse a second one."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002 - the signature is the library's
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        if hasattr(namespace, self.dest):
            raise SettingsError(f"{option_string}: given twice")
        switch = not (option_string or "").startswith("--no-")
        setattr(namespace, self.dest, switch if self.nargs == 0 else values)


def parse(argv: Sequence[str]) -> tuple[Command, dict[str, Any]]:
    """Read the arguments after the program's name: the command, and the values of the flags by key.

    Raises SettingsError; `--help` and `--version` print to standard output and raise SystemExit(0).
    """
    try:
        given, rest = _parser(_called(argv)).parse_known_args(argv)
    except argparse.ArgumentError as error:
        _refuse_argument(error)
    values = vars(given)
    flags = {option.key: values[option.flag] for option in options() if option.flag in values}
    return _command(rest, values), flags


def _called(argv: Sequence[str]) -> Subcommand:
    """Return the subcommand, for whose flags `--help` has the words where two have one of the same name."""
    return next((Subcommand(word) for word in argv if word in list(Subcommand)), Subcommand.SERVE)


def _parser(called: Subcommand) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        usage=f"{PROGRAM} [SUBCOMMAND] [FLAG ...]",
        description=_DESCRIPTION + "\n".join(_described()),
        epilog=_EPILOG,
        formatter_class=_Formatter,
        argument_default=argparse.SUPPRESS,
        add_help=False,
        allow_abbrev=False,
        exit_on_error=False,
    )
    parser.add_argument("-h", "--help", action="help", help="Print this help.")
    parser.add_argument(
        "--version",
        action="version",
        version=f"{PROGRAM} {__version__} (revision {REVISION})",
        help="Print name, version and revision.",
    )
    added: set[str] = set()
    for subcommand in sorted(SUBCOMMANDS, key=lambda subcommand: subcommand is not called):
        flags = [flag for flag in SUBCOMMANDS[subcommand].flags if flag.flag not in added]
        added.update(flag.flag for flag in flags)
        if flags:
            section = parser.add_argument_group(f"Only with {subcommand}")
            for flag in flags:
                _add(section.add_argument, flag, flag.flag, meaning=flag.meaning)
    for group, title in titles().items():
        section = parser.add_argument_group(title)
        for option in options():
            if option.group == group:
                _add_option(section.add_argument, option)
    return parser


def _described() -> list[str]:
    names = {f"{name} {row.operands}".strip(): row.meaning for name, row in SUBCOMMANDS.items()}
    width = max(map(len, names))
    return [f"  {name:{width}}  {meaning}" for name, meaning in names.items()]


def _add_option(add: _Add, option: Option) -> None:
    if option.metavar:
        default = f" (default: {option.default})" if option.default else ""
        _add(add, option, option.flag, meaning=option.meaning + default)
    else:
        _add(add, option, option.flag, f"--no-{option.key}", meaning=option.meaning)


def _add(add: _Add, flag: Option | OwnFlag, *names: str, meaning: str) -> None:
    how: dict[str, Any] = {"action": "append"} if flag.repeatable else {"action": _Once}
    how |= {"metavar": flag.metavar} if flag.metavar else {"nargs": 0}
    add(*names, dest=flag.flag, help=meaning.replace("%", "%%"), **how)


def _all() -> list[Option | OwnFlag]:
    """Return every flag but `--help` and `--version`."""
    return [*(flag for row in SUBCOMMANDS.values() for flag in row.flags), *options()]


def _refuse_argument(error: argparse.ArgumentError) -> NoReturn:
    name = (error.argument_name or "").split("/")[0]
    valued = {flag.flag for flag in _all() if flag.metavar}
    raise SettingsError(f"{name}: {'needs a value' if name in valued else 'takes no value'}") from None


def _command(rest: Sequence[str], values: Mapping[str, Any]) -> Command:
    """Return the subcommand among the arguments that are no known flags, which may stand anywhere."""
    for argument in rest:
        if argument.startswith("-"):
            _refuse_flag(argument.partition("=")[0], _taken(_called(rest), values))
    subcommand = _subcommand(rest[0]) if rest else Subcommand.SERVE
    operands = tuple(rest[1:])
    row = SUBCOMMANDS[subcommand]
    if not row.takes(len(operands)):
        raise SettingsError(f"{subcommand} takes {row.operands or 'nothing but flags'}; see --help")
    return Command(subcommand, operands, _own_flags(subcommand, values))


def _own_flags(subcommand: Subcommand, values: Mapping[str, Any]) -> dict[str, object]:
    taken = {flag.flag: flag for flag in SUBCOMMANDS[subcommand].flags}
    for owner, row in SUBCOMMANDS.items():
        for flag in row.flags:
            if flag.flag in values and flag.flag not in taken:
                raise SettingsError(f"{flag.flag}: only with {owner}")
    own = {name: values[name] for name in taken if name in values}
    for name, value in own.items():
        choices = taken[name].metavar.split("|")
        if len(choices) > 1 and value not in choices:
            raise SettingsError(f"{name}: must be {', '.join(choices[:-1])} or {choices[-1]}")
    return own


def _subcommand(word: str) -> Subcommand:
    if word not in list(Subcommand):
        hint = suggestion(word, Subcommand)
        raise SettingsError(f"unknown subcommand{hint}; the subcommands are {', '.join(Subcommand)}")
    return Subcommand(word)


def _taken(subcommand: Subcommand, values: Mapping[str, Any]) -> list[str]:
    """Return the flags that mean something to a subcommand, given the values of others."""
    row = SUBCOMMANDS[subcommand]
    simulated = subcommand is Subcommand.DEMO or "--demo" in values
    read = [option for option in options() if row.reads_settings and (simulated or option.group != "demo")]
    return ["--help", "--version", *(flag.flag for flag in row.flags), *(option.flag for option in read)]


def _refuse_flag(name: str, known: Sequence[str]) -> NoReturn:
    if _KEY_LIKE.search(name):
        raise SettingsError(
            "the API key is never given on the command line: set COHERE_API_KEY or --cohere.api-key-file"
        )
    shown = f"unknown flag {name}" if _REPEATABLE.fullmatch(name) else "unknown flag"
    raise SettingsError(f"{shown}{suggestion(name, known) or '; see --help'}")
