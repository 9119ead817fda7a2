"""The Helm chart: linted and rendered over a matrix of values, and held to what it is made from.

The matrix is the chart's folder `ci`; every value is changed in one of its cases at least. Where chart and
kustomization mean the same they must render the same; UNEQUAL and DEFAULTS are all they may differ in. Where
`tools/programs/build.sh helm` has built a current Helm, both render.
"""

import json
import re
import shlex
import shutil
import subprocess
import tarfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from deploy import generate
from deploy.generate import CHART, DASHBOARDS, RENAMED, RULES
from deploy.prometheus.recording import FILE as RECORDING
from exporter import __version__
from exporter.cohere.proxies import address_of, proxy_for
from exporter.rules import defaults, render_recording, rules
from exporter.settings import Settings, SettingsError, load, options
from tests.editions import CURRENT
from tests.manifests import (
    NEWEST,
    OLDEST,
    Manifest,
    custom_resource_errors,
    named,
    of_kind,
    parsed,
    pod_of,
    schema_errors,
    settings_of,
    the,
    volume_at,
    with_components,
)
from tests.pod_security import pod_security_violations
from tests.programs import KEY, ROOT, program

pytestmark = pytest.mark.slow

NAME = "cohere-finetune-exporter"
ALERTS, RECORDED = "cohere-finetuning", "cohere-finetuning-recording"  # PrometheusRules
IMAGE = "registry.example.com/cohere-finetune-exporter"
NEWER_HELM = CURRENT / "helm"
HELMS = ["helm", *([str(NEWER_HELM)] if NEWER_HELM.exists() else [])]
CASES: dict[str, dict[str, Any]] = {
    file.name.removesuffix("-values.yaml"): yaml.safe_load(file.read_text(encoding="utf-8"))
    for file in sorted(CHART.glob("ci/*-values.yaml"))
}
EXPORTERS = {name: values for name, values in CASES.items() if name != "once-per-cluster"}
EVERYTHING = CASES["everything"]
LEAST = CASES["own-secret"]
PROBES = ("livenessProbe", "readinessProbe", "startupProbe")

# What another value of `everything` takes the place of is tried by itself.
ALONE: dict[str, Any] = {
    "prometheusRule.scope": "namespace",
    "image.registry": "registry.example.com",
    "image.repository": "other",
    "image.tag": "0.2.0",
    "apiKey.existingSecret": "other",
    "demo.enabled": True,
    "exporter.enabled": False,
    "networkPolicy.egress": [{"ports": [{"port": 443}]}],
    "persistence.existingClaim": "mine",
    "persistence.fsGroup": 1000,
    "serviceAccount.create": False,
    "releaseLabel": True,
    "serviceMonitor.enabled": True,
    "serviceMonitor.steps.enabled": False,
    "podMonitor.enabled": True,
    "prometheusRule.enabled": True,
    "prometheusRule.recording": False,
    "prometheusRule.url": "https://ops.example.com",
    "dashboards.enabled": True,
}
BESIDE = {
    "prometheusRule.scope": "prometheusRule.enabled",
    "networkPolicy.egress": "networkPolicy.enabled",
    "releaseLabel": "serviceMonitor.enabled",
    "serviceMonitor.steps.enabled": "serviceMonitor.enabled",
    "persistence.existingClaim": "persistence.enabled",
    "persistence.fsGroup": "persistence.enabled",
    "prometheusRule.recording": "prometheusRule.enabled",
    "prometheusRule.url": "prometheusRule.enabled",
}
WITHOUT_EFFECT = {"enabled"}  # a parent chart's

# Between kustomization and chart: who made it and for which release, and texts that are compared as settings.
UNEQUAL = {
    "helm.sh/chart",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/instance",
    "checksum/config",  # kustomize puts a hash into the ConfigMap's name instead
    "config.yml",
    "namespace",
    "namespaceSelector",  # of the ServiceMonitor, which the chart may put into another namespace
    "image",  # a kustomization names the image elsewhere
    "items",  # which keys of the ConfigMap are files: the chart's may hold another
    "revisionHistoryLimit",
    *("app.kubernetes.io/component", "app.kubernetes.io/version"),  # on the base's objects only
}
# Written out by the chart only.
DEFAULTS = {("type", "ClusterIP"), ("scheme", "http"), ("prometheus.io/scheme", "http")}

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"image": {"tga": "1"}}, "tga"),
    ({"image": {"tag": 1.1}}, "image.tag"),
    ({"image": {"digest": "sha256:beef"}}, "image.digest"),
    ({"image": {"repository": ""}}, "image.repository is required"),
    ({"replicaCount": 2}, "replicaCount"),
    ({"service": {"port": 70000}}, "service.port"),
    ({"serviceMonitor": {"scheme": "HTTPS"}}, "serviceMonitor.scheme"),
    ({"serviceMonitor": {"enabled": True, "interval": "10s", "scrapeTimeout": "1m"}}, "at most the interval"),
    ({"podLabels": {"zone": 1}}, "podLabels.zone"),
    ({"prometheusRule": {"selector": "team=`ml`"}}, "prometheusRule.selector"),
    ({"prometheusRule": {"selector": 'team="\x01"'}}, "prometheusRule.selector"),
    ({"prometheusRule": {"ruleLabels": {"a-b": "ml"}}}, "prometheusRule.ruleLabels"),
    ({"config": {"poll": {"intervall": "60s"}}}, "intervall"),
    ({"config": {"poll": {"interval": "0s"}}}, "config.poll.interval: must be at least 1"),
    ({"config": {"poll": {"interval": "5m", "stale-after": "6m"}}}, "stale-after: must be at least"),
    ({"config": {"log": {"level": "loud"}}}, "config.log.level"),
    ({"config": {"cohere": {"api-key": KEY}}}, "api-key"),
    ({"config": {"cohere": {"base-url": "nonsense"}}}, "config.cohere.base-url"),
    ({"config": {"cohere": {"concurrency": 0}}}, "config.cohere.concurrency"),
    ({"config": {"metrics": {"exclude": "["}}}, "missing closing ]"),
    ({"config": {"web": {"listen-address": ":80"}}}, "listen-address"),
    ({"apiKey": {"existingSecret": ""}}, "set apiKey.existingSecret"),
    (
        {"extraEnv": [{"name": "COHERE_API_KEY", "value": KEY}]},
        "more than once (apiKey.existingSecret, extraEnv COHERE_API_KEY)",
    ),
    (
        {"extraArgs": ["--cohere.api-key-file=/key"]},
        "more than once (apiKey.existingSecret, extraArgs --cohere.api-key-file)",
    ),
    ({"apiKey": {"existingSecret": "", "value": KEY}}, "create a Secret and set apiKey.existingSecret"),
    ({"networkPolicy": {"egress": {"ports": [443]}}}, "networkPolicy.egress is a list of rules now"),
    ({"networkPolicy": {"ingress": {"namespaces": ["a"]}}}, "networkPolicy.ingress is a list of rules now"),
]  # fmt: skip

