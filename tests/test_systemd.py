"""The unit of deploy/systemd, installed by its README's own commands and run by a real systemd."""

import configparser
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from exporter.settings import load
from tests.booted import PATHS, System, booted
from tests.programs import KEY, ROOT, eventually, missing, program, run

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

FOLDER = ROOT / "deploy/systemd"
UNIT = "cohere-finetune-exporter.service"
# What systemd says of the unit, too, or the process alone; the journal may lag behind.
JOURNAL = f"journalctl --output=cat --unit={UNIT}"
OWN_JOURNAL = f"journalctl --output=cat _SYSTEMD_UNIT={UNIT}"
ETC = "/etc/cohere-finetune-exporter"
README = (FOLDER / "README.md").read_text(encoding="utf-8")
EXPOSURE = "1.1 OK"
# What the sandbox leaves open, and why; nothing else may be.
OPEN = {
    "PrivateNetwork=",  # it calls an API and is scraped
    "RestrictAddressFamilies=~AF_(INET|INET6)",
    "RestrictAddressFamilies=~AF_UNIX",  # the caches of name services
    "IPAddressDeny=",  # depends on where one is: the README has an example
    "ProcSubset=",  # would hide /proc/stat from process_* metrics
    "DeviceAllow=",  # the clock, to be read: it comes with ProtectClock=
    "RootDirectory=/RootImage=",  # the program is in the host's /opt
}
# What systemd-analyze does not look at.
UNSEEN = {
    "MemoryMax": "512M",
    "TasksMax": "64",
    "LimitCORE": "0",
    "SuccessExitStatus": "129 130 143",
    "PrivateIPC": "yes",
    "SystemCallErrorNumber": "EPERM",
}


def commands(section: str) -> list[str]:
    """Return the blocks of shell commands in a section of the README."""
    text = README.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", text, re.DOTALL)


CHECK_API, CHECK_SERVICE = commands("Check")
INSTALL_PROGRAM, INSTALL_UNIT, GIVE_KEY, START = commands("Install")
RESTART, ROTATION = commands("Change the configuration or the key")
GIVE_TLS, USE_TLS = commands("TLS and passwords")
INSTALL_INSTANCE, START_INSTANCE = commands("Several accounts")
WEB_PAGE = (ROOT / "docs/web-configuration.md").read_text(encoding="utf-8")


def settings_of(file: Path) -> dict[str, str]:
    parser = configparser.RawConfigParser(strict=False)  # a directive may stand twice: the last one is given
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(file)
    return dict(parser["Service"])


def test_the_unit_and_the_readme_speak_of_the_same_paths() -> None:
    service = settings_of(FOLDER / UNIT)
    program_file, config = service["ExecStart"].split()
    venv = str(Path(program_file).parents[1])
    assert f"-m venv {venv}\n" in INSTALL_PROGRAM
    assert f" {config.removeprefix('--config.file=')}\n" in INSTALL_UNIT
    name, key_file = service["LoadCredential"].split(":")
    assert f"API_KEY_FILE=%d/{name}\n" in (FOLDER / UNIT).read_text(encoding="utf-8")
    assert f"install -m 600 /dev/null {key_file}\n" in INSTALL_UNIT
    assert f"cat > {key_file}\n" == GIVE_KEY
    assert settings_of(FOLDER / "key-rotation.conf")["Environment"].endswith(f"={key_file}")
    assert {
        path for path in re.findall(r"deploy/systemd/\S+", README) if not (ROOT / path).is_file()
    } == set()
    assert EXPOSURE.removesuffix(" OK") in README


def test_every_unit_that_is_installed_is_upgraded_and_uninstalled() -> None:
    install = "\n".join((INSTALL_UNIT, INSTALL_INSTANCE))
    units = re.findall(r"^install .* deploy/systemd/\S+ (/\S+\.service)$", install, re.MULTILINE)
    assert len(units) == 2
    for section, command in (("Upgrade", "install -m 644"), ("Uninstall", "rm -rf")):
        text = "\n".join(line for line in "".join(commands(section)).splitlines() if command in line)
        assert [unit for unit in units if f" {unit}" not in text] == []
    uninstall = "".join(commands("Uninstall"))
    state = settings_of(FOLDER / "cohere-finetune-exporter@.service")["StateDirectory"].removesuffix("%i")
    assert f" /var/lib/{state}* /var/lib/private/{state}*" in uninstall


