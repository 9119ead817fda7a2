"""The command line: a subcommand, then flags and operands, by a plain parser built from the declared options.

A flag is spelled out in full and given once. No message repeats what was typed as a value or as a subcommand:
somebody may type the API key there.
"""

import argparse
import re
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

from exporter import NAME, REVISION, __version__
from exporter.settings.catalog import options, titles
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
    called = _subcommand(argv[0]) if argv and not argv[0].startswith("-") else None
    subcommand = called or Subcommand.SERVE
    row = SUBCOMMANDS[subcommand]
    accepted = [*row.flags, *(options() if row.reads else ())]
    given, operands = _given(_parser(called, accepted), argv[1:] if called else argv, accepted)
    flags = {option.key: given.pop(option.flag) for option in options() if option.flag in given}
    command = Command(subcommand, tuple(operands), given)
    unknown = next((word.partition("=")[0] for word in operands if word.startswith("-")), None)
    if called is None:
        _refuse_late(operands, unknown)
    if unknown:
        # Options of the simulated fleet help nobody who has none: --models means --models.limit to serve.
        known = [flag.flag for flag in accepted if flag.group != "demo" or "demo" in row.reads]
        raise SettingsError(_said_of(unknown, known))
    _check(command, flags)
    return command, flags


def _subcommand(word: str) -> Subcommand:
    if word not in list(Subcommand):
        hint = suggestion(word, Subcommand)
        raise SettingsError(f"unknown subcommand{hint}; the subcommands are {', '.join(Subcommand)}")
    return Subcommand(word)


def _given(
    parser: argparse.ArgumentParser, words: Sequence[str], accepted: Sequence[Flag]
) -> tuple[dict[str, Any], list[str]]:
    """Return the values of the flags, and the words that are neither flag nor value."""
    try:
        values, rest = parser.parse_known_args(words)
    except argparse.ArgumentError as error:
        name = (error.argument_name or "").split("/")[0]
        is_valued = any(flag.flag == name and flag.metavar for flag in accepted)
        raise SettingsError(f"{name}: {'needs a value' if is_valued else 'takes no value'}") from None
    return vars(values), rest


def _check(command: Command, flags: Collection[str]) -> None:
    """Raise SettingsError where operands, choices or options do not suit the subcommand."""
    row = SUBCOMMANDS[command.subcommand]
    if len(command.operands) not in row.counts:
        raise SettingsError(f"{command.subcommand} takes {row.operands or 'nothing but flags'}; see --help")
    for flag in row.flags:
        choices = flag.metavar.split("|")
        if len(choices) > 1 and command.flags.get(flag.flag, choices[0]) not in choices:
            raise SettingsError(f"{flag.flag}: must be {', '.join(choices[:-1])} or {choices[-1]}")
    for key in REAL_API:
        if command.simulated and key in flags:
            raise SettingsError(f"--{key}: cannot be used with the simulated API")


def _refuse_late(words: Sequence[str], unknown: str | None) -> None:
    """Raise SettingsError for a subcommand that stands after flags, be they everybody's or its own."""
    for word in (word for word in words if word in list(Subcommand)):
        own = [flag.flag for flag in SUBCOMMANDS[Subcommand(word)].flags]
        if unknown is None or unknown in own:
            raise SettingsError(f"the subcommand {word} must stand before the flags")


def _said_of(unknown: str, known: Sequence[str]) -> str:
    if _KEY_LIKE.search(unknown):
        return "the API key is never given on the command line: set COHERE_API_KEY or --cohere.api-key-file"
    shown = f"unknown flag {unknown}" if _REPEATABLE.fullmatch(unknown) else "unknown flag"
    return shown + (suggestion(unknown, ["--help", "--version", *known]) or "; see --help")


def _is_shown(flag: Flag, subcommand: Subcommand) -> bool:
    """Return whether the help of a subcommand has a flag; options that it does not read are not in it."""
    is_refused = subcommand is Subcommand.DEMO and flag.flag.removeprefix("--") in REAL_API
    return not flag.group or (flag.group in SUBCOMMANDS[subcommand].reads and not is_refused)


def _parser(called: Subcommand | None, flags: Sequence[Flag]) -> argparse.ArgumentParser:
    row = SUBCOMMANDS[called or Subcommand.SERVE]
    parser = argparse.ArgumentParser(
        prog=NAME,
        usage=f"{NAME} {called or '[SUBCOMMAND]'} [FLAG ...] {row.operands}".rstrip(),
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
    sections = {
        group: parser.add_argument_group(title)
        for group, title in {"": f"Flags of {called}", **titles()}.items()
    }
    for flag in flags:
        text = _meaning(flag) if _is_shown(flag, called or Subcommand.SERVE) else argparse.SUPPRESS
        names = (
            [flag.flag, flag.flag.replace("--", "--no-")] if flag.group and not flag.metavar else [flag.flag]
        )
        how: dict[str, Any] = {"metavar": flag.metavar} if flag.metavar else {"nargs": 0}
        action = "append" if flag.repeatable else _Once
        sections[flag.group].add_argument(*names, dest=flag.flag, action=action, help=text, **how)
    return parser


def _meaning(flag: Flag) -> str:
    default = f" (default: {flag.default})" if flag.default and flag.metavar else ""
    return f"{flag.meaning}{default}".replace("%", "%%")


def _described() -> list[str]:
    names = {f"{name} {row.operands}".strip(): row.meaning for name, row in SUBCOMMANDS.items()}
    width = max(map(len, names))
    return [f"  {name:{width}}  {meaning}" for name, meaning in names.items()]
