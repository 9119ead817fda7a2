"""The image, really built from its Dockerfile and really run: with every restriction, and as a pod."""

import asyncio
import json
import re
import shutil
import sys
import tarfile
import tempfile
from base64 import b64encode
from collections.abc import Iterable, Iterator
from copy import deepcopy
from pathlib import Path
from ssl import SSLContext
from typing import Any

import httpx
import pytest
import yaml

from exporter import NAME, __version__
from exporter.simulator import at_rest
from tests.certificates import Authority
from tests.containers import DOCKERFILE, HOST, Container, Engine, base_image
from tests.manifests import Manifest, kustomized, parsed, pod_of, the, with_components
from tests.programs import KEY, ROOT, program, run, simulated_api, wait_for
from tools.ports import unused_port

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

IMAGE = f"{NAME}:{__version__}"  # as the manifests have it
DIGEST = f"sha256:{'0' * 64}"
BUILT = {
    "VERSION": "1.2.3",
    "REVISION": "4f9d02c",
    "CREATED": "2026-01-02T03:04:05Z",
    "SOURCE": "https://git.example.com/exporter",
    "BASE_DIGEST": DIGEST,
}
USER = "65532"
MIB = 2**20
KUBERNETES = ROOT / "deploy/kubernetes"
SECRETS = (
    ".env",
    "api-key",
    "deploy/docker/api-key",
    ".git/config",
    "tests/x.py",
    "exporter/__pycache__/x.pyc",
)

# Run by the image's own Python: what of /app its user may write, what it must compile at each start, and pip.
OUGHT_TO_BE_EMPTY = """
import importlib.util, json, os, sys, exporter.cli
paths = [os.path.join(folder, name) for folder, _, files in os.walk("/app") for name in (".", *files)]
specs = [getattr(module, "__spec__", None) for module in sys.modules.values()]
print(json.dumps({
    "writable": [path for path in paths if os.access(path, os.W_OK)],
    "compiled anew": [one.name for one in specs if one and one.cached and not os.path.exists(one.cached)],
    "not wanted": [name for name in ("pip",) if importlib.util.find_spec(name)],
    "looked at": [] if len(paths) > 100 and len(specs) > 100 else [len(paths), len(specs)],
}))
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    # In a short folder: where the path of a socket is too long, each container takes 20 s to end.
    engine = Engine(Path(tempfile.mkdtemp(prefix="images-")))
    try:
        asyncio.run(engine.prepare())
        yield engine
    finally:
        asyncio.run(engine.remove_all())
        shutil.rmtree(engine.folder)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout under a strict umask, with things in it that are nobody's business."""
    context = tmp_path_factory.mktemp("checkout")
    for folder in ("exporter", "grafana/dashboards"):
        shutil.copytree(ROOT / folder, context / folder)
    for name in (".dockerignore", "LICENSE", "requirements.lock"):
        shutil.copy(ROOT / name, context)
    for name in SECRETS:
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_text(KEY)
    for path in context.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    return context


@pytest.fixture(scope="module")
def image(engine: Engine, context: Path) -> str:
    asyncio.run(engine.build(IMAGE, context, BUILT))
    return IMAGE


async def metrics(address: str, tls: SSLContext | None = None) -> str:
    async with httpx.AsyncClient(trust_env=False, verify=tls or False) as client:
        response = await client.get(f"{'https' if tls else 'http'}://{address}/metrics")
    response.raise_for_status()
    return response.text


async def until_metrics(address: str, pattern: str, count: int = 1, tls: SSLContext | None = None) -> str:
    """Scrape until `pattern` is found `count` times, for two minutes at most."""
    async with asyncio.timeout(120):
        while len(re.findall(pattern, found := await metrics(address, tls), re.MULTILINE)) != count:  # noqa: ASYNC110 - another process changes it
            await asyncio.sleep(0.5)  # the exporter has one core, and publishes in a tenth of its time
    return found


def outside(url: str) -> str:
    """Return a URL of this machine's loopback as a container sees it."""
    return url.replace("127.0.0.1", HOST)


# What it is made of.


async def test_the_dockerfile_passes_the_linter() -> None:
    hadolint = program(str(Path(sys.executable).with_name("hadolint")))
    assert await run(hadolint, str(DOCKERFILE)) == (0, "", "")


def test_the_base_image_is_pinned_to_one_release() -> None:
    assert re.fullmatch(
        r"docker\.io/library/python:\d+\.\d+\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?", base_image()
    )


def test_the_version_is_the_packages_unless_a_build_says_otherwise() -> None:
    defaults = re.findall(r"^ARG VERSION=(.*)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert set(defaults) == {__version__}


def test_the_readme_names_this_image_and_this_base() -> None:
    readme = (DOCKERFILE.parent / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"docker\.io/library/python:[\w.-]+", readme)) == {base_image().partition("@")[0]}
    assert set(re.findall(rf"{NAME}:([\w.-]+)", readme)) == {__version__}


