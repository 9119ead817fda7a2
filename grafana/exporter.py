"""Exporter: whether it is well, what it asks of the API, and what it costs."""

from grafana_foundation_sdk.builders import dashboard as build_dashboard
from grafana_foundation_sdk.models.dashboard import (
    Dashboard,
    Panel,
    VariableModel,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from grafana.board import EXPORTER, PrometheusAnnotation, dashboard
from grafana.freshness import age, api
from grafana.layout import Shelf
from grafana.looks import unknown
from grafana.panels import DATASOURCE, Column, graph, listing, single
from grafana.promql import labelled

THESE = 'instance=~"$instance"'
OWN = f"and on (job, instance) cohere_exporter_build_info{{{THESE}}}"
"""Narrows metrics that every process has to those of the exporter."""
MONTH = 31 * 86400


def build() -> Dashboard:
    """Build the dashboard."""
    return dashboard(
        EXPORTER,
        "The exporter itself: freshness of its data, its polls, its calls to the API, its needs.",
        [
            Shelf(
                4,
                (
                    (6, api(THESE, by="instance")),
                    (7, age(THESE, by="instance")),
                    (6, _poll_duration()),
                    (5, _calls_per_month()),
                ),
            ),
            Shelf(8, ((12, _polls()), (12, _lost()))),
            Shelf(8, ((12, _calls()), (12, _latency()))),
            Shelf(8, ((8, _waiting()), (8, _memory()), (8, _cpu()))),
            Shelf(5, ((24, _builds()),)),
        ],
        variables=[_variable()],
        annotations=[_restarts()],
        since="now-6h",
    )


def _variable() -> VariableModel:
    query = "label_values(cohere_exporter_build_info, instance)"
    return (
        build_dashboard.QueryVariable("instance")
        .label("Exporter")
        .description("Exporters that Prometheus has scraped in the time range.")
        .datasource(DATASOURCE)
        .query({"query": query, "qryType": 1, "refId": "PrometheusVariableQueryEditor-VariableQuery"})
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(VariableOption(selected=True, text=["All"], value=["$__all"]))
        .build()
    )


def _poll_duration() -> Panel:
    return single(
        "Last poll took",
        "Duration of the last poll, step metrics included. Near the interval, polls begin to be late.",
        (f"max by (instance) (cohere_exporter_last_poll_duration_seconds{{{THESE}}})", "{{instance}}"),
        unit="s",
        decimals=1,
        names=True,
        empty="no exporter",
    )


def _calls_per_month() -> Panel:
    # Averaged over the moments at which there was a rate: an exporter that began an hour ago is not
    # taken for one that was silent for 23.
    rate = f"sum(rate(cohere_exporter_api_requests_total{{{THESE}}}[5m]))"
    return single(
        "Calls a month, at today's pace",
        "Calls to the API in 31 days, if all go on as in the last 24 hours. A trial key has 1,000: see "
        "--cohere.calls-per-month.",
        f"{MONTH} * avg_over_time({rate}[1d:15s])",
        unit="locale",
        empty="no calls yet",
    )


def _polls() -> Panel:
    def a_minute(family: str) -> str:
        return f"(rate(cohere_exporter_{family}_total{{{THESE}}}[$__rate_interval]))"

    return graph(
        "Polls and their failures",
        "Polls a minute, and those that could not list every model, by reason.",
        (f"60 * sum{a_minute('polls')}", "polls"),
        (f"60 * sum by (reason) {a_minute('poll_failures')} > 0", "failed: {{reason}}"),
        unit="suffix: /min",
        looks={"polls": ("polls", "green")},
        empty="No polls in this time range",
    )


def _lost() -> Panel:
    def counted(family: str, by: str = "") -> str:
        group = f" by ({by})" if by else ""
        return f"sum{group} (increase(cohere_exporter_{family}{{{THESE}}}[$__range]))"

    terms = {
        "Part of an answer made no sense": counted("rejected_items_total", "kind"),
        "Step metrics could not be read": counted("training_metrics_failures_total", "reason"),
        "Scrape refused (--web.max-requests)": counted("scrapes_rejected_total"),
        "Key file unreadable": counted("api_key_reload_failures_total"),
        "Web configuration unusable": counted("web_config_reload_failures_total"),
        "Models beyond --models.limit": f"max(cohere_finetuned_models_dropped{{{THESE}}})",
        "Metrics beyond --training.metric-limit": f"max(cohere_exporter_training_metrics_dropped{{{THESE}}})",
    }
    return listing(
        "What went missing",
        "What the exporter could not read, refused or left out in this time range; what limits leave out is "
        "as of now.",
        "(" + labelled("what", terms) + ") > 0",
        columns=[
            Column(field="what", title="What"),
            Column(field="kind", title="Kind", width=140),
            Column(field="reason", title="Reason", width=140),
            Column(
                field="Value",
                title="Times",
                unit="short",
                decimals=0,
                width=100,
                thresholds=((None, "orange"),),
                background=True,
            ),
        ],
        sort_by="Times",
        descending=True,
        empty="Nothing went missing",
    )


def _calls() -> Panel:
    return graph(
        "Calls to the API by code",
        "Requests a minute, retries included, by HTTP status; `error` is a request that got no answer.",
        (
            f"60 * sum by (code) (rate(cohere_exporter_api_requests_total{{{THESE}}}[$__rate_interval])) > 0",
            "{{code}}",
        ),
        unit="reqpm",
        stacked=True,
        looks={"200": ("200", "green"), "error": ("error", "red"), "429": ("429", "orange")},
        empty="No calls in this time range",
    )


def _latency() -> Panel:
    buckets = f"cohere_exporter_api_request_duration_seconds_bucket{{{THESE}}}"
    rate = f"sum by (le, endpoint) (rate({buckets}[$__rate_interval]))"
    quantiles = {"median": f"histogram_quantile(0.5, {rate})", "95 %": f"histogram_quantile(0.95, {rate})"}
    return graph(
        "Duration of calls",
        "Median and 95th percentile of whole requests, body included, by endpoint.",
        (labelled("part", quantiles), "{{endpoint}}, {{part}}"),
        unit="s",
        empty="No calls in this time range",
    )


def _waiting() -> Panel:
    retries = f"rate(cohere_exporter_api_retries_total{{{THESE}}}[$__rate_interval])"
    return graph(
        "Retries and throttling",
        "Requests sent again, a minute (left), and the share of time that requests waited for "
        "--cohere.requests-per-minute or the API's Retry-After (right).",
        (
            f"60 * sum by (endpoint) ({retries})",
            "{{endpoint}}",
        ),
        (
            f"sum(rate(cohere_exporter_api_throttled_seconds_total{{{THESE}}}[$__rate_interval]))",
            "throttled",
        ),
        unit="reqpm",
        on_the_right=("throttled", "percentunit", "time throttled", 0.01),
        empty="No exporter in this time range",
    )


def _memory() -> Panel:
    return graph(
        "Memory",
        "Resident memory of the exporter. Absent with --web.disable-exporter-metrics.",
        (f"process_resident_memory_bytes {OWN}", "{{instance}}"),
        unit="bytes",
        empty="No process metrics",
    )


def _cpu() -> Panel:
    return graph(
        "CPU",
        "Share of one core that the exporter uses. Absent with --web.disable-exporter-metrics.",
        (f"rate(process_cpu_seconds_total[$__rate_interval]) {OWN}", "{{instance}}"),
        unit="percentunit",
        decimals=1,
        empty="No process metrics",
    )


def _builds() -> Panel:
    build = f"cohere_exporter_build_info{{{THESE}}}"
    # Multiplied by the interval, the 1 of each build tells it, and a query is saved.
    interval = (
        "ignoring (version, revision, python_version) group_left () cohere_exporter_poll_interval_seconds"
    )
    calls_left = f"max by (instance) (cohere_exporter_api_calls_left{{{THESE}}})"
    return listing(
        "Exporters",
        "What runs where, how often it polls, how long its last good data outlives a failing API, and the "
        "calls left of --cohere.calls-per-month, which lengthens the interval; a call comes back after 31 "
        "days. One exporter is enough for one key: each more only adds its calls.",
        f"max by (instance, version, revision, python_version) ({build} * {interval})",
        f"max by (instance) (cohere_exporter_stale_after_seconds{{{THESE}}})",
        f"{calls_left}\nor on (instance) NaN * max by (instance) ({build})",
        columns=[
            Column(field="instance", title="Instance"),
            Column(field="Value #A", title="Polls every", unit="s", width=140),
            Column(field="Value #B", title="Keeps data for", unit="s", width=140),
            Column(
                field="Value #C", title="Calls left", unit="locale", width=140, mappings=unknown("no budget")
            ),
            Column(field="version", title="Version"),
            Column(field="revision", title="Revision"),
            Column(field="python_version", title="Python"),
        ],
        sort_by="Instance",
        empty="No exporter is scraped",
    )


def _restarts() -> PrometheusAnnotation:
    return PrometheusAnnotation(
        "Starts",
        f"1000 * process_start_time_seconds {OWN}",
        color="blue",
        title="Started: {{instance}}",
        text="{{job}}",
    )
