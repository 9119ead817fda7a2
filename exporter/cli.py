"""The command: arguments and environment → a verb that runs, and its exit code.

0 after a clean stop, 1 when `check` cannot poll the API, 2 when what the user gave cannot be used: then one
line on standard error says what to do.
"""

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence

import structlog

from exporter import app, log
from exporter.settings import ApiKey, SettingsError, Verb, load, resolve_key, unknown_variables
from exporter.settings.flags import PROGRAM
from exporter.simulator import DEMO_API_KEY

_VERBS = {Verb.SERVE: app.serve, Verb.DEMO: app.demo, Verb.CHECK: app.check}


def run() -> int:
    """Run the command with the process's own arguments and environment; give the exit code."""
    return main(sys.argv[1:], os.environ)


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command; `argv` is without the program's name."""
    try:
        verb, settings = load(argv, environ)
        key = ApiKey(DEMO_API_KEY) if verb is Verb.DEMO else resolve_key(settings, environ)
        log.configure(settings.log.level, settings.log.format, secrets=key.secrets)
        for name in unknown_variables(environ):
            structlog.stdlib.get_logger(__name__).warning("unknown variable is ignored", variable=name)
        return asyncio.run(_VERBS[verb](settings, key))
    except SettingsError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
