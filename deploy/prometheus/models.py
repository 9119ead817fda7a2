"""Alerts about models: one failed, got stuck, does not progress or diverged."""

from textwrap import indent

from deploy.prometheus.rows import IDENTITY, MODEL, MODEL_ID, WHO, Alert, duration, last, limit, series

DASHBOARD = (
    "/d/cohere-finetuning-model?var-model_id={{ $labels.model_id | urlquery }}"
    "&var-cluster={{ $labels.cluster | urlquery }}&var-namespace={{ $labels.namespace | urlquery }}"
    "&var-job={{ $labels.job | urlquery }}"
)
TITLE = "Cohere fine-tuning / Model"
DETAILS = "base_type, base_model, dataset_id, creator_id"

NAME = "{{ or $labels.model_name $labels.model_id }}"

STATUS = "cohere_finetuned_model_status"
FLEET = series("cohere_finetuned_models", 'status="STATUS_READY"')
STEPS_READ = series(
    "cohere_exporter_api_requests_total", 'endpoint="list_training_step_metrics"', 'code="200"'
)


def seen(condition: str) -> str:
    """Return when each series of a condition was last there, in Prometheus's own time, minute by minute."""
    return f"max_over_time((time() + 0 * ({condition}))[{limit('hold')}s:1m])"


# A model counts as of the last time its fleet was delivered, so that a gap changes nothing and a model that
# leaves the list is gone for good.
FLEET_SEEN = f"max by ({IDENTITY}) ({seen(FLEET)})"


def now(condition: str, slack: str = "", by: str = MODEL) -> str:
    """Return the models for which a condition holds, or held when the fleet was last delivered."""
    gone = "" if slack else f"\n  unless on ({IDENTITY}) {FLEET}"
    return f"""\
(
  max by ({by}) ({condition})
  or
  max by ({by}) ({seen(condition)})
  >= on ({IDENTITY}) group_left ()
  {FLEET_SEEN}{slack}{gone}
)"""


def status_is(status: str) -> str:
    """Return the models that have this status, as of the last fleet."""
    return now(f"{with_status(status)} == 1")


def with_status(status: str) -> str:
    """Return the selector of one status of each model."""
    return series(STATUS, f'status="{status}"')


def latest(metric: str) -> str:
    """Return each model's latest sample; for times of events, which outlive their samples unharmed."""
    return f"max by ({MODEL}) ({last(metric, window='hold')})"


# When the API was last asked successfully: an age does not grow because nobody looks, and an exporter whose
# clock is ahead does not make anything older.
LAST_LOOK = (
    f"clamp_max(max by ({IDENTITY}) "
    f"(max_over_time({series('cohere_exporter_last_success_timestamp_seconds')}[{limit('hold')}s])), time())"
)
CREATED = latest("cohere_finetuned_model_created_timestamp_seconds")
UPDATED = latest("cohere_finetuned_model_updated_timestamp_seconds")
COMPLETED = latest("cohere_finetuned_model_completed_timestamp_seconds")
STEP_AT = latest("cohere_finetuned_model_training_step_timestamp_seconds")


def age(*times: str) -> str:
    """Return how long ago the first of these times that is known was, at the last look; never negative."""
    known = "\n    or\n    ".join(times)
    return f"""\
clamp_min(
  0 - (
    ({known})
    - on ({IDENTITY}) group_left ()
    {LAST_LOOK}
  ),
  0
)"""


# By the API's times, at most: renaming a model begins anew.
IN_STATUS = age(UPDATED, CREATED)


def seen_otherwise(status: str, threshold: str) -> str:
    """Return the models that Prometheus saw in another status within a threshold."""
    samples = f"{with_status(status)}[{limit(threshold)}s]"
    return f"min by ({MODEL_ID}) (min_over_time({samples})) == 0"


