"""The Helm chart: linted and rendered over a matrix of values, and held to what it is made from.

The matrix is the chart's folder `ci`; every value is changed in one of its cases at least. Where chart and
kustomization mean the same they must render the same; UNEQUAL and DEFAULTS are all they may differ in.
"""

import base64
import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.helm import generate
from deploy.helm.generate import CHART
from deploy.prometheus.generate import RULES, rules_file
from exporter import __version__
from exporter.settings import Settings
from tests.manifests import (
    NEWEST,
    OLDEST,
    Manifest,
    custom_resource_errors,
    kustomized,
    of_kind,
    parsed,
    pod_of,
    schema_errors,
    settings_of,
    the,
    volume_at,
)
from tests.pod_security import pod_security_violations
from tests.programs import KEY, ROOT, program

NAME = "cohere-finetune-exporter"
DASHBOARDS = ROOT / "grafana/dashboards"
CASES: dict[str, dict[str, Any]] = {
    file.name.removesuffix("-values.yaml"): yaml.safe_load(file.read_text(encoding="utf-8"))
    for file in sorted(CHART.glob("ci/*-values.yaml"))
}
EVERYTHING = CASES["everything"]
KEYLESS = {
    "annotations",
    "basic-auth",
    "defaults",
    "little",
    "monitoring",
    "no-config",
    "tls",
}  # on Cohere's own host
PROBES = ("livenessProbe", "readinessProbe", "startupProbe")

# What another value of `everything` takes the place of is tried by itself.
ALONE: dict[str, Any] = {
    "image.tag": "0.2.0",
    "apiKey.existingSecret": "keys",
    "demo.enabled": True,
    "serviceAccount.create": False,
    "networkPolicy.enabled": False,
}

# Between kustomization and chart: who made it and for which release, and texts that are compared as settings.
UNEQUAL = {
    "helm.sh/chart",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/instance",
    "checksum/config",  # kustomize puts a hash into the ConfigMap's name instead
    "config.yml",
    "namespace",
    "namespaceSelector",  # of the ServiceMonitor, which the chart may put into another namespace
}
# Written out by the chart only.
DEFAULTS = {("type", "ClusterIP"), ("scheme", "HTTP"), ("scheme", "http"), ("prometheus.io/scheme", "http")}

REFUSED = [
    ({"imagee": {}}, "imagee"),
    ({"image": {"tga": "1"}}, "tga"),
    ({"image": {"tag": 1.1}}, "image.tag"),
    ({"image": {"digest": "sha256:beef"}}, "image.digest"),
    ({"service": {"port": "10220"}}, "service.port"),
    ({"service": {"port": 70000}}, "service.port"),
    ({"web": {"scheme": "HTTPS"}}, "web.scheme"),
    ({"demo": True}, "demo"),
    ({"podLabels": {"zone": 1}}, "podLabels.zone"),
    ({"config": {"pol": {}}}, "pol"),
    ({"config": {"poll": {"intervall": "60s"}}}, "intervall"),
    ({"config": {"log": {"level": "loud"}}}, "config.log.level"),
    ({"config": {"cohere": {"api-key": KEY}}}, "api-key"),
    ({"config": {"web": {"listen-address": ":80"}}}, "listen-address"),
    (
        {"apiKey": {"existingSecret": "keys", "value": KEY}},
        "more than once (apiKey.existingSecret, apiKey.value)",
    ),
    (
        {"apiKey": {"existingSecret": "keys"}, "extraEnv": [{"name": "COHERE_API_KEY", "value": KEY}]},
        "more than once (apiKey.existingSecret, extraEnv COHERE_API_KEY)",
    ),
    (
        {"apiKey": {"existingSecret": "keys"}, "extraArgs": ["--cohere.api-key-file=/key"]},
        "more than once (apiKey.existingSecret, extraArgs --cohere.api-key-file)",
    ),
    ({"web": {"scheme": "https"}}, "set web.existingSecret"),
]  # fmt: skip

