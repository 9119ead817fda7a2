"""The command: arguments and environment → a subcommand that runs, and its exit code.

0 after a clean stop, 1 when `check` cannot poll the API or print what it found, 2 when what the user gave
cannot be used: then one line on standard error says what to do. Nothing is left to the interpreter's own end,
which would wait for threads and in which no signal is handled any more.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from io import TextIOWrapper

import structlog

from exporter import NAME, commands
from exporter.runtime import journal, log
from exporter.runtime.streams import NonBlockingStream, flush, open_streams, print_error
from exporter.settings import ApiKey, SettingsError, Subcommand, load, resolve_key, unknown_variables
from exporter.simulator import DEMO_API_KEY

_WRITERS = {Subcommand.DASHBOARDS: commands.dashboards, Subcommand.RULES: commands.rules}


def run() -> None:
    """Run the command with the process's own arguments and environment, and end the process."""
    open_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # names in the API's answers may be any text
    try:
        in_journal = journal.reads(sys.stderr.fileno(), os.environ)
        log_to = NonBlockingStream(sys.stderr)
        _end(main(sys.argv[1:], os.environ, at_end=_end, log_to=log_to, in_journal=in_journal))
    except SystemExit:
        _end(0)  # after --help and --version


def main(
    argv: Sequence[str],
    environ: Mapping[str, str],
    at_end: Callable[[int], None] = lambda _: None,
    log_to: log.Stream | None = None,
    *,
    in_journal: bool = False,
) -> int:
    """Run the command; `argv` is without the program's name, `at_end` is told the exit code to come.

    `in_journal` puts a priority in front of each line on standard error.

    Raises SystemExit after `--help` and `--version`.
    """

    async def command() -> int:
        code = await commands.run(settings, key, called)
        # Not after asyncio.run(): it waits for threads, one of which may ask a name server that is silent.
        at_end(code)
        return code

    try:
        called, settings = load(argv, environ)
        if write := _WRITERS.get(called.subcommand):
            return write(called)
        key = ApiKey(DEMO_API_KEY) if called.simulated else resolve_key(settings, environ)
        log.configure(
            settings.log.level, settings.log.format, log_to, secrets=key.secrets, with_priority=in_journal
        )
        for name, hint in unknown_variables(environ).items():
            structlog.stdlib.get_logger(__name__).warning(f"unknown variable is ignored{hint}", variable=name)
        return asyncio.run(command())
    except SettingsError as error:
        print_error(f"{journal.priority(logging.ERROR) if in_journal else ''}{NAME}: {error}")
        return 2


def _end(code: int) -> None:
    os._exit(code or flush())
