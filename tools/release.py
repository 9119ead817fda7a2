"""Builds what a release consists of into `dist/`: `make release`.

The version is that of `exporter/__init__.py`; tag, changelog and every file that names it must agree with it.
Nothing is signed here: a signature is worth what the identity behind it is, so CI attests the files that
SHA256SUMS lists.
"""

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy import versions
from exporter import __version__

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
CHART = ROOT / "deploy" / "helm" / "cohere-finetune-exporter"
NAME = f"cohere-finetune-exporter-{__version__}"
PARTS = ("sdist", "wheel", "image", "chart", "sbom", "sums")
_SCRIPTS = Path(sys.executable).parent


class ReleaseError(Exception):
    """The release cannot be built; the message says what to do."""


def main() -> int:
    """Build the parts named, all by default; return the exit code."""
    parser = argparse.ArgumentParser(prog="make release", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="what to build; all by default")
    parser.add_argument("--tag", default="", help="the tag of the release, v and the version")
    arguments = parser.parse_args()
    try:
        notes = _agreed(arguments.tag)
        shutil.rmtree(DIST, ignore_errors=True)
        DIST.mkdir()
        (DIST / "NOTES.md").write_text(notes, encoding="utf-8")
        for part in [part for part in PARTS if part in (arguments.parts or PARTS)]:
            print(f"{part} ...", flush=True)
            _BUILD[part]()
    except ReleaseError as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"release: {Path(error.cmd[0]).name} failed", file=sys.stderr)
        return 1
    print(*sorted(path.name for path in DIST.iterdir()), sep="\n")
    return 0


def section(changelog: str, heading: str) -> str:
    """Return the text of a section of the changelog, "" when there is none."""
    found = re.search(
        rf"^## \[?{re.escape(heading)}(?:[] ].*?)?\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL
    )
    return found[1].strip() + "\n" if found else ""


def _agreed(tag: str) -> str:
    """Return the notes of the release; ReleaseError when a file, tag or changelog has another version."""
    for path, content in versions.files(__version__):
        if path.read_text(encoding="utf-8") != content:
            raise ReleaseError(f"{path.name} names another version; run make manifests")
    if tag and tag != f"v{__version__}":
        raise ReleaseError(f"the tag is {tag}, the version {__version__}")
    heading = __version__ if tag else "Unreleased"
    notes = section((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), heading)
    if not notes:
        raise ReleaseError(f"CHANGELOG.md has no section {heading}")
    return notes


def _sdist() -> None:
    _run(_SCRIPTS / "python", "-m", "build", "--no-isolation", "--sdist", "--outdir", DIST, ROOT)
    _run(_SCRIPTS / "twine", "check", "--strict", *DIST.glob("*.tar.gz"))


def _wheel() -> None:
    # From the sdist, as `python -m build` does by itself, so that whoever builds it gets the same bytes.
    _run(_SCRIPTS / "python", "-m", "build", "--no-isolation", "--outdir", DIST, ROOT)
    _run(_SCRIPTS / "twine", "check", "--strict", *DIST.glob("*.whl"))
    _run(_SCRIPTS / "check-wheel-contents", *DIST.glob("*.whl"))


def _image() -> None:
    builder = next((name for name in ("podman", "docker") if shutil.which(name)), None)
    if builder is None:
        raise ReleaseError("the image needs podman or docker; name the other parts to go without")
    _run("make", "image", f"BUILDER={builder}")
    archive = DIST / f"{NAME}.image.tar"
    _run(builder, "save", "--output", archive, f"cohere-finetune-exporter:{__version__}")


def _chart() -> None:
    if not shutil.which("helm"):
        raise ReleaseError("the chart needs helm; name the other parts to go without")
    _run("helm", "package", CHART, "--destination", DIST)
    built = next(DIST.glob("cohere-finetune-exporter-*.tgz"))
    built.rename(DIST / f"{NAME}.chart.tgz")


def _sbom() -> None:
    lock, file = ROOT / "requirements.lock", DIST / f"{NAME}.cdx.json"
    _run(  # its warning, that it knows no dependencies, is about what is added below
        *(_SCRIPTS / "python", "-W", "ignore", "-m", "cyclonedx_py", "requirements", "--output-reproducible"),
        *("--pyproject", ROOT / "pyproject.toml", "--output-file", file, lock),
    )
    bom = json.loads(file.read_text(encoding="utf-8"))
    bom["metadata"]["component"]["version"] = __version__
    bom["dependencies"] = dependencies(bom, lock.read_text(encoding="utf-8"))
    file.write_text(json.dumps(bom, indent=2) + "\n", encoding="utf-8")


def dependencies(bom: Mapping[str, Any], lock: str) -> list[dict[str, Any]]:
    """Return what each component of an SBOM depends on, as the lock's comments say, the package first."""
    root = bom["metadata"]["component"]
    refs = {part["name"]: part["bom-ref"] for part in (root, *bom["components"])}
    needs: dict[str, list[str]] = {ref: [] for ref in refs.values()}
    for name, via in re.findall(r"^([\w.-]+)==(.*?)(?=^\w|\Z)", lock, re.MULTILINE | re.DOTALL):
        for parent in re.findall(r"^    # (?:via |  )([\w.-]+)", via, re.MULTILINE):
            needs[refs[parent]].append(refs[name])
    return [{"ref": ref, "dependsOn": found} if found else {"ref": ref} for ref, found in needs.items()]


def _sums() -> None:
    files = sorted(path for path in DIST.iterdir() if path.is_file())
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (DIST / "SHA256SUMS").write_text("".join(lines), encoding="ascii")


def _run(*command: str | Path) -> None:
    subprocess.run([str(word) for word in command], check=True, cwd=ROOT)  # noqa: S603 - fixed commands


_BUILD = {
    "sdist": _sdist,
    "wheel": _wheel,
    "image": _image,
    "chart": _chart,
    "sbom": _sbom,
    "sums": _sums,
}

if __name__ == "__main__":
    sys.exit(main())
