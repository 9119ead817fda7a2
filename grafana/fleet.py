"""Fleet: whether anything is wrong, and with which model; then all models, and how the fleet came to this."""

from grafana_foundation_sdk.models.dashboard import Dashboard, Panel, VariableModel

from exporter.model import Status
from grafana import runs
from grafana.board import EXPORTER, FLEET, LINK_OF_ALERT, LINK_TO_MODEL, PrometheusAnnotation, dashboard
from grafana.board import MODEL as BOARD_OF_MODEL
from grafana.freshness import age, api
from grafana.layout import Heading, Shelf
from grafana.looks import LOOKS, base_types, by_code, severities, words, zero
from grafana.panels import Column, graph, listing, single, status_history
from grafana.promql import (
    HOLD,
    IDENTITY,
    MODEL,
    chosen,
    in_status,
    labelled,
    named,
    new_failures,
    number_in_status,
    per_model,
    status_code,
    with_short_id,
)
from grafana.variables import of_label

NAME = Column(field="model_name", title="Model", link=LINK_TO_MODEL)
ALERTS = chosen("ALERTS", 'alertname=~"Cohere.*"', 'alertstate="firing"')
NONE_YET = f"0 * sum({chosen('cohere_finetuned_models')})"
"""A 0 where there is data, and nothing where there is none."""


def build() -> Dashboard:
    """Build the dashboard."""
    return dashboard(
        FLEET,
        "Every fine-tuned model: what failed, what trains, what waits, and whether the data can be trusted.",
        [
            Shelf(
                4,
                (
                    (3, _failed()),
                    (3, _failed_ever()),
                    (3, _firing()),
                    (7, _under_way()),
                    (4, api()),
                    (4, age()),
                ),
            ),
            Shelf(7, ((12, _alerts()), (12, _in_training()))),
            Shelf(11, ((24, _all_models()),)),
            Shelf(13, ((24, _timeline()),)),
            Shelf(8, ((24, _over_time()),)),
            Heading("Training runs (filtered by base type, dataset and creator)"),
            Shelf(12, ((24, runs.table(NAME)),)),
            Shelf(9, ((14, runs.best_of_datasets(NAME)), (10, runs.weeks()))),
            Shelf(8, ((10, runs.turnaround()), (14, runs.unused(NAME)))),
        ],
        variables=_variables(),
        annotations=[_failures()],
    )


def _variables() -> list[VariableModel]:
    info = chosen("cohere_finetuned_model_info")
    return [
        of_label("base_type", "Base type", info),
        of_label("dataset", "Dataset", info, "dataset_id"),
        of_label("creator", "Creator", info, "creator_id"),
    ]


def _failed() -> Panel:
    return single(
        "Failed in 24 h",
        "Models that went to STATUS_FAILED in the last 24 hours and are still there: those for which the "
        "alert CohereModelFailed fires at its default thresholds. Of an account without data, what was last "
        "known holds for an hour.",
        f"count(\n{new_failures()})\nor {NONE_YET}",
        steps=((None, "transparent"), (1, "red")),
        filled=True,
    )


def _failed_ever() -> Panel:
    return single(
        "Failed, ever",
        "Models in STATUS_FAILED, however old: a model counts until it is deleted or repaired. Of an account "
        "without data, what was last known holds for an hour.",
        number_in_status(Status.FAILED, hold=HOLD),
    )


def _under_way() -> Panel:
    looks = {
        LOOKS[status].text: status for status in (Status.FINETUNING, Status.QUEUED, Status.DEPLOYING_API)
    }
    return single(
        "Under way",
        "Models in training, waiting for their training to begin, and being deployed at this moment.",
        (labelled("now", {text: number_in_status(status) for text, status in looks.items()}), "{{now}}"),
        colors={text: LOOKS[status].color for text, status in looks.items()},
        mappings=zero(),
        names=True,
    )


def _firing() -> Panel:
    return single(
        "Firing alerts",
        "Alerts of this exporter that fire in Prometheus. Also 0 where its rules are not loaded.",
        f"count({ALERTS})\nor {NONE_YET}",
        steps=((None, "transparent"), (1, "red")),
        filled=True,
    )


def _alerts() -> Panel:
    # Some rulers do not write ALERTS_FOR_STATE: there, the time is unknown.
    pending_too = chosen("ALERTS_FOR_STATE", 'alertname=~"Cohere.*"')
    since = f"1000 * {pending_too} and ignoring (alertstate) {ALERTS}\nor ignoring (alertstate) 0 * {ALERTS}"
    labels = f"alertname, severity, {MODEL}, model_name, instance"
    of_exporters = f'label_replace(min by ({labels}) ({since}), "about", "$1", "instance", "(.*)")'
    about = f'label_replace({of_exporters}, "about", "$1", "model_name", "(.+)")'
    about = f'label_replace({about}, "board", "{EXPORTER}", "", "")'
    about = f'label_replace({about}, "board", "{BOARD_OF_MODEL}", "model_id", ".+")'
    account = f'label_join({about}, "joined", "/", "cluster", "namespace", "job")'
    account = f'label_replace({account}, "account", "$1", "joined", "/*(.*)")'
    return listing(
        "Alerts that fire",
        "Alerts of this exporter that fire: about which model or exporter, of which account (cluster, "
        "namespace and job), and since when the condition holds. Click one for the dashboard about it. Needs "
        "the exporter's alerting rules in the same Prometheus.",
        f"min by (alertname, severity, about, account, board, {MODEL}) (\n{account})",
        columns=[
            Column(field="severity", title="Severity", width=80, mappings=severities(), background=True),
            Column(field="alertname", title="Alert", link=LINK_OF_ALERT, link_title="Show what it is about"),
            Column(field="about", title="Model or instance", width=150),
            Column(field="account", title="Account", width=230),
            Column(
                field="Value",
                title="Since",
                unit="dateTimeFromNow",
                width=115,
                mappings=words({"0": ("unknown", "text")}),
            ),
            Column(field="board", title="Dashboard", hidden=True),
        ],
        sort_by="Since",
        descending=True,
        empty="No alert fires, no rules are loaded, or no data",
    )