NOTES: list[tuple[dict[str, Any], str]] = [
    (LEAST, "must be in this namespace"),
    (LEAST, "Prometheus does not know the exporter yet"),
    (CASES["demo"], "all data is simulated"),
    (CASES["little"], "PAUSED"),
    (CASES["once-per-cluster"], "for every exporter in this cluster"),
    (CASES["tls"], "https://localhost:10220/"),
]
OLD_VALUES = {
    "image": {"repository": IMAGE, "pullSecrets": ["registry"]},
    "apiKey": {"existingSecret": "keys"},
    "web": {"existingSecret": "web", "scheme": "https", "probes": "tcp"},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {
        "enabled": True,
        "labels": {"release": "prometheus"},
        "runbooks": "https://wiki.example.com/runbooks",
        "grafana": "https://grafana.example.com",
    },
}
REFUSED_OLD_VALUES = {"apiKey.value"}

case = pytest.mark.parametrize("values", CASES.values(), ids=CASES)
exporter_case = pytest.mark.parametrize("values", EXPORTERS.values(), ids=EXPORTERS)


def helm(
    *arguments: str, values: Mapping[str, Any], version: str = "helm"
) -> subprocess.CompletedProcess[str]:
    """Run Helm with values on its standard input."""
    return subprocess.run(
        [program(version), *arguments, "--values=-"],
        input=json.dumps(values),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def template(
    values: Mapping[str, Any], chart: Path = CHART, arguments: Sequence[str] = (), version: str = "helm"
) -> subprocess.CompletedProcess[str]:
    """Render the chart as a release of its own name, which then is the name of its objects."""
    options = (NAME, str(chart), f"--kube-version={NEWEST}", *arguments)
    return helm("template", *options, values=values, version=version)


def text_of(
    values: Mapping[str, Any], chart: Path = CHART, arguments: Sequence[str] = (), version: str = "helm"
) -> str:
    """Return the text that the chart becomes."""
    return _text(json.dumps(values), chart, tuple(arguments), version)


@cache
def _text(values: str, chart: Path, arguments: Sequence[str], version: str) -> str:
    done = template(json.loads(values), chart, arguments, version)
    assert done.returncode == 0, done.stderr
    return done.stdout


def render(values: Mapping[str, Any]) -> tuple[Manifest, ...]:
    """Return the manifests that the chart becomes."""
    return parsed(text_of(values))


def container_of(manifests: Sequence[Manifest]) -> Manifest:
    """Return the exporter's container."""
    return next(one for one in pod_of(manifests)["containers"] if one["name"] == "exporter")


def read_settings(manifests: Sequence[Manifest], folder: Path) -> Settings:
    """Read the settings as the container would."""
    return settings_of(manifests, folder)[1]


def changed(values: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return the values with another one at `path`; None takes it away."""
    copy = deepcopy(dict(values))
    *parents, last = path.split(".")
    group = copy
    for parent in parents:
        group = group.setdefault(parent, {})
    group[last] = value
    if value is None:
        del group[last]
    return copy


def meaning(value: Any) -> Any:
    """Return a manifest, or a part of one, without what may differ between kustomization and chart."""
    if isinstance(value, dict):
        pairs = {name: meaning(member) for name, member in value.items() if name not in UNEQUAL}
        return {
            name: member
            for name, member in pairs.items()
            if member != {} and not (isinstance(member, str) and (name, member) in DEFAULTS)
        }
    if isinstance(value, list):
        members = [meaning(member) for member in value]
        named = all(isinstance(member, dict) and "name" in member for member in members)
        return sorted(members, key=lambda member: str(member["name"])) if named else members
    return re.sub(rf"^({NAME})-[a-z0-9]{{10}}$", r"\1", value) if isinstance(value, str) else value


def by_kind(manifests: Sequence[Manifest]) -> dict[str, list[Any]]:
    """Return the meaning of the manifests by kind."""
    kinds = sorted({manifest["kind"] for manifest in manifests})
    return {kind: [meaning(manifest) for manifest in of_kind(manifests, kind)] for kind in kinds}


# The chart and what it is made from


def test_the_chart_is_of_the_exporters_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))

    assert chart["appVersion"] == __version__
    assert chart["kubeVersion"] == f">={OLDEST}.0-0"
    assert container_of(render(LEAST))["image"] == f"{IMAGE}:{__version__}"


@pytest.mark.parametrize(
    ("file", "content"),
    list(generate.files()),
    ids=lambda value: value.name if isinstance(value, Path) else "",
)
def test_a_generated_file_is_as_generated(file: Path, content: str) -> None:
    assert file.read_text(encoding="utf-8") == content, "run make manifests"
    assert not file.is_symlink()


def test_the_readme_shows_values_that_work() -> None:
    readme = generate.README.read_text(encoding="utf-8")
    settable = re.findall(r"--set ([^\s`]+)", readme)
    examples = [
        text for text in re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL) if "_config:" not in text
    ]

    assert settable
    assert template(LEAST, arguments=[f"--set={given}" for given in settable]).returncode == 0
    assert examples
    for text in examples:
        assert render({**LEAST, **yaml.safe_load(text)})


def test_values_and_schema_name_the_same_and_each_has_a_meaning() -> None:
    declared = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    declared["properties"]["global"]["additionalProperties"] = False  # a parent chart has more there
    for path in RENAMED:
        group, name = path.split(".")
        del declared["properties"][group]["properties"][name]

    assert sorted(path for path, _, _ in generate.table()) == sorted(declared_paths(declared))
    assert [path for path, _, meaning in generate.table() if not meaning.endswith(".")] == []


def declared_paths(declared: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield every value that the schema knows; each group must refuse what it does not know."""
    assert declared["additionalProperties"] is False, prefix
    for name, below in declared["properties"].items():
        if "properties" in below and name != "config":
            yield from declared_paths(below, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


AS_KUSTOMIZED = {
    "none": LEAST,
    "annotations": CASES["annotations"],
    "demo": CASES["demo"],
    "quota": {**LEAST, "persistence": {"enabled": True}},
    "network-policy": {**LEAST, "networkPolicy": {"enabled": True}},
}


@pytest.fixture(scope="module")
def kustomizations(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, tuple[Manifest, ...]]:
    """Return what the base becomes, by the component that it has."""
    components = {name: [name] for name in (*AS_KUSTOMIZED, "operator")} | {"none": []}
    return with_components(tmp_path_factory.mktemp("kustomizations"), components)


@pytest.mark.parametrize("component", AS_KUSTOMIZED)
def test_the_chart_renders_what_the_kustomization_does(
    component: str, kustomizations: Mapping[str, tuple[Manifest, ...]], tmp_path: Path
) -> None:
    theirs = kustomizations[component]
    ours = render(AS_KUSTOMIZED[component])

    assert by_kind(ours) == by_kind(theirs)
    assert read_settings(ours, tmp_path).model_dump() == read_settings(theirs, tmp_path).model_dump()


def test_the_chart_monitors_as_the_kustomization_does(
    kustomizations: Mapping[str, tuple[Manifest, ...]],
) -> None:
    theirs, ours = kustomizations["operator"], render(CASES["monitoring"])

    assert meaning(the("ServiceMonitor", ours)["spec"]) == meaning(the("ServiceMonitor", theirs)["spec"])


def dashboards(manifests: Sequence[Manifest]) -> dict[str, str]:
    """Return the text of each dashboard by its file's name, from ConfigMaps that the sidecar finds."""
    found: dict[str, str] = {}
    for manifest in of_kind(manifests, "ConfigMap"):
        if manifest["metadata"]["labels"].get("grafana_dashboard") == "1":
            found |= {name: text.strip() for name, text in manifest["data"].items()}
    return found


def test_rules_and_dashboards_are_the_one_copy() -> None:
    manifests = render(CASES["monitoring"])
    files = {file.name: json.loads(file.read_text(encoding="utf-8")) for file in DASHBOARDS.glob("*.json")}

    for name, file in ((ALERTS, RULES), (RECORDED, RECORDING)):
        assert named(name, manifests)["spec"] == yaml.safe_load(file.read_text(encoding="utf-8"))
    assert {name: json.loads(text) for name, text in dashboards(manifests).items()} == files
    assert all(name.startswith("cohere-finetuning-") for name in files), "the sidecar has one folder for all"


def test_links_of_the_alerts_get_their_bases() -> None:
    (values,) = yaml.safe_load_all((CHART / "ci/everything-values.yaml").read_text(encoding="utf-8"))
    given = values["prometheusRule"]
    wanted = {"labels": given["ruleLabels"], **{name: given[name] for name in defaults() if name in given}}

    assert named(ALERTS, render(EVERYTHING))["spec"] == rules(wanted)


@pytest.mark.parametrize("selector", ["team='ml'", 'team=~"ml|50%"'])
def test_a_selector_may_be_in_any_quotes(selector: str) -> None:
    values = {"exporter": {"enabled": False}, "prometheusRule": {"enabled": True, "selector": selector}}
    manifests = render(values)

    assert named(ALERTS, manifests)["spec"] == rules({"selector": selector})
    assert named(RECORDED, manifests)["spec"] == yaml.safe_load(render_recording({"selector": selector}))


@pytest.mark.parametrize("name", ["url", "runbooksUrl", "grafanaUrl"])
def test_a_link_of_the_alerts_may_have_any_character_and_slashes_at_its_end(name: str) -> None:
    given = {name: 'https://ops.example.com/"a"\\b//'}
    values = {"exporter": {"enabled": False}, "prometheusRule": {"enabled": True, **given}}

    assert named(ALERTS, render(values))["spec"] == rules(given)


def test_rules_that_cannot_be_rendered_are_an_error(tmp_path: Path) -> None:
    chart = shutil.copytree(CHART, tmp_path / NAME)
    (chart / "files/rules.template.yml").write_text("groups: [", encoding="utf-8")
    refused = template(CASES["monitoring"], chart)

    assert refused.returncode != 0
    assert "the rules cannot be rendered: " in refused.stderr


def test_rules_whose_values_are_null_are_the_shipped_ones() -> None:
    names = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))["prometheusRule"]
    given = {**dict.fromkeys(names), "enabled": True, "recording": True}
    manifests = render({"exporter": {"enabled": False}, "prometheusRule": given})

    assert named(ALERTS, manifests)["spec"] == rules()
    assert named(RECORDED, manifests)["spec"] == yaml.safe_load(render_recording())


def test_the_package_holds_its_files_and_renders_the_same(tmp_path: Path) -> None:
    command = [program("helm"), "package", str(CHART), f"--destination={tmp_path}"]
    subprocess.run(command, capture_output=True, check=True, timeout=60)

    (package,) = tmp_path.glob("*.tgz")
    with tarfile.open(package) as archive:
        members = archive.getmembers()
    assert all(member.isfile() for member in members)
    assert not [path for path in CHART.rglob("*") if path.is_symlink()]
    assert not [member.name for member in members if "/ci/" in member.name]
    assert text_of(CASES["monitoring"], package) == text_of(CASES["monitoring"])


def test_nothing_is_looked_up_in_the_cluster() -> None:
    """A lookup fails the installation where the operator is missing, or the right to list its objects."""
    text = "".join(file.read_text(encoding="utf-8") for file in (CHART / "templates").iterdir())
    assert not re.search(r"\blookup\b", re.sub(r"(?s){{-?\s*/\*.*?\*/\s*-?}}", "", text))
    assert {one["apiVersion"] for one in render(LEAST)} == {"v1", "apps/v1"}


# Every case


@pytest.mark.parametrize("values", [LEAST, EVERYTHING], ids=["least", "everything"])
def test_lint_has_nothing_to_warn_of(values: dict[str, Any]) -> None:
    done = helm("lint", "--strict", str(CHART), values=values)

    assert done.returncode == 0, done.stdout + done.stderr


@case
@pytest.mark.skipif(len(HELMS) == 1, reason="one Helm is installed")
def test_every_helm_renders_the_same(values: dict[str, Any]) -> None:
    def objects(version: str) -> list[Manifest]:
        manifests = parsed(text_of(values, version=version))
        return sorted(manifests, key=lambda one: (one["kind"], one["metadata"]["name"]))

    assert objects(HELMS[1]) == objects("helm")


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_knows_every_field(version: str) -> None:
    assert schema_errors([one for values in CASES.values() for one in render(values)], version) == []


def test_the_operator_knows_every_field() -> None:
    assert custom_resource_errors([one for values in CASES.values() for one in render(values)]) == []


@exporter_case
def test_the_pod_is_restricted(values: dict[str, Any]) -> None:
    assert list(pod_security_violations(pod_of(render(values)))) == []


@exporter_case
def test_names_and_labels_agree(values: dict[str, Any]) -> None:
    manifests = render(values)
    deployment, service = the("Deployment", manifests)["spec"], the("Service", manifests)
    labels = deployment["template"]["metadata"]["labels"].items()
    ports = {port["name"]: port["containerPort"] for port in container_of(manifests)["ports"]}

    assert deployment["selector"]["matchLabels"].items() <= labels
    assert "app.kubernetes.io/version" not in dict(labels), "a new version of the chart alone rolls no pod"
    assert service["spec"]["selector"].items() <= labels
    assert {entry["targetPort"] for entry in service["spec"]["ports"]} <= ports.keys()
    for policy in of_kind(manifests, "NetworkPolicy"):
        assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels
    for monitor in of_kind(manifests, "ServiceMonitor"):
        assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    for monitor in of_kind(manifests, "PodMonitor"):
        assert monitor["spec"]["selector"]["matchLabels"].items() <= dict(labels).items()
    for monitor in (*of_kind(manifests, "ServiceMonitor"), *of_kind(manifests, "PodMonitor")):
        assert monitor["spec"]["namespaceSelector"] == {"matchNames": [service["metadata"]["namespace"]]}
    for account in of_kind(manifests, "ServiceAccount"):
        assert pod_of(manifests)["serviceAccountName"] == account["metadata"]["name"]


@exporter_case
def test_the_exporter_takes_its_configuration_and_variables(values: dict[str, Any], tmp_path: Path) -> None:
    read_settings(render(values), tmp_path)


# Single values


def test_every_value_does_something(tmp_path: Path) -> None:
    """The chart before and after each value is a part of one parent chart, which Helm renders at once."""
    values = {"part-all": EVERYTHING, "part-same": EVERYTHING}
    others = {}
    for path in (path for path, _, _ in generate.table() if path not in WITHOUT_EFFECT):
        part, other = f"part-{len(values)}", "part-all"
        if path in ALONE:
            other = f"{part}-before"
            values[other] = changed(LEAST, BESIDE[path], True) if path in BESIDE else LEAST
            values[part] = changed(values[other], path, ALONE[path])
        else:
            values[part] = changed(EVERYTHING, path, None)
        others[path] = part, other

    parent = parent_chart(tmp_path, {}, values)
    for board in (parent / "charts" / NAME / "files/dashboards").iterdir():
        board.write_text("{}")  # which no value changes
    found = dict.fromkeys(values, "")
    for manifest in text_of(values, parent, version=HELMS[-1]).split("---\n# Source: parent/charts/")[1:]:
        part = manifest.partition("/")[0]
        found[part] += manifest.replace(part, "part").strip()
    assert found["part-all"] == found["part-same"]
    assert [path for path, (part, other) in others.items() if found[part] == found[other]] == []


@pytest.mark.parametrize(
    ("number", "values", "named"), [(number, *row) for number, row in enumerate(REFUSED)]
)
def test_values_that_cannot_work_are_refused_by_name(number: int, values: dict[str, Any], named: str) -> None:
    given = deepcopy(LEAST)
    for path, value in values.items():
        given[path] = (
            {**given[path], **value}
            if isinstance(given.get(path), dict) and isinstance(value, dict)
            else value
        )
    # By one Helm each, in turn: they differ in how they write a path, whatever the value is.
    done = template(given, version=HELMS[number % len(HELMS)])
    assert done.returncode != 0
    # Newer Helms write paths with /.
    assert re.search(re.escape(named).replace(r"\.", "[./]"), done.stderr)
    assert done.stdout == ""
    assert KEY not in done.stderr


def test_values_reach_the_exporter_as_they_were_given(tmp_path: Path) -> None:
    given = read_settings(render(EVERYTHING), tmp_path)

    assert given.models.limit == 2_000_000
    assert given.poll.interval == 120
    assert given.log.level == "debug"
    assert given.log.format == "json"


@pytest.mark.parametrize("name", ["vault", "key-in-variable", "gateway", "demo"])
def test_a_key_from_elsewhere_needs_no_secret(name: str) -> None:
    manifests = render(CASES[name])

    assert [volume["name"] for volume in pod_of(manifests)["volumes"]] == ["config", "state"]
    names = {one["name"] for one in container_of(manifests)["env"]}
    assert "COHERE_EXPORTER_COHERE_API_KEY_FILE" not in names


def test_the_configuration_check_waits_for_vaults_agent() -> None:
    given = CASES["vault"]
    annotations = {"vault.hashicorp.com/agent-inject": "true"}
    refused = template({**given, "podAnnotations": annotations})

    (check,) = pod_of(render(given))["initContainers"]
    assert check["name"] == "config-check"
    assert refused.returncode != 0
    assert 'vault.hashicorp.com/agent-init-first: "true"' in refused.stderr
    assert render({**given, "podAnnotations": annotations, "configCheck": {"enabled": False}})
    assert render({**LEAST, "podAnnotations": annotations, "configCheck": {"enabled": True}})


def test_a_new_configuration_rolls_the_pod_and_a_new_version_of_the_chart_does_not(tmp_path: Path) -> None:
    newer = tmp_path / NAME
    shutil.copytree(CHART, newer)
    chart = (newer / "Chart.yaml").read_text(encoding="utf-8")
    (newer / "Chart.yaml").write_text(
        chart.replace(f"\nversion: {__version__}", "\nversion: 9.9.9"), encoding="utf-8"
    )

    def pod(values: dict[str, Any], chart: Path = CHART) -> Manifest:
        return dict(the("Deployment", parsed(text_of({**LEAST, **values}, chart)))["spec"]["template"])

    assert pod({}, newer) == pod({})
    assert pod({"config": {"poll": {"interval": "2m"}}}) != pod({})


def test_no_user_is_fixed_so_that_openshift_can_assign_one() -> None:
    text = text_of(CASES["monitoring"])

    assert "runAsUser" not in text
    assert "runAsGroup" not in text
    persistent = {**LEAST, "persistence": {"enabled": True}}
    assert pod_of(render(persistent))["securityContext"]["fsGroup"] == 65532
    on_openshift = text_of(persistent, arguments=["--api-versions=security.openshift.io/v1"])
    assert "fsGroup" not in pod_of(parsed(on_openshift))["securityContext"]


@pytest.mark.parametrize(
    ("given", "group"),
    [
        ({"persistence": {"fsGroup": 0}}, None),
        ({"persistence": {"fsGroup": 1000}}, 1000),
        ({"podSecurityContext": {"fsGroup": None}}, None),
        ({"podSecurityContext": {"fsGroup": 2000}}, 2000),
    ],
)
def test_the_group_of_the_claim_is_the_users(given: dict[str, Any], group: int | None) -> None:
    values = {**LEAST, **given, "persistence": {"enabled": True, **given.get("persistence", {})}}
    for version in HELMS:
        context = pod_of(parsed(text_of(values, version=version)))["securityContext"]
        assert context.get("fsGroup") == group
        assert ("fsGroup" in context) == (group is not None)
        assert context["runAsNonRoot"] is True


def test_a_dead_node_does_not_keep_the_only_replica() -> None:
    tolerated = {one["key"]: one["tolerationSeconds"] for one in pod_of(render(LEAST))["tolerations"]}

    assert tolerated == {"node.kubernetes.io/not-ready": 30, "node.kubernetes.io/unreachable": 30}


@pytest.mark.parametrize(
    "handler",
    [
        {"tcpSocket": {"port": 10221}},
        {"httpGet": {"path": "/-/ready", "port": 10221}},
    ],
)
def test_probes_are_the_users_whole(handler: dict[str, Any]) -> None:
    before = container_of(render(LEAST))
    for nulled in ({}, dict.fromkeys({"httpGet"} - handler.keys())):
        container = container_of(render({**LEAST, **{name: {**handler, **nulled} for name in PROBES}}))
        for name in PROBES:
            default = {key: value for key, value in before[name].items() if key != "httpGet"}
            assert container[name] == {**default, **handler}


def test_probes_can_be_left_out_in_a_parent_chart_too(tmp_path: Path) -> None:
    assert not set(PROBES) & container_of(render(CASES["little"])).keys()
    values = {**LEAST, **{name: {"enabled": False} for name in PROBES}}
    parent = parent_chart(tmp_path, {NAME: values})
    for version in HELMS:
        container = container_of(parsed(text_of({}, parent, version=version)))
        assert not set(PROBES) & container.keys()


@pytest.mark.parametrize("seconds", [0, 45])
def test_the_pod_ends_within_the_time_given(seconds: int) -> None:
    pod = pod_of(render({**LEAST, "terminationGracePeriodSeconds": seconds}))

    assert pod["terminationGracePeriodSeconds"] == seconds


def test_the_configuration_check_sees_what_the_exporter_sees() -> None:
    (*_, check) = pod_of(render(EVERYTHING))["initContainers"]
    container = container_of(render(EVERYTHING))

    assert check["args"] == ["check", "--config-only", *container["args"]]
    for part in ("image", "env", "envFrom", "volumeMounts", "securityContext"):
        assert check[part] == container[part]


def parent_chart(folder: Path, values: Mapping[str, Any], aliases: Iterable[str] = (NAME,)) -> Path:
    """Return an umbrella chart with values of its own for this one, which it has under each alias."""
    parent = folder / "parent"
    shutil.copytree(CHART, parent / "charts" / NAME)
    dependencies = [
        {"name": NAME, "alias": alias, "version": __version__, "condition": f"{alias}.enabled"}
        for alias in aliases
    ]
    chart = {"apiVersion": "v2", "name": "parent", "version": "1.0.0", "dependencies": dependencies}
    (parent / "Chart.yaml").write_text(yaml.safe_dump(chart), encoding="utf-8")
    (parent / "values.yaml").write_text(yaml.safe_dump(dict(values)), encoding="utf-8")
    return parent


def test_images_and_pull_secrets_follow_the_parent_chart(tmp_path: Path) -> None:
    parent = parent_chart(tmp_path, {})
    values = {
        "global": {
            "imageRegistry": "mirror.example.com",
            "imagePullSecrets": ["a", {"name": "b"}],
            "of": "others",
        },
        NAME: {**LEAST, "image": {"repository": "exporter"}},
    }
    manifests = parsed(text_of(values, parent))

    assert container_of(manifests)["image"] == f"mirror.example.com/exporter:{__version__}"
    assert pod_of(manifests)["imagePullSecrets"] == [{"name": "a"}, {"name": "b"}]
    assert not parsed(text_of({**values, NAME: {**LEAST, "enabled": False}}, parent))


def test_monitoring_needs_one_switch_and_one_label() -> None:
    manifests = render(CASES["monitoring"])

    for one in (the("ServiceMonitor", manifests), named(ALERTS, manifests), named(RECORDED, manifests)):
        assert one["metadata"]["labels"]["release"] == "kube-prometheus-stack"
    assert len(dashboards(manifests)) == 3
    own = {**LEAST, "releaseLabel": True, "serviceMonitor": {"enabled": True}}
    assert the("ServiceMonitor", render(own))["metadata"]["labels"]["release"] == NAME


def test_rules_and_dashboards_are_installed_alone_under_names_of_the_cluster() -> None:
    manifests = render(CASES["once-per-cluster"])

    assert {one["kind"] for one in manifests} == {"ConfigMap", "PrometheusRule"}
    assert {one["metadata"]["name"].startswith("cohere-finetuning") for one in manifests} == {True}


def test_the_rules_of_a_namespace_look_at_that_namespace_alone() -> None:
    values = {"exporter": {"enabled": False}, "prometheusRule": {"enabled": True, "scope": "namespace"}}

    def expressions(values: dict[str, Any]) -> str:
        groups = [group for one in render(values) for group in one["spec"]["groups"]]
        return "\n".join(rule["expr"] for group in groups for rule in group["rules"])

    rules = expressions({**values, "namespaceOverride": "team-a"})
    assert 'cohere_up{namespace="team-a"}' in rules
    assert 'cohere_finetuned_model_info{namespace="team-a"}' in rules
    assert 'namespace="' not in expressions({**values, "prometheusRule": {"enabled": True}})


def test_the_grafana_operator_finds_the_dashboards() -> None:
    manifests = render(EVERYTHING)
    maps = {one["metadata"]["name"]: one for one in of_kind(manifests, "ConfigMap")}
    boards = of_kind(manifests, "GrafanaDashboard")

    assert len(boards) == 3
    for board in boards:
        reference = board["spec"]["configMapRef"]
        assert reference["key"] in maps[reference["name"]]["data"]
        assert board["metadata"]["namespace"] == maps[reference["name"]]["metadata"]["namespace"]
        assert board["spec"]["instanceSelector"] == {"matchLabels": {"dashboards": "main"}}
        assert board["spec"]["allowCrossNamespaceImport"] is True


def test_tls_needs_no_more_than_the_secret_of_cert_manager() -> None:
    manifests = render(CASES["tls"])
    sources = volume_at(manifests, Path("/run/secrets/web"))["projected"]["sources"]

    assert {"secret": {"name": "exporter-tls"}} in sources
    (config,) = (source["configMap"] for source in sources if "configMap" in source)
    (made,) = (one for one in of_kind(manifests, "ConfigMap") if one["metadata"]["name"] == config["name"])
    assert yaml.safe_load(made["data"]["web-config.yml"]) == {
        "tls_server_config": {"cert_file": "tls.crt", "key_file": "tls.key"}
    }
    endpoints = the("PodMonitor", manifests)["spec"]["podMetricsEndpoints"]
    assert [endpoint["scheme"] for endpoint in endpoints] == ["https"] * 2
    variables = {one["name"]: one["value"] for one in container_of(manifests)["env"]}
    assert variables["COHERE_EXPORTER_WEB_CONFIG_FILE"] == "/run/secrets/web/web-config.yml"


def test_prometheus_is_told_the_path_of_the_metrics() -> None:
    manifests = render(EVERYTHING)
    annotations = the("Deployment", manifests)["spec"]["template"]["metadata"]["annotations"]

    assert the("ServiceMonitor", manifests)["spec"]["endpoints"][0]["path"] == "/models"
    assert annotations["prometheus.io/path"] == "/models"


def test_prometheus_is_told_each_thing_once_and_the_users_way_wins() -> None:
    given = {"interval": "5s", "path": "/gateway/metrics", "honorTimestamps": False}
    values = changed(CASES["monitoring"], "serviceMonitor.endpoint", given)
    values["serviceMonitor"]["steps"] = {"enabled": False}
    text = text_of(values).split("kind: ServiceMonitor")[1].split("\n---")[0]
    (endpoint,) = the("ServiceMonitor", render(values))["spec"]["endpoints"]

    assert endpoint == {"port": "metrics", "scheme": "http", **given}
    assert [text.count(f" {name}: ") for name in endpoint] == [1] * len(endpoint)


def test_the_steps_are_scraped_as_a_job_of_its_own_with_what_holds_for_the_metrics() -> None:
    metrics, steps = the("ServiceMonitor", render(EVERYTHING))["spec"]["endpoints"]

    job = {"sourceLabels": ["job"], "targetLabel": "job", "replacement": "$1-steps"}
    own = {
        "path": "/models/steps",
        "interval": "30s",
        "honorTimestamps": True,
        "relabelings": [*metrics["relabelings"], job],
    }
    assert steps == {name: metrics[name] for name in metrics.keys() - {"scrapeTimeout"}} | own


@pytest.mark.parametrize(
    ("window", "scraped"), [(None, True), ("10m", True), ("0s", False), ("0", False), (0, False)]
)
def test_steps_that_the_exporter_does_not_serve_are_not_scraped(window: Any, scraped: bool) -> None:
    values = {
        **LEAST,
        "serviceMonitor": {"enabled": True},
        "config": {"training": {"steps-window": window}},
    }
    assert len(the("ServiceMonitor", render(values))["spec"]["endpoints"]) == 1 + scraped


# The network


def egress(**values: Any) -> set[int]:
    policy = the("NetworkPolicy", render({**LEAST, "networkPolicy": {"enabled": True}, **values}))["spec"]
    return {port["port"] for rule in policy["egress"] for port in rule["ports"] if port["protocol"] == "TCP"}


GATEWAY = "http://gateway.example.com:8080/cohere"
PROXY = "http://user:p%40ss@proxy.example.com:3128"
ROUTES: list[tuple[str, dict[str, str]]] = [
    ("https://api.cohere.com", {}),
    ("HTTP://gateway.example.com", {}),
    ("http://gateway.example.com:08080", {}),
    ("https://[2001:db8::1]:8443/v1", {}),
    (GATEWAY, {"https_proxy": PROXY}),
    (GATEWAY, {"http_proxy": "proxy.example.com"}),
    (GATEWAY, {"HTTP_PROXY": " ", "ALL_PROXY": PROXY, "NO_PROXY": ".other, .example.org"}),
    ("https://gateway", {"HTTPS_PROXY": "https://proxy.example.com", "http_proxy": PROXY}),
    (GATEWAY, {"HTTP_PROXY": PROXY, "NO_PROXY": ".svc,*.Example.com."}),
    (GATEWAY, {"HTTP_PROXY": PROXY, "no_proxy": "gateway.example.com:80 10.0.0.0/8"}),
    (GATEWAY, {"HTTP_PROXY": PROXY, "NO_PROXY": "gateway.example.com:8080"}),
    (GATEWAY, {"HTTP_PROXY": PROXY, "NO_PROXY": ".gateway.example.com"}),
    (GATEWAY, {"HTTP_PROXY": PROXY, "NO_PROXY": "*"}),
    ("http://10.0.0.7", {"HTTP_PROXY": PROXY, "NO_PROXY": "10.0.0.7"}),
]


def variables(given: Mapping[str, str]) -> list[Manifest]:
    return [{"name": name, "value": value} for name, value in given.items()]


@pytest.mark.parametrize(("url", "environ"), ROUTES)
def test_the_default_rules_let_out_to_where_the_exporter_connects(url: str, environ: dict[str, str]) -> None:
    api = httpx.URL(url)
    proxy = proxy_for(api, environ)
    port = int(address_of(proxy.url if proxy else api).rpartition(":")[2])

    assert egress(config={"cohere": {"base-url": url}}, extraEnv=variables(environ)) == {53, 5353, port}


@pytest.mark.parametrize(
    "values",
    [
        {"extraEnv": variables({"COHERE_EXPORTER_COHERE_BASE_URL": GATEWAY, "CO_API_URL": "http://other"})},
        {"extraEnv": variables({"CO_API_URL": f" {GATEWAY}", "COHERE_EXPORTER_COHERE_BASE_URL": " "})},
        {
            "extraArgs": [f"--cohere.base-url={GATEWAY}"],
            "extraEnv": variables({"CO_API_URL": "http://other"}),
        },
        {"extraArgs": ["--log.level=debug", "--cohere.base-url", GATEWAY]},
    ],
)
def test_the_default_rules_follow_the_base_url_wherever_it_is_given(values: dict[str, Any]) -> None:
    assert egress(**values) == {53, 5353, 8080}


def test_an_api_in_the_pod_and_a_demo_need_no_way_out() -> None:
    assert egress(config={"cohere": {"base-url": "http://localhost:8080"}}) == {53, 5353}
    policy = the("NetworkPolicy", render({**CASES["demo"], "networkPolicy": {"enabled": True}}))
    assert policy["spec"]["egress"] == []


def test_where_networks_decide_on_the_proxy_both_ways_are_let_out(notes_chart: Path) -> None:
    environ = {"HTTP_PROXY": PROXY, "NO_PROXY": "10.0.0.0/8"}
    values = {"config": {"cohere": {"base-url": "http://10.0.0.7:8080"}}, "extraEnv": variables(environ)}
    assert egress(**values) == {53, 5353, 8080, 3128}
    policy = {"enabled": True, "egress": [{"ports": [{"port": 3128}]}]}
    assert "to TCP port 8080 or 3128" in notes({**LEAST, **values, "networkPolicy": policy}, notes_chart)


REFERENCE = {"secretKeyRef": {"name": "network", "key": "any"}}


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"extraEnv": [{"name": "CO_API_URL", "valueFrom": REFERENCE}]}, "extraEnv CO_API_URL"),
        ({"extraEnv": [{"name": "HTTPS_PROXY", "valueFrom": REFERENCE}]}, "extraEnv HTTPS_PROXY"),
        ({"extraEnv": variables({"ALL_PROXY": "http://proxy:$(PORT)"})}, "extraEnv ALL_PROXY"),
        (
            {"extraEnv": [*variables({"ALL_PROXY": PROXY}), {"name": "NO_PROXY", "valueFrom": REFERENCE}]},
            "extraEnv NO_PROXY",
        ),
        ({"extraArgs": ["--cohere.base-url", "http://$(HOST)"]}, "extraArgs --cohere.base-url"),
        ({"envFrom": [{"secretRef": {"name": "network"}}]}, "envFrom"),
        (
            {
                "envFrom": [{"secretRef": {"name": "network"}}],
                "config": {"cohere": {"base-url": "http://localhost:8080"}},
            },
            "envFrom",
        ),
    ],
)  # fmt: skip
def test_what_only_the_pod_knows_needs_rules_and_notes_remind_of_it(
    values: dict[str, Any], named: str, notes_chart: Path
) -> None:
    refused = template({**LEAST, **values, "networkPolicy": {"enabled": True}})
    assert refused.returncode != 0
    assert re.search(rf"networkPolicy.egress must be set, .* \({named}\)", refused.stderr)
    policy = {"enabled": True, "egress": [{"ports": [{"port": 8080}]}]}
    assert f"connects to ({named})" in notes({**LEAST, **values, "networkPolicy": policy}, notes_chart)


