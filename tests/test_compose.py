"""deploy/compose: valid, closed to the outside, made of the one copy of everything, run by real programs."""

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import yaml

import exporter as package
from exporter.settings import load
from tests.certificates import Authority
from tests.clients import plain_client
from tests.dashboards import BOARDS, everywhere
from tests.editions import every_edition_at_night
from tests.monitoring import serving
from tests.programs import ROOT, eventually, exporter, program, run
from tools.ports import unused_port

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

FOLDER = ROOT / "deploy/compose"
FILES = ("compose.yml", "compose.real.yml")
COMPOSE = yaml.safe_load((FOLDER / "compose.yml").read_text(encoding="utf-8"))
REAL = yaml.safe_load((FOLDER / "compose.real.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
EXPORTER = "cohere-finetune-exporter"
README = (FOLDER / "README.md").read_text(encoding="utf-8")
every_service = pytest.mark.parametrize("name", SERVICES)


def mounts(service: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Return what a service mounts: target → source and mode."""
    volumes = [volume for volume in service.get("volumes", []) if isinstance(volume, str)]
    parts = [(*volume.split(":"), "rw")[:3] for volume in volumes]
    return {target: (source, mode) for source, target, mode in parts}


def mounted_file(name: str, target: str) -> Path:
    return (FOLDER / mounts(SERVICES[name])[target][0]).resolve()


@pytest.mark.parametrize("file", FILES)
async def test_the_file_is_as_the_compose_specification_wants_it(file: str) -> None:
    checker = (sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec")
    code, out, err = await run(*checker, str(FOLDER / file))
    assert code == 0, out + err


def test_the_exporter_is_built_from_this_repository_under_its_version() -> None:
    service = SERVICES[EXPORTER]
    assert service["image"] == f"cohere-finetune-exporter:{package.__version__}"
    context = (FOLDER / service["build"]["context"]).resolve()
    assert context == ROOT
    assert (context / service["build"]["dockerfile"]).is_file()


@every_service
def test_a_port_is_open_to_this_machine_only(name: str) -> None:
    (port,) = SERVICES[name]["ports"]
    variable, inside = re.fullmatch(r"127\.0\.0\.1:\$\{([A-Z]+_PORT):-(\d+)\}:\2", port).groups()  # type: ignore[union-attr]
    assert f"`{variable}`" in README
    assert inside


@every_service
def test_a_service_is_of_one_version_has_no_privilege_and_cannot_take_the_machine(name: str) -> None:
    service = SERVICES[name]
    assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert int(re.findall(r"\d+", service["user"])[0]) > 0
    forbidden = {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices", "userns_mode", "env_file"}
    assert not forbidden & service.keys()
    assert service["restart"] == "unless-stopped"
    amount, unit = re.fullmatch(r"(\d+)([mg])", service["mem_limit"]).groups()  # type: ignore[union-attr]
    assert int(amount) * {"m": 1, "g": 1024}[unit] <= 1024
    assert 0 < service["pids_limit"] <= 256


@every_service
def test_what_is_mounted_exists_and_only_a_volume_may_be_written(name: str) -> None:
    for target, (source, mode) in mounts(SERVICES[name]).items():
        if source in COMPOSE["volumes"]:
            assert mode == "rw"
        else:
            assert mode == "ro,z", target
            path = (FOLDER / source).resolve()
            assert path.exists(), path
            assert path.is_relative_to(ROOT)


def test_the_key_is_a_file_and_nowhere_else() -> None:
    service = REAL["services"][EXPORTER]
    (key,) = (volume for volume in service["volumes"] if isinstance(volume, dict))
    assert key == {
        "type": "bind",
        "source": "./secrets/cohere-api-key",
        "target": "/run/secrets/cohere-api-key",
        "read_only": True,
        "bind": {"create_host_path": False, "selinux": "z"},
    }
    assert "environment" not in service
    assert "KEY" not in " ".join(SERVICES[EXPORTER]["environment"])
    _, settings = load([f"--config.file={FOLDER / 'exporter.yml'}"], {})
    assert str(settings.cohere.api_key_file) == "/run/secrets/cohere-api-key"
    assert (FOLDER / ".gitignore").read_text(encoding="utf-8").split() == ["/secrets/"]


def test_nothing_is_mounted_without_the_label_that_selinux_wants() -> None:
    text = "".join((FOLDER / name).read_text(encoding="utf-8") for name in (*FILES, "README.md"))
    assert not re.findall(r"^ *(?:secrets:|configs:|file: .*)", text, re.MULTILINE)
    mounted = re.findall(r"^ *- (\.\S*):(\S+?):(\S+)$", text, re.MULTILINE)
    assert mounted
    assert {mode for _, _, mode in mounted} == {"ro,z"}


def test_the_key_file_of_the_readme_is_readable_by_any_user_of_a_container_and_by_nobody_else(
    tmp_path: Path,
) -> None:
    commands = re.findall(r"^\$ ((?:mkdir|chmod) .*)$", README, re.MULTILINE)
    (tmp_path / "deploy/compose").mkdir(parents=True)
    key = tmp_path / "deploy/compose/secrets/cohere-api-key"
    for command in commands:
        if command.startswith("chmod"):
            key.touch(mode=0o600)
        subprocess.run(shlex.split(command), cwd=tmp_path, check=True, timeout=60)
    assert key.stat().st_mode & 0o777 == 0o644
    assert key.parent.stat().st_mode & 0o777 == 0o700
    assert SERVICES[EXPORTER]["user"] == "65532:65532"  # not the owner of the key


def test_with_a_key_the_exporter_starts_with_the_configuration_that_is_mounted() -> None:
    service = REAL["services"][EXPORTER]
    ((target, (source, mode)),) = mounts(service).items()
    assert service["command"] == [f"--config.file={target}"]
    assert (source, mode) == ("./exporter.yml", "ro,z")
    assert SERVICES[EXPORTER]["command"] == ["demo"]


def test_the_configurations_name_each_other_as_compose_does() -> None:
    config = yaml.safe_load(mounted_file("prometheus", "/etc/prometheus/prometheus.yml").read_text())
    targets = [
        target
        for entry in (*config["scrape_configs"], *config["alerting"]["alertmanagers"])
        for static in entry["static_configs"]
        for target in static["targets"]
    ]
    datasources = mounted_file("grafana", "/etc/grafana/provisioning/datasources")
    (datasource,) = yaml.safe_load((datasources / "prometheus.yaml").read_text())["datasources"]
    assert datasource["type"] == "prometheus"
    assert datasource["isDefault"] is True  # so the dashboards' variable stands on it
    for target in (*targets, datasource["url"].removeprefix("http://")):
        host, port = target.split(":")
        own = "prometheus" if host == "localhost" else host
        assert SERVICES[own]["ports"][0].endswith(f":{port}")
    assert set(config["rule_files"]) <= {Path(target).name for target in mounts(SERVICES["prometheus"])}


def test_grafana_finds_the_dashboards_where_its_provider_looks() -> None:
    providers = mounted_file("grafana", "/etc/grafana/provisioning/dashboards")
    (file,) = providers.iterdir()
    (provider,) = yaml.safe_load(file.read_text())["providers"]
    folder = mounted_file("grafana", provider["options"]["path"])
    assert {path.stem for path in folder.glob("*.json")} == {f"cohere-finetuning-{name}" for name in BOARDS}
    home = Path(SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (folder / home.name).is_file()
    assert str(home.parent) == provider["options"]["path"]
    kinds = {part["uid"] for part in everywhere(BOARDS) if part.get("type") == "prometheus" and "uid" in part}
    assert kinds == {"${datasource}"}


@every_edition_at_night
async def test_prometheus_and_alertmanager_run_with_what_compose_gives_them(tmp_path: Path) -> None:
    async with (
        exporter("demo", "--demo.speed=900", "--poll.interval=1s") as demo,
        as_compose_runs_it("alertmanager", "alertmanager", tmp_path) as alertmanager,
        as_compose_runs_it(
            "prometheus",
            "prometheus",
            tmp_path,
            {
                f"{EXPORTER}:10220": demo.url,
                "alertmanager:9093": alertmanager,
                "_interval: 30s": "_interval: 1s",
                "_interval: 1m": "_interval: 1s",
            },
        ) as prometheus,
        plain_client() as client,
    ):

        async def all_are_up() -> bool:
            active = (await client.get(f"{prometheus}/api/v1/targets")).json()["data"]["activeTargets"]
            return {(target["labels"]["job"], target["health"]) for target in active} == {
                ("cohere-finetuning", "up"),
                ("cohere-finetuning-steps", "up"),
                ("prometheus", "up"),
            }

        async def alerts() -> list[dict[str, Any]]:
            return list((await client.get(f"{alertmanager}/api/v2/alerts")).json())

        async def an_alert_has_come() -> bool:
            return bool(await alerts())

        await eventually(all_are_up)
        await eventually(an_alert_has_come, seconds=60)
        held = await alerts()
        assert {alert["labels"]["alertname"] for alert in held} == {"CohereModelFailed"}
        assert held[0]["generatorURL"].startswith("http://localhost:9090/")
        for name, url in (("prometheus", prometheus), ("alertmanager", alertmanager)):
            assert await health(name, url) == 0, name
    for name, url in (("prometheus", prometheus), ("alertmanager", alertmanager)):
        assert await health(name, url) != 0, name


@pytest.mark.parametrize("served", ["http", "https"])
async def test_the_health_check_of_the_exporter_finds_out_whether_it_is_alive(
    served: str, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server", "127.0.0.1")
    file = tmp_path / "web.yml"
    tls = {"tls_server_config": {"cert_file": str(certificate), "key_file": str(key)}}
    file.write_text(yaml.safe_dump(tls if served == "https" else {}), encoding="utf-8")
    probes = f"127.0.0.1:{unused_port()}"
    flags = (f"--web.config.file={file}", f"--web.probe-address={probes}")
    async with exporter("demo", *flags, client={"verify": authority.trusting()}) as demo:
        assert demo.url.startswith(f"{served}://")
        assert await health(EXPORTER, f"http://{probes}") == 0
        assert await demo.stop(signal.SIGTERM) == 0
        assert await health(EXPORTER, f"http://{probes}") != 0


def test_the_readme_names_files_that_exist_and_ports_that_are_open() -> None:
    files = {path for path in re.findall(r"deploy/[\w./-]+\w", README) if "/secrets" not in path}
    assert not [path for path in files if not (ROOT / path).exists()]
    ports = {service["ports"][0].rpartition(":")[2] for service in SERVICES.values()}
    assert set(re.findall(r"http://localhost:(\d+)/", README)) == ports


@every_service
def test_a_service_has_a_health_check_that_asks_its_own_port(name: str) -> None:
    service = SERVICES[name]
    words = " ".join(service["healthcheck"]["test"])
    port = health_port(name)
    assert words.startswith("CMD ")
    assert "127.0.0.1" in words
    assert re.search(rf"\b{port}\b", words)


def health_port(name: str) -> str:
    """Return the port that the health check of a service asks: the exporter's is that of its probes."""
    service = SERVICES[name]
    own = service.get("environment", {}).get("COHERE_EXPORTER_WEB_PROBE_ADDRESS", service["ports"][0])
    return str(own).rpartition(":")[2]


async def health(name: str, url: str) -> int:
    """Run the health check of a service against `url`; return the exit code."""
    _, command, *arguments = SERVICES[name]["healthcheck"]["test"]
    port = health_port(name)
    path = sys.executable if command == "python" else program(command)
    code, _, _ = await run(path, *(word.replace(port, url.rpartition(":")[2]) for word in arguments))
    return code


@asynccontextmanager
async def as_compose_runs_it(
    name: str, binary: str, folder: Path, changes: Mapping[str, str] = MappingProxyType({})
) -> AsyncIterator[str]:
    """Run a service's command with the files it mounts, under `folder`; its own address is changed, too."""
    port = unused_port()
    own = SERVICES[name]["ports"][0].rpartition(":")[2]
    for target, (source, _) in mounts(SERVICES[name]).items():
        if source in COMPOSE["volumes"]:
            (folder / target.strip("/")).mkdir()
            continue
        text = (FOLDER / source).read_text(encoding="utf-8").replace(f"localhost:{own}", f"127.0.0.1:{port}")
        for old, new in changes.items():
            assert old in text or "/cohere-finetuning." in target, old
            text = text.replace(old, new.removeprefix("http://"))
        file = folder / target.strip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    command = [
        re.sub(r"^(--(?:config\.file|storage\S*path)=)/", rf"\1{folder}/", word)
        for word in SERVICES[name]["command"]
    ]
    async with serving(binary, *command, port=port) as url:
        yield url
