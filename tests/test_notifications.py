"""What people get of alerts posted to a real Alertmanager: on Slack, on PagerDuty and by e-mail."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from email import message_from_string
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.editions import every_edition
from tests.manifests import Manifest, custom_resource_errors
from tests.monitoring import serving
from tests.programs import ROOT

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

DEPLOY = ROOT / "deploy/prometheus"
ENDED = "Not necessarily repaired: its status changed, it was deleted, or the failure is a day old."


def failure(number: int, *, ended: bool = False, severity: str = "warning") -> dict[str, Any]:
    """Return an alert as Prometheus would post it."""
    now = datetime.now(UTC)
    name = f"chat-{number:02}"
    alert = {
        "labels": {
            "alertname": "CohereModelFailed",
            "namespace": "ml",
            "job": "a",
            "severity": severity,
            "model_id": f"{number:02}",
            "model_name": name,
            "base_model": "command-r",
            "dataset_id": "data-7",
            "creator_id": "eve",
        },
        "annotations": {
            "summary": f"Model {name} failed",
            "description": f"{name} of ml/a went to STATUS_FAILED.",
            "action": "Compare its dataset and hyperparameters.",
            "ended": ENDED,
            "runbook_url": "https://ops.example.com/runbooks/CohereModelFailed.md",
            "dashboard_url": f"https://ops.example.com/d/cohere-finetuning-model?var-model_id={number}",
        },
    }
    # A group waits for an alert that has just begun, and sends an older one at once.
    times = {"startsAt": now - timedelta(minutes=ended), **({"endsAt": now} if ended else {})}
    return {**alert, **{name: moment.isoformat() for name, moment in times.items()}}


def paragraph(number: int) -> str:
    return (
        f"Model chat-{number:02} failed\n"
        f"chat-{number:02} of ml/a went to STATUS_FAILED.\n"
        "Base model command-r, dataset data-7, creator eve\n"
        "First step: Compare its dataset and hyperparameters.\n"
        "Runbook: https://ops.example.com/runbooks/CohereModelFailed.md\n"
        f"Dashboard: https://ops.example.com/d/cohere-finetuning-model?var-model_id={number}"
    )


def firing(numbers: Sequence[int]) -> str:
    """Return the text about alerts that fire: ten in full, the rest by name."""
    text = "\n\n".join(paragraph(number) for number in numbers[:10])
    rest = ", ".join(f"chat-{number:02}" for number in numbers[10:])
    return f"{text}\n\nAlso firing: {rest}" if rest else text


def ended(numbers: Sequence[int]) -> str:
    text = "\n".join(f"chat-{number:02}: {ENDED}" for number in numbers[:10])
    rest = ", ".join(f"chat-{number:02}" for number in numbers[10:])
    return f"Ended:\n{text}\nAlso ended: {rest}" if rest else f"Ended:\n{text}"


class Inbox:
    """Receives what Alertmanager sends over HTTP and SMTP on this machine's loopback."""

    def __init__(self) -> None:
        self.slack: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.pagerduty: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.email: asyncio.Queue[dict[str, str]] = asyncio.Queue()

    async def http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        except asyncio.IncompleteReadError:  # a connection that was opened ahead and not used
            writer.close()
            return
        length = next(
            int(line[15:]) for line in head.split("\r\n") if line.lower().startswith("content-length:")
        )
        body = json.loads(await reader.readexactly(length))
        is_slack = head.split()[1] == "/slack"
        (self.slack if is_slack else self.pagerduty).put_nowait(body)
        status = b"200 OK" if is_slack else b"202 Accepted"
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()

    async def smtp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 here\r\n")
        with suppress(ConnectionError):
            while line := await reader.readline():
                if line.startswith(b"DATA"):
                    writer.write(b"354 go on\r\n")
                    text = (await reader.readuntil(b"\r\n.\r\n")).decode()
                    self.email.put_nowait(_mail(text))
                writer.write(b"221 bye\r\n" if line.startswith(b"QUIT") else b"250 ok\r\n")
        writer.close()


