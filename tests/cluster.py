"""A Kubernetes API server of one version, run for real on the loopback with Debian's etcd.

There are no controllers: nothing makes pods of a Deployment, schedules or runs them, so a test makes those
that admission is to judge.
"""

import base64
import json
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import trustme
import yaml

from tests import editions
from tests.programs import environment, missing, program
from tools.ports import unused_port

RESTRICTED = "restricted"
"""The namespace of what names none."""
_NOT_OURS = ("/registry/events/", "/registry/leases/", "/registry/masterleases/")


@dataclass
class Cluster:
    """A running Kubernetes, asked by kubectl, by HTTP, and in its database."""

    kubeconfig: Path
    api: httpx.Client
    client: str
    database: str
    given: set[str] = field(default_factory=set)
    """The keys of the objects that are there before a test makes any."""

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """Run kubectl of the cluster's version as an administrator; it must succeed and say no warning."""
        done = self._run(*arguments, stdin=stdin)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def refusal(self, *arguments: str, stdin: str = "") -> str:
        """Return what kubectl says when it fails, as it must."""
        done = self._run(*arguments, stdin=stdin)
        assert done.returncode == 1, done.stdout
        return done.stderr

    def _run(self, *arguments: str, stdin: str) -> subprocess.CompletedProcess[str]:
        flags = (f"--kubeconfig={self.kubeconfig}", f"--cache-dir={self.kubeconfig.parent}/cache")
        return _run(self.client, *flags, *arguments, stdin=stdin)

    def apply(self, *source: str, stdin: str = "") -> list[dict[str, Any]]:
        """Apply manifests on the server's side; return the objects that they became."""
        content = json.loads(self.kubectl("apply", "--server-side", "-o=json", *source, stdin=stdin))
        objects: list[dict[str, Any]] = content["items"] if content["kind"] == "List" else [content]
        for one in objects:
            del one["metadata"]["resourceVersion"]  # may move on although nothing changes
        return objects

    def create(self, *objects: Mapping[str, Any]) -> None:
        """Apply objects that the test itself needs."""
        self.apply("-f=-", stdin=yaml.safe_dump_all(objects))

    def items(self, path: str) -> list[dict[str, Any]]:
        """Return the objects that the API lists at a path."""
        answer = self.api.get(path)
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()["items"]
        return found

    def made(self) -> set[str]:
        """Return the keys of the objects that are there beside the given ones."""
        return self.stored() - self.given

    def stored(self) -> set[str]:
        """Return the keys of all objects in the database, of whichever kind and namespace."""
        first, behind = (base64.b64encode(key).decode() for key in (b"/registry/", b"/registry0"))
        wanted = {"key": first, "range_end": behind, "keys_only": True}
        answer = httpx.post(f"{self.database}/v3/kv/range", json=wanted, trust_env=False)
        rows = answer.raise_for_status().json()["kvs"]
        keys = {base64.b64decode(row["key"]).decode() for row in rows}
        return {key for key in keys if not key.startswith(_NOT_OURS)}


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
        headers = {"Authorization": f"Bearer {token}"}
        api = httpx.Client(base_url=url, headers=headers, verify=False, trust_env=False, timeout=60)
        running = Cluster(
            kubeconfig, stack.enter_context(api), _built(version, "kubectl"), f"http://127.0.0.1:{etcd}"
        )
        eventually(lambda: _is_ready(api))
        yield running


def _is_ready(api: httpx.Client) -> bool:
    try:
        return api.get("/readyz").is_success
    except httpx.TransportError:
        return False


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
    file.chmod(0o600)  # or Helm warns of it


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
