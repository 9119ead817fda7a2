"""Exporter: whether it is well, what it asks of the API, and what it costs."""

from grafana_foundation_sdk.models.dashboard import Dashboard, Panel

from grafana.board import EXPORTER, PrometheusAnnotation, dashboard
from grafana.freshness import age, api
from grafana.layout import Shelf
from grafana.looks import words
from grafana.panels import Column, graph, listing, single
from grafana.promql import EXPORTER as EACH
from grafana.promql import IDENTITY, chosen, expected, labelled, remembered
from grafana.variables import of_label

INSTANCE = 'instance=~"$instance"'
BUILD = chosen("cohere_exporter_build_info", INSTANCE)
OWN = f"and on ({EACH}) {BUILD}"
"""Narrows metrics that every process has to those of the exporter."""
EXPECTED = expected(EACH, INSTANCE)
TARGET = f"(max by ({EACH}) ({chosen('up', INSTANCE)}) and on ({EACH}) {EXPECTED})"
SEEN = f"max by ({EACH}) (last_over_time({BUILD}[$__range]))"
# A target that has left is missed for longer than the time range only if nothing took its place.
GONE = f"({SEEN}\nor on ({EACH}) {EXPECTED}\nunless on ({IDENTITY}) ({TARGET} == 1))"
STATE = f"{TARGET}\nor on ({EACH}) 0 * {GONE} - 1"
"""1: scraped, 0: cannot be scraped, -1: no target any more."""
MONTH = 31 * 86400


def build() -> Dashboard:
    """Build the dashboard."""
    return dashboard(
        EXPORTER,
        "The exporter itself: freshness of its data, its polls, its calls to the API, its needs.",
        [
            Shelf(
                4,
                ((5, _up()), (5, _not_up()), (4, api(INSTANCE)), (5, age(INSTANCE)), (5, _calls_per_month())),
            ),
            Shelf(8, ((24, _exporters()),)),
            Shelf(8, ((12, _polls()), (12, _lost()))),
            Shelf(8, ((12, _calls()), (12, _latency()))),
            Shelf(8, ((8, _waiting()), (8, _memory()), (8, _cpu()))),
        ],
        variables=[of_label("instance", "Instance", chosen("cohere_exporter_build_info"))],
        annotations=[_restarts()],
        since="now-6h",
    )


def own(family: str) -> str:
    """Return the series of one of the exporter's own families that the variables select."""
    return chosen(f"cohere_exporter_{family}", INSTANCE)


def each(family: str) -> str:
    """Return one value an exporter."""
    return f"max by ({EACH}) ({own(family)})"


def _up() -> Panel:
    return single(
        "Exporters up",
        "Exporters that Prometheus scrapes. One is enough for one key: each more only adds its calls.",
        f"count(({STATE}) == 1) or 0 * count({EXPECTED})",
        empty="no exporter",
    )


def _not_up() -> Panel:
    return single(
        "Down or gone",
        "Targets of exporters that are down, also such that never answered, and exporters that are no target "
        "any more: those of the time range, and those of a week of an account that has no other one.",
        f"count(({STATE}) < 1) or 0 * count({EXPECTED})",
        steps=((None, "transparent"), (1, "red")),
        filled=True,
        empty="no exporter",
    )


def _exporters() -> Panel:
    last_success = f"max by ({EACH}) ({remembered(own('last_success_timestamp_seconds'))})"
    # Multiplied by the interval, the 1 of each build is the interval, and a query is saved.
    interval = f"on ({EACH}) group_left () {each('poll_interval_seconds')}"
    return listing(
        "Exporters",
        "One row for each exporter, also for one that is down, gone or never answered: the state of its "
        "target and of the API, why its last poll failed, the age of its data, how often it polls, and the "
        "calls left of --cohere.calls-per-month. A call comes back after 31 days.",
        STATE,
        f"max by ({EACH}) ({chosen('cohere_up', INSTANCE)})",
        f"max by ({EACH}, reason) ({own('last_poll_failed')} == 1)",
        f"clamp_min(time() - ({last_success} > 0), 0)\nand on ({EACH}) ({STATE})",
        each("last_poll_duration_seconds"),
        f"max by ({EACH}, version, revision, python_version) ({BUILD} * {interval})",
        f"1000 * {each('next_poll_timestamp_seconds')}",
        each("api_calls_left"),
        columns=[
            Column(field="instance", title="Instance"),
            Column(
                field="Value #A",
                title="Target",
                unit="none",
                width=80,
                mappings=words({"1": ("up", "green"), "0": ("down", "red"), "-1": ("gone", "red")}),
                background=True,
            ),
            Column(
                field="Value #B",
                title="API",
                unit="none",
                width=80,
                mappings=words({"1": ("up", "green"), "0": ("down", "red")}),
                background=True,
            ),
            Column(field="reason", title="Last failure", width=130),
            Column(field="Value #D", title="Age of data", unit="s", decimals=0, width=110),
            Column(field="Value #E", title="Poll took", unit="s", decimals=1, width=90),
            Column(field="Value #F", title="Polls every", unit="s", decimals=1, width=100),
            Column(
                field="Value #G",
                title="Next poll",
                unit="dateTimeFromNow",
                width=130,
            ),
            Column(field="Value #H", title="Calls left", unit="locale", decimals=0, width=90),
            Column(field="version", title="Version", width=80),
            Column(field="revision", title="Revision", width=90),
            Column(field="python_version", title="Python", width=75),
            Column(field="cluster", title="Cluster", width=90),
            Column(field="namespace", title="Namespace", width=100),
            Column(field="job", title="Job", width=190),
        ],
        sort_by="Target",
        empty="No exporter is a target, or was one within a week",
    )


