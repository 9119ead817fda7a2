"""Expressions that several panels share.

Series of a model are aggregated by its id and name before anything else happens to them, so that two
exporters of the same account, or one that was moved to another instance, count as one.
"""

from exporter.model import Status
from grafana.looks import LOOKS, code

MODEL = "model_id, model_name"
ALERTS = 'alertname=~"Cohere.*"'
ALERT_LABELS = "alertname, severity, model_id, model_name"


def per_model(family: str, selector: str = "") -> str:
    """Give one series a model of a family, whichever exporter tells it."""
    return f"max by ({MODEL}) (cohere_finetuned_model_{family}{braces(selector)})"


def braces(selector: str) -> str:
    """Put a selector into braces, if there is one."""
    return f"{{{selector}}}" if selector else ""


def in_status(status: Status, selector: str = "") -> str:
    """Give the models that are in a status now, for use after `and on (model_id)`."""
    matchers = ", ".join(filter(None, (selector, f'status="{status}"')))
    return f"max by (model_id) (cohere_finetuned_model_status{{{matchers}}}) == 1"


def status_code(selector: str = "") -> str:
    """Give the status of each model as the number it has in `looks`."""
    known = "|".join(LOOKS)
    terms = [_status_term(0, f'status!~"{known}"', selector)]
    terms += [_status_term(code(status), f'status="{status}"', selector) for status in LOOKS]
    return f"max by ({MODEL}) (\n  " + "\n  or ".join(terms) + "\n)"


def _status_term(number: int, matcher: str, selector: str) -> str:
    matchers = ", ".join(filter(None, (selector, matcher)))
    return f"{number} * (cohere_finetuned_model_status{{{matchers}}} == 1)"


def labelled(label: str, terms: dict[str, str], hide_by: str | None = None) -> str:
    """Join expressions into one query, whose series are told apart by `label`.

    With `hide_by`, a series hides those of later terms that are the same in these labels.
    """
    matching = "" if hide_by is None else f"on ({hide_by}) "
    return f"\nor {matching}".join(
        f'label_replace({term}, "{label}", "{value}", "", "")' for value, term in terms.items()
    )


def sorted_by_name(expression: str) -> str:
    """Make Prometheus, which sorts series by their labels, give them by the model's name, not its id."""
    return f'label_replace({expression}, "by_name", "$1", "model_name", "(.*)")'


def number_in_status(status: Status) -> str:
    """Give how many models, told apart by their ids, are in a status now; nothing where no data is fresh."""
    # What `cohere_finetuned_models` counts in two accounts can neither be added up, for two exporters may
    # share an account, nor reduced to the larger.
    return f"(count({in_status(status)}) or 0 * max(cohere_finetuned_models))"


def age_of_data(selector: str = "", by: str = "") -> str:
    """Give the seconds since the last success, labelled fresh, late or stale by the settings in force.

    Of several exporters in a group the worst counts, each judged by its own settings.
    """
    group = f" by ({by})" if by else ""
    # Before the first success the time is 0, and the age would be that of Unix.
    age = f"(time() - (cohere_exporter_last_success_timestamp_seconds{braces(selector)} > 0))"
    limit = f"cohere_exporter_stale_after_seconds{braces(selector)}"
    # A state hides those after it.
    worst_first = {"stale": f"{age} > {limit}", "late": f"{age} > {limit} / 2", "fresh": age}
    states = {state: f"max{group} ({exporters})" for state, exporters in worst_first.items()}
    return labelled("age", states, hide_by=by)
