"""Write `failure-modes.md`: the tables that the tests play against the exporter, in words for people."""

from docs.tables import markdown
from tests.hostile.modes import MODES
from tests.hostile.oddities import MODELS, NONSENSE, STEPS, Oddity
from tests.hostile.scenarios import SCENARIOS

_PAGE = """<!-- Written by `make docs`; do not edit. -->
# Failure modes

What the exporter does when the API fails. The tests reproduce every row of the tables against the whole
exporter and check what it says here. Those of the first two tables they play on the first page of the list,
and one for each reason and each message also on a later page and on step metrics.

## Why did it stop polling?

It never stops: it may be backing off after failures, or spreading its polls to stay within the quota. (A
quota that cannot pay for a whole list is the exception: `poll failed` says so, and what to raise.) To see
the reason and the next poll, open the landing page, or query

```console
$ curl -s localhost:10220/metrics | grep -E '^cohere_(up|exporter_(last_poll|next_poll|api_calls_left))'
```

`cohere-finetune-exporter check`, with the exporter's configuration, polls at once and says what to do. (With
a quota, it uses calls that the exporter does not count.)

{backoff}

## What always holds

- `/metrics` and `/-/healthy` return 200 whatever the API does; so does `/-/ready` once the first poll has
  ended.
- A failure on any page of the list fails the whole poll: `cohere_up` is 0,
  `cohere_exporter_poll_failures_total` increments for the reason, and the last good data is served until it
  is older than `--poll.stale-after` and the backoff in force. Stale data is dropped rather than served as
  current, and stays dropped until a poll succeeds. The log has one line, `poll failed`, and another only when
  the reason changes or the data becomes stale; the landing page says the same.
- A failure on step metrics affects only that model: `cohere_up` stays 1,
  `cohere_exporter_training_metrics_failures_total` increments for the reason, and the model keeps its last
  good values. The log has one line, `step metrics cannot be read`. A 404 or 410 for a model without step
  metrics means that it has none yet: it is counted but not logged.
- A failure that comes and goes is logged at most once a minute for one reason; the counters have every one.
- `check` exits with 1 and prints the same message, the reason and what to do. When only step metrics fail, it
  prints the models and the failure, and exits with 0.
- Transient failures (a lost connection, a timeout, 408, 409, 429, 5xx) are retried twice within a poll,
  unless the API asks for more than 30 seconds or the quota has no calls to spare; failures that waiting does
  not fix [back off exponentially](configuration.md#backoff).
- Once the cause is gone, the next poll recovers, without a restart; after a long failure it may be one
  backoff away, and step metrics of a model up to nine polls. The log says so in one line, if it
  had told of the failure.
- When the response had a complete head, the log line has the API's `x-debug-trace-id` as `trace_id`.
- No secret appears in any of these: neither the API key nor `settings.wandb.api_key`.

## The API fails

`api:443` stands for the host and port of `--cohere.base-url`, 30 s for `--cohere.timeout`. A page of step
metrics may have up to 4 MiB, a page of models 16 MiB.

{modes}

## The whole response is invalid

It is an `invalid_response`, a failure like any other.

{nonsense}

## Part of the response is invalid

Only that part is lost: `cohere_up` is 1, all other models are unaffected, and
`cohere_exporter_rejected_items_total` counts the skipped part by `kind`. It is logged only at
`--log.level=debug`. Where no kind is given, nothing is counted.

{models}

Step metrics:

{steps}

## Over time, and on the network

`/-/healthy` and `/-/ready` return 200 throughout.

{scenarios}

## What the log looks like

Lines are shortened and wrapped here.

A key that is refused, for as long as it is refused:

```text
level=error msg="poll failed" reason=unauthorized error="HTTP 401: unauthorized"
  trace_id=1d2a4226… advice="…" next_poll_seconds=60
```

An API that is not reachable, at the start:

```text
level=warn msg="first API request failed; retrying" reason=connection
  error="cannot connect to api:443: Connection refused"
level=error msg="poll failed" reason=connection error="cannot connect to api:443: Connection refused"
  advice="…" next_poll_seconds=59
```

One model whose step metrics are gone, while all others are read:

```text
level=warn msg="step metrics cannot be read; last good values stay" model_id=ca99ddfc-… reason=gone
  error="HTTP 404: not found" trace_id=b233b902… advice="…"
```

A thousand models that go offline at once: a hundred lines, and one for the rest of the minute:

```text
level=info msg="model status changed" model_id=668ee713-… model_name=chat-v1
  status=STATUS_TEMPORARILY_OFFLINE was=STATUS_READY
…
level=info msg="further changes of models not logged one by one" models=900
```
"""


_BACKOFF = (
    (
        "`unauthorized` (401), `forbidden` (403), `payment_required` (402)",
        "the key or the account: [rotate the key](secrets.md#rotate-the-key)",
        "exponential backoff, up to 15 minutes; at once when the key file changes",
    ),
    (
        "`gone` (404, 410)",
        "fine-tuning API not found at `--cohere.base-url`",
        "exponential backoff, up to 10 minutes",
    ),
    (
        "`rate_limited` (429)",
        "others use the same key, or its monthly quota is used up",
        "after `Retry-After`, else within the interval; exponential backoff when the quota is used up",
    ),
    (
        "`server_error` (5xx), `timeout`, `connection`, `invalid_response`",
        "the API, or the network, proxy or gateway in between ([networks](networks.md))",
        (
            "after the interval, or one minute if that is shorter, doubling up to the interval; "
            "after a list that never ends, up to 10 minutes"
        ),
    ),
    (
        "`internal_error`",
        "the exporter: a bug, or no memory. See the traceback in the log, and check the memory limit",
        "as above",
    ),
    (
        "none, and `cohere_up` is 1",
        "an idle fleet (`--poll.idle-interval`) or a quota ([API calls](calls.md)) lengthens the interval",
        "after `cohere_exporter_poll_interval_seconds`",
    ),
)


def failure_modes_page() -> str:
    """Return docs/failure-modes.md."""
    modes = (
        (mode.name, f"`{mode.reason}`", mode.says.format(api="api:443", timeout="30 s", size="16 MiB"))
        for mode in MODES
    )
    scenarios = ((row.name, row.during, row.after) for row in SCENARIOS)
    nonsense = ((row.name, row.says.format(key="finetuned_models", values="400,000")) for row in NONSENSE)
    odd = ("the response has", "exported", "`kind`")
    return _PAGE.format(
        backoff=markdown(("`reason`", "usual cause", "next poll"), _BACKOFF),
        nonsense=markdown(("the response is", "the log and `check` say"), nonsense),
        models=markdown(odd, map(_oddity, MODELS)),
        steps=markdown(odd, map(_oddity, STEPS)),
        modes=markdown(("the API", "`reason`", "the log and `check` say"), modes),
        scenarios=markdown(("what happens", "what you see", "how it ends"), scenarios),
    )


def _oddity(row: Oddity) -> tuple[str, ...]:
    return row.name, row.shown, f"`{row.counted}`" if row.counted else ""