def _in_training() -> Panel:
    on = f"on ({MODEL})"
    training = in_status(Status.FINETUNING)
    last = f"{per_model('training_step_timestamp_seconds')}\nor {on} {per_model('updated_timestamp_seconds')}"
    name = named(per_model("info", labels="model_name"))
    return listing(
        "Models in training",
        "Models in training, the longest silent first: the step they have reached, and the time since that "
        "step or, before the first one, since the training began. Minutes of silence before the first step "
        "are normal. A metric that is NaN or infinite is a run that diverged.",
        f"{name}\nand {on} ({training})",
        f"clamp_min(time() - ({last}), 0)\nand {on} ({training})",
        f"{per_model('training_step')}\nand {on} ({training})",
        f"({per_model('training_metrics_non_finite')} > 0)\nand {on} ({training})",
        columns=[
            NAME,
            Column(field="Value #C", title="Step evaluated", unit="none", decimals=0, width=120),
            Column(field="Value #D", title="Metrics NaN", unit="none", decimals=0, width=105),
            Column(field="Value #B", title="Silent for", unit="s", decimals=0, width=110),
        ],
        sort_by="Silent for",
        descending=True,
        empty="No model is training, or no data",
    )


def _all_models() -> Panel:
    times = ("created", "updated", "last_used")
    return listing(
        "All models",
        "Every model that the API lists, those that need a look first: failed ones on top, and of those the "
        "last one to change. The API gives no reason for a failure. Click a name for details; a header's "
        "funnel filters.",
        named(status_code()),
        per_model("info", labels="base_type, base_model"),
        *(f"1000 * {per_model(f'{name}_timestamp_seconds')}" for name in times),
        columns=[
            Column(
                field="Value #A",
                title="Status",
                unit="none",
                decimals=0,
                width=120,
                mappings=by_code(),
                background=True,
            ),
            NAME,
            Column(field="base_type", title="Type", width=140, mappings=base_types()),
            Column(field="base_model", title="Base model", width=190),
            Column(field="Value #C", title="Created", unit="dateTimeFromNow", width=130),
            Column(field="Value #D", title="Last change", unit="dateTimeFromNow", width=130),
            Column(field="Value #E", title="Last used", unit="dateTimeFromNow", width=130),
            Column(field="cluster", title="Cluster", width=110),
            Column(field="namespace", title="Namespace", width=120),
            Column(field="job", title="Job", width=190),
        ],
        sort_by="Status",
        then_by="Last change",
        descending=True,
        filterable=True,
        empty="No models: the account has none, or there is no fresh data",
    )


def _timeline() -> Panel:
    return status_history(
        "Status of models over time",
        "One line a model, sorted by name and told apart by the beginning of its id, 25 to a page; models "
        "that were ready, paused or deleted all along are left out. A line that ends is a model that was "
        "removed; a gap in every line is a time without fresh data.",
        f"max by (model) ({with_short_id(f'({status_code()} and on ({MODEL}) ({_ever_busy()}))', 'model')})",
        per_page=25,
        empty="Every model was at rest in this time range, or no data",
    )


def _ever_busy() -> str:
    """Return the models that changed within the time range, or were in a status that is not rest."""
    window = "[$__range] @ end()"  # the same for each moment of the graph
    rest = "|".join((Status.READY, Status.PAUSED, Status.DELETED))
    busy = chosen("cohere_finetuned_model_status", f'status!~"{rest}"')
    changes = chosen("cohere_finetuned_model_status")
    return (
        f"max by ({MODEL}) (max_over_time({busy}{window})) == 1\n"
        f"or max by ({MODEL}) (changes({changes}{window})) > 0"
    )


def _over_time() -> Panel:
    counts = f"max by ({IDENTITY}, status) ({chosen('cohere_finetuned_models')})"
    return graph(
        "Models by status over time",
        "Number of models in each status. Red lines mark when the models failed that are still in that "
        "status.",
        (f"sum by (status) ({counts})", "{{status}}"),
        decimals=0,
        stacked=True,
        steps_between=True,
        looks={status: (look.text, look.color) for status, look in LOOKS.items()},
        empty="No models in this time range, or no data",
    )


def _failures() -> PrometheusAnnotation:
    # The API's own time, so that a failure stands where it happened even if nobody was watching then.
    return PrometheusAnnotation(
        "Failures",
        f"1000 * {per_model('updated_timestamp_seconds', labels='model_name')} "
        f"and on ({MODEL}) ({in_status(Status.FAILED)})",
        color="red",
        title="Failed: {{model_name}}",
        text="{{model_id}}",
    )
