"""The command: arguments and environment → a verb that runs, and its exit code.

0 after a clean stop, 1 when `check` cannot poll the API, 2 when what the user gave cannot be used: then one
line on standard error says what to do.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from io import TextIOWrapper

import structlog

from exporter import app, log
from exporter.settings import ApiKey, SettingsError, Verb, load, resolve_key, unknown_variables
from exporter.settings.flags import PROGRAM
from exporter.simulator import DEMO_API_KEY

_LONGEST_END = 2.0  # seconds
_VERBS = {Verb.SERVE: app.serve, Verb.DEMO: app.demo, Verb.CHECK: app.check}


def run() -> int:
    """Run the command with the process's own arguments and environment; give the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # names in the API's answers may be any text
    return main(sys.argv[1:], os.environ, at_end=_end_within_seconds)


def main(
    argv: Sequence[str], environ: Mapping[str, str], at_end: Callable[[int], None] = lambda _: None
) -> int:
    """Run the command; `argv` is without the program's name, `at_end` is told the exit code to come."""

    async def command() -> int:
        code = await _VERBS[verb](settings, key)
        at_end(code)
        return code

    try:
        verb, settings = load(argv, environ)
        key = ApiKey(DEMO_API_KEY) if verb is Verb.DEMO else resolve_key(settings, environ)
        log.configure(settings.log.level, settings.log.format, secrets=key.secrets)
        for name in unknown_variables(environ):
            structlog.stdlib.get_logger(__name__).warning("unknown variable is ignored", variable=name)
        return asyncio.run(command())
    except SettingsError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else Python complains once more at its end
        return 0
    except KeyboardInterrupt:
        return 130


def _end_within_seconds(code: int) -> None:
    """End the process soon, even while a thread waits for a name server that does not answer."""
    sys.stdout.flush()
    timer = threading.Timer(_LONGEST_END, os._exit, (code,))
    timer.daemon = True
    timer.start()
