"""What people get of alerts posted to a real Alertmanager: on Slack, on PagerDuty and by e-mail."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email import message_from_string
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.clients import plain_client
from tests.editions import every_edition, every_edition_at_night
from tests.manifests import Manifest, custom_resource_errors
from tests.monitoring import serving
from tests.programs import ROOT, eventually, program, run

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

DEPLOY = ROOT / "deploy/prometheus"
ENDED = "Not necessarily repaired: its status changed, it was deleted, or the failure is a day old."
RECEIVERS = ("slack", "pagerduty", "email")


@dataclass(frozen=True)
class Failure:
    """A model that failed; what is `info` goes by e-mail, what is `warning` to Slack and PagerDuty."""

    job: str
    number: int
    severity: str = "warning"

    @property
    def name(self) -> str:
        return f"{self.job}-{self.number:02}"

    def alert(self, *, ended: bool = False, **labels: str) -> dict[str, Any]:
        """Return the alert as Prometheus would post it."""
        now = datetime.now(UTC)
        # A group waits for an alert that has just begun, and sends an older one at once.
        times = {"startsAt": now - timedelta(minutes=ended), **({"endsAt": now} if ended else {})}
        return {
            "labels": {
                "alertname": "CohereModelFailed",
                "namespace": "ml",
                "job": self.job,
                "severity": self.severity,
                "model_id": f"{self.number:02}",
                "model_name": self.name,
                "base_model": "command-r",
                "dataset_id": "data-7",
                "creator_id": "eve",
                **labels,
            },
            "annotations": {
                "summary": f"Model {self.name} failed",
                "description": f"{self.name} of ml/{self.job} went to STATUS_FAILED.",
                "action": "Compare its dataset and hyperparameters.",
                "ended": ENDED,
                "runbook_url": "https://ops.example.com/runbooks/CohereModelFailed.md",
                "dashboard_url": f"https://ops.example.com/d/cohere-finetuning-model?var-model_id={self.number}",
            },
            **{name: moment.isoformat() for name, moment in times.items()},
        }

    @property
    def paragraph(self) -> str:
        return (
            f"Model {self.name} failed\n"
            f"{self.name} of ml/{self.job} went to STATUS_FAILED.\n"
            "Base model command-r, dataset data-7, creator eve\n"
            "First step: Compare its dataset and hyperparameters.\n"
            "Runbook: https://ops.example.com/runbooks/CohereModelFailed.md\n"
            f"Dashboard: https://ops.example.com/d/cohere-finetuning-model?var-model_id={self.number}"
        )


@dataclass(frozen=True)
class Message:
    """One message, the same on every receiver; `kind` is what else tells firing and ended apart."""

    title: str
    text: str
    kind: str = ""
    incident: str = ""


KINDS = {"slack": ("warning", "#888888"), "pagerduty": ("trigger", "resolve"), "email": ("", "")}


def expected(receiver: str, firing: Sequence[Failure], ended: Sequence[Failure]) -> Message:
    """Return the message about a group: its state and count, ten alerts in full and the rest by name."""
    states = [f"{state} {len(some)}" for state, some in (("FIRING", firing), ("ENDED", ended)) if some]
    one, *others = [*firing, *ended]
    what = f"CohereModelFailed in ml/{one.job}" if others else f"Model {one.name} failed"
    paragraphs = "\n\n".join(failure.paragraph for failure in firing[:10])
    ends = "\n".join(f"{failure.name}: {ENDED}" for failure in ended[:10])
    parts = (
        paragraphs + names("\n\nAlso firing: ", firing[10:]),
        ends and "Ended:\n" + ends + names("\nAlso ended: ", ended[10:]),
    )
    return Message(
        title=f"[{', '.join(states)}] {what}",
        text="\n\n".join(part for part in parts if part),
        kind=KINDS[receiver][not firing],
    )


def names(lead: str, rest: Sequence[Failure]) -> str:
    return lead + ", ".join(failure.name for failure in rest) if rest else ""


class Inbox:
    """Receives what Alertmanager sends over HTTP and SMTP on this machine's loopback."""

    def __init__(self) -> None:
        self._received: dict[str, list[Message]] = {name: [] for name in RECEIVERS}
        self._news = asyncio.Condition()

    async def message(self, receiver: str, title: str) -> Message:
        """Wait for the message with this title."""
        found: list[Message] = []

        def arrived() -> bool:
            found[:] = [one for one in self._received[receiver] if one.title == title]
            return bool(found)

        try:
            async with asyncio.timeout(60), self._news:
                await self._news.wait_for(arrived)
        except TimeoutError:
            pytest.fail(f"no {title!r} among {self.titles(receiver)}")
        return found[0]

    def titles(self, receiver: str) -> set[str]:
        return {message.title for message in self._received[receiver]}

    async def _receive(self, receiver: str, message: Message) -> None:
        async with self._news:
            self._received[receiver].append(message)
            self._news.notify_all()

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
        await self._receive(*(("slack", _slack(body)) if is_slack else ("pagerduty", _pagerduty(body))))
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
                    await self._receive("email", _mail(text))
                writer.write(b"221 bye\r\n" if line.startswith(b"QUIT") else b"250 ok\r\n")
        writer.close()


