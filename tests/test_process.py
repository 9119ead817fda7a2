"""The exporter as a process: what ends it, what it outlives, and that it leaves nothing behind."""

import asyncio
import fcntl
import os
import re
import resource
import select
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from errno import EACCES
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx
import pytest

from exporter.cli import main
from exporter.simulator import at_rest
from tests.certificates import HASH, Authority
from tests.clients import plain_client
from tests.conftest import until
from tests.programs import (
    KEY,
    ROOT,
    Running,
    called,
    environment,
    eventually,
    exporter,
    program,
    run,
    simulated_api,
    started,
    wait_for,
    wait_for_line,
)
from tools.ports import unused_port

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

TERM, INT, HUP = signal.SIGTERM, signal.SIGINT, signal.SIGHUP
API_KEY = {"COHERE_API_KEY": KEY}
SCRAPE = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
STATUSES_ONLY = ("--metrics.exclude=.*_training_.*",)
Process = asyncio.subprocess.Process

# Run by the interpreter before all else: sends the process a signal when it imports a module.
SIGNAL_AT_IMPORT = """
import os, sys
def send(event, arguments):
    if event == "import" and arguments[0] == {module!r}:
        os.kill(os.getpid(), {number})
sys.addaudithook(send)
"""
# Sends the process a signal whenever it begins to render models.
SIGNAL_AT_RENDERING = """
import os
from exporter.exposition.rendering import Renderer
render = Renderer.render
def signalled(self, snapshot):
    os.kill(os.getpid(), {number})
    return render(self, snapshot)
Renderer.render = signalled
"""


async def ends_well(running: Running, number: int) -> None:
    """Send a signal; the process must end in time, with 0, and "stopping" be its last word."""
    assert await running.stop(number) == 0
    await has_ended_well(running)


async def has_ended_well(running: Running) -> None:
    await until(lambda: any('"stopping"' in line for line in running.lines))
    assert running.events[-1]["msg"] == "stopping", running.lines[-3:]
    assert not any("Traceback" in line for line in running.lines)


def site(directory: Path, text: str) -> dict[str, str]:
    """Return the environment in which the interpreter runs `text` before anything else."""
    (directory / "sitecustomize.py").write_text(text)
    return {"PYTHONPATH": str(directory), "PYTHONDONTWRITEBYTECODE": "1"}


# Signals


@pytest.mark.parametrize(
    ("module", "verb", "number", "code"),
    [
        ("exporter.cli", "serve", TERM, 0),
        ("structlog", "check", INT, 130),
        ("asyncio", "history", TERM, 143),
        ("pydantic", "serve", HUP, 0),
    ],
)
async def test_a_signal_while_modules_are_loaded_ends_the_process_at_once(
    module: str, verb: str, number: int, code: int, tmp_path: Path
) -> None:
    environ = site(tmp_path, SIGNAL_AT_IMPORT.format(module=module, number=int(number)))
    assert await run(sys.executable, "-m", "exporter", verb, environ=environ) == (code, "", "")


