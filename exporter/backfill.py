"""What the subcommand `history` does: lists the models, writes their steps, and prints what is missing."""

import shlex
import sys
from collections.abc import Collection, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from exporter.app import Exporter
from exporter.check import ApiAddress
from exporter.clock import SystemClock
from exporter.errors import ApiError
from exporter.history import History, parse_labels, parse_time, write_history
from exporter.model import FinetunedModel
from exporter.runtime.files import replacing
from exporter.runtime.streams import print_error
from exporter.runtime.text import printable
from exporter.settings import ApiKey, Command, Settings, SettingsError


class _InVain(Exception):
    """Nothing was read that is worth a file."""


async def history(settings: Settings, key: ApiKey, command: Command) -> int:
    """Write every training step of the models as OpenMetrics; 1 when one of them could not be read."""
    wanted = {**_wanted(command), "metric_limit": settings.training.metric_limit}
    exporter = Exporter(settings, key, clock=SystemClock(), simulated=command.simulated)
    address = ApiAddress(settings.cohere.base_url, command.simulated)
    async with exporter.http:
        try:
            listed = (await exporter.client.list_models()).models
        except ApiError as error:
            print_error(f"cannot list the models of {address}: {error.message}\n  what to do: {error.advice}")
            return 1
        models = [model for model in listed if not command.operands or model.id in command.operands]
        unknown = sorted(set(command.operands) - {model.id for model in models})
        for model_id in unknown:
            print_error(f"{address} lists no model {printable(model_id)}")
        output = command.flags.get("--output")
        try:
            done = await _written(exporter, models, output, wanted, unknown)
        except OSError as error:
            print_error(f"the history cannot be written: {error.strerror or error}")
            return 1
    _print_what_is_missing(done)
    kept = f"; {output} is left as it was" if output and _is_in_vain(done, unknown) else ""
    print_error(f"{chr(13) if sys.stderr.isatty() else ''}{done.rows} steps of {done.models} models{kept}")
    return int(_is_incomplete(done, unknown))


def _wanted(command: Command) -> dict[str, Any]:
    flag = "--label"
    try:
        labels = parse_labels(command.flags.get(flag, ()))
        flag = "--since"
        since = command.flags.get(flag)
        return {"labels": labels} | ({} if since is None else {"since": parse_time(since)})
    except ValueError as error:
        raise SettingsError(f"{flag}: {error}") from None


async def _written(
    exporter: Exporter,
    models: Sequence[FinetunedModel],
    output: str | None,
    wanted: dict[str, Any],
    unknown: Collection[str],
) -> History:
    def progress(done: History) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{done.read} of {len(models)} models, {done.rows} steps\x1b[K")

    opened = replacing(Path(output)) if output else nullcontext(sys.stdout.buffer)
    with suppress(_InVain), opened as stream:
        done = await write_history(exporter.client.all_steps, models, stream, progress=progress, **wanted)
        stream.flush()
        if _is_in_vain(done, unknown):
            raise _InVain  # so that a file stays as it was
    return done


def _is_in_vain(done: History, unknown: Collection[str]) -> bool:
    return not done.rows and _is_incomplete(done, unknown)


def _is_incomplete(done: History, unknown: Collection[str]) -> bool:
    return bool(done.errors or done.ended_by or unknown)


def _print_what_is_missing(done: History) -> None:
    for model_id, count in done.left_out.items():
        print_error(
            f"{count} steps of {printable(model_id)} are left out: they have no time, or that of a later step"
        )
    for model_id, count in done.left_out_metrics.items():
        print_error(f"{count} metrics of {printable(model_id)} are left out by --training.metric-limit")
    for model_id, error in done.errors.items():
        print_error(f"the steps of {printable(model_id)} could not be read: {error.message}")
    if done.ended_by:
        advice = f"what to do: {done.ended_by.advice}"
        print_error(f"the history is not complete: {done.ended_by.message}\n  {advice}")
    if done.unread:
        print_error(f"not read; name these models to go on: {printable(shlex.join(done.unread))}")