def _slack(body: dict[str, Any]) -> Message:
    (message,) = body["attachments"]
    assert message["fallback"] == message["title"]
    return Message(message["title"], message["text"], message["color"])


def _pagerduty(body: dict[str, Any]) -> Message:
    payload = body["payload"]
    assert body["client_url"].startswith("https://ops.example.com/d/")
    text = payload["custom_details"]["text"]
    return Message(payload["summary"], text, body["event_action"], body["dedup_key"])


def _mail(text: str) -> Message:
    message = message_from_string(text.removesuffix("\r\n.\r\n"))
    (part,) = [part for part in message.walk() if part.get_content_type() == "text/plain"]
    body = part.get_payload(decode=True)
    assert isinstance(body, bytes)
    return Message(" ".join(message["Subject"].split()), body.decode().replace("\r\n", "\n").strip())


@asynccontextmanager
async def alertmanager(folder: Path) -> AsyncIterator[tuple[httpx.AsyncClient, Inbox]]:
    """Run an Alertmanager with the example, all receivers uncommented, sent to an inbox and in a hurry."""
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
            plain_client(base_url=url) as client,
        ):
            yield client, inbox


def uncommented() -> dict[str, Any]:
    """Return the example with all its receivers uncommented."""
    head, mark, receivers = (DEPLOY / "alertmanager.yml").read_text("utf-8").partition("\nreceivers:\n")
    text = head + mark + re.sub(r"^    # ", "    ", receivers, flags=re.MULTILINE)
    config: dict[str, Any] = yaml.safe_load(text)
    return config


def _config(folder: Path, web: int, mail: int) -> dict[str, Any]:
    config = uncommented()
    slack, pagerduty, email = config["receivers"]
    (folder / "slack").write_text(f"http://127.0.0.1:{web}/slack")
    (folder / "key").write_text("a-key")
    slack["slack_configs"][0]["api_url_file"] = str(folder / "slack")
    pagerduty["pagerduty_configs"][0] |= {
        "routing_key_file": str(folder / "key"),
        "url": f"http://127.0.0.1:{web}/pagerduty",
    }
    email["email_configs"][0] |= {"smarthost": f"127.0.0.1:{mail}", "require_tls": False}
    config["templates"] = [str(DEPLOY / name) for name in config["templates"]]
    # Within an interval the next alerts are posted, so that they end in one message.
    config["route"] |= {"group_wait": "1s", "group_interval": "5s"}
    return config


async def post(client: httpx.AsyncClient, alerts: Sequence[dict[str, Any]]) -> None:
    (await client.post("/api/v2/alerts", json=alerts)).raise_for_status()


@every_edition_at_night
async def test_every_receiver_gets_the_whole_message_for_1_and_40_failures_that_fire_and_end(
    tmp_path: Path,
) -> None:
    async with alertmanager(tmp_path) as (client, inbox), asyncio.TaskGroup() as group:
        for count in (1, 40):
            for receiver in RECEIVERS:
                group.create_task(failures_and_their_ends(client, inbox, receiver, count))
        group.create_task(inhibition(client))


