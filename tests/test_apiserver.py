"""The manifests and the chart on real Kubernetes API servers.

Each namespace enforces Pod Security `restricted`. kubectl applies as users do, on the server's side; whatever
comes back as a warning fails the test. `make test-kubernetes` runs this.
"""

import copy
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.generate import CHART
from tests import editions
from tests.cluster import RESTRICTED, Cluster, cluster, eventually
from tests.manifests import Manifest, parsed, pod_of, the
from tests.programs import environment, program
from tests.test_helm import CASES, HELMS, LEAST, NAME, text_of
from tests.test_kubernetes import COMBINATIONS, KUBERNETES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.programs,
    pytest.mark.skipif("NIGHTLY" not in os.environ, reason="`make test-kubernetes` runs it"),
]

OVERLAYS = ("base", "demo", "monitoring", "own", *(f"combined/{name}" for name in COMBINATIONS))
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    **CASES,
    "quota": {
        **LEAST,
        "persistence": {"enabled": True},
        "networkPolicy": {"enabled": True},
        "config": {"cohere": {"calls-per-month": 1000}},
    },
    "rules-of-a-namespace": {
        **LEAST,
        "releaseLabel": True,
        "serviceMonitor": {"enabled": True, "steps": {"enabled": False}},
        "prometheusRule": {"enabled": True, "scope": "namespace", "recording": False},
    },
    "pod-monitor-of-another-name": {
        **LEAST,
        "nameOverride": "tuning",
        "podMonitor": {"enabled": True},
        "persistence": {"enabled": True, "existingClaim": "mine"},
        "service": {"type": "LoadBalancer"},
    },
}
DEPLOYMENTS = "/apis/apps/v1/deployments"
RESOURCES = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
NAMESPACES = (RESTRICTED, "monitoring", "grafana", "elsewhere")
ENFORCED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}


def an_object(version: str, kind: str, name: str, **content: object) -> Manifest:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **content}


# Stands in for that of the Grafana Operator, which is not to be had as a module.
ANY_SCHEMA = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
DASHBOARD = {
    "group": "grafana.integreatly.org",
    "names": {"kind": "GrafanaDashboard", "plural": "grafanadashboards"},
    "scope": "Namespaced",
    "versions": [{"name": "v1beta1", "served": True, "storage": True, "schema": ANY_SCHEMA}],
}
# What a cluster has that the configurations refer to.
GIVEN: tuple[Manifest, ...] = (
    *(an_object("v1", "Namespace", name, metadata={"name": name, "labels": ENFORCED}) for name in NAMESPACES),
    *(
        an_object("v1", "ServiceAccount", "default", metadata={"name": "default", "namespace": name})
        for name in NAMESPACES
    ),
    an_object("scheduling.k8s.io/v1", "PriorityClass", "high", value=1000),
    an_object("node.k8s.io/v1", "RuntimeClass", "gvisor", handler="runsc"),
    an_object(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        "grafanadashboards.grafana.integreatly.org",
        spec=DASHBOARD,
    ),
)


@pytest.fixture(scope="module", params=editions.KUBERNETES)
def kubernetes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Run an API server that knows the Prometheus Operator and has what the configurations refer to."""
    with cluster(request.param, tmp_path_factory.mktemp("kubernetes")) as running:
        running.apply(f"-f={editions.OPERATOR}")
        running.create(*GIVEN)
        eventually(lambda: all(map(is_established, running.items(RESOURCES))))
        running.given = running.stored()
        yield running


def is_established(resource: Manifest) -> bool:
    conditions = resource.get("status", {}).get("conditions", ())
    return any((one["type"], one["status"]) == ("Established", "True") for one in conditions)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the manifests, with an installation of one's own and the combinations in it."""
    tree = tmp_path_factory.mktemp("tree") / "kubernetes"
    shutil.copytree(KUBERNETES, tree)
    shutil.copytree(tree / "example", tree / "own")
    (tree / "own/api-key").write_text("a-key\n")
    for name, parts in COMBINATIONS.items():
        folder = tree / "combined" / name
        folder.mkdir(parents=True)
        components = [f"../../components/{part}" for part in parts]
        content = {"resources": ["../../base"], "components": components}
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(content))
    return tree


def chart(values: dict[str, Any]) -> str:
    """Render the chart for the restricted namespace."""
    return text_of(values, arguments=(f"--namespace={RESTRICTED}",))


