import io
import json
import logging
import re
from typing import Any, NoReturn

import pytest
import structlog
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.runtime import log as exporter_log

FIELD = re.compile(r'([A-Za-z0-9_.-]+)=("(?:[^"\\]|\\.)*"|[^ "=\\]*)(?: |$)')
ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))


def configured(level: str = "info", format: str = "logfmt", **options: Any) -> io.StringIO:  # noqa: A002
    stream = io.StringIO()
    exporter_log.configure(level, format, stream, **options)
    return stream


def parse_logfmt(line: str) -> dict[str, Any]:
    """Read a line strictly: nothing but fields, one blank between them."""
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    fields, end = {}, 0
    for match in FIELD.finditer(line[:-1]):
        assert match.start() == end
        end = match.end()
        fields[match[1]] = json.loads(match[2]) if match[2].startswith('"') else match[2]
    assert end == len(line) - 1
    return fields


def parse_json(line: str) -> dict[str, Any]:
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    fields: dict[str, Any] = json.loads(line)
    return fields


def fail(message: str) -> NoReturn:
    raise RuntimeError(message)


PARSE = {"logfmt": parse_logfmt, "json": parse_json}
both_formats = pytest.mark.parametrize("format", ["logfmt", "json"])


def test_a_logfmt_line_has_time_level_message_and_fields() -> None:
    stream = configured()

    structlog.get_logger().info("model status changed", model_id="ft-1", attempts=2, ok=True, trace=None)

    assert re.fullmatch(
        r'ts=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=info msg="model status changed" '
        r"model_id=ft-1 attempts=2 ok=true trace=null\n",
        stream.getvalue(),
    )


def test_a_json_line_has_the_same_keys_in_the_same_order() -> None:
    stream = configured(format="json")

    structlog.stdlib.get_logger(__name__).info("poll done", models=3, seconds=0.5, worst=float("nan"))

    line = parse_json(stream.getvalue())
    assert list(line) == ["ts", "level", "msg", "models", "seconds", "worst"]
    assert (line["level"], line["msg"], line["models"], line["seconds"], line["worst"]) == (
        "info",
        "poll done",
        3,
        0.5,
        "NaN",
    )


@pytest.mark.parametrize(("level", "written"), [("debug", 4), ("info", 3), ("warn", 2), ("error", 1)])
def test_only_records_from_the_level_up_are_written(level: str, written: int) -> None:
    stream = configured(level)
    log = structlog.get_logger()

    for write in (log.debug, log.info, log.warning, log.error):
        write("event")

    levels = [parse_logfmt(line)["level"] for line in stream.getvalue().splitlines(keepends=True)]
    assert levels == ["debug", "info", "warn", "error"][-written:]


@both_formats
def test_records_of_libraries_take_the_same_way(format: str) -> None:  # noqa: A002
    stream = configured(format=format)

    logging.getLogger("another.package").critical("cannot bind\nto %s", "port")

    line = PARSE[format](stream.getvalue())
    assert (line["level"], line["msg"], line["logger"]) == (
        "error",
        "cannot bind\nto port",
        "another.package",
    )


def test_the_http_client_is_silent_below_warning() -> None:
    stream = configured("debug")

    for name in ("httpx", "httpcore", "httpcore.http11"):
        logging.getLogger(name).info("GET https://api.cohere.com")
    assert stream.getvalue() == ""
    logging.getLogger("httpx").warning("odd")
    assert "msg=odd" in stream.getvalue()


def test_configuring_again_replaces_and_reaches_loggers_made_before() -> None:
    log = structlog.get_logger()
    before = configured()
    log.info("one")
    after = configured("error", "json")
    log.info("two")
    log.error("three")

    assert parse_logfmt(before.getvalue())["msg"] == "one"
    assert parse_json(after.getvalue())["msg"] == "three"


def test_without_a_stream_the_log_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    exporter_log.configure("info", "logfmt")

    structlog.get_logger().info("started")

    printed = capsys.readouterr()
    assert (printed.out, parse_logfmt(printed.err)["msg"]) == ("", "started")


@both_formats
@pytest.mark.parametrize("source", ["structlog", "logging"])
def test_a_traceback_is_one_field_of_one_line(format: str, source: str) -> None:  # noqa: A002
    stream = configured(format=format)
    log = structlog.get_logger() if source == "structlog" else logging.getLogger("asyncio")

    try:
        fail("first\nsecond")
    except RuntimeError:
        log.exception("poll failed")

    line = PARSE[format](stream.getvalue())
    assert line["msg"] == "poll failed"
    assert line["traceback"].startswith("Traceback (most recent call last):\n")
    assert line["traceback"].endswith("RuntimeError: first\nsecond")


def test_an_error_has_its_traceback_once_for_each_kind_and_line() -> None:
    stream = configured()
    for kind in ("int", "int", "float"):
        try:
            {"int": int, "float": float}[kind]("x")
        except ValueError as error:
            structlog.get_logger().error("unexpected", error=repr(error), exc_info=error)
    try:
        fail("elsewhere")
    except RuntimeError as error:
        structlog.get_logger().error("unexpected", error=repr(error), exc_info=error)
    lines = [parse_logfmt(line) for line in stream.getvalue().splitlines(keepends=True)]
    assert [line["msg"] for line in lines] == ["unexpected"] * 4
    assert ["traceback" in line for line in lines] == [True, False, False, True]


