"""The command line: a subcommand and flags, by a plain parser built from the declared options.

A flag is spelled out in full and given once. No message repeats what was typed as a value or as a subcommand:
somebody may type the API key there.
"""

import argparse
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, Protocol

from exporter import REVISION, __version__
from exporter.settings.catalog import Option, groups, options
from exporter.settings.options import SettingsError
from exporter.settings.subcommands import SUBCOMMANDS, Command, OwnFlag, Subcommand
from exporter.suggestions import suggestion

PROGRAM = "cohere-finetune-exporter"
# Flags have neither digits nor capitals; a key typed in their place has, and is not repeated.
_REPEATABLE = re.compile(r"--?[a-z][a-z._-]{0,60}")
_KEY_LIKE = re.compile(r"api.?key", re.IGNORECASE)

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


class _Section(Protocol):
    """A part of the help, to which arguments are added."""

    def add_argument(self, *names: str, **options: Any) -> object:
        """Add one."""


class _Once(argparse.Action):
    """Store a value; refuse a second one."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002 - the signature is the library's
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        _refuse_twice(self.dest, namespace, option_string)
        setattr(namespace, self.dest, values)


class _SwitchOnce(argparse.BooleanOptionalAction):
    """Turn a switch on or off; refuse to do either again."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        _refuse_twice(self.dest, namespace, option_string)
        super().__call__(parser, namespace, values, option_string)


def _refuse_twice(name: str, namespace: argparse.Namespace, flag: str | None) -> None:
    if hasattr(namespace, name):
        raise SettingsError(f"{flag}: given twice")


def parse(argv: Sequence[str]) -> tuple[Command, dict[str, dict[str, Any]]]:
    """Read the arguments after the program's name: the command, and by group the values of the flags given.

    Raises SettingsError; `--help` and `--version` print to standard output and raise SystemExit(0).
    """
    try:
        given, rest = _parser(_called(argv)).parse_known_args(argv)
    except argparse.ArgumentError as error:
        _refuse_argument(error)
    values = vars(given)
    flags: dict[str, dict[str, Any]] = {}
    for option in options():
        if option.key in values:
            flags.setdefault(option.group, {})[option.name] = values[option.key]
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
    added = set()
    for subcommand in sorted(SUBCOMMANDS, key=lambda subcommand: subcommand is not called):
        flags = [flag for flag in SUBCOMMANDS[subcommand].flags if flag.name not in added]
        if flags:
            own = parser.add_argument_group(f"Only with {subcommand}")
            for flag in flags:
                _add_own(own, flag)
                added.add(flag.name)
    sections = {
        name: parser.add_argument_group((group.__doc__ or name).partition(".")[0])
        for name, group in groups().items()
    }
    for option in options():
        _add(sections[option.group], option)
    return parser


def _described() -> list[str]:
    names = {f"{name} {row.operands}".strip(): row.meaning for name, row in SUBCOMMANDS.items()}
    width = max(map(len, names))
    return [f"  {name:{width}}  {meaning}" for name, meaning in names.items()]


def _add_own(section: _Section, flag: OwnFlag) -> None:
    if flag.repeatable:
        section.add_argument(
            flag.name, dest=flag.name, metavar=flag.metavar, action="append", help=flag.meaning
        )
    elif flag.metavar:
        metavar = "|".join(flag.choices) or flag.metavar
        section.add_argument(flag.name, dest=flag.name, metavar=metavar, action=_Once, help=flag.meaning)
    else:
        section.add_argument(flag.name, dest=flag.name, action="store_true", help=flag.meaning)


def _add(section: _Section, option: Option) -> None:
    meaning = option.meaning.replace("%", "%%")
    if not option.metavar:
        section.add_argument(option.flag, dest=option.key, action=_SwitchOnce, help=meaning)
        return
    default = f" (default: {option.default})" if option.default else ""
    section.add_argument(
        option.flag,
        dest=option.key,
        metavar=option.metavar,
        action="append" if option.repeatable else _Once,
        help=meaning + default,
    )


def _refuse_argument(error: argparse.ArgumentError) -> NoReturn:
    name = (error.argument_name or "").split("/")[0]
    valued = [option.flag for option in options() if option.metavar]
    valued += [flag.name for row in SUBCOMMANDS.values() for flag in row.flags if flag.metavar]
    raise SettingsError(f"{name}: {'needs a value' if name in valued else 'takes no value'}") from None


def _command(rest: Sequence[str], values: Mapping[str, Any]) -> Command:
    """Return the subcommand among the arguments that are no known flags, which may stand anywhere."""
    for argument in rest:
        if argument.startswith("-"):
            _refuse_flag(argument.partition("=")[0])
    subcommand = _subcommand(rest[0]) if rest else Subcommand.SERVE
    operands = tuple(rest[1:])
    row = SUBCOMMANDS[subcommand]
    if len(operands) < row.least or (row.most is not None and len(operands) > row.most):
        raise SettingsError(f"{subcommand} takes {row.operands or 'nothing but flags'}; see --help")
    return Command(subcommand, operands, _own_flags(subcommand, values))


def _own_flags(subcommand: Subcommand, values: Mapping[str, Any]) -> dict[str, object]:
    taken = {flag.name: flag for flag in SUBCOMMANDS[subcommand].flags}
    for owner, row in SUBCOMMANDS.items():
        for flag in row.flags:
            if flag.name in values and flag.name not in taken:
                raise SettingsError(f"{flag.name}: only with {owner}")
    own = {name: values[name] for name in taken if name in values}
    for name, value in own.items():
        choices = taken[name].choices
        if choices and value not in choices:
            raise SettingsError(f"{name}: must be {', '.join(choices[:-1])} or {choices[-1]}")
    return own


def _subcommand(word: str) -> Subcommand:
    if word not in list(Subcommand):
        hint = suggestion(word, Subcommand)
        raise SettingsError(f"unknown subcommand{hint}; the subcommands are {', '.join(Subcommand)}")
    return Subcommand(word)


def _refuse_flag(name: str) -> NoReturn:
    if _KEY_LIKE.search(name):
        raise SettingsError(
            "the API key is never given on the command line: set COHERE_API_KEY or --cohere.api-key-file"
        )
    shown = f"unknown flag {name}" if _REPEATABLE.fullmatch(name) else "unknown flag"
    own = [flag.name for row in SUBCOMMANDS.values() for flag in row.flags]
    known = ["--help", "--version", *own, *(option.flag for option in options())]
    raise SettingsError(f"{shown}{suggestion(name, known) or '; see --help'}")
