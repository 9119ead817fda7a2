"""The Kubernetes manifests: valid, restricted, at one with each other and with what they are made from."""

import copy
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.generate import DASHBOARDS, RULES
from deploy.prometheus.recording import FILE as RECORDING
from exporter import __version__
from exporter.settings import ApiKey, Subcommand, load
from tests.manifests import (
    NEWEST,
    OLDEST,
    Manifest,
    custom_resource_errors,
    kustomized,
    kustomized_by,
    named,
    of_kind,
    parsed,
    pod_of,
    policy_findings,
    schema_errors,
    settings_of,
    the,
    together,
    volume_at,
    with_components,
    write_kustomization,
)
from tests.pod_security import pod_security_violations
from tests.programs import ROOT, program

pytestmark = pytest.mark.slow

KUBERNETES = ROOT / "deploy/kubernetes"
README = KUBERNETES / "README.md"
NAME = {"app.kubernetes.io/name": "cohere-finetune-exporter"}
PORT = 10220

# Components that are combined: what each adds, in the order in which they are listed.
MONITORING = ("rules", "recording-rules", "dashboards")
COMBINATIONS = {
    "plain": ("annotations",),
    "demo": ("demo", "annotations"),
    "demo-operator": ("demo", "operator"),
    "operator": ("operator", "network-policy"),
    "everything": ("annotations", "operator", "network-policy", "quota", "tls", *MONITORING),
    "openshift": ("operator", "network-policy", "quota", "tls", "openshift"),
}
every_overlay = pytest.mark.parametrize("overlay", COMBINATIONS)
Render = Callable[[str], tuple[Manifest, ...]]
Installed = Mapping[str, tuple[Manifest, ...]]
ACCOUNTS = ("research", "production")


def examples(file: str, containing: str = "") -> list[str]:
    """Return the page's examples of a file, which name it in their first line."""
    text = README.read_text(encoding="utf-8")
    found = re.findall(rf"```yaml\n(# {re.escape(file)}\n.*?)```", text, re.DOTALL)
    return [example for example in found if containing in example]


PATCHES = {f"patch-{number}": text for number, text in enumerate(examples("kustomization.yaml", "patches:"))}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Render:
    """Return the manifests of a combination of components."""
    return with_components(tmp_path_factory.mktemp("tree"), COMBINATIONS).__getitem__


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Return the manifests of the folders that are there, and of installations of one's own."""
    tree = tmp_path_factory.mktemp("tree") / "kubernetes"
    shutil.copytree(KUBERNETES, tree)
    for name in ("own", "all", "another-key", "another-configuration", *PATCHES):
        copy_example(tree / name, every_component=name in ("all", *PATCHES), more=PATCHES.get(name, ""))
    (tree / "another-key/api-key").write_text("another-key\n")
    (tree / "another-configuration/config.yml").write_text("poll: {interval: 2m}\n")
    copies = [folder.name for folder in tree.iterdir() if (folder / "kustomization.yaml").exists()]
    return together(tree, [name for name in copies if name not in ("base", "example")])


def copy_example(folder: Path, *, every_component: bool, more: str = "") -> None:
    """Make an installation of one's own from the example, with a key, as a user makes it."""
    shutil.copytree(KUBERNETES / "example", folder)
    (folder / "api-key").write_text("a-key\n")
    text = (folder / "kustomization.yaml").read_text(encoding="utf-8")
    text = text.replace("# - ../components/", "- ../components/") if every_component else text
    (folder / "kustomization.yaml").write_text(text + more, encoding="utf-8")


