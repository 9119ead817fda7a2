"""YAML in which no key stands twice, and which no merging makes large.

PyYAML lets the last of two equal keys win without a word, so a line meant to replace another, further up, is
dropped or drops the other. And `<<: [*a, *a]`, repeated, doubles a mapping with each line.
"""

from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import yaml

from exporter.runtime.files import Unreadable, read_once

_MERGE = "tag:yaml.org,2002:merge"
_MOST_MERGED = 10_000  # keys
_LARGEST = 1 << 20  # bytes
_LONGEST_NUMBER = 100  # characters


class NotYaml(Exception):
    """What is wrong with a file or text, and on which `line` where that is known.

    Nothing of the text itself is repeated.
    """

    def __init__(self, what: str, line: int | None = None) -> None:
        super().__init__(what)
        self.line = line


class _DuplicateKey(yaml.MarkedYAMLError):
    """A key stands twice in a mapping."""


class UniqueKeyLoader(yaml.SafeLoader):
    """PyYAML's safe loader, stricter."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._checked: set[yaml.Node] = set()

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Refuse a key that stands twice, before merged keys are put beside it."""
        # Once only: afterwards what was merged stands beside what the mapping has instead.
        if node not in self._checked:
            self._checked.add(node)
            _refuse_twins(node)
        super().flatten_mapping(node)
        if len(node.value) > _MOST_MERGED:
            raise yaml.MarkedYAMLError(problem="too many keys", problem_mark=node.start_mark)


def _refuse_twins(node: yaml.MappingNode) -> None:
    seen = set()
    for key, _ in node.value:
        if key.tag == _MERGE or not isinstance(key, yaml.ScalarNode):
            continue
        if key.value in seen:
            raise _DuplicateKey(problem_mark=key.start_mark)
        seen.add(key.value)


def _construct_int(loader: UniqueKeyLoader, node: yaml.ScalarNode) -> int:
    """Return a whole number; refuse one too long for Python to write, as hexadecimal ones may be."""
    if len(node.value) > _LONGEST_NUMBER:
        raise yaml.MarkedYAMLError(problem="number too long", problem_mark=node.start_mark)
    return loader.construct_yaml_int(node)


UniqueKeyLoader.add_constructor("tag:yaml.org,2002:int", _construct_int)


# Words of the parser, which are fixed, and what they mean to whoever wrote the file. It also quotes the text,
# which may hold a secret, so nothing of the parser's own message is repeated.
_CAUSES = (
    ("mapping values are not allowed", "a value that holds a colon must be in quotes"),
    ("character '\\t'", "indent with spaces, not tabs"),
    ("cannot start any token", "a value that begins with a special character must be in quotes"),
    ("expected ',' or", "a bracket or brace is not closed, or a comma is missing"),
    ("unexpected end of stream", "a quote is not closed"),
    ("expected <block end>", "the indentation does not match the lines above"),
    ("could not find expected ':'", "a key without a colon"),
    ("unhashable key", "a mapping or a list as a key; a value that begins with { or [ must be in quotes"),
    ("undefined alias", "an alias (*) without its anchor; a value that begins with * must be in quotes"),
    ("unknown escape character", "an unknown escape (\\) in double quotes; use single quotes"),
    ("constructor for the tag", "a tag (!) that is not known; a value that begins with ! must be in quotes"),
    ("number too long", "a number is too long"),
    ("found another document", "more than one document (---)"),
)


def read_yaml(file: Path) -> tuple[Any, yaml.Node | None]:
    """Return what a small YAML file holds, and the node of it. Raise NotYaml."""
    try:
        text = read_once(file, _LARGEST).decode("utf-8")
    except Unreadable as error:
        raise NotYaml(f"cannot be read: {error}") from None
    except ValueError:
        raise NotYaml("cannot be read: not a UTF-8 text file") from None
    return parse_yaml(text)


def parse_yaml(text: str, loader: type[UniqueKeyLoader] = UniqueKeyLoader) -> tuple[Any, yaml.Node | None]:
    """Return what a text holds, and the node of it. Raise NotYaml."""
    try:
        loading = loader(text)
        root = loading.get_single_node()
        return loading.construct_document(root) if root else None, root
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        if isinstance(error, _DuplicateKey):
            raise NotYaml("the key is given twice", line) from None
        why = next((f": {words}" for sign, words in _CAUSES if sign in (error.problem or "")), "")
        raise NotYaml(f"is not valid YAML{why}", line) from None
    except (
        yaml.YAMLError,
        ValueError,
        TypeError,
        ArithmeticError,
        LookupError,
        AttributeError,
        RecursionError,
    ):
        # Besides its own errors the parser lets those of values it cannot build pass.
        raise NotYaml("is not valid YAML") from None


def located(file: Path | str, line: int | None, said: str) -> str:
    """Return what is said of a line of a file, or of all of it."""
    return f"{file}: {said}" if line is None else f"{file}: line {line}: {said}"


def line_of(node: yaml.Node | None, path: Iterable[Hashable]) -> int | None:
    """Return the line of a value by its keys and indices; of what holds it when it is not found."""
    line = None
    for step in path:
        found = _child(node, step)
        if found is None:
            break
        line, node = found
    return line


def _child(node: yaml.Node | None, step: Hashable) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in reversed(node.value):  # what overrides a merged key comes after it
            if key.value == str(step):
                return key.start_mark.line + 1, value
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step].start_mark.line + 1, node.value[step]
    return None
