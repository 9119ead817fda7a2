"""Which alerts fire when: each fault a scenario, each scenario everything that fires and nothing else."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import cycle, product
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest

from deploy.prometheus.rules import RULES
from exporter.cohere.wire import REJECTED_KINDS
from exporter.rules import render
from tests.editions import EDITIONS, NIGHTLY, every_edition_at_night
from tests.exporter_model import DAY, HOUR, MINUTE, Exporter, Model, always
from tests.firing import PROMTOOL, VMALERT, Fires, Scenario, description, fires, judge

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

NOTHING: Sequence[frozenset[tuple[str, str]]] = ()
UNSEEN = fires("CohereFleetUnseen")
ABSENT = frozenset({("alertname", "CohereFleetUnseen")})
DOWN = fires("CohereExporterDown", instance="a:10220")
API_DOWN = fires("CohereApiDown")
REFUSED = fires("CohereCredentialsRefused")
FAILED = fires("CohereModelFailed", model_name="chat")


def pattern(text: str, unit: float = MINUTE) -> Callable[[float], bool]:
    """Return whether scrapes succeed, by a pattern of 0 and 1 that repeats."""
    return lambda now: text[int(now // unit) % len(text)] == "1"


def until(change: float, before: Model, after: Model | None) -> Callable[[float], Sequence[Model]]:
    """Return a fleet of one model that changes once, or leaves the list."""
    return lambda now: [before] if now < change else [after] if after else []


def gap(begin: float, end: float) -> Callable[[float], bool]:
    """Return scrapes that fail for a while."""
    return lambda now: not begin <= now < end


def outage(begin: float, end: float = inf, reason: str = "timeout") -> Callable[[float], str]:
    """Return polls that fail for a while."""
    return lambda now: reason if begin <= now < end else ""


TRAINING = Model(status="STATUS_FINETUNING", created=-HOUR, updated=-HOUR, step=10, step_at=0)
READY = Model()
BROKEN = Model(status="STATUS_FAILED", updated=-30 * HOUR)
UNTIMED = Model(created=None, updated=None)
LATER = 20 * MINUTE
RESTART = [-DAY, LATER]
OTHER = Exporter(labels={"namespace": "prod", "job": "b"}, instance="b:10220")
BY_JOB = Exporter(labels={"job": "cohere-finetuning"}, instance="exporter.example.com:443")


def never_up(exporter: Exporter) -> Fires:
    return fires("CohereExporterDown", job=exporter.labels["job"], instance=exporter.instance)


LOOP = [7 * MINUTE * number for number in range(30)]

EXPORTERS = (
    Scenario(
        name="a crash loop without a good poll is the fleet unseen, and the target down",
        exporters=[Exporter(up=pattern("1100000"), starts=LOOP, poll=outage(-DAY))],
        expected={14 * MINUTE: [DOWN], 16 * MINUTE: [UNSEEN, DOWN], HOUR: [UNSEEN, DOWN]},
    ),
    Scenario(
        name="a crash loop that polls well in between delivers the fleet, but is down",
        exporters=[Exporter(up=pattern("1100000"), starts=LOOP)],
        evaluation=2 * MINUTE,
        expected={30 * MINUTE: [DOWN], HOUR: [DOWN]},
    ),
    Scenario(
        name="one scrape in three lost is an unreliable target",
        exporters=[Exporter(up=pattern("110"))],
        evaluation=2 * MINUTE,
        expected={20 * MINUTE: [DOWN], HOUR: [DOWN]},
    ),
    Scenario(
        name="two scrapes in three lost, and never a good poll",
        exporters=[Exporter(up=pattern("001"), poll=outage(-DAY), starts=range(0, 2 * HOUR, 2 * MINUTE))],
        evaluation=2 * MINUTE,
        expected={20 * MINUTE: [UNSEEN, DOWN], HOUR: [UNSEEN, DOWN]},
    ),
    Scenario(
        name="a single lost scrape and a restart are nothing",
        exporters=[Exporter(up=gap(LATER, LATER + 4 * MINUTE), starts=[-DAY, LATER])],
        expected={LATER + 3 * MINUTE: NOTHING, LATER + 10 * MINUTE: NOTHING, HOUR: NOTHING},
    ),
    Scenario(
        name="a target that vanishes is missed although another account's exporter lives",
        exporters=[Exporter(up=lambda now: True if now < HOUR else None), OTHER],
        evaluation=5 * MINUTE,
        expected={HOUR + 10 * MINUTE: NOTHING, HOUR + 15 * MINUTE: [UNSEEN], 3 * HOUR: [UNSEEN]},
    ),
    Scenario(
        name="without any exporter the fleet is unseen",
        exporters=[Exporter(up=lambda now: None), replace(OTHER, instance="b:9090", up=lambda now: False)],
        expected={4 * MINUTE: NOTHING, 6 * MINUTE: [ABSENT]},
    ),
    *(
        Scenario(
            name=f"an exporter that never answers, known by its {what}, is missed beside one that lives",
            exporters=[replace(other, up=lambda now: False), Exporter()],
            expected={
                14 * MINUTE: NOTHING,
                16 * MINUTE: [never_up(other), fires("CohereFleetUnseen", job=other.labels["job"])],
                HOUR / 2: [never_up(other), fires("CohereFleetUnseen", job=other.labels["job"])],
            },
        )
        for what, other in (("port", OTHER), ("job", BY_JOB))
    ),
    Scenario(
        name="the only exporter, which never answers, is missed once",
        exporters=[replace(BY_JOB, up=lambda now: False)],
        evaluation=2 * MINUTE,
        expected={
            14 * MINUTE: NOTHING,
            HOUR / 2: [never_up(BY_JOB), fires("CohereFleetUnseen", job=BY_JOB.labels["job"])],
        },
    ),
    Scenario(
        name="a target that never answered and vanished is missed for as long as any other",
        exporters=[replace(OTHER, up=lambda now: False if now < HOUR / 2 else None), Exporter()],
        evaluation=5 * MINUTE,
        expected={
            HOUR: [fires("CohereFleetUnseen", job="b")],
            4 * HOUR: [fires("CohereFleetUnseen", job="b")],
        },
    ),
    Scenario(
        name="a second instance that never answers is down, but its fleet is seen",
        exporters=[Exporter(), Exporter(instance="a2:10220", up=lambda now: False)],
        evaluation=5 * MINUTE,
        expected={HOUR: [fires("CohereExporterDown", instance="a2:10220")]},
    ),
    Scenario(
        name="an exporter is missed for a week after it vanished, and for as long as it is down",
        exporters=[
            Exporter(up=lambda now: True if now < HOUR else None),
            replace(OTHER, up=lambda now: now < HOUR),
        ],
        scrape=10 * MINUTE,
        evaluation=6 * HOUR,
        expected={
            3 * DAY: [UNSEEN, never_up(OTHER), fires("CohereFleetUnseen", job="b")],
            7 * DAY: [UNSEEN, never_up(OTHER), fires("CohereFleetUnseen", job="b")],
            9 * DAY: [never_up(OTHER), fires("CohereFleetUnseen", job="b")],
        },
    ),
    Scenario(
        name="training steps that are not scraped, and other programs that are down, are nothing",
        exporters=[
            Exporter(),
            replace(OTHER, labels={"namespace": "ml", "job": "a-steps"}, up=lambda now: False),
            replace(OTHER, instance="b:9100", up=lambda now: False),
        ],
        evaluation=5 * MINUTE,
        expected={HOUR: NOTHING},
    ),
    Scenario(
        name="an exporter that is down for good",
        exporters=[Exporter(up=lambda now: now < HOUR), OTHER],
        evaluation=5 * MINUTE,
        expected={
            HOUR + 5 * MINUTE: NOTHING,
            HOUR + 20 * MINUTE: [UNSEEN, DOWN],
            3 * HOUR: [UNSEEN, DOWN],
        },
    ),
    Scenario(
        name="a rollout leaves nothing behind",
        exporters=[
            Exporter(up=lambda now: True if now < HOUR else None),
            Exporter(
                instance="a2:10220", up=lambda now: None if now < HOUR else now > HOUR + MINUTE, starts=[HOUR]
            ),
        ],
        evaluation=5 * MINUTE,
        expected={HOUR + 5 * MINUTE: NOTHING, HOUR + 20 * MINUTE: NOTHING, 3 * HOUR: NOTHING},
    ),
    Scenario(
        name="a target label version, or a pod label that only up has, hides nothing",
        exporters=[
            Exporter(
                labels={"namespace": "ml", "job": "a", "version": "7"},
                only_up={"pod": "a-0"},
                up=lambda now: now < HOUR,
            ),
        ],
        evaluation=5 * MINUTE,
        expected={HOUR + 15 * MINUTE: [UNSEEN, DOWN], 2 * HOUR: [UNSEEN, DOWN]},
    ),
    Scenario(
        name="an exporter that starts slowly is nothing",
        exporters=[Exporter(starts=[0], poll=lambda now: "timeout" if now < 2 * MINUTE else "")],
        evaluation=2 * MINUTE,
        expected={2 * MINUTE: NOTHING, 10 * MINUTE: NOTHING, 30 * MINUTE: NOTHING},
    ),
    *(
        Scenario(
            name=f"an exporter whose clock is {ahead} s ahead serves its models, and nothing fires",
            exporters=[Exporter(clock_ahead=ahead, models=always(READY, replace(TRAINING, id="2")))],
            evaluation=2 * MINUTE,
            expected={HOUR / 2: NOTHING, 50 * MINUTE: NOTHING},
        )
        for ahead in (-6 * MINUTE, 20 * MINUTE)
    ),
)

API = (
    Scenario(
        name="two missed polls are tolerated",
        exporters=[Exporter(poll=outage(10 * MINUTE, 12 * MINUTE))],
        expected={11 * MINUTE: NOTHING, 12 * MINUTE: NOTHING, 20 * MINUTE: NOTHING},
    ),
    *(
        Scenario(
            name=f"the third missed poll is due, the fleet unseen later, clock {ahead} s ahead",
            exporters=[Exporter(poll=outage(10 * MINUTE), clock_ahead=ahead)],
            evaluation=5 * MINUTE,
            expected={
                10 * MINUTE: NOTHING,
                15 * MINUTE: [API_DOWN],
                25 * MINUTE: [API_DOWN],
                35 * MINUTE: [UNSEEN, API_DOWN],
                3 * HOUR: [UNSEEN, API_DOWN],
            },
        )
        for ahead in (0, -6 * MINUTE, 20 * MINUTE)
    ),
    Scenario(
        name="a poll an hour, one of them missed, is nothing",
        exporters=[Exporter(interval=HOUR, poll=outage(HOUR, 2 * HOUR))],
        evaluation=5 * MINUTE,
        expected={HOUR + 30 * MINUTE: NOTHING, 2 * HOUR - MINUTE: NOTHING, 3 * HOUR: NOTHING},
    ),
    Scenario(
        name="a new process that never has a good poll",
        exporters=[Exporter(starts=[0], poll=outage(0, reason="gone"))],
        expected={MINUTE: NOTHING, 2 * MINUTE: [API_DOWN]},
    ),
    Scenario(
        name="failures of many kinds are one alert",
        exporters=[
            Exporter(
                poll=lambda now: (
                    "" if now < 10 * MINUTE else "rate_limited" if now // MINUTE % 4 == 0 else "server_error"
                )
            )
        ],
        expected={
            30 * MINUTE: [UNSEEN, API_DOWN],
            HOUR: [UNSEEN, API_DOWN],
        },
    ),
    *(
        Scenario(
            name=f"polls refused as {reason}, one in ten times out",
            exporters=[
                Exporter(
                    poll=lambda now, reason=reason: (
                        ""  # type: ignore[misc]
                        if now < LATER
                        else "timeout"
                        if now // MINUTE % 10 == 5
                        else reason
                    )
                )
            ],
            expected={
                LATER + MINUTE: NOTHING,
                **{LATER + at * MINUTE: [REFUSED] for at in (2, 3, 4, 5, 6, 7, 8)},
                LATER + 9 * MINUTE: [REFUSED],
                LATER + 15 * MINUTE: [REFUSED],
                LATER + 16 * MINUTE: [REFUSED],
                LATER + 45 * MINUTE: [UNSEEN, REFUSED],
                LATER + 46 * MINUTE: [UNSEEN, REFUSED],
            },
        )
        for reason in ("unauthorized", "forbidden", "payment_required")
    ),
    *(
        Scenario(
            name=f"polls that fail as {' and '.join(reasons)} in turn are one alert that does not change",
            exporters=[
                Exporter(
                    poll=lambda now, reasons=reasons: (  # type: ignore[misc]
                        reasons[int(now // MINUTE) % len(reasons)] if now >= LATER else ""
                    )
                )
            ],
            expected={
                LATER + at * MINUTE: [alert, *([UNSEEN] if at > 22 else [])]
                for at in (2, 3, 4, 5, 9, 40, 41, 42)
            },
        )
        for reasons, alert in (
            (("timeout", "server_error"), API_DOWN),
            (("unauthorized", "timeout"), REFUSED),
            (("unauthorized", "forbidden"), REFUSED),
            (("timeout", "timeout", "server_error", "forbidden"), API_DOWN),
        )
    ),
    Scenario(
        name="a single refusal at one poll an hour is nothing",
        exporters=[Exporter(interval=HOUR, poll=outage(HOUR, 2 * HOUR, "forbidden"))],
        evaluation=5 * MINUTE,
        expected={HOUR + 10 * MINUTE: NOTHING, 2 * HOUR - 5 * MINUTE: NOTHING, 3 * HOUR: NOTHING},
    ),
    Scenario(
        name="an outage of the API that becomes a refused key",
        exporters=[
            Exporter(poll=lambda now: "" if now < LATER else "timeout" if now < HOUR else "unauthorized")
        ],
        expected={
            HOUR: [UNSEEN, API_DOWN],
            HOUR + 2 * MINUTE: [UNSEEN, API_DOWN],
            HOUR + 8 * MINUTE: [UNSEEN, REFUSED],
            HOUR + 20 * MINUTE: [UNSEEN, REFUSED],
        },
    ),
    Scenario(
        name="a key that was replaced",
        exporters=[Exporter(poll=outage(LATER, LATER + 20 * MINUTE, "unauthorized"))],
        expected={
            LATER + 15 * MINUTE: [REFUSED],
            LATER + 20 * MINUTE: NOTHING,
            HOUR: NOTHING,
        },
    ),
    Scenario(
        name="step metrics of one model that keep failing, then no more",
        exporters=[Exporter(unreadable=lambda now: min(now, 12 * HOUR) // (8.5 * MINUTE))],
        evaluation=30 * MINUTE,
        expected={
            HOUR: NOTHING,
            6 * HOUR: [fires("CohereAnswersUnreadable", kind="step_metrics")],
            12 * HOUR: [fires("CohereAnswersUnreadable", kind="step_metrics")],
            18 * HOUR: NOTHING,
        },
    ),
    Scenario(
        name="an item that is rejected at every poll",
        exporters=[Exporter(rejected=lambda now: now // MINUTE)],
        evaluation=30 * MINUTE,
        expected={6 * HOUR: [fires("CohereAnswersUnreadable", kind=kind) for kind in REJECTED_KINDS]},
    ),
    Scenario(
        name="rare failures of readings, and a burst, are noise",
        exporters=[Exporter(unreadable=lambda now: now // (2 * HOUR) + 500 * (now > 3 * HOUR))],
        evaluation=30 * MINUTE,
        expected={4 * HOUR: NOTHING, 8 * HOUR: NOTHING},
    ),
    Scenario(
        name="a reload that failed, until it succeeds",
        exporters=[Exporter(reloaded=lambda now: not LATER <= now < HOUR)],
        expected={
            LATER + 4 * MINUTE: NOTHING,
            LATER + 6 * MINUTE: [fires("CohereReloadFailed", file="web_config")],
            HOUR: NOTHING,
        },
    ),
    Scenario(
        name="limits leave models out",
        exporters=[Exporter(dropped=3)],
        evaluation=2 * MINUTE,
        expected={LATER: [fires("CohereSeriesDropped", limit="models.limit")]},
    ),
)


def stuck(status: str) -> frozenset[tuple[str, str]]:
    return fires("CohereModelStuck", model_name="chat", status=status)


def failing(model: Model, at: float = HOUR, **changes: Any) -> Callable[[float], Sequence[Model]]:
    """Return a fleet of one model that fails at a moment."""
    return until(at, model, replace(model, status="STATUS_FAILED", **changes))


FAILURES = (
    Scenario(
        name="a model that fails, until a day later",
        exporters=[Exporter(models=failing(TRAINING, updated=HOUR)), OTHER],
        evaluation=30 * MINUTE,
        expected={
            HOUR / 2: NOTHING,
            HOUR: [FAILED],
            24 * HOUR: [FAILED],
            25 * HOUR + 30 * MINUTE: NOTHING,
        },
        scrape=2 * MINUTE,
    ),
    Scenario(
        name="a failure that Prometheus saw counts although the API's time is 30 hours old",
        exporters=[Exporter(models=failing(TRAINING, updated=-30 * HOUR))],
        evaluation=5 * MINUTE,
        expected={HOUR: [FAILED], 3 * HOUR: [FAILED]},
    ),
    Scenario(
        name="a failure while nobody looked counts by the API's time",
        exporters=[
            Exporter(
                models=always(replace(BROKEN, updated=-HOUR)), up=lambda now: True if now >= LATER else None
            )
        ],
        expected={LATER - MINUTE: [ABSENT], LATER: [FAILED]},
    ),
    Scenario(
        name="an old failure is silent, also when data comes and goes",
        exporters=[Exporter(models=always(BROKEN), up=gap(LATER, LATER + 5 * MINUTE), starts=RESTART)],
        expected={LATER / 2: NOTHING, LATER + 3 * MINUTE: NOTHING, HOUR: NOTHING},
    ),
    Scenario(
        name="an old failure that is renamed is silent where its end is known",
        exporters=[
            Exporter(
                models=until(
                    HOUR,
                    replace(BROKEN, updated=-20 * DAY, completed=-20 * DAY),
                    replace(BROKEN, name="chat-old", updated=HOUR, completed=-20 * DAY),
                )
            )
        ],
        evaluation=5 * MINUTE,
        expected={HOUR: NOTHING, 3 * HOUR: NOTHING},
    ),
    Scenario(
        name="an old failure that is renamed is silent where it was seen as failed a day ago",
        exporters=[
            Exporter(
                models=until(
                    30 * HOUR,
                    replace(BROKEN, updated=-20 * DAY),
                    replace(BROKEN, name="chat-old", updated=30 * HOUR),
                )
            )
        ],
        expected={HOUR: NOTHING, 30 * HOUR: NOTHING, 31 * HOUR: NOTHING},
        scrape=5 * MINUTE,
        evaluation=30 * MINUTE,
    ),
    Scenario(
        name="with timestamps excluded, a failure that was seen fires for a day and an old one never",
        exporters=[
            Exporter(
                models=lambda now: [
                    replace(UNTIMED, id="2", name="old", status="STATUS_FAILED"),
                    *failing(UNTIMED, HOUR)(now),
                ],
                without="model_created",
            )
        ],
        expected={HOUR: [FAILED], 24 * HOUR: [FAILED], 26 * HOUR: NOTHING, 50 * HOUR: NOTHING},
        scrape=5 * MINUTE,
        evaluation=30 * MINUTE,
    ),
    Scenario(
        name="without any time, a model that is first seen as failed is new where the fleet was watched",
        exporters=[
            Exporter(
                models=lambda now: [replace(UNTIMED, status="STATUS_FAILED")] if now >= 30 * HOUR else []
            )
        ],
        expected={30 * HOUR: [FAILED], 31 * HOUR: [FAILED]},
        scrape=5 * MINUTE,
        evaluation=30 * MINUTE,
    ),
    Scenario(
        name="neither a restart nor another account's data ends the alert or makes two of it",
        exporters=[
            Exporter(
                models=failing(TRAINING, LATER / 2, updated=LATER / 2), up=gap(LATER, LATER + 4 * MINUTE)
            ),
            OTHER,
        ],
        expected={at * MINUTE: [FAILED] for at in (11, 19, 20, 21, 22, 23, 24, 25, 30, 50)},
    ),
    Scenario(
        name="a rollout to another instance with a gap holds the alert, once",
        exporters=[
            Exporter(
                models=failing(TRAINING, LATER / 2, updated=LATER / 2),
                up=lambda now: True if now < LATER else None,
            ),
            Exporter(
                instance="a2:10220",
                models=failing(TRAINING, LATER / 2, updated=LATER / 2),
                up=lambda now: None if now < LATER + 3 * MINUTE else True,
                starts=[LATER + 3 * MINUTE],
            ),
        ],
        expected={at * MINUTE: [FAILED] for at in (19, 20, 21, 22, 23, 24, 25, 40)},
    ),
    Scenario(
        name="stale data holds the alert for an hour, not for ever",
        exporters=[Exporter(models=failing(TRAINING, HOUR / 2, updated=HOUR / 2), up=lambda now: now < HOUR)],
        evaluation=5 * MINUTE,
        expected={
            HOUR + 10 * MINUTE: [FAILED],
            HOUR + 50 * MINUTE: [FAILED, DOWN, UNSEEN],
            2 * HOUR + 10 * MINUTE: [DOWN, UNSEEN],
        },
    ),
    *(
        Scenario(
            name=f"a failed model that is {what} ends its alert at once and for good, through an outage",
            exporters=[
                Exporter(
                    models=lambda now, after=after: (  # type: ignore[misc]
                        failing(TRAINING, LATER / 2, updated=LATER / 2)(now) if now < LATER else after
                    ),
                    up=gap(LATER + 10 * MINUTE, LATER + 14 * MINUTE),
                ),
            ],
            expected={
                LATER - MINUTE: [FAILED],
                **{LATER + at * MINUTE: NOTHING for at in (0, 1, 10, 12, 15, 40)},
            },
        )
        for what, after in (("deleted", []), ("repaired", [replace(READY, updated=LATER)]))
    ),
    Scenario(
        name="a failed model of each of two accounts, with the same ids",
        exporters=[
            Exporter(models=failing(TRAINING, updated=HOUR)),
            replace(OTHER, models=failing(TRAINING, updated=HOUR)),
        ],
        evaluation=5 * MINUTE,
        expected={HOUR: [FAILED, fires("CohereModelFailed", job="b", model_name="chat")]},
    ),
)

QUEUED = Model(status="STATUS_QUEUED", created=0, updated=0)
STALLED = fires("CohereTrainingStalled", model_name="chat")

PROGRESS = (
    Scenario(
        name="a queue without a training run, and another account's run excuses nothing",
        exporters=[Exporter(models=always(QUEUED)), replace(OTHER, models=lambda now: [moving(now)])],
        evaluation=5 * MINUTE,
        expected={2 * HOUR: NOTHING, 2 * HOUR + 15 * MINUTE: [stuck("STATUS_QUEUED")]},
    ),
    Scenario(
        name="a queue behind a training run is normal for a day",
        exporters=[
            Exporter(models=lambda now: [replace(QUEUED, updated=-20 * HOUR), replace(moving(now), id="2")])
        ],
        evaluation=5 * MINUTE,
        expected={3 * HOUR: NOTHING, 4 * HOUR + 15 * MINUTE: [stuck("STATUS_QUEUED")]},
    ),
    Scenario(
        name="a queue between two training runs is normal, and none once nothing has trained for two hours",
        exporters=[
            Exporter(
                models=lambda now: [
                    replace(QUEUED, created=-5 * HOUR, updated=-5 * HOUR),
                    replace(moving(now), id="2")
                    if now < HOUR
                    else replace(READY, id="2", name="done", updated=HOUR),
                ]
            )
        ],
        evaluation=5 * MINUTE,
        expected={
            HOUR + 10 * MINUTE: NOTHING,
            3 * HOUR - 5 * MINUTE: NOTHING,
            3 * HOUR + 15 * MINUTE: [stuck("STATUS_QUEUED")],
        },
    ),
    *(
        Scenario(
            name=f"a model that Prometheus saw {what} counts from then on, whatever its record says",
            exporters=[
                Exporter(
                    models=until(
                        HOUR,
                        replace(before, created=-5 * DAY, updated=-5 * DAY),
                        replace(before, created=-5 * DAY, updated=-5 * DAY, status=status),
                    )
                )
            ],
            evaluation=5 * MINUTE,
            expected={
                HOUR + 10 * MINUTE: NOTHING,
                HOUR + limit - 5 * MINUTE: NOTHING,
                HOUR + limit + 20 * MINUTE: [alert],
            },
        )
        for what, before, status, limit, alert in (
            (
                "deploy",
                replace(TRAINING, step_at=-DAY),
                "STATUS_DEPLOYING_API",
                HOUR,
                stuck("STATUS_DEPLOYING_API"),
            ),
            (
                "offline",
                READY,
                "STATUS_TEMPORARILY_OFFLINE",
                15 * MINUTE,
                stuck("STATUS_TEMPORARILY_OFFLINE"),
            ),
            ("train", replace(READY, status="STATUS_QUEUED"), "STATUS_FINETUNING", 4 * HOUR, STALLED),
            (
                "train again",
                replace(TRAINING, status="STATUS_QUEUED", step=9, step_at=-DAY),
                "STATUS_FINETUNING",
                4 * HOUR,
                STALLED,
            ),
        )
    ),
    Scenario(
        name="a queue that the API dates wrongly counts as Prometheus saw it",
        exporters=[Exporter(models=lambda now: [replace(QUEUED, updated=now)])],
        evaluation=5 * MINUTE,
        expected={2 * HOUR - MINUTE: NOTHING, 2 * HOUR + 15 * MINUTE: [stuck("STATUS_QUEUED")]},
    ),
    Scenario(
        name="a deployment that does not end, through a restart, and ends",
        exporters=[
            Exporter(
                models=until(HOUR + 25 * MINUTE, replace(QUEUED, status="STATUS_DEPLOYING_API"), READY),
                up=gap(HOUR + 10 * MINUTE, HOUR + 14 * MINUTE),
            )
        ],
        expected={
            HOUR: NOTHING,
            HOUR + 8 * MINUTE: [stuck("STATUS_DEPLOYING_API")],
            HOUR + 13 * MINUTE: [stuck("STATUS_DEPLOYING_API")],
            HOUR + 20 * MINUTE: [stuck("STATUS_DEPLOYING_API")],
            HOUR + 25 * MINUTE: NOTHING,
        },
    ),
    *(
        Scenario(
            name=f"a model that is offline, clock {ahead} s ahead, API {api} s ahead",
            exporters=[
                Exporter(
                    models=until(
                        LATER,
                        READY,
                        replace(READY, status="STATUS_TEMPORARILY_OFFLINE", updated=LATER + api),
                    ),
                    clock_ahead=ahead,
                )
            ],
            expected={
                LATER + 15 * MINUTE: NOTHING,
                LATER + 24 * MINUTE: [stuck("STATUS_TEMPORARILY_OFFLINE")],
            },
        )
        for ahead, api in ((0, 0), (-6 * MINUTE, 0), (20 * MINUTE, 0), (0, 3 * MINUTE))
    ),
    Scenario(
        name="a training run that stalls, and moves again",
        exporters=[
            Exporter(models=lambda now: [replace(TRAINING, step=1, step_at=0 if now < 1.2 * HOUR else now)])
        ],
        evaluation=2 * MINUTE,
        expected={
            HOUR: NOTHING,
            HOUR + 8 * MINUTE: [STALLED],
            1.2 * HOUR: NOTHING,
        },
    ),
    Scenario(
        name="a training run without a first step",
        exporters=[Exporter(models=always(replace(TRAINING, updated=0, step=None, step_at=None)))],
        evaluation=5 * MINUTE,
        expected={
            4 * HOUR: NOTHING,
            4 * HOUR + 15 * MINUTE: [STALLED],
        },
    ),
    Scenario(
        name="a run begun anew is given time for its first step",
        exporters=[Exporter(models=always(replace(TRAINING, updated=0, step=9, step_at=-DAY)))],
        evaluation=5 * MINUTE,
        expected={
            3 * HOUR: NOTHING,
            4 * HOUR + 15 * MINUTE: [STALLED],
        },
    ),
    *(
        Scenario(
            name=f"a training run with several metrics, one of them {value}, is one alert",
            exporters=[
                Exporter(
                    models=lambda now, value=value: [  # type: ignore[misc]
                        replace(
                            moving(now), metrics={"loss": value if now >= LATER else 1, "accuracy": value}
                        )
                        if now >= LATER
                        else replace(moving(now), metrics={"loss": 1, "accuracy": 0.5})
                    ],
                    up=gap(LATER + 10 * MINUTE, LATER + 14 * MINUTE),
                )
            ],
            expected={
                LATER - MINUTE: NOTHING,
                **{
                    LATER + at * MINUTE: [fires("CohereTrainingDiverged", model_name="chat")]
                    for at in (0, 5, 12, 20)
                },
            },
        )
        for value in (nan, inf, -inf)
    ),
    Scenario(
        name="a model that ended diverged long ago, and negative, noisy or oddly named metrics, are nothing",
        exporters=[
            Exporter(
                models=lambda now: [
                    replace(READY, step=9, step_at=-30 * DAY, metrics={"loss": nan}),
                    replace(
                        moving(now),
                        id="2",
                        name="noisy",
                        metrics={"terror_accuracy": now % 7 / 7, "loss": -(now % 11)},
                    ),
                ]
            )
        ],
        evaluation=5 * MINUTE,
        expected={HOUR: NOTHING, 3 * HOUR: NOTHING},
    ),
    Scenario(
        name="a model that ended diverged long ago and is renamed is nothing, also where its end is unknown",
        exporters=[
            Exporter(
                models=until(
                    HOUR,
                    replace(READY, step=9, step_at=-30 * DAY, metrics={"loss": nan}),
                    replace(
                        READY, name="new", updated=HOUR, step=9, step_at=-30 * DAY, metrics={"loss": nan}
                    ),
                )
            )
        ],
        evaluation=2 * MINUTE,
        expected={HOUR / 2: NOTHING, HOUR: NOTHING, HOUR + 20 * MINUTE: NOTHING},
    ),
    Scenario(
        name="two models of one name, one of them without info",
        exporters=[
            Exporter(
                models=lambda now: [
                    *failing(TRAINING, LATER, updated=LATER)(now),
                    replace(moving(now), id="2", name=""),
                ],
                without="model_info",
            )
        ],
        evaluation=2 * MINUTE,
        expected={LATER: [FAILED]},
    ),
)


def moving(now: float) -> Model:
    """Return a training run that makes a step a minute."""
    return replace(TRAINING, updated=now - HOUR, step=int(now // MINUTE) + 1, step_at=now)


def at_intervals(scrape: float, evaluation: float) -> Sequence[Scenario]:
    """Return the same troubles at other intervals, with moments that every interval has settled by."""
    told = f", scraped every {scrape:.0f} s, evaluated every {evaluation:.0f} s"
    begin = 30 * MINUTE
    end = begin + max(40 * MINUTE, 6 * evaluation)
    failed = Exporter(
        models=failing(TRAINING, begin, updated=begin), up=gap(begin + 20 * MINUTE, begin + 24 * MINUTE)
    )
    troubles: dict[str, tuple[list[Exporter], dict[float, Sequence[Fires]]]] = {
        "all well": ([Exporter(), OTHER], {begin: NOTHING, end: NOTHING}),
        "down": ([Exporter(up=lambda now: now < begin), OTHER], {end: [UNSEEN, DOWN]}),
        "a failure": ([failed], {begin + at * MINUTE: [FAILED] for at in (10, 20, 30, 40)}),
        "the API down": (
            [Exporter(poll=outage(begin))],
            {end: [UNSEEN, API_DOWN]},
        ),
    }
    return [
        Scenario(
            name=name + told, exporters=exporters, expected=expected, scrape=scrape, evaluation=evaluation
        )
        for name, (exporters, expected) in troubles.items()
    ]


RARELY = [*at_intervals(60, 10 * MINUTE), *at_intervals(5 * MINUTE, 10 * MINUTE)]
OFTEN = [
    *at_intervals(15, 60),
    *at_intervals(5 * MINUTE, 60),
    Scenario(
        name="a failure, evaluated every 15 s",
        exporters=[Exporter(models=failing(TRAINING, 20 * MINUTE, updated=20 * MINUTE))],
        expected={20 * MINUTE - 15: NOTHING, 21 * MINUTE: [FAILED], 30 * MINUTE: [FAILED]},
        scrape=15,
        evaluation=15,
    ),
]


AREAS = {
    "evaluated often": OFTEN,
    "evaluated rarely": RARELY,
    "exporters": EXPORTERS,
    "the API": API,
    "failures": FAILURES,
    "progress": PROGRESS,
}


def test_every_scenario_has_a_name_of_its_own() -> None:
    names = [scenario.name for scenarios in AREAS.values() for scenario in scenarios]
    assert len(set(names)) == len(names) > 50


BY_DAY = set(zip(list(AREAS)[1:], cycle(EDITIONS[::-1]), strict=False))
"""Each area but the first, which takes longest, with one edition, in turn."""


@pytest.mark.programs
@pytest.mark.usefixtures("edition")
@pytest.mark.parametrize(
    ("area", "edition"),
    [
        pytest.param(*each, id=f"{each[0]}-{each[1].name}", marks=() if each in BY_DAY else NIGHTLY)
        for each in product(AREAS, EDITIONS)
    ],
    indirect=["edition"],
)
async def test_the_alerts_fire_when_they_should_and_nothing_else(area: str, tmp_path: Path) -> None:
    assert not await judge(PROMTOOL, tmp_path, RULES, AREAS[area])


@every_edition_at_night
@pytest.mark.parametrize(
    ("alert", "reasons", "words"),
    [
        (
            "CohereApiDown",
            ["timeout", "server_error", "server_error"],
            "Most failures of the last 1h are server_error: the API is failing",
        ),
        (
            "CohereCredentialsRefused",
            ["forbidden", "timeout", "timeout"],
            "Polls are refused as forbidden: the key lacks permission",
        ),
    ],
)
async def test_an_alert_says_the_reason_of_most_failures(
    alert: str, reasons: Sequence[str], words: str, tmp_path: Path
) -> None:
    exporter = Exporter(poll=lambda now: "" if now < LATER else reasons[int(now // MINUTE) % 3])
    said = await description(
        tmp_path, RULES, alert, Scenario(name="", exporters=[exporter], expected={HOUR: []})
    )
    assert said.startswith(words)


@every_edition_at_night
async def test_the_alert_of_an_unseen_fleet_says_for_how_long_it_is_unseen(tmp_path: Path) -> None:
    exporter = Exporter(up=lambda now: True if now < LATER else None)
    said = await description(
        tmp_path, RULES, "CohereFleetUnseen", Scenario(name="", exporters=[exporter], expected={HOUR: []})
    )
    # The window of its expression, and what it waits then.
    assert said.startswith("No exporter has delivered the models for 15m. ")


@every_edition_at_night
async def test_where_polls_are_an_hour_apart_a_longer_window_sees_what_cannot_be_read(tmp_path: Path) -> None:
    # As the runbook says: twenty poll intervals.
    rules = tmp_path / "rules.yml"
    rules.write_text(render({"thresholds": {"reading_window": 20 * HOUR}}))
    unread = fires("CohereAnswersUnreadable", kind="step_metrics")
    hourly = Scenario(
        name="a poll an hour",
        exporters=[Exporter(interval=HOUR, unreadable=lambda now: now // (8.5 * HOUR))],
        expected={at * HOUR: [unread] for at in range(24, 40, 2)},
        scrape=5 * MINUTE,
        evaluation=30 * MINUTE,
    )
    assert not await judge(PROMTOOL, tmp_path, rules, [hourly])


@NIGHTLY
@pytest.mark.programs
@pytest.mark.parametrize("area", AREAS)
async def test_vmalert_fires_them_as_well(area: str, tmp_path: Path) -> None:
    assert not await judge(VMALERT, tmp_path, RULES, AREAS[area])


@every_edition_at_night
async def test_a_scenario_can_fail(tmp_path: Path) -> None:
    wrong = replace(API[0], name="this one", expected={12 * MINUTE: [UNSEEN]})
    found = await judge(PROMTOOL, tmp_path, RULES, [API[0], wrong])
    assert found.startswith("this one: ")