@pytest.fixture(scope="module")
def two_accounts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a kustomization of two installations in one namespace, with all components."""
    tree = tmp_path_factory.mktemp("tree") / "kubernetes"
    shutil.copytree(KUBERNETES, tree)
    for name in ACCOUNTS:
        copy_example(tree / name, every_component=True)
        file = tree / name / "kustomization.yaml"
        file.write_text(file.read_text(encoding="utf-8").replace("research", name), encoding="utf-8")
    write_kustomization(tree / "both", resources=[f"../{name}" for name in ACCOUNTS])
    return tree / "both"


# Kubernetes takes them.


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_the_oldest_and_the_newest_kubernetes_know_every_field(
    rendered: Render, installed: Installed, version: str
) -> None:
    everything = (*map(rendered, COMBINATIONS), *installed.values())
    assert schema_errors(chain.from_iterable(everything), version) == []


def test_the_operator_knows_every_field_of_its_resources(rendered: Render) -> None:
    assert custom_resource_errors(rendered("everything")) == []


def test_the_schemas_refuse_what_is_wrong(rendered: Render) -> None:
    changed = copy.deepcopy(rendered("everything"))
    the("Deployment", changed)["spec"]["replica"] = 1
    endpoint, _ = the("ServiceMonitor", changed)["spec"]["endpoints"]
    endpoint |= {"intervall": "30s", "interval": "soon"}
    (error,) = schema_errors(changed, NEWEST)
    assert "'replica' was unexpected" in error
    errors = custom_resource_errors(changed)
    assert {error.partition(": ")[0] for error in errors} == {
        f"/spec/endpoints/0/{field}" for field in ("interval", "intervall")
    }


def test_the_policy_scan_finds_what_is_explained_and_nothing_else(tmp_path: Path, rendered: Render) -> None:
    explained = yaml.safe_load((KUBERNETES / "checkov.yml").read_text())["skip-check"]
    everything = chain.from_iterable(map(rendered, COMBINATIONS))
    assert policy_findings(everything, tmp_path) == set(explained)


# Pod Security "restricted".


@every_overlay
def test_a_namespace_that_enforces_restricted_takes_the_pod(rendered: Render, overlay: str) -> None:
    assert list(pod_security_violations(pod_of(rendered(overlay)))) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("runAsNonRoot", None),
        ("runAsUser", 0),
        ("seccompProfile", None),
        ("seccompProfile", {"type": "Unconfined"}),
        ("allowPrivilegeEscalation", None),
        ("capabilities", None),
        ("capabilities", {"drop": ["ALL"], "add": ["NET_ADMIN"]}),
        ("privileged", True),
    ],
)
def test_restricted_is_lost_with_any_of_its_fields(rendered: Render, field: str, value: Any) -> None:
    pod = copy.deepcopy(pod_of(rendered("plain")))
    for context in (pod["securityContext"], pod["containers"][0]["securityContext"]):
        context.pop(field, None)
        if value is not None:
            context[field] = value
    assert list(pod_security_violations(pod)) == [field]


@every_overlay
def test_the_pod_has_no_more_than_it_needs(rendered: Render, overlay: str) -> None:
    pod = pod_of(rendered(overlay))
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    writable = [mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
    assert writable == ["state"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert the("ServiceAccount", rendered(overlay))["automountServiceAccountToken"] is False
    names = {one["name"] for one in container["env"]}
    assert not names & {"COHERE_API_KEY", "CO_API_KEY"}, "a key in the environment could not be rotated"
    assert not {"runAsUser", "runAsGroup"} & (pod["securityContext"] | container["securityContext"]).keys()
    assert set(container["resources"]) == {"requests", "limits"}


@every_overlay
def test_no_two_exporters_ever_poll_with_one_key(rendered: Render, overlay: str) -> None:
    deployment = the("Deployment", rendered(overlay))["spec"]
    assert deployment["replicas"] == 1
    assert deployment["strategy"] == {"type": "Recreate"}


# The objects fit together.


def test_the_namespace_is_the_users_choice() -> None:
    files = [file for name in ("base", "components", "demo") for file in (KUBERNETES / name).rglob("*.y*ml")]
    assert files
    named = re.compile(r"^(?:metadata:\n(?: .*\n)*?  )?namespace:", re.MULTILINE)
    assert [file for file in files if named.search(file.read_text(encoding="utf-8"))] == []


@every_overlay
def test_everything_that_selects_the_pod_does_so(rendered: Render, overlay: str) -> None:
    manifests = rendered(overlay)
    deployment = the("Deployment", manifests)["spec"]
    selectors = [
        deployment["selector"]["matchLabels"],
        the("Service", manifests)["spec"]["selector"],
        *(one["spec"]["podSelector"]["matchLabels"] for one in of_kind(manifests, "NetworkPolicy")),
        *(one["spec"]["selector"]["matchLabels"] for one in of_kind(manifests, "ServiceMonitor")),
    ]
    for selector in selectors:
        assert selector.keys() == {"app.kubernetes.io/name", "app.kubernetes.io/instance"}
        assert selector.items() <= deployment["template"]["metadata"]["labels"].items()
    assert (
        deployment["template"]["spec"]["serviceAccountName"]
        == the("ServiceAccount", manifests)["metadata"]["name"]
    )


@every_overlay
def test_every_object_carries_the_recommended_labels(rendered: Render, overlay: str) -> None:
    for manifest in rendered(overlay):
        assert NAME.items() <= manifest["metadata"]["labels"].items(), manifest["metadata"]["name"]


@every_overlay
def test_every_way_in_leads_to_the_port_that_the_exporter_listens_on(
    rendered: Render, overlay: str, tmp_path: Path
) -> None:
    manifests = rendered(overlay)
    (container,) = pod_of(manifests)["containers"]
    port, probes = container["ports"]
    _, settings = settings_of(manifests, tmp_path)
    assert settings.web.listen_address[0].port == port["containerPort"] == PORT
    assert settings.web.probe_address is not None
    assert settings.web.probe_address.port == probes["containerPort"]
    (served,) = the("Service", manifests)["spec"]["ports"]
    assert (served["port"], served["targetPort"]) == (PORT, port["name"])
    for probe, path in (
        ("livenessProbe", "/-/healthy"),
        ("startupProbe", "/-/healthy"),
        ("readinessProbe", "/-/ready"),
    ):
        assert container[probe]["httpGet"] == {"path": path, "port": "probes"}


@every_overlay
def test_the_exporter_takes_its_arguments_and_its_configuration(
    rendered: Render, overlay: str, tmp_path: Path
) -> None:
    command, settings = settings_of(rendered(overlay), tmp_path)
    assert command.subcommand is (Subcommand.DEMO if overlay.startswith("demo") else Subcommand.SERVE)
    assert settings.log.format == "json"


def test_the_key_is_read_where_the_secret_is_mounted(rendered: Render, tmp_path: Path) -> None:
    manifests = rendered("plain")
    _, settings = settings_of(manifests, tmp_path)
    file = settings.cohere.api_key_file
    assert file is not None
    secret = volume_at(manifests, file.parent)["secret"]
    assert secret == {"secretName": "cohere-api-key", "items": [{"key": "api-key", "path": file.name}]}
    (container,) = pod_of(manifests)["containers"]
    assert not any("subPath" in mount for mount in container["volumeMounts"]), "it would never change"


def test_a_key_rotated_as_the_kubelet_does_it_needs_no_restart(tmp_path: Path) -> None:
    def publish(version: str) -> None:
        (tmp_path / version).mkdir()
        (tmp_path / version / "api-key").write_text(f"key-{version}\n")
        (tmp_path / "..data_tmp").symlink_to(version)
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")

    publish("..2026_01")
    (tmp_path / "api-key").symlink_to("..data/api-key")
    key = ApiKey(file=tmp_path / "api-key")
    assert key.read() == "key-..2026_01"
    publish("..2026_02")
    shutil.rmtree(tmp_path / "..2026_01")
    assert key.read() == "key-..2026_02"
    assert key.error is None


def test_the_demo_needs_no_secret(rendered: Render) -> None:
    assert "secret" not in yaml.safe_dump(pod_of(rendered("demo")))
    assert "api-key" not in yaml.safe_dump(rendered("demo"))


def test_only_who_asks_for_it_gets_a_network_policy_and_it_lets_scrapers_in_and_dns_and_https_out(
    rendered: Render,
) -> None:
    assert not of_kind(rendered("plain"), "NetworkPolicy")
    policy = the("NetworkPolicy", rendered("operator"))["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    # A selector that is there and empty means the pods of every namespace.
    assert policy["ingress"] == [
        {"from": [{"namespaceSelector": {}}], "ports": [{"port": PORT, "protocol": "TCP"}]}
    ]
    ways_out = {(port["port"], port["protocol"]) for rule in policy["egress"] for port in rule["ports"]}
    dns = {(port, protocol) for port in (53, 5353) for protocol in ("UDP", "TCP")}
    assert ways_out == {*dns, (443, "TCP")}


def test_a_quota_is_kept_in_a_claim_that_the_user_of_the_image_may_write_to(rendered: Render) -> None:
    manifests = rendered("everything")
    volume = volume_at(manifests, Path("/var/lib/cohere-finetune-exporter"))
    claim = the("PersistentVolumeClaim", manifests)["metadata"]["name"]
    assert volume == {"name": "state", "persistentVolumeClaim": {"claimName": claim}}
    assert pod_of(manifests)["securityContext"]["fsGroup"] == 65532
    assert "emptyDir" in volume_at(rendered("plain"), Path("/var/lib/cohere-finetune-exporter"))


def test_openshift_assigns_user_and_group_and_signs_the_certificate(rendered: Render) -> None:
    manifests = rendered("openshift")
    assert "fsGroup" not in pod_of(manifests)["securityContext"]
    annotations = the("Service", manifests)["metadata"]["annotations"]
    made = annotations["service.beta.openshift.io/serving-cert-secret-name"]
    sources = volume_at(manifests, Path("/run/secrets/web"))["projected"]["sources"]
    assert {"secret": {"name": made}} in sources


def test_tls_serves_and_scrapes_over_https(rendered: Render, tmp_path: Path) -> None:
    manifests = rendered("everything")
    file = settings_of(manifests, tmp_path)[1].web.config_file
    assert file is not None
    config, secret = volume_at(manifests, file.parent)["projected"]["sources"]
    (made,) = (
        one
        for one in of_kind(manifests, "ConfigMap")
        if one["metadata"]["name"] == config["configMap"]["name"]
    )
    assert yaml.safe_load(made["data"][file.name]) == {
        "tls_server_config": {"cert_file": "tls.crt", "key_file": "tls.key"}
    }
    assert secret == {"secret": {"name": the("Service", manifests)["metadata"]["name"]}}
    endpoints = the("ServiceMonitor", manifests)["spec"]["endpoints"]
    assert [endpoint["scheme"] for endpoint in endpoints] == ["https"] * 2
    annotations = the("Deployment", manifests)["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/scheme"] == "https"


# Several accounts, remote bases.


def objects_used(manifests: Iterable[Manifest]) -> set[tuple[str, str]]:
    """Return kind and name of each object that the pod mounts or the Service has made."""
    found = set()
    for volume in pod_of(manifests)["volumes"]:
        for source in (volume, *volume.get("projected", {}).get("sources", [])):
            for kind, key in (("secret", "secretName"), ("secret", "name"), ("configMap", "name")):
                found.add((kind, source.get(kind, {}).get(key)))
            found.add(("claim", source.get("persistentVolumeClaim", {}).get("claimName")))
    made = the("Service", manifests)["metadata"].get("annotations", {})
    found.add(("secret", made.get("service.beta.openshift.io/serving-cert-secret-name")))
    return {(kind, name) for kind, name in found if name}


def test_two_accounts_share_a_namespace_without_sharing_anything_else(two_accounts: Path) -> None:
    manifests = parsed(kustomized(two_accounts))
    assert {manifest["metadata"]["namespace"] for manifest in manifests} == {"monitoring"}
    label = "app.kubernetes.io/instance"
    ours, theirs = (
        [one for one in manifests if one["metadata"]["labels"][label] == name] for name in ACCOUNTS
    )
    assert len(ours) == len(theirs) == len(manifests) / 2
    assert not objects_used(ours) & objects_used(theirs)
    assert len(objects_used(ours)) == 5
    for own, others in ((ours, theirs), (theirs, ours)):
        pod = the("Deployment", others)["spec"]["template"]["metadata"]["labels"].items()
        service = the("Service", others)["metadata"]["labels"].items()
        assert not the("Service", own)["spec"]["selector"].items() <= pod
        assert not the("ServiceMonitor", own)["spec"]["selector"]["matchLabels"].items() <= service
        own_service = the("Service", own)["metadata"]["labels"].items()
        assert the("ServiceMonitor", own)["spec"]["selector"]["matchLabels"].items() <= own_service
        secret = volume_at(own, Path("/run/secrets/cohere"))["secret"]["secretName"]
        assert secret == the("Secret", own)["metadata"]["name"]


def test_a_remote_base_is_used_by_its_tag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git finds the repository of the page in a folder here."""
    repository = tmp_path / "repository"
    shutil.copytree(KUBERNETES, repository / "deploy/kubernetes")
    git = (program("git"), "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@example.com")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "any"], ["tag", f"v{__version__}"]):
        subprocess.run([*git, *command], check=True, timeout=60)
    (block,) = examples("kustomization.yaml", "?ref=")
    (address,) = set(re.findall(r"https://git\.example\.com/\S+?\.git", block))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.file://{repository}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", address)
    own = tmp_path / "own"
    own.mkdir()
    (own / "kustomization.yaml").write_text(block)

    manifests = parsed(kustomized(own))
    assert {one["kind"] for one in manifests} >= {"Deployment", "ServiceMonitor"}


