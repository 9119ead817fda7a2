"""One model beside others: its best values, its predecessor, a chosen baseline, curves by training step."""

from grafana_foundation_sdk.models.dashboard import Panel

from grafana.panels import Column, by_step, listing
from grafana.promql import FALLING, IDENTITY, chosen, with_short_id

THIS, BASELINE, BEFORE = 'model_id="$model_id"', 'model_id="$baseline"', 'model_id="$predecessor"'

COMPARED = 5
"""Models whose curves are drawn beside the one that is shown."""

CREATED, NAMED = "cohere_finetuned_model_created_timestamp_seconds", 'model_name!=""'
PREDECESSOR = (
    f"topk(1, max by ({IDENTITY}, model_id, model_name) ({chosen(CREATED, NAMED)})\n"
    f"< on ({IDENTITY}, model_name) group_left () max by ({IDENTITY}, model_name) ({chosen(CREATED, THIS)}))"
)
"""The model of the same name, in the same account, that was created last before this one."""


def evaluation() -> Panel:
    """Build the table of the metrics: latest, best, and what others had at the same step."""
    latest, best = _metric("training_metric", THIS), _best(THIS)
    columns = {
        "Latest": latest,
        "At step": _metric("training_metric_step", THIS),
        "Best": best,
        "From the best": f"abs(({latest}) - ({best}))",
        "Predecessor, same step": _same_step(BEFORE),
        "Predecessor, best": f"({_best(BEFORE)})\nand on (metric) ({latest})",
        "Baseline, same step": _same_step(BASELINE),
        "Baseline, best": f"({_best(BASELINE)})\nand on (metric) ({latest})",
    }
    return listing(
        "Evaluation",
        "Each evaluation metric: its latest value and the step it comes from, the best one of this run, and "
        "how far the latest is from it; beside it what the predecessor of the same name and the chosen "
        "baseline had at the same step, as far as Prometheus saw their training in the last 30 days, and "
        "their best.",
        *columns.values(),
        columns=[
            Column(field="metric", title="Metric"),
            *(
                Column(
                    field=f"Value #{ref_id}",
                    title=title,
                    unit="none",
                    decimals=0 if title == "At step" else 4,
                    width=100 if index < 4 else 175,
                )
                for index, (ref_id, title) in enumerate(zip("ABCDEFGH", columns, strict=True))
            ),
        ],
        sort_by="Metric",
        empty="No step has metrics yet, or no data",
    )


def curves_by_step() -> Panel:
    """Build the chart of one metric of several models over training steps."""
    models, metric = 'model_id=~"$model_id|$compare"', 'metric="$metric"'
    by = "by (model_id, model_name)"

    def either(complete: str, polled: str) -> str:
        return f"max {by} ({complete})\nor max {by} ({polled})"

    def of(family: str, *matchers: str) -> str:
        return chosen(f"cohere_finetuned_model_{family}", models, *matchers)

    value = either(of("step_metric", metric), of("training_metric", metric))
    value = f"({value})\nand on (model_id) ({_drawn()})"
    step = either(of("step_number"), of("training_metric_step", metric))
    return by_step(
        "One evaluation metric by training step",
        f"The chosen metric of this model and of up to {COMPARED} chosen to compare, over the training step "
        "instead of the time. The time range must reach back to the training of all of them.",
        _shown(f"({step})\nand on (model_id) ({value})"),
        _shown(value),
        empty="No steps with this metric in this time range, or no data",
    )


def _drawn() -> str:
    """Return this model and those to compare that were created last, the same all over the time range."""

    def created(*matchers: str) -> str:
        at_the_end = (
            f"last_over_time({chosen(family, *matchers)}[$__range] @ end())"
            for family in (CREATED, "cohere_finetuned_model_info")
        )
        return "max by (model_id) ({} or on (model_id) 0 * {})".format(*at_the_end)

    others = created('model_id=~"$compare"', 'model_id!="$model_id"')
    return f"{created(THIS)} or topk({COMPARED}, {others})"


def _shown(expression: str) -> str:
    return f"max by (model) ({with_short_id(f'({expression})', 'model')})"


def _metric(family: str, model: str, *matchers: str, fold: str = "max") -> str:
    return f"{fold} by (metric) ({chosen(f'cohere_finetuned_model_{family}', model, *matchers)})"


def _best(model: str) -> str:
    falling = _metric("training_metric_min", model, f'metric=~"{FALLING}"', fold="min")
    rising = _metric("training_metric_max", model, f'metric!~"{FALLING}"')
    return f"{falling}\nor {rising}"


def _same_step(model: str) -> str:
    """Return what a model had of each metric when it was no further than this one is now."""
    this = f"max by (metric) ({chosen('cohere_finetuned_model_training_metric_step', THIS)} @ end())"
    until = f"{_metric('training_metric_step', model)} <= on (metric) {this}"
    return f"last_over_time(({_metric('training_metric', model)} and on (metric) ({until}))[30d:5m])"
