"""Which alerts fire when: each fault a scenario, each scenario everything that fires and nothing else."""

from collections.abc import Callable, Iterable, Sequence
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
from tests.exporter_model import DAY, HOUR, MINUTE, Exporter, Model, accounts, always
from tests.firing import PROMTOOL, VMALERT, Fires, Scenario, description, fires, judge, of_each

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

EARLY, LATER = 10 * MINUTE, 20 * MINUTE
ABSENT = frozenset({("alertname", "CohereFleetUnseen")})
UNSEEN = fires("CohereFleetUnseen")
DOWN = fires("CohereExporterDown", instance="a:10220")
API_DOWN = fires("CohereApiDown")
REFUSED = fires("CohereCredentialsRefused")
FAILED = fires("CohereModelFailed", model_name="chat")
STALLED = fires("CohereTrainingStalled", model_name="chat")

TRAINING = Model(status="STATUS_FINETUNING", created=-HOUR, updated=-HOUR, step=10, step_at=0)
QUEUED = Model(status="STATUS_QUEUED", created=0, updated=0)
READY = Model()
BROKEN = Model(status="STATUS_FAILED", updated=-30 * HOUR)
UNTIMED = Model(created=None, updated=None)
OTHER = Exporter(labels={"namespace": "prod", "job": "b"}, instance="b:10220")
BY_JOB = Exporter(labels={"job": "cohere-finetuning"}, instance="exporter.example.com:443")


def at(minutes: Iterable[float], *alerts: Fires) -> dict[float, Sequence[Fires]]:
    """Return what fires at some minutes, and nothing else."""
    return dict.fromkeys((minute * MINUTE for minute in minutes), alerts)