def longer(status: str, threshold: str) -> str:
    """Return models that have been in a status for longer than a threshold, if they are in it.

    As Prometheus saw it, or by the API's times where it saw nothing else; a label says which status.
    """
    samples, seconds = with_status(status), limit(threshold)
    return f"""\
label_replace(
  {IN_STATUS} > {seconds}
  unless on ({MODEL_ID})
  {seen_otherwise(status, threshold)},
  "status", "{status}", "", ""
)
or
(
  min by ({MODEL}, status) (min_over_time({samples}[{seconds}s])) == 1
  and on ({MODEL})
  max by ({MODEL}) (last_over_time({samples}[{limit("recent")}s] offset {seconds}s)) == 1
)"""


def detailed(expr: str) -> str:
    """Add what a model is made of to its labels, where that is exported."""
    info = last("cohere_finetuned_model_info", window="hold")
    bare = last(STATUS, 'status="STATUS_READY"', window="hold")
    return f"""\
(
{indent(expr, "  ")}
)
+ on ({MODEL}) group_left ({DETAILS})
0 * topk by ({MODEL}) (1, {info} or on ({MODEL}) {bare})"""


FAILED = with_status("STATUS_FAILED")
DAY = limit("failed_age")
# An old failure that is renamed or touched is known by its id and by having been seen as failed before.
FAILED_BEFORE = f"max by ({MODEL_ID}) (max_over_time({FAILED}[{DAY}s] offset {DAY}s)) == 1"
SEEN_FAILING = seen_otherwise("STATUS_FAILED", "failed_age")
WATCHED_BEFORE = f"max by ({IDENTITY}) (present_over_time({FLEET}[{DAY}s] offset {DAY}s))"

STUCK = series(STATUS, 'status=~"STATUS_QUEUED|STATUS_DEPLOYING_API|STATUS_TEMPORARILY_OFFLINE"')

# What fell NaN while in training, or ended so within a day.
TRAINING = series(STATUS, 'status=~"STATUS_FINETUNING|STATUS_DEPLOYING_API"')
TRAINED_LATELY = f"max by ({MODEL_ID}) (max_over_time({TRAINING}[{DAY}s])) == 1"

# How the alert of any model ends.
NO_DATA = f"no exporter has delivered it for {duration('hold')}"

