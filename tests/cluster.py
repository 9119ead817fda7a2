"""A Kubernetes API server of one version, run for real on the loopback with Debian's etcd.

There are no controllers: nothing makes pods of a Deployment, schedules or runs them, so a test makes those
that admission is to judge.
"""

import json
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import trustme
import yaml

from tests import editions
from tests.programs import environment, missing, program, unused_port

RESTRICTED = "restricted"
"""The namespace of what names none."""
_NOT_OURS = ("event/", "serviceaccount/default in ", "service/kubernetes in default")


@dataclass(frozen=True)
class Cluster:
    """What a client needs to know of a running Kubernetes."""

    kubeconfig: Path
    _kubectl: str

    def kubectl(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run kubectl of the cluster's version as an administrator."""
        flags = (f"--kubeconfig={self.kubeconfig}", f"--cache-dir={self.kubeconfig.parent}/cache")
        return _run(self._kubectl, *flags, *arguments, stdin=stdin)

    def get(self, *arguments: str) -> str:
        """Return what kubectl prints, which must succeed."""
        done = self.kubectl(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def create(self, *objects: dict[str, Any]) -> None:
        """Create objects that the test itself needs."""
        done = self.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(objects))
        assert done.returncode == 0, done.stderr

    @cached_property
    def _types(self) -> str:
        return ",".join(
            self.get("api-resources", "--namespaced", "--verbs=list,delete", "-o", "name").split()
        )

    def objects(self) -> list[str]:
        """Return all objects of all namespaces but those that Kubernetes itself makes there."""
        columns = "-o=custom-columns=K:.kind,N:.metadata.name,S:.metadata.namespace"
        done = self.kubectl("get", self._types, "-A", "--no-headers", columns)
        assert done.returncode == 0, done.stderr
        rows = (line.split() for line in done.stdout.splitlines())
        found = [f"{kind.lower()}/{name} in {space}" for kind, name, space in rows if "kube-" not in space]
        assert found, "the namespaces have accounts at least"
        return sorted(one for one in found if not one.startswith(_NOT_OURS))


def eventually(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Ask again and again, until `condition` holds or the time is over."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, condition
        time.sleep(0.1)


@contextmanager
def cluster(version: str, folder: Path) -> Iterator[Cluster]:
    """Run an API server of this version until the test is done."""
    token, key = secrets.token_hex(16), folder / "accounts.pem"
    key.write_bytes(trustme.CA(key_type=trustme.KeyType.RSA).private_key_pem.bytes())
    (folder / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n")
    etcd, peers, port = (unused_port() for _ in range(3))
    url, kubeconfig = f"https://127.0.0.1:{port}", folder / "kubeconfig"
    _write_kubeconfig(kubeconfig, url, token, folder / "certificates/apiserver.crt")
    with ExitStack() as stack:
        stack.enter_context(_running(folder, program("etcd"), *_etcd(folder, etcd, peers)))
        server = _built(version, "kube-apiserver")
        stack.enter_context(_running(folder, server, *_apiserver(folder, key, etcd, port)))
        running = Cluster(kubeconfig, _built(version, "kubectl"))
        eventually(lambda: running.kubectl("get", "--raw=/readyz").returncode == 0)
        yield running


def _built(version: str, name: str) -> str:
    path = editions.kubernetes(version) / name
    return (
        str(path) if path.exists() else missing(f"{name} (tools/programs/build.sh kubernetes) is not built")
    )


def _write_kubeconfig(file: Path, url: str, token: str, ca: Path) -> None:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "it", "cluster": {"server": url, "certificate-authority": str(ca)}}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "admin", "namespace": RESTRICTED}}],
        "current-context": "it",
    }
    file.write_text(json.dumps(content))


def _etcd(folder: Path, port: int, peers: int) -> list[str]:
    ours, theirs = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peers}"
    return [
        f"--data-dir={folder}/etcd",
        f"--listen-client-urls={ours}",
        f"--advertise-client-urls={ours}",
        f"--listen-peer-urls={theirs}",
        f"--initial-advertise-peer-urls={theirs}",
        f"--initial-cluster=default={theirs}",
    ]


def _apiserver(folder: Path, key: Path, etcd: int, port: int) -> list[str]:
    return [
        f"--etcd-servers=http://127.0.0.1:{etcd}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={folder}/certificates",
        "--endpoint-reconciler-type=none",  # no Endpoints of a loopback address
        "--service-cluster-ip-range=10.96.0.0/16",
        f"--token-auth-file={folder}/tokens.csv",
        "--authorization-mode=RBAC",
        "--disable-admission-plugins=StorageObjectInUseProtection",  # a controller would let claims go
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
    ]


@contextmanager
def _running(folder: Path, command: str, *flags: str) -> Iterator[None]:
    log = folder / f"{Path(command).name}.log"
    with (
        log.open("wb") as file,
        subprocess.Popen([command, *flags], stdout=file, stderr=file, env=environment(None)) as process,
    ):
        try:
            yield
        finally:
            process.kill()


def _run(*command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, input=stdin, capture_output=True, text=True, env=environment(None), timeout=120, check=False
    )
