"""What SECURITY.md promises, where no other test holds it, and that the tests it names are there."""

import asyncio
import io
import json
import re
import signal
import ssl
import sys
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import structlog
import trustme

from exporter.clock import SystemClock
from exporter.cohere.transport import Endpoint, Transport
from exporter.errors import ConnectionFailed
from exporter.runtime import log as exporter_log
from exporter.runtime.reload import ReloadError
from exporter.settings import ApiKey, SettingsError, load
from exporter.simulator import LIST_MODELS, LIST_STEPS
from exporter.telemetry import Telemetry
from exporter.web.config import read_config
from exporter.web.messages import Request, Response
from exporter.web.server import WebServer, listen
from tests.audit import REASONED, code
from tests.certificates import HASH, PASSWORD
from tests.clients import open_client, plain_client
from tests.programs import KEY as API_KEY
from tests.programs import ROOT, Running, environment, eventually, exporter, run, simulated_api
from tests.schedules import allowance_of
from tests.test_redaction import SPELLINGS

pytestmark = pytest.mark.slow

DOCUMENT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
LOCKS = sorted(ROOT.glob("requirements*.lock"))
KEY = 'Ab9/x"K+never-SHOWN&7'
WANDB_KEY = "5f1d0b7c9e2a4d6f8091a2b3c4d5e6f708192a3b"
PROXY_PASSWORD = "proxy-pass-never-shown"
_UNSAFE = re.compile(r"noqa: [A-Z0-9, ]*\bS[0-9]")


# The document.


def _tests(file: str) -> set[str]:
    return set(re.findall(r"def (test_\w+)\(", (ROOT / "tests" / file).read_text(encoding="utf-8")))


def test_every_promise_is_held_by_tests_that_exist() -> None:
    promises = re.findall(r"^(\d+)\. ", DOCUMENT, re.MULTILINE)
    held_by = dict(re.findall(r"^\| (\d+) \| (.+) \|$", DOCUMENT, re.MULTILINE))
    assert promises == list(held_by) == [str(number) for number in range(1, len(promises) + 1)]
    for tests in held_by.values():
        named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", tests)
        assert named
        assert tests.count("`") == 2 * len(named), tests
        assert [name for file, name in named if name not in _tests(file)] == []


def test_its_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", DOCUMENT)
    assert targets
    assert [target for target in targets if "://" not in target and not (ROOT / target).exists()] == []


# What is written beside the code.


def test_each_exception_from_a_security_rule_has_its_reason_beside_it() -> None:
    files = [file for directory in code() for file in (ROOT / directory).rglob("*.py")]
    assert files
    bare = [
        f"{file.relative_to(ROOT)}:{number}"
        for file in files
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if _UNSAFE.search(line) and not REASONED.search(line)
    ]
    assert bare == []


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: str(lock.name))
def test_each_package_is_pinned_to_files_by_their_hashes_and_comes_from_no_address(lock: Path) -> None:
    text = re.sub(r"^\s*#.*\n", "", lock.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for requirement in text.replace("\\\n", " ").splitlines():
        package, *hashes = requirement.split(" --hash=")
        assert re.fullmatch(r"[a-z0-9-]+==[\w.!+]+( ; .+)?", package.strip()), requirement
        assert hashes, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest.strip()) for digest in hashes), requirement


def test_what_is_installed_to_run_is_checked_in_full_by_its_hashes() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    installed = re.findall(r"\$\(PIP\) install (.+)", makefile)
    assert installed
    for arguments in installed:
        assert arguments.startswith(("--require-hashes -r requirements", "--no-deps --no-build-isolation")), (
            arguments
        )


# Secrets.


class EchoingApi:
    """An API that lists a model with a secret of its owner's, and then quotes the key it refuses."""

    def __init__(self) -> None:
        self.refuses = False
        self.proxied = 0

    def __call__(self, request: Request) -> Response:
        self.proxied += bool(request.header("proxy-authorization"))
        return self._refusal(request) if self.refuses else self._list()

    def _list(self) -> Response:
        wandb = {"project": "p", "entity": "e", "api_key": WANDB_KEY}
        model = {"id": "m-1", "name": "a model", "status": "STATUS_QUEUED", "settings": {"wandb": wandb}}
        return Response(200, {}, [json.dumps({"finetuned_models": [model]}).encode()])

    def _refusal(self, request: Request) -> Response:
        key = request.header("authorization").removeprefix("Bearer ")
        assert key == KEY
        spelled = [spell(key) for spell in SPELLINGS.values()]
        message = " | ".join(["no such key:", *spelled])
        trace = " ".join(" ".join(spelled).split())
        answer = {"message": message, "settings": {"wandb": {"api_key": WANDB_KEY}}}
        return Response(401, {"x-debug-trace-id": trace}, [json.dumps(answer).encode()])


