"""The real process, over real HTTP, as its users run it."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable

import pytest

from exporter.app import Exporter
from exporter.model import Status
from exporter.settings import ApiKey, load
from exporter.simulator import at_rest
from tests.clients import plain_client
from tests.conftest import FakeClock
from tests.editions import every_edition_at_night
from tests.programs import (
    KEY,
    ROOT,
    called,
    environment,
    exporter,
    program,
    run,
    simulated_api,
    started,
)

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


async def page(url: str, **headers: str) -> str:
    async with plain_client() as client:
        response = await client.get(url, headers=headers)
    response.raise_for_status()
    return response.text


async def until_page(url: str, condition: Callable[[str], bool]) -> str:
    """Ask for a page until `condition` holds for it, for 30 seconds at most."""
    async with asyncio.timeout(30):
        while not condition(found := await page(url)):  # noqa: ASYNC110 - another process changes it
            await asyncio.sleep(0.1)
    return found


def steps(metrics: str) -> dict[str, float]:
    lines = (
        line for line in metrics.splitlines() if line.startswith("cohere_finetuned_model_training_step{")
    )
    return {series: float(value) for series, value in (line.rsplit(" ", 1) for line in lines)}


async def test_the_demo_shows_a_living_fleet_and_ends_at_once_on_interrupt() -> None:
    async with exporter("demo", "--poll.interval=1s") as running:
        first = await page(f"{running.url}/metrics")
        for status in Status:
            assert f'status="{status}"' in first
        await until_page(f"{running.url}/metrics", lambda now: steps(now) != steps(first))
        landing = await until_page(running.url + "/", lambda now: '<svg class="curve"' in now)
        assert "imulated" in landing
        assert await running.stop(signal.SIGINT) == 0
    assert "this is a demo: all data is simulated" in [event["msg"] for event in running.events]
    assert not any("Traceback" in line for line in running.lines)


async def test_the_demo_says_where_to_open_it_once_there_is_something_to_see() -> None:
    pipe, both = asyncio.subprocess.PIPE, asyncio.subprocess.STDOUT
    async with started("demo", stdout=pipe, stderr=both) as running, asyncio.timeout(30):
        assert running.process.stdout
        before = []
        async for line in running.process.stdout:
            if line.startswith(b"Open http://127.0.0.1:"):
                break
            before.append(json.loads(line))
        assert line.endswith(b"/ in a browser; Ctrl-C ends the demo.\n")
        assert [event["msg"] for event in before][-2:] == ["serving", "models listed"]
        assert await running.stop(signal.SIGINT) == 0


@every_edition_at_night
async def test_promtool_finds_nothing_to_say_about_the_metrics() -> None:
    promtool = program("promtool")
    async with exporter("demo") as running:
        metrics = await page(f"{running.url}/metrics")
        code, out, err = await run(promtool, "check", "metrics", stdin=metrics.encode())
        assert (code, out, err) == (0, "", "")
        assert await running.stop(signal.SIGTERM) == 0


async def test_check_prints_the_models_as_a_table() -> None:
    async with simulated_api() as (_, api):
        code, out, err = await check(f"--cohere.base-url={api}", environ={"CO_API_KEY": KEY})
    assert (code, err) == (0, "")
    header, *rows = out.splitlines()
    assert header.split() == ["STATUS", "NAME", "STEP", "LATEST", "EVALUATION", "AGE", "BASE", "MODEL", "ID"]
    assert any(row.startswith("PAUSED  ") and "onboarding-chat-v3" in row for row in rows)
    assert rows[-1].startswith(f"20 models at {api}: ")


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {
            "COHERE_EXPORTER_COHERE_BASE_URL": "https://api.example",
            "COHERE_EXPORTER_COHERE_API_KEY_FILE": "/nowhere",
        },
    ],
    ids=["no key", "variables for other runs"],
)
def test_check_of_the_simulated_api_needs_no_key(environ: dict[str, str]) -> None:
    code, out, err = called("check", "--demo", "--output=json", **environ)
    assert (code, err) == (0, "")
    assert len(json.loads(out)["models"]) == 20


async def test_a_mistake_on_the_command_line_is_one_line_and_exit_code_2() -> None:
    code, out, err = await run(sys.executable, "-m", "exporter", "--poll.intervall=5s")
    assert (code, out) == (2, "")
    assert err == "cohere-finetune-exporter: unknown flag --poll.intervall; did you mean --poll.interval?\n"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SSL_CERT_FILE", "/nowhere/ca.pem"),
        ("ALL_PROXY", "socks5://name:word@127.0.0.1:1"),
        ("HTTPS_PROXY", "x://y"),
    ],
)
def test_a_proxy_or_certificate_that_cannot_be_used_is_one_line_and_exit_code_2(
    variable: str, value: str
) -> None:
    code, out, err = called("check", "--cohere.base-url=https://api.invalid", **{variable: value})
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert variable in err
    assert "word" not in err


async def test_check_reads_the_step_metrics_of_a_large_fleet_to_the_last() -> None:
    async with simulated_api(jobs=at_rest(300)) as (_, api):
        flags = (f"--cohere.base-url={api}", "--cohere.requests-per-minute=100000", "--poll.interval=1s")
        code, out, err = await check(*flags, environ={"CO_API_KEY": KEY})
    rows = out.splitlines()[1:301]
    assert (code, err) == (0, "")
    assert len(rows) == 300
    assert not [row for row in rows if "accuracy=" not in row and "Accuracy@1=" not in row]


@pytest.mark.parametrize(
    ("flags", "least", "most", "fresh_for"),
    [
        (("--cohere.calls-per-month=1000", "--poll.stale-after=10m"), 2_000.0, 3_000.0, 2),
        (("--poll.idle-interval=15m",), 900.0, 900.0, 5),
    ],
)
async def test_a_fleet_at_rest_is_polled_as_seldom_as_the_settings_ask_and_shown_until_the_next_poll(
    flags: tuple[str, ...], least: float, most: float, fresh_for: int, clock: FakeClock
) -> None:
    async with simulated_api(jobs=at_rest(3)) as (_, api):
        subject = Exporter(load((f"--cohere.base-url={api}", *flags), {})[1], ApiKey(KEY), clock=clock)
        async with subject.http:
            assert (await subject.poller.poll()).reason is None
            await subject.poller.finish()
    schedule = subject.poller.schedule
    assert least <= schedule.interval <= most
    assert schedule.freshness.stale_after == fresh_for * schedule.interval
    await clock.advance(fresh_for * schedule.interval - 60.0)
    assert subject.exposition.snapshot is not None
    await clock.advance(120.0)
    assert subject.exposition.snapshot is None


async def test_check_ends_quietly_when_nobody_reads_its_table() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    async with simulated_api() as (_, api):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "exporter", "check", f"--cohere.base-url={api}"),
            stdout=writer,
            stderr=asyncio.subprocess.PIPE,
            env=environment({"CO_API_KEY": KEY}),
        )
        os.close(writer)
        async with asyncio.timeout(60):
            _, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")


async def test_a_signal_ends_the_process_though_a_name_server_never_answers() -> None:
    program_text = """
import socket, sys, time
asked = socket.getaddrinfo
def getaddrinfo(host, *arguments, **options):
    if "slow.invalid" in str(host):
        print("asked", file=sys.stderr, flush=True)
        time.sleep(60)
    return asked(host, *arguments, **options)
socket.getaddrinfo = getaddrinfo
from exporter.cli import run
sys.exit(run())
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", program_text, "--web.listen-address=127.0.0.1:0", "--cohere.base-url=http://slow.invalid"),
        stderr=asyncio.subprocess.PIPE,
        env=environment({}),
        cwd=ROOT,
    )
    assert process.stderr is not None
    async with asyncio.timeout(60):
        while await process.stderr.readline() != b"asked\n":
            pass
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):  # its own limit is four
            assert await process.wait() == 0
        assert b"Traceback" not in await process.stderr.read()


async def check(*flags: str, environ: dict[str, str] | None = None) -> tuple[int, str, str]:
    return await run(sys.executable, "-m", "exporter", "check", *flags, environ=environ)
