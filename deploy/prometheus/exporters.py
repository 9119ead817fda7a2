"""Rules about the way to the API and about the exporters themselves: whether a failure would be seen."""

from deploy.prometheus import thresholds as limit
from deploy.prometheus.rows import Alert
from deploy.prometheus.thresholds import Threshold

DASHBOARD = "/d/cohere-finetuning-exporter"

# Right after a start as well, when the time of the last success is 0.
POLLS_MISSED = f"""\
time() - cohere_exporter_last_success_timestamp_seconds
  > {limit.MISSED_POLLS} * cohere_exporter_poll_interval_seconds
and
cohere_exporter_polls_total > {limit.FIRST_POLLS}"""

SINCE_SUCCESS = (
    "{{ if gt $value 1e9 }}no poll has succeeded since it started"
    "{{ else }}the last good poll was {{ $value | humanizeDuration }} ago{{ end }}"
)
ABOUT = 'About {{ $value | printf "%.0f" }}'


def failing_because(reasons: str) -> str:
    """Give, where the last poll failed, about how many polls have failed for each of these reasons.

    The counters of a process that Prometheus has only just met have not increased, but then every poll of it
    failed alike. A reason that has not come up again since the last good poll is mended, and one that has
    given way to others is no longer why polls fail.
    """
    failures = f'cohere_exporter_poll_failures_total{{reason=~"{reasons}"}}'
    others = f'cohere_exporter_poll_failures_total{{reason!~"{reasons}"}}'
    return f"""\
(
  (
    increase({failures}[{limit.REASON_WINDOW}]) > 0
    unless
    {failures} == max_over_time(({failures} and ignoring (reason) cohere_up == 1)[{limit.REASON_WINDOW}:5m])
  )
  or
  ({failures} == ignoring (reason) group_left () cohere_exporter_polls_total) > 0
)
and ignoring (reason)
cohere_up == 0
unless ignoring (reason)
sum without (reason) (increase({others}[{limit.OTHER_REASONS}])) > 0"""


def persistent(counter: str, by: str = "") -> str:
    """Give how often a counter has risen of late, where that is as often as by one thing that stays wrong.

    A burst is one rise, however high; those of all exporters add up, so that a rollout ends nothing. The
    interval changes when a training begins or ends: rises are expected as by the shortest one in the window.
    """
    return f"""\
sum {by}(changes({counter}[{limit.READING_WINDOW}]))
>
scalar(
  clamp_min(
    {limit.READINGS_FAILED}
    / max(min_over_time(cohere_exporter_poll_interval_seconds[{limit.READING_WINDOW}])),
    1
  )
)"""


def risen(counter: str, window: Threshold) -> str:
    """Give a counter that is higher than it was: that needs no extrapolation, nor a sample at the edge."""
    return f"{counter}\n>\nmin_over_time({counter}[{window}])"