async def test_the_console_script_guards_its_start_as_well(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("cohere-finetune-exporter")
    environ = site(tmp_path, SIGNAL_AT_IMPORT.format(module="exporter.app", number=int(TERM)))
    assert await run(program(str(script)), "demo", environ=environ) == (0, "", "")


async def test_a_signal_ends_the_process_whatever_the_api_does() -> None:
    async def phase(number: int, requests: int, fault: dict[str, Any] | None = None) -> None:
        async with simulated_api(jobs=at_rest(3)) as (simulator, api):
            if fault is not None:
                simulator.fail(**fault) if fault else simulator.hang()
            async with started(f"--cohere.base-url={api}", environ=API_KEY) as running:
                await until(lambda: simulator.requests.total() >= requests, seconds=60)
                await ends_well(running, number)

    await asyncio.gather(phase(TERM, 1, {}), phase(INT, 2, {"status": 500}))  # no answer; between two retries
    await phase(HUP, 1, {"status": 429, "headers": {"Retry-After": "25"}})


async def test_a_check_that_waits_for_the_api_is_broken_off_at_once_and_has_found_nothing() -> None:
    async with simulated_api(jobs=at_rest(1)) as (simulator, api):
        simulator.hang()
        async with started("check", f"--cohere.base-url={api}", environ=API_KEY) as running:
            await until(lambda: simulator.requests.total() > 0, seconds=60)
            assert await running.stop(INT) == 128 + INT
    assert running.lines == []


async def test_a_signal_ends_the_process_amid_handshakes_and_passwords(tmp_path: Path) -> None:
    certificate, key = Authority(tmp_path).issue("server", "127.0.0.1")
    file = tmp_path / "web.yml"
    users = {f"user{number}": HASH.replace("$04$", "$13$") for number in range(4)}
    file.write_text(
        f"tls_server_config: {{cert_file: {certificate}, key_file: {key}}}\nbasic_auth_users: {users}\n"
    )
    async with started("demo", f"--web.config.file={file}") as running:
        await wait_for_line(running, "serving")
        port = httpx.URL(running.events[-1]["url"]).port or 0
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        async with httpx.AsyncClient(verify=context, trust_env=False) as client, silent(port, 50):
            url = f"https://127.0.0.1:{port}/metrics"
            asking = [asyncio.create_task(client.get(url, auth=(user, "guess"))) for user in users]
            await asyncio.wait(asking, timeout=0.3)
            await ends_well(running, TERM)
            await asyncio.gather(*asking, return_exceptions=True)


@asynccontextmanager
async def silent(port: int, clients: int, request: bytes = b"") -> AsyncIterator[list[socket.socket]]:
    """Keep so many connections open that send `request` and read nothing."""
    opened = []
    with ExitStack() as stack:
        for _ in range(clients):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", port))
            client.sendall(request)
            opened.append(client)
        yield opened


def is_answered(client: socket.socket) -> bool:
    """Return whether there is something to read."""
    return bool(select.select([client], [], [], 0)[0])


async def test_a_signal_ends_the_process_while_a_large_fleet_is_rendered(tmp_path: Path) -> None:
    environ = {**site(tmp_path, SIGNAL_AT_RENDERING.format(number=int(TERM))), **API_KEY}
    flags = ("--models.limit=0", "--cohere.page-size=1000", *STATUSES_ONLY)
    async with (
        simulated_api(jobs=at_rest(5_000)) as (_, api),
        started(f"--cohere.base-url={api}", *flags, environ=environ) as running,
    ):
        await until(lambda: any('"models listed"' in line for line in running.lines), seconds=60)
        async with asyncio.timeout(10):
            assert await running.process.wait() == 0
        await has_ended_well(running)


async def test_a_signal_ends_scrapes_that_nobody_reads_and_a_second_one_ends_all_at_once() -> None:
    async def stop(*numbers: int, code: int, most: float) -> None:
        async with (
            exporter(f"--cohere.base-url={api}", *flags, environ=API_KEY) as running,
            silent(httpx.URL(running.url).port or 0, 20, SCRAPE) as clients,
        ):
            await until(lambda: all(map(is_answered, clients)), seconds=60)
            for first in numbers[:-1]:
                running.process.send_signal(first)
                await wait_for_line(running, "stopping")
            asked = asyncio.get_running_loop().time()
            assert await running.stop(numbers[-1]) == code
            assert asyncio.get_running_loop().time() - asked < most
        assert running.events[-1]["msg"] == "stopping"

    # A page larger than what the kernel takes for a client, or the responses would be over at once.
    flags = ("--models.limit=0", "--cohere.page-size=1000", *STATUSES_ONLY)
    async with simulated_api(jobs=at_rest(2_000)) as (_, api):
        await asyncio.gather(stop(TERM, code=0, most=10), stop(HUP, INT, code=130, most=3))


async def test_more_signals_than_the_event_loop_can_be_woken_by_end_the_process_without_a_word() -> None:
    # One piece of work in which no handler of Python's is called; then one that lets them be.
    process = await held_up("sum(range(50_000_000))")
    async with asyncio.timeout(60):
        for _ in range(600):
            with suppress(ProcessLookupError):
                os.kill(process.pid, TERM)
            await asyncio.sleep(0.0005)  # or the kernel takes several for one
        assert await process.wait() in (0, 128 + TERM)
        assert process.stderr is not None
        assert await process.stderr.read() == b""


async def held_up(first: str = "pass") -> Process:
    """Start a demo whose event loop is held up, half a second of which it waits for after a signal.

    It sleeps a moment at a time: a signal just before a long sleep is acted on after it.
    """
    program_text = f"""
import sys, time
from exporter import __main__
from exporter.runtime import signals
signals.LONGEST_END = 0.5
from exporter.polling.poller import Poller
async def run(self):
    print("held up", file=sys.stderr, flush=True)
    {first}
    while True:
        time.sleep(0.01)
Poller.run = run
__main__.run()
"""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program_text, "demo", "--web.listen-address=127.0.0.1:0"),
        stderr=asyncio.subprocess.PIPE,
        env=environment({}),
        cwd=ROOT,
    )
    assert process.stderr is not None
    async with asyncio.timeout(60):
        while (line := await process.stderr.readline()) != b"held up\n":
            assert line, "the process has ended"
    return process