@pytest.mark.skipif(not all(map(shutil.which, ("kubectl", "kustomize"))), reason="one of them is installed")
def test_kubectl_renders_the_same(two_accounts: Path) -> None:
    by_kubectl = kustomized_by(two_accounts, program("kubectl"), "kustomize")
    assert parsed(by_kubectl) == parsed(kustomized(two_accounts))


# Prometheus and Grafana find what is theirs.


def test_the_annotations_tell_a_prometheus_what_to_scrape(rendered: Render, tmp_path: Path) -> None:
    manifests = rendered("plain")
    _, settings = settings_of(manifests, tmp_path)
    assert the("Deployment", manifests)["spec"]["template"]["metadata"]["annotations"] == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(PORT),
        "prometheus.io/path": settings.web.telemetry_path,
    }
    assert "annotations" not in the("Service", manifests)["metadata"], "it would be scraped twice"


def test_the_service_monitor_selects_the_service_and_its_port(rendered: Render, tmp_path: Path) -> None:
    manifests = rendered("everything")
    monitor, service = the("ServiceMonitor", manifests)["spec"], the("Service", manifests)
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    ports = {port["name"] for port in service["spec"]["ports"]}
    assert {endpoint["port"] for endpoint in monitor["endpoints"]} <= ports
    path = settings_of(manifests, tmp_path)[1].web.telemetry_path
    assert [endpoint["path"] for endpoint in monitor["endpoints"]] == [path, f"{path}/steps"]


