"""The first `make` on a machine that lacks something."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "Makefile", tmp_path)
    return tmp_path


def make(
    checkout: Path, *, ensurepip: bool = True, python: str = sys.executable
) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"]}
    if not ensurepip:  # as on Debian and Ubuntu without python3-venv
        (checkout / "without").mkdir()
        (checkout / "without" / "ensurepip.py").write_text("raise ModuleNotFoundError")
        environ["PYTHONPATH"] = str(checkout / "without")
    command = ["make", ".venv/.created", f"PYTHON={python}"]
    return subprocess.run(command, cwd=checkout, env=environ, capture_output=True, text=True, check=False)


def test_without_venv_one_line_names_the_package_and_nothing_is_left(checkout: Path) -> None:
    run = make(checkout, ensurepip=False)
    package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    assert run.returncode != 0
    assert run.stderr.splitlines()[0] == f"needs the package {package}: sudo apt install {package}"
    assert not (checkout / ".venv").exists()


def test_an_environment_without_pip_is_made_anew(checkout: Path) -> None:
    python, without_pip = checkout / "python", checkout / ".venv/bin/python"
    without_pip.parent.mkdir(parents=True)
    making = f'#!/bin/sh\n[ "$1" = -m ] || exec {sys.executable} "$@"\necho "$@" >made\n'
    for file, script in ((python, making), (without_pip, "#!/bin/sh\nexit 1\n")):
        file.write_text(script)
        file.chmod(0o755)
    assert make(checkout, python=str(python)).returncode == 0
    assert (checkout / "made").read_text() == "-m venv --clear .venv\n"


@pytest.mark.parametrize(
    ("user", "go", "missing"),
    [("1000", "go1.99", ".ci/run needs root"), ("0", "go1.26.6", "needs Go 1.2"), ("0", "", "needs Go 1.2")],
)
def test_ci_says_first_what_it_cannot_install(tmp_path: Path, user: str, go: str, missing: str) -> None:
    for name, answer in {"id": user, "go": go}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\necho {answer}\n" if answer else "#!/bin/sh\nexit 127\n")
        (tmp_path / name).chmod(0o755)
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    run = subprocess.run([ROOT / ".ci/run"], env=environ, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith(missing)
    assert len(run.stderr.splitlines()) == 1


@pytest.fixture
def built(tmp_path: Path) -> Callable[[], list[str]]:
    """Return what builds json_exporter by a Go that compiles nothing, and says what that Go was asked for."""
    asked = tmp_path / "asked"
    go = tmp_path / "go"
    go.write_text(
        f"""#!/bin/sh
        [ "$1" = env ] && echo go1.99 && exit
        echo "$1" >>{asked}
        while [ "$1" != -o ]; do shift; done
        [ ! -e {tmp_path}/interrupted ] || kill -9 $PPID
        touch "$2/json_exporter" && chmod +x "$2/json_exporter"
        """
    )
    go.chmod(0o755)
    environ = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PROGRAMS": str(tmp_path / "programs"),
    }

    def build() -> list[str]:
        asked.write_text("")
        command = [str(ROOT / "tools/programs/build.sh"), "json_exporter"]
        subprocess.run(command, env=environ, capture_output=True, check=False)
        return asked.read_text().split()

    return build


def test_a_program_is_built_once_and_again_when_it_is_gone_or_its_build_broke_off(
    built: Callable[[], list[str]], tmp_path: Path
) -> None:
    assert built() == ["build"]
    assert built() == []
    (tmp_path / "programs/bin/json_exporter").unlink()
    (tmp_path / "interrupted").touch()
    assert built() == ["build"]
    (tmp_path / "programs/bin/json_exporter").touch(mode=0o755)  # of another version, say
    assert built() == ["build"]
    (tmp_path / "interrupted").unlink()
    assert built() == ["build"]
    assert built() == []