@asynccontextmanager
async def echoing_api() -> AsyncIterator[tuple[EchoingApi, dict[str, str]]]:
    """Serve it as a proxy that wants a password; return it and the environment that leads there."""
    api = EchoingApi()
    async with WebServer(api, listen("127.0.0.1", 0)) as server:
        proxy = f"http://scraper:{PROXY_PASSWORD}@127.0.0.1:{server.port}"
        yield api, {"HTTP_PROXY": proxy, "CO_API_URL": "http://api.example.test", "CO_API_KEY": KEY}


def leaks(seen: str) -> list[str]:
    """Name the secrets that are in a text, in any spelling."""
    spelled = {f"the key, {name}": spell(KEY) for name, spell in SPELLINGS.items()}
    others = {"W&B": WANDB_KEY, "proxy": PROXY_PASSWORD, "web": PASSWORD, "hash": HASH}
    return [name for name, secret in {**spelled, **others}.items() if secret in seen]


async def everything_shown(running: Running, client: httpx.AsyncClient) -> str:
    """Return all pages, the log, and what the process list shows."""
    pages = [(await client.get(f"{running.url}{path}")).text for path in ("/", "/metrics", "/-/ready", "/no")]
    return "\n".join([*pages, command_line(running.process.pid), *running.lines])


def command_line(process: int) -> str:
    return Path(f"/proc/{process}/cmdline").read_text(encoding="utf-8")


@pytest.mark.anyio
async def test_no_secret_is_shown_anywhere_however_the_api_spells_it(tmp_path: Path) -> None:
    web = tmp_path / "web.yml"
    web.write_text(f"basic_auth_users: {{prometheus: {HASH}}}\n")
    login = ("prometheus", PASSWORD)
    flags = ("--poll.interval=1s", "--log.level=debug", f"--web.config.file={web}")
    async with echoing_api() as (api, environ), plain_client(auth=login) as client:
        async with exporter(*flags, environ=environ, client={"auth": login}) as running:
            seen = await everything_shown(running, client)
            assert 'model_id="m-1"' in seen
            api.refuses = True

            async def refused() -> bool:
                return "cohere_up 0.0" in (await client.get(f"{running.url}/metrics")).text

            await eventually(refused)
            seen += await everything_shown(running, client)
            seen += (await client.get(f"{running.url}/metrics", auth=(login[0], PASSWORD + "x"))).text
            assert await running.stop(signal.SIGTERM) == 0
        seen += "".join(running.lines)
        code_, out, err = await run(sys.executable, "-m", "exporter", "check", environ=environ)
    assert code_ == 1
    assert "no such key: | [redacted] | [redacted]" in err
    assert api.proxied
    assert leaks(seen + out + err) == []


@pytest.mark.anyio
async def test_no_word_of_the_api_reaches_a_terminal_as_a_command() -> None:
    message = "no\x1b[2J\x1b]0;mine\x07\x9b31m\u202etpircs\r\x00"
    async with simulated_api() as (simulator, api):
        environ = {"CO_API_URL": api, "CO_API_KEY": API_KEY}
        for endpoint in (LIST_STEPS, LIST_MODELS):
            simulator.fail(endpoint, status=400, body={"message": message})
            _, out, err = await run(sys.executable, "-m", "exporter", "check", environ=environ)
            assert "HTTP 400: no [2J" in err
            assert (out + err).replace("\n", "").isprintable()


@pytest.fixture
def stream() -> io.StringIO:
    stream = io.StringIO()
    exporter_log.configure("debug", "json", stream, secrets=lambda: (KEY,))
    return stream


def test_a_traceback_shows_no_local_variable_and_no_key(stream: io.StringIO) -> None:
    def fails() -> None:
        body = WANDB_KEY  # as a body is, where an answer is read
        raise RuntimeError(f"{len(body)} bytes for {KEY}")

    try:
        fails()
    except RuntimeError:
        structlog.stdlib.get_logger("exporter").exception("failed")
    assert "40 bytes for [redacted]" in stream.getvalue()
    assert leaks(stream.getvalue()) == []


# The way to the API.


@pytest.mark.anyio
@pytest.mark.parametrize(("host", "is_trusted"), [("127.0.0.1", False), ("other.example", True)])
async def test_the_key_goes_to_no_server_whose_certificate_does_not_prove_it(
    host: str, is_trusted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, received = trustme.CA(), bytearray()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(context)
    trusted = authority if is_trusted else trustme.CA()
    trusted.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))

    async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.extend(await reader.read(1024))
        writer.close()

    async with await asyncio.start_server(record, "127.0.0.1", 0, ssl=context) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(ConnectionFailed, match="certificate"):
            await ask(url)
    assert not received


