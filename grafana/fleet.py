"""Fleet: whether anything is wrong, and with which model.

Then all models, and how the fleet came to stand where it does.
"""

from grafana_foundation_sdk.models.dashboard import Dashboard, Panel

from exporter.model import Status
from grafana.board import FLEET, LINK_TO_MODEL, PrometheusAnnotation, dashboard
from grafana.freshness import age, api
from grafana.layout import Shelf
from grafana.looks import LOOKS, base_types, by_code, severities, unknown, zero
from grafana.panels import Column, graph, listing, single, status_history
from grafana.promql import (
    ALERT_LABELS,
    ALERTS,
    in_status,
    labelled,
    number_in_status,
    per_model,
    sorted_by_name,
    status_code,
)

MODEL = Column(field="model_name", title="Model", link=LINK_TO_MODEL)


def build() -> Dashboard:
    """Build the dashboard."""
    return dashboard(
        FLEET,
        "Every fine-tuned model: what failed, what trains, what waits, and whether the data can be trusted.",
        [
            Shelf(
                4,
                (
                    (4, _failed()),
                    (4, _firing()),
                    (8, _under_way()),
                    (4, api()),
                    (4, age()),
                ),
            ),
            Shelf(7, ((7, _failed_models()), (7, _in_training()), (10, _alerts()))),
            Shelf(11, ((24, _all_models()),)),
            Shelf(13, ((24, _timeline()),)),
            Shelf(8, ((24, _over_time()),)),
        ],
        annotations=[_failures()],
    )


def _failed() -> Panel:
    return single(
        "Failed",
        "Models in STATUS_FAILED, old failures included: a model counts until it is deleted or repaired.",
        number_in_status(Status.FAILED),
        steps=((None, "green"), (1, "red")),
        filled=True,
    )


def _under_way() -> Panel:
    looks = {LOOKS[status].text: status for status in (Status.FINETUNING, Status.QUEUED)}
    return single(
        "Under way",
        "Models in training at this moment, and models that wait for their training to begin.",
        (labelled("now", {text: number_in_status(status) for text, status in looks.items()}), "{{now}}"),
        colors={text: LOOKS[status].color for text, status in looks.items()},
        mappings=zero(),
        names=True,
    )


def _firing() -> Panel:
    return single(
        "Firing alerts",
        "Alerts of this exporter that fire in Prometheus. Also 0 where its rules are not loaded.",
        f'count(count by ({ALERT_LABELS}) (ALERTS{{{ALERTS}, alertstate="firing"}})) or vector(0)',
        steps=((None, "green"), (1, "red")),
        filled=True,
    )


def _failed_models() -> Panel:
    failed = f'max by (model_id, model_name) (cohere_finetuned_model_status{{status="{Status.FAILED}"}}) == 1'
    # A failed model whose time of change the API does not tell must be listed as well.
    return listing(
        "Failed models",
        "Models in STATUS_FAILED and when the API last changed them, latest first. The API gives no reason "
        "for a failure.",
        f"1000 * {per_model('updated_timestamp_seconds')}\n"
        f"and on (model_id) ({failed})\nor on (model_id) NaN * ({failed})",
        columns=[
            MODEL,
            Column(
                field="Value",
                title="Failed",
                unit="dateTimeFromNow",
                width=140,
                mappings=unknown("time unknown"),
            ),
        ],
        sort_by="Failed",
        descending=True,
        empty="No model has failed",
    )


def _in_training() -> Panel:
    training = in_status(Status.FINETUNING)
    step_at = per_model("training_step_timestamp_seconds")
    return listing(
        "Models in training",
        "Models in training, the longest silent first: the step they have reached, and the time since that "
        "step or, before the first one, since the training began. Minutes of silence before the first step "
        "are normal.",
        f"time() - ({step_at}\n"
        f"or on (model_id) {per_model('updated_timestamp_seconds')})\n"
        f"and on (model_id) ({training})",
        f"{per_model('training_step')}\nand on (model_id) ({training})",
        columns=[
            MODEL,
            Column(field="Value #B", title="Step", unit="none", decimals=0, width=90, empty="-"),
            Column(field="Value #A", title="Silent for", unit="s", decimals=0, width=110),
        ],
        sort_by="Silent for",
        descending=True,
        empty="No model is training",
    )


