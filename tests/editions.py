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
BUILT = {"otelcol": "otelcol", "json_exporter": "json_exporter", "vmalert-tool": "victoria"}
"""Programs that no edition but the current one has, and what they are built with."""

_PINNED = {
    "otelcol": "receiver/prometheusreceiver",
    "victoria": "VictoriaMetrics/VictoriaMetrics",
    "kubernetes": "k8s.io/kubernetes",
}
"""The module that has the version of the programs in a folder, whose name may end in a version."""

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
    if program in BUILT:
        return EDITIONS[1].find(program)
    if program not in PROGRAMS:
        return DEBIAN.find(program)
    assert in_use, f"a test that runs {program} runs for every edition"
    return in_use.find(program)


def describe(program: str) -> str:
    """Return where a program comes from, for the reason of a skipped test."""
    if program in BUILT:
        return f"tools/programs/build.sh {BUILT[program]}"
    return "tools/programs/build.sh" if program in PROGRAMS and in_use is not DEBIAN else "a Debian package"


def kubernetes(version: str) -> Path:
    """Return the folder of the programs of a Kubernetes of one minor version."""
    return CURRENT.parent / f"kubernetes-{version}"


def version(edition: Edition, program: str) -> str | None:
    """Return the version a program prints of itself, None where it is not installed."""
    if (found := edition.find(program)) is None:
        return None
    done = subprocess.run([found, "--version"], capture_output=True, text=True, check=True, timeout=30)
    return re.split(r"[\s,+]", (done.stdout or done.stderr).split("version ")[1])[0]


def pinned(program: str) -> str:
    """Return the version of the current edition, as its module is pinned.

    Prometheus 3.16.0 is 0.316.0 as a module.
    """
    module = _PINNED.get(program.partition("-")[0], f"prometheus/{program}")
    text = (_MODULES / program / "go.mod").read_text(encoding="utf-8")
    major, minor, patch = re.findall(rf"{module} v(\d+)\.(\d+)\.(\d+)", text)[0]
    return f"{minor[0]}.{int(minor[1:])}.{patch}" if program == "prometheus" else f"{major}.{minor}.{patch}"
