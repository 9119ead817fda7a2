"""The first `make` on a machine that lacks something."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "Makefile", tmp_path)
    return tmp_path


def make(checkout: Path, *, ensurepip: bool = True) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"]}
    if not ensurepip:  # as on Debian and Ubuntu without python3-venv
        (checkout / "without").mkdir()
        (checkout / "without" / "ensurepip.py").write_text("raise ModuleNotFoundError")
        environ["PYTHONPATH"] = str(checkout / "without")
    command = ["make", ".venv/.created", f"PYTHON={sys.executable}"]
    return subprocess.run(command, cwd=checkout, env=environ, capture_output=True, text=True, check=False)


def has_pip(checkout: Path) -> bool:
    command = [str(checkout / ".venv" / "bin" / "python"), "-m", "pip", "--version"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_without_venv_one_line_names_the_package_and_nothing_is_left(checkout: Path) -> None:
    run = make(checkout, ensurepip=False)
    package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    assert run.returncode != 0
    assert run.stderr.splitlines()[0] == f"needs the package {package}: sudo apt install {package}"
    assert not (checkout / ".venv").exists()


def test_an_environment_without_pip_is_made_anew(checkout: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", checkout / ".venv"], check=True)
    assert not has_pip(checkout)
    assert make(checkout).returncode == 0
    assert has_pip(checkout)


@pytest.mark.parametrize(
    ("user", "go", "missing"),
    [("1000", "go1.26", "root"), ("0", "go1.19.8", "Go 1.26"), ("0", "", "Go 1.26")],
)
def test_ci_says_first_what_it_cannot_install(tmp_path: Path, user: str, go: str, missing: str) -> None:
    for name in ("bash", "dirname", "sort"):
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    for name, answer in {"id": user, **({"go": go} if go else {})}.items():
        (tmp_path / name).write_text(f"#!{tmp_path}/bash\necho {answer}\n")
        (tmp_path / name).chmod(0o755)
    command = [str(tmp_path / "bash"), str(ROOT / ".ci" / "run")]
    run = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith(f".ci/run needs {missing}")
    assert len(run.stderr.splitlines()) == 1
