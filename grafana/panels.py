"""The panels of the house, each with a title, a description, a unit and a text for when there is no data.

Stats and tables ask for the present moment only: the last value of a range would go on being shown after the
exporter has dropped stale data. Without data nothing is green: the base colour is that of text or of the
panel.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from grafana_foundation_sdk.builders import common as build_common
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import prometheus, stat, statetimeline, table, timeseries, xychart
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    MatcherConfig,
    Panel,
    Threshold,
    ThresholdsMode,
    ValueMapping,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat, QueryEditorMode
from grafana_foundation_sdk.models.xychart import SeriesMapping, XYShowMode

from grafana.looks import CLEAR, NEUTRAL, by_code

DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
Steps = Sequence[tuple[float | None, str]]
"""Thresholds: from which value on (None: from the beginning) which colour holds."""

NOTHING = "-"
"""What a cell or a legend shows where it has no value; the panel's own text is for when all is empty."""
HIDDEN_LABELS = {"cluster", "namespace", "job", "model_id"}
"""Labels that tell rows apart, and that links need, but that most tables do not show."""

AnyPanel = TypeVar("AnyPanel", stat.Panel, table.Panel, timeseries.Panel, statetimeline.Panel, xychart.Panel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table; `field` is a label, or `Value`, or `Value #B` for the second of two queries."""

    field: str
    title: str
    unit: str | None = None
    decimals: int | None = None
    width: int | None = None
    mappings: Sequence[ValueMapping] | None = None
    thresholds: Steps | None = None
    background: bool = False
    link: str | None = None
    link_title: str = "Show the model"
    empty: str | None = None
    hidden: bool = False


def queries(
    panel: AnyPanel, *expressions: str | tuple[str, str], format_: PromQueryFormat, now: bool
) -> AnyPanel:
    """Add the queries, A to Z; each is an expression, or one with the name of its series."""
    for ref_id, given in zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", expressions, strict=False):
        expression, legend = (given, "") if isinstance(given, str) else given
        query = prometheus.Dataquery().expr(expression).ref_id(ref_id).format(format_)
        query = query.datasource(DATASOURCE).editor_mode(QueryEditorMode.CODE).legend_format(legend)
        panel.with_target(query.instant() if now else query.range())
    return panel


def single(
    title: str,
    description: str,
    *expressions: str | tuple[str, str],
    unit: str = "none",
    decimals: int = 0,
    steps: Steps | None = None,
    mappings: Sequence[ValueMapping] = (),
    colors: dict[str, str] | None = None,
    names: bool = False,
    filled: bool = False,
    empty: str = "no data",
) -> Panel:
    """Build a stat: one number, or one a series, which `colors` paints by the last word of its name."""
    panel = (
        _framed(stat.Panel(), title, description, empty)
        .unit(unit)
        .decimals(decimals)
        .thresholds(_thresholds(steps or ((None, CLEAR if filled else NEUTRAL),)))
        .color_scheme(build.FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .mappings(list(mappings))
        .reduce_options(build_common.ReduceDataOptions().calcs(["lastNotNull"]))
        .graph_mode(common.BigValueGraphMode.NONE)
        .color_mode(common.BigValueColorMode.BACKGROUND_SOLID if filled else common.BigValueColorMode.VALUE)
        .justify_mode(common.BigValueJustifyMode.CENTER)
        .text_mode(common.BigValueTextMode.VALUE_AND_NAME if names else common.BigValueTextMode.VALUE)
        .text(build_common.VizTextDisplayOptions().value_size(32))
        .orientation(common.VizOrientation.AUTO)
        .wide_layout(False)
    )
    for word, color in (colors or {}).items():
        panel.override_by_regexp(f"/\\b{word}$/", [fixed_color(color)])
    return queries(panel, *expressions, format_=PromQueryFormat.TIME_SERIES, now=True).build()


def graph(
    title: str,
    description: str,
    *expressions: tuple[str, str],
    unit: str = "none",
    decimals: int | None = None,
    soft_min: float | None = 0,
    stacked: bool = False,
    steps_between: bool = False,
    looks: dict[str, tuple[str, str]] | None = None,
    on_the_right: tuple[str, str, str, float] | None = None,
    last: bool = False,
    empty: str = "no data",
) -> Panel:
    """Build a time series.

    `looks` gives series, by name, another name and a colour; `on_the_right` puts those that match a regular
    expression on an axis of their own, with its unit, its label and the least that it reaches to.
    `last` adds the last values to the legend, for charts beside which no stat and no table has the present
    ones: Grafana ends a chart at a whole step, so they may be one step older.
    """
    panel = (
        _framed(timeseries.Panel(), title, description, empty)
        .unit(unit)
        .thresholds(_thresholds(((None, NEUTRAL),)))
        .color_scheme(build.FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC))
        .draw_style(common.GraphDrawStyle.LINE)
        .line_width(0 if stacked else 2)
        .fill_opacity(70 if stacked else 8)
        .show_points(common.VisibilityMode.NEVER)
        .stacking(
            build_common.StackingConfig().mode(
                common.StackingMode.NORMAL if stacked else common.StackingMode.NONE
            )
        )
        .legend(_legend().calcs(["last"] if last else []))
        .tooltip(
            build_common.VizTooltipOptions()
            .mode(common.TooltipDisplayMode.MULTI)
            .sort(common.SortOrder.DESCENDING)
        )
    )
    if decimals is not None:
        panel.decimals(decimals)
    if soft_min is not None:
        panel.axis_soft_min(soft_min)
    if steps_between:
        panel.line_interpolation(common.LineInterpolation.STEP_AFTER)
    panel.override_by_regexp("/.*/", [_property("noValue", NOTHING)])
    for name, (text, color) in (looks or {}).items():
        panel.override_by_name(name, [_property("displayName", text), fixed_color(color)])
    if on_the_right:
        pattern, right_unit, label, soft_max = on_the_right
        panel.override_by_regexp(
            pattern,
            [
                _property("unit", right_unit),
                _property("custom.axisPlacement", "right"),
                _property("custom.axisLabel", label),
                _property("custom.axisSoftMax", soft_max),
                _property("custom.fillOpacity", 0),
            ],
        )
    return queries(panel, *expressions, format_=PromQueryFormat.TIME_SERIES, now=False).build()


def status_history(title: str, description: str, expression: str, *, per_page: int, empty: str) -> Panel:
    """Build a state timeline of status numbers, one line for each value of the label `model`."""
    panel = (
        _framed(statetimeline.Panel(), title, description, empty)
        .unit("none")
        .decimals(0)
        .mappings(by_code())
        .thresholds(_thresholds(((None, NEUTRAL),)))
        .color_scheme(build.FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .show_value(common.VisibilityMode.AUTO)
        .align_value(common.TimelineValueAlignment.LEFT)
        .row_height(0.85)
        .fill_opacity(85)
        .line_width(0)
        .merge_values(True)
        .per_page(per_page)
        .legend(_legend())
        .tooltip(
            build_common.VizTooltipOptions()
            .mode(common.TooltipDisplayMode.SINGLE)
            .sort(common.SortOrder.NONE)
        )
    )
    return queries(panel, (expression, "{{model}}"), format_=PromQueryFormat.TIME_SERIES, now=False).build()


def by_step(title: str, description: str, step: str, value: str, *, empty: str) -> Panel:
    """Build a chart of values over training steps; both queries tell their series apart by `model` alone."""
    panel = (
        _framed(xychart.Panel(), title, description, empty)
        .unit("none")
        .decimals(3)
        .thresholds(_thresholds(((None, NEUTRAL),)))
        .color_scheme(build.FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC))
        .mapping(SeriesMapping.AUTO)  # of each frame the first number is x, the other y
        .series([xychart.XYSeriesConfig()])
        .show(XYShowMode.POINTS_AND_LINES)
        .point_size(xychart.XychartFieldConfigPointSize().fixed(4))
        .line_width(2)
        .legend(_legend())
        .tooltip(build_common.VizTooltipOptions().mode(common.TooltipDisplayMode.SINGLE))
    )
    order = {"Value #A": 0, "Value #B": 1, "model": 2}
    for id_val, options in (
        ("merge", {}),
        ("organize", {"excludeByName": {"Time": True}, "indexByName": order, "renameByName": {}}),
        ("partitionByValues", {"fields": ["model"], "keepFields": False, "naming": {"asLabels": True}}),
    ):
        panel.with_transformation(DataTransformerConfig(id_val=id_val, options=options))
    panel.override_by_name("Value #A", [_property("displayName", "Step"), _property("decimals", 0)])
    panel.override_by_name("Value #B", [_property("displayName", "${__field.labels.model}")])
    return queries(panel, step, value, format_=PromQueryFormat.TABLE, now=False).build()


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """A query of a table turned around: a row for each value of one label, a column for each of another."""

    ref_id: str
    row: str
    column: str


def listing(
    title: str,
    description: str,
    *expressions: str,
    columns: Sequence[Column],
    sort_by: str,
    then_by: str = "",
    descending: bool = False,
    filterable: bool = False,
    matrix: Matrix | None = None,
    unit: str = "string",
    empty: str,
) -> Panel:
    """Build a table of the present moment with these columns; what else the queries return is hidden.

    With `matrix` the columns that its query adds are shown too, after these, in `unit`.
    """
    panel = (
        _framed(table.Panel(), title, description, empty)
        .thresholds(_thresholds(((None, NEUTRAL),)))
        .color_scheme(build.FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .unit(unit)
        .align(common.FieldTextAlignment.LEFT)
        .cell_options(common.TableAutoCellOptions())
        .filterable(filterable)
        .cell_height(common.TableCellHeight.SM)
        .show_header(True)
        .sort_by(
            [
                build_common.TableSortByFieldState().display_name(title).desc(descending)
                for title in filter(None, (sort_by, then_by))
            ]
        )
    )
    fields = {column.field: index for index, column in enumerate(columns)}
    for step in _steps(len(expressions), matrix):
        panel.with_transformation(step)
    panel.with_transformation(
        DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": dict.fromkeys(sorted(_left_out(len(expressions)) - set(fields)), True),
                "indexByName": fields,
                "renameByName": {},
            },
        )
    )
    panel.override_by_regexp("/.*/", [_property("noValue", NOTHING)])
    for name in sorted(HIDDEN_LABELS - set(fields)):
        panel.override_by_name(name, _hidden())
    for column in columns:
        panel.override_by_name(column.field, list(_properties(column)))
    return queries(panel, *expressions, format_=PromQueryFormat.TABLE, now=True).build()


def _steps(queries: int, matrix: Matrix | None) -> Sequence[DataTransformerConfig]:
    """Return the transformations that make one frame of a table's queries."""
    if matrix is None:
        return [DataTransformerConfig(id_val="merge", options={})] if queries > 1 else []
    turned = DataTransformerConfig(
        id_val="groupingToMatrix",
        filter_val=MatcherConfig(id_val="byRefId", options=matrix.ref_id),
        options={
            "rowField": matrix.row,
            "columnField": matrix.column,
            "valueField": "Value" if queries == 1 else f"Value #{matrix.ref_id}",
            "emptyValue": "null",
        },
    )
    renamed = DataTransformerConfig(
        id_val="organize",
        options={
            "excludeByName": {},
            "indexByName": {},
            "renameByName": {f"{matrix.row}\\{matrix.column}": matrix.row},
        },
    )
    joined = DataTransformerConfig(id_val="joinByField", options={"byField": matrix.row, "mode": "outer"})
    return [turned, renamed, joined] if queries > 1 else [turned, renamed]


def fixed_color(color: str) -> DynamicConfigValue:
    """Return the override that paints a series in one colour."""
    return _property("color", {"mode": "fixed", "fixedColor": color})


def _framed(panel: AnyPanel, title: str, description: str, empty: str) -> AnyPanel:
    panel.title(title)
    panel.description(description)
    panel.datasource(DATASOURCE)
    panel.no_value(empty)
    return panel


def _thresholds(steps: Steps) -> build.ThresholdsConfig:
    return (
        build.ThresholdsConfig()
        .mode(ThresholdsMode.ABSOLUTE)
        .steps([Threshold(value=value, color=color) for value, color in steps])
    )


def _legend() -> build_common.VizLegendOptions:
    return (
        build_common.VizLegendOptions()
        .show_legend(True)
        .display_mode(common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.BOTTOM)
        .calcs([])
    )


def _left_out(count: int) -> set[str]:
    """Return the fields that Prometheus' datasource adds to the labels."""
    values = {"Value"} if count == 1 else {f"Value #{ref_id}" for ref_id in "ABCDEFGHIJ"[:count]}
    return {"Time"} | values


def _properties(column: Column) -> Sequence[DynamicConfigValue]:
    link = {"title": column.link_title, "url": column.link, "targetBlank": "://" in (column.link or "")}
    cell = {"type": "color-background", "mode": "basic"} if column.background else None
    # An empty cell has no colour either.
    steps = column.thresholds or (((None, CLEAR),) if column.background else None)
    properties = {
        "displayName": column.title,
        "unit": column.unit,
        "decimals": column.decimals,
        "custom.width": column.width,
        "mappings": None if column.mappings is None else list(column.mappings),
        "thresholds": None if steps is None else _thresholds(steps).build(),
        "custom.cellOptions": cell,
        "links": [link] if column.link else None,
        "noValue": column.empty,
    }
    own = [_property(name, value) for name, value in properties.items() if value is not None]
    return [*own, *(_hidden() if column.hidden else ())]


def _hidden() -> list[DynamicConfigValue]:
    # The first is Grafana 11's way, the second that of later ones; each ignores the other's.
    everywhere = {"viz": True, "legend": False, "tooltip": False}
    return [_property("custom.hidden", True), _property("custom.hideFrom", everywhere)]


def _property(name: str, value: object) -> DynamicConfigValue:
    return DynamicConfigValue(id_val=name, value=value)