def pattern(text: str) -> Callable[[float], bool]:
    """Return whether scrapes succeed, by a pattern of 0 and 1 that repeats, a minute each."""
    return lambda now: text[int(now // MINUTE) % len(text)] == "1"


def gap(begin: float, end: float = inf) -> Callable[[float], bool]:
    """Return scrapes that fail for a while."""
    return lambda now: not begin <= now < end


def listed(begin: float = -inf, end: float = inf, *, up: bool = True) -> Callable[[float], bool | None]:
    """Return scrapes of a target that is on the list for a while."""
    return lambda now: up if begin <= now < end else None


def outage(begin: float, end: float = inf, reason: str = "timeout") -> Callable[[float], str]:
    """Return polls that fail for a while."""
    return lambda now: reason if begin <= now < end else ""


def in_turn(begin: float, *reasons: str) -> Callable[[float], str]:
    """Return polls that fail for another reason every minute."""
    return lambda now: reasons[int((now - begin) // MINUTE) % len(reasons)] if now >= begin else ""


def until(change: float, before: Model, after: Model | None) -> Callable[[float], Sequence[Model]]:
    """Return a fleet of one model that changes once, or leaves the list."""
    return lambda now: [before] if now < change else [after] if after else []


def failing(model: Model, at: float = HOUR, **changes: Any) -> Callable[[float], Sequence[Model]]:
    """Return a fleet of one model that fails at a moment."""
    return until(at, model, replace(model, status="STATUS_FAILED", **changes))


def long_ago(model: Model) -> Model:
    return replace(model, created=-5 * DAY, updated=-5 * DAY)


def moving(now: float) -> Model:
    """Return a training run that makes a step a minute."""
    return replace(TRAINING, updated=now - HOUR, step=int(now // MINUTE) + 1, step_at=now)


def down(jobs: str) -> list[Fires]:
    return [fires("CohereExporterDown", job=job, instance=f"{job}:10220") for job in jobs]


def unseen(jobs: str) -> list[Fires]:
    return of_each(jobs, "CohereFleetUnseen")


def stuck(status: str, job: str = "a") -> Fires:
    return fires("CohereModelStuck", job=job, model_name="chat", status=status)


def failed(jobs: str) -> list[Fires]:
    return of_each(jobs, "CohereModelFailed", model_name="chat")


def unreadable(job: str, *kinds: str) -> list[Fires]:
    return [fires("CohereAnswersUnreadable", job=job, kind=kind) for kind in kinds]


def never_up(exporter: Exporter) -> list[Fires]:
    job = exporter.labels["job"]
    return [
        fires("CohereExporterDown", job=job, instance=exporter.instance),
        fires("CohereFleetUnseen", job=job),
    ]


EXPORTERS = (
    Scenario(
        name="a crash loop, or two scrapes in three lost, without a good poll: down, and the fleet unseen",
        exporters=accounts(
            Exporter(up=pattern("1100000"), starts=range(0, 2 * HOUR, 7 * MINUTE), poll=outage(-DAY)),
            Exporter(up=pattern("001"), starts=range(0, 2 * HOUR, 2 * MINUTE), poll=outage(-DAY)),
        ),
        evaluation=2 * MINUTE,
        expected=at([14], *down("ab")) | at([16, 40], *unseen("ab"), *down("ab")),
    ),
    Scenario(
        name="a crash loop with good polls, or one scrape in three lost: down, but the fleet is seen",
        exporters=accounts(
            Exporter(up=pattern("1100000"), starts=range(0, 2 * HOUR, 7 * MINUTE)),
            Exporter(up=pattern("110")),
        ),
        evaluation=2 * MINUTE,
        expected=at([20, 40], *down("ab")),
    ),
    Scenario(
        name="without any exporter the fleet is unseen",
        exporters=[Exporter(up=listed(end=0)), replace(OTHER, instance="b:9090", up=gap(0))],
        expected=at([4]) | at([6], ABSENT),
    ),
    Scenario(
        name="of targets that never answer, exporters are missed, by port or job, a second instance is down, "
        "and training steps that are not scraped, and other programs, are nothing",
        exporters=[
            Exporter(),
            Exporter(instance="a2:10220", up=gap(0)),
            replace(OTHER, up=gap(0)),
            replace(BY_JOB, up=gap(0)),
            Exporter(labels={"namespace": "ml", "job": "a-steps"}, up=gap(0)),
            Exporter(labels={"namespace": "ml", "job": "node"}, instance="b:9100", up=gap(0)),
        ],
        evaluation=2 * MINUTE,
        expected=at([14])
        | at([16, 30], fires("CohereExporterDown", instance="a2:10220"), *never_up(OTHER), *never_up(BY_JOB)),
    ),
    Scenario(
        name="the only exporter, which never answers, is missed once",
        exporters=[replace(BY_JOB, up=gap(0))],
        evaluation=2 * MINUTE,
        expected=at([14]) | at([30], *never_up(BY_JOB)),
    ),
    Scenario(
        name="an exporter is missed for a week after it vanished, answered or not, and while it is down",
        exporters=accounts(
            Exporter(up=listed(end=HOUR)),
            Exporter(up=listed(end=HOUR, up=False)),
            Exporter(up=gap(HOUR)),
        ),
        scrape=10 * MINUTE,
        evaluation=12 * HOUR,
        expected=at([3 * DAY // MINUTE, 7 * DAY // MINUTE], *unseen("abc"), *down("c"))
        | at([9 * DAY // MINUTE], *unseen("c"), *down("c")),
    ),
    Scenario(
        name="an exporter that vanishes, or is down for good, is missed beside one that lives, whatever "
        "labels its target has",
        exporters=[
            *accounts(
                Exporter(up=listed(end=HOUR)),
                Exporter(up=gap(HOUR)),
            ),
            Exporter(
                labels={"namespace": "ml", "job": "c", "version": "7"},
                only_up={"pod": "c-0"},
                instance="c:10220",
                up=gap(HOUR),
            ),
            Exporter(labels={"namespace": "ml", "job": "d"}),
        ],
        evaluation=5 * MINUTE,
        expected=at([65, 70]) | at([75, 135], *unseen("abc"), *down("bc")),
    ),
    Scenario(
        name="a rollout leaves nothing behind",
        exporters=[
            Exporter(up=listed(end=LATER)),
            Exporter(
                instance="a2:10220",
                up=lambda now: None if now < LATER else now > LATER + MINUTE,
                starts=[LATER],
            ),
        ],
        evaluation=5 * MINUTE,
        expected=at([25, 40, 90]),
    ),
    Scenario(
        name="an exporter that starts slowly, or whose clock is 6 minutes behind or 20 ahead, is nothing",
        exporters=accounts(
            Exporter(starts=[0], poll=outage(0, 2 * MINUTE)),
            *(
                Exporter(clock_ahead=ahead, models=always(READY, replace(TRAINING, id="2")))
                for ahead in (-6 * MINUTE, 20 * MINUTE)
            ),
        ),
        evaluation=2 * MINUTE,
        expected=at([2, 10, 30]),
    ),
)

MIXED = (
    *(
        ("CohereCredentialsRefused", [reason] * 5 + ["timeout"] + [reason] * 4)
        for reason in ("unauthorized", "forbidden", "payment_required")
    ),
    ("CohereCredentialsRefused", ["unauthorized", "timeout"]),
    ("CohereCredentialsRefused", ["unauthorized", "forbidden"]),
    ("CohereApiDown", ["rate_limited", "server_error"]),
    ("CohereApiDown", ["timeout", "timeout", "server_error", "forbidden"]),
)
"""Reasons in turn, one a minute, and the one alert they are."""
MIXED_FIRE = [fires(alert, job=job) for job, (alert, _) in zip("abcdefg", MIXED, strict=True)]

API = (
    Scenario(
        name="two missed polls are tolerated",
        exporters=[Exporter(poll=outage(EARLY, EARLY + 2 * MINUTE))],
        expected=at([11, 12, 15]),
    ),
    Scenario(
        name="the third missed poll is due, the fleet unseen later, whatever the exporter's clock shows",
        exporters=accounts(
            *(Exporter(poll=outage(EARLY), clock_ahead=ahead) for ahead in (0, -6 * MINUTE, 20 * MINUTE))
        ),
        evaluation=5 * MINUTE,
        expected=at([10])
        | at([15, 25], *of_each("abc", "CohereApiDown"))
        | at([35, 60], *unseen("abc"), *of_each("abc", "CohereApiDown")),
    ),
    Scenario(
        name="a poll an hour, one of them missed or refused, is nothing",
        exporters=accounts(
            *(
                Exporter(interval=HOUR, poll=outage(HOUR, 2 * HOUR, reason))
                for reason in ("timeout", "forbidden")
            )
        ),
        evaluation=5 * MINUTE,
        expected=at([70, 90, 115, 140]),
    ),
    Scenario(
        name="a new process that never has a good poll",
        exporters=[Exporter(starts=[0], poll=outage(0, reason="gone"))],
        expected=at([1]) | at([2], API_DOWN),
    ),
    Scenario(
        name="polls that fail for several reasons are one alert that does not change",
        exporters=accounts(*(Exporter(poll=in_turn(EARLY, *reasons)) for _, reasons in MIXED)),
        expected=at([11])
        | at([12, 13, 14, 15, 16, 17, 18, 19, 25, 26], *MIXED_FIRE)
        | at([35, 36, 37, 38], *MIXED_FIRE, *unseen("abcdefg")),
    ),
    Scenario(
        name="an outage of the API that becomes a refused key",
        exporters=[
            Exporter(
                poll=lambda now: "" if now < EARLY else "timeout" if now < 40 * MINUTE else "unauthorized"
            )
        ],
        evaluation=2 * MINUTE,
        expected=at([40, 42], UNSEEN, API_DOWN) | at([48, 60], UNSEEN, REFUSED),
    ),
    Scenario(
        name="a key that was replaced",
        exporters=[Exporter(poll=outage(EARLY, EARLY + 20 * MINUTE, "unauthorized"))],
        evaluation=2 * MINUTE,
        expected=at([24], REFUSED) | at([30, 40]),
    ),
    Scenario(
        name="step metrics of a model that keep failing, and items rejected at every poll, cannot be read; "
        "rare failures, and a burst, are noise",
        exporters=accounts(
            Exporter(unreadable=lambda now: min(now, 12 * HOUR) // (8.5 * MINUTE)),
            Exporter(rejected=lambda now: now // MINUTE),
            Exporter(unreadable=lambda now: now // (2 * HOUR) + 500 * (now > 3 * HOUR)),
        ),
        scrape=2 * MINUTE,
        evaluation=HOUR,
        expected=at([120, 1080], *unreadable("b", *REJECTED_KINDS))
        | at([360, 480, 720], *unreadable("a", "step_metrics"), *unreadable("b", *REJECTED_KINDS)),
    ),
    Scenario(
        name="a reload that failed, until it succeeds",
        exporters=[Exporter(reloaded=gap(2 * MINUTE, 12 * MINUTE))],
        expected=at([6, 12]) | at([8], fires("CohereReloadFailed", file="web_config")),
    ),
    Scenario(
        name="limits leave models out",
        exporters=[Exporter(dropped=3)],
        evaluation=2 * MINUTE,
        expected=at([20], fires("CohereSeriesDropped", limit="models.limit")),
    ),
)


FAILURES = (
    Scenario(
        name="a model that fails, until a day later",
        exporters=[Exporter(models=failing(TRAINING, updated=HOUR)), OTHER],
        scrape=2 * MINUTE,
        evaluation=HOUR,
        expected=at([0, 26 * 60]) | at([60, 24 * 60], FAILED),
    ),
    Scenario(
        name="a failure that Prometheus saw counts although the API's time is 30 hours old",
        exporters=[Exporter(models=failing(TRAINING, LATER, updated=-30 * HOUR))],
        evaluation=5 * MINUTE,
        expected=at([20, 90], FAILED),
    ),
    Scenario(
        name="a failure while nobody looked counts by the API's time",
        exporters=[Exporter(models=always(replace(BROKEN, updated=-HOUR)), up=listed(EARLY))],
        evaluation=2 * MINUTE,
        expected=at([8], ABSENT) | at([10], FAILED),
    ),
    Scenario(
        name="a restart with five lost scrapes is nothing, and an old failure is silent through it",
        exporters=[Exporter(models=always(BROKEN), up=gap(LATER, LATER + 5 * MINUTE), starts=[-DAY, LATER])],
        expected=at([10, 23, 25, 26, 30, 40]),
    ),
    Scenario(
        name="an old failure that is renamed is silent where its end is known",
        exporters=[
            Exporter(
                models=until(
                    LATER,
                    replace(BROKEN, updated=-20 * DAY, completed=-20 * DAY),
                    replace(BROKEN, name="chat-old", updated=LATER, completed=-20 * DAY),
                )
            )
        ],
        evaluation=5 * MINUTE,
        expected=at([20, 90]),
    ),
    Scenario(
        name="an old failure is silent, renamed or without any time; a new one fires for a day, also where "
        "timestamps are excluded or nobody saw it begin",
        exporters=accounts(
            Exporter(
                models=until(
                    30 * HOUR,
                    replace(BROKEN, updated=-20 * DAY),
                    replace(BROKEN, name="chat-old", updated=30 * HOUR),
                )
            ),
            Exporter(
                models=lambda now: [
                    replace(UNTIMED, id="2", name="old", status="STATUS_FAILED"),
                    *failing(UNTIMED, HOUR)(now),
                ],
                without="model_created",
            ),
            Exporter(
                models=lambda now: [replace(UNTIMED, status="STATUS_FAILED")] if now >= 30 * HOUR else []
            ),
        ),
        scrape=5 * MINUTE,
        evaluation=HOUR,
        expected=at([60, 24 * 60], *failed("b")) | at([26 * 60]) | at([30 * 60, 31 * 60], *failed("c")),
    ),
    Scenario(
        name="neither a restart nor a rollout with a gap ends the alert, or makes two of it",
        exporters=[
            *accounts(
                Exporter(models=failing(TRAINING, EARLY, updated=EARLY), up=gap(LATER, LATER + 4 * MINUTE)),
                Exporter(models=failing(TRAINING, EARLY, updated=EARLY), up=listed(end=LATER)),
            ),
            Exporter(
                labels={"namespace": "ml", "job": "b"},
                instance="b2:10220",
                models=failing(TRAINING, EARLY, updated=EARLY),
                up=listed(LATER + 3 * MINUTE),
                starts=[LATER + 3 * MINUTE],
            ),
        ],
        expected=at([11, 19, 20, 21, 22, 23, 24, 25, 30], *failed("ab")),
    ),
    Scenario(
        name="stale data holds the alert for an hour, not for ever",
        exporters=[Exporter(models=failing(TRAINING, EARLY, updated=EARLY), up=gap(LATER))],
        evaluation=5 * MINUTE,
        expected=at([25], FAILED) | at([70], FAILED, DOWN, UNSEEN) | at([90], DOWN, UNSEEN),
    ),
    Scenario(
        name="a failed model that is deleted or repaired ends its alert at once, and for good",
        exporters=accounts(
            *(
                Exporter(
                    models=lambda now, after=after: (  # type: ignore[misc]
                        failing(TRAINING, EARLY / 2, updated=EARLY / 2)(now) if now < EARLY else after
                    ),
                    up=gap(EARLY + 10 * MINUTE, EARLY + 14 * MINUTE),
                )
                for after in ([], [replace(READY, updated=EARLY)])
            )
        ),
        expected=at([9], *failed("ab")) | at([10, 11, 20, 22, 25, 35]),
    ),
)

OFFLINE, DEPLOYING = stuck("STATUS_TEMPORARILY_OFFLINE"), stuck("STATUS_DEPLOYING_API", "b")

PROGRESS = (
    Scenario(
        name="a queue behind a training run is normal for a day, and without one for two hours, whatever "
        "another account trains",
        exporters=accounts(
            Exporter(models=always(replace(QUEUED, updated=-HOUR))),
            Exporter(models=lambda now: [replace(QUEUED, updated=-23 * HOUR), replace(moving(now), id="2")]),
            Exporter(models=lambda now: [moving(now)]),
        ),
        evaluation=5 * MINUTE,
        expected=at([60]) | at([75], stuck("STATUS_QUEUED"), stuck("STATUS_QUEUED", "b")),
    ),
    Scenario(
        name="a queue between two training runs is normal until nothing has trained for two hours; one that "
        "the API dates wrongly counts as Prometheus saw it",
        exporters=accounts(
            Exporter(
                models=lambda now: [
                    replace(QUEUED, created=-5 * HOUR, updated=-5 * HOUR),
                    replace(moving(now), id="2")
                    if now < EARLY
                    else replace(READY, id="2", name="done", updated=EARLY),
                ]
            ),
            Exporter(models=lambda now: [replace(QUEUED, updated=now)]),
        ),
        evaluation=10 * MINUTE,
        expected=at([20, 120]) | at([150], stuck("STATUS_QUEUED"), stuck("STATUS_QUEUED", "b")),
    ),
    Scenario(
        name="a model that Prometheus saw offline, deploy, train or train again counts from then on, "
        "whatever its record says",
        exporters=accounts(
            *(
                Exporter(models=until(LATER, long_ago(before), long_ago(replace(before, status=status))))
                for before, status in (
                    (READY, "STATUS_TEMPORARILY_OFFLINE"),
                    (replace(TRAINING, step_at=-DAY), "STATUS_DEPLOYING_API"),
                    (replace(READY, status="STATUS_QUEUED"), "STATUS_FINETUNING"),
                    (replace(TRAINING, status="STATUS_QUEUED", step=9, step_at=-DAY), "STATUS_FINETUNING"),
                )
            )
        ),
        evaluation=10 * MINUTE,
        expected=at([30])
        | at([70], OFFLINE)
        | at([100, 250], OFFLINE, DEPLOYING)
        | at([280], OFFLINE, DEPLOYING, *of_each("cd", "CohereTrainingStalled", model_name="chat")),
    ),
    Scenario(
        name="a deployment that does not end, through a restart, and ends",
        exporters=[
            Exporter(
                models=until(
                    46 * MINUTE,
                    replace(QUEUED, status="STATUS_DEPLOYING_API", updated=-40 * MINUTE),
                    READY,
                ),
                up=gap(30 * MINUTE, 34 * MINUTE),
            )
        ],
        evaluation=2 * MINUTE,
        expected=at([20, 46]) | at([28, 30, 32, 34, 40, 44], stuck("STATUS_DEPLOYING_API")),
    ),
    Scenario(
        name="a model that is offline, whatever the clocks of the exporter and of the API show",
        exporters=accounts(
            *(
                Exporter(
                    models=until(
                        EARLY,
                        READY,
                        replace(READY, status="STATUS_TEMPORARILY_OFFLINE", updated=EARLY + api),
                    ),
                    clock_ahead=ahead,
                )
                for ahead, api in ((0, 0), (-6 * MINUTE, 0), (20 * MINUTE, 0), (0, 3 * MINUTE))
            )
        ),
        evaluation=2 * MINUTE,
        expected=at([24]) | at([34], *(stuck("STATUS_TEMPORARILY_OFFLINE", job) for job in "abcd")),
    ),
    Scenario(
        name="a training run that stalls, and moves again",
        exporters=[
            Exporter(
                models=lambda now: [
                    replace(TRAINING, step=1, step_at=-40 * MINUTE if now < 32 * MINUTE else now)
                ]
            )
        ],
        evaluation=2 * MINUTE,
        expected=at([20, 32]) | at([28], STALLED),
    ),
    Scenario(
        name="a training run without a first step, also one begun anew, is given four hours for it",
        exporters=accounts(
            *(
                Exporter(models=always(replace(TRAINING, updated=-3 * HOUR, step=step, step_at=at)))
                for step, at in ((None, None), (9, -DAY))
            )
        ),
        evaluation=5 * MINUTE,
        expected=at([60]) | at([75], *of_each("ab", "CohereTrainingStalled", model_name="chat")),
    ),
    Scenario(
        name="a training run with several metrics that are no number, or infinite, is one alert",
        exporters=accounts(
            *(
                Exporter(
                    models=lambda now, value=value: [  # type: ignore[misc]
                        replace(
                            moving(now),
                            metrics={"loss": value, "accuracy": value}
                            if now >= EARLY
                            else {"loss": 1, "accuracy": 0.5},
                        )
                    ],
                    up=gap(LATER, LATER + 4 * MINUTE),
                )
                for value in (nan, inf, -inf)
            )
        ),
        evaluation=2 * MINUTE,
        expected=at([8])
        | at([10, 14, 20, 22, 24, 30], *of_each("abc", "CohereTrainingDiverged", model_name="chat")),
    ),
    Scenario(
        name="a model that ended diverged long ago, renamed or not, also where its end is unknown, and "
        "negative, noisy or oddly named metrics, are nothing",
        exporters=accounts(
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
            ),
            Exporter(
                models=until(
                    LATER,
                    replace(READY, step=9, step_at=-30 * DAY, metrics={"loss": nan}),
                    replace(
                        READY, name="new", updated=LATER, step=9, step_at=-30 * DAY, metrics={"loss": nan}
                    ),
                )
            ),
        ),
        evaluation=5 * MINUTE,
        expected=at([10, 20, 40, 90]),
    ),
    Scenario(
        name="two models of one name, one of them without info",
        exporters=[
            Exporter(
                models=lambda now: [
                    *failing(TRAINING, EARLY, updated=EARLY)(now),
                    replace(moving(now), id="2", name=""),
                ],
                without="model_info",
            )
        ],
        evaluation=2 * MINUTE,
        expected=at([10], FAILED),
    ),
)


def at_intervals(scrape: float, evaluation: float) -> Sequence[Scenario]:
    """Return the same troubles at other intervals, with moments that every interval has settled by."""
    told = f", scraped every {scrape:.0f} s, evaluated every {evaluation:.0f} s"
    begin = 30 * MINUTE
    end = begin + max(40 * MINUTE, 6 * evaluation)
    broken = Exporter(
        models=failing(TRAINING, begin, updated=begin), up=gap(begin + 20 * MINUTE, begin + 24 * MINUTE)
    )
    troubles: dict[str, tuple[list[Exporter], dict[float, Sequence[Fires]]]] = {
        "all well": ([Exporter(), OTHER], {begin: (), end: ()}),
        "down": ([Exporter(up=gap(begin)), OTHER], {end: [UNSEEN, DOWN]}),
        "a failure": ([broken], {begin + at * MINUTE: [FAILED] for at in (10, 20, 30, 40)}),
        "the API down": ([Exporter(poll=outage(begin))], {end: [UNSEEN, API_DOWN]}),
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
        expected=at([19.75]) | at([21, 30], FAILED),
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
    assert len(set(names)) == len(names)


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
    ("selector", "alert", "reasons", "words"),
    [
        (
            "",
            "CohereApiDown",
            ["timeout", "server_error", "server_error"],
            "Most failures of the last 1h are server_error: the API is failing",
        ),
        (
            "job=~'a|50%'",
            "CohereCredentialsRefused",
            ["forbidden", "timeout", "timeout"],
            "Polls are refused as forbidden: the key lacks permission",
        ),
    ],
)
async def test_an_alert_says_the_reason_of_most_failures(
    selector: str, alert: str, reasons: Sequence[str], words: str, tmp_path: Path
) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text(render({"selector": selector}))
    exporter = Exporter(poll=in_turn(EARLY, *reasons))
    said = await description(
        tmp_path, rules, alert, Scenario(name="", exporters=[exporter], expected=at([30]))
    )
    assert said.startswith(words)


@every_edition_at_night
async def test_the_alert_of_an_unseen_fleet_says_for_how_long_it_is_unseen(tmp_path: Path) -> None:
    vanished = Scenario(name="", exporters=[Exporter(up=listed(end=EARLY))], expected=at([30]))
    said = await description(tmp_path, RULES, "CohereFleetUnseen", vanished)
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
        expected=at(range(24 * 60, 40 * 60, 120), unread),
        scrape=5 * MINUTE,
        evaluation=2 * HOUR,
    )
    assert not await judge(PROMTOOL, tmp_path, rules, [hourly])


@NIGHTLY
@pytest.mark.programs
@pytest.mark.parametrize("area", AREAS)
async def test_vmalert_fires_them_as_well(area: str, tmp_path: Path) -> None:
    assert not await judge(VMALERT, tmp_path, RULES, AREAS[area])


@every_edition_at_night
async def test_a_scenario_can_fail(tmp_path: Path) -> None:
    wrong = replace(API[0], name="this one", expected=at([12], UNSEEN))
    found = await judge(PROMTOOL, tmp_path, RULES, [API[0], wrong])
    assert found.startswith("this one: ")
