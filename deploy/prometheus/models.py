"""Rules about the models: what is recorded of each, and what is wrong with it."""

from deploy.prometheus import thresholds as limit
from deploy.prometheus.rows import Alert, Recording

DASHBOARD = "/d/cohere-finetuning-model?var-model_id={{ $labels.model_id | urlquery }}"

MODEL = "model_id, model_name"
STATUS = "model:cohere_finetuned_model_status:held"
CHANGED = "model:cohere_finetuned_model_changed_timestamp_seconds:held"
STATUS_AGE = "model:cohere_finetuned_model_status_age_seconds:held"
STEP_AGE = "model:cohere_finetuned_model_training_step_age_seconds:held"

# An age of 0 stands for one that the API does not tell.
FOR_ITS_AGE = (
    "{{ if $value }}for {{ $value | humanizeDuration }}{{ else }}since a time the API does not tell{{ end }}"
)


# Ages are as the API was last looked at: what happens between two polls, or while it is down, nobody knows.
LAST_SUCCESS = f"max_over_time(cohere_exporter_last_success_timestamp_seconds[{limit.HOLD}])"
LAST_LOOK = f"scalar(max({LAST_SUCCESS}) or vector(time()))"


def latest(metric: str) -> str:
    """Give each model's latest sample; made for times of events, which outlive their samples unharmed."""
    return f"max by ({MODEL}) (last_over_time({metric}[{limit.HOLD}]))"


def measured(function: str, window: object, names: str = "") -> str:
    """Give a function over time of the training metrics whose label `metric` matches."""
    selector = f'{{metric=~"{names}"}}' if names else ""
    return f"{function}(cohere_finetuned_model_training_metric{selector}[{window}])"


# The names are an open set, so what should fall and what should rise is told by what a name holds.
LOSSES = "(?i).*(loss|entropy|perplexity|error).*"
SCORES = "(?i).*(accuracy|f1|precision|recall|mrr|ndcg).*"
LATEST = measured("last_over_time", limit.SETTLE)
LATEST_LOSS = f"max by ({MODEL}, metric) ({measured('last_over_time', limit.SETTLE, LOSSES)})"
BEST_LOSS = f"min by ({MODEL}, metric) ({measured('min_over_time', limit.BEST_OF, LOSSES)})"
LATEST_SCORE = f"min by ({MODEL}, metric) ({measured('last_over_time', limit.SETTLE, SCORES)})"
BEST_SCORE = f"max by ({MODEL}, metric) ({measured('max_over_time', limit.BEST_OF, SCORES)})"

RECORDINGS = (
    Recording(
        record=STATUS,
        why="""\
The status of each model. While no exporter delivers a fleet (it restarts, is rolled out or has stale data
only) the last known status holds. Where there is a fleet, a model that it lacks is gone at once, and for
good: what holds is this recording itself, which forgets whatever it lacked once.""",
        expr=f"""\
max by ({MODEL}, status) (cohere_finetuned_model_status == 1)
or (
  {STATUS}
  and on () last_over_time(cohere_finetuned_models[{limit.HOLD}])
  unless on () cohere_finetuned_models
)
""",
    ),
    Recording(
        record=CHANGED,
        why="When each model last changed.",
        expr=f"""\
{latest("cohere_finetuned_model_updated_timestamp_seconds")}
or
{latest("cohere_finetuned_model_completed_timestamp_seconds")}
""",
    ),
    Recording(
        record=STATUS_AGE,
        why="""\
How long each model had been in its status (since it last changed or else was created) when the API was last
looked at.""",
        expr=f"""\
(
  {LAST_LOOK} - (
    {CHANGED}
    or
    {latest("cohere_finetuned_model_created_timestamp_seconds")}
  )
)
* on ({MODEL}) group_right () {STATUS}
""",
    ),
    Recording(
        record=STEP_AGE,
        why="""\
How old the newest training step of each model was when the API was last looked at; a step without a time
counts as new.""",
        expr=f"""\
{LAST_LOOK} - {latest("cohere_finetuned_model_training_step_timestamp_seconds")}
or
0 * {latest("cohere_finetuned_model_training_step")}
""",
    ),
)

