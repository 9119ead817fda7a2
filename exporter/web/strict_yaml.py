"""YAML as Go's strict decoder reads it: scalars stay the text they are, and no key may stand twice.

`0755: yes` would be 493 and True to PyYAML; here it is text, and its reader decides what it means. Each value
can be traced back to its line, so that a message need not repeat it.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from exporter.runtime.yaml import UniqueKeyLoader, parse_yaml

_TEXT_TAGS = ("int", "float", "bool", "timestamp", "binary", "value")


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
    return Document(*parse_yaml(text, _Loader))


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
