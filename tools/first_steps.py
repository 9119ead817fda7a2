"""Records docs/first-steps.md anew: `python -m tools.first_steps`, as root on Debian with mmdebstrap.

The page says which commands run; what they print is written beneath each. Commands under a heading that names
a width run here, at that width; the others on a fresh Debian without python3-venv, in a clone of this
repository's last commit. A demo is ended by Ctrl-C as soon as it says where to open it.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "first-steps.md"
_CLONE = "/srv/cohere-finetune-exporter"
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_WIDTH = re.compile(r"^## .*?(\d+) columns$", re.MULTILINE)
# Of the machine it runs on, the fresh one has the way to the network and nothing else.
_KEPT = ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt")
_ENVIRON = {
    "HOME": "/root",
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "PIP_CERT": _KEPT[-1],
    "COHERE_EXPORTER_WEB_LISTEN_ADDRESS": "127.0.0.1:10220",
}


def main() -> int:
    """Write the page anew; return the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        machine = Path(folder) / "debian"
        prepare(machine)
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(_BLOCK.sub(lambda block: recorded(block, machine), page), encoding="utf-8")
    return 0


def prepare(machine: Path) -> None:
    """Install a Debian in which somebody has just cloned this repository."""
    packages = "--include=python3,make,git,sudo,ca-certificates"
    subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", packages, "bookworm", machine], check=True)  # noqa: S603, S607 - fixed
    for path in _KEPT:
        shutil.copy(path, machine / path[1:])
    (machine / "etc/apt/apt.conf.d/yes").write_text('APT::Get::Assume-Yes "true";\n', encoding="utf-8")
    subprocess.run(["git", "clone", "--quiet", ROOT, machine / _CLONE[1:]], check=True)  # noqa: S603, S607 - fixed
    output("apt-get update", on(machine), _ENVIRON)


def recorded(block: re.Match[str], machine: Path) -> str:
    """Return a block with what its commands print now."""
    widths = _WIDTH.findall(block.string, 0, block.start())
    lines = []
    for command in re.findall(r"^\$ (.*)$", block[1], re.MULTILINE):
        if widths:
            here = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": widths[-1]}
            printed = output(command, (), here)
        else:
            printed = output(command, on(machine), _ENVIRON)
        lines += [f"$ {command}", *(["..."] if " apt " in command else printed)]
    return "```console\n" + "\n".join(lines) + "\n```"


def on(machine: Path) -> Sequence[str]:
    """Return what runs a command in the clone on a machine."""
    return ("chroot", str(machine), "env", f"--chdir={_CLONE}")


def output(command: str, prefix: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """Return the lines that a command prints; a demo is interrupted once it serves."""
    words = [*prefix, *shlex.split(command)]
    lines = []
    with subprocess.Popen(  # noqa: S603 - a command of the page
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environ,
        text=True,
        start_new_session=True,
    ) as process:
        for line in process.stdout or ():
            # Where in the Makefile it stands changes with every edit of that file.
            lines.append(re.sub(r"\[Makefile:\d+: ", "[Makefile: ", line.rstrip()))
            if line.startswith("Open http"):
                lines.append("^C")
                os.killpg(process.pid, signal.SIGINT)
    return lines


if __name__ == "__main__":
    sys.exit(main())
