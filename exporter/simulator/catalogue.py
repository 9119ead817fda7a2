"""The models of the demo, as tables: what is trained, how long it takes, where it stands at the start.

Times are minutes of simulated time; days are real ones, for models at rest are older than the demo.
Two slots, STEADY, share one period, stand half of it apart and record rows for more than half of it: so at
any moment at least one model is in training with rows. All nine statuses are there at the start.
"""

from dataclasses import dataclass, replace

from exporter.simulator.jobs import Plan, Recipe, Status

WANDB_API_KEY = "fake-wandb-key-that-must-never-be-shown"
"""The fake Weights & Biases key of one model: the real API lists such keys in clear text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """Work that recurs: every `period` minutes a new version of the model is trained.

    At the start the job under way is version `version` and `age` minutes old. A job leaves the list after
    one and a quarter periods, so a slot has one or two jobs.
    """

    recipe: Recipe
    plan: Plan
    period: float
    age: float
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """A model made `days` before the start that has come to rest, in `status`."""

    recipe: Recipe
    version: int
    days: float
    status: Status


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

STEADY = Plan(queue=3, silence=10, training=108, deployment=6, used_every=7)
SHORT = Plan(queue=3, silence=7, training=60, deployment=12)
FAILING = Plan(queue=2, silence=5, training=50, fails=True)
DIVERGING = Plan(queue=6, silence=9, training=90, fails=True, diverges=True)

SLOTS = (
    Slot(recipe=replace(CHAT, title="support-chat"), plan=STEADY, period=180, age=60, version=12),
    Slot(recipe=replace(GENERATIVE, title="product-copy"), plan=STEADY, period=180, age=150, version=7),
    Slot(recipe=replace(RERANK, title="docs-rerank"), plan=SHORT, period=140, age=72, version=4),
    Slot(recipe=replace(CLASSIFICATION, title="ticket-triage"), plan=FAILING, period=100, age=10, version=21),
    Slot(
        recipe=replace(CHAT, title="tool-use-chat", creator="research", hyperparameters=HOT),
        plan=DIVERGING,
        period=160,
        age=1,
        version=3,
    ),
)

RESTING = (
    Rest(recipe=replace(CHAT, title="sales-chat", wandb=WANDB), version=9, days=6, status=Status.READY),
    Rest(
        recipe=replace(CLASSIFICATION, title="intent-router", multi_label=True),
        version=5,
        days=3,
        status=Status.FAILED,
    ),
    Rest(recipe=replace(GENERATIVE, title="legal-summary"), version=2, days=40, status=Status.DELETED),
    Rest(
        recipe=replace(RERANK, title="catalogue-rerank"),
        version=6,
        days=21,
        status=Status.TEMPORARILY_OFFLINE,
    ),
    Rest(recipe=replace(CHAT, title="onboarding-chat"), version=3, days=12, status=Status.PAUSED),
    Rest(recipe=replace(GENERATIVE, title="legacy-faq"), version=1, days=90, status=Status.UNSPECIFIED),
)
