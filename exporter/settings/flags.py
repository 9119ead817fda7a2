"""The command line: a verb and flags, by a plain parser built from the declared options.

A flag is spelled out in full; given twice, the last one wins. No message repeats what was typed as a value,
or in the place of a verb: somebody may type the API key there.
"""

import argparse
import re
from collections.abc import Sequence
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, NoReturn

from exporter import REVISION, __version__
from exporter.settings.catalog import Option, groups, options
from exporter.settings.options import SettingsError

PROGRAM = "cohere-finetune-exporter"
# Flags have neither digits nor capitals; a key typed in their place has, and is not repeated.
_REPEATABLE = re.compile(r"--?[a-z][a-z._-]{0,60}")
_KEY_LIKE = re.compile(r"api.?key", re.IGNORECASE)

_DESCRIPTION = """\
Prometheus exporter for fine-tuning on Cohere's API.

verbs:
  serve    poll the API and serve the metrics until SIGTERM (the default)
  demo     the same, on a simulated API; needs no key and no network
  check    poll once, print the models found, say what is wrong"""

_EPILOG = """\
Every flag is also an environment variable, COHERE_EXPORTER_ and its name:
--poll.interval is COHERE_EXPORTER_POLL_INTERVAL, and in the YAML file of
--config.file it is poll: {interval: ...}. A flag wins over the environment,
the environment over the file.

The API key is never given on the command line: set COHERE_API_KEY (or
CO_API_KEY), or --cohere.api-key-file.

A DURATION is written as Prometheus does (45s, 1m30s, 2h) or in plain seconds."""


class Verb(StrEnum):
    """What the program is to do."""

    SERVE = "serve"
    DEMO = "demo"
    CHECK = "check"


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=80, max_help_position=6)


def parse(argv: Sequence[str]) -> tuple[Verb, dict[str, dict[str, Any]]]:
    """Read the arguments after the program's name: the verb, and by group the values of the flags given.

    Raises SettingsError; `--help` and `--version` print to standard output and raise SystemExit(0).
    """
    try:
        given, rest = _parser().parse_known_args(argv)
    except argparse.ArgumentError as error:
        _refuse_argument(error)
    values = vars(given)
    flags: dict[str, dict[str, Any]] = {}
    for option in options():
        if option.key in values:
            flags.setdefault(option.group, {})[option.name] = values[option.key]
    return _verb(rest), flags


def suggestion(word: str, known: Sequence[str]) -> str:
    """Give "; did you mean …?" with what is nearest to `word`, or "" when nothing is near."""
    nearest = get_close_matches(word, known, n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        usage=f"{PROGRAM} [serve | demo | check] [FLAG ...]",
        description=_DESCRIPTION,
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
    sections = {
        name: parser.add_argument_group((group.__doc__ or name).partition(".")[0])
        for name, group in groups().items()
    }
    for option in options():
        _add(sections[option.group], option)
    return parser


def _add(section: argparse._ArgumentGroup, option: Option) -> None:
    meaning = option.meaning.replace("%", "%%")
    if not option.metavar:
        section.add_argument(
            option.flag, dest=option.key, action=argparse.BooleanOptionalAction, help=meaning
        )
        return
    default = f" (default: {option.default})" if option.default else ""
    section.add_argument(option.flag, dest=option.key, metavar=option.metavar, help=meaning + default)


def _refuse_argument(error: argparse.ArgumentError) -> NoReturn:
    name = (error.argument_name or "").split("/")[0]
    takes_value = any(option.metavar for option in options() if option.flag == name)
    raise SettingsError(f"{name}: {'needs a value' if takes_value else 'takes no value'}") from None


def _verb(rest: Sequence[str]) -> Verb:
    """Give the verb among the arguments that are no known flags; it may stand anywhere."""
    for argument in rest:
        if argument.startswith("-"):
            _refuse_flag(argument.partition("=")[0])
    if len(rest) > 1:
        raise SettingsError("more than one verb; see --help")
    if rest and rest[0] not in list(Verb):
        raise SettingsError(f"unknown verb{suggestion(rest[0], list(Verb))}; the verbs are {', '.join(Verb)}")
    return Verb(rest[0]) if rest else Verb.SERVE


def _refuse_flag(name: str) -> NoReturn:
    if _KEY_LIKE.search(name):
        raise SettingsError(
            "the API key is never given on the command line: set COHERE_API_KEY or --cohere.api-key-file"
        )
    shown = f"unknown flag {name}" if _REPEATABLE.fullmatch(name) else "unknown flag"
    known = ["--help", "--version", *(option.flag for option in options())]
    raise SettingsError(f"{shown}{suggestion(name, known) or '; see --help'}")