API_ALERTS = (
    Alert(
        name="CohereApiDown",
        severity="warning",
        for_="1m",
        expr=f"{POLLS_MISSED}\nand\ncohere_up == 0",
        summary="The fine-tuning API cannot be polled",
        description=f"{{{{ $labels.instance }}}} cannot list the models: {SINCE_SUCCESS}.",
        dashboard=DASHBOARD,
    ),
    Alert(
        name="CohereCredentialsRefused",
        severity="critical",
        for_="5m",
        expr=failing_because("unauthorized|forbidden|payment_required"),
        summary="The fine-tuning API refuses the exporter: {{ $labels.reason }}",
        description=(
            f"{ABOUT} polls of {{{{ $labels.instance }}}} failed as {{{{ $labels.reason }}}} "
            f"within {limit.REASON_WINDOW}, and the last poll failed."
        ),
        dashboard=DASHBOARD,
    ),
    Alert(
        name="CohereServiceGone",
        severity="warning",
        for_="15m",
        expr=failing_because("gone"),
        summary="No fine-tuning API is where the exporter looks for it",
        description=(
            f"{ABOUT} polls of {{{{ $labels.instance }}}} were answered with 404 or 410 "
            f"within {limit.REASON_WINDOW}, and the last poll failed."
        ),
        dashboard=DASHBOARD,
    ),
    Alert(
        name="CohereRateLimited",
        severity="warning",
        for_="5m",
        expr=f"{failing_because('rate_limited')}\nand ignoring (reason) (\n{POLLS_MISSED}\n)",
        summary="The fine-tuning API is asked more often than it allows",
        description=(
            f"{ABOUT} polls of {{{{ $labels.instance }}}} were answered with 429 "
            f"within {limit.REASON_WINDOW}, and no poll has succeeded for {limit.MISSED_POLLS} intervals."
        ),
        dashboard=DASHBOARD,
    ),
    Alert(
        name="CohereDataStale",
        severity="critical",
        for_="5m",
        expr=(
            "time() - cohere_exporter_last_success_timestamp_seconds > cohere_exporter_stale_after_seconds"
        ),
        summary="An exporter shows no fine-tuned models: its data is stale",
        description=(
            f"{{{{ $labels.instance }}}} shows no models: {SINCE_SUCCESS}. "
            "Unless another exporter shows them, a model that fails now raises no alert."
        ),
        dashboard=DASHBOARD,
    ),
    Alert(
        name="CohereStepMetricsUnreadable",
        severity="warning",
        for_="15m",
        expr=persistent("cohere_exporter_training_metrics_failures_total"),
        summary="Step metrics have long been unreadable",
        description=(
            "Readings of models' step metrics failed at {{ $value }} different times "
            f"in the last {limit.READING_WINDOW}; the last good values stay."
        ),
        dashboard=DASHBOARD,
    ),
    Alert(
        name="CohereAnswerItemsRejected",
        severity="warning",
        for_="15m",
        expr=persistent("cohere_exporter_rejected_items_total", "by (kind) "),
        summary="Parts of the API's answers are skipped: {{ $labels.kind }}",
        description=(
            "Parts of answers (kind {{ $labels.kind }}) made no sense at {{ $value }} different times "
            f"in the last {limit.READING_WINDOW} and were skipped."
        ),
        dashboard=DASHBOARD,
    ),
)

EXPORTER_ALERTS = (
    Alert(
        name="CohereExporterAbsent",
        severity="critical",
        for_="10m",
        expr="absent(cohere_exporter_build_info)",
        summary="No exporter watches the fine-tuned models",
        description=(
            "Prometheus scrapes no exporter (absent() is {{ $value }}). "
            "A model that fails now raises no alert."
        ),
        dashboard=DASHBOARD,
    ),
    Alert(
        name="CohereExporterDown",
        severity="warning",
        for_="10m",
        # What has left the list of targets, as in a rollout, is no longer expected to answer.
        expr=f"""\
up == 0
and ignoring (version, revision, python_version)
last_over_time(cohere_exporter_build_info[{limit.SEEN_WITHIN}])
""",
        summary="An exporter of the fine-tuned models does not answer",
        description="{{ $labels.instance }} cannot be scraped (up is {{ $value }}).",
        dashboard=DASHBOARD,
    ),
    Alert(
        name="CohereApiKeyUnreadable",
        severity="warning",
        for_="0s",
        expr=risen("cohere_exporter_api_key_reload_failures_total", limit.KEY_WINDOW),
        summary="The file with the API key became unreadable",
        description=(
            "{{ $labels.instance }} found its key file unreadable, {{ $value }} times since it started; "
            "it goes on with the last good key, which a restart would lose."
        ),
        dashboard=DASHBOARD,
    ),
    Alert(
        name="CohereWebConfigUnusable",
        severity="warning",
        for_="0s",
        expr=risen("cohere_exporter_web_config_reload_failures_total", limit.WEB_CONFIG_WINDOW),
        summary="A change to the web configuration cannot be used",
        description=(
            "{{ $labels.instance }} could not use --web.config.file or a certificate, {{ $value }} times "
            "since it started; it goes on with the last good ones, until it is restarted or their "
            "certificate expires."
        ),
        dashboard=DASHBOARD,
    ),
    Alert(
        name="CohereModelsDropped",
        severity="warning",
        for_="15m",
        expr="cohere_finetuned_models_dropped > 0",
        summary="Models are left out by --models.limit",
        description="{{ $labels.instance }} leaves out the {{ $value }} oldest models.",
        dashboard=DASHBOARD,
    ),
    Alert(
        name="CohereTrainingMetricsDropped",
        severity="warning",
        for_="15m",
        expr="cohere_exporter_training_metrics_dropped > 0",
        summary="Training metrics are left out by --training.metric-limit",
        description="{{ $labels.instance }} leaves out {{ $value }} training metrics.",
        dashboard=DASHBOARD,
    ),
)
