"""Write the files of the deployments that are derived from others; a test holds every file to it.

`make manifests` and `make rules` run it. It writes
- the alerts with the index of their runbooks, and the recording rules, from the tables in `prometheus`;
- the options of `exporter.settings` and the types of values.yaml as the chart's schema;
- the table of values in the chart's page, from the comments in values.yaml;
- alerts, recording rules and dashboards as files of the chart and of the kustomize components: each folder
  works by itself;
- the systemd unit as a template unit;
- the exporter's version where deployments and pages name it.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import indent
from typing import Any

import yaml

from deploy import versions
from deploy.prometheus import recording, rules
from exporter import __version__
from exporter.settings import Option, options

DEPLOY = Path(__file__).parent
CHART = DEPLOY / "helm/cohere-finetune-exporter"
README = DEPLOY / "helm/README.md"
RULES = rules.RULES
DASHBOARDS = DEPLOY.parent / "grafana/dashboards"
UNIT = DEPLOY / "systemd/cohere-finetune-exporter.service"

# The chart sets these itself: ports, probes and volumes depend on them.
CHART_SETS = {
    "config.file",
    "cohere.budget-file",
    "web.listen-address",
    "web.probe-address",
    "web.config.file",
}
PROBE_PATHS = ["/-/healthy", "/-/ready"]

# Go, by which the chart judges, and Python, which the exporter asks, agree on which regular expressions are
# well formed except where this matches; there the chart leaves the judgement to the exporter.
UNJUDGED = "|".join(
    (
        r"\(\?",  # groups with an extension, flags, lookarounds
        r"(\([^(]*){100}",  # nesting deeper than one of them goes
        r"\{",  # counts: limits, and {,n}
        r"[*+?]\+",  # possessive in Python
        r"[\^$][*+?]",  # a repeated anchor
        r"\[:",  # POSIX classes
        r"\\[dDsSwW]-",  # a range from a class
        r"\\[^ -~]|\\[ABCE-RT-VX-Za-ceg-mo-qux-z0-9]",  # escapes that only one of them knows
    )
)

_TABLE = re.compile(r"(?<=<!-- values -->\n).*(?=<!-- /values -->)", re.DOTALL)
_KEY = re.compile(r"( *)([\w-]+):")
_SPACE = r"[\t\n\r ]*"
_UNITS = ("y", "w", "d", "h", "m", "s", "ms")
_DURATION = "|".join((r"[0-9]+(\.[0-9]*)?", r"\.[0-9]+", "".join(f"([0-9]+{unit})?" for unit in _UNITS)))
_PORT = "0*([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_HOST = r"([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\.?|\[[0-9A-Fa-f:.]+\])"
# What text an option accepts, by the word for its value; the exporter itself judges the rest.
_PATTERNS = {
    "DURATION": f"({_DURATION})",
    "NUMBER": r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?",
    "TEXT": "[!-~]([ -~]*[!-~])?",
    "FILE": r".*[^\t\n\r ].*",
    "URL": rf"[Hh][Tt][Tt][Pp][Ss]?://{_HOST}(:({_PORT})?)?(/[^\s?#\\]*)?",
    "PATH": r"/[^\s?#%]*",
}
_INTEGER = "[+-]?[0-9]{1,18}"
_NUMERIC = {"DURATION", "NUMBER"}
_LONGEST = 2**63 / 1e9  # seconds, as Prometheus counts them

_STRINGS: dict[str, Any] = {"type": "object", "additionalProperties": {"type": "string"}}
_NAME = {"type": "string", "pattern": "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$", "maxLength": 253}
_SECRET_KEY = {"type": "string", "pattern": "^[-._a-zA-Z0-9]+$"}
_PORT_NUMBER = {"type": "integer", "minimum": 1, "maximum": 65535}
_PULL_SECRETS = {"type": "array", "items": {"type": ["string", "object"]}}
_PROMETHEUS_DURATION = {"type": "string", "pattern": "^([0-9]+(ms|[smhdwy]))*$"}
_URL = {"type": "string", "pattern": "^(https?://.+)?$"}
# What the default of a value does not say about its type.
_TYPES: dict[str, Mapping[str, Any]] = {
    "global.imagePullSecrets": _PULL_SECRETS,
    "replicaCount": {"type": "integer", "minimum": 0, "maximum": 1},
    "image.repository": {"type": "string"},
    "image.tag": {"type": "string", "pattern": "^([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?$"},
    "image.digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
    "image.pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "imagePullSecrets": _PULL_SECRETS,
    "apiKey.existingSecret": _NAME,
    "apiKey.secretKey": _SECRET_KEY,
    "web.tlsSecret": _NAME,
    "web.existingSecret": _NAME,
    "web.secretKey": _SECRET_KEY,
    "persistence.existingClaim": _NAME,
    "persistence.size": {"type": "string", "pattern": "^[0-9.]+([KMGTPE]i?)?$"},
    "service.type": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    "service.port": _PORT_NUMBER,
    "service.nodePort": {**_PORT_NUMBER, "type": ["integer", "null"]},
    "serviceAccount.name": _NAME,
    "serviceMonitor.namespace": _NAME,
    "serviceMonitor.interval": _PROMETHEUS_DURATION,
    "serviceMonitor.scrapeTimeout": _PROMETHEUS_DURATION,
    "serviceMonitor.steps.interval": {"type": "string", "pattern": "^([0-9]+(ms|[smhdwy]))+$"},
    "serviceMonitor.scheme": {"enum": ["", "http", "https"]},
    "prometheusRule.namespace": _NAME,
    "prometheusRule.scope": {"enum": ["cluster", "namespace"]},
    "prometheusRule.url": _URL,
    "prometheusRule.runbooksUrl": _URL,
    "prometheusRule.grafanaUrl": _URL,
    "prometheusRule.selector": {"type": "string", "pattern": "^[^\\x00-\\x1f\\x7f-\\x9f`]*$"},
    "prometheusRule.ruleLabels": {
        **_STRINGS,
        "propertyNames": {"pattern": "^[a-zA-Z_][a-zA-Z0-9_]*$", "not": {"enum": ["__name__"]}},
    },
    "prometheusRule.disabled": {"type": "array", "items": {"type": "string"}},
    "prometheusRule.severities": _STRINGS,
    "prometheusRule.thresholds": {
        "type": "object",
        "additionalProperties": {"type": "integer", "minimum": 1},
    },
    "dashboards.namespace": _NAME,
    "networkPolicy.ingress": {"type": ["array", "object"]},
    "networkPolicy.egress": {"type": ["array", "object"]},
    "extraArgs": {"type": "array", "items": {"type": "string", "minLength": 1}},
    "extraEnv": {"type": "array", "items": {"type": "object", "required": ["name"]}},
    "extraManifests": {"type": "array", "items": {"type": ["string", "object"]}},
}
# Taken whole: their fields are those of Kubernetes.
_WHOLE = {
    *("strategy", "resources", "podSecurityContext", "securityContext"),
    *("livenessProbe", "readinessProbe", "startupProbe"),
}
# Values of charts before this one, which NOTES.txt tells the user to rename.
RENAMED: dict[str, Mapping[str, Any]] = {
    "image.pullSecrets": {"type": "array", "items": {"type": "string"}},
    "apiKey.value": {"type": "string"},
    "web.scheme": {"enum": ["http", "https"]},
    "web.probes": {"enum": ["http", "tcp"]},
    "serviceMonitor.labels": _STRINGS,
    "prometheusRule.labels": _STRINGS,
    "prometheusRule.runbooks": {"type": "string"},
    "prometheusRule.grafana": {"type": "string"},
}


def files() -> Iterator[tuple[Path, str]]:
    """Return every generated file with its content."""
    yield from rules.files()
    yield from recording.files()
    yield CHART / "values.schema.json", schema()
    yield CHART / "files/options.json", _json(dict(_bounds()))
    yield README, readme()
    for file, name in (
        (rules.TEMPLATE, "template"),
        (rules.DEFAULTS, "defaults"),
        (recording.TEMPLATE, "recording"),
    ):
        yield CHART / f"files/rules.{name}.yml", file.read_text(encoding="utf-8")
    components = DEPLOY / "kubernetes/components"
    yield components / "rules/prometheusrule.yaml", prometheus_rule("cohere-finetuning", RULES)
    described = prometheus_rule("cohere-finetuning-recording", recording.FILE)
    yield components / "recording-rules/prometheusrule.yaml", described
    for file in sorted(DASHBOARDS.glob("*.json")):
        # On one line: nobody reads the copies, and kubectl keeps 256 KiB of an object at most.
        content = json.dumps(json.loads(file.read_text(encoding="utf-8")), separators=(",", ":")) + "\n"
        yield CHART / "files/dashboards" / file.name, content
        yield DEPLOY / "kubernetes/components/dashboards" / file.name, content
    yield UNIT.with_name(f"{UNIT.stem}@.service"), template_unit(UNIT.read_text(encoding="utf-8"))
    yield from versions.files(__version__)


def schema() -> str:
    """Return values.schema.json."""
    content = _declared(_values())
    content["properties"]["config"] = _object(
        {
            group: _object({key.partition(".")[2]: _option_schema(option) for key, option in members.items()})
            for group, members in _by_group().items()
        }
    )
    content["properties"]["config"]["type"] = ["object", "null"]
    content["properties"]["global"]["additionalProperties"] = True  # whatever a parent chart has there
    for path, declared in RENAMED.items():
        group, _, name = path.partition(".")
        content["properties"][group]["properties"][name] = declared
    return _json({"$schema": "http://json-schema.org/draft-07/schema#", **content})


def readme() -> str:
    """Return the chart's page, with the table of values as they are now."""
    rows = [f"| `{path}` | `{default}` | {meaning} |\n" for path, default, meaning in table()]
    head = "| value | default | meaning |\n| --- | --- | --- |\n"
    return _TABLE.sub(lambda _: "".join([head, *rows]), README.read_text(encoding="utf-8"))


