"""The Helm chart installed into clusters that differ in what the Prometheus Operator and its rights bring.

The cluster is an API on the loopback that knows the chart's kinds, takes every object and keeps none.
"""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from deploy.generate import CHART
from tests.programs import program
from tests.test_helm import CASES, HELMS

pytestmark = pytest.mark.slow

OPERATOR = "monitoring.coreos.com/v1"
KINDS: Mapping[str, Mapping[str, str]] = {
    "v1": {
        "configmaps": "ConfigMap",
        "secrets": "Secret",
        "services": "Service",
        "serviceaccounts": "ServiceAccount",
    },
    "apps/v1": {"deployments": "Deployment"},
}
OPERATOR_KINDS = {
    OPERATOR: {
        "prometheuses": "Prometheus",
        "prometheusrules": "PrometheusRule",
        "servicemonitors": "ServiceMonitor",
    }
}


@dataclass
class Cluster:
    """An API server that knows some kinds, and forbids to read any Prometheus unless `lists` is set."""

    kinds: Mapping[str, Mapping[str, str]]
    lists: bool = True
    created: list[str] = field(default_factory=list)

    def answer(self, method: str, path: str) -> tuple[int, Mapping[str, Any]]:
        """Return status and object for a request."""
        parts = path.strip("/").split("/")
        if path == "/version":
            return 200, {"major": "1", "minor": "31", "gitVersion": "v1.31.0"}
        if path == "/api":
            return 200, {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            return 200, {"kind": "APIGroupList", "apiVersion": "v1", "groups": list(self._groups())}
        version = "/".join(parts[1:2] if parts[0] == "api" else parts[1:3])
        if version not in self.kinds:
            return status(404, "NotFound")
        rest = parts[2 if parts[0] == "api" else 3 :]
        if not rest:
            return 200, self._resources(version)
        if "prometheuses" in rest:
            return (200, {"kind": "List", "items": []}) if self.lists else status(403, "Forbidden")
        kind = self.kinds[version][rest[2] if rest[0] == "namespaces" else rest[0]]
        if method == "GET" and len(rest) in (1, 3):
            return 200, {"kind": f"{kind}List", "apiVersion": version, "items": []}
        if method == "GET":
            return status(404, "NotFound")
        if method in ("POST", "PATCH"):  # Helm 4 applies
            self.created.append(kind)
        return 200, {"kind": kind, "apiVersion": version, "metadata": {"name": "any"}}

    def _groups(self) -> Iterator[Mapping[str, Any]]:
        for version in self.kinds:
            if "/" in version:
                group, _, number = version.partition("/")
                entry = {"groupVersion": version, "version": number}
                yield {"name": group, "versions": [entry], "preferredVersion": entry}

    def _resources(self, version: str) -> Mapping[str, Any]:
        verbs = ["create", "delete", "get", "list", "patch", "update"]
        resources = [
            {"name": plural, "singularName": kind.lower(), "namespaced": True, "kind": kind, "verbs": verbs}
            for plural, kind in self.kinds[version].items()
        ]
        listed = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version}
        return {**listed, "resources": resources}


def status(code: int, reason: str) -> tuple[int, Mapping[str, Any]]:
    """Return a refusal as Kubernetes words it."""
    failure = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code}
    return code, {**failure, "reason": reason, "message": reason}


@contextmanager
def serving(cluster: Cluster) -> Iterator[str]:
    """Serve a cluster's API; return its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_method(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            code, answer = cluster.answer(self.command, self.path.partition("?")[0])
            content = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    for method in ("GET", "POST", "PUT", "PATCH"):
        setattr(Handler, f"do_{method}", Handler.handle_method)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def install(
    cluster: Cluster, values: Mapping[str, Any], folder: Path, version: str
) -> subprocess.CompletedProcess[str]:
    """Install the chart into a cluster."""
    with serving(cluster) as url:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "stub", "cluster": {"server": url}}],
            "users": [{"name": "stub", "user": {}}],
            "contexts": [{"name": "stub", "context": {"cluster": "stub", "user": "stub"}}],
            "current-context": "stub",
        }
        file = folder / "kubeconfig"
        file.write_text(yaml.safe_dump(config), encoding="utf-8")
        file.chmod(0o600)
        command = [program(version), "install", "exporter", str(CHART)]
        return subprocess.run(
            [*command, "--disable-openapi-validation", "--values=-"],
            input=json.dumps(values),
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "KUBECONFIG": str(file)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.mark.parametrize("version", HELMS)
@pytest.mark.parametrize(
    ("cluster", "case"),
    [
        (Cluster(KINDS), "own-secret"),
        (Cluster(KINDS), "demo"),
        (Cluster({**KINDS, **OPERATOR_KINDS}, lists=False), "own-secret"),
        (Cluster({**KINDS, **OPERATOR_KINDS}, lists=False), "monitoring"),
        (Cluster({**KINDS, **OPERATOR_KINDS}), "monitoring"),
    ],
    ids=["absent", "absent-demo", "forbidden", "forbidden-monitoring", "present"],
)
def test_the_chart_installs_with_and_without_the_operator_and_the_right_to_list_it(
    cluster: Cluster, case: str, version: str, tmp_path: Path
) -> None:
    cluster.created.clear()
    done = install(cluster, CASES[case], tmp_path, version)

    assert done.returncode == 0, done.stderr
    assert "exporter-cohere-finetune-exporter is installed" in done.stdout
    monitors = {"PrometheusRule", "ServiceMonitor"} if case == "monitoring" else set()
    assert monitors | {"Deployment"} == set(cluster.created) - set(KINDS["v1"].values())
