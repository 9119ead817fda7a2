"""What comes with this version for Grafana and Prometheus.

The dashboards are files of the package, or of the checkout that it runs from.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from exporter.rules import RulesError
from exporter.runtime.yaml import NotYaml, located, read_yaml

_PACKAGE = Path(__file__).parent


def write_dashboards(folder: Path) -> list[Path]:
    """Write each dashboard as JSON into `folder`, which is created when missing; return the files.

    Raise FileNotFoundError when this installation has none.
    """
    sources = sorted(_dashboards().glob("*.json"))
    if not sources:
        raise FileNotFoundError("this installation has no dashboards")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for source in sources:
        target = folder / source.name
        target.write_bytes(source.read_bytes())
        written.append(target)
    return written


def read_values(file: Path) -> Mapping[str, Any]:
    """Return the values for the rules that a YAML file holds. Raise RulesError."""
    try:
        content, _ = read_yaml(file)
    except NotYaml as error:
        raise RulesError(located(file, error.line, str(error))) from None
    if not isinstance(content, dict | None):
        raise RulesError(f"{file}: must be a mapping")
    return content or {}


def _dashboards() -> Path:
    built = _PACKAGE / "dashboards"
    return built if built.is_dir() else _PACKAGE.parent / "grafana" / "dashboards"
