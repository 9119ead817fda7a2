"""The table of model families: the contract's list, and what each family says of one small fleet."""

import re
from math import inf, nan

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from exporter.exposition import Exposition, Format
from exporter.families import FAMILIES, Family, FleetFamily
from exporter.model import FinetunedModel, ModelState, Snapshot, Status, TrainingProgress
from tests.goldens import GOLDEN, assert_golden, is_updating
from tools.benchmarks.client_server import samples as samples_of

MODEL_LABELS = ("model_id", "model_name")

# Written out from the contract, so that neither a rename nor a forgotten family passes.
CONTRACT = {
    "cohere_finetuned_model_info": (
        *MODEL_LABELS,
        "base_type",
        "base_model",
        "base_model_version",
        "strategy",
        "dataset_id",
        "organization_id",
        "creator_id",
        "lora_target_modules",
        "multi_label",
        "wandb_project",
        "wandb_entity",
    ),
    "cohere_finetuned_model_status": (*MODEL_LABELS, "status"),
    "cohere_finetuned_model_created_timestamp_seconds": MODEL_LABELS,
    "cohere_finetuned_model_updated_timestamp_seconds": MODEL_LABELS,
    "cohere_finetuned_model_completed_timestamp_seconds": MODEL_LABELS,
    "cohere_finetuned_model_last_used_timestamp_seconds": MODEL_LABELS,
    "cohere_finetuned_model_hyperparameter": (*MODEL_LABELS, "hyperparameter"),
    "cohere_finetuned_model_training_step": MODEL_LABELS,
    "cohere_finetuned_model_training_step_timestamp_seconds": MODEL_LABELS,
    "cohere_finetuned_model_training_metric": (*MODEL_LABELS, "metric"),
    "cohere_finetuned_model_training_metric_step": (*MODEL_LABELS, "metric"),
    "cohere_finetuned_model_training_metric_min": (*MODEL_LABELS, "metric"),
    "cohere_finetuned_model_training_metric_max": (*MODEL_LABELS, "metric"),
    "cohere_finetuned_model_training_metrics_non_finite": MODEL_LABELS,
    "cohere_finetuned_models": ("status",),
    "cohere_finetuned_models_dropped": (),
}

STATUSES = [
    "STATUS_UNSPECIFIED",
    "STATUS_FINETUNING",
    "STATUS_DEPLOYING_API",
    "STATUS_READY",
    "STATUS_FAILED",
    "STATUS_DELETED",
    "STATUS_TEMPORARILY_OFFLINE",
    "STATUS_PAUSED",
    "STATUS_QUEUED",
]

# The field of the API that each family speaks of; its help has to name it.
API_FIELDS = {
    "cohere_finetuned_model_info": "settings",
    "cohere_finetuned_model_status": "status",
    "cohere_finetuned_model_created_timestamp_seconds": "created_at",
    "cohere_finetuned_model_updated_timestamp_seconds": "updated_at",
    "cohere_finetuned_model_completed_timestamp_seconds": "completed_at",
    "cohere_finetuned_model_last_used_timestamp_seconds": "last_used",
    "cohere_finetuned_model_hyperparameter": "settings.hyperparameters",
    "cohere_finetuned_model_training_step": "step_number",
    "cohere_finetuned_model_training_step_timestamp_seconds": "created_at",
    "cohere_finetuned_model_training_metric": "metrics",
    "cohere_finetuned_model_training_metric_step": "step_number",
    "cohere_finetuned_model_training_metric_min": "metrics",
    "cohere_finetuned_model_training_metric_max": "metrics",
    "cohere_finetuned_model_training_metrics_non_finite": "metrics",
    "cohere_finetuned_models": "status",
    "cohere_finetuned_models_dropped": "--models.limit",
}

CHAT = FinetunedModel(
    id="8fcb4c2a",
    name="support-chat",
    status=Status.FINETUNING,
    base_type="BASE_TYPE_CHAT",
    base_model="command-r",
    base_model_version="08-2024",
    strategy="STRATEGY_TFEW",
    dataset_id="tickets-2024",
    organization_id="org-1",
    creator_id="ada",
    lora_target_modules="LORA_TARGET_MODULES_QKVO",
    multi_label=True,
    wandb_project="support",
    wandb_entity="acme",
    created_at=1_718_964_201.5,
    updated_at=1_718_964_962.25,
    completed_at=1_718_965_000.0,
    last_used=1_719_000_000.0,
    hyperparameters={"learning_rate": 0.005, "train_epochs": 1.0, "early_stopping_threshold": 0.0},
)
CHAT_PROGRESS = TrainingProgress(
    step=40,
    step_at=1_718_964_940.125,
    metrics={"cross_entropy": 0.75, "generation_accuracy": 0.5, "nDCG@10": 1e-7},
    metric_steps={"cross_entropy": 40, "generation_accuracy": 40, "nDCG@10": 10},
    lowest={"cross_entropy": 0.5, "generation_accuracy": 0.25, "nDCG@10": 1e-7},
    highest={"cross_entropy": 3.0, "generation_accuracy": 0.5, "nDCG@10": 0.125},
)
# Nothing but what the specification requires, a status nobody knew, and a name that has to be escaped.
SPARE = FinetunedModel(id="b1", name='say "hi"\n\\o/ ✓', status="STATUS_ARCHIVED")
FLEET = Snapshot(
    states=(ModelState(CHAT, CHAT_PROGRESS), ModelState(SPARE)),
    status_counts=dict.fromkeys(STATUSES, 0) | {"STATUS_FINETUNING": 2, "STATUS_ARCHIVED": 1},
    dropped=1,
)