def test_the_example_of_a_configuration_changes_nothing_but_what_it_says() -> None:
    content = yaml.safe_load((FOLDER / "config.yml").read_text(encoding="utf-8"))
    _, settings = load([f"--config.file={FOLDER / 'config.yml'}"], {})
    _, defaults = load([], {})
    assert settings.model_dump(exclude={"config"}) == defaults.model_dump(exclude={"config"})
    assert set(content) == {"cohere", "poll", "web"}


async def test_the_sandbox_is_in_the_ok_range_and_leaves_open_only_what_it_must() -> None:
    analyze = program("systemd-analyze")
    code, out, err = await run(analyze, "security", "--offline=true", "--threshold=15", str(FOLDER / UNIT))
    assert code == 0, err
    assert f"exposure level for {UNIT}: {EXPOSURE} " in out
    assert set(re.findall(r"^✗ (\S+)", out, re.MULTILINE)) == OPEN


def test_the_unit_has_limits_that_no_analysis_asks_for() -> None:
    assert UNSEEN.items() <= settings_of(FOLDER / UNIT).items()


@pytest.fixture(scope="module")
def opt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder to be /opt, with the program installed as the README tells, by the system's Python."""
    program("systemd-nspawn")
    if os.geteuid() != 0:
        missing("only root may boot a container")
    python = shutil.which("python3", path=PATHS)
    fits = "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))"
    if python is None or subprocess.run([python, "-c", fits], check=False, capture_output=True).returncode:
        missing(f"the system's Python is older than 3.11 or has no venv: {python}")
    folder, clone = tmp_path_factory.mktemp("opt"), tmp_path_factory.mktemp("clone")
    for name in ("pyproject.toml", "hatch_build.py", "docs/package.md", "LICENSE", "requirements.lock"):
        (clone / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, clone / name)
    for name in ("exporter", "grafana/dashboards"):
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    script = f"mount --bind {folder} /opt\ncd {clone}\n{INSTALL_PROGRAM}"
    subprocess.run(
        [program("unshare"), "--mount", "/bin/sh", "-ec", script],
        env={**os.environ, "PATH": PATHS},
        check=True,
        timeout=300,
        capture_output=True,
    )
    folder.chmod(0o755)  # as /opt is; a folder of pytest's is only its owner's
    return folder


@asynccontextmanager
async def installed(opt: Path, key: str = KEY) -> AsyncIterator[System]:
    """Boot a system where everything is done as the README tells, but for the start, with a simulated API."""
    binds = (f"{opt}:/opt", f"{ROOT / 'deploy'}:/srv/deploy")
    async with booted(*binds) as system, system.simulated_api() as api:
        await system.output(INSTALL_UNIT, folder="/srv")
        await system.output(f"sed -i 's#https://api.cohere.com#{api}#; s#60s#1s#' {ETC}/config.yml")
        await system.output(GIVE_KEY, stdin=f"{key}\n")
        yield system


async def properties(system: System, *names: str) -> dict[str, str]:
    """Return properties of the service as systemd tells them."""
    shown = await system.output(f"systemctl show {UNIT} --property={','.join(names)}")
    return dict(line.split("=", 1) for line in shown.splitlines())


async def is_now(system: System, **expected: str) -> bool:
    return await properties(system, *expected) == expected


async def of_process(system: System, file: str) -> str:
    pid = (await properties(system, "MainPID"))["MainPID"]
    return await system.output(f"tr '\\0' '\\n' < /proc/{pid}/{file}")


async def test_installed_as_the_readme_tells_it_serves_without_rights_and_stops(opt: Path) -> None:
    async with installed(opt) as system:
        assert await system.output(f"systemd-analyze verify {UNIT} 2>&1") == ""
        await system.output(START)
        metrics = await system.until_page("/metrics", "cohere_up 1.0")
        assert 'model_name="onboarding-chat-v3"' in metrics
        for family in ("process_start_time_seconds", "process_resident_memory_bytes", "process_open_fds"):
            assert f"\n{family} " in metrics
        assert "onboarding-chat-v3" in await system.output(CHECK_API)
        assert "active (running)" in await system.output(
            CHECK_SERVICE.replace("curl --silent", "echo cohere_up")
        )
        assert await system.output("systemctl is-enabled cohere-finetune-exporter") == "enabled"
        for text in (await of_process(system, "environ"), await of_process(system, "cmdline")):
            assert KEY not in text
        log = await system.until_output(JOURNAL, "models listed")
        assert not [line for line in log.splitlines() if re.search(r"level=(warn|err|crit)|Traceback", line)]
        assert KEY not in log
        await assert_unprivileged(system)
        await system.output(f"systemctl stop {UNIT}")
        assert await properties(system, "Result", "ExecMainStatus") == {
            "Result": "success",
            "ExecMainStatus": "0",
        }