ALERTS = (
    Alert(
        name="CohereModelFailed",
        expr=detailed(
            f"""\
{status_is("STATUS_FAILED")}
and on ({MODEL_ID})
(
  {SEEN_FAILING}
  or on ({MODEL_ID})
  (
    (
      {age(COMPLETED, UPDATED, CREATED)} < {DAY}
      or
      (
        max by ({MODEL}) ({last(STATUS, 'status="STATUS_FAILED"', window="hold")})
        and on ({IDENTITY}) {WATCHED_BEFORE}
        unless on ({MODEL}) ({COMPLETED} or {UPDATED})
      )
    )
    unless on ({MODEL_ID}) {FAILED_BEFORE}
  )
)"""
        ),
        summary=f"Model {NAME} failed",
        description=(
            f"{NAME} ({{{{ $labels.model_id }}}}) of {WHO} went to STATUS_FAILED within the last "
            f"{duration('failed_age')}."
        ),
        action="Compare its dataset and hyperparameters with the last run that succeeded.",
        ended=(
            "Not necessarily repaired: its status changed, it was renamed or deleted, the failure is "
            f"{duration('failed_age')} old, or {NO_DATA}."
        ),
        dashboard=DASHBOARD,
        dashboard_title=TITLE,
    ),
    Alert(
        name="CohereModelStuck",
        for_="5m",
        expr=detailed(
            f"""\
{now(f"{STUCK} == 1", by=f"{MODEL}, status")}
and on ({MODEL}, status)
(
  (
    {longer("STATUS_QUEUED", "queued_idle")}
  )
  unless on ({IDENTITY})
  max by ({IDENTITY}) (max_over_time({with_status("STATUS_FINETUNING")}[{limit("queued_idle")}s])) == 1
  or
  {longer("STATUS_QUEUED", "queued_busy")}
  or
  {longer("STATUS_DEPLOYING_API", "deploying")}
  or
  {longer("STATUS_TEMPORARILY_OFFLINE", "offline")}
)"""
        ),
        summary=f"Model {NAME} is stuck in {{{{ $labels.status }}}}",
        description=(
            f"{NAME} ({{{{ $labels.model_id }}}}) of {WHO} has been {{{{ $labels.status }}}} for more than "
            '{{ if eq $labels.status "STATUS_QUEUED" }}'
            f"{duration('queued_idle')} without a training run in that time, or "
            f"for more than {duration('queued_busy')}"
            '{{ else if eq $labels.status "STATUS_DEPLOYING_API" }}'
            f"{duration('deploying')}"
            f"{{{{ else }}}}{duration('offline')}{{{{ end }}}}."
        ),
        action="Check the service that trains it; if nothing moves, ask its support with the model's id.",
        ended=(
            "Not necessarily repaired: its status changed, a training run began while it was queued, it was "
            f"renamed or deleted, or {NO_DATA}."
        ),
        dashboard=DASHBOARD,
        dashboard_title=TITLE,
    ),
    Alert(
        name="CohereTrainingStalled",
        for_="5m",
        # A step older than the status, by the API's times or as Prometheus saw it, may be one of an earlier
        # run, and the first of this run takes long.
        # Only where step metrics can be read is it known that there are none.
        expr=detailed(
            f"""\
{status_is("STATUS_FINETUNING")}
and on ({MODEL})
(
  (
    {age(STEP_AT)} > {limit("step_silence")}
    unless on ({MODEL})
    ({IN_STATUS} < on ({MODEL}) {age(STEP_AT)}) <= {limit("first_step_silence")}
    unless on ({MODEL_ID})
    (
      {age(STEP_AT)} > {limit("first_step_silence")}
      and on ({MODEL_ID})
      {seen_otherwise("STATUS_FINETUNING", "first_step_silence")}
    )
  )
  or on ({MODEL})
  (
    (
      {longer("STATUS_FINETUNING", "first_step_silence")}
    )
    unless on ({MODEL})
    {latest("cohere_finetuned_model_training_step")}
    and on ({IDENTITY})
    max by ({IDENTITY}) (increase({STEPS_READ}[{limit("steps_read")}s])) > 0
  )
)"""
        ),
        summary=f"Training of model {NAME} has stalled",
        description=(
            f"{NAME} ({{{{ $labels.model_id }}}}) of {WHO} is in training, with no first step after "
            f"{duration('first_step_silence')} or no further step for "
            f"{duration('step_silence')}."
        ),
        action="Check whether other training runs stopped at the same time; then it is the service.",
        ended=(
            "Not necessarily repaired: a step arrived, the model left STATUS_FINETUNING, it was renamed or "
            f"deleted, its step metrics cannot be read, or {NO_DATA}."
        ),
        dashboard=DASHBOARD,
        dashboard_title=TITLE,
    ),
    Alert(
        name="CohereTrainingDiverged",
        expr=detailed(
            f"""\
{now(f"{series('cohere_finetuned_model_training_metrics_non_finite')} > 0", f" - {limit('settle')}")}
and on ({MODEL_ID})
(
  {TRAINED_LATELY}
  or on ({MODEL_ID})
  {age(COMPLETED, STEP_AT, UPDATED, CREATED)} < {DAY}
)
unless on ({MODEL})
{status_is("STATUS_FAILED")}"""
        ),
        summary=f"Training of model {NAME} diverged",
        description=(
            f"The latest value of at least one training metric of {NAME} ({{{{ $labels.model_id }}}}) of "
            f"{WHO} is NaN or infinite."
        ),
        action="Stop using this run; train again with a lower learning rate.",
        ended=(
            "Not necessarily repaired: its latest metrics are finite again, it failed, was renamed or "
            f"deleted, ended a day ago, or {NO_DATA}."
        ),
        dashboard=DASHBOARD,
        dashboard_title=TITLE,
    ),
)
