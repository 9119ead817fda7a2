"""The Prometheus rules that match this version, rendered for an installation.

The templates and `defaults.yml` beside this file are written by `make rules`; the Helm chart renders the same
three: the alerts and, apart from them, recording rules, of which only the selector can be set. A template
names a threshold as `@name@` and the matchers of the installation as `@selector@`, and offers each link:
once as text, once as a URL for where bases are given.
"""

import itertools
import re
from collections.abc import Collection, Iterable, Mapping
from importlib.resources import files
from typing import Any

import yaml

_KINDS: Mapping[type, str] = {str: "text", list: "a list", dict: "a mapping"}
_LABEL_NAME = re.compile("(?!__name__$)[a-zA-Z_][a-zA-Z0-9_]*")
_LINKS = {"runbook": "runbooksUrl", "dashboard": "grafanaUrl"}


class RulesError(ValueError):
    """A value for the rules that cannot be used; the message is for the user."""


def defaults() -> dict[str, Any]:
    """Return every value that can be set, with its default."""
    values: dict[str, Any] = yaml.safe_load(_read("defaults.yml"))
    return values


def render(values: Mapping[str, Any] | None = None) -> str:
    """Return the rules file as YAML; `values` override `defaults()`. Raise RulesError."""
    return yaml.dump(rules(values), Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True)


def render_recording(values: Mapping[str, Any] | None = None) -> str:
    """Return the recording rules as YAML; of `values` only the selector matters to them. Raise RulesError."""
    return _selecting(_read("recording.template.yml"), _merged(defaults(), values or {})["selector"])


def rules(values: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the content of the rules file; `values` override `defaults()`. Raise RulesError."""
    chosen = _merged(defaults(), values or {})
    content: dict[str, Any] = _filled(yaml.safe_load(_read("rules.template.yml")), chosen)
    for group in content["groups"]:
        group["rules"] = [
            _rule(rule, chosen) for rule in group["rules"] if rule["alert"] not in chosen["disabled"]
        ]
    content["groups"] = [group for group in content["groups"] if group["rules"]]
    return content


def _merged(known: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in values.items():
        if name not in known:
            raise RulesError(f"unknown value {name}; known are: {', '.join(known)}")
        kind = type(known[name])
        if not isinstance(value, kind | None):
            raise RulesError(f"{name} must be {_KINDS[kind]}")
        if name in ("thresholds", "severities"):
            if unknown := set(value or {}) - set(known[name]):
                raise RulesError(f"unknown name in {name}: {', '.join(sorted(map(str, unknown)))}")
            known[name] |= value or {}
        else:
            known[name] = value or kind()
    _check(known)
    return known | {name: known[name].rstrip("/") for name in ("url", *_LINKS.values())}


def _check(values: Mapping[str, Any]) -> None:
    if "`" in values["selector"]:  # in which the alerts' own templates quote it
        raise RulesError("selector must not have a backtick; use other quotes")
    for name in ("selector", "url", "runbooksUrl", "grafanaUrl"):
        if not values[name].isprintable():
            raise RulesError(f"{name} must be one line (no newline at its end), without invisible characters")
    for name in ("disabled", "labels", "severities"):
        if not all(isinstance(text, str) for text in _texts(values[name])):
            raise RulesError(f"everything in {name} must be text")
    if wrong := [name for name in values["labels"] if not _LABEL_NAME.fullmatch(name)]:
        raise RulesError(f"not a label name in labels: {wrong[0]!r}")
    if unknown := set(values["disabled"]) - set(values["severities"]):
        raise RulesError(f"unknown alert in disabled: {', '.join(sorted(unknown))}")
    for name, number in values["thresholds"].items():
        if type(number) is not int or number <= 0:
            raise RulesError(f"threshold {name} must be a whole number above 0, not {number!r}")


def _texts(value: Collection[object]) -> Iterable[object]:
    return itertools.chain(value, value.values()) if isinstance(value, dict) else value


def _filled(template: Any, values: Mapping[str, Any]) -> Any:
    """Return a template in which each text is filled; only then can no value end the text that it is in."""
    if isinstance(template, dict):
        return {name: _filled(part, values) for name, part in template.items()}
    if isinstance(template, list):
        return [_filled(part, values) for part in template]
    return _filled_text(template, values) if isinstance(template, str) else template


def _filled_text(text: str, values: Mapping[str, Any]) -> str:
    text = _selecting(text, values["selector"])
    for name, number in values["thresholds"].items():
        text = text.replace(f"@{name}@", str(number))
    url = values["url"]
    bases = {"runbooksUrl": url and f"{url}/runbooks", "grafanaUrl": url}
    for name, base in bases.items():
        text = text.replace(f"@{name}@", values[name] or base)
    return text


def _selecting(template: str, selector: str) -> str:
    if not selector:
        template = template.replace("{@selector@}", "").replace(", @selector@}", "}")
    return template.replace("@selector@", selector)


def _rule(rule: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    rule["expr"] = _Block(rule["expr"])
    rule["labels"] = {"severity": values["severities"][rule["alert"]], **values["labels"]}
    for link, base in _LINKS.items():
        del rule["annotations"][link if values["url"] or values[base] else f"{link}_url"]
    return rule


def _read(name: str) -> str:
    return (files(__name__) / name).read_text(encoding="utf-8")


class _Block(str):
    """Text that YAML shows line by line."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    """Writes lists indented below their key, as people do, and blocks as blocks."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        """Indent every list."""
        super().increase_indent(flow, indentless=False)

    def block(self, text: _Block) -> yaml.ScalarNode:
        """Show a text line by line."""
        return self.represent_scalar("tag:yaml.org,2002:str", text, style="|")


_Dumper.add_representer(_Block, _Dumper.block)