def _calls_per_month() -> Panel:
    # Averaged over the moments at which there was a rate: an exporter that began an hour ago is not
    # taken for one that was silent for 23.
    rate = f"sum(rate({own('api_requests_total')}[5m]))"
    return single(
        "Calls a month, at today's pace",
        "Calls to the API in 31 days, if all go on as in the last 24 hours. A trial key has 1,000: see "
        "--cohere.calls-per-month.",
        f"{MONTH} * avg_over_time({rate}[1d:15s])",
        unit="locale",
    )


def _polls() -> Panel:
    def a_minute(family: str) -> str:
        return f"(rate({own(f'{family}_total')}[$__rate_interval]))"

    return graph(
        "Polls and their failures",
        "Polls a minute, and those that could not list every model, by reason.",
        (f"60 * sum{a_minute('polls')}", "polls"),
        (f"60 * sum by (reason) {a_minute('poll_failures')} > 0", "failed: {{reason}}"),
        unit="suffix: /min",
        looks={"polls": ("polls", "green")},
        last=True,
        empty="No polls in this time range, or no data",
    )


def _lost() -> Panel:
    def counted(family: str, by: str = "") -> str:
        group = f" by ({by})" if by else ""
        return f"sum{group} (increase({own(family)}[$__range]))"

    terms = {
        "Part of an API response skipped": counted("rejected_items_total", "kind"),
        "Step metrics unreadable": counted("training_metrics_failures_total", "reason"),
        "Training steps not offered": counted("training_steps_missed_total"),
        "Scrapes refused (--web.max-requests)": counted("scrapes_rejected_total"),
        "Last reload failed": f"sum by (file) (1 - {own('reload_successful')})",
        "Models beyond --models.limit": f"max({chosen('cohere_finetuned_models_dropped', INSTANCE)})",
        "Metrics beyond --training.metric-limit": f"max({own('training_metrics_dropped')})",
    }
    return listing(
        "What went missing",
        "What the exporter could not read, refused or left out in this time range; what limits leave out and "
        "which reloads failed is as of now.",
        "(" + labelled("what", terms) + ") > 0",
        columns=[
            Column(field="what", title="What"),
            Column(field="kind", title="Kind", width=140),
            Column(field="reason", title="Reason", width=140),
            Column(field="file", title="File", width=110),
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
        empty="Nothing went missing, or no exporter is scraped",
    )


def _calls() -> Panel:
    return graph(
        "Calls to the API by code",
        "Requests a minute, retries included, by HTTP status; `error` is a request that got no answer.",
        (
            f"60 * sum by (code) (rate({own('api_requests_total')}[$__rate_interval])) > 0",
            "{{code}}",
        ),
        unit="reqpm",
        stacked=True,
        looks={"200": ("200", "green"), "error": ("error", "red"), "429": ("429", "orange")},
        last=True,
        empty="No calls in this time range, or no data",
    )


def _latency() -> Panel:
    buckets = own("api_request_duration_seconds_bucket")
    rate = f"sum by (le, endpoint) (rate({buckets}[$__rate_interval]))"
    quantiles = {"median": f"histogram_quantile(0.5, {rate})", "95 %": f"histogram_quantile(0.95, {rate})"}
    return graph(
        "Duration of calls",
        "Median and 95th percentile of whole requests, body included, by endpoint.",
        (labelled("part", quantiles), "{{endpoint}}, {{part}}"),
        unit="s",
        last=True,
        empty="No calls in this time range, or no data",
    )


def _waiting() -> Panel:
    retries = f"rate({own('api_retries_total')}[$__rate_interval])"
    return graph(
        "Retries and throttling",
        "Requests sent again, a minute (left), and the share of time that requests waited for "
        "--cohere.requests-per-minute or the API's Retry-After (right).",
        (
            f"60 * sum by (endpoint) ({retries})",
            "{{endpoint}}",
        ),
        (
            f"sum(rate({own('api_throttled_seconds_total')}[$__rate_interval]))",
            "throttled",
        ),
        unit="reqpm",
        on_the_right=("throttled", "percentunit", "time throttled", 0.01),
        last=True,
        empty="No exporter in this time range",
    )


def _memory() -> Panel:
    return graph(
        "Memory",
        "Resident memory of the exporter. Absent with --web.disable-exporter-metrics.",
        (f"{chosen('process_resident_memory_bytes', INSTANCE)} {OWN}", "{{instance}}"),
        unit="bytes",
        last=True,
        empty="No process metrics, or no data",
    )


def _cpu() -> Panel:
    return graph(
        "CPU",
        "Share of one core that the exporter uses. Absent with --web.disable-exporter-metrics.",
        (f"rate({chosen('process_cpu_seconds_total', INSTANCE)}[$__rate_interval]) {OWN}", "{{instance}}"),
        unit="percentunit",
        decimals=1,
        last=True,
        empty="No process metrics, or no data",
    )


def _restarts() -> PrometheusAnnotation:
    return PrometheusAnnotation(
        "Starts",
        f"1000 * {chosen('process_start_time_seconds', INSTANCE)} {OWN}",
        color="blue",
        title="Started: {{instance}}",
        text="{{job}}",
    )