async def failures_and_their_ends(client: httpx.AsyncClient, inbox: Inbox, receiver: str, count: int) -> None:
    severity = "info" if receiver == "email" else "warning"
    everyone = [Failure(f"{receiver}{count}", number + 1, severity) for number in range(count)]
    first, second = everyone[: count // 2], everyone[count // 2 :]
    await post(client, [failure.alert() for failure in everyone])
    opened = await receive(inbox, receiver, firing=everyone)
    closed: dict[str, str] = {}
    if first:
        await post(client, [failure.alert(ended=True) for failure in first])
        closed = await receive(inbox, receiver, firing=second, ended=first)
    assert not {f"[ENDED 1] Model {failure.name} failed" for failure in second} & inbox.titles(receiver)
    await post(client, [failure.alert(ended=True) for failure in second])
    closed |= await receive(inbox, receiver, ended=second)
    if receiver == "pagerduty":
        assert closed == opened
        assert len(set(opened.values())) == count
    if receiver == "email":
        for other in ("slack", "pagerduty"):
            assert not any(everyone[0].job in title for title in inbox.titles(other))


async def receive(
    inbox: Inbox, receiver: str, firing: Sequence[Failure] = (), ended: Sequence[Failure] = ()
) -> dict[str, str]:
    """Wait for the message about a group; on PagerDuty for those about what has just changed, by model."""
    if receiver != "pagerduty":
        due = expected(receiver, firing, ended)
        assert await inbox.message(receiver, due.title) == due
        return {}
    incidents = {}
    for failure in ended or firing:
        due = expected(receiver, *(((), [failure]) if ended else ([failure], ())))
        message = await inbox.message(receiver, due.title)
        assert replace(message, incident="") == due
        incidents[failure.name] = message.incident
    return incidents


async def inhibition(client: httpx.AsyncClient) -> None:
    """A failure silences only what its own account and model have."""
    failure = Failure("inhibition", 1)
    diverged = failure.alert(alertname="CohereTrainingDiverged")
    elsewhere = failure.alert(alertname="CohereTrainingDiverged", cluster="production")
    await post(client, [failure.alert(), diverged, elsewhere])

    async def states() -> dict[str, str]:
        wanted = ["alertname=CohereTrainingDiverged", "job=inhibition"]
        answer = await client.get("/api/v2/alerts", params={"filter": wanted})
        return {alert["labels"].get("cluster", ""): alert["status"]["state"] for alert in answer.json()}

    async def settled() -> bool:
        return await states() == {"": "suppressed", "production": "active"}

    await eventually(settled)


@every_edition
@pytest.mark.parametrize(
    ("alert", "severity", "receivers"),
    [
        ("CohereModelFailed", "critical", "pagerduty,slack"),
        ("CohereModelFailed", "warning", "pagerduty,slack"),
        ("CohereModelFailed", "info", "email"),
        ("CohereFleetUnseen", "critical", "pagerduty,slack"),
        ("CohereApiDown", "warning", "slack"),
        ("CohereSeriesDropped", "info", "email"),
    ],
)
async def test_an_alert_of_any_severity_is_sent_once_to_each_of_its_receivers(
    alert: str, severity: str, receivers: str
) -> None:
    file = f"--config.file={DEPLOY}/alertmanager.yml"
    labels = f"alertname={alert}", f"severity={severity}"
    code, out, err = await run(program("amtool"), "config", "routes", "test", file, *labels)
    assert code == 0, err
    assert out.strip() == receivers


def test_the_alertmanagerconfig_routes_and_words_as_the_example_does() -> None:
    spec = yaml.safe_load((DEPLOY / "alertmanagerconfig.yaml").read_text(encoding="utf-8"))["spec"]
    assert spec["route"].pop("matchers") == [{"name": "alertname", "value": "Cohere.*", "matchType": "=~"}]
    example = uncommented()
    del example["templates"]
    assert plain(spec) == plain(example)


SECRETS = {"apiURL", "routingKey", "api_url_file", "routing_key_file"}
RENAMED = {"sourceMatch": "source_matchers", "targetMatch": "target_matchers"}


def plain(value: Any) -> Any:
    """Return a configuration without secrets and quotes, as Alertmanager's own file names things."""
    match value:
        case [{"matchType": _}, *_]:
            return [f"{one['name']}{one['matchType']}{one['value']}" for one in value]
        case [{"key": _}, *_]:
            return {one["key"]: plain(one["value"]) for one in value}
        case list():
            return [plain(one) for one in value]
        case dict():
            return {snake(name): plain(part) for name, part in value.items() if name not in SECRETS}
        case str():
            return value.replace('"', "")
    return value


def snake(name: str) -> str:
    return RENAMED.get(name) or re.sub("(?<=[a-z])[A-Z]+", lambda found: f"_{found[0].lower()}", name)


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
