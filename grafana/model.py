"""Model: one model by variable. Where it stands, how its training goes, what it is made of."""

from grafana_foundation_sdk.builders import dashboard as build_dashboard
from grafana_foundation_sdk.models.dashboard import (
    Dashboard,
    Panel,
    VariableModel,
    VariableRefresh,
    VariableSort,
)

from exporter.model import Status
from grafana.board import MODEL, dashboard
from grafana.layout import Shelf
from grafana.looks import base_types, by_code
from grafana.panels import DATASOURCE, Column, graph, listing, single, status_history
from grafana.promql import in_status, labelled, status_code

THIS = 'model_id="$model_id"'
FALLING = "(?i).*(loss|entropy|perplexity|error).*"
"""Metrics that fall as a training gets better. All others count as rising; the names are an open set."""

# Both differences are between the same two scrapes, so what Prometheus extrapolates cancels out. While no
# step is added both are 0, and their quotient is no number.
PACE = (
    "60 * max(delta(cohere_finetuned_model_training_step{{{this}}}[{window}])\n"
    "  / delta(cohere_finetuned_model_training_step_timestamp_seconds{{{this}}}[{window}]) > 0)"
)
IN_TRAINING = f"and on () ({in_status(Status.FINETUNING, THIS)})"
SILENCE = f"time() - max(cohere_finetuned_model_training_step_timestamp_seconds{{{THIS}}})\n{IN_TRAINING}"
WANDB = "https://wandb.ai/${__data.fields.wandb_entity:percentencode}/${__data.fields.wandb_project:percentencode}"


def build() -> Dashboard:
    """Build the dashboard."""
    return dashboard(
        MODEL,
        "One fine-tuned model: its status, its training curves, its settings.",
        [
            Shelf(4, ((6, _status()), (6, _step()), (6, _pace()), (6, _silence()))),
            Shelf(4, ((24, _history()),)),
            Shelf(
                9,
                (
                    (
                        12,
                        _curves(
                            "Losses: lower is better",
                            "Evaluation metrics that fall, by their name: loss, entropy, perplexity, error.",
                            "=~",
                        ),
                    ),
                    (
                        12,
                        _curves(
                            "Scores: higher is better",
                            "All other evaluation metrics, such as accuracy, F1, MRR and nDCG.",
                            "!~",
                        ),
                    ),
                ),
            ),
            Shelf(7, ((12, _steps_and_pace()), (12, _silence_over_time()))),
            Shelf(8, ((8, _latest_metrics()), (8, _hyperparameters()), (8, _times()))),
            Shelf(5, ((24, _made_of()),)),
        ],
        variables=[_variable()],
        since="now-6h",
    )


def _variable() -> VariableModel:
    # Models that were removed within the time range can be chosen too: their history is still there.
    query = (
        "query_result(max by (model_id, model_name) (last_over_time(cohere_finetuned_model_info[$__range])))"
    )
    return (
        build_dashboard.QueryVariable("model_id")
        .label("Model")
        .description("Shown by its name; models of one name are told apart by their status history.")
        .datasource(DATASOURCE)
        .query({"query": query, "qryType": 3, "refId": "PrometheusVariableQueryEditor-VariableQuery"})
        # Grafana shows the group `text` and uses the group `value`.
        .regex(r'/model_id="(?<value>.+?)",\s*model_name="(?<text>.*)"\}/')
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_CASE_INSENSITIVE_ASC)
        .build()
    )


def _status() -> Panel:
    return single(
        "Status",
        "The model's status now, as the API tells it.",
        status_code(THIS),
        mappings=by_code(),
        filled=True,
        empty="not listed",
    )


def _step() -> Panel:
    return single(
        "Step",
        "Highest step that has evaluation metrics. The API does not tell how many steps there will be.",
        f"max(cohere_finetuned_model_training_step{{{THIS}}})",
        empty="before the first step",
    )


def _pace() -> Panel:
    return single(
        "Pace",
        "Steps per minute, averaged over the dashboard's time range, by the times that the API gives for the "
        "steps. The range must hold at least two polls.",
        PACE.format(this=THIS, window="$__range") + f"\n{IN_TRAINING}",
        unit="suffix: steps/min",
        decimals=1,
        empty="no new step in this time range",
    )


def _silence() -> Panel:
    return single(
        "Time since the last step",
        "While the model is in training. A quarter of an hour of silence is normal before the first step; "
        "later steps come about once a minute, so it is orange beyond 15 minutes and red beyond an hour.",
        SILENCE,
        unit="s",
        steps=((None, "green"), (900, "orange"), (3600, "red")),
        empty="no steps, or not in training",
    )