def test_the_scrape_job_for_pods_finds_the_pod(rendered: Render) -> None:
    job, _ = yaml.safe_load((ROOT / "deploy/prometheus/scrape-kubernetes.yml").read_text())["scrape_configs"]
    (selector,) = job["kubernetes_sd_configs"][0]["selectors"]
    label, _, value = selector["label"].partition("=")
    deployment = the("Deployment", rendered("plain"))["spec"]
    assert deployment["template"]["metadata"]["labels"][label] == value
    assert (
        job["relabel_configs"][0]["regex"] == pod_of(rendered("plain"))["containers"][0]["ports"][0]["name"]
    )


def test_rules_and_dashboards_are_installed_once_per_cluster(installed: Installed) -> None:
    manifests = installed["monitoring"]
    assert {one["kind"] for one in manifests} == {"ConfigMap", "PrometheusRule"}
    for name, file in (("cohere-finetuning", RULES), ("cohere-finetuning-recording", RECORDING)):
        assert named(name, manifests)["spec"] == yaml.safe_load(file.read_text(encoding="utf-8"))
    boards: dict[str, str] = {}
    for one in of_kind(manifests, "ConfigMap"):
        assert one["metadata"]["labels"]["grafana_dashboard"] == "1"
        boards |= one["data"]
    assert {name: json.loads(text) for name, text in boards.items()} == {
        file.name: json.loads(file.read_text(encoding="utf-8")) for file in DASHBOARDS.glob("*.json")
    }