async def ask(url: str) -> None:
    """Send one request with the key, as the exporter does."""
    clock = SystemClock()
    async with open_client(url) as http:
        transport = Transport(
            http,
            key=lambda: KEY,
            timeout=60.0,
            allowance=allowance_of(clock, requests_per_minute=1, concurrency=1, calls=1),
            observer=Telemetry(version="", revision="", endpoints=Endpoint, rejected_kinds=()),
            clock=clock,
        )
        await transport.get(Endpoint.LIST_FINETUNED_MODELS, "/v1/finetuning/finetuned-models", {})


# What it does on its machine.

# Tells, as lines of the log, what the process opens to write, whom it connects to, and what it starts.
WATCHER = """
import json, os, sys
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty")
CHANGES = ("os.chmod", "os.chown", "os.link", "os.mkdir", "os.mkfifo", "os.mknod", "os.remove", "os.rmdir",
           "os.setxattr", "os.symlink", "os.truncate", "os.utime", "shutil.", "tempfile.")

def tell(**event):
    os.write(2, (json.dumps({"msg": "watched", **event}, default=str) + "\\n").encode())

def watch(event, arguments):
    if event == "open" and arguments[2] & WRITING and arguments[0] != os.devnull:
        tell(what="writes", whom=arguments[0])
    elif event in ("socket.connect", "socket.sendto"):
        tell(what="calls", whom=arguments[1])
    elif event == "os.rename":
        tell(what="renames", whom=[os.path.basename(path) for path in arguments[:2]])
    elif event in STARTS or event.startswith(CHANGES):
        tell(what=event, whom=arguments)

sys.addaudithook(watch)
"""


@pytest.mark.anyio
@pytest.mark.parametrize("has_budget", [False, True])
async def test_it_writes_no_file_but_the_budget_starts_no_program_and_calls_nobody_but_the_api(
    tmp_path: Path, *, has_budget: bool
) -> None:
    (tmp_path / "sitecustomize.py").write_text(WATCHER)
    watched = {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    # The metrics' library would keep its values in files there.
    watched["PROMETHEUS_MULTIPROC_DIR"] = str(tmp_path)
    async with simulated_api() as (_, api):
        key = tmp_path / "key"
        key.write_text(API_KEY)
        flags = [f"--cohere.base-url={api}", f"--cohere.api-key-file={key}"]
        if has_budget:
            flags += ["--cohere.calls-per-month=1000", f"--cohere.budget-file={tmp_path / 'budget'}"]
        async with exporter(*flags, environ=watched) as running:
            async with plain_client() as client:
                assert "cohere_up 1.0" in (await client.get(f"{running.url}/metrics")).text
            assert await running.stop(signal.SIGTERM) == 0
    events = [(event["what"], event["whom"]) for event in running.events if event["msg"] == "watched"]
    address = httpx.URL(api)
    assert ("calls", [address.host, address.port]) in events
    others = {
        (what, str(whom)) for what, whom in events if what != "calls" or whom != [address.host, address.port]
    }
    new, budget = ".budget.new", "budget"
    saved = {("writes", str(tmp_path / new)), ("renames", str([new, budget]))}
    assert others == (saved if has_budget else set())


@pytest.mark.parametrize("text", ["!!python/object/apply:os.system [id]", "!!python/name:os.system"])
def test_no_file_can_make_it_run_something(text: str, tmp_path: Path) -> None:
    file = tmp_path / "file.yml"
    file.write_text(f"poll: {text}\n")
    with pytest.raises(SettingsError, match="not valid YAML"):
        load([f"--config.file={file}"], environment(None))
    with pytest.raises(ReloadError, match="not valid YAML"):
        read_config(file)


def test_a_file_without_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    file = tmp_path / "a-log-given-by-mistake"
    file.write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(SettingsError, match="larger than"):
        load([f"--config.file={file}"], environment(None))
    with pytest.raises(ReloadError, match="larger than"):
        read_config(file)
    with pytest.raises(ValueError, match="cannot"):
        ApiKey(file=file)


def test_nothing_private_of_another_library_is_used() -> None:
    """Ruff's SLF finds private attributes of objects; this one private names and modules of libraries."""
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert "SLF" in lint["select"]
    assert not [
        path for path, rules in lint["per-file-ignores"].items() if "SLF" in rules and "export" in path
    ]
    private = re.compile(
        r"noqa: SLF|asyncio\.(?:sslproto|selector_events|base_events)|argparse\._|ValueClass"
        r"|\bimport _(?!_)|\bfrom [\w.]+ import (?:.*, )?_(?!_)"
    )
    found = [
        f"{file.relative_to(ROOT)}:{number}"
        for file in (ROOT / "exporter").rglob("*.py")
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if private.search(line)
    ]
    assert found == []
