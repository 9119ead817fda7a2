"""Model: one model by variable. Where it stands, what it is made of, how its training goes, beside others."""

from grafana_foundation_sdk.models.dashboard import Dashboard, Panel

from exporter.model import Status
from grafana.board import MODEL as BOARD
from grafana.board import dashboard
from grafana.comparison import COMPARED, PREDECESSOR, curves_by_step, evaluation
from grafana.layout import Heading, Shelf
from grafana.looks import BASE_TYPES, NEUTRAL, by_code, statuses, words
from grafana.panels import Column, graph, listing, single, status_history
from grafana.promql import FALLING, MODEL, chosen, in_status, labelled, per_model, status_code, with_short_id
from grafana.variables import hidden_id, of_metric, of_models

THIS = 'model_id="$model_id"'


def of_this(family: str, *matchers: str) -> str:
    """Return the series of one of the model's families."""
    return chosen(f"cohere_finetuned_model_{family}", THIS, *matchers)


IN_TRAINING = f"and on () ({in_status(Status.FINETUNING, THIS)})"
SILENCE = f"clamp_min(time() - max({of_this('training_step_timestamp_seconds')}), 0)\n{IN_TRAINING}"
TOOK = f"{per_model('completed_timestamp_seconds')} - {per_model('created_timestamp_seconds')}"
WANDB = "https://wandb.ai/${__data.fields.wandb_entity:percentencode}/${__data.fields.wandb_project:percentencode}"


def pace(window: str) -> str:
    """Return the steps per minute, by the API's own times.

    Both differences are between the same two scrapes, so what Prometheus extrapolates cancels out. While no
    step is added both are 0, and their quotient is no number.
    """
    steps, seconds = of_this("training_step"), of_this("training_step_timestamp_seconds")
    return f"60 * max(delta({steps}[{window}])\n  / delta({seconds}[{window}]) > 0)"


def build() -> Dashboard:
    """Build the dashboard."""
    losses = _curves(
        "Evaluation losses: lower is better",
        "Evaluation metrics that fall, by name: loss, entropy, perplexity, error.",
        "=~",
    )
    scores = _curves(
        "Evaluation scores: higher is better",
        "All other evaluation metrics, such as accuracy, F1, MRR and nDCG.",
        "!~",
    )
    return dashboard(
        BOARD,
        "One fine-tuned model: its status, what it is made of, its evaluation metrics, its peers.",
        [
            Shelf(4, ((4, _status()), (5, _step()), (5, _pace()), (5, _silence()), (5, _elapsed()))),
            Shelf(
                15,
                (
                    (9, _made_of()),
                    (
                        15,
                        (
                            Shelf(10, ((5, _hyperparameters()), (5, _times()), (5, _where_the_time_went()))),
                            Shelf(5, ((5, _wandb()), (10, _history()))),
                        ),
                    ),
                ),
            ),
            Shelf(9, ((24, evaluation()),)),
            Shelf(9, ((12, losses), (12, scores))),
            Heading("Beside other models"),
            Shelf(11, ((24, curves_by_step()),)),
            Heading("Progress"),
            Shelf(7, ((12, _steps_and_pace()), (12, _silence_over_time()))),
        ],
        variables=[
            of_models(
                "model_id", "Model", "The model that is shown. Models of one name differ by their ids."
            ),
            of_models(
                "baseline", "Baseline", "The model it is measured against, step by step.", optional=True
            ),
            of_models(
                "compare",
                "Compare",
                f"Models whose curves are drawn beside it: of those chosen, the {COMPARED} created last.",
                several=True,
                optional=True,
            ),
            of_metric(THIS),
            hidden_id("predecessor", PREDECESSOR),
        ],
        since="now-6h",
    )


def _status() -> Panel:
    return single(
        "Status",
        "The model's status now, as the API gives it.",
        status_code(THIS),
        mappings=by_code(),
        filled=True,
        empty="no data",
    )


def _step() -> Panel:
    return single(
        "Step evaluated",
        "Highest step that has evaluation metrics. The API does not say how many steps there will be.",
        f"max({of_this('training_step')})",
        empty="no step, or no data",
    )


def _pace() -> Panel:
    return single(
        "Pace",
        "Steps per minute, averaged over the dashboard's time range, by the times that the API gives for the "
        "steps. The range must hold at least two polls.",
        pace("$__range") + f"\n{IN_TRAINING}",
        unit="suffix: steps/min",
        decimals=1,
        empty="no step, or no data",
    )


def _silence() -> Panel:
    return single(
        "Time since the last step",
        "While the model is in training. A quarter of an hour of silence is normal before the first step; "
        "later steps come about once a minute, so it is orange beyond 15 minutes and red beyond an hour.",
        SILENCE,
        unit="s",
        steps=((None, NEUTRAL), (900, "orange"), (3600, "red")),
        empty="at rest, or no data",
    )


def _elapsed() -> Panel:
    busy = in_status(Status.FINETUNING, THIS)
    waits = in_status(Status.QUEUED, THIS)
    info = per_model("info", labels="base_type")
    typical = (
        f"quantile by (base_type) (0.5, ({TOOK}) * on ({MODEL}) group_left (base_type) {info})\n"
        f"and on (base_type) max by (base_type) ({of_this('info')})"
    )
    created, completed = (f"max({of_this(f'{when}_timestamp_seconds')})" for when in ("created", "completed"))
    terms = {
        "so far": f"(time() - {created} and on () ({busy} or {waits}))",
        "took": f"({completed} - {created})",
        "typical": f"max({typical})",
    }
    return single(
        "Elapsed, and typical",
        "From creation to the end of training, or to now while it lasts, beside the median of the finished "
        "models of the same base type. The API gives no estimate of the time left.",
        (labelled("what", terms), "{{what}}"),
        unit="s",
        decimals=1,
        names=True,
        empty="no end, or no data",
    )