def test_the_demo_folder_shows_a_demo(installed: Installed) -> None:
    assert "demo" in pod_of(installed["demo"])["containers"][0]["args"]


# An installation of one's own, from the example.


def test_the_example_sets_image_key_and_configuration(installed: Installed, tmp_path: Path) -> None:
    manifests = installed["own"]
    (container,) = pod_of(manifests)["containers"]
    assert container["image"] == f"registry.example.com/cohere-finetune-exporter:{__version__}"
    _, settings = settings_of(manifests, tmp_path)
    assert settings.cohere.base_url == "https://gateway.example.com/cohere"
    secret = the("Secret", manifests)
    assert secret["data"] == {"api-key": "YS1rZXkK"}
    assert settings.cohere.api_key_file is not None
    mounted = volume_at(manifests, settings.cohere.api_key_file.parent)["secret"]
    assert mounted["secretName"] == secret["metadata"]["name"]


def test_a_new_configuration_rolls_the_pod_and_a_new_key_does_not(installed: Installed) -> None:
    before = pod_of(installed["own"])
    assert the("Secret", installed["another-key"]) != the("Secret", installed["own"])
    assert pod_of(installed["another-key"]) == before
    assert pod_of(installed["another-configuration"]) != before


def test_git_never_sees_the_key_of_an_installation() -> None:
    assert "/*/api-key" in (KUBERNETES / ".gitignore").read_text().splitlines()