async def assert_unprivileged(system: System) -> None:
    """See that the process has no rights and sees nothing of the host."""
    status = dict(
        line.split(":\t", 1) for line in (await of_process(system, "status")).splitlines() if ":\t" in line
    )
    assert int(status["Uid"].split()[0]) >= 61184  # where systemd's dynamic users begin
    assert {status[name] for name in status if name.startswith("Cap")} == {"0000000000000000"}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    pid = (await properties(system, "MainPID"))["MainPID"]
    # As the service's user, within the service's mounts.
    user, group = status["Uid"].split()[0], status["Gid"].split()[0]
    as_user = f"setpriv --reuid={user} --regid={group} --clear-groups"
    inside = f"nsenter --target={pid} --mount -- {as_user} -- /bin/sh -c"
    writable = "find / -path /proc -prune -o -type d -writable -print 2>/dev/null || true"
    found = await system.output(f"{inside} '{writable}'")
    assert set(found.split()) == {"/tmp", "/var/tmp", "/var/lib/private/cohere-finetune-exporter"}
    assert "systemd-private" in await system.output(f"grep ' /tmp ' /proc/{pid}/mountinfo")
    for name in ("ipc", "user", "mnt"):
        own, first = (f"readlink /proc/{process}/ns/{name}" for process in (pid, "1"))
        assert await system.output(own) != await system.output(first), name
    for place in ("/root", "/home"):
        assert (await system.run(f"{inside} 'ls {place}'"))[0] != 0, place
    assert not {"kmsg", "mem", "rtc", "fuse"} & set((await system.output(f"{inside} 'ls /dev'")).split())
    visible = (await system.output(f"{inside} 'ls -d /proc/[0-9]*'")).split()
    assert visible
    assert "/proc/1" not in visible
    assert (await system.run(f"{inside} 'cat {ETC}/api-key'"))[0] != 0


async def test_a_restart_takes_up_a_new_key_and_remembers_the_calls_made_and_a_drop_in_spares_it(
    opt: Path,
) -> None:
    async with installed(opt) as system:
        await system.output(f"sed -i 's/^cohere:/&\\n  calls-per-month: 100000/' {ETC}/config.yml")
        await system.output(START)
        before = calls_left(await system.until_page("/metrics", "training_step{"))
        await system.output(GIVE_KEY, stdin="another-key")
        await system.output(RESTART)
        # With this key one call is made, the list; more than that were made before.
        after = calls_left(
            await system.until_page("/metrics", 'poll_failures_total{reason="unauthorized"} [1-9]')
        )
        assert after < before < 100_000 - 10

        await system.output(ROTATION, folder="/srv")
        assert await system.output(f"systemd-analyze verify {UNIT} 2>&1") == ""
        assert await system.output(f"stat --format='%U %G %a' {ETC}/api-key") == "root cohere-api-key 640"
        await system.until_page("/metrics", "cohere_up 0.0")
        process = await properties(system, "MainPID")
        await system.output(GIVE_KEY, stdin=KEY)
        await system.until_page("/metrics", "cohere_up 1.0")
        assert await properties(system, "MainPID") == process


def calls_left(metrics: str) -> float:
    (left,) = re.findall(r"^cohere_exporter_api_calls_left (\S+)$", metrics, re.MULTILINE)
    return float(left)


def make_certificate(folder: Path) -> None:
    """Make one as the page on TLS tells."""
    program("openssl")
    (command,) = re.findall(r"^\$ (openssl req .*\n.*)$", WEB_PAGE, re.MULTILINE)
    subprocess.run(["/bin/sh", "-ec", command], cwd=folder, check=True, timeout=60, capture_output=True)


async def test_with_the_drop_ins_it_serves_tls_with_files_that_are_roots_alone(
    opt: Path, tmp_path: Path
) -> None:
    make_certificate(tmp_path)
    (tmp_path / "web.yml").write_text("tls_server_config: {cert_file: tls.crt, key_file: tls.key}\n")
    async with installed(opt) as system:
        for name in ("tls.crt", "tls.key", "web.yml"):
            await system.output(f"umask 077; cat > {ETC}/{name}", stdin=(tmp_path / name).read_text())
        await system.output(ROTATION, folder="/srv")  # which takes the credentials that stand before it away
        await system.output(GIVE_TLS, folder="/srv")
        await system.output(USE_TLS)
        assert await system.output(f"systemd-analyze verify {UNIT} 2>&1") == ""
        await system.until_page("/metrics", "cohere_up 1.0", trusted=tmp_path / "tls.crt")
        log = await system.until_output(JOURNAL, "(?s)(?=.*url=https).*models listed")
        assert "level=err" not in log