async def test_nothing_but_the_package_enters_the_build(
    engine: Engine, context: Path, tmp_path: Path
) -> None:
    everything = tmp_path / "Dockerfile"
    everything.write_text("FROM scratch\nCOPY . /context\n")
    await engine.build("everything", context, {}, everything)
    files = await contents(engine, "everything", tmp_path)
    given = ("LICENSE", "requirements.lock", "exporter/**/*", "grafana/dashboards/*")
    expected = {path for pattern in given for path in ROOT.glob(pattern)}
    own = {str(path.relative_to(ROOT)) for path in expected if path.is_file() and path.suffix != ".pyc"}
    assert {name.removeprefix("context/") for name in files if name.startswith("context/")} == own


async def contents(engine: Engine, image: str, folder: Path) -> set[str]:
    """Return the names of the files in an image."""
    name = await engine.podman("create", image, "/none")
    await engine.podman("export", f"--output={folder}/image.tar", name)
    with tarfile.open(folder / "image.tar") as archive:
        return {member.name for member in archive if member.isfile()}


async def test_the_image_says_what_it_is_and_how_it_runs(engine: Engine, image: str) -> None:
    config = await image_config(engine, image)
    assert config["User"] == f"{USER}:{USER}"
    assert config["ExposedPorts"] == {"10220/tcp": {}}
    assert config["Entrypoint"] == ["python", "-m", "exporter"]
    labels = {name.rpartition(".")[2]: value for name, value in config["Labels"].items()}
    assert labels["title"] == NAME
    assert labels["licenses"] == "Apache-2.0"
    assert labels["version"] == BUILT["VERSION"]
    assert labels["revision"] == BUILT["REVISION"]
    assert labels["created"] == BUILT["CREATED"]
    assert labels["source"] == BUILT["SOURCE"]
    assert config["Labels"]["org.opencontainers.image.base.name"] == base_image()
    assert labels["digest"] == DIGEST


async def test_its_user_may_write_nothing_of_it_and_a_start_compiles_nothing(
    engine: Engine, image: str
) -> None:
    found = await engine.podman(
        *("run", "--rm", "--network=none", "--entrypoint=python", image, "-c", OUGHT_TO_BE_EMPTY)
    )
    assert {what: names for what, names in json.loads(found).items() if names} == {}


async def test_it_writes_the_dashboards_and_the_rules_of_its_version(
    engine: Engine, image: str, tmp_path: Path
) -> None:
    command = ("run", "--rm", "--network=none", "--read-only", "--user=0", f"--volume={tmp_path}:/out", image)
    await engine.podman(*command, "dashboards", "/out")
    files = (ROOT / "grafana/dashboards").glob("*.json")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        file.name: file.read_text() for file in files
    }
    assert "alert: CohereModelFailed" in await engine.podman(*command, "rules")


