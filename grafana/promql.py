"""Expressions that several panels share.

`cluster`, `namespace` and `job` identify an exporter's account: two accounts never mix, and several instances
of one count once, because series are aggregated by these labels before anything else happens to them. A label
that a Prometheus does not set matches as empty, so it costs nothing. No expression relies on NaN, which some
engines drop.
"""

from deploy.prometheus.exporters import NAMED
from deploy.prometheus.rows import SELECTOR
from deploy.prometheus.thresholds import THRESHOLDS
from exporter.families import STEP_FAMILIES
from exporter.model import Status
from exporter.rules import rules
from grafana.looks import LOOKS, code

IDENTITY = "cluster, namespace, job"
EXPORTER = f"{IDENTITY}, instance"
MODEL = f"{IDENTITY}, model_id"
CHOSEN = 'cluster=~"$cluster", namespace=~"$namespace", job=~"$job"'
"""Selects what the dashboard's variables name."""
CHOSEN_STEPS = CHOSEN.replace('"$job"', '"($job)(-steps)?"')
"""The same of /metrics/steps, whose job has a name of its own."""
DAY = 86400
HOLD, REMEMBERED = (THRESHOLDS[name].value for name in ("hold", "remembered"))

_STEPS = {family.name for family in STEP_FAMILIES}

FALLING = "(?i).*(loss|entropy|perplexity|error).*"
"""Metrics that fall as a run gets better. All others count as rising; the names are an open set."""


def chosen(family: str, *matchers: str) -> str:
    """Return the series of a family that the variables select."""
    own = CHOSEN_STEPS if family in _STEPS else CHOSEN
    return f"{family}{{{', '.join((own, *matchers))}}}"


def per_model(family: str, *matchers: str, labels: str = "", fold: str = "max") -> str:
    """Return one series a model (and value of the further `labels`), whichever instance exports it."""
    by = ", ".join(filter(None, (MODEL, labels)))
    return f"{fold} by ({by}) ({chosen(f'cohere_finetuned_model_{family}', *matchers)})"


def named(expression: str) -> str:
    """Return the expression with a `model_name` on models that have none, so that they can be clicked."""
    return f'label_replace({expression}, "model_name", "(no name)", "model_name", "")'


def with_short_id(expression: str, label: str) -> str:
    """Return the expression with a label of name and beginning of the id: names are not unique."""
    short = f'label_replace({named(expression)}, "short", "$1", "model_id", "(.{{0,8}}).*")'
    return f'label_join({short}, "{label}", " · ", "model_name", "short")'


def in_status(status: Status, *matchers: str) -> str:
    """Return the models that are in a status now, for use after `and on (…)`."""
    return per_model("status", f'status="{status}"', *matchers) + " == 1"


def status_code(*matchers: str) -> str:
    """Return the status of each model as the number it has in `looks`."""
    known = "|".join(LOOKS)
    terms = [_status_term(0, f'status!~"{known}"', *matchers)]
    terms += [_status_term(code(status), f'status="{status}"', *matchers) for status in LOOKS]
    return f"max by ({MODEL}, model_name) (\n  " + "\n  or ".join(terms) + "\n)"


def _status_term(number: int, *matchers: str) -> str:
    return f"{number} * ({chosen('cohere_finetuned_model_status', *matchers)} == 1)"


def labelled(label: str, terms: dict[str, str], hide_by: str | None = None) -> str:
    """Join expressions into one query, whose series are told apart by `label`.

    With `hide_by`, a series hides those of later terms that are the same in these labels.
    """
    matching = "" if hide_by is None else f"on ({hide_by}) "
    return f"\nor {matching}".join(
        f'label_replace({term}, "{label}", "{value}", "", "")' for value, term in terms.items()
    )


def number_in_status(status: Status, hold: int = 0) -> str:
    """Return how many models are in a status now; nothing where no fresh data is.

    With `hold` an account without data counts as it last was, for so many seconds.
    """
    number = chosen("cohere_finetuned_models", f'status="{status}"')
    accounts = f"max by ({IDENTITY}) ({number})"
    if hold:
        accounts += f" or max by ({IDENTITY}) (last_over_time({number}[{hold}s]))"
    return f"sum({accounts})"


def new_failures() -> str:
    """Return the models that failed within a day: those for which the alert about it fires."""
    alerts = [rule for group in rules({"selector": CHOSEN})["groups"] for rule in group["rules"]]
    return next(str(alert["expr"]) for alert in alerts if alert["alert"] == "CohereModelFailed")


def remembered(series: str) -> str:
    """Return the last samples in the time range, and in the time for which the alerts expect an exporter."""
    return f"last_over_time({series}[$__range]) or last_over_time({series}[{REMEMBERED}s])"


def expected(by: str, *matchers: str) -> str:
    """Return what there should be an exporter of, by these labels, as the alerts know it.

    That is what was scraped, and targets that never answered but are exporters by their names.
    """
    named_so = (selector.replace(SELECTOR, ", ".join((CHOSEN, *matchers))) for selector in NAMED)
    never_answered = (f"max_over_time({selector}[{REMEMBERED}s]) == 0" for selector in named_so)
    build = remembered(chosen("cohere_exporter_build_info", *matchers))
    return f"max by ({by}) (\n  " + "\n  or ".join((build, *never_answered)) + "\n)"


def age_of_data(*matchers: str) -> str:
    """Return the seconds since the last success, labelled by what they mean; -1 where there was none.

    The best instance counts for its account, and the worst account is shown. Only one that is scraped now can
    be fresh: of one that vanished the last time is known, but no data is left.
    """

    def own(family: str) -> str:
        return chosen(f"cohere_exporter_{family}_seconds", *matchers)

    scraped, limit = (
        f"max by ({IDENTITY}) ({own(each)})" for each in ("last_success_timestamp", "stale_after")
    )
    success = f"({scraped} or max by ({IDENTITY}) ({remembered(own('last_success_timestamp'))}))"
    # Before the first success the time is 0, and the age would be that of Unix. Clocks differ: clamp.
    age = f"clamp_min(time() - ({success} > 0), 0)"
    worst_first = {
        "gone": f"{age} unless {scraped}",
        "never": f"({success} == 0) - 1 or 0 * {expected(IDENTITY, *matchers)} - 1 unless {success}",
        "stale": f"{age} > {limit}",
        "late": f"{age} > {limit} / 2",
        "fresh": age,
    }
    return labelled("age", {state: f"max({accounts})" for state, accounts in worst_first.items()}, hide_by="")


def best(labels: str, *matchers: str) -> str:
    """Return the best value of each metric of each model: the lowest of those that fall, else the highest."""
    falling = per_model("training_metric_min", f'metric=~"{FALLING}"', *matchers, labels=labels, fold="min")
    rising = per_model("training_metric_max", f'metric!~"{FALLING}"', *matchers, labels=labels)
    return f"{falling}\nor {rising}"
