"""Training runs compared: what they were made with, what they reached, how long they took.

The panels show the runs that the variables for base type, dataset and creator select.
"""

from dataclasses import replace

from grafana_foundation_sdk.models.dashboard import Panel

from exporter.model import Status
from grafana.looks import BASE_TYPES, NEUTRAL, base_types, words
from grafana.panels import Column, Matrix, listing
from grafana.promql import DAY, FALLING, IDENTITY, MODEL, best, in_status, labelled, named, per_model

FILTERS = ('base_type=~"$base_type"', 'dataset_id=~"$dataset"', 'creator_id=~"$creator"')
HYPERPARAMETERS = ("learning_rate", "train_epochs")
METRICS = (
    *("accuracy", "cross_entropy", "generation_accuracy", "generation_cross_entropy", "loss"),
    *("f1", "precision", "recall", "MRR@10", "nDCG@10"),
)
"""The metrics whose columns stand first, the last value beside the best; others follow."""
WEEKS = 8
WEEK = 7 * DAY
RESTING_DAYS = 30
ON = f"on ({MODEL})"


def info(*labels: str) -> str:
    """Return the runs that the variables select, with these labels of `…_info`."""
    return per_model("info", *FILTERS, labels=", ".join(labels))


def described(expression: str, *labels: str) -> str:
    """Return values of the selected runs, with labels of `…_info` joined to them."""
    return f"({expression})\n* {ON} group_left ({', '.join(labels)}) {info(*labels)}"


def table(name: Column) -> Panel:
    """Build the table of runs: a row a run, a column a metric, its last and its best value."""
    columns = {
        "hyperparameter": per_model(
            "hyperparameter", f'hyperparameter=~"{"|".join(HYPERPARAMETERS)}"', labels="hyperparameter"
        ),
        "step": f'label_replace({per_model("training_step")}, "step", "step evaluated", "", "")',
        "metric": per_model("training_metric", labels="metric"),
    }
    terms = [f'label_replace({term}, "column", "$1", "{label}", "(.*)")' for label, term in columns.items()]
    terms.append(f'label_replace({best("metric")}, "column", "$1 best", "metric", "(.*)")')
    cells = "\n  or ".join(terms)
    return listing(
        "Runs",
        "Every run with its evaluation metrics: the latest value and the best one so far. A loss, an "
        "entropy, a perplexity or an error is best when lowest, anything else when highest. Click a header "
        "to sort.",
        named(info("model_name", "base_type", "dataset_id", "creator_id")),
        f"max by (model_id, column) (\n  {cells}\n)",
        columns=[
            replace(name, width=180),
            Column(field="base_type", title="Type", width=110, mappings=base_types()),
            Column(field="dataset_id", title="Dataset", width=130),
            Column(field="creator_id", title="Creator", width=130),
            Column(field="learning_rate", title="Learning rate", unit="none", width=110),
            Column(field="train_epochs", title="Epochs", unit="none", width=70),
            Column(field="step evaluated", title="Step evaluated", unit="none", decimals=0, width=110),
            *(
                Column(field=title, title=title, unit="none", decimals=4, width=max(100, 40 + 8 * len(title)))
                for metric in METRICS
                for title in (metric, f"{metric} best")
            ),
        ],
        sort_by="Model",
        filterable=True,
        matrix=Matrix(ref_id="B", row="model_id", column="column"),
        unit="none",
        empty="No runs are selected, or no data",
    )


def best_of_datasets(name: Column) -> Panel:
    """Build the table of each dataset's best run by each metric."""
    labels = ("model_name", "base_type", "dataset_id")
    dataset = 'dataset_id!=""'
    by = f"by ({IDENTITY}, dataset_id, base_type, metric)"
    runs = per_model("info", dataset, *FILTERS, labels=", ".join(labels))
    joined = f"* {ON} group_left ({', '.join(labels)}) {runs}"
    falling = per_model("training_metric_min", f'metric=~"{FALLING}"', labels="metric", fold="min")
    rising = per_model("training_metric_max", f'metric!~"{FALLING}"', labels="metric")
    lowest = f"bottomk {by} (1, {falling}\n{joined})"
    highest = f"topk {by} (1, {rising}\n{joined})"
    return listing(
        "Best of each dataset",
        "The run that reached the best value of each evaluation metric on each dataset, at any step. Runs of "
        "one base type are compared with each other only.",
        named(f"({lowest}\nor {highest})"),
        columns=[
            Column(field="dataset_id", title="Dataset"),
            Column(field="base_type", title="Type", width=120, mappings=base_types()),
            Column(field="metric", title="Metric", width=170),
            Column(field="Value", title="Best", unit="none", decimals=4, width=100),
            name,
        ],
        sort_by="Dataset",
        filterable=True,
        empty="No metrics of runs with a dataset, or no data",
    )