def table() -> Iterator[tuple[str, str, str]]:
    """Return path, default and meaning of each value, in the order of values.yaml."""
    meanings = _comments((CHART / "values.yaml").read_text(encoding="utf-8"))
    for path, default in _leaves(_values(), _declared(_values())):
        yield path, json.dumps(default), meanings.get(path, "")


def prometheus_rule(name: str, file: Path) -> str:
    """Return the PrometheusRule of a name with the groups of a rules file."""
    text = file.read_text(encoding="utf-8")
    head = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {
            "name": name,
            "labels": {
                "app.kubernetes.io/name": "cohere-finetune-exporter",
                "app.kubernetes.io/part-of": "cohere-finetuning",
            },
        },
    }
    groups = indent(text[text.index("groups:\n") :], "  ")
    comment = f"# Written by `make manifests` from {file.name}; do not edit.\n"
    return f"{comment}{yaml.safe_dump(head)}spec:\n{groups}"


def template_unit(unit: str) -> str:
    """Return the unit as a template whose instances each have a folder for configuration and key."""
    body = unit[unit.index("[Unit]") :]
    body = body.replace("for Cohere fine-tuning\n", "for Cohere fine-tuning (%i)\n")
    body = body.replace("/etc/cohere-finetune-exporter/", "/etc/cohere-finetune-exporter/%i/")
    body = body.replace(
        "StateDirectory=cohere-finetune-exporter", "StateDirectory=cohere-finetune-exporter-%i"
    )
    body = body.replace("%S/cohere-finetune-exporter/", "%S/cohere-finetune-exporter-%i/")
    return (
        f"# Written by `make manifests` from {UNIT.name}; do not edit. One instance for each account.\n{body}"
    )


