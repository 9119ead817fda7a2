"""What may only be there where the schedule explains it: lines of the log from `warn` up; and what never may.

Never: an exception that nobody caught, a warning of the interpreter, a task that was forgotten, a secret in
the log or on a page.
"""

import asyncio
import json
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import StringIO
from typing import Any

from exporter.runtime import log
from exporter.simulator import WANDB_API_KEY
from tools.soak.schedule import STEPS, Row, between

MOST = 50
KEY_PREFIX = "soak-key-that-nobody-may-see-"
SECRETS = (KEY_PREFIX, WANDB_API_KEY)
_LINGERS = 70 * 60.0  # seconds; the longest pause after a fault is an hour

EXPLAINED_BY: Mapping[str, Callable[[Row], bool]] = {
    "poll failed": lambda row: row.fails_polls,
    "data is stale: metrics of models are absent until a poll succeeds": lambda row: row.fails_polls,
    # A refusal of everybody also meets the readings.
    "step metrics cannot be read; last good values stay": lambda row: row.where == STEPS or bool(row.reason),
    "step metrics of different models cannot be read; they are tried one at a time": lambda row: (
        row.where == STEPS or bool(row.reason)
    ),
    "the API key file cannot be reloaded; the last good key stays in use": lambda row: row.kind.startswith(
        "key file"
    ),
}


class Findings:
    """What was found wrong, at most `MOST` of it in words; `now` gives seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.texts: list[str] = []
        self.count = 0
        self._now = now

    def add(self, text: str) -> None:
        """Record a finding."""
        self.count += 1
        if self.count <= MOST:
            at = int(self._now())
            text = f"day {at // 86_400}, {at // 3600 % 24:02}:{at // 60 % 60:02}:{at % 60:02}: {text}"
            self.texts.append(text[:2000])

    def told(self) -> list[str]:
        """Return the findings, and how many more there were."""
        more = self.count - len(self.texts)
        return [*self.texts, f"and {more} more"] if more else self.texts


class LogReader(StringIO):
    """The stream that the exporter logs to; reads each line as it comes and keeps none."""

    def __init__(self, find: Callable[[str], None], now: Callable[[], float]) -> None:
        super().__init__()
        self.lines: Counter[str] = Counter()
        self._find = find
        self._now = now

    def write(self, text: str) -> int:
        """Read what is written: one line."""
        for line in text.splitlines():
            self._read(line)
        return len(text)

    def _read(self, line: str) -> None:
        refuse_secrets(line, self._find)
        try:
            event = json.loads(line)
        except ValueError:
            self._find(f"no line of JSON in the log: {line}")
            return
        self.lines[event["level"]] += 1
        if event["level"] in ("warn", "error") and not self._is_explained(event["msg"]):
            self._find(f"nothing explains this line of the log: {line}")

    def _is_explained(self, message: str) -> bool:
        explains = EXPLAINED_BY.get(message)
        now = self._now()
        return explains is not None and any(explains(row) for _, _, row in between(now - _LINGERS, now))


def refuse_secrets(text: str, find: Callable[[str], None]) -> None:
    """Report a secret in a text."""
    if any(secret in text for secret in SECRETS):
        find("a secret is in the log or on a page")


@contextmanager
def watching(findings: Findings, stream: LogReader) -> Iterator[None]:
    """Log to `stream`, and report what nobody caught, as long as the block lasts."""
    loop = asyncio.get_running_loop()
    log.configure("info", "json", stream, lambda: ())
    hook, threads = sys.unraisablehook, threading.excepthook

    def unhandled(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        findings.add(f"unhandled in the event loop: {context['message']}: {context.get('exception')!r}")

    loop.set_exception_handler(unhandled)
    sys.unraisablehook = lambda what: findings.add(f"unraisable: {what.exc_value!r} in {what.object!r}")
    threading.excepthook = lambda what: findings.add(f"unhandled in a thread: {what.exc_value!r}")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_, **__: findings.add(f"warning: {message!r}")
        try:
            yield
        finally:
            sys.unraisablehook, threading.excepthook = hook, threads
            loop.set_exception_handler(None)