def _alerts() -> Panel:
    labels = ALERT_LABELS
    return listing(
        "Alerts that fire",
        "Alerts of this exporter that fire, with the model they are about and since when their condition "
        "holds. Needs the exporter's alerting rules in the same Prometheus.",
        f"1000 * min by ({labels}) (ALERTS_FOR_STATE{{{ALERTS}}})\n"
        f'and max by ({labels}) (ALERTS{{{ALERTS}, alertstate="firing"}})',
        columns=[
            Column(field="severity", title="Severity", width=90, mappings=severities(), background=True),
            Column(field="alertname", title="Alert"),
            MODEL,
            Column(field="Value", title="Since", unit="dateTimeFromNow", width=150),
        ],
        sort_by="Since",
        descending=True,
        empty="No alert fires",
    )


def _all_models() -> Panel:
    return listing(
        "All models",
        "Every model that the API lists, those that need a look first. Click a name for its details; the "
        "funnel in a header filters.",
        status_code(),
        "max by (model_id, base_type, base_model) (cohere_finetuned_model_info)",
        f"1000 * {per_model('created_timestamp_seconds')}",
        f"1000 * {per_model('updated_timestamp_seconds')}",
        f"1000 * {per_model('last_used_timestamp_seconds')}",
        columns=[
            Column(
                field="Value #A",
                title="Status",
                unit="none",
                decimals=0,
                width=130,
                mappings=by_code(),
                background=True,
            ),
            MODEL,
            Column(field="base_type", title="Type", width=150, mappings=base_types()),
            Column(field="base_model", title="Base model", width=220),
            Column(field="Value #C", title="Created", unit="dateTimeFromNow", width=160),
            Column(field="Value #D", title="Last change", unit="dateTimeFromNow", width=160),
            Column(field="Value #E", title="Last used", unit="dateTimeFromNow", width=160, empty="-"),
        ],
        sort_by="Status",
        descending=True,
        filterable=True,
        empty="No models: the account has none, or the data is too old to be shown",
    )


def _timeline() -> Panel:
    return status_history(
        "Status of models over time",
        "One line a model, sorted by name, 25 to a page; models that were ready, paused or deleted all along "
        "are left out. A line that ends is a model that was removed; a gap in every line is a time without "
        "trustworthy data.",
        f"{sorted_by_name(status_code())}\nand on (model_id) ({_ever_busy()})",
        per_page=25,
        empty="Every model was at rest in this time range",
    )


def _ever_busy() -> str:
    """Give the models that changed within the time range, or were in a status that is not rest."""
    statuses = "cohere_finetuned_model_status"
    window = "[$__range] @ end()"  # the same for each moment of the graph
    rest = "|".join((Status.READY, Status.PAUSED, Status.DELETED))
    return (
        f'max by (model_id) (max_over_time({statuses}{{status!~"{rest}"}}{window})) == 1\n'
        f"or max by (model_id) (changes({statuses}{window})) > 0"
    )


def _over_time() -> Panel:
    return graph(
        "Models by status over time",
        "Number of models in each status, each model counted once. Red lines mark when the models failed "
        "that are still in that status.",
        (
            "count by (status) (max by (model_id, status) (cohere_finetuned_model_status == 1))",
            "{{status}}",
        ),
        decimals=0,
        stacked=True,
        steps_between=True,
        looks={status: (look.text, look.color) for status, look in LOOKS.items()},
        empty="No models in this time range",
    )


def _failures() -> PrometheusAnnotation:
    failed = in_status(Status.FAILED)
    # The API's own time, so that a failure stands where it happened even if nobody was watching then.
    return PrometheusAnnotation(
        "Failures",
        f"1000 * {per_model('updated_timestamp_seconds')} and on (model_id) ({failed})",
        color="red",
        title="Failed: {{model_name}}",
        text="{{model_id}}",
    )
