"""The command line: a subcommand and flags, by a plain parser built from the declared options.

A flag is spelled out in full and given once. No message repeats what was typed as a value or as a subcommand:
somebody may type the API key there.
"""

import argparse
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn

from exporter import NAME, REVISION, __version__
from exporter.settings.catalog import Option, options, titles
from exporter.settings.options import SettingsError
from exporter.settings.subcommands import REAL_API, SUBCOMMANDS, Command, Flag, Subcommand
from exporter.suggestions import suggestion

# Flags have neither digits nor capitals; a key typed in their place has, and is not repeated.
_REPEATABLE = re.compile(r"--?[a-z][a-z._-]{0,60}")
_KEY_LIKE = re.compile(r"api.?key", re.IGNORECASE)

_DESCRIPTION = f"""\
Prometheus exporter for fine-tuning on Cohere's API. These are the options of
serve; `{NAME} SUBCOMMAND --help` prints those of another
subcommand, and its own flags.

subcommands:
"""

_EPILOG = """\
Every flag is also an environment variable, COHERE_EXPORTER_ and its name:
--poll.interval is COHERE_EXPORTER_POLL_INTERVAL, and in the YAML file of
--config.file it is poll: {interval: ...}. A flag wins over the environment,
the environment over the file.

The API key is never given on the command line: set COHERE_API_KEY (or
CO_API_KEY), or --cohere.api-key-file.

A DURATION is written as Prometheus does (45s, 1m30s, 2h) or in plain seconds."""


class _Once(argparse.Action):
    """Store a value, or for a switch whether it is turned on; refuse a second one."""

    def __call__(self, _: object, given: argparse.Namespace, value: object, name: str | None = None) -> None:
        if hasattr(given, self.dest):
            raise SettingsError(f"{name}: given twice")
        setattr(given, self.dest, value if self.metavar else not (name or "").startswith("--no-"))


def parse(argv: Sequence[str]) -> tuple[Command, dict[str, Any]]:
    """Read the arguments after the program's name: the command, and the values of the flags by key.

    Raises SettingsError; `--help` and `--version` print to standard output and raise SystemExit(0).
    """
    try:
        given, rest = _parser(_called(argv)).parse_known_args(argv)
    except argparse.ArgumentError as error:
        name = (error.argument_name or "").split("/")[0]
        valued = any(flag.flag == name and flag.metavar for flag in (*_own_flags(), *options()))
        raise SettingsError(f"{name}: {'needs a value' if valued else 'takes no value'}") from None
    values = vars(given)
    flags = {option.key: values.pop(option.flag) for option in options() if option.flag in values}
    return _command(rest, values), flags


def _called(words: Sequence[str]) -> Subcommand | None:
    """Return the subcommand, whose help `--help` prints; None where there is none yet."""
    return next((Subcommand(word) for word in words if word in list(Subcommand)), None)


def _own_flags() -> Iterator[Flag]:
    return (flag for row in SUBCOMMANDS.values() for flag in row.flags)


def _parser(called: Subcommand | None) -> argparse.ArgumentParser:
    """Return a parser of all flags, of which `--help` shows what `called` reads."""
    row = SUBCOMMANDS[called or Subcommand.SERVE]
    words = f"{called or '[SUBCOMMAND]'} [FLAG ...] {row.operands}".strip()
    parser = argparse.ArgumentParser(
        prog=NAME,
        usage=f"{NAME} {words}",
        description=f"{called}: {row.meaning}" if called else _DESCRIPTION + "\n".join(_described()),
        epilog=_EPILOG if row.reads else None,
        formatter_class=partial(argparse.RawDescriptionHelpFormatter, width=80, max_help_position=6),
        argument_default=argparse.SUPPRESS,
        add_help=False,
        allow_abbrev=False,
        exit_on_error=False,
    )
    parser.add_argument("-h", "--help", action="help", help="Print this help.")
    version = f"{NAME} {__version__} (revision {REVISION})"
    parser.add_argument(
        "--version", action="version", version=version, help="Print name, version and revision."
    )
    _add(parser, f"Flags of {called}", row.flags)
    own = {flag.flag for flag in row.flags}
    others = {flag.flag: flag for flag in _own_flags() if flag.flag not in own}
    hidden: list[Flag] = [*others.values(), *(option for option in options() if not _is_read(option, called))]
    _add(parser, "", hidden, hidden=True)
    for group, title in titles().items():
        read = (option for option in options() if _is_read(option, called))
        _add(parser, title, [option for option in read if option.group == group])
    return parser


