"""Write `failure-modes.md`: the tables that the tests play against the exporter, in words for people."""

from docs.tables import markdown
from tests.hostile.modes import MODES
from tests.hostile.oddities import MODELS, NONSENSE, STEPS, Oddity
from tests.hostile.scenarios import SCENARIOS

_PAGE = """<!-- Written by `make docs`; do not edit. -->
# Failure modes

What the exporter does when the API fails, row by row. Each row is played by the tests against the whole
exporter and is held to what is said here; the first two tables on the first page of the list, on a later page
and on step metrics. `make docs` writes the tables from those tests.

## What always holds

- `/-/healthy` and `/-/ready` answer 200 whatever the API does; only before the first poll has ended is
  `/-/ready` 503. `/metrics` answers 200.
- A failure on any page of the list costs the whole poll: `cohere_up` is 0,
  `cohere_exporter_poll_failures_total` counts one under the reason, and the models stay as they were last
  seen, until `--poll.stale-after` has passed. Then they are absent: a gap, not a lie. The log has one line,
  `poll failed`, and no other until the reason changes, but for one when the data is stale; the
  landing page says the same.
- A failure on step metrics costs those of that model: `cohere_up` stays 1,
  `cohere_exporter_training_metrics_failures_total` counts one under the reason, its last good values stay.
  The log has one line, `step metrics cannot be read`. A 404 or 410 for a model that never
  had any means that it has none yet: it is counted, and no line is written.
- `check` exits 1 with the same words, the reason and what to do. Where only step metrics fail, it prints the
  models, says so, and exits 0.
- What may pass within seconds (a lost connection, a timeout, 408, 409, 429, 5xx) is tried three times in a
  poll, unless the API asks for a rest of more than 30 seconds or the budget of calls has none to spare; what
  waiting does not fix backs off exponentially ([configuration](configuration.md)).
- When the cause ends, the next poll makes all right again, without a restart. After long failures it may be
  a pause away, and step metrics of one model nine polls. The log says so in one line.
- A line about an answer whose head arrived carries the API's `x-debug-trace-id` as `trace_id`.
- No secret is in any of it: not the key, not `settings.wandb.api_key`.

## The API fails

`api:443` stands for the host and port of `--cohere.base-url`, 30 s for `--cohere.timeout`; step metrics
may have 4 MiB, a list 16.

{modes}

## The answer makes no sense

The whole answer is an `invalid_response`; it counts as any other failure does.

{nonsense}

## A part of the answer is odd

It costs that part and nothing else: `cohere_up` is 1, all other models are untouched, and what was skipped is
counted by `cohere_exporter_rejected_items_total` under a kind. No line is written but at `--log.level=debug`.
Where nothing is counted, the answer is as good as any other. The tests give every field of the specification
two dozen values of every type and size; these are the rules that they hold.

{models}

Step metrics:

{steps}

## Over time, and on the way

`/-/healthy` and `/-/ready` are 200 throughout.

{scenarios}
"""


def failure_modes_page() -> str:
    """Give docs/failure-modes.md."""
    modes = (
        (mode.name, f"`{mode.reason}`", mode.says.format(api="api:443", timeout="30 s", size="16 MiB"))
        for mode in MODES
    )
    scenarios = ((row.name, row.during, row.after) for row in SCENARIOS)
    nonsense = ((row.name, row.says.format(key="finetuned_models", values="400,000")) for row in NONSENSE)
    odd = ("the answer has", "what is shown", "`kind`")
    return _PAGE.format(
        nonsense=markdown(("the answer is", "the log and `check` say"), nonsense),
        models=markdown(odd, map(_oddity, MODELS)),
        steps=markdown(odd, map(_oddity, STEPS)),
        modes=markdown(("the API", "`reason`", "the log and `check` say"), modes),
        scenarios=markdown(("what happens", "what is seen", "how it ends"), scenarios),
    )


def _oddity(row: Oddity) -> tuple[str, ...]:
    return row.name, row.shown, f"`{row.counted}`" if row.counted else ""
