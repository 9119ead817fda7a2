"""Build hook: writes the source's revision into `exporter/__init__.py` of what is built.

The revision comes from git. A build without git, as from an unpacked sdist, keeps the one that was written
when the sdist was made.
"""

import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_UNKNOWN = 'REVISION = "unknown"'
_MODULE = "exporter/__init__.py"


class RevisionHook(BuildHookInterface[Any]):
    """Replaces one file of the package."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the file with the revision in place of the source's."""
        source = (Path(self.root) / _MODULE).read_text(encoding="utf-8")
        revision = _revision(self.root)
        if version == "editable" or revision is None or _UNKNOWN not in source:
            return
        self._folder = tempfile.TemporaryDirectory()
        stamped = Path(self._folder.name) / "__init__.py"
        stamped.write_text(source.replace(_UNKNOWN, f'REVISION = "{revision}"'), encoding="utf-8")
        stamped.chmod(0o644)
        build_data["force_include"][str(stamped)] = _MODULE


def _revision(root: str) -> str | None:
    if not (Path(root) / ".git").exists():
        return None  # not that of a repository further up
    command = ["git", "-C", root, "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603 - a fixed command
    except (OSError, subprocess.CalledProcessError):
        return None