def _mail(text: str) -> dict[str, str]:
    message = message_from_string(text.removesuffix("\r\n.\r\n"))
    (part,) = [part for part in message.walk() if part.get_content_type() == "text/plain"]
    body = part.get_payload(decode=True)
    assert isinstance(body, bytes)
    return {
        "subject": " ".join(message["Subject"].split()),
        "text": body.decode().replace("\r\n", "\n").strip(),
    }


@asynccontextmanager
async def alertmanager(folder: Path) -> AsyncIterator[tuple[httpx.AsyncClient, Inbox]]:
    """Run an Alertmanager with the example, sent to an inbox and in a hurry."""
    inbox = Inbox()
    async with (
        await asyncio.start_server(inbox.http, "127.0.0.1", 0) as web,
        await asyncio.start_server(inbox.smtp, "127.0.0.1", 0) as mail,
    ):
        file = folder / "alertmanager.yml"
        file.write_text(
            yaml.safe_dump(_config(folder, *(one.sockets[0].getsockname()[1] for one in (web, mail))))
        )
        flags = (
            f"--config.file={file}",
            f"--storage.path={folder}/alertmanager",
            "--cluster.listen-address=",
        )
        async with (
            serving("alertmanager", *flags) as url,
            httpx.AsyncClient(base_url=url, trust_env=False) as client,
        ):
            yield client, inbox


def _config(folder: Path, web: int, mail: int) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((DEPLOY / "alertmanager-receivers.yml").read_text("utf-8"))
    slack, pagerduty, _ = config["receivers"]
    (folder / "slack").write_text(f"http://127.0.0.1:{web}/slack")
    (folder / "key").write_text("a-key")
    slack["slack_configs"][0]["api_url_file"] = str(folder / "slack")
    pagerduty["pagerduty_configs"][0] |= {
        "routing_key_file": str(folder / "key"),
        "url": f"http://127.0.0.1:{web}/pagerduty",
    }
    config["global"] |= {"smtp_smarthost": f"127.0.0.1:{mail}", "smtp_require_tls": False}
    config["templates"] = [str(DEPLOY / "cohere-finetuning.tmpl")]
    config["route"] |= {"group_wait": "1s", "group_interval": "1s"}
    return config


async def post(client: httpx.AsyncClient, alerts: Sequence[dict[str, Any]]) -> None:
    (await client.post("/api/v2/alerts", json=alerts)).raise_for_status()


async def next_of(queue: asyncio.Queue[Any]) -> Any:
    async with asyncio.timeout(60):
        return await queue.get()


async def slack(inbox: Inbox) -> tuple[str, str, str]:
    (message,) = (await next_of(inbox.slack))["attachments"]
    return message["title"], message["text"], message["color"]


async def slack_titled(inbox: Inbox, title: str) -> tuple[str, str]:
    """Return text and color of the message with this title; alerts of one request may end in two flushes."""
    while True:
        received, text, color = await slack(inbox)
        if received == title:
            return text, color


@every_edition
async def test_one_failure_and_its_end(tmp_path: Path) -> None:
    async with alertmanager(tmp_path) as (client, inbox):
        await post(client, [failure(1)])
        assert await slack(inbox) == ("[FIRING 1] Model chat-01 failed", firing([1]), "warning")
        incident = await next_of(inbox.pagerduty)
        assert (incident["event_action"], incident["payload"]["severity"]) == ("trigger", "warning")
        assert incident["payload"]["summary"] == "[FIRING 1] Model chat-01 failed"
        assert incident["payload"]["custom_details"]["text"] == firing([1])
        assert incident["client_url"].startswith("https://ops.example.com/d/")

        await post(client, [failure(1, ended=True)])
        assert await slack(inbox) == ("[ENDED 1] Model chat-01 failed", ended([1]), "#888888")
        resolved = await next_of(inbox.pagerduty)
        assert (resolved["event_action"], resolved["dedup_key"]) == ("resolve", incident["dedup_key"])


