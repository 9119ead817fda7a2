"""The log: one line an event on standard error, in logfmt or JSON, and the one place that redacts.

Every record passes here, those of libraries too. Whatever it carries - newlines, quotes, terminal escapes,
control characters, lone surrogates, all of which a foreign API may send - it stays one line that parses back
and forges no other, every secret in it reads `[redacted]`, and a stream that fails never fails the program:
the lines it did not take are dropped and counted, and the count is logged once it takes lines again.
"""

import json
import logging
import math
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from exporter.runtime import journal
from exporter.runtime.redaction import REDACTED, redact

_MOST_KINDS = 1000  # of errors that have their traceback
_DEEPEST = 8  # of nested values; beyond is foreign nonsense, or a cycle
_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}
_NOISY = ("asyncio", "httpx", "httpcore")  # below warning they log URLs, headers and selectors
_BEARER = re.compile(r"(bearer\s+)\S+", re.IGNORECASE)
_BARE = re.compile(r"[!#-<>-\[\]-~]+")  # printable ASCII but blank, ", = and \
_NO_KEY = re.compile(r"[^A-Za-z0-9_.-]")
_META = ("event", "ts", "level", "msg", "_record", "_from_structlog")


class Stream(Protocol):
    """Where lines go."""

    def write(self, line: str, /) -> object:
        """Take a line; OSError or ValueError when it cannot be taken."""


def configure(
    level: str,
    format: str,  # noqa: A002 - the name of the option
    stream: Stream | None = None,
    secrets: Callable[[], Iterable[str]] = tuple,
    *,
    with_priority: bool = False,
) -> None:
    """Send the records of structlog and of logging from `level` up to `stream` (standard error when None).

    `level` is debug, info, warn or error, `format` logfmt or json; `secrets` is asked at each record;
    `with_priority` starts each line as the journal reads it. Calling it again replaces what was configured
    before.
    """
    handler = _Handler(sys.stderr if stream is None else stream, with_priority=with_priority)
    render = structlog.processors.JSONRenderer() if format == "json" else _render_logfmt
    handler.setFormatter(_formatter(render, secrets))
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(_LEVELS[level])
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(_LEVELS[level], logging.WARNING))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,  # a logger made before this call follows it too
    )


def _formatter(render: Processor, secrets: Callable[[], Iterable[str]]) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        processors=[
            _TracebackOnce(),
            structlog.processors.format_exc_info,
            _arrange,
            _Redact(secrets),
            render,
        ]
    )


class _Handler(logging.Handler):
    """Writes lines; one that cannot be written is dropped and counted, and the program goes on."""

    def __init__(self, stream: Stream, *, with_priority: bool) -> None:
        super().__init__()
        self._stream = stream
        self._with_priority = with_priority
        self._dropped = 0

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        return (journal.priority(record.levelno) if self._with_priority else "") + super().format(record)

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, and before it how many were dropped since the last one."""
        try:
            line = self.format(record)
            if self._dropped:
                line = f"{self.format(_loss(self._dropped))}\n{line}"
            self._stream.write(line + "\n")
            self._dropped = 0
        except Exception:  # noqa: BLE001 - there is nowhere left to say so
            self._dropped += 1


def _loss(lines: int) -> logging.LogRecord:
    text = f"{lines} log lines dropped: stderr is not being read"
    return logging.LogRecord(__name__, logging.WARNING, "", 0, text, None, None)


class _TracebackOnce:
    """Leaves its traceback to the first error of each kind alone: a type, raised at one line."""

    def __init__(self) -> None:
        self._seen: set[tuple[object, ...]] = set()

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        if isinstance(error := event.get("exc_info"), BaseException):
            frames = traceback.extract_tb(error.__traceback__)[-1:]
            kind = type(error), *((frame.filename, frame.lineno) for frame in frames)
            if kind in self._seen or len(self._seen) == _MOST_KINDS:
                del event["exc_info"]
            else:
                self._seen.add(kind)
        return event


class _Redact:
    """Makes plain data of every value, with the secrets of this moment and bearer tokens taken out."""

    def __init__(self, secrets: Callable[[], Iterable[str]]) -> None:
        self._secrets = secrets

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        redacted: EventDict = self._nested(event, tuple(self._secrets()), depth=0)
        return redacted

    def _plain(self, value: object, secrets: Sequence[str], depth: int) -> Any:
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else json.dumps(value)  # as text: JSON has no such number
        if isinstance(value, Mapping | list | tuple | set | frozenset):
            return self._nested(value, secrets, depth + 1) if depth < _DEEPEST else "..."
        return self._text(value, secrets)

    def _nested(self, value: Mapping[Any, Any] | Iterable[Any], secrets: Sequence[str], depth: int) -> Any:
        if isinstance(value, Mapping):
            return {
                self._text(key, secrets): self._plain(member, secrets, depth) for key, member in value.items()
            }
        return [self._plain(member, secrets, depth) for member in value]

    def _text(self, value: object, secrets: Sequence[str]) -> str:
        text = str(value).encode(errors="replace").decode()  # no lone surrogates
        return _BEARER.sub(rf"\1{REDACTED}", redact(text, secrets))


def _arrange(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Put time, level and message first, whatever else is called so; say which library a record is from."""
    record: logging.LogRecord = event["_record"]
    line: dict[str, Any] = {
        "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
        "level": next(
            (name for name, number in reversed(_LEVELS.items()) if record.levelno >= number), "debug"
        ),
        "msg": event.get("event", ""),
    }
    if not event["_from_structlog"]:
        line["logger"] = record.name
    line |= {key: value for key, value in event.items() if key not in _META}
    if "exception" in line:
        line["traceback"] = line.pop("exception")
    return line


def _render_logfmt(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    return " ".join(f"{_NO_KEY.sub('_', key) or '_'}={_logfmt(value)}" for key, value in event.items())


def _logfmt(value: object) -> str:
    """Return the value bare, or quoted and escaped as JSON is."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if _BARE.fullmatch(text):
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in quoted)