@pytest.mark.parametrize(
    ("ports", "environ", "is_let_out"),
    [
        ([{"port": 443}], {}, False),
        ([{"port": 8080}], {}, True),
        ([{"port": 8000, "endPort": 9000}], {}, True),
        ([{"port": 8080, "protocol": "UDP"}], {}, False),
        ([{"port": "https"}], {}, True),  # a name is not known here
        ([], {}, True),
        ([{"port": 3128}], {"HTTP_PROXY": PROXY}, True),
        ([{"port": 8080}], {"HTTP_PROXY": PROXY}, False),
        ([{"port": 3128}], {"HTTPS_PROXY": PROXY}, False),
        ([{"port": 3128}], {"HTTP_PROXY": PROXY, "NO_PROXY": "example.com"}, False),
    ],
)
def test_rules_that_shut_the_api_out_are_refused(
    ports: list[Manifest], environ: dict[str, str], is_let_out: bool
) -> None:
    done = template(
        {
            **LEAST,
            "config": {"cohere": {"base-url": GATEWAY}},
            "extraEnv": variables(environ),
            "networkPolicy": {"enabled": True, "egress": [{"ports": ports}]},
        }
    )
    assert (done.returncode == 0) == is_let_out
    assert ("allow TCP port" in done.stderr) != is_let_out
    assert "p%40ss" not in done.stderr