@every_edition
async def test_forty_failures_half_of_them_ended_and_all_of_them(tmp_path: Path) -> None:
    everyone = range(1, 41)
    async with alertmanager(tmp_path) as (client, inbox):
        await post(client, [failure(number) for number in everyone])
        title, text, color = await slack(inbox)
        assert (title, color) == ("[FIRING 40] CohereModelFailed in ml/a", "warning")
        assert text == firing(everyone)
        incidents = [await next_of(inbox.pagerduty) for _ in everyone]
        assert len({incident["dedup_key"] for incident in incidents}) == 40

        await post(client, [failure(number, ended=True) for number in everyone[:20]])
        text, _ = await slack_titled(inbox, "[FIRING 20, ENDED 20] CohereModelFailed in ml/a")
        assert text == f"{firing(everyone[20:])}\n\n{ended(everyone[:20])}"

        await post(client, [failure(number, ended=True) for number in everyone[20:]])
        text, color = await slack_titled(inbox, "[ENDED 20] CohereModelFailed in ml/a")
        assert color == "#888888"
        assert text == ended(everyone[20:])


@every_edition
async def test_what_is_only_information_goes_by_mail(tmp_path: Path) -> None:
    async with alertmanager(tmp_path) as (client, inbox):
        alert = failure(1, severity="info")
        alert["labels"]["alertname"] = "CohereSeriesDropped"
        await post(client, [alert])
        assert await next_of(inbox.email) == {
            "subject": "[FIRING 1] Model chat-01 failed",
            "text": firing([1]),
        }
        assert inbox.slack.empty()


@every_edition
async def test_a_failure_silences_only_what_its_own_account_and_model_have(tmp_path: Path) -> None:
    async with alertmanager(tmp_path) as (client, inbox):
        diverged, elsewhere = failure(1), failure(1)
        for alert in (diverged, elsewhere):
            alert["labels"]["alertname"] = "CohereTrainingDiverged"
        elsewhere["labels"]["cluster"] = "production"
        await post(client, [failure(1), diverged, elsewhere])
        titles = {(await slack(inbox))[0] for _ in range(2)}
        assert titles == {"[FIRING 1] Model chat-01 failed"}
        answer = await client.get("/api/v2/alerts", params={"filter": "alertname=CohereTrainingDiverged"})
        states = {alert["labels"].get("cluster", ""): alert["status"]["state"] for alert in answer.json()}
        assert states == {"": "suppressed", "production": "active"}


def test_both_examples_use_templates_that_exist() -> None:
    text = (DEPLOY / "cohere-finetuning.tmpl").read_text(encoding="utf-8")
    for example in ("alertmanager-receivers.yml", "alertmanagerconfig.yaml"):
        used = (DEPLOY / example).read_text(encoding="utf-8")
        for name in ("cohere.title", "cohere.text"):
            assert f'template "{name}"' in used
            assert f'define "{name}"' in text


def test_the_operator_knows_every_field_of_the_alertmanagerconfig() -> None:
    config = yaml.safe_load((DEPLOY / "alertmanagerconfig.yaml").read_text(encoding="utf-8"))
    assert operator_errors(config) == []
    config["spec"]["route"]["routes"][0]["groupby"] = "alertname"
    assert operator_errors(config) == ["/spec/route/groupby: unknown field"]
    config["spec"]["receivers"][0]["slackConfigs"][0]["sendResolved"] = "yes"
    wrong = '/spec/receivers/0/slackConfigs/0/sendResolved: {"type":"boolean"}'
    assert wrong in operator_errors(config)


def operator_errors(config: Manifest) -> list[str]:
    """Return what the resource's schema refuses, routes within routes too.

    To the schema these are any JSON, so each stands once as the route of a resource of its own. A property
    named `description` is lost in the package; the operator's own types have it.
    """
    config = deepcopy(config)
    routes = [config["spec"]["route"], *config["spec"]["route"].pop("routes")]
    alike = [{**config, "spec": {**config["spec"], "route": route}} for route in routes]
    lost = "/spec/receivers/1/pagerdutyConfigs/0/description: unknown field"
    return sorted({*custom_resource_errors(alike)} - {lost})
