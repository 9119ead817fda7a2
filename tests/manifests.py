"""Kubernetes manifests as the tests want them: rendered, parsed, and judged by those who know.

kustomize renders them; kubernetes-validate holds the schemas of Kubernetes, the npm package
@kubernetes-models/prometheus-operator those of its resources, and checkov the policies. Where one of these is
missing, the test is skipped, or fails where all are required.
"""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from exporter.settings import Command, Settings, load, options
from tests.programs import ROOT, environment, missing, program

Manifest = dict[str, Any]

OLDEST, NEWEST = "1.25", "1.37"  # of Kubernetes, as deploy/kubernetes/README.md promises

_rendered: dict[tuple[str, str], str] = {}
_OPERATOR = "monitoring.coreos.com"
_OPERATOR_PACKAGE = "@kubernetes-models/prometheus-operator"


def kustomized(folder: Path) -> str:
    """Render a kustomization as `kubectl apply -k` does, without any further flag; what was rendered is kept.

    The kustomize of `.ci/run` is that of the oldest kubectl promised; kubectl renders where it is alone.
    """
    content = hashlib.sha256()
    for file in sorted(folder.parent.rglob("*")):
        if file.is_file():
            content.update(f"{file.relative_to(folder.parent)}\0{file.stat().st_size}\0".encode())
            content.update(file.read_bytes())
    name = folder.name, content.hexdigest()
    if name not in _rendered:
        kubectl = shutil.which("kubectl")
        if kubectl and not shutil.which("kustomize"):
            _rendered[name] = kustomized_by(folder, kubectl, "kustomize")
        else:
            _rendered[name] = kustomized_by(folder, program("kustomize"), "build")
    return _rendered[name]


def kustomized_by(folder: Path, *command: str) -> str:
    """Render a kustomization by a command."""
    done = _run(*command, str(folder))
    assert done.returncode == 0, done.stderr
    return done.stdout


def with_components(
    folder: Path, combinations: Mapping[str, Iterable[str]]
) -> dict[str, tuple[Manifest, ...]]:
    """Render the base with combinations of components, as kustomizations of one's own."""
    tree = folder / "kubernetes"
    shutil.copytree(ROOT / "deploy/kubernetes", tree)
    for name, parts in combinations.items():
        components = [f"../components/{part}" for part in parts]
        write_kustomization(tree / name, resources=["../base"], components=components)
    return together(tree, combinations)


def together(tree: Path, folders: Iterable[str]) -> dict[str, tuple[Manifest, ...]]:
    """Render kustomizations of a tree at once, since the start of kustomize takes most of its time.

    They are kept apart by namespaces, so that of their own is not told.
    """
    for folder in folders:
        write_kustomization(tree / "together" / folder, resources=[f"../../{folder}"], namespace=folder)
    write_kustomization(tree / "together", resources=list(folders))
    found: dict[str, list[Manifest]] = {folder: [] for folder in folders}
    for manifest in deepcopy(parsed(kustomized(tree / "together"))):
        found[manifest["metadata"].pop("namespace")].append(manifest)
    return {folder: tuple(manifests) for folder, manifests in found.items()}


def write_kustomization(folder: Path, **content: object) -> None:
    """Write a kustomization into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


@cache
def parsed(text: str) -> tuple[Manifest, ...]:
    """Return the manifests of a rendered text; they are shared, so copy one before you change it."""
    return tuple(document for document in yaml.load_all(text, yaml.CSafeLoader) if document)


def of_kind(manifests: Iterable[Manifest], kind: str) -> list[Manifest]:
    """Return the manifests of one kind."""
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def the(kind: str, manifests: Iterable[Manifest]) -> Manifest:
    """Return the only manifest of one kind."""
    (found,) = of_kind(manifests, kind)
    return found


def named(name: str, manifests: Iterable[Manifest]) -> Manifest:
    """Return the only manifest of a name."""
    (found,) = (manifest for manifest in manifests if manifest["metadata"]["name"] == name)
    return found


def pod_of(manifests: Iterable[Manifest]) -> Manifest:
    """Return the pod's specification in the one Deployment."""
    pod: Manifest = the("Deployment", manifests)["spec"]["template"]["spec"]
    return pod