@pytest.mark.parametrize(
    ("rules", "url", "is_noted"),
    [
        ([{"ports": [{"port": 8080}]}], GATEWAY, True),
        ([{"ports": [{"port": 8080}, {"port": 53}]}], GATEWAY, True),  # by TCP only
        ([{"ports": [{"port": 8080}]}, {"ports": [{"port": 53, "protocol": "UDP"}]}], GATEWAY, False),
        ([{"ports": [{"port": 8080}, {"port": 5353, "protocol": "UDP"}]}], GATEWAY, False),
        ([{"ports": [{"port": 8080}, {"port": 1, "endPort": 99, "protocol": "UDP"}]}], GATEWAY, False),
        ([{"ports": [{"port": 8080}, {"port": "dns", "protocol": "UDP"}]}], GATEWAY, False),
        ([{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}], GATEWAY, False),
        ([{"ports": [{"port": 8080}]}], "http://10.0.0.7:8080", False),
        ([{"ports": [{"port": 8080}]}], "http://[2001:db8::1]:8080", False),
        ([], GATEWAY, False),
    ],
)
def test_notes_name_what_rules_without_dns_leave_unresolved(
    rules: list[Manifest], url: str, is_noted: bool, notes_chart: Path
) -> None:
    policy = {"enabled": True, "egress": rules}
    values = {**LEAST, "config": {"cohere": {"base-url": url}}, "networkPolicy": policy}
    aliases = {"hostAliases": [{"ip": "10.0.0.7", "hostnames": ["gateway.example.com"]}]}

    assert ("lets out no DNS" in notes(values, notes_chart)) == is_noted
    assert ("resolve gateway.example.com." in notes(values, notes_chart)) == is_noted
    assert not is_noted or "lets out no DNS" not in notes({**values, **aliases}, notes_chart)


