"""The types of the options: what text each accepts and what it becomes.

A value comes as text (flag, variable) or as a YAML scalar. Each type refuses with a ValueError that says what
is allowed and never repeats what was given: it may be a secret in the wrong place.
"""

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NamedTuple
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, FiniteFloat, PlainValidator

from exporter.settings.durations import parse_duration

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_ADDRESS = re.compile(r"(?:\[(?P<v6>[^]]+)]|(?P<host>[^:\[\]]*)):(?P<port>[0-9]{1,5})")
_NOT_IN_URL = re.compile(r"[\s\x00-\x1f\x7f-\x9f\\?#]")
_PATH = re.compile(r"/[^\s\x00-\x1f\x7f-\x9f?#%]*")
_PROBES = ("/-/healthy", "/-/ready")


class ListenAddress(NamedTuple):
    """Where the pages are served; a `host` of "" is every address of the machine."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _text(value: object, refusal: str, allowed: Callable[[str], object] = lambda _: True) -> str:
    """Return a text without the blanks around it; refuse what is none, or not `allowed`."""
    if not isinstance(value, str) or not allowed(value.strip()):
        raise ValueError(refusal)
    return value.strip()


def _integer(value: object) -> int:
    given = str(value) if type(value) is int else value
    return int(_text(given, "must be a whole number", _INTEGER.fullmatch))


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004 - pydantic collects ValueErrors only
    return value


def _header(value: object) -> str:
    refusal = "must be printable ASCII text (in YAML: in quotes), because it is sent as an HTTP header"
    return _text(value, refusal, lambda text: text and text.isascii() and text.isprintable())


def _file(value: object) -> Path:
    return Path(_text(value, "must be the path of a file", lambda text: text and "\0" not in text))


def _pattern(value: object) -> re.Pattern[str] | None:
    text = _text(value, "must be a regular expression")
    try:
        return re.compile(text) if text else None
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"must be a Python regular expression: {error}") from None


def _base_url(value: object) -> str:
    """Return the URL without what users copy along with it: a `/`, `/v1` or `/v1/` at its end."""
    refusal = "must be an http or https URL with a host, such as https://api.cohere.com; no user, ? or #"
    text = _text(value, refusal, lambda text: not _NOT_IN_URL.search(text))
    try:
        url = urlsplit(text)
        valid = url.scheme in ("http", "https") and url.port != 0 and url.username is None
    except ValueError:
        valid = False
    if not valid or not _is_host(url.hostname or ""):
        raise ValueError(refusal)
    return f"{url.scheme}://{url.netloc}{url.path.rstrip('/').removesuffix('/v1').rstrip('/')}"


def _is_host(host: str) -> bool:
    """Return whether an HTTP client can take a host; an international name must be written as xn--…."""
    return _is_ip(host) or bool(_HOST.fullmatch(host.removesuffix(".")))


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _listen_address(value: object) -> ListenAddress:
    refusal = "must be HOST:PORT, [IPV6]:PORT or :PORT, the port from 0 to 65535"
    match = _ADDRESS.fullmatch(_text(value, refusal))
    if match and int(match["port"]) <= 65_535:
        host = match["v6"] or match["host"] or ""
        if (":" in host and _is_ip(host)) if match["v6"] else (not host or _HOST.fullmatch(host)):
            return ListenAddress(host, int(match["port"]))
    raise ValueError(refusal)


def _listen_addresses(value: object) -> tuple[ListenAddress, ...]:
    """Return the addresses of a list, or of a text in which commas separate them."""
    if isinstance(value, str):
        value = value.split(",")
    given = value if isinstance(value, list | tuple) else [value]
    return tuple(dict.fromkeys(map(_listen_address, given))) or (_listen_address(""),)


def _telemetry_path(value: object) -> str:
    refusal = "must be a path such as /metrics, without ?, #, % and blanks, and none of the probes' paths"
    return _text(value, refusal, lambda text: _PATH.fullmatch(text) and text not in _PROBES)


# The title is the word for a value in `--help` and the documentation. What may be None is so only by default.
Duration = Annotated[float, BeforeValidator(parse_duration), Field(title="DURATION")]
OptionalDuration = Annotated[float | None, BeforeValidator(parse_duration), Field(title="DURATION")]
Integer = Annotated[int, BeforeValidator(_integer), Field(title="NUMBER")]
OptionalInteger = Annotated[int | None, BeforeValidator(_integer), Field(title="NUMBER")]
Number = Annotated[FiniteFloat, BeforeValidator(_number), Field(title="NUMBER")]
HeaderText = Annotated[str, PlainValidator(_header), Field(title="TEXT")]
File = Annotated[Path | None, PlainValidator(_file), Field(title="FILE")]
Pattern = Annotated[re.Pattern[str] | None, PlainValidator(_pattern), Field(title="REGEX")]
BaseUrl = Annotated[str, PlainValidator(_base_url), Field(title="URL")]
Addresses = Annotated[tuple[ListenAddress, ...], PlainValidator(_listen_addresses), Field(title="ADDRESS")]
Address = Annotated[ListenAddress | None, PlainValidator(_listen_address), Field(title="ADDRESS")]
TelemetryPath = Annotated[str, PlainValidator(_telemetry_path), Field(title="PATH")]