def _is_read(option: Option, called: Subcommand | None) -> bool:
    is_refused = called is Subcommand.DEMO and option.key in REAL_API
    return option.group in SUBCOMMANDS[called or Subcommand.SERVE].reads and not is_refused


def _described() -> list[str]:
    names = {f"{name} {row.operands}".strip(): row.meaning for name, row in SUBCOMMANDS.items()}
    width = max(map(len, names))
    return [f"  {name:{width}}  {meaning}" for name, meaning in names.items()]


def _add(parser: argparse.ArgumentParser, title: str, flags: Iterable[Flag], *, hidden: bool = False) -> None:
    section = parser.add_argument_group(title)
    for flag in flags:
        names, meaning = [flag.flag], flag.meaning
        how: dict[str, Any] = {"metavar": flag.metavar} if flag.metavar else {"nargs": 0}
        if isinstance(flag, Option) and not flag.metavar:
            names.append(f"--no-{flag.key}")
        elif isinstance(flag, Option) and flag.default:
            meaning += f" (default: {flag.default})"
        how["action"] = "append" if flag.repeatable else _Once
        section.add_argument(
            *names, dest=flag.flag, help=argparse.SUPPRESS if hidden else meaning.replace("%", "%%"), **how
        )


def _command(rest: Sequence[str], own: Mapping[str, Any]) -> Command:
    """Return the subcommand among the arguments that are no known flags, which may stand anywhere."""
    for argument in rest:
        if argument.startswith("-"):
            _refuse_flag(argument.partition("=")[0], _taken(_called(rest) or Subcommand.SERVE, own))
    subcommand = _subcommand(rest[0]) if rest else Subcommand.SERVE
    operands = tuple(rest[1:])
    row = SUBCOMMANDS[subcommand]
    if not row.takes(len(operands)):
        raise SettingsError(f"{subcommand} takes {row.operands or 'nothing but flags'}; see --help")
    taken = {flag.flag: flag for flag in row.flags}
    for name, value in own.items():
        if name not in taken:
            owner = next(owner for owner, row in SUBCOMMANDS.items() if name in {f.flag for f in row.flags})
            raise SettingsError(f"{name}: only with {owner}")
        choices = taken[name].metavar.split("|")
        if len(choices) > 1 and value not in choices:
            raise SettingsError(f"{name}: must be {', '.join(choices[:-1])} or {choices[-1]}")
    return Command(subcommand, operands, own)


def _subcommand(word: str) -> Subcommand:
    if word not in list(Subcommand):
        hint = suggestion(word, Subcommand)
        raise SettingsError(f"unknown subcommand{hint}; the subcommands are {', '.join(Subcommand)}")
    return Subcommand(word)


def _taken(subcommand: Subcommand, own: Mapping[str, Any]) -> list[str]:
    """Return the flags that mean something to a subcommand, given some of its own."""
    row = SUBCOMMANDS[subcommand]
    simulated = Command(subcommand, flags=own).simulated
    read = [option for option in options() if row.reads and (simulated or option.group != "demo")]
    return ["--help", "--version", *(flag.flag for flag in row.flags), *(option.flag for option in read)]


def _refuse_flag(name: str, known: Sequence[str]) -> NoReturn:
    if _KEY_LIKE.search(name):
        raise SettingsError(
            "the API key is never given on the command line: set COHERE_API_KEY or --cohere.api-key-file"
        )
    shown = f"unknown flag {name}" if _REPEATABLE.fullmatch(name) else "unknown flag"
    raise SettingsError(f"{shown}{suggestion(name, known) or '; see --help'}")