def _history() -> Panel:
    return status_history(
        "Status over time",
        "The statuses this model went through, as polls saw them.",
        f"max by (model) ({with_short_id(status_code(THIS), 'model')})",
        per_page=1,
        empty="Not listed in this time range, or no data",
    )


def _curves(title: str, description: str, operator: str) -> Panel:
    metric = f'metric{operator}"{FALLING}"'
    complete = f"max by (metric) ({of_this('step_metric', metric)})"
    polled = f"max by (metric) ({of_this('training_metric', metric)})"
    return graph(
        title,
        f"{description} Every step where /metrics/steps is scraped, else the latest value of each poll.",
        (f"{complete}\nor {polled}", "{{metric}}"),
        decimals=3,
        soft_min=None,
        empty="No step has such a metric yet, or no data",
    )


def _steps_and_pace() -> Panel:
    return graph(
        "Steps and pace",
        "Highest step evaluated (left), and steps per minute over the ten minutes before (right). Where "
        "polls are further apart, the pace is drawn only after each that saw a new step.",
        (f"max({of_this('training_step')})", "step"),
        (pace("10m"), "pace"),
        decimals=0,
        steps_between=True,
        on_the_right=("pace", "suffix: /min", "steps per minute", 1),
        empty="No steps in this time range, or no data",
    )


def _silence_over_time() -> Panel:
    return graph(
        "Time since the last step, over time",
        "While the model is in training. A saw with even teeth is a healthy training run; a line that "
        "only rises is one that stalled.",
        (SILENCE, "since the last step"),
        unit="s",
        empty="No training with steps in this time range, or no data",
    )


def _hyperparameters() -> Panel:
    return listing(
        "Hyperparameters",
        "The numeric hyperparameters of the run, by the API's own names.",
        f"max by (hyperparameter) ({of_this('hyperparameter')})",
        columns=[
            Column(field="hyperparameter", title="Hyperparameter"),
            Column(field="Value", title="Value", unit="none", width=90),
        ],
        sort_by="Hyperparameter",
        empty="The API gives no hyperparameters, or no data",
    )


def _times() -> Panel:
    times = {
        "Created": "created",
        "Last change": "updated",
        "Training ended": "completed",
        "Last used": "last_used",
        "Last step": "training_step",
    }
    terms = {title: f"1000 * max({of_this(f'{name}_timestamp_seconds')})" for title, name in times.items()}
    return listing(
        "Times",
        "When the model was created, changed and used, by the API. When the training ends the model is not "
        "yet ready: it is deployed next.",
        labelled("event", terms),
        columns=[
            Column(field="event", title="Event"),
            Column(field="Value", title="Time", unit="dateTimeAsIso", width=160),
        ],
        sort_by="Time",
        empty="The API gives no times, or no data",
    )


def _where_the_time_went() -> Panel:
    return listing(
        "Where the time went",
        "Minutes of the time range that Prometheus saw the model in each status.",
        f"60 * max by (status) (count_over_time(({of_this('status')} == 1)[$__range:1m]))",
        columns=[
            Column(field="status", title="Status", mappings=statuses()),
            Column(field="Value", title="Time", unit="s", decimals=1, width=110),
        ],
        sort_by="Time",
        descending=True,
        empty="Not listed in this time range, or no data",
    )


def _made_of() -> Panel:
    titles = {
        "model_name": "Name",
        "model_id": "Id",
        "base_type": "Base type",
        "base_model": "Base model",
        "base_model_version": "Version",
        "strategy": "Strategy",
        "lora_target_modules": "LoRA modules",
        "dataset_id": "Dataset",
        "creator_id": "Creator",
        "organization_id": "Organization",
        "wandb_entity": "W&B entity",
        "wandb_project": "W&B project",
    }
    terms = {title: _value_of(label, THIS) for label, title in titles.items()}
    terms["Predecessor"] = _value_of("model_id", 'model_id="$predecessor"')
    numbered = {
        title: f'label_replace({term}, "order", "{number:02}", "", "")'
        for number, (title, term) in enumerate(terms.items())
    }
    return listing(
        "Made of",
        "What the model was made from and by whom. The predecessor is the model of the same name created "
        "last before it.",
        f"max by (order, what, value) ({labelled('what', numbered)})",
        columns=[
            Column(field="order", title="No.", hidden=True),
            Column(field="what", title="What", width=120),
            Column(
                field="value",
                title="Value",
                mappings=words({base_type: (text, NEUTRAL) for base_type, text in BASE_TYPES.items()}),
            ),
        ],
        sort_by="No.",
        empty="Not listed now, or no data",
    )


def _value_of(label: str, model: str) -> str:
    """Return a series whose label `value` is that of `label`, if the model has it."""
    info = chosen("cohere_finetuned_model_info", model, f'{label}!=""')
    return f'label_replace(max by ({label}) ({info}), "value", "$1", "{label}", "(.*)")'


def _wandb() -> Panel:
    both = of_this("info", 'wandb_entity!=""', 'wandb_project!=""')
    return listing(
        "Weights & Biases",
        "A link to the run's project, where the model names both an entity and a project.",
        f"max by (wandb_entity, wandb_project) ({both})",
        columns=[
            Column(field="wandb_entity", title="Entity"),
            Column(field="wandb_project", title="Project", link=WANDB, link_title="Open in Weights & Biases"),
        ],
        sort_by="Project",
        empty="No project with an entity, or no data",
    )