@both_formats
def test_fields_cannot_take_the_place_of_time_level_and_message(format: str) -> None:  # noqa: A002
    stream = configured(format=format)

    structlog.get_logger().info("real", ts="never", level="error", msg="forged")

    line = PARSE[format](stream.getvalue())
    assert (line["level"], line["msg"]) == ("info", "real")
    assert line["ts"] != "never"


# Whatever is logged


def readable(text: str) -> str:
    return text.encode(errors="replace").decode()


@both_formats
@given(text=ANY_TEXT, key=ANY_TEXT)
@example(text='x" level=error msg="forged', key="")
@example(text="x\nts=2026-01-01T00:00:00.000Z level=error msg=forged\r\x1b[2K\x1b[1A", key="a=b")
@example(text="\u2028\u2029\x85\x0b\x0c\x1c\x7f\x9b31m\u202egnp.exe\U000e0001\ud800\\", key="\\")
def test_any_text_stays_one_line_and_parses_back(format: str, text: str, key: str) -> None:  # noqa: A002
    stream = configured(format=format)

    structlog.get_logger().info(text, **{"value": text, "nested": {"key": [text]}, f"k{key}": 1})

    assert len(stream.getvalue().splitlines()) == 1
    line = PARSE[format](stream.getvalue())
    assert line["msg"] == line["value"] == expected(text)
    nested = json.loads(line["nested"]) if format == "logfmt" else line["nested"]
    assert nested == {"key": [expected(text)]}


def expected(text: str) -> str:
    return re.sub(r"(?i)(bearer\s+)\S+", r"\1[redacted]", readable(text))


@both_formats
def test_values_of_any_type_are_written(format: str) -> None:  # noqa: A002
    stream = configured(format=format)
    cycle: list[Any] = []
    cycle.append(cycle)

    structlog.get_logger().info("odd", cycle=cycle, error=ValueError("bad"), raw=b"\xff", kinds={"a"})

    line = PARSE[format](stream.getvalue())
    assert (line["error"], line["raw"]) == ("bad", "b'\\xff'")
    assert "..." in str(line["cycle"])


# Secrets


@both_formats
def test_a_secret_is_redacted_wherever_it_stands(format: str) -> None:  # noqa: A002
    stream = configured(format=format, secrets=lambda: ["s3cretKey"])

    try:
        fail("refused s3cretKey")
    except RuntimeError:
        structlog.get_logger().exception(
            "key s3cretKey",
            value="as3cretKeyb",
            nested={"s3cretKey": ["s3cretKey", ("s3cretKey",)]},
            error=ValueError("s3cretKey"),
            s3cretKey=1,
        )
    logging.getLogger("another.package").error("%s", "s3cretKey")

    assert "s3cret" not in stream.getvalue()
    first, second = map(PARSE[format], stream.getvalue().splitlines(keepends=True))
    assert (first["msg"], first["value"], second["msg"]) == ("key [redacted]", "a[redacted]b", "[redacted]")


def test_secrets_are_those_of_the_moment() -> None:
    secrets = ["first-key"]
    stream = configured(secrets=lambda: secrets)

    secrets[:] = ["second-key"]
    structlog.get_logger().info("second-key")

    assert "msg=[redacted]" in stream.getvalue()


@pytest.mark.parametrize(
    "text", ["Authorization: Bearer t0ken", "bearer  t0ken", "b'Bearer t0ken'", "BEARER\nt0ken"]
)
def test_a_bearer_token_is_redacted_even_when_unknown(text: str) -> None:
    stream = configured()

    structlog.get_logger().info("request", headers=[text])

    assert "t0ken" not in stream.getvalue()
    assert "[redacted]" in stream.getvalue()


# The stream


class BrokenStream(io.StringIO):
    def write(self, text: str, /) -> int:
        raise OSError(28, "No space left on device")


def test_a_stream_that_fails_does_not_fail_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    closed = io.StringIO()
    closed.close()
    for stream in (closed, BrokenStream()):
        exporter_log.configure("info", "logfmt", stream)
        structlog.get_logger().error("lost")
        logging.getLogger("asyncio").error("lost")

    assert capsys.readouterr().err == ""


def test_a_stream_of_bytes_that_knows_ascii_only_gets_json() -> None:
    raw = io.BytesIO()
    exporter_log.configure("info", "json", io.TextIOWrapper(raw, encoding="ascii", write_through=True))

    structlog.get_logger().info("modèle €")

    assert json.loads(raw.getvalue())["msg"] == "modèle €"


class FullStream(io.StringIO):
    """A disk that is full for a while."""

    is_full = False

    def write(self, text: str, /) -> int:
        if self.is_full:
            raise OSError(28, "No space left on device")
        return super().write(text)


@both_formats
def test_lines_that_were_lost_are_counted_once_lines_are_taken_again(format: str) -> None:  # noqa: A002
    stream = FullStream()
    exporter_log.configure("info", format, stream)
    log = structlog.get_logger()
    stream.is_full = True
    for _ in range(3):
        log.info("lost")
    stream.is_full = False
    for _ in range(2):
        log.info("written")

    lines = [PARSE[format](line) for line in stream.getvalue().splitlines(keepends=True)]
    assert [line["msg"] for line in lines] == [
        "3 log lines dropped: stderr is not being read",
        "written",
        "written",
    ]
    assert lines[0]["level"] == "warn"
