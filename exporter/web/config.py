"""The web configuration file, read: text → `WebConfig`, or one line on what is wrong and where.

The line gives the file, the number of the line and the key, and repeats neither a value nor a name of the
user's choosing: in the wrong place, each may be a secret.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, ValidationError

from exporter.refusals import refusal
from exporter.runtime.reload import ReadFile, ReloadError, read_file
from exporter.runtime.yaml import NotYaml
from exporter.suggestions import suggestion
from exporter.web.config_schema import HttpConfig, RateLimit, TlsConfig, WebConfig
from exporter.web.strict_yaml import parse

_SECTIONS: dict[str, type[BaseModel]] = {
    "tls_server_config": TlsConfig,
    "http_server_config": HttpConfig,
    "rate_limit": RateLimit,
}


def read_config(path: Path, read: ReadFile = read_file) -> WebConfig:
    """Read the file; an empty one asks for nothing. Raise ReloadError."""
    content = read(path)
    try:
        document = parse(content.decode("utf-8"))
        values = {} if document.content is None else document.content
        return WebConfig.model_validate(values, context={"directory": path.parent})
    except NotYaml as error:
        raise ReloadError(_message(path, error.line, str(error))) from None
    except UnicodeDecodeError:
        raise ReloadError(f"{path}: is not a UTF-8 text file") from None
    except ValidationError as error:
        first = error.errors()[0]
        keys = ".".join(_shown(first["loc"]))
        refused = (
            f"unknown key{_suggestion(first['loc'])}"
            if first["type"] == "extra_forbidden"
            else refusal(first)
        )
        said = f"{keys}: {refused}" if keys else refused
        raise ReloadError(_message(path, document.line(first["loc"]), said)) from None


def _message(path: Path, line: int | None, said: str) -> str:
    return f"{path}: {said}" if line is None else f"{path}: line {line}: {said}"


def _shown(location: Sequence[int | str]) -> Iterator[str]:
    """Return the keys of the format on the way to a value, and nothing that the user made up."""
    known = set(WebConfig.model_fields)
    for step in location:
        if step not in known:
            return
        yield str(step)
        section = _SECTIONS.get(str(step))
        known = set(section.model_fields) if section else set()


def _suggestion(location: Sequence[int | str]) -> str:
    section = _SECTIONS.get(str(location[0])) if len(location) > 1 else WebConfig
    known = list(section.model_fields) if section else []
    return suggestion(str(location[-1]), known) or f"; known are {', '.join(known)}"
