"""The image, built by buildah, and containers of it, run by podman, with nothing left behind.

Images, containers and settings live in a folder of the test, apart from those of the machine's user. No
registry of images is asked: under the name of the Dockerfile's base stands a Debian with its own Python. But
for a mounted pip.conf, which says where wheels are, the build is the one that users run. A container sees
this machine's loopback as `HOST`; its port is published on the loopback, too, and nowhere else.
"""

import asyncio
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.manifests import Manifest, pod_of
from tests.programs import ROOT, missing, program

DOCKERFILE = ROOT / "deploy/docker/Dockerfile"
HOST = "10.0.2.2"  # slirp4netns's address for the loopback of the machine outside
NETWORK = "slirp4netns:allow_host_loopback=true"
HARDENED = (
    "--read-only",
    "--read-only-tmpfs=false",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--memory=128m",
)

_SUITE, _PYTHON = "bookworm", "3.11"  # of the stand-in
_PACKAGES = "python3,python3-pip,dash,sed,coreutils,base-passwd"
_CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "cohere-finetune-exporter/image"
_LAYOUT = (  # as the base image has it: the interpreter in /usr/local, a list of users
    'mkdir -p "$1/usr/local/bin" "$1/etc"',
    f'ln -s ../../bin/python{_PYTHON} "$1/usr/local/bin/python"',
    'cp "$1/usr/share/base-passwd/passwd.master" "$1/etc/passwd"',
)
_CONTAINERS_CONF = """
[containers]
http_proxy = false
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_config_dir = "{folder}/networks"
"""
_STORAGE_CONF = """
[storage]
driver = "overlay"
graphroot = "{folder}/images"
runroot = "{folder}/run"
"""


def base_image() -> str:
    """Return the name of the base image, as the Dockerfile has it."""
    (name,) = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)
    return str(name)