async def test_an_empty_key_file_is_no_key_but_a_missing_one_or_a_mistake_fails_the_start(opt: Path) -> None:
    async with installed(opt, key="") as system:
        await system.output(START)
        await system.until_page("/metrics", 'poll_failures_total{reason="unauthorized"} [1-9]')
        assert await properties(system, "ActiveState") == {"ActiveState": "active"}
        await system.until_output(OWN_JOURNAL, "level=info")
        warnings = await system.until_output(f"{OWN_JOURNAL} --priority=warning", "level=error")
        assert "level=info" not in warnings
        assert "<3>" not in warnings

        await system.output(f"systemctl stop {UNIT}")
        await system.output(f"echo 'polling: {{}}' >> {ETC}/config.yml")
        assert (await system.run(START))[0] != 0
        assert await properties(system, "ActiveState", "ExecMainStatus", "NRestarts") == {
            "ActiveState": "failed",
            "ExecMainStatus": "2",
            "NRestarts": "0",
        }
        log = await system.until_output(f"{OWN_JOURNAL} --priority=err", "unknown key; known are")
        assert log.count("cohere-finetune-exporter: ") == 1

        await system.output(f"rm {ETC}/api-key")
        assert (await system.run(START))[0] != 0
        _, status = await system.run(f"systemctl status --no-pager {UNIT}")
        assert f"AssertPathExists={ETC}/api-key was not met" in status


async def test_a_process_that_hangs_or_dies_is_started_again(opt: Path) -> None:
    async with installed(opt) as system:
        drop_in = f"/run/systemd/system/{UNIT}.d/soon.conf"
        await system.output(f"mkdir -p {Path(drop_in).parent}")
        await system.output(f"printf '[Service]\nWatchdogSec=3\nRestartSec=0\n' > {drop_in}")
        await system.output(f"systemctl daemon-reload; {START}")
        await system.until_page("/metrics", "cohere_up 1.0")
        before = await properties(system, "MainPID")
        await system.output(f"kill -STOP {before['MainPID']}")
        await eventually(lambda: is_now(system, NRestarts="1"))
        await system.until_page("/metrics", "cohere_up 1.0")
        assert await properties(system, "MainPID") != before
        await system.until_output(JOURNAL, "Watchdog timeout")
        await system.output(f"kill -KILL $(systemctl show --property=MainPID --value {UNIT})")
        await eventually(lambda: is_now(system, NRestarts="2"))
        await system.until_page("/metrics", "cohere_up 1.0")


async def test_each_account_has_an_instance_and_nothing_is_left_when_all_is_uninstalled(
    opt: Path, tmp_path: Path
) -> None:
    shutil.copytree(opt, tmp_path / "opt", symlinks=True)
    async with installed(tmp_path / "opt") as system:
        await system.output(INSTALL_INSTANCE, folder="/srv")
        folder = f"{ETC}/research"
        await system.output(f"sed 's/:10220/:10230/' {ETC}/config.yml > {folder}/config.yml")
        await system.output(f"cat > {folder}/api-key", stdin=KEY)
        await system.output(START)
        await system.output(START_INSTANCE)
        await system.until_page("/metrics", "cohere_up 1.0")
        instance = "cohere-finetune-exporter@research.service"
        assert await system.output(f"systemctl is-active {UNIT} {instance}") == "active\nactive"
        assert await system.output(f"systemd-analyze verify {instance} 2>&1") == ""
        assert "serving http://localhost:10230/" in await system.output(
            f"systemctl status --no-pager {instance}"
        )
        assert await system.output("ls -d /var/lib/cohere-finetune-exporter-research")

        _, upgrade_instances = commands("Upgrade")
        await system.output(upgrade_instances, folder="/srv")
        for uninstall in commands("Uninstall"):
            await system.output(uninstall)
        found = "find / -xdev -name '*cohere-finetune*' -not -path '/srv/*' -not -path '/tmp/*'"
        assert await system.output(f"{found}; ls /opt") == ""
