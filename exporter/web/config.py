"""The web configuration file, read: text → `WebConfig`, or one line on what is wrong and where.

The line gives the file, the number of the line and the key, and repeats neither a value nor a name of the
user's choosing: in the wrong place, each may be a secret. YAML is read as Go's strict decoder reads it:
scalars stay the text they are (`0755: yes` would be 493 and True to PyYAML), and the schema decides what they
mean.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml
from pydantic import BaseModel, ValidationError

from exporter.refusals import refusal
from exporter.runtime.reload import ReadFile, ReloadError, read_file
from exporter.runtime.yaml import NotYaml, UniqueKeyLoader, line_of, located, parse_yaml
from exporter.suggestions import suggestion
from exporter.web.config_schema import HttpConfig, RateLimit, TlsConfig, WebConfig

_LARGEST = 1 << 20  # bytes: parsing takes seconds each MiB, and a hundred MiB of memory
_SECTIONS: dict[str, type[BaseModel]] = {
    "tls_server_config": TlsConfig,
    "http_server_config": HttpConfig,
    "rate_limit": RateLimit,
}


def read_config(path: Path, read: ReadFile = read_file) -> WebConfig:
    """Read the file; an empty one asks for nothing. Raise ReloadError."""
    content = read(path)
    if len(content) > _LARGEST:
        raise ReloadError(f"cannot read {path}: larger than {_LARGEST >> 10} KiB")
    try:
        values, root = parse_yaml(content.decode("utf-8"), _TextLoader)
        return WebConfig.model_validate(values, context={"directory": path.parent})
    except NotYaml as error:
        raise ReloadError(located(path, error.line, str(error))) from None
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
        raise ReloadError(located(path, line_of(root, first["loc"]), said)) from None


class _TextLoader(UniqueKeyLoader):
    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> str:
        """Refuse half of a surrogate pair, which only an escape can write: no UTF-8 has it."""
        text: str = super().construct_scalar(node)
        if any("\ud800" <= char <= "\udfff" for char in text):
            raise yaml.MarkedYAMLError(problem_mark=node.start_mark)
        return text


for _tag in ("int", "float", "bool", "timestamp", "binary", "value"):
    _TextLoader.add_constructor(f"tag:yaml.org,2002:{_tag}", _TextLoader.construct_scalar)


def _shown(location: Sequence[int | str]) -> Iterator[str]:
    """Return the keys of the format on the way to a value, and nothing that the user made up."""
    section: type[BaseModel] | None = WebConfig
    for step in location:
        if section is None or step not in section.model_fields:
            return
        yield str(step)
        section = _SECTIONS.get(str(step))


def _suggestion(location: Sequence[int | str]) -> str:
    section = _SECTIONS[str(location[0])] if len(location) > 1 else WebConfig
    known = list(section.model_fields)
    return suggestion(str(location[-1]), known) or f"; known are {', '.join(known)}"