async def test_the_process_ends_in_time_though_its_event_loop_is_held_up() -> None:
    process = await held_up()
    assert process.stderr is not None
    async with asyncio.timeout(20):
        process.send_signal(TERM)
        assert await process.wait() == 0
        assert await process.stderr.read() == b""


async def test_what_is_no_wish_for_an_end_ends_nothing() -> None:
    def under_nohup() -> None:
        signal.signal(HUP, signal.SIG_IGN)

    async with started("demo", preexec_fn=under_nohup) as running:
        await wait_for_line(running, "serving")
        for number in (HUP, signal.SIGPIPE, HUP):
            running.process.send_signal(number)
        await wait_for(running.events[-1]["url"] + "-/ready")
        await ends_well(running, TERM)


# Streams


async def test_the_exporter_outlives_its_log() -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)  # full after a few lines
    unread, abandoned = os.pipe()
    os.close(unread)
    full = os.open("/dev/full", os.O_WRONLY)
    await asyncio.gather(outlives(writer, reader), outlives(abandoned), outlives(full), outlives(None))
    for descriptor in (reader, writer, abandoned, full):
        os.close(descriptor)


async def outlives(log: int | None, reader: int | None = None) -> None:
    """Run the exporter with this for a log, None being closed streams: it must serve, and end well."""
    address = f"127.0.0.1:{unused_port()}"
    closing = () if log else ("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh")
    flags = ("demo", "--log.level=debug", "--poll.interval=1s", f"--web.listen-address={address}")
    process = await asyncio.create_subprocess_exec(
        *(*closing, sys.executable, "-m", "exporter", *flags), stderr=log, env=environment({}), cwd=ROOT
    )
    async with plain_client() as client:

        async def has_polled() -> bool:
            polls = re.search(r"polls_total (\d\S*)", (await client.get(f"http://{address}/metrics")).text)
            return polls is not None and float(polls[1]) >= 2

        try:
            await wait_for(f"http://{address}/-/ready")
            await eventually(has_polled)
            if log is None:
                assert standard_streams(process) == {Path(os.devnull)}
            if reader is not None:
                assert await recovers(reader)
            process.send_signal(TERM)
            async with asyncio.timeout(10):
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


def standard_streams(process: Process) -> set[Path]:
    return {Path(f"/proc/{process.pid}/fd/{number}").readlink() for number in range(3)}


async def recovers(reader: int) -> bool:
    """Read a log at last; return whether it says what was lost and goes on with whole lines."""
    os.set_blocking(reader, False)
    text = ""
    async with asyncio.timeout(60):
        while not re.search(r"level=warn msg=\"\d+ log lines dropped: [^\n]*\n.*\n", text):
            with suppress(BlockingIOError):
                text += os.read(reader, 65_536).decode()
            await asyncio.sleep(0.02)
    return all(line.startswith("ts=2") for line in text.splitlines())