def _history() -> Panel:
    return status_history(
        "Status over time",
        "The statuses this model went through, as polls saw them.",
        status_code(THIS),
        per_page=1,
        empty="Not listed in this time range",
    )


def _curves(title: str, description: str, operator: str) -> Panel:
    selector = f'{THIS}, metric{operator}"{FALLING}"'
    return graph(
        title,
        f"{description} Latest value of each at every moment, by the API's own names.",
        (
            f"max by (metric) (cohere_finetuned_model_training_metric{{{selector}}})",
            "{{metric}}",
        ),
        decimals=3,
        soft_min=None,
        empty="No step has such a metric yet",
    )


def _steps_and_pace() -> Panel:
    return graph(
        "Steps and pace",
        "Highest step with metrics (left), and steps per minute over the ten minutes before (right). Where "
        "polls are further apart, the pace is drawn only after each that saw a new step.",
        (f"max(cohere_finetuned_model_training_step{{{THIS}}})", "step"),
        (PACE.format(this=THIS, window="10m"), "pace"),
        decimals=0,
        steps_between=True,
        on_the_right=("pace", "suffix: /min", "steps per minute", 1),
        empty="No steps in this time range",
    )


def _silence_over_time() -> Panel:
    return graph(
        "Time since the last step, over time",
        "While the model is in training. A saw with even teeth is a healthy training; a line that "
        "only rises is one that stalled.",
        (
            SILENCE,
            "since the last step",
        ),
        unit="s",
        empty="No training with steps in this time range",
    )


def _latest_metrics() -> Panel:
    return listing(
        "Latest evaluation",
        "Latest value of each evaluation metric, from the highest step that has it.",
        f"max by (metric) (cohere_finetuned_model_training_metric{{{THIS}}})",
        columns=[
            Column(field="metric", title="Metric"),
            Column(field="Value", title="Value", unit="none", decimals=4, width=140),
        ],
        sort_by="Metric",
        empty="No step has metrics yet",
    )


def _hyperparameters() -> Panel:
    return listing(
        "Hyperparameters",
        "The numeric hyperparameters of the training, by the API's own names.",
        f"max by (hyperparameter) (cohere_finetuned_model_hyperparameter{{{THIS}}})",
        columns=[
            Column(field="hyperparameter", title="Hyperparameter"),
            Column(field="Value", title="Value", unit="none", width=140),
        ],
        sort_by="Hyperparameter",
        empty="The API tells no hyperparameters",
    )


def _times() -> Panel:
    times = {
        "Created": "created",
        "Last change": "updated",
        "Training ended": "completed",
        "Last used": "last_used",
        "Last step": "training_step",
    }
    terms = {
        title: f"1000 * max(cohere_finetuned_model_{name}_timestamp_seconds{{{THIS}}})"
        for title, name in times.items()
    }
    return listing(
        "Times",
        "What the API tells of the model's life. When the training ends the model is not yet ready: it is "
        "deployed next.",
        labelled("event", terms),
        columns=[
            Column(field="event", title="Event"),
            Column(field="Value", title="Time", unit="dateTimeAsIso", width=180),
        ],
        sort_by="Time",
        empty="The API tells no times",
    )


def _made_of() -> Panel:
    titles = {
        "model_id": "Id",
        "base_type": "Type",
        "base_model": "Base model",
        "base_model_version": "Version",
        "strategy": "Strategy",
        "lora_target_modules": "LoRA modules",
        "dataset_id": "Dataset",
        "creator_id": "Creator",
        "organization_id": "Organization",
        "wandb_entity": "W&B entity",
    }
    columns = [
        Column(
            field=label,
            title=title,
            width=290 if label == "model_id" else None,
            mappings=base_types() if label == "base_type" else None,
        )
        for label, title in titles.items()
    ]
    project = Column(
        field="wandb_project", title="W&B project", link=WANDB, link_title="Open in Weights & Biases"
    )
    labels = ", ".join([*titles, "wandb_project"])
    return listing(
        "Made of",
        "The model's settings, its owner, and its Weights & Biases project with a link, where it has one.",
        f"max by ({labels}) (cohere_finetuned_model_info{{{THIS}}})",
        columns=[*columns, project],
        sort_by="Id",
        empty="Not listed now",
    )