def install(kubernetes: Cluster, *source: str, stdin: str = "") -> None:
    """Apply manifests; a second time they must find nothing to change."""
    objects = kubernetes.apply(*source, stdin=stdin)
    assert len(kubernetes.made()) >= len(objects) > 0
    assert kubernetes.apply(*source, stdin=stdin) == objects


def remove(kubernetes: Cluster, *source: str, stdin: str = "") -> None:
    """Delete manifests, after which nothing may be left, of whichever kind and in whichever namespace."""
    kubernetes.kubectl("delete", "--wait=false", *source, stdin=stdin)
    assert kubernetes.made() == set()


def admitted(kubernetes: Cluster) -> int:
    """Return how many Deployments there are; the pods that their controllers would make are admitted."""
    deployments = kubernetes.items(DEPLOYMENTS)
    for deployment in deployments:
        template, namespace = deployment["spec"]["template"], deployment["metadata"]["namespace"]
        pod = {**template, "metadata": {**template["metadata"], "name": "pod"}}
        answer = kubernetes.api.post(f"/api/v1/namespaces/{namespace}/pods?dryRun=All", json=pod)
        assert (answer.status_code, answer.headers.get("Warning")) == (201, None), answer.text
    return len(deployments)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_is_applied_and_deleted_without_a_trace(
    kubernetes: Cluster, tree: Path, overlay: str
) -> None:
    source = f"--kustomize={tree / overlay}"
    install(kubernetes, source)
    assert admitted(kubernetes) == (overlay != "monitoring")
    remove(kubernetes, source)


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_the_chart_is_applied_and_deleted_without_a_trace(kubernetes: Cluster, configuration: str) -> None:
    text = chart(CONFIGURATIONS[configuration])
    install(kubernetes, "-f=-", stdin=text)
    assert admitted(kubernetes) == (configuration != "once-per-cluster")
    remove(kubernetes, "-f=-", stdin=text)


def test_every_overlay_takes_the_place_of_another(kubernetes: Cluster, tree: Path) -> None:
    upgrade(kubernetes, [kubernetes.kubectl("kustomize", str(tree / overlay)) for overlay in OVERLAYS])


def test_every_configuration_of_the_chart_takes_the_place_of_another(kubernetes: Cluster) -> None:
    upgrade(kubernetes, [chart(values) for values in CONFIGURATIONS.values()])


def upgrade(kubernetes: Cluster, texts: Sequence[str]) -> None:
    """Apply each over the one before, forth and back, and delete them all."""
    for text in (*texts, *reversed(texts)):
        kubernetes.apply("-f=-", stdin=text)
    remove(kubernetes, "--ignore-not-found", "-f=-", stdin="\n---\n".join(texts))


@pytest.mark.parametrize("version", HELMS, ids=["oldest", "newest"][: len(HELMS)])
def test_helm_upgrades_a_release_from_each_configuration_to_the_next(
    kubernetes: Cluster, version: str
) -> None:
    for values in CONFIGURATIONS.values():
        helm(version, kubernetes, "upgrade", "--install", NAME, str(CHART), "--values=-", values=values)
        assert kubernetes.made()
    helm(version, kubernetes, "uninstall", NAME)
    assert kubernetes.made() == set()


def helm(version: str, kubernetes: Cluster, *arguments: str, values: dict[str, Any] | None = None) -> None:
    done = subprocess.run(
        [program(version), f"--kubeconfig={kubernetes.kubeconfig}", *arguments],
        input=json.dumps(values),
        capture_output=True,
        text=True,
        env=environment({"HOME": str(kubernetes.kubeconfig.parent)}),
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), values


def test_what_is_wrong_is_refused(kubernetes: Cluster) -> None:
    text = chart(CONFIGURATIONS["monitoring"])
    install(kubernetes, "-f=-", stdin=text)
    selector, monitor, pod = copy.deepcopy(
        (the("Deployment", parsed(text)), the("ServiceMonitor", parsed(text)), pod_of(parsed(text)))
    )
    for labels in (
        selector["spec"]["selector"]["matchLabels"],
        selector["spec"]["template"]["metadata"]["labels"],
    ):
        labels["app.kubernetes.io/instance"] = "another"
    monitor["spec"]["endpoints"][0]["intervall"] = "30s"
    del pod["securityContext"]["runAsNonRoot"]
    root = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "root"}, "spec": pod}

    refused = {"field is immutable": selector, "intervall": monitor, 'violates PodSecurity "restricted': root}
    for words, manifest in refused.items():
        assert words in kubernetes.refusal("apply", "--server-side", "-f=-", stdin=json.dumps(manifest))
    remove(kubernetes, "-f=-", stdin=text)
