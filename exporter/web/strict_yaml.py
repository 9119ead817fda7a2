"""YAML as Go's strict decoder reads it: scalars stay the text they are, and no key may stand twice.

`0755: yes` would be 493 and True to PyYAML; here it is text, and its reader decides what it means. Each value
can be traced back to its line, so that a message need not repeat it.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from exporter.runtime.yaml import DuplicateKey, UniqueKeyLoader, cause

_TEXT_TAGS = ("int", "float", "bool", "timestamp", "binary", "value")


class NotYaml(Exception):
    """The text cannot be read; `line` is where, when that is known."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Document:
    """What a text holds, and where."""

    content: Any
    root: yaml.Node | None

    def line(self, path: Sequence[Hashable]) -> int | None:
        """Return the line of a value by its keys and indices; of what holds it when it is not found."""
        node, line = self.root, None
        for step in path:
            found = _child(node, step)
            if found is None:
                break
            line, node = found
        return line


def parse(text: str) -> Document:
    """Read one document; NotYaml when the text is none."""
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        return Document(loader.construct_document(root) if root else None, root)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise NotYaml(
            str(error.problem) if isinstance(error, DuplicateKey) else f"is not valid YAML{cause(error)}",
            line,
        ) from None
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError):
        # Besides its own errors the parser lets those of values it cannot build pass.
        raise NotYaml("is not valid YAML") from None


class _Loader(UniqueKeyLoader):
    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> str:
        """Refuse half of a surrogate pair, which only an escape can write: no UTF-8 has it."""
        text: str = super().construct_scalar(node)
        if any("\ud800" <= char <= "\udfff" for char in text):
            raise yaml.MarkedYAMLError(problem_mark=node.start_mark)
        return text


def _text(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    return loader.construct_scalar(node)


for _tag in _TEXT_TAGS:
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _text)


def _child(node: yaml.Node | None, step: Hashable) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == step:
                return key.start_mark.line + 1, value
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step].start_mark.line + 1, node.value[step]
    return None