# The chart renders exactly when the exporter starts.

durations = st.one_of(
    st.integers(-1, 3_000_000),
    st.floats(0, 100).map(lambda number: round(number, 3)),
    st.from_regex(r"\A([0-9]{1,3}h)?([0-9]{1,4}m)?([0-9]{1,4}s)?([0-9]{1,4}ms)?\Z"),
    st.sampled_from(
        ["0s", "1s", "999ms", "90", " 2m ", "soon", "1s1m", "-1s", "1.5", "31d", "32d", "1y", "300y"]
    ),
)
numbers = st.one_of(st.integers(-2, 10_000), st.sampled_from(["0", "8", "+3", "-1", "eight", "1.5", 1.5]))
# Well-formed to Go or to Python only, or beyond a limit of one of them.
CORNERS = [
    *(r"\pL", r"\Z", r"\é", "(?P<1>a)", "(?<n>a)", "(?i)a", "a(?i)", "(?=a)", "a++", "a{1001}", "a{,2}"),
    *("a{2,1}", "^*", "[[:x:]]", r"[\d-z]", "(" * 500 + ")" * 500),
]
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "DURATION": durations,
    "NUMBER": numbers,
    "TEXT": st.sampled_from(["exporter", " a b ", "", "ü", "a\tb"]),
    "FILE": st.sampled_from(["/ca.pem", "", " "]),
    "URL": st.sampled_from(
        [
            *("https://api.cohere.com", "HTTPS://a.example/", "http://10.0.0.7:8080/v1", "http://[::1]:80/x"),
            *(
                "nonsense",
                "ftp://a.example",
                "http://",
                "http://a:0",
                "http://a:65536",
                "http://a?b",
                "http://a#b",
            ),
            *("http://u:p@a", "http://a b", "http://a/b\\c", "http://-a", "http://a./v1/", "http://a:"),
        ]
    ),
    "PATH": st.sampled_from(["/metrics", "/a/b", "metrics", "/a?b", "/a b", "/-/ready", "/%41", ""]),
    "REGEX": st.sampled_from(["a.*", "[", "(", "a|b", "*", "cohere_(x", "", r"\d+", *CORNERS]),
    "": st.booleans(),
}


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    """Return a `config` with some options, about half of which are valid."""
    config: dict[str, Any] = {}
    known = [option for option in options() if option.key not in generate.CHART_SETS]
    for option in draw(
        st.lists(st.sampled_from(known), min_size=1, max_size=3, unique_by=lambda one: one.key)
    ):
        strategy = VALUES.get(option.metavar, st.sampled_from([*option.metavar.split("|"), "other"]))
        group, _, name = option.key.partition(".")
        config.setdefault(group, {})[name] = draw(strategy)
    return config


