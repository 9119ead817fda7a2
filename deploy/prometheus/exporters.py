"""Alerts about the way to the API and the exporters themselves: whether a failure would be seen."""

from textwrap import indent

from deploy.prometheus.rows import IDENTITY, SELECTOR, WHO, Alert, duration, last, limit, series

DASHBOARD = (
    "/d/cohere-finetuning-exporter?var-cluster={{ $labels.cluster | urlquery }}"
    "&var-namespace={{ $labels.namespace | urlquery }}&var-job={{ $labels.job | urlquery }}"
)
TITLE = "Cohere fine-tuning / Exporter"
TARGET = f"{IDENTITY}, instance"

BUILD_INFO = series("cohere_exporter_build_info")
FLEET = series("cohere_finetuned_models", 'status="STATUS_READY"')
# A target that never answered is known by its name alone: the exporter's own port, or the name of its job.
# Training steps are scraped by a job of their own.
UNSEEN_FOR = 5  # minutes beyond the window
EARLIER = f" offset {limit('unseen')}s"
NAMED = [
    series("up", matcher, 'job!~".+-steps"')
    for matcher in ('instance=~".+:10220"', 'job=~".*cohere.?finetun.*"')
]
FAILED = "cohere_exporter_last_poll_failed"
REFUSALS = 'reason=~"unauthorized|forbidden|payment_required"'

# Both times are of one clock, the exporter's. A process without a success counts its polls instead.
POLLS_KEEP_FAILING = f"""\
(
  {last("cohere_exporter_last_poll_timestamp_seconds")}
  - on ({TARGET})
  {last("cohere_exporter_last_success_timestamp_seconds")}
)
> on ({TARGET})
{last("cohere_exporter_stale_after_seconds")} * {limit("api_down_percent")} / 100
and on ({TARGET})
{last("cohere_exporter_polls_total")} > {limit("api_down_polls")}
and on ({TARGET})
{last("cohere_up")} == 0"""

POLLS_FAIL = f"""\
max by ({IDENTITY}) (
{indent(POLLS_KEEP_FAILING, "  ")}
)"""

# A share of the failures, so that a timeout in between changes nothing; no pattern of reasons is near it.
WINDOW = f"[{limit('refused_window')}s]"
REFUSED = f"""\
sum by ({IDENTITY}) (avg_over_time({series(FAILED, REFUSALS)}{WINDOW})) * 100
> on ({IDENTITY})
sum by ({IDENTITY}) (avg_over_time({series(FAILED)}{WINDOW})) * {limit("refused_percent")}"""

READINGS_EXPECTED = f"""\
clamp_min(
  {limit("reading_window")} / {limit("reading_intervals")}
  / max by ({IDENTITY}) (
    min_over_time({series("cohere_exporter_poll_interval_seconds")}[{limit("reading_window")}s])
  ),
  1
)"""


def persistent(counter: str, by: str) -> str:
    """Return how often a counter rose, where that is as often as by one thing that stays wrong.

    A burst is one rise, however high; those of all exporters of an identity add up, so that a rollout ends
    nothing. Rises are expected as by the shortest poll interval in the window. VictoriaMetrics counts the
    start of a series as a change, so only those that rose count.
    """
    samples = f"{series(counter)}[{limit('reading_window')}s]"
    return f"""\
sum by ({by}) (changes({samples}) and max_over_time({samples}) > min_over_time({samples}))
> on ({IDENTITY}) group_left ()
{READINGS_EXPECTED}"""


def never_answered(offset: str = "") -> str:
    """Return `up` of every target that is an exporter by its name and did not answer once."""
    times = f"[{limit('remembered')}s]{offset}"
    return "\n  or\n  ".join(f"max_over_time({selector}{times}) == 0" for selector in NAMED)


def labelled(expr: str, label: str, value: str) -> str:
    """Return an expression with one more label."""
    return f'label_replace({expr}, "{label}", "{value}", "", "")'


