"""The variables at the top of the dashboards."""

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models.dashboard import (
    VariableHide,
    VariableModel,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from grafana.panels import DATASOURCE
from grafana.promql import CHOSEN, chosen, with_short_id

NO_MODEL = 'label_replace(label_replace(vector(0), "model_id", "none", "", ""), "shown", "(none)", "", "")'
_EDITOR = "PrometheusVariableQueryEditor-VariableQuery"


def datasource() -> VariableModel:
    """Return the variable that names the Prometheus."""
    return build.DatasourceVariable("datasource").label("Prometheus").type("prometheus").build()


def identity() -> list[VariableModel]:
    """Return the variables that select accounts: each offers what those before it leave."""
    return [
        of_label("cluster", "Cluster", "cohere_exporter_build_info"),
        of_label("namespace", "Namespace", 'cohere_exporter_build_info{cluster=~"$cluster"}'),
        of_label("job", "Job", 'cohere_exporter_build_info{cluster=~"$cluster", namespace=~"$namespace"}'),
    ]


def of_label(name: str, title: str, series: str, label: str = "") -> VariableModel:
    """Return a variable of several values of a label; All also matches series without it."""
    return (
        build.QueryVariable(name)
        .label(title)
        .description(f"Values that Prometheus has for `{label or name}` in the time range.")
        .datasource(DATASOURCE)
        .query({"query": f"label_values({series}, {label or name})", "qryType": 1, "refId": _EDITOR})
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(VariableOption(selected=True, text=["All"], value=["$__all"]))
        .build()
    )


def of_models(
    name: str, title: str, description: str, *, several: bool = False, optional: bool = False
) -> VariableModel:
    """Return a variable of models, shown by name and the beginning of the id: names are not unique.

    Models that were removed within the time range can be chosen too: their history is still there.
    """
    models = (
        f"max by (model_id, model_name) (last_over_time({chosen('cohere_finetuned_model_info')}[$__range]))"
    )
    query = f"max by (model_id, shown) ({with_short_id(models, 'shown')})"
    if optional:
        query += f" or {NO_MODEL}"
    variable = (
        build.QueryVariable(name)
        .label(title)
        .description(description)
        .datasource(DATASOURCE)
        .query({"query": f"query_result({query})", "qryType": 3, "refId": _EDITOR})
        # Grafana shows the group `text` and uses the group `value`.
        .regex(r'/model_id="(?<value>.+?)",\s*shown="(?<text>.*)"\}/')
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_CASE_INSENSITIVE_ASC)
        .multi(several)
    )
    if optional:
        none: list[str] | str = ["none"] if several else "none"
        text: list[str] | str = ["(none)"] if several else "(none)"
        variable.current(VariableOption(selected=True, text=text, value=none))
    return variable.build()


def of_metric(this: str) -> VariableModel:
    """Return the variable of one training metric of the model."""
    return (
        build.QueryVariable("metric")
        .label("Metric")
        .description("The metric by which models are compared, step by step.")
        .datasource(DATASOURCE)
        .query(
            {
                "query": f"label_values(cohere_finetuned_model_training_metric{{{CHOSEN}, {this}}}, metric)",
                "qryType": 1,
                "refId": _EDITOR,
            }
        )
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .build()
    )


def hidden_id(name: str, expression: str) -> VariableModel:
    """Return a variable that nobody sees: the id of the model that the expression finds, or nothing."""
    return (
        build.QueryVariable(name)
        .datasource(DATASOURCE)
        .query({"query": f"query_result({expression})", "qryType": 3, "refId": _EDITOR})
        .regex(r'/model_id="(?<value>.+?)"/')
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .hide(VariableHide.HIDE_VARIABLE)
        .build()
    )