# One version everywhere, and a page that is true.


@every_overlay
def test_image_and_labels_carry_the_version(rendered: Render, overlay: str) -> None:
    manifests = rendered(overlay)
    (container,) = pod_of(manifests)["containers"]
    assert container["image"] == f"cohere-finetune-exporter:{__version__}"
    deployment = the("Deployment", manifests)
    assert deployment["metadata"]["labels"]["app.kubernetes.io/version"] == __version__
    assert "app.kubernetes.io/version" not in deployment["spec"]["template"]["metadata"]["labels"]


def test_the_page_names_what_there_is() -> None:
    page = README.read_text(encoding="utf-8")
    assert f"Kubernetes {OLDEST} to {NEWEST}" in page
    for number in yaml.safe_load((KUBERNETES / "checkov.yml").read_text())["skip-check"]:
        assert number in page
    for image in re.findall(r"cohere-finetune-exporter:(\d[\w.]*)", page):
        assert image == __version__
    for folder in re.findall(r"(?:-k|kustomize) (deploy/kubernetes/(?:base|demo|monitoring)[\w/-]*)", page):
        assert (ROOT / folder / "kustomization.yaml").exists(), folder


def test_requests_and_limits_are_those_that_the_pages_speak_of(rendered: Render) -> None:
    (container,) = pod_of(rendered("plain"))["containers"]
    requests, limits = container["resources"]["requests"], container["resources"]["limits"]
    page, image_page = README.read_text(), (ROOT / "deploy/docker/README.md").read_text()
    assert f"Requests ({requests['cpu']}, {requests['memory']})" in page
    assert f"limits ({limits['cpu']}, {limits['memory']})" in page
    megabytes = limits["memory"].removesuffix("Mi")
    assert set(re.findall(r"--memory (\d+)m", image_page)) == {megabytes}
    assert f"{megabytes} MiB holds either" in image_page
    needed = [int(figure) for figure in re.findall(r"\| (\d+) MiB \|", image_page)]
    assert needed == sorted(needed)
    assert needed[-2] < int(requests["memory"].removesuffix("Mi"))
    assert needed[-1] + 30 < int(megabytes)
    assert "\n## What it needs\n" in image_page, "where the other pages lead"


def test_what_is_left_of_an_installation_is_found_by_the_label_on_the_page(installed: Installed) -> None:
    (label,) = re.findall(r"delete configmap .*--selector (\S+)", README.read_text())
    name, _, value = label.partition("=")
    config = the("ConfigMap", installed["own"])
    assert config["metadata"]["labels"][name] == value


def test_the_options_on_the_page_exist(tmp_path: Path) -> None:
    (text,) = examples("config.yml")
    (tmp_path / "config.yml").write_text(text)
    _, settings = load([f"--config.file={tmp_path}/config.yml"], {})
    assert settings.cohere.calls_per_month == 1000


@pytest.mark.parametrize("name", PATCHES)
def test_the_patches_on_the_page_apply(name: str, installed: Installed, tmp_path: Path) -> None:
    manifests = installed[name]
    assert manifests != installed["all"]
    settings_of(manifests, tmp_path)
    assert list(pod_security_violations(pod_of(manifests))) == []
    for endpoint in the("ServiceMonitor", manifests)["spec"]["endpoints"]:
        if name := endpoint.get("tlsConfig", {}).get("serverName"):
            assert name == f"{the('Service', manifests)['metadata']['name']}.monitoring.svc"