ALERTS = (
    Alert(
        name="CohereModelFailed",
        severity="critical",
        for_="0s",
        # A failure without a time may be a new one, for as long as the model itself is not old.
        expr=f"""\
{STATUS_AGE}{{status="STATUS_FAILED"}} < {limit.FAILURE_AGE}
or (
  0 * {STATUS}{{status="STATUS_FAILED"}}
  unless on ({MODEL}) {CHANGED}
  unless on ({MODEL}) {STATUS_AGE}{{status="STATUS_FAILED"}} > {limit.UNTIMED_FAILURE_AGE}
)
""",
        summary="Model {{ $labels.model_name }} failed",
        description=f"{{{{ $labels.model_name }}}} has been STATUS_FAILED {FOR_ITS_AGE}.",
        dashboard=DASHBOARD,
    ),
    Alert(
        name="CohereModelQueuedTooLong",
        severity="warning",
        for_="10m",
        expr=f"""\
(
  {STATUS_AGE}{{status="STATUS_QUEUED"}} > {limit.QUEUED_IDLE}
  unless on () {STATUS}{{status="STATUS_FINETUNING"}}
)
or
{STATUS_AGE}{{status="STATUS_QUEUED"}} > {limit.QUEUED_BUSY}
""",
        summary="Model {{ $labels.model_name }} waits too long in the queue",
        description="{{ $labels.model_name }} has been STATUS_QUEUED for {{ $value | humanizeDuration }}.",
        dashboard=DASHBOARD,
    ),
    Alert(
        name="CohereTrainingStalled",
        severity="warning",
        for_="5m",
        # A step older than the status may be one of an earlier run, and the first of this run takes long; or
        # the model was merely renamed, which also counts as a change.
        expr=f"""\
{STEP_AGE} > {limit.STEP_SILENCE}
and on ({MODEL})
{STATUS}{{status="STATUS_FINETUNING"}}
unless on ({MODEL})
({STATUS_AGE}{{status="STATUS_FINETUNING"}} < on ({MODEL}) {STEP_AGE}) <= {limit.FIRST_STEP_SILENCE}
""",
        summary="Training of model {{ $labels.model_name }} has stalled",
        description=(
            "{{ $labels.model_name }} is in training, and its last step is "
            "{{ $value | humanizeDuration }} old."
        ),
        dashboard=DASHBOARD,
    ),
    Alert(
        name="CohereTrainingWithoutFirstStep",
        severity="warning",
        for_="10m",
        # Only where step metrics can be read is it known that there are none.
        expr=f"""\
{STATUS_AGE}{{status="STATUS_FINETUNING"}} > {limit.FIRST_STEP_SILENCE}
unless on ({MODEL})
{STEP_AGE}
and on ()
increase(
  cohere_exporter_api_requests_total{{endpoint="list_training_step_metrics", code="200"}}[{limit.STEPS_READ}]
) > 0
""",
        summary="Training of model {{ $labels.model_name }} has not shown a first step",
        description=(
            "{{ $labels.model_name }} has been STATUS_FINETUNING for {{ $value | humanizeDuration }} "
            "without a step."
        ),
        dashboard=DASHBOARD,
    ),
    Alert(
        name="CohereModelDeployingTooLong",
        severity="warning",
        for_="5m",
        expr=f'{STATUS_AGE}{{status="STATUS_DEPLOYING_API"}} > {limit.DEPLOYMENT}',
        summary="Model {{ $labels.model_name }} does not finish its deployment",
        description=(
            "{{ $labels.model_name }} has been STATUS_DEPLOYING_API for {{ $value | humanizeDuration }}."
        ),
        dashboard=DASHBOARD,
    ),
    Alert(
        name="CohereModelTemporarilyOffline",
        severity="warning",
        for_="15m",
        expr=f"""\
{STATUS_AGE}{{status="STATUS_TEMPORARILY_OFFLINE"}}
or
0 * {STATUS}{{status="STATUS_TEMPORARILY_OFFLINE"}}
""",
        summary="Model {{ $labels.model_name }} is temporarily offline",
        description=f"{{{{ $labels.model_name }}}} has been STATUS_TEMPORARILY_OFFLINE {FOR_ITS_AGE}.",
        dashboard=DASHBOARD,
    ),
    Alert(
        name="CohereTrainingMetricNotFinite",
        severity="warning",
        for_="5m",
        # Times 0 every finite number is 0; NaN and the infinities are not.
        expr=f"""\
max by ({MODEL}, metric) (
  {LATEST}
  unless
  {LATEST} * 0 == 0
)
and on ({MODEL}) (
  {STATUS}{{status=~"STATUS_FINETUNING|STATUS_DEPLOYING_API"}}
  or
  {STATUS_AGE}{{status="STATUS_READY"}} < {limit.FAILURE_AGE}
)
""",
        summary="{{ $labels.metric }} of model {{ $labels.model_name }} is not a finite number",
        description="The latest {{ $labels.metric }} of {{ $labels.model_name }} is {{ $value }}.",
        dashboard=DASHBOARD,
    ),
    Alert(
        name="CohereEvaluationDegrading",
        severity="warning",
        for_="15m",
        # A step that fell tells of a run begun anew: its first values are no worse than they should be.
        expr=f"""\
(
  (
    {LATEST_LOSS}
    -
    {BEST_LOSS}
  )
  / clamp_min({BEST_LOSS}, {limit.SMALLEST_BEST})
  > {limit.LOSS_RISE}
  or
  (
    {BEST_SCORE}
    -
    {LATEST_SCORE}
  )
  / clamp_min({BEST_SCORE}, {limit.SMALLEST_BEST})
  > {limit.SCORE_FALL}
)
and on ({MODEL})
{STATUS}{{status="STATUS_FINETUNING"}}
unless on ({MODEL})
resets(cohere_finetuned_model_training_step[{limit.BEST_OF}]) > 0
""",
        summary="{{ $labels.metric }} of model {{ $labels.model_name }} gets worse",
        description=(
            "{{ $labels.metric }} of {{ $labels.model_name }} is {{ $value | humanizePercentage }} worse "
            f"than its best of the last {limit.BEST_OF}, and the training goes on."
        ),
        dashboard=DASHBOARD,
    ),
)
