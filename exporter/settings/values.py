"""The types of the options: what text each accepts and what it becomes.

A value comes as text (flag, variable) or as a YAML scalar. Each type refuses with a ValueError that says what
is allowed and never repeats what was given: it may be a secret in the wrong place.
"""

import ipaddress
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple
from urllib.parse import urlsplit

from pydantic import BeforeValidator, PlainValidator

from exporter.settings.durations import parse_duration

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_ADDRESS = re.compile(r"(?:\[(?P<v6>[^]]+)]|(?P<host>[^:\[\]]*)):(?P<port>[0-9]{1,5})")
_BLANK_OR_CONTROL = re.compile(r"[\s\x00-\x1f\x7f-\x9f]")
_SWITCH = dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(("false", "no", "off", "0"), False)
_PROBES = ("/-/healthy", "/-/ready")


@dataclass(frozen=True, slots=True)
class Metavar:
    """The word for a value in `--help` and the documentation; "" for a switch."""

    word: str


@dataclass(frozen=True, slots=True)
class Spelled:
    """The name of an option after its group, where it is not the field's: `config.file`."""

    name: str


class Repeatable:
    """Mark an option whose flag may be given several times; its values arrive as a list."""


class ListenAddress(NamedTuple):
    """Where the pages are served; a `host` of "" is every address of the machine."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _text(value: object, refusal: str) -> str:
    if not isinstance(value, str):
        raise ValueError(refusal)  # noqa: TRY004 - pydantic collects ValueErrors only
    return value.strip()


def _integer(value: object) -> int:
    text = str(value) if type(value) is int else _text(value, "must be a whole number")
    if not _INTEGER.fullmatch(text):
        raise ValueError("must be a whole number")
    return int(text)


def _optional_integer(value: object) -> int | None:
    return None if value is None else _integer(value)


def _number(value: object) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError("must be a number")
    return number


def _switch(value: object) -> bool:
    if isinstance(value, bool):
        return value
    switch = _SWITCH.get(str(value).strip().lower()) if isinstance(value, str | int) else None
    if switch is None:
        raise ValueError("must be true or false")
    return switch


def _header(value: object) -> str:
    refusal = "must be printable ASCII text (in YAML: in quotes), because it is sent as an HTTP header"
    text = _text(value, refusal)
    if not (text and text.isascii() and text.isprintable()):
        raise ValueError(refusal)
    return text


def _file(value: object) -> Path | None:
    if value is None or isinstance(value, Path):
        return value
    text = _text(value, "must be the path of a file")
    if not text or "\0" in text:
        raise ValueError("must be the path of a file")
    return Path(text)


def _pattern(value: object) -> re.Pattern[str] | None:
    if value is None or isinstance(value, re.Pattern):
        return value
    text = _text(value, "must be a regular expression")
    try:
        return re.compile(text) if text else None
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"must be a Python regular expression: {error}") from None


def _base_url(value: object) -> str:
    """Return the URL without what users copy along with it: a `/`, `/v1` or `/v1/` at its end."""
    text = _text(value, "must be a URL such as https://api.cohere.com")
    try:
        url = urlsplit(text)
        valid = url.scheme in ("http", "https") and url.hostname and (url.port is None or url.port > 0)
    except ValueError:
        valid = False
    if not valid or not _is_host(url.hostname or "") or _BLANK_OR_CONTROL.search(text) or "\\" in text:
        raise ValueError("must be an http or https URL with a host, such as https://api.cohere.com")
    if "@" in url.netloc:
        raise ValueError("must not contain a user name or password")
    if "?" in text or "#" in text:
        raise ValueError("must not contain a query (?) or fragment (#)")
    return f"{url.scheme}://{url.netloc}{url.path.rstrip('/').removesuffix('/v1').rstrip('/')}"


def _is_host(host: str) -> bool:
    """Tell whether an HTTP client can take a host; an international name must be written as xn--…."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return bool(_HOST.fullmatch(host.removesuffix(".")))
    return True


def _listen_address(value: object) -> ListenAddress:
    refusal = "must be HOST:PORT, [IPV6]:PORT or :PORT, the port from 0 to 65535"
    if isinstance(value, ListenAddress):
        return value
    match = _ADDRESS.fullmatch(_text(value, refusal))
    if not match or int(match["port"]) > 65_535:
        raise ValueError(refusal)
    if match["v6"]:
        try:
            ipaddress.IPv6Address(match["v6"])
        except ValueError:
            raise ValueError(refusal) from None
    elif match["host"] and not _HOST.fullmatch(match["host"]):
        raise ValueError(refusal)
    return ListenAddress(match["v6"] or match["host"] or "", int(match["port"]))


def _listen_addresses(value: object) -> tuple[ListenAddress, ...]:
    """Return the addresses of a list, or of a text in which commas separate them."""
    if isinstance(value, str):
        value = value.split(",")
    given = value if isinstance(value, list | tuple) else [value]
    return tuple(dict.fromkeys(map(_listen_address, given))) or (_listen_address(""),)


def _optional_address(value: object) -> ListenAddress | None:
    return None if value is None else _listen_address(value)


def _telemetry_path(value: object) -> str:
    text = _text(value, "must be a path such as /metrics")
    if not text.startswith("/") or set("?#%") & set(text) or _BLANK_OR_CONTROL.search(text):
        raise ValueError(
            "must be a path such as /metrics: it begins with / and contains no ?, #, % or blanks"
        )
    if text in _PROBES:
        raise ValueError(f"must be a path other than {' and '.join(_PROBES)}, the probes")
    return text


Duration = Annotated[float, BeforeValidator(parse_duration), Metavar("DURATION")]
Integer = Annotated[int, BeforeValidator(_integer), Metavar("NUMBER")]
OptionalInteger = Annotated[int | None, BeforeValidator(_optional_integer), Metavar("NUMBER")]
Number = Annotated[float, BeforeValidator(_number), Metavar("NUMBER")]
Switch = Annotated[bool, PlainValidator(_switch), Metavar("")]
HeaderText = Annotated[str, PlainValidator(_header), Metavar("TEXT")]
OptionalFile = Annotated[Path | None, PlainValidator(_file), Metavar("FILE")]
OptionalPattern = Annotated[re.Pattern[str] | None, PlainValidator(_pattern), Metavar("REGEX")]
BaseUrl = Annotated[str, PlainValidator(_base_url), Metavar("URL")]
Addresses = Annotated[
    tuple[ListenAddress, ...], PlainValidator(_listen_addresses), Metavar("ADDRESS"), Repeatable()
]
OptionalAddress = Annotated[ListenAddress | None, PlainValidator(_optional_address), Metavar("ADDRESS")]
TelemetryPath = Annotated[str, PlainValidator(_telemetry_path), Metavar("PATH")]