NAMES = [family.name for family in FAMILIES]


def family(name: str) -> Family:
    return next(row for row in FAMILIES if row.name == name)


def values(name: str, *models: ModelState) -> dict[tuple[str, ...], float]:
    """Return the values of one family by the label values that follow the model's own."""
    snapshot = Snapshot(states=models, status_counts={})
    return {labels[2:]: value for labels, value in samples_of(family(name), snapshot)}


async def rendered(name: str, format_: Format) -> bytes:
    """Return the exposition of FLEET with every family but one left out."""
    others = re.compile(rf"(?!{name}$).*")
    exposition = Exposition(is_fresh=lambda _: True, exclude=others)
    await exposition.publish(FLEET)
    return b"".join(exposition.chunks(format_))


def test_the_table_is_the_contract() -> None:
    assert {row.name: row.labels for row in FAMILIES} == CONTRACT
    assert len(FAMILIES) == len(CONTRACT)


@pytest.mark.anyio
@pytest.mark.parametrize("name", NAMES)
async def test_text_of_a_family(name: str) -> None:
    assert_golden(f"{name}.txt", await rendered(name, Format.TEXT))


@pytest.mark.anyio
@pytest.mark.parametrize("name", NAMES)
async def test_openmetrics_of_a_family(name: str) -> None:
    page = await rendered(name, Format.OPENMETRICS)
    assert_golden(f"{name}.om", page)
    parsed = text_string_to_metric_families(page.decode() + "# EOF\n")  # type: ignore[no-untyped-call]
    assert [each.name for each in parsed] == [name]


def test_there_is_no_golden_file_without_its_family() -> None:
    expected = {f"{name}.{kind}" for name in [*CONTRACT, "telemetry"] for kind in ("txt", "om")}
    assert {path.name for path in GOLDEN.iterdir()} == expected


@pytest.mark.parametrize(
    ("update", "ci", "updating"),
    [("1", "", True), ("1", "true", False), ("0", "", False), ("", "", False)],
)
def test_golden_files_are_written_only_when_asked_for_and_never_in_ci(
    monkeypatch: pytest.MonkeyPatch, update: str, ci: str, updating: bool
) -> None:
    monkeypatch.setenv("UPDATE_GOLDEN", update)
    monkeypatch.setenv("CI", ci)
    assert is_updating() == updating


@pytest.mark.parametrize("strange", [32, 33, 10_000])
def test_thousands_of_statuses_that_nobody_knows_do_not_make_thousands_of_series(strange: int) -> None:
    counts = dict.fromkeys(STATUSES, 1) | {f"STATUS_{n:05}": 2 for n in range(strange)} | {"other": 5}
    row = family("cohere_finetuned_models")
    assert isinstance(row, FleetFamily)
    samples = dict(row.samples(Snapshot(states=(), status_counts=counts)))
    assert sum(samples.values()) == sum(counts.values())
    assert list(samples) == [(status,) for status in [*list(counts)[: 9 + 32], "other"]]


def test_zero_is_a_value_and_not_absence() -> None:
    state = ModelState(
        FinetunedModel(id="a", created_at=0.0, hyperparameters={"lora_rank": 0.0}),
        TrainingProgress(step=0, metrics={"loss": 0.0}),
    )
    assert values("cohere_finetuned_model_created_timestamp_seconds", state) == {(): 0.0}
    assert values("cohere_finetuned_model_training_step", state) == {(): 0}
    assert values("cohere_finetuned_model_training_metric", state) == {("loss",): 0.0}
    assert values("cohere_finetuned_model_hyperparameter", state) == {("lora_rank",): 0.0}
    assert values("cohere_finetuned_model_training_step_timestamp_seconds", state) == {}


def test_metrics_that_are_no_finite_numbers_are_counted() -> None:
    metrics = {"loss": nan, "perplexity": inf, "log_likelihood": -inf, "accuracy": 0.5}
    state = ModelState(FinetunedModel(id="a"), TrainingProgress(step=1, metrics=metrics))
    assert values("cohere_finetuned_model_training_metrics_non_finite", state) == {(): 3}


def test_an_empty_fleet_has_its_counts_and_nothing_else() -> None:
    empty = Snapshot(states=(), status_counts=dict.fromkeys(STATUSES, 0))
    samples = {row.name: list(samples_of(row, empty)) for row in FAMILIES}
    assert samples.pop("cohere_finetuned_models") == [((status,), 0.0) for status in STATUSES]
    assert samples.pop("cohere_finetuned_models_dropped") == [((), 0.0)]
    assert not any(samples.values())


# The checklist for metrics, as far as a machine can tick it off.


@pytest.mark.parametrize("row", FAMILIES, ids=NAMES)
def test_help_is_one_short_sentence_that_names_the_field(row: Family) -> None:
    assert re.fullmatch(r"[A-Z1].{10,119}\.", row.help)
    assert ". " not in row.help
    assert API_FIELDS[row.name] in row.help


@pytest.mark.parametrize("row", FAMILIES, ids=NAMES)
def test_times_are_unix_timestamps_in_seconds(row: Family) -> None:
    assert row.help.startswith("Unix time") == row.name.endswith("_timestamp_seconds")


@pytest.mark.parametrize(
    "name", ["cohere_finetuned_model_hyperparameter", "cohere_finetuned_model_training_metric"]
)
def test_help_says_where_a_sum_means_nothing(name: str) -> None:
    assert "do not sum" in family(name).help