NOTES = [
    ("defaults", "WARNING: there is no API key"),
    ("own-secret", "until it is there, the pod waits"),
    ("key-as-value", "`helm get values` shows it"),
    ("demo", "all data is simulated"),
    ("tls", "set web.probes=tcp"),
    ("defaults", "Nothing tells Prometheus"),
]

case = pytest.mark.parametrize("values", CASES.values(), ids=CASES)


def helm(*arguments: str, values: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
    """Run Helm with values on its standard input."""
    return subprocess.run(
        [program("helm"), *arguments, "--values=-"],
        input=json.dumps(values),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def template(
    values: Mapping[str, Any], chart: Path = CHART, arguments: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Render the chart as a release of its own name, which then is the name of its objects."""
    return helm("template", NAME, str(chart), f"--kube-version={NEWEST}", *arguments, values=values)


def text_of(values: Mapping[str, Any], chart: Path = CHART) -> str:
    """Give the text that the chart becomes."""
    return _text(json.dumps(values), chart)


@cache
def _text(values: str, chart: Path) -> str:
    done = template(json.loads(values), chart)
    assert done.returncode == 0, done.stderr
    return done.stdout


def render(values: Mapping[str, Any]) -> tuple[Manifest, ...]:
    """Give the manifests that the chart becomes."""
    return parsed(text_of(values))


def container_of(manifests: Sequence[Manifest]) -> Manifest:
    """Give the one container."""
    (container,) = pod_of(manifests)["containers"]
    return dict(container)


def settings(manifests: Sequence[Manifest], folder: Path) -> Settings:
    """Read the settings as the container would."""
    return settings_of(manifests, folder)[1]


def changed(values: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Give the values with another one at `path`; None takes it away."""
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
    """Give a manifest, or a part of one, without what may differ between kustomization and chart."""
    if isinstance(value, dict):
        pairs = {name: meaning(member) for name, member in value.items() if name not in UNEQUAL}
        return {
            name: member
            for name, member in pairs.items()
            if member != {} and not (isinstance(member, str) and (name, member) in DEFAULTS)
        }
    if isinstance(value, list):
        return [meaning(member) for member in value]
    return re.sub(rf"^({NAME})-[a-z0-9]{{10}}$", r"\1", value) if isinstance(value, str) else value


def by_kind(manifests: Sequence[Manifest]) -> dict[str, list[Any]]:
    """Give the meaning of the manifests by kind."""
    kinds = sorted({manifest["kind"] for manifest in manifests})
    return {kind: [meaning(manifest) for manifest in of_kind(manifests, kind)] for kind in kinds}


# The chart and what it is made from


def test_the_chart_is_of_the_exporters_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))

    assert chart["appVersion"] == __version__
    assert chart["kubeVersion"] == f">={OLDEST}.0-0"
    assert container_of(render({}))["image"] == f"{NAME}:{__version__}"


def test_schema_and_readme_are_as_generated() -> None:
    assert generate.SCHEMA.read_text(encoding="utf-8") == generate.schema(), "run make manifests"
    assert generate.README.read_text(encoding="utf-8") == generate.readme(), "run make manifests"


def test_the_readme_shows_values_that_work() -> None:
    readme = generate.README.read_text(encoding="utf-8")
    settable = re.findall(r"--set ([^\s`]+)", readme)
    examples = [
        text for text in re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL) if "_config:" not in text
    ]

    assert settable
    assert template({}, arguments=[f"--set={given}" for given in settable]).returncode == 0
    assert examples
    for text in examples:
        assert render(yaml.safe_load(text))


def test_values_and_schema_name_the_same_and_each_has_a_meaning() -> None:
    declared = json.loads(generate.SCHEMA.read_text(encoding="utf-8"))
    del declared["properties"]["global"]  # Helm adds it where the chart is part of another

    assert sorted(path for path, _, _ in generate.table()) == sorted(declared_paths(declared))
    assert [path for path, _, meaning in generate.table() if not meaning.endswith(".")] == []