def _values() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    return values


def _declared(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    return _object({name: _value_schema(f"{prefix}{name}", value) for name, value in values.items()})


def _value_schema(path: str, default: Any) -> dict[str, Any]:
    if path in _TYPES:
        return dict(_TYPES[path])
    if isinstance(default, dict):
        if path.lower().endswith(("labels", "annotations", "nodeselector")):
            return _STRINGS
        return {"type": "object"} if not default or path in _WHOLE else _declared(default, f"{path}.")
    types = {bool: "boolean", int: "integer", str: "string", list: "array"}
    return {"type": types[type(default)]}


def _by_group() -> dict[str, dict[str, Option]]:
    groups: dict[str, dict[str, Option]] = {}
    for option in options():
        if option.key not in CHART_SETS:
            groups.setdefault(option.group, {})[option.key] = option
    return groups


def _option_schema(option: Option) -> dict[str, Any]:
    if "|" in option.metavar:
        return {"enum": [*option.metavar.split("|"), None]}
    if not option.metavar:
        return {"type": ["boolean", "null"]}
    is_integer = option.metavar == "NUMBER" and option.declared.annotation is not float
    number = ["integer" if is_integer else "number"] if option.metavar in _NUMERIC else []
    declared: dict[str, Any] = {"type": [*number, "string", "null"]}
    if pattern := _INTEGER if is_integer else _PATTERNS.get(option.metavar):
        declared["pattern"] = f"^{_SPACE}{pattern}{_SPACE}$"
    names = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum"}
    declared |= {names[bound]: limit for bound, limit in option.bounds.items()}
    if option.metavar == "PATH":
        declared["not"] = {"enum": PROBE_PATHS}
    return declared


def _bounds() -> Iterator[tuple[str, dict[str, Any]]]:
    """Return what the chart's templates check, by key: bounds of texts, and regular expressions."""
    for members in _by_group().values():
        for key, option in members.items():
            if option.metavar in _NUMERIC:
                longest = {"le": _LONGEST} if option.metavar == "DURATION" else {}
                yield key, {"type": option.metavar, **longest, **option.bounds}
            elif option.metavar == "REGEX":
                yield key, {"type": option.metavar, "unjudged": UNJUDGED}


def _leaves(
    values: Mapping[str, Any], declared: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Return path and default of each value; what the schema leaves open, and `config`, is one value."""
    for name, value in values.items():
        path = f"{prefix}{name}"
        below = declared["properties"][name]
        if "properties" in below and path != "config":
            yield from _leaves(value, below, f"{path}.")
        else:
            yield path, value


def _comments(text: str) -> dict[str, str]:
    """Return the comment above each key of a YAML text, by the path of the key."""
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


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": dict(properties)}


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"


def main() -> None:
    """Write every file."""
    for path, content in files():
        path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