def exporter_of(manifests: Iterable[Manifest]) -> Manifest:
    """Return the exporter's container."""
    return next(dict(one) for one in pod_of(manifests)["containers"] if one["name"] == "exporter")


def schema_errors(manifests: Iterable[Manifest], version: str) -> list[str]:
    """Say what the schemas of one Kubernetes refuse, unknown fields too; custom resources are left out."""
    own = _shortened(manifest for manifest in manifests if not _is_custom(manifest))
    command = program("kubernetes-validate"), "--strict", "-k", version, "-"
    done = _run(*command, stdin=yaml.dump_all(own, Dumper=yaml.CSafeDumper))
    lines = (done.stdout + done.stderr).splitlines()
    assert len(lines) >= len(own) > 0, done
    return [line for line in lines if not line.startswith("INFO")]


def _shortened(manifests: Iterable[Manifest]) -> list[Manifest]:
    """Return each manifest once, without the ends of long texts, which only take time to read."""
    return list({json.dumps(short): short for short in map(_short, manifests)}.values())


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _short(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_short(member) for member in value]
    return value[:253] if isinstance(value, str) else value  # the longest name that Kubernetes takes


def custom_resource_errors(manifests: Iterable[Manifest]) -> list[str]:
    """Say what the schemas of the Prometheus Operator refuse in its own resources, unknown fields too."""
    custom = [one for one in manifests if str(one["apiVersion"]).startswith(_OPERATOR)]
    script = str(ROOT / "tests/custom_resources.mjs")
    done = _run(program("node"), script, str(_npm_package(_OPERATOR_PACKAGE)), stdin=json.dumps(custom))
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def policy_findings(manifests: Iterable[Manifest], folder: Path) -> set[str]:
    """Return what the policy scan finds in manifests, written to a folder: the numbers of the checks."""
    file = folder / "manifests.yml"
    file.write_text(yaml.safe_dump_all(_shortened(manifests)), encoding="utf-8")
    options = ("--framework=kubernetes", "--skip-download", "--quiet", "--output=json", f"--file={file}")
    done = _run(program("checkov"), *options)
    assert done.returncode in (0, 1), done.stderr
    report = json.loads(done.stdout)
    assert report["summary"]["passed"] > 0
    return {check["check_id"] for check in report["results"]["failed_checks"]}


def settings_of(manifests: Sequence[Manifest], folder: Path) -> tuple[Command, Settings]:
    """Read the settings as the container would, its ConfigMap laid out below `folder`."""
    container = exporter_of(manifests)
    arguments = [str(argument) for argument in container["args"]]
    environ = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    (flag,) = (argument for argument in arguments if argument.startswith("--config.file="))
    path = Path(flag.partition("=")[2])
    config = mounted(manifests, path)
    here = folder / path.name
    here.write_text(config, encoding="utf-8")
    known = {option.variable for option in options()}
    assert {name for name in environ if name.startswith("COHERE_EXPORTER_")} <= known
    return load([argument.replace(str(path), str(here)) for argument in arguments], environ)


def mounted(manifests: Sequence[Manifest], path: Path) -> str:
    """Return the text that a container of the Deployment finds at `path`, from a ConfigMap."""
    volume = volume_at(manifests, path.parent)
    name = volume["configMap"]["name"]
    (source,) = (one for one in of_kind(manifests, "ConfigMap") if one["metadata"]["name"] == name)
    text: str = source["data"][path.name]
    return text


def volume_at(manifests: Sequence[Manifest], path: Path) -> Manifest:
    """Return the volume that the exporter mounts at `path`."""
    pod, container = pod_of(manifests), exporter_of(manifests)
    (mount,) = (mount for mount in container["volumeMounts"] if mount["mountPath"] == str(path))
    (volume,) = (volume for volume in pod["volumes"] if volume["name"] == mount["name"])
    return dict(volume)


def _is_custom(manifest: Manifest) -> bool:
    return "." in str(manifest["apiVersion"]).partition("/")[0].removesuffix(".k8s.io")


def _npm_package(name: str) -> Path:
    root = Path(_run(program("npm"), "root", "--global").stdout.strip())
    return root / name if (root / name).is_dir() else missing(f"{name} is not installed by npm, globally")


def _run(*command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, input=stdin, capture_output=True, text=True, env=environment(None), timeout=120, check=False
    )
