"""The Grafana dashboards that match this version: files of the package, or of the checkout it runs from."""

from pathlib import Path

_PACKAGE = Path(__file__).parent


def write_dashboards(folder: Path) -> list[Path]:
    """Write each dashboard as JSON into `folder`, which is created when missing; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for source in sorted(_dashboards().glob("*.json")):
        target = folder / source.name
        target.write_bytes(source.read_bytes())
        written.append(target)
    return written


def _dashboards() -> Path:
    built = _PACKAGE / "dashboards"
    return built if built.is_dir() else _PACKAGE.parent / "grafana" / "dashboards"