def most_frequent_reason(window: str, *matchers: str) -> str:
    """Return a template that sets `$reason`. As a label, it would make another alert of each change.

    An installation's matchers are an argument of `printf`, since they may hold "%".
    """
    selected = ", ".join([*(f"{label}=%q" for label in IDENTITY.split(", ")), *matchers, "%s"])
    query = f"topk(1, sum by (reason) (avg_over_time({FAILED}{{{selected}}}[{limit(window)}s])) > 0)"
    values = " ".join([*(f"$labels.{label}" for label in IDENTITY.split(", ")), f"`{SELECTOR}`"])
    return (
        '{{ $reason := "" }}'
        f"{{{{ with query (printf `{query}` {values}) }}}}"
        '{{ $reason = . | first | label "reason" }}{{ end }}'
    )


ADVICE = (
    '{{ if eq $reason "gone" }}fine-tuning API not found (HTTP 404 or 410); check --cohere.base-url'
    '{{ else if eq $reason "rate_limited" }}'
    "lower --cohere.requests-per-minute, or find who else uses the key"
    '{{ else if eq $reason "server_error" }}'
    "the API is failing; check the deployment or gateway that serves it"
    '{{ else if eq $reason "timeout" }}'
    "responses are slow or lost; check the network and proxy, or raise --cohere.timeout"
    '{{ else if eq $reason "connection" }}check DNS, proxy, firewall and TLS between exporter and API'
    '{{ else if eq $reason "invalid_response" }}'
    "something other than the API answers; check --cohere.base-url and the proxy"
    "{{ else }}read the exporter's log{{ end }}"
)

API_ALERTS = (
    Alert(
        name="CohereFleetUnseen",
        severity="critical",
        for_=f"{UNSEEN_FOR}m",
        expr=f"""\
max by ({IDENTITY}) (
  last_over_time({BUILD_INFO}[{limit("remembered")}s]{EARLIER})
  or
  {never_answered(EARLIER)}
)
unless on ({IDENTITY})
max by ({IDENTITY}) (present_over_time({FLEET}[{limit("unseen")}s]))
or
absent_over_time({BUILD_INFO}[{limit("remembered")}s])
unless on ()
(
  {never_answered()}
)""",
        summary=f"No data about the fine-tuned models of {WHO}",
        description=(
            f"No exporter has delivered the models for {duration('unseen', plus=60 * UNSEEN_FOR)}. "
            "A model that fails now raises no alert. "
            "The exporter is missing, down or crash-looping, or its data is stale."
        ),
        action=(
            "Open the exporter's landing page, or its log if there is none; "
            "CohereExporterDown, CohereApiDown or CohereCredentialsRefused may name the cause."
        ),
        ended="An exporter delivers the models again, or is no longer expected.",
        dashboard=DASHBOARD,
        dashboard_title=TITLE,
    ),
    Alert(
        name="CohereApiDown",
        expr=f"{POLLS_FAIL}\nunless on ({IDENTITY})\n{REFUSED}",
        summary=f"Polls of the fine-tuning API keep failing for {WHO}",
        description=(
            f"{most_frequent_reason('hold')}Most failures of the last "
            f"{duration('hold')} are {{{{ $reason }}}}: {ADVICE}."
        ),
        action="Run `cohere-finetune-exporter check` where the exporter runs; it says what to do.",
        ended=(
            "Not necessarily repaired: a poll succeeded, the API refuses the key instead "
            "(CohereCredentialsRefused), or the exporter restarted or is gone."
        ),
        dashboard=DASHBOARD,
        dashboard_title=TITLE,
    ),
    Alert(
        name="CohereCredentialsRefused",
        expr=f"{POLLS_FAIL}\nand on ({IDENTITY})\n{REFUSED}",
        summary=f"The fine-tuning API refuses the key of {WHO}",
        description=(
            f"{most_frequent_reason('refused_window', REFUSALS)}Polls are refused as {{{{ $reason }}}}: "
            '{{ if eq $reason "unauthorized" }}the key is wrong or revoked'
            '{{ else if eq $reason "forbidden" }}the key lacks permission, or its network is blocked'
            "{{ else }}check the account's billing{{ end }}."
        ),
        action="Create a new key and write it to the key file; no restart is needed.",
        ended=(
            "Not necessarily repaired: a poll succeeded, polls fail for other reasons (CohereApiDown), or "
            "the exporter restarted or is gone."
        ),
        dashboard=DASHBOARD,
        dashboard_title=TITLE,
    ),
    Alert(
        name="CohereAnswersUnreadable",
        for_="15m",
        expr=f"""\
{persistent("cohere_exporter_rejected_items_total", f"{IDENTITY}, kind")}
or
{
            labelled(
                persistent("cohere_exporter_training_metrics_failures_total", IDENTITY),
                "kind",
                "step_metrics",
            )
        }""",
        summary=f"Responses of the fine-tuning API cannot be read for {WHO}: {{{{ $labels.kind }}}}",
        description=(
            '{{ if eq $labels.kind "step_metrics" }}Reading step metrics of some model keeps '
            "failing; its last good values are kept.{{ else }}Invalid parts of responses (kind "
            "{{ $labels.kind }}) are skipped.{{ end }} "
            f"{{{{ $value }}}} occurrences in {duration('reading_window')}."
        ),
        action="Find the model and the part of the response in the exporter's log.",
        ended="It no longer recurs, or the exporter is gone.",
        dashboard=DASHBOARD,
        dashboard_title=TITLE,
    ),
)

