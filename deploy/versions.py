"""The exporter's version, wherever a deployment or a page names it: of the image, the chart and the tag."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = (
    "deploy/compose/compose.yml",
    "deploy/docker/Dockerfile",
    "deploy/docker/README.md",
    "deploy/helm/cohere-finetune-exporter/Chart.yaml",
    "deploy/kubernetes/README.md",
    "deploy/kubernetes/base/deployment.yaml",
    "deploy/kubernetes/base/kustomization.yaml",
    "deploy/kubernetes/example/kustomization.yaml",
    "docs/gitops.md",
)
_BEFORE = (
    "cohere-finetune-exporter:",  # the image
    r"\bVERSION=",  # its build argument
    r"`VERSION` \| `",
    "newTag: ",
    "kubernetes.io/version: ",
    "^version: ",  # of the chart
    '^appVersion: "',
    r"\bref=v",  # the tag
    "targetRevision: v",
)
_VERSION = re.compile(rf"({'|'.join(_BEFORE)})\d+\.\d+\.\d+\w*", re.MULTILINE)


def files(version: str) -> Iterator[tuple[Path, str]]:
    """Return each file that names the version, with its content at this one."""
    for name in FILES:
        path = ROOT / name
        yield path, _VERSION.sub(rf"\g<1>{version}", path.read_text(encoding="utf-8"))