class Engine:
    """podman and buildah, with everything they keep below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("podman", "buildah", "runc", "catatonit", "slirp4netns", "mmdebstrap"):
            program(name)
        if os.geteuid() != 0:
            missing("containers are run by root here")
        for name, text in (("containers.conf", _CONTAINERS_CONF), ("storage.conf", _STORAGE_CONF)):
            (folder / name).write_text(text.format(folder=folder), encoding="utf-8")

    async def podman(self, *arguments: str) -> str:
        """Run podman, which must succeed; return what it printed, on standard output."""
        code, out, err = await self.run("podman", *arguments)
        assert code == 0, err
        return out.strip()

    async def run(self, *command: str) -> tuple[int, str, str]:
        """Run a command to its end; return exit code, standard output and standard error."""
        own = {
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
        }
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **own},
            cwd=ROOT,
        )
        async with asyncio.timeout(300):
            out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def prepare(self) -> None:
        """Import the stand-in for the base image, and fetch the wheels that the lock file names."""
        base, wheels = await self._fetched()
        path = "ENV PATH=/usr/local/bin:/usr/bin:/bin"
        await self.podman("import", "--quiet", f"--change={path}", str(base), base_image())
        shutil.copytree(wheels, self.folder / "wheels")
        (self.folder / "pip.conf").write_text("[global]\nno-index = true\nfind-links = /wheels\n")

    async def _fetched(self) -> tuple[Path, Path]:
        """Return the stand-in and the folder of wheels, fetched once for each lock file and kept outside."""
        lock = (ROOT / "requirements.lock").read_bytes()
        kept = _CACHE / hashlib.sha256(f"{_SUITE} {_PACKAGES} {_LAYOUT}".encode() + lock).hexdigest()[:16]
        if not kept.exists():
            fetched = self.folder / "fetched"
            fetched.mkdir()
            hooks = [f"--extract-hook={command}" for command in _LAYOUT]
            # Unpacked, not installed: a fifth of the time, and nothing of what installing adds is needed.
            what = ("--variant=extract", f"--include={_PACKAGES}", *hooks)
            locked = ("--require-hashes", "--requirement=requirements.lock", "--only-binary=:all:")
            await asyncio.gather(
                self._must("mmdebstrap", "--quiet", *what, _SUITE, f"{fetched}/base.tar"),
                self._must(
                    *(sys.executable, "-m", "pip", "download", "--quiet", *locked),
                    *(f"--python-version={_PYTHON}", f"--dest={fetched}/wheels"),
                ),
            )
            shutil.rmtree(_CACHE, ignore_errors=True)  # of other lock files
            _CACHE.mkdir(parents=True)
            shutil.move(fetched, kept)
        return kept / "base.tar", kept / "wheels"

    async def build(
        self, tag: str, context: Path, arguments: Mapping[str, str], dockerfile: Path = DOCKERFILE
    ) -> None:
        """Build an image from a Dockerfile as it is; `arguments` are its build arguments."""
        await self._must(
            *("buildah", "build", "--isolation=chroot", "--pull-never", "--quiet"),
            f"--volume={self.folder}/wheels:/wheels:ro",
            f"--volume={self.folder}/pip.conf:/etc/pip.conf:ro",
            *(f"--build-arg={name}={value}" for name, value in arguments.items()),
            *(f"--file={dockerfile}", f"--tag={tag}", str(context)),
        )

    async def remove_all(self) -> None:
        """Remove every container, volume and image; the mounts go with them."""
        await self.podman("pod", "rm", "--all", "--force", "--time=0")
        await self.podman("rm", "--all", "--force", "--time=0")
        await self.podman("volume", "prune", "--force")
        await self.podman("rmi", "--all", "--force")

    @asynccontextmanager
    async def container(
        self, image: str, *arguments: str, volumes: Sequence[str] = (), **environ: str
    ) -> AsyncIterator["Container"]:
        """Run a hardened container of `image`, with port 10220 published, until the block ends."""
        name = await self.podman(
            *("run", "--detach", f"--network={NETWORK}", *HARDENED),
            "--publish=127.0.0.1::10220",
            *(f"--volume={volume}" for volume in volumes),
            *(f"--env={key}={value}" for key, value in environ.items()),
            *(image, *arguments),
        )
        try:
            async with self._watched(
                Container(self, name, await self.podman("port", name, "10220"))
            ) as container:
                yield container
        finally:
            await self.podman("rm", "--force", "--time=0", name)

    @asynccontextmanager
    async def pod(self, manifests: Iterable[Manifest], port: int, probes: int) -> AsyncIterator["Container"]:
        """Run the pod of a Deployment with its ConfigMap and Secret; its ports are published as these.

        Its volumes stay for the next pod.
        """
        file = self.folder / "pod.yaml"
        file.write_text(yaml.safe_dump_all(_playable(manifests, port, probes)), encoding="utf-8")
        await self.podman("play", "kube", f"--network={NETWORK}", str(file))
        try:
            name = await self.podman("ps", "--filter=name=-exporter$", "--format={{.Names}}")
            async with self._watched(Container(self, name, f"127.0.0.1:{port}")) as container:
                yield container
        finally:
            await self.podman("play", "kube", "--down", str(file))

    @asynccontextmanager
    async def _watched(self, container: "Container") -> AsyncIterator["Container"]:
        """Let what the container logged stand beside the failure of a test."""
        try:
            yield container
        except BaseException as error:
            error.add_note((await container.logs())[-2000:])
            raise

    async def _must(self, *command: str) -> None:
        code, out, err = await self.run(*command)
        assert code == 0, f"{' '.join(command)}\n{out}\n{err}"


def _playable(manifests: Iterable[Manifest], *ports: int) -> list[Manifest]:
    """Return what podman can run of the manifests, changed only where podman is no Kubernetes."""
    kept = [deepcopy(one) for one in manifests if one["kind"] in ("Secret", "ConfigMap", "Deployment")]
    pod = pod_of(kept)
    (container,) = pod["containers"]
    # A Service, or the kubelet, would reach them.
    for declared, port in zip(container["ports"], ports, strict=True):
        declared |= {"hostIP": "127.0.0.1", "hostPort": port}
    # Podman would run curl for them, within the container.
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        container.pop(probe, None)
    # Podman 4 crashes where Kubernetes' default is left to it.
    for volume in pod["volumes"]:
        if "secret" in volume:
            volume["secret"].setdefault("optional", False)
    # The objects that a pod names come first.
    return sorted(kept, key=lambda one: one["kind"] == "Deployment")


@dataclass(frozen=True)
class Container:
    """A container that runs, or ran; `address` is where its port is published."""

    engine: Engine
    name: str
    address: str

    async def inspect(self) -> dict[str, Any]:
        """Return what podman knows of it."""
        found: list[dict[str, Any]] = json.loads(await self.engine.podman("inspect", self.name))
        return found[0]

    async def status(self) -> dict[str, str]:
        """Return what the kernel says of its first process, seen outside: users, capabilities, memory."""
        lines = (line.partition(":") for line in await self._kernel_says("status"))
        return {name: value.strip() for name, _, value in lines}

    async def root_is_read_only(self) -> bool:
        """Say whether its root file system is mounted so."""
        mounts = [line.split() for line in await self._kernel_says("mountinfo")]
        (options,) = (mount[5] for mount in mounts if mount[4] == "/")
        return "ro" in options.split(",")

    async def write(self, path: str, text: str) -> None:
        """Write a file of a volume from outside, as a node does."""
        mounts = (await self.inspect())["Mounts"]
        (source,) = (mount["Source"] for mount in mounts if mount["Destination"] == str(Path(path).parent))
        await asyncio.to_thread((Path(source) / Path(path).name).write_text, text, "utf-8")

    async def logs(self) -> str:
        """Return what it printed, on standard error too."""
        _, out, err = await self.engine.run("podman", "logs", self.name)
        return out + err

    async def stop(self) -> int:
        """Send SIGTERM and give the exit code; SIGKILL follows after ten seconds."""
        await self.engine.podman("stop", "--time=10", self.name)
        return int((await self.inspect())["State"]["ExitCode"])

    async def _kernel_says(self, file: str) -> list[str]:
        pid = (await self.inspect())["State"]["Pid"]
        return await asyncio.to_thread(lambda: Path(f"/proc/{pid}/{file}").read_text("utf-8").splitlines())
