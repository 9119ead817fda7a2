"""The pages on GitOps, OpenShift and secrets: what they show renders as those tools would render it."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import generate
from tests.manifests import NEWEST, Manifest, of_kind, parsed, pod_of, schema_errors, the
from tests.programs import ROOT
from tests.test_helm import LEAST, helm

pytestmark = pytest.mark.slow
_SET_IMAGE = r"image\.registry=(\S+) (?:\\\n +)?--set image\.repository=(\S+)"


def examples(page: str, file: str) -> list[Any]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found = re.findall(rf"```yaml\n# {re.escape(file)}\n(.*?)```", text, re.DOTALL)
    assert found
    return [yaml.safe_load(example) for example in found]


def rendered(release: str, namespace: str, values: Any, chart: Path = generate.CHART) -> tuple[Manifest, ...]:
    options = (f"--namespace={namespace}", f"--kube-version={NEWEST}")
    done = helm("template", release, str(chart), *options, values=values)
    assert done.returncode == 0, done.stderr
    return parsed(done.stdout)


def test_argo_cd_renders_the_application() -> None:
    (application,) = examples("gitops.md", "application.yaml")
    source, destination = application["spec"]["source"], application["spec"]["destination"]
    name = application["metadata"]["name"]  # which Argo CD gives to the release
    chart = ROOT / source["path"]
    manifests = rendered(name, destination["namespace"], source["helm"]["valuesObject"], chart)

    assert {one["metadata"]["namespace"] for one in manifests} == {"monitoring"}
    assert name in the("Deployment", manifests)["metadata"]["name"]
    assert the("ServiceMonitor", manifests)["metadata"]["labels"]["release"] == "kube-prometheus-stack"
    assert schema_errors(manifests, NEWEST) == []


def test_argo_cd_that_tracks_by_label_changes_no_instance() -> None:
    """It sets the label on metadata, not in selectors: both must be the Application's name."""
    (application,) = examples("gitops.md", "application.yaml")
    name = application["metadata"]["name"]
    manifests = rendered(name, "monitoring", application["spec"]["source"]["helm"]["valuesObject"])
    selector = the("ServiceMonitor", manifests)["spec"]["selector"]["matchLabels"]
    labels = the("Service", manifests)["metadata"]["labels"]
    assert selector.items() <= {**labels, "app.kubernetes.io/instance": name}.items()

    page = (ROOT / "docs/gitops.md").read_text(encoding="utf-8")
    kustomization = yaml.safe_load((ROOT / "deploy/kubernetes/example/kustomization.yaml").read_text("utf-8"))
    instance = kustomization["labels"][0]["pairs"]["app.kubernetes.io/instance"]
    assert f"the name of the instance (`{instance}`" in page
    assert "`application.resourceTrackingMethod: annotation`" in page


def test_flux_renders_the_helm_release() -> None:
    (release,) = examples("gitops.md", "helmrelease.yaml")
    chart = ROOT / release["spec"]["chart"]["spec"]["chart"]
    meta = release["metadata"]
    manifests = rendered(meta["name"], meta["namespace"], release["spec"]["values"], chart)

    assert of_kind(manifests, "ServiceMonitor")
    assert schema_errors(manifests, NEWEST) == []


@pytest.mark.parametrize("page", ["deploy/helm/README.md", "docs/gitops.md", "docs/secrets.md"])
def test_a_mirror_takes_the_place_of_the_registry_of_each_example(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    images = [
        yaml.safe_load(f"{{{', '.join(found)}}}")
        for found in (
            *re.findall(r"(registry: \S+)\n +(repository: \S+)", text),
            *([f"registry: {a}", f"repository: {b}"] for a, b in re.findall(_SET_IMAGE, text)),
        )
    ]

    assert len(images) == text.count("repository: ") + text.count("image.repository=")
    mirror = {"global": {"imageRegistry": "mirror.example.com"}}
    for image in images:
        manifests = rendered("x", "monitoring", {**LEAST, **mirror, "image": image})
        (container,) = pod_of(manifests)["containers"]
        assert container["image"].startswith("mirror.example.com/cohere-finetune-exporter:")


def test_the_page_on_openshift_serves_and_scrapes_over_https() -> None:
    (values,) = examples("openshift.md", "values.yaml")
    manifests = rendered("x", "monitoring", {**LEAST, **values})

    endpoints = the("ServiceMonitor", manifests)["spec"]["endpoints"]
    assert [endpoint["scheme"] for endpoint in endpoints] == ["https"] * 2
    made = the("Service", manifests)["metadata"]["annotations"]
    assert made["service.beta.openshift.io/serving-cert-secret-name"] == values["web"]["tlsSecret"]


def test_the_rules_of_the_page_on_openshift_look_at_their_own_project_alone() -> None:
    (values,) = examples("openshift.md", "rules.yaml")
    manifests = rendered("x", "team-a", {**LEAST, **values})

    groups = [group for one in of_kind(manifests, "PrometheusRule") for group in one["spec"]["groups"]]
    rules = [rule for group in groups for rule in group["rules"]]
    text = "\n".join(rule["expr"] for rule in rules)
    selectors = re.findall(r"\b(?:cohere_[a-z_]+|up)\b(?:\{(.*?)\})?", text)
    assert {selector.rpartition(", ")[2] for selector in selectors} == {'namespace="team-a"'}
    unseen = next(rule for rule in rules if rule.get("alert") == "CohereFleetUnseen")
    assert 'absent_over_time(cohere_exporter_build_info{namespace="team-a"}[' in unseen["expr"]


def test_the_page_on_secrets_brings_the_key_where_it_is_read() -> None:
    vault, external, sealed = (
        rendered("x", "monitoring", values) for values in examples("secrets.md", "values.yaml")
    )

    assert pod_of(vault)["automountServiceAccountToken"] is True
    assert the("ServiceAccount", vault)["automountServiceAccountToken"] is True
    vault_values = {**examples("secrets.md", "values.yaml")[0], "configCheck": {"enabled": True}}
    assert pod_of(rendered("x", "monitoring", vault_values))["initContainers"]
    assert "/vault/secrets/cohere-api-key" in the("ConfigMap", vault)["data"]["config.yml"]
    for manifests, kind in ((external, "ExternalSecret"), (sealed, "SealedSecret")):
        name = the(kind, manifests)["metadata"]["name"]
        volumes = pod_of(manifests)["volumes"]
        assert name in [volume["secret"]["secretName"] for volume in volumes if "secret" in volume]


def test_the_page_of_comparisons_names_this_charts_values_and_no_others() -> None:
    page = (ROOT / "docs/chart-values.md").read_text(encoding="utf-8")
    known = {path for path, _, _ in generate.table()}
    groups: set[str] = set()
    for row in re.findall(r"^\| (`.*?) \|", page, re.MULTILINE):
        named = re.findall(r"`([\w.]+)`", row)
        assert [path for path in known if f"{path}.".startswith(f"{named[0]}.")], named[0]
        groups |= {name.partition(".")[0] for name in named}
    assert {path.partition(".")[0] for path in known} - groups == {"enabled"}  # a parent chart's