async def test_check_does_what_it_can_with_the_streams_it_has() -> None:
    async def result(redirection: str) -> tuple[int, str, str]:
        command = (sys.executable, "-m", "exporter", "check", f"--cohere.base-url={api}")
        environ = {"CO_API_KEY": KEY, "PYTHONUNBUFFERED": ""}
        code, out, err = await run("sh", "-c", f'exec "$@" {redirection}', "sh", *command, environ=environ)
        return code, out.partition(" ")[0], err

    async with simulated_api(jobs=at_rest(2)) as (_, api):
        results = await asyncio.gather(*map(result, (">/dev/full", ">&-", "2>&-", "2>/dev/full <&-")))
    assert results[0] == (1, "", "cannot write to standard output: No space left on device\n")
    assert results[1:] == [(0, "", ""), (0, "STATUS", ""), (0, "STATUS", "")]


async def test_a_check_that_fails_says_so_even_when_nobody_listens() -> None:
    command = (
        sys.executable,
        "-m",
        "exporter",
        "check",
        f"--cohere.base-url=http://127.0.0.1:{unused_port()}",
    )
    code, out, _ = await run("bash", "-c", '"$@" 2> >(exec true); echo $?', "bash", *command)
    assert (code, out) == (0, "1\n")


# What a host may lack


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("192.0.2.1", "Cannot assign requested address"),
        ("nowhere.invalid", "cannot listen on nowhere.invalid:"),
        ("127.0.0.1", "Address already in use"),
    ],
)
def test_an_address_that_cannot_be_had_is_one_line(host: str, words: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"{host}:{taken.getsockname()[1]}"
        code, out, err = called("demo", f"--web.listen-address={address}")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert address in err
    assert words in err


def test_a_port_that_only_root_may_have_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The kernel of a container may let everybody have every port.
    monkeypatch.setattr(socket.socket, "bind", Mock(side_effect=PermissionError(EACCES, os.strerror(EACCES))))
    assert main(["--web.listen-address=127.0.0.1:79"], API_KEY) == 2
    assert capsys.readouterr().err == (
        "cohere-finetune-exporter: --web.listen-address: cannot listen on 127.0.0.1:79: Permission denied\n"
    )


def test_a_demo_that_cannot_be_says_only_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--web.config.file=/nowhere"], {}) == 2
    assert capsys.readouterr().err == (
        "cohere-finetune-exporter: --web.config.file: cannot read /nowhere: No such file or directory\n"
    )


async def test_more_clients_than_files_cost_few_lines_and_no_restart() -> None:
    async with exporter("demo", "--poll.interval=1s") as running:
        pid, port = running.process.pid, httpx.URL(running.url).port or 0
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (24, hard))
        async with silent(port, 40):
            await until(lambda: len(list(Path(f"/proc/{pid}/fd").iterdir())) >= 23, seconds=60)
            await asyncio.sleep(1.2)  # a poll, at least
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
        await wait_for(f"{running.url}/metrics")
        assert len([line for line in running.lines if "Too many open files" in line]) < 10
        assert await running.stop(TERM) == 0


# Traces


async def test_the_system_sees_no_file_opened_for_writing(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    # io_uring and the like are not needed for what Python does; every way to a path is in "%file".
    strace = (program("strace"), "-f", "-qq", "-e", "trace=%file,ftruncate,fchmod,fchown", "-o", str(calls))
    command = (*strace, sys.executable, "-m", "exporter", "check", "--cohere.base-url=")
    async with simulated_api(jobs=at_rest(2)) as (_, api):
        environ = {"CO_API_KEY": KEY, "PYTHONDONTWRITEBYTECODE": "1"}
        code, _, _ = await run(*command[:-1], command[-1] + api, environ=environ)
    assert code == 0
    lines = calls.read_text().splitlines()
    assert any("openat(" in line for line in lines), "nothing was traced"
    harmless = re.compile(
        r"(openat|open)\((AT_FDCWD, )?\"[^\"]*\", (O_RDONLY|O_RDWR\|O_CLOEXEC\) += \d+</dev/null>)"
        r"|(execve|access|faccessat2?|stat|lstat|newfstatat|statx|readlink|readlinkat|getcwd|chdir)\("
    )
    noise = re.compile(r"\+\+\+|---|resumed>|\"/dev/null\", O_RDWR")
    assert not [line for line in lines if not harmless.search(line) and not noise.search(line)]