async def image_config(engine: Engine, image: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(
        await engine.podman("inspect", "--format={{json .Config}}", image)
    )
    return config


async def test_any_user_may_record_api_calls(engine: Engine, image: str) -> None:
    script = "open('/var/lib/cohere-finetune-exporter/budget.json', 'w'); print('written')"
    command = ("run", "--rm", "--network=none", "--user=1000660000", "--entrypoint=python", image)
    assert await engine.podman(*command, "-c", script) == "written"


# How it runs.


async def test_it_serves_a_thousand_models_to_a_hundred_connections_under_every_restriction(
    engine: Engine, image: str, tmp_path: Path
) -> None:
    folder = tmp_path / "web"
    folder.mkdir(mode=0o755)
    authority = Authority(folder)
    authority.issue("tls", "127.0.0.1")[1].chmod(0o644)
    (folder / "web.yml").write_text("tls_server_config: {cert_file: tls.pem, key_file: tls.key}\n")
    tls = authority.trusting()
    volumes = [f"{folder}:/run/secrets/web:ro"]
    flag = "--web.config.file=/run/secrets/web/web.yml"
    async with (
        simulated_api(jobs=at_rest(1000)) as (_, api),
        engine.container(image, *flags_for(api), flag, volumes=volumes, COHERE_API_KEY=KEY) as container,
        httpx.AsyncClient(trust_env=False, verify=tls, timeout=60) as client,
    ):
        url = f"https://{container.address}"
        await wait_for(f"{url}/-/ready", client={"verify": tls})
        found = await until_metrics(container.address, "^cohere_finetuned_model_training_step{", 1000, tls)
        assert found.count("\ncohere_finetuned_model_info{") == 1000
        assert re.search(
            r'^cohere_exporter_build_info{.*revision="4f9d02c",version="1.2.3"} 1', found, re.MULTILINE
        )
        for _ in range(2):
            answers = await asyncio.gather(*(client.get(f"{url}/metrics") for _ in range(100)))
            assert {answer.status_code for answer in answers} <= {200, 503}  # 40 scrapes at once, at most

        await assert_restricted(container)
        peak, _ = (await container.status())["VmHWM"].split()
        assert int(peak) * 1024 < 110 * MIB
        assert KEY not in await container.logs()

        assert await container.stop() == 0
        assert '"stopping"' in await container.logs()


async def assert_restricted(container: Container, *, memory: int = 128) -> None:
    """See from outside that the process has no more than it needs."""
    status = await container.status()
    assert status["Uid"].split() == status["Gid"].split() == [USER] * 4
    assert {int(status[name], 16) for name in status if name.startswith("Cap")} == {0}
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"  # a filter
    assert await container.root_is_read_only()
    assert (await container.inspect())["HostConfig"]["Memory"] == memory * MIB


def flags_for(api: str) -> tuple[str, ...]:
    return (f"--cohere.base-url={outside(api)}", "--cohere.requests-per-minute=100000", "--log.format=json")


# By the name that it is given.


async def test_make_tells_the_builder_version_revision_source_and_base() -> None:
    base = f"registry.example.com/python@{DIGEST}"
    given = ("BUILDER=podman", "REVISION=4f9d02c", f"BASE={base}", "SOURCE=https://git.example.com/exporter")
    code, out, _ = await run(program("make"), "-n", "--no-print-directory", "image", *given)
    assert code == 0
    told = " ".join(out.replace("\\\n", " ").split())
    assert f"podman build --file {DOCKERFILE.relative_to(ROOT)} --tag {IMAGE} " in told
    assert f"--build-arg VERSION={__version__} --build-arg REVISION=4f9d02c --build-arg CREATED=" in told
    assert f"--build-arg SOURCE=https://git.example.com/exporter --build-arg PYTHON_IMAGE={base} " in told
    assert told.endswith(f"--build-arg BASE_DIGEST={DIGEST} .")


async def test_podmans_image_is_saved_under_the_name_that_a_node_looks_for(
    engine: Engine, image: str, tmp_path: Path
) -> None:
    page = (KUBERNETES / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^\$ podman ((?:tag|save) .*docker\.io/library/.*)$", page, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        await engine.podman(*command.replace("image.tar", f"{tmp_path}/image.tar").split())
    with tarfile.open(tmp_path / "image.tar") as archive:
        manifest = archive.extractfile("manifest.json")
        assert manifest is not None
        (saved,) = json.load(manifest)
    deployed = pod_of(parsed(kustomized(KUBERNETES / "demo")))["containers"][0]["image"]
    assert saved["RepoTags"] == [f"docker.io/library/{deployed}"]


# As a pod of Kubernetes, by its manifests.


async def test_the_demo_runs_as_a_pod(engine: Engine, image: str) -> None:
    demo = parsed(kustomized(KUBERNETES / "demo"))
    probes = unused_port()
    async with engine.pod(demo, unused_port(), probes) as pod:
        await answers_its_probes(probes, demo)
        await until_metrics(pod.address, "^cohere_finetuned_models{", 9)
        await assert_restricted(pod, memory=512)


async def test_the_deployment_runs_as_a_pod_takes_up_a_rotated_secret_and_remembers_calls_in_its_claim(
    engine: Engine, image: str, tmp_path: Path
) -> None:
    async with simulated_api(jobs=at_rest(20)) as (_, api):
        manifests = [*of_an_api(outside(api), tmp_path), secret("a-key-of-last-year")]
        probes = unused_port()
        async with engine.pod(manifests, unused_port(), probes) as pod:
            await answers_its_probes(probes, manifests)
            await until_metrics(
                pod.address, '^cohere_exporter_poll_failures_total{reason="unauthorized"} [1-9]'
            )
            await assert_restricted(pod, memory=512)

            process = (await pod.status())["Pid"]
            await pod.write("/run/secrets/cohere/api-key", KEY)
            before = await until_metrics(pod.address, "^cohere_finetuned_model_training_step{", 20)
            assert (await pod.status())["Pid"] == process
            assert KEY not in await pod.logs()
            assert await pod.stop() == 0
        async with engine.pod(manifests, unused_port(), unused_port()) as pod:
            await wait_for(f"http://{pod.address}/-/ready")
            await pod.write("/run/secrets/cohere/api-key", KEY)
            after = await until_metrics(pod.address, "^cohere_finetuned_model_training_step{", 20)
            assert calls_left(after) < calls_left(before) - 20  # the list, and each model's steps


def calls_left(metrics: str) -> float:
    (left,) = re.findall(r"^cohere_exporter_api_calls_left (\S+)$", metrics, re.MULTILINE)
    return float(left)


def of_an_api(base_url: str, folder: Path) -> list[Manifest]:
    """Return the manifests with a claim for the record of calls, a quota and another address of the API."""
    manifests = deepcopy(list(with_components(folder, {"own": ["quota"]})["own"]))
    config = {"cohere": {"base-url": base_url, "calls-per-month": 1_000_000}}  # so that no reading waits
    the("ConfigMap", manifests)["data"]["config.yml"] = yaml.safe_dump(config)
    return manifests


def secret(key: str) -> Manifest:
    data = {"api-key": b64encode(key.encode()).decode()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cohere-api-key"}, "data": data}


async def answers_its_probes(port: int, manifests: Iterable[Manifest]) -> None:
    (container,) = pod_of(manifests)["containers"]
    probes = [container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")]
    for probe in probes:
        assert probe["port"] == container["ports"][1]["name"]
        await wait_for(f"http://127.0.0.1:{port}{probe['path']}")
