"""What each subcommand does; each returns the exit code."""

import asyncio
import logging
import os
import shutil
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import structlog

from exporter import __version__
from exporter.app import Exporter
from exporter.backfill import history
from exporter.check import ApiAddress, document, failure, failure_document, table
from exporter.clock import Clock, SystemClock
from exporter.demo import simulated_api
from exporter.listeners import open_listeners, open_probe_listener
from exporter.model import Snapshot
from exporter.reloads import LOOPBACK, warn_of_access
from exporter.rules import RulesError, render, render_recording
from exporter.runtime.service_manager import ServiceManager
from exporter.runtime.signals import stop_signal
from exporter.runtime.streams import print_error, print_result
from exporter.runtime.tuning import give_back_large_blocks, tune_interpreter
from exporter.settings import ApiKey, Command, Settings, SettingsError, Subcommand
from exporter.shipped import read_values, write_dashboards

log = structlog.stdlib.get_logger(__name__)

CHECK_INTERVAL = 86_400.0  # seconds; longer than any check takes


async def serve(settings: Settings, key: ApiKey, command: Command) -> int:
    """Poll and serve until a signal asks for an end; end with 1 should polling end by itself."""
    simulated = command.simulated
    exporter = Exporter(settings, key, clock=SystemClock(), simulated=simulated)
    access = exporter.reloads.open_access()
    listeners, probes = open_listeners(settings), open_probe_listener(settings)
    _warn_of_key(settings, key)
    if access is not None:
        warn_of_access(settings, access.config)
    if simulated:
        log.warning("this is a demo: all data is simulated", speed=settings.demo.speed)
    tune_interpreter()
    give_back_large_blocks()
    stopping = stop_signal(asyncio.get_running_loop())
    manager = ServiceManager(os.environ)
    async with (
        exporter.running(*listeners, access=access, probes=probes) as running,
        manager.serving(f"serving {running.url}", lambda: not running.polling.done()),
    ):
        log.info("serving", version=__version__, url=running.url, api=settings.cohere.base_url)
        ends: tuple[asyncio.Future[Any], ...] = (running.polling, stopping)
        if simulated:
            published = asyncio.create_task(exporter.published.wait())
            await asyncio.wait((*ends, published), return_when=asyncio.FIRST_COMPLETED)
            if published.done():
                print_result(f"Open {running.url} in a browser; Ctrl-C ends the demo.")
            published.cancel()
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if running.polling.done():
            log.critical("polling ended unexpectedly", exc_info=running.polling.exception())
            return 1
        running.polling.cancel()  # at once: scrapes under way may take their time yet
        log.info("stopping", signal=stopping.result().name)
    return 0


async def check(settings: Settings, key: ApiKey, command: Command, *, clock: Clock | None = None) -> int:
    """Poll once and print what was found, or what is wrong and what to do about it."""
    if command.flags.get("--config-only"):
        return await _check_config(settings, key)
    return await _check(settings, key, command, clock or SystemClock())


async def _check_config(settings: Settings, key: ApiKey) -> int:
    """Read every file that `serve` reads; raise SettingsError for the first that cannot be used."""
    exporter = Exporter(settings, key, clock=SystemClock())
    exporter.reloads.open_access()
    await exporter.http.aclose()
    return print_result("the configuration is valid")


async def _check(settings: Settings, key: ApiKey, command: Command, clock: Clock) -> int:
    # Everything is read, for however long it takes and whatever is left of a budget.
    patient = {
        "poll": settings.poll.model_copy(
            update={"interval": CHECK_INTERVAL, "idle_interval": CHECK_INTERVAL}
        ),
        "cohere": settings.cohere.model_copy(update={"calls_per_month": 0}),
    }
    exporter = Exporter(settings.model_copy(update=patient), key, clock=clock, simulated=command.simulated)
    async with exporter.http:
        outcome = await exporter.poller.poll()
        if outcome.reason is None:
            await exporter.poller.finish()
    address = ApiAddress(settings.cohere.base_url, command.simulated)
    output = command.flags.get("--output", "table")
    snapshot = exporter.exposition.snapshot
    if outcome.reason or snapshot is None:
        if output == "json":
            print_result(failure_document(outcome, address))
        else:
            print_error(failure(outcome, address))
        return 1
    unread = exporter.poller.step_metrics.errors
    if output == "json":
        return print_result(document(snapshot, address, [str(error) for error in unread]))
    code = print_result(_table(snapshot, address, clock.time(), in_full=output == "wide"))
    if unread:
        models = "1 model" if len(unread) == 1 else f"{len(unread)} models"
        print_error(f"step metrics of {models} could not be read: {unread[0]}")
    return code


def dashboards(command: Command) -> int:
    """Write the Grafana dashboards, and print the names of the files."""
    folder = Path(command.operands[0])
    try:
        written = write_dashboards(folder)
    except OSError as error:
        raise SettingsError(f"{folder}: {error.strerror or error}") from None
    return print_result("\n".join(map(str, written)))


def rules(command: Command) -> int:
    """Write the alerts or the recording rules into a file, or print them."""
    given = command.flags.get("--values")
    rendered = render_recording if command.flags.get("--recording") else render
    try:
        content = rendered(read_values(Path(given)) if given else {})
    except RulesError as error:
        raise SettingsError(f"--values: {error}" if given else str(error)) from None
    if not command.operands:
        return print_result(content.rstrip("\n"))
    file = Path(command.operands[0])
    try:
        file.write_text(content, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror or error}") from None
    return print_result(str(file))


_COMMANDS = {
    Subcommand.SERVE: serve,
    Subcommand.DEMO: serve,
    Subcommand.CHECK: check,
    Subcommand.HISTORY: history,
}
_PRINTING = (Subcommand.CHECK, Subcommand.HISTORY)


async def run(settings: Settings, key: ApiKey, command: Command) -> int:
    """Do what a subcommand does, asking a simulated API inside this process where that is wanted."""
    if command.subcommand in _PRINTING and settings.log.level != "debug":
        logging.disable()  # what is wrong is printed, in more words
    async with simulated_api(settings, key) if command.simulated else nullcontext(settings) as pointed:
        return await _COMMANDS[command.subcommand](pointed, key, command)


def _table(snapshot: Snapshot, address: ApiAddress, now: float, *, in_full: bool) -> str:
    is_terminal = sys.stdout.isatty()
    # What a program reads is not shortened, unless COLUMNS asks for it.
    fits = not in_full and (is_terminal or bool(os.environ.get("COLUMNS")))
    colour = is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    max_width = shutil.get_terminal_size().columns if fits else None
    return table(snapshot, address, now, max_width=max_width, colour=colour)


def _warn_of_key(settings: Settings, key: ApiKey) -> None:
    """Warn when the key would cross a network for everybody to read, or is missing where one may be meant."""
    file, base_url = settings.cohere.api_key_file, settings.cohere.base_url
    if file and not key.read():
        log.warning(
            "the API key file is empty; requests are sent without a key until it has one", file=str(file)
        )
    url = urlsplit(base_url)
    if url.scheme == "http" and key.read() and url.hostname not in LOOPBACK:
        log.warning("the API key is sent in clear text; use https in --cohere.base-url", api=base_url)