def declared_paths(declared: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Give every value that the schema knows; each group must refuse what it does not know."""
    assert declared["additionalProperties"] is False, prefix
    for name, below in declared["properties"].items():
        if "properties" in below and name != "config":
            yield from declared_paths(below, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


@pytest.mark.parametrize(
    ("folder", "values"),
    [
        ("base", CASES["own-secret"]),
        ("overlays/plain", {**CASES["own-secret"], **CASES["annotations"]}),
        ("overlays/demo", CASES["demo"]),
    ],
)
def test_the_chart_renders_what_the_kustomization_does(
    folder: str, values: dict[str, Any], tmp_path: Path
) -> None:
    theirs = parsed(kustomized(ROOT / "deploy/kubernetes" / folder))
    ours = render(values)

    assert by_kind(ours) == by_kind(theirs)
    assert settings(ours, tmp_path).model_dump() == settings(theirs, tmp_path).model_dump()


def test_the_chart_monitors_as_the_kustomization_does() -> None:
    theirs = parsed(kustomized(ROOT / "deploy/kubernetes/overlays/prometheus-operator"))
    ours = render(CASES["monitoring"])

    for kind in ("ServiceMonitor", "PrometheusRule"):
        assert meaning(the(kind, ours)["spec"]) == meaning(the(kind, theirs)["spec"])
    assert dashboards(ours) == dashboards(theirs)


def dashboards(manifests: Sequence[Manifest]) -> dict[str, str]:
    """Give the text of each dashboard by its file's name, from ConfigMaps that the sidecar finds."""
    found: dict[str, str] = {}
    for manifest in of_kind(manifests, "ConfigMap"):
        if manifest["metadata"]["labels"].get("grafana_dashboard") == "1":
            found |= {name: text.strip() for name, text in manifest["data"].items()}
    return found


def test_rules_and_dashboards_are_the_one_copy() -> None:
    manifests = render(CASES["monitoring"])
    files = {file.name: file.read_text(encoding="utf-8").strip() for file in DASHBOARDS.glob("*.json")}

    assert the("PrometheusRule", manifests)["spec"] == yaml.safe_load(RULES.read_text(encoding="utf-8"))
    assert dashboards(manifests) == files


def test_links_of_the_alerts_get_their_bases() -> None:
    wanted = rules_file(runbooks="https://wiki.example.com/runbooks", grafana="https://grafana.example.com")

    assert the("PrometheusRule", render(EVERYTHING))["spec"] == yaml.safe_load(wanted)


def test_the_package_holds_its_files_and_renders_the_same(tmp_path: Path) -> None:
    command = [program("helm"), "package", str(CHART), f"--destination={tmp_path}"]
    subprocess.run(command, capture_output=True, check=True, timeout=60)

    (package,) = tmp_path.glob("*.tgz")
    with tarfile.open(package) as archive:
        members = archive.getmembers()
    assert all(member.isfile() for member in members)
    assert not [member.name for member in members if "/ci/" in member.name]
    assert text_of(CASES["monitoring"], package) == text_of(CASES["monitoring"])


@pytest.mark.parametrize("values", [{"dashboards": {"enabled": True}}, {"prometheusRule": {"enabled": True}}])
def test_links_that_were_lost_are_told_instead_of_rendered(values: dict[str, Any], tmp_path: Path) -> None:
    chart = tmp_path / NAME
    shutil.copytree(CHART, chart, ignore=shutil.ignore_patterns("files"))

    done = template(values, chart)
    assert done.returncode != 0
    assert "use what `helm package` makes of it" in done.stderr


# Every case


@case
def test_lint_has_nothing_to_warn_of(values: dict[str, Any]) -> None:
    done = helm("lint", "--strict", str(CHART), values=values)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_knows_every_field(version: str) -> None:
    assert schema_errors([one for values in CASES.values() for one in render(values)], version) == []


def test_the_operator_knows_every_field() -> None:
    assert custom_resource_errors([one for values in CASES.values() for one in render(values)]) == []


@case
def test_the_pod_is_restricted(values: dict[str, Any]) -> None:
    assert list(pod_security_violations(pod_of(render(values)))) == []


@case
def test_names_and_labels_agree(values: dict[str, Any]) -> None:
    manifests = render(values)
    deployment, service = the("Deployment", manifests)["spec"], the("Service", manifests)
    labels = deployment["template"]["metadata"]["labels"].items()
    (port,) = container_of(manifests)["ports"]

    assert deployment["selector"]["matchLabels"].items() <= labels
    assert service["spec"]["selector"].items() <= labels
    assert {entry["targetPort"] for entry in service["spec"]["ports"]} == {port["name"]}
    for policy in of_kind(manifests, "NetworkPolicy"):
        assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels
        assert policy["spec"]["ingress"][0]["ports"] == [{"port": port["containerPort"], "protocol": "TCP"}]
    for monitor in of_kind(manifests, "ServiceMonitor"):
        assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        assert monitor["spec"]["namespaceSelector"] == {"matchNames": [service["metadata"]["namespace"]]}
    for account in of_kind(manifests, "ServiceAccount"):
        assert pod_of(manifests)["serviceAccountName"] == account["metadata"]["name"]


@case
def test_the_exporter_takes_its_configuration_and_flags(values: dict[str, Any], tmp_path: Path) -> None:
    settings(render(values), tmp_path)


@case
def test_a_key_given_as_a_value_stands_in_the_secret_only(values: dict[str, Any]) -> None:
    encoded = base64.b64encode(KEY.encode()).decode()

    for manifest in render(values):
        if manifest["kind"] == "Secret":
            assert list(manifest["data"].values()) == [encoded]
        else:
            assert KEY not in json.dumps(manifest)
            assert encoded not in json.dumps(manifest)


# Single values


@pytest.mark.parametrize("path", [path for path, _, _ in generate.table()])
def test_every_value_does_something(path: str) -> None:
    if path in ALONE:
        assert template(changed({}, path, ALONE[path])).stdout != text_of({})
    else:
        assert template(changed(EVERYTHING, path, None)).stdout != text_of(EVERYTHING)


@pytest.mark.parametrize(("values", "named"), REFUSED)
def test_values_that_cannot_work_are_refused_by_name(values: dict[str, Any], named: str) -> None:
    done = template(values)

    assert done.returncode != 0
    assert re.search(re.escape(named).replace(r"\.", "[./]"), done.stderr)  # newer Helms write paths with /
    assert done.stdout == ""
    assert KEY not in done.stderr


def test_values_reach_the_exporter_as_they_were_given(tmp_path: Path) -> None:
    given = settings(render(EVERYTHING), tmp_path)

    assert given.models.limit == 2_000_000
    assert given.poll.interval == 120
    assert given.log.level == "debug"
    assert given.log.format == "json"


@pytest.mark.parametrize(
    ("name", "secret"), [("own-secret", "cohere-api-key"), ("key-as-value", f"{NAME}-api-key")]
)
def test_the_key_is_mounted_where_the_flag_looks(name: str, secret: str, tmp_path: Path) -> None:
    manifests = render(CASES[name])
    file = settings(manifests, tmp_path).cohere.api_key_file
    assert file is not None

    source = volume_at(manifests, file.parent)["secret"]
    assert source["secretName"] == secret
    assert source["items"] == [{"key": "api-key", "path": file.name}]
    for made in of_kind(manifests, "Secret"):
        assert (made["metadata"]["name"], list(made["data"])) == (secret, ["api-key"])


@pytest.mark.parametrize("name", ["key-in-file", "key-in-variable", "no-key", "demo", "demo-with-key"])
def test_a_key_from_elsewhere_wants_no_secret(name: str) -> None:
    manifests = render(CASES[name])

    assert not of_kind(manifests, "Secret")
    assert [volume["name"] for volume in pod_of(manifests)["volumes"]] == ["config"]
    assert not [argument for argument in container_of(manifests)["args"] if "api-key" in argument]


def test_a_new_configuration_rolls_the_pod_and_a_new_key_does_not() -> None:
    def deployment(values: dict[str, Any]) -> Manifest:
        return the("Deployment", render({"apiKey": {"value": "old"}, **values}))

    assert deployment({"apiKey": {"value": "new"}}) == deployment({})
    assert deployment({"config": {"poll": {"interval": "2m"}}}) != deployment({})


def test_probes_and_scrapes_go_the_way_the_pages_are_served() -> None:
    tls, basic_auth = render(CASES["tls"]), render(CASES["basic-auth"])

    assert {container_of(tls)[probe]["httpGet"]["scheme"] for probe in PROBES} == {"HTTPS"}
    assert the("ServiceMonitor", tls)["spec"]["endpoints"][0]["scheme"] == "https"
    assert "--web.config.file=/run/secrets/web/web-config.yml" in container_of(tls)["args"]
    assert volume_at(tls, Path("/run/secrets/web"))["secret"] == {"secretName": "web"}
    assert [container_of(basic_auth)[probe]["tcpSocket"] for probe in PROBES] == [{"port": "metrics"}] * 3


def test_prometheus_is_told_the_path_of_the_metrics() -> None:
    manifests = render(EVERYTHING)
    annotations = the("Deployment", manifests)["spec"]["template"]["metadata"]["annotations"]

    assert the("ServiceMonitor", manifests)["spec"]["endpoints"][0]["path"] == "/models"
    assert annotations["prometheus.io/path"] == "/models"


def test_prometheus_is_told_each_thing_once_and_the_users_way_wins() -> None:
    given = {"interval": "5s", "path": "/gateway/metrics", "honorTimestamps": False}
    values = changed(CASES["monitoring"], "serviceMonitor.endpoint", given)
    text = text_of(values).split("kind: ServiceMonitor")[1].split("\n---")[0]
    (endpoint,) = the("ServiceMonitor", render(values))["spec"]["endpoints"]

    assert endpoint == {"port": "metrics", "scheme": "http", **given}
    assert [text.count(f" {name}: ") for name in endpoint] == [1] * len(endpoint)


@pytest.mark.parametrize("ports", [[], None])
@pytest.mark.parametrize("cidrs", [[], ["10.0.0.0/8"]])
def test_without_ports_no_rule_lets_everything_out(ports: list[int] | None, cidrs: list[str]) -> None:
    values = {"networkPolicy": {"egress": {"ports": ports, "cidrs": cidrs}}}
    policy = the("NetworkPolicy", render(values))["spec"]

    assert [{port["port"] for port in rule["ports"]} for rule in policy["egress"]] == [{53}]


# What is said after the installation


@pytest.fixture(scope="module")
def notes_chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the chart with its notes as a ConfigMap, because without a cluster Helm shows no notes."""
    chart = tmp_path_factory.mktemp("notes") / NAME
    shutil.copytree(CHART, chart)
    (chart / "templates/NOTES.txt").rename(chart / "files/NOTES.txt")
    manifest = 'kind: Notes\ntext: {{ tpl (.Files.Get "files/NOTES.txt") . | quote }}\n'
    (chart / "templates/notes.yaml").write_text(manifest, encoding="utf-8")
    return chart


def notes(values: Mapping[str, Any], chart: Path) -> str:
    """Give the notes."""
    return str(the("Notes", parsed(text_of(values, chart)))["text"])


@pytest.mark.parametrize(("name", "said"), NOTES)
def test_notes_say_what_to_look_at(name: str, said: str, notes_chart: Path) -> None:
    assert said in notes(CASES[name], notes_chart)


@pytest.mark.parametrize("name", CASES)
def test_notes_warn_only_of_a_key_that_is_wanted_and_never_show_it(name: str, notes_chart: Path) -> None:
    text = notes(CASES[name], notes_chart)

    assert ("no API key" in text) == (name in KEYLESS)
    assert KEY not in text


def test_notes_warn_of_a_key_in_clear_text(notes_chart: Path) -> None:
    values = changed(CASES["own-secret"], "config.cohere.base-url", "http://gateway.example.com")

    assert "in clear text" in notes(values, notes_chart)