def weeks() -> Panel:
    """Build the table of what finished and failed in each of the last weeks."""
    failed = in_status(Status.FAILED)
    ended = {
        "finished": f"{per_model('completed_timestamp_seconds')} unless {ON} ({failed})",
        "failed": f"{per_model('updated_timestamp_seconds')} and {ON} ({failed})",
    }
    none = labelled(
        "week", {str(week): f"0 * group by (base_type) ({info('base_type')})" for week in range(WEEKS)}
    )
    terms = {}
    for how, when in ended.items():
        age = f"clamp_min(time() - {described(f'({when})', 'base_type')}, 0)"
        number = f'count_values by (base_type) ("week", floor({age} / {WEEK}) < {WEEKS})'
        terms[how] = f"({number}\nor on (base_type, week) ({none}))"
    columns = [
        Column(field=str(week), title=f"{7 * week}-{7 * week + 7}", unit="none", decimals=0, width=60)
        for week in range(WEEKS)
    ]
    rows = {
        f"{base_type} {how}": (f"{text}, {how}", NEUTRAL)
        for base_type, text in BASE_TYPES.items()
        for how in ended
    }
    both = labelled("how", terms)
    return listing(
        "Finished and failed by week",
        "Runs that finished, and runs that failed, in each of the last weeks, by the API's own times; "
        "models that were deleted since do not count.",
        f'label_join(({both}), "run", " ", "base_type", "how")',
        columns=[Column(field="run", title="Runs, by days ago", mappings=words(rows)), *columns],
        sort_by="Runs, by days ago",
        matrix=Matrix(ref_id="A", row="run", column="week"),
        empty="No runs are selected, or no data",
    )


def turnaround() -> Panel:
    """Build the table of how long runs took."""
    took = f"{per_model('completed_timestamp_seconds')} - {per_model('created_timestamp_seconds')}"
    runs = described(took, "base_type")
    return listing(
        "Turnaround",
        "From creation to the end of training, waiting included: half of the finished runs took no longer "
        "than the median, nine of ten no longer than the 90th percentile.",
        f"count by (base_type) ({runs})",
        f"quantile by (base_type) (0.5, {runs})",
        f"quantile by (base_type) (0.9, {runs})",
        columns=[
            Column(field="base_type", title="Type", mappings=base_types()),
            Column(field="Value #A", title="Runs", unit="none", decimals=0, width=80),
            Column(field="Value #B", title="Median", unit="s", decimals=1, width=110),
            Column(field="Value #C", title="90th percentile", unit="s", decimals=1, width=130),
        ],
        sort_by="Type",
        empty="No run has finished, or no data",
    )


def unused(name: Column) -> Panel:
    """Build the table of models that are ready and that nobody uses."""
    long_ago = f"< time() - {RESTING_DAYS * DAY}"
    used = per_model("last_used_timestamp_seconds")
    never = f"0 * ({per_model('created_timestamp_seconds')} {long_ago})\nunless {ON} {used}"
    since = f"1000 * ({used} {long_ago})\nor ({never})"
    ready = f"and {ON} ({in_status(Status.READY)})"
    return listing(
        f"Unused for {RESTING_DAYS} days",
        "Models that are ready and were not used for 30 days, or never since they were created that long "
        "ago.",
        f"{named(info('model_name', 'base_type'))}\n{ready}\nand {ON} ({since})",
        f"({since})\n{ready}\nand {ON} {info()}",
        columns=[
            name,
            Column(field="base_type", title="Type", width=150, mappings=base_types()),
            Column(
                field="Value #B",
                title="Last used",
                unit="dateTimeFromNow",
                width=160,
                mappings=words({"0": ("never", NEUTRAL)}),
            ),
        ],
        sort_by="Last used",
        empty="Every ready model was used, or no data",
    )