EXPORTER_ALERTS = (
    Alert(
        name="CohereExporterDown",
        for_="5m",
        # In a rollout, a target that left is no longer expected to answer, and a new one not yet.
        expr=f"""\
avg by ({TARGET}, pod) (avg_over_time({series("up")}[{limit("down_window")}s])) * 100
< {limit("down_percent")}
and on ({TARGET})
present_over_time({series("up")}[{limit("recent")}s])
and on ({TARGET})
(
  last_over_time({BUILD_INFO}[{limit("remembered")}s])
  or
  {never_answered(EARLIER)}
)""",
        summary="Exporter {{ $labels.instance }} is down or unreliable",
        description=(
            '{{ $value | printf "%.0f" }} % of the scrapes of {{ $labels.instance }} in '
            f"{duration('down_window')} succeeded."
        ),
        action="See the error on Prometheus's page of targets, then the exporter's log and restarts.",
        ended="Scrapes succeed again, or the target is no longer expected.",
        dashboard=DASHBOARD,
        dashboard_title=TITLE,
    ),
    Alert(
        name="CohereReloadFailed",
        for_="5m",
        expr=f"min by ({IDENTITY}, file) ({last('cohere_exporter_reload_successful')}) == 0",
        summary=f"Reload of a changed file failed for {WHO}: {{{{ $labels.file }}}}",
        description=(
            "The last reload of the {{ if eq $labels.file `api_key` }}API key file"
            "{{ else if eq $labels.file `ca` }}CA bundle"
            "{{ else if eq $labels.file `client_cert` }}client certificate"
            "{{ else }}web configuration{{ end }} failed. The exporter keeps using the last good one; "
            "a restart would fail, and an old certificate may expire."
        ),
        action="Read the exporter's log: it names the file and what is wrong with it.",
        ended="A reload succeeded, or the exporter restarted or is gone.",
        dashboard=DASHBOARD,
        dashboard_title=TITLE,
    ),
    Alert(
        name="CohereSeriesDropped",
        severity="info",
        expr=f"""\
{
            labelled(
                f"max by ({IDENTITY}) (min_over_time("
                f"{series('cohere_finetuned_models_dropped')}[{limit('dropped')}s])) > 0",
                "limit",
                "models.limit",
            )
        }
or
{
            labelled(
                f"max by ({IDENTITY}) (min_over_time("
                f"{series('cohere_exporter_training_metrics_dropped')}[{limit('dropped')}s])) > 0",
                "limit",
                "training.metric-limit",
            )
        }""",
        summary=f"Limit {{{{ $labels.limit }}}} drops series of {WHO}",
        description=(
            '{{ $value }} {{ if eq $labels.limit "models.limit" }}models{{ else }}training metrics{{ end }} '
            "are not exported."
        ),
        action="Raise --{{ $labels.limit }}, or set it to 0, if you need them.",
        ended="Nothing is left out, or the exporter is gone.",
        dashboard=DASHBOARD,
        dashboard_title=TITLE,
    ),
)
