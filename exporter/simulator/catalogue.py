"""The models of the demo, as tables: what is trained, how long it takes, where it stands at the start.

Times are minutes of simulated time; days are real ones, for models at rest are older than the demo. A title
ends each name, so that a name tells the work it comes from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from exporter.simulator.jobs import Plan, Recipe, Status

WANDB_API_KEY = "fake-wandb-key-that-must-never-be-shown"
"""The fake Weights & Biases key of some models: the real API lists such keys in clear text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a team submits once a day: `runs` runs on one dataset, of about `minutes` after their first row.

    Run k takes its hyperparameters from `sweep`. The dataset has a new edition every `edition_days` days.
    `fails` and `overfits` are shares of the runs; one run in `diverges_every` (0: none) ends in NaN. Unless
    `versioned`, every run has the same name. `version` is that of the first run of the demo, or later.
    """

    recipe: Recipe
    dataset: str
    minutes: float
    runs: int = 1
    version: int = 1
    versioned: bool = True
    is_renamed: bool = False
    sweep: Mapping[str, Sequence[float]] = field(default_factory=dict)
    edition_days: int = 3
    fails: float = 0.1
    overfits: float = 0.3
    diverges_every: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleModel:
    """A model made `days` before the start that has come to rest, in `status`.

    A READY one is used until `unused_days` before the start. One that is DEPLOYING_API was paused and is just
    waking up, and is READY soon after the start.
    """

    recipe: Recipe
    version: int
    days: float
    status: Status
    unused_days: float = 0.0


CHAT = Recipe(
    title="chat",
    base_type="BASE_TYPE_CHAT",
    base_model="command-r",
    base_model_version="08-2024",
    hyperparameters={
        "early_stopping_patience": 6,
        "early_stopping_threshold": 0.01,
        "train_batch_size": 16,
        "train_epochs": 3,
        "learning_rate": 0.0001,
        "lora_alpha": 16,
        "lora_rank": 16,
        "lora_target_modules": "LORA_TARGET_MODULES_QKVO",
    },
)
GENERATIVE = Recipe(
    title="generative",
    base_type="BASE_TYPE_GENERATIVE",
    base_model="medium",
    base_model_version="14.2.0",
    strategy="STRATEGY_TFEW",
    hyperparameters={"train_batch_size": 8, "train_epochs": 1, "learning_rate": 0.01},
)
CLASSIFICATION = Recipe(
    title="classification",
    base_type="BASE_TYPE_CLASSIFICATION",
    base_model="embed-english-light",
    base_model_version="2.0.0",
    strategy="STRATEGY_VANILLA",
    creator="support-analytics",
    hyperparameters={"train_batch_size": 32, "train_epochs": 5, "learning_rate": 0.00002},
)
RERANK = Recipe(
    title="rerank",
    base_type="BASE_TYPE_RERANK",
    base_model="rerank-english",
    base_model_version="3.0.1",
    strategy="STRATEGY_VANILLA",
    creator="search",
    hyperparameters={"train_batch_size": 16, "train_epochs": 2, "learning_rate": 0.00005},
)
WANDB = {"project": "assistants", "entity": "example-research", "api_key": WANDB_API_KEY}
HOT = {**CHAT.hyperparameters, "learning_rate": 0.01, "lora_target_modules": "LORA_TARGET_MODULES_QKVO_FFN"}
PATIENT = {**CHAT.hyperparameters, "early_stopping_patience": 10, "early_stopping_threshold": 0.001}
UNHURRIED = {name: value for name, value in CHAT.hyperparameters.items() if "early" not in name}
# Generating texts takes longer than scoring them, so it is done on every fifth evaluation.
SELDOM = {"generation_accuracy": 5, "generation_cross_entropy": 5}
QUEUES = ("billing", "delivery", "login", "outage", "refund", "returns", "security", "spam")

PROGRAM = (
    Work(
        recipe=replace(RERANK, title="docs-rerank"),
        dataset="docs-queries",
        minutes=85,
        versioned=False,
        edition_days=2,
    ),
    Work(
        recipe=replace(CHAT, title="tool-use-chat", creator="research", hyperparameters=HOT, sparse=SELDOM),
        dataset="tool-calls",
        minutes=140,
        version=3,
        diverges_every=2,
    ),
    Work(
        recipe=replace(CHAT, title="support-chat", hyperparameters=PATIENT, wandb=WANDB, sparse=SELDOM),
        dataset="support-conversations",
        minutes=190,
        runs=3,
        version=12,
        is_renamed=True,
        sweep={"learning_rate": (0.00005, 0.0001, 0.0002), "lora_rank": (8, 16, 16)},
        overfits=0.5,
    ),
    Work(
        recipe=replace(CLASSIFICATION, title="ticket-triage", classes=QUEUES),
        dataset="tickets",
        minutes=55,
        runs=2,
        version=21,
        sweep={"learning_rate": (0.00002, 0.00005)},
        fails=0.25,
    ),
    Work(
        recipe=replace(GENERATIVE, title="product-copy", creator="marketing", sparse=SELDOM),
        dataset="product-texts",
        minutes=105,
        runs=2,
        version=7,
        sweep={"train_epochs": (1, 3)},
    ),
    Work(
        recipe=replace(CLASSIFICATION, title="topic-labels", multi_label=True),
        dataset="tickets",
        minutes=50,
        version=5,
    ),
    Work(
        recipe=replace(RERANK, title="shop-rerank", hyperparameters={}),
        dataset="shop-queries",
        minutes=75,
        version=4,
    ),
    Work(
        recipe=replace(CHAT, title="handover-chat", hyperparameters=UNHURRIED),
        dataset="support-conversations",
        minutes=140,
        version=2,
        overfits=0.6,
    ),
)
RUNS_PER_DAY = sum(work.runs for work in PROGRAM)
SHOWN_FIRST = 2  # the place in PROGRAM whose last run is near its end when the demo starts
REPAIRED = (3, 4, 0)  # the places whose first run fails and is repaired, one each day in turn

STEADY = Plan(queue=3, silence=10, training=108, deployment=6, used_every=7)
WAKING_UP = 4.0  # minutes from the start of the demo

RESTING = (
    IdleModel(recipe=replace(CHAT, title="sales-chat", wandb=WANDB), version=9, days=6, status=Status.READY),
    IdleModel(
        recipe=replace(CLASSIFICATION, title="intent-router", multi_label=True),
        version=5,
        days=3,
        status=Status.FAILED,
    ),
    IdleModel(recipe=replace(CHAT, title="onboarding-chat"), version=3, days=12, status=Status.PAUSED),
    IdleModel(recipe=replace(GENERATIVE, title="legal-summary"), version=2, days=40, status=Status.DELETED),
    IdleModel(
        recipe=replace(RERANK, title="catalogue-rerank"),
        version=6,
        days=21,
        status=Status.TEMPORARILY_OFFLINE,
    ),
    IdleModel(recipe=replace(GENERATIVE, title="legacy-faq"), version=1, days=90, status=Status.UNSPECIFIED),
    IdleModel(recipe=replace(CHAT, title="returns-chat"), version=2, days=18, status=Status.DEPLOYING_API),
    IdleModel(
        recipe=replace(CHAT, title="pricing-chat"),
        version=1,
        days=60,
        status=Status.READY,
        unused_days=41,
    ),
)