def is_unjudged(value: Any) -> bool:
    return value in CORNERS and re.search(generate.UNJUDGED, value) is not None


def starts(config: dict[str, Any], folder: Path) -> bool:
    """Return whether the exporter accepts a configuration, but for what the chart leaves unjudged."""
    file = folder / "config.yml"
    judged = {
        group: {name: None if is_unjudged(value) else value for name, value in members.items()}
        for group, members in config.items()
    }
    file.write_text(yaml.safe_dump(judged), encoding="utf-8")
    try:
        load([f"--config.file={file}"], {})
    except SettingsError:
        return False
    return True


@given(config=configurations())
@example(config={"demo": {"seed": "1.5"}})
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_chart_renders_exactly_when_the_exporter_starts(config: dict[str, Any], tmp_path: Path) -> None:
    values = {**LEAST, "config": config}
    if config.get("cohere", {}).get("api-key-file"):
        values.pop("apiKey")
    done = template(values)
    assert (done.returncode == 0) == starts(config, tmp_path), done.stderr


@pytest.mark.parametrize(
    ("group", "given"),
    [
        ("extraArgs", ["--poll.interval=0s"]),
        ("extraEnv", [{"name": "HTTPS_PROXY", "value": "socks9://proxy.example.com:1"}]),
        ("envFrom", [{"configMapRef": {"name": "any"}}]),
    ],
)
def test_what_is_not_config_is_left_to_the_exporter_as_the_readme_says(group: str, given: list[Any]) -> None:
    paragraph = generate.README.read_text(encoding="utf-8").split("renders exactly when the exporter")[1]
    paragraph = paragraph.split("\n\n")[0]

    assert template({**LEAST, group: given}).returncode == 0
    assert f"`{group}`" in paragraph
    assert paragraph.startswith(" starts with `config`")


