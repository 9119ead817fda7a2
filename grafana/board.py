"""The frame of every dashboard: its datasource variable, its links to the others, its way of refreshing."""

import json
from collections.abc import Iterable
from typing import Any

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model

from grafana.layout import Heading, Shelf, place
from grafana.panels import DATASOURCE
from grafana.variables import datasource, identity

FLEET = "cohere-finetuning-fleet"
MODEL = "cohere-finetuning-model"
EXPORTER = "cohere-finetuning-exporter"
_TITLES = {FLEET: "Fleet", MODEL: "Model", EXPORTER: "Exporter"}

_LINK = (
    "?${__url_time_range}&${datasource:queryparam}&${cluster:queryparam}&${namespace:queryparam}"
    "&${job:queryparam}&var-model_id=${__data.fields.model_id:percentencode}"
)
LINK_TO_MODEL = f"/d/{MODEL}{_LINK}"
"""For tables with a field `model_id`: the model's own dashboard, same time range, datasource and identity."""
LINK_OF_ALERT = f"/d/${{__data.fields.board}}{_LINK}"
"""For tables with a field `board` too: the dashboard of that uid."""


class PrometheusAnnotation(model.AnnotationQuery):
    """An annotation with the fields that Prometheus' datasource adds to Grafana's own."""

    def __init__(self, name: str, expr: str, *, color: str, title: str, text: str) -> None:
        super().__init__(name=name, datasource=DATASOURCE, icon_color=color, expr=expr)
        self._own = {"titleFormat": title, "textFormat": text, "useValueForTime": "on"}

    def to_json(self) -> dict[str, object]:
        """Return the annotation as Grafana reads it."""
        return super().to_json() | self._own


def dashboard(
    uid: str,
    description: str,
    parts: Iterable[Shelf | Heading],
    *,
    variables: Iterable[model.VariableModel] = (),
    annotations: Iterable[PrometheusAnnotation] = (),
    since: str = "now-24h",
) -> model.Dashboard:
    """Build a dashboard around its panels."""
    builder = (
        build.Dashboard(f"Cohere fine-tuning / {_TITLES[uid]}")
        .uid(uid)
        .description(description)
        .tags(["cohere", "fine-tuning"])
        .editable()
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .timezone("browser")
        .time(since, "now")
        .refresh("1m")
    )
    for other in _TITLES:
        if other != uid:
            builder.link(_link(other))
    built = builder.build()
    built.annotations = model.AnnotationContainer(list_val=list(annotations))
    built.templating = model.DashboardDashboardTemplating(list_val=[datasource(), *identity(), *variables])
    built.panels = list(place(parts))
    return built


def as_json(built: model.Dashboard) -> dict[str, Any]:
    """Return the dashboard as plain data, its id null: Grafana finds it by its uid."""
    plain: dict[str, Any] = json.loads(json.dumps(built, cls=JSONEncoder))
    for variable in plain["templating"]["list"]:
        for name in (
            "auto",
            "auto_count",
            "auto_min",
        ):  # of interval variables; the library gives them to all
            del variable[name]
    for panel in plain["panels"]:  # what the library adds and Grafana 13 does not know
        if panel["type"] == "table":
            del panel["options"]["footer"]
        if panel["type"] == "xychart":
            del panel["fieldConfig"]["defaults"]["custom"]["fillOpacity"]
    return {"id": None, **plain}


def _link(uid: str) -> build.DashboardLink:
    return (
        build.DashboardLink(_TITLES[uid])
        .type(model.DashboardLinkType.LINK)
        .url(f"/d/{uid}")
        .icon("dashboard")
        .keep_time(True)
        .include_vars(True)
    )
