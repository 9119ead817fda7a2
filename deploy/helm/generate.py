"""Write what the chart says twice: the options in its schema, and the table of values in the README.

The options come from `exporter.settings`; the table from values.yaml, where the comment above a value is its
meaning, and from values.schema.json, where a value without `properties` is shown as one row. Run it as
`make manifests`; a test holds both files to it.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from exporter.settings import Option, options

CHART = Path(__file__).parent / "cohere-finetune-exporter"
VALUES = CHART / "values.yaml"
SCHEMA = CHART / "values.schema.json"
README = Path(__file__).parent / "README.md"

# The chart sets these itself: ports, probes and volumes depend on them.
CHART_SETS = {"config.file", "web.listen-address", "web.config.file"}

_TABLE = re.compile(r"(?<=<!-- values -->\n).*(?=<!-- /values -->)", re.DOTALL)
_KEY = re.compile(r"( *)([\w-]+):")


def schema() -> str:
    """Give values.schema.json, with the options as they are now."""
    content = json.loads(SCHEMA.read_text(encoding="utf-8"))
    groups: dict[str, dict[str, Any]] = {}
    for option in options():
        if option.key not in CHART_SETS:
            group, _, name = option.key.partition(".")
            groups.setdefault(group, {})[name] = _type(option)
    content["properties"]["config"] = _object({group: _object(names) for group, names in groups.items()})
    return json.dumps(content, indent=2) + "\n"


def readme() -> str:
    """Give the README, with the table of values as they are now."""
    text = README.read_text(encoding="utf-8")
    rows = [f"| `{path}` | `{default}` | {meaning} |\n" for path, default, meaning in table()]
    return _TABLE.sub(
        lambda _: "".join(["| value | default | meaning |\n| --- | --- | --- |\n", *rows]), text
    )


def table() -> Iterator[tuple[str, str, str]]:
    """Give path, default and meaning of each value, in the order of values.yaml."""
    values = yaml.safe_load(VALUES.read_text(encoding="utf-8"))
    meanings = comments(VALUES.read_text(encoding="utf-8"))
    for path, default in leaves(values, json.loads(SCHEMA.read_text(encoding="utf-8"))):
        yield path, json.dumps(default), meanings.get(path, "")


def leaves(
    values: Mapping[str, Any], declared: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Give path and default of each value; what the schema leaves open, and `config`, is one value."""
    for name, value in values.items():
        path = f"{prefix}{name}"
        below = declared["properties"].get(name, {})
        if "properties" in below and path != "config":
            yield from leaves(value, below, f"{path}.")
        else:
            yield path, value


def comments(text: str) -> dict[str, str]:
    """Give the comment above each key of a YAML text, by the path of the key."""
    found: dict[str, str] = {}
    above: list[str] = []
    parents: list[tuple[int, str]] = []
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            above.append(line.lstrip("# "))
            continue
        if key := _KEY.match(line):
            depth = len(key[1])
            parents = [(indent, name) for indent, name in parents if indent < depth] + [(depth, key[2])]
            found[".".join(name for _, name in parents)] = " ".join(above)
        above = []
    return found


def _type(option: Option) -> dict[str, Any]:
    if "|" in option.metavar:
        return {"enum": option.metavar.split("|")}
    types = {"": "boolean", "NUMBER": "number", "DURATION": ["string", "number"]}
    return {"type": types.get(option.metavar, "string")}


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": dict(properties)}


def main() -> None:
    """Write both files."""
    SCHEMA.write_text(schema(), encoding="utf-8")
    README.write_text(readme(), encoding="utf-8")


if __name__ == "__main__":
    main()