@pytest.fixture(scope="module")
def judging(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chart that says of each text whether Go takes it, and whether the chart leaves it to the exporter."""
    chart = tmp_path_factory.mktemp("judging")
    (chart / "templates").mkdir()
    (chart / "Chart.yaml").write_text("{apiVersion: v2, name: judging, version: 1.0.0}")
    (chart / "templates/judged.yaml").write_text("""\
judged:
{{- range .Values.texts }}
  - [{{ regexMatch (printf "|%s" .) "" }}, {{ regexMatch $.Values.unjudged . }}]
{{- end }}
""")
    return chart


def is_python(text: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sets within sets
        try:
            re.compile(text)
        except (re.error, RecursionError):
            return False
    return True


def differ(texts: list[str], chart: Path) -> list[str]:
    """Return what the chart would judge otherwise than the exporter."""
    done = helm("template", "any", str(chart), values={"texts": texts, "unjudged": generate.UNJUDGED})
    assert done.returncode == 0, done.stderr
    judged = yaml.safe_load(done.stdout)["judged"]
    assert [left for _, left in judged] == [bool(re.search(generate.UNJUDGED, text)) for text in texts]
    return [
        text
        for text, (is_go, left) in zip(texts, judged, strict=True)
        if not left and is_go != is_python(text)
    ]


@given(texts=st.lists(st.text(r"\[]()|*+?^$.{}:-aAdwZ1é", max_size=9), min_size=500, max_size=500))
@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_go_and_python_read_differently_is_left_to_the_exporter(texts: list[str], judging: Path) -> None:
    assert differ([*texts, *CORNERS], judging) == []


# What is said after the installation


@pytest.fixture(scope="module")
def notes_chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the chart with its notes as an object, because without a cluster Helm shows no notes."""
    chart = tmp_path_factory.mktemp("notes") / NAME
    shutil.copytree(CHART, chart)
    (chart / "values.schema.json").unlink()
    (chart / "templates/NOTES.txt").rename(chart / "files/NOTES.txt")
    manifest = 'kind: Notes\ntext: {{ tpl (.Files.Get "files/NOTES.txt") . | quote }}\n'
    (chart / "templates/notes.yaml").write_text(manifest, encoding="utf-8")
    return chart


def notes(values: Mapping[str, Any], chart: Path) -> str:
    """Return the notes."""
    return str(the("Notes", parsed(text_of(values, chart)))["text"])


@pytest.mark.parametrize(("values", "said"), NOTES)
def test_notes_say_what_to_look_at(values: dict[str, Any], said: str, notes_chart: Path) -> None:
    assert said in notes(values, notes_chart)


def test_notes_warn_of_a_key_in_clear_text(notes_chart: Path) -> None:
    values = changed(LEAST, "config.cohere.base-url", "http://gateway.example.com")

    assert "in clear text" in notes(values, notes_chart)
    assert "in clear text" in notes({**values, "envFrom": [{"secretRef": {"name": "any"}}]}, notes_chart)


@pytest.mark.parametrize(
    ("labels", "unlabelled"),
    [
        ({}, ["PrometheusRule", "ServiceMonitor"]),
        ({"monitoring": {"release": "kps"}}, []),
        ({"releaseLabel": True}, []),
        ({"commonLabels": {"team": "ml"}}, []),
        ({"serviceMonitor": {"additionalLabels": {"team": "ml"}}}, ["PrometheusRule"]),
        ({"prometheusRule": {"labels": {"team": "ml"}}, "podMonitor": {"enabled": True}}, ["PodMonitor"]),
        ({"exporter": {"enabled": False}}, ["PrometheusRule"]),
    ],
)
def test_notes_warn_of_what_no_label_lets_prometheus_select(
    labels: dict[str, Any], unlabelled: list[str], notes_chart: Path
) -> None:
    values = {**LEAST, **labels, "monitoring": {"enabled": True, **labels.get("monitoring", {})}}
    text = notes(values, notes_chart)

    assert re.findall(r"the (\w+) has no label by which", text) == unlabelled
    assert "kubectl get prometheuses.monitoring.coreos.com" in text
    assert "kubectl get prometheuses" not in notes(LEAST, notes_chart)


def test_values_of_before_still_work_and_notes_name_each_renamed_one(notes_chart: Path) -> None:
    text = notes(OLD_VALUES, notes_chart)
    for path in RENAMED.keys() - REFUSED_OLD_VALUES:
        assert f"\n- {path} is " in text
    assert "https://localhost:10220/" in text, "web.scheme still works"
    assert "RENAMED" not in notes(LEAST, notes_chart)

    manifests = render(OLD_VALUES)
    assert pod_of(manifests)["imagePullSecrets"] == [{"name": "registry"}]
    assert the("ServiceMonitor", manifests)["spec"]["endpoints"][0]["scheme"] == "https"
    for one in (the("ServiceMonitor", manifests), named(ALERTS, manifests)):
        assert one["metadata"]["labels"]["release"] == "prometheus"


def test_two_commands_lead_from_kube_prometheus_stack_to_a_page_and_a_panel() -> None:
    readme = (ROOT / "deploy/helm/README.md").read_text(encoding="utf-8")
    text = readme.split("With an existing kube-prometheus-stack", 1)[1].split("\n## ", 1)[0]
    install, forward = (
        shlex.split(command.replace("\\\n", " "))
        for command in re.findall(r"^\$ ((?:.*\\\n)*.*)$", text, re.MULTILINE)
    )
    assert (install[:2], forward[0]) == (["helm", "install"], "kubectl")
    done = helm("template", *install[2:], f"--kube-version={NEWEST}", values={})
    assert done.returncode == 0, done.stderr
    manifests = parsed(done.stdout)
    assert {one["metadata"]["namespace"] for one in manifests} == {"monitoring"}

    [container] = pod_of(manifests)["containers"]
    assert container["image"] == f"{IMAGE}:{__version__}"
    assert f"`{IMAGE}`" in text, "the image to replace"
    assert "](../kubernetes/README.md#the-image)" in text, "how to build it"

    for kind in ("ServiceMonitor", "PrometheusRule"):  # selected by this label
        labels = {one["metadata"]["labels"].get("release") for one in of_kind(manifests, kind)}
        assert labels == {"kube-prometheus-stack"}, kind

    alerts, shipped = (
        {rule["alert"]: rule["annotations"] for group in groups for rule in group["rules"]}
        for groups in (named(ALERTS, manifests)["spec"]["groups"], rules()["groups"])
    )
    assert set(alerts) == set(shipped)
    boards = {json.loads(board)["uid"] for board in dashboards(manifests).values()}
    assert len(boards) == len(list(DASHBOARDS.glob("*.json")))
    service_of_grafana, ports = forward[-2:]
    assert service_of_grafana == "service/kube-prometheus-stack-grafana"  # as its chart names it
    grafana = f"http://localhost:{ports.removesuffix(':80')}/d/"
    for name, annotations in alerts.items():
        url = annotations["dashboard_url"]
        assert url.startswith(grafana), name
        assert url.removeprefix(grafana).split("?")[0] in boards, name
    assert f"<{grafana}cohere-finetuning-fleet>" in text
