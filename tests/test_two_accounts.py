"""Two accounts in one namespace, scraped by a real Prometheus: each once, by kustomize and by Helm.

No API server is at hand, so what Kubernetes and the Prometheus Operator would find is derived from the
rendered objects by their own rules: a ServiceMonitor selects Services by their labels, a Service selects pods
by theirs, and each pair of endpoint and pod becomes a target. Each pod is a real exporter on the loopback.
"""

import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.generate import CHART
from tests.clients import plain_client
from tests.editions import every_edition_at_night
from tests.manifests import Manifest, kustomized, of_kind, parsed
from tests.monitoring import ask, prometheus
from tests.programs import ROOT, eventually, exporter
from tests.test_helm import LEAST, helm

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

ACCOUNTS = ("research", "production")
# How many targets of a job bring the same step metric of the same model, at most.
STEPS = (
    "max by (job) (count by (job, model_id, metric) "
    "(count_over_time(cohere_finetuned_model_step_metric[6h])))"
)


def by_helm(folder: Path) -> Iterator[Manifest]:
    for account in ACCOUNTS:
        values = {**LEAST, "serviceMonitor": {"enabled": True}}
        options = ("--namespace=monitoring", "--kube-version=1.31.0")
        done = helm("template", account, str(CHART), *options, values=values)
        assert done.returncode == 0, done.stderr
        yield from parsed(done.stdout)


def by_kustomize(folder: Path) -> Iterator[Manifest]:
    shutil.copytree(ROOT / "deploy/kubernetes", folder / "kubernetes")
    for account in ACCOUNTS:
        own = folder / "kubernetes" / account
        shutil.copytree(folder / "kubernetes/example", own)
        (own / "api-key").write_text("a-key\n")
        kustomization = (own / "kustomization.yaml").read_text(encoding="utf-8")
        (own / "kustomization.yaml").write_text(kustomization.replace("research", account))
        yield from parsed(kustomized(own))


def selected(
    selector: dict[str, str], candidates: Iterable[tuple[Manifest, dict[str, str]]]
) -> list[Manifest]:
    return [one for one, labels in candidates if selector.items() <= labels.items()]


def targets(manifests: list[Manifest], addresses: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Return the scrape jobs that the Prometheus Operator would make; `addresses` are those of the pods."""
    services = [(one, one["metadata"]["labels"]) for one in of_kind(manifests, "Service")]
    pods = [(one, one["spec"]["template"]["metadata"]["labels"]) for one in of_kind(manifests, "Deployment")]
    for monitor in of_kind(manifests, "ServiceMonitor"):
        for number, endpoint in enumerate(monitor["spec"]["endpoints"]):
            for service in selected(monitor["spec"]["selector"]["matchLabels"], services):
                for pod in selected(service["spec"]["selector"], pods):
                    name = service["metadata"]["name"]
                    labels = {"job": name, "namespace": "monitoring", "service": name, "endpoint": "metrics"}
                    address = addresses[pod["metadata"]["name"]]
                    yield {
                        "job_name": "/".join(
                            (monitor["metadata"]["name"], str(number), name, pod["metadata"]["name"])
                        ),
                        "metrics_path": endpoint["path"],
                        "honor_timestamps": endpoint.get("honorTimestamps", True),
                        "relabel_configs": [
                            snake_case(relabeling) for relabeling in endpoint.get("relabelings", [])
                        ],
                        "static_configs": [{"targets": [address], "labels": labels}],
                    }


def snake_case(relabeling: dict[str, Any]) -> dict[str, Any]:
    """Write a relabeling of the operator as Prometheus has it."""
    return {re.sub("[A-Z]", lambda one: f"_{one[0].lower()}", name): relabeling[name] for name in relabeling}


@every_edition_at_night
@pytest.mark.parametrize("way", [by_kustomize, by_helm])
async def test_two_accounts_in_a_namespace_are_scraped_once_each(way: Any, tmp_path: Path) -> None:
    manifests = list(way(tmp_path))
    deployments = [one["metadata"]["name"] for one in of_kind(manifests, "Deployment")]
    services = [one["metadata"]["name"] for one in of_kind(manifests, "Service")]
    async with exporter("demo") as first, exporter("demo") as second:
        urls = [running.url.removeprefix("http://") for running in (first, second)]
        jobs = list(targets(manifests, dict(zip(deployments, urls, strict=True))))
        config = {
            "global": {"scrape_interval": "1s"},
            "scrape_configs": jobs,
            # Without it, a step that is offered again counts as out of order, whoever offers it.
            "storage": {"tsdb": {"out_of_order_time_window": "6h"}},
        }
        async with prometheus(tmp_path, config) as url, plain_client() as client:

            async def by_job(expression: str) -> dict[str, float]:
                return {one["metric"]["job"]: float(one["value"][1]) for one in await ask(url, expression)}

            async def are_scraped() -> bool:
                scrapes = await by_job("sum by (job) (count_over_time(up[1m]))")
                return sum(scrapes.values()) >= 20 and len(await by_job(STEPS)) == 2

            await eventually(are_scraped, seconds=60)
            found = (await client.get(f"{url}/api/v1/targets")).json()["data"]["activeTargets"]
            labels = [one["labels"] for one in found]
            assert {one["health"] for one in found} == {"up"}
            assert sorted(one["job"] for one in labels) == sorted(
                [*services, *(f"{name}-steps" for name in services)]
            )
            assert [one for one in labels if labels.count(one) > 1] == []
            assert await by_job("count by (job) (cohere_up)") == dict.fromkeys(services, 1)
            assert await by_job(STEPS) == {f"{name}-steps": 1 for name in services}
            own = (await client.get(f"{url}/metrics")).text
            rejected = re.findall(r"^prometheus_target_scrapes_sample_\w+ (.*)$", own, re.MULTILINE)
            assert len(rejected) >= 3  # duplicate, out of order, out of bounds
            assert set(rejected) == {"0"}
