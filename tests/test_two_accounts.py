"""Two accounts in one namespace, scraped by a real Prometheus: each once, by kustomize and by Helm.

No API server is at hand, so what Kubernetes and the Prometheus Operator would find is derived from the
rendered objects by their own rules: a ServiceMonitor selects Services by their labels, a Service selects pods
by theirs, and each pair of monitor and pod becomes a target. Each pod is a real exporter on the loopback.
"""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.generate import CHART
from tests.manifests import Manifest, kustomized, of_kind, parsed
from tests.monitoring import prometheus
from tests.programs import ROOT, eventually, exporter
from tests.test_helm import LEAST, helm

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

ACCOUNTS = ("research", "production")


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
        for service in selected(monitor["spec"]["selector"]["matchLabels"], services):
            for pod in selected(service["spec"]["selector"], pods):
                name = service["metadata"]["name"]
                address = addresses[pod["metadata"]["name"]]
                labels = {"job": name, "namespace": "monitoring", "service": name, "endpoint": "metrics"}
                yield {
                    "job_name": f"{monitor['metadata']['name']}/{name}/{pod['metadata']['name']}",
                    "static_configs": [{"targets": [address], "labels": labels}],
                }


@pytest.mark.parametrize("way", [by_kustomize, by_helm])
async def test_two_accounts_in_a_namespace_are_scraped_once_each(way: Any, tmp_path: Path) -> None:
    manifests = list(way(tmp_path))
    deployments = [one["metadata"]["name"] for one in of_kind(manifests, "Deployment")]
    async with exporter("demo") as first, exporter("demo") as second:
        urls = [running.url.removeprefix("http://") for running in (first, second)]
        jobs = list(targets(manifests, dict(zip(deployments, urls, strict=True))))
        assert len(jobs) == 2

        config = {"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}
        async with prometheus(tmp_path, config) as url, httpx.AsyncClient(trust_env=False) as client:

            async def value(expression: str) -> float:
                answer = await client.get(f"{url}/api/v1/query", params={"query": expression})
                return sum(float(one["value"][1]) for one in answer.json()["data"]["result"])

            async def are_scraped() -> bool:
                return await value("sum(count_over_time(cohere_up[1m]))") >= 10

            await eventually(are_scraped, seconds=60)
            assert await value("count(cohere_up)") == 2
            own = (await client.get(f"{url}/metrics")).text
            rejected = [
                line
                for line in own.splitlines()
                if line.startswith(
                    (
                        "prometheus_target_scrapes_sample_duplicate_",
                        "prometheus_target_scrapes_sample_out_of_order_",
                    )
                )
            ]
            assert rejected
            assert {line.rpartition(" ")[2] for line in rejected} == {"0"}
