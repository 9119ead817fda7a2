"""The landing page: what the exporter knows, for a person who opens it in a browser.

`Overview` and the query of the URL → HTML, and nothing else: no script, nothing loaded from elsewhere, every
text escaped. What is not known or too old is said in words, never shown as a number; colour only repeats what
a word says. Models are searched and paged by the query, so the page stays small however many there are.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from html import escape
from importlib.resources import files
from string import Template
from urllib.parse import urlencode

from exporter.families import bounded_counts
from exporter.model import PollOutcome, Snapshot
from exporter.triage import by_urgency, statuses_by_urgency, tone
from exporter.web.recent import Curve
from exporter.web.search import Selection
from exporter.web.table import models_table
from exporter.web.words import duration, moment, status_words

_SEARCHABLE = 20  # models from which on there is a search field


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """Everything the page shows.

    Times are in Unix seconds, durations in seconds. `api_url` holds no credentials; `outcome` is None before
    the first poll has finished; `snapshot` is None when there is none to show or the last good one is too
    old; `calls_left` is None without a quota; `curves` are the recent values of models in training, by ID.
    """

    name: str
    version: str
    revision: str
    telemetry_path: str
    api_url: str
    simulated: bool
    outcome: PollOutcome | None
    last_success_at: float | None
    interval: float
    next_poll_at: float | None = None
    stale_after: float
    calls_left: int | None = None
    snapshot: Snapshot | None
    curves: Mapping[str, Curve] = field(default_factory=dict)
    now: float


@cache
def content_security_policy() -> str:
    """Return the policy the page is made for: its own style sheet, known by its hash, and its own form."""
    digest = base64.b64encode(hashlib.sha256(_resource("landing.css").encode()).digest()).decode()
    sources = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:"
    return f"{sources}; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"


def render(overview: Overview, query: str = "") -> bytes:
    """Return the page as HTML; `query` is what follows the `?` of its URL."""
    outcome = overview.outcome
    kind, mark, headline = _state(outcome)
    revision = f", revision <code>{escape(overview.revision)}</code>" if overview.revision else ""
    page = Template(_resource("landing.html")).substitute(
        style=_resource("landing.css"),
        name=escape(overview.name),
        headline=headline,
        kind=kind,
        mark=mark,
        simulated=_simulated(overview),
        failure=_failure(outcome),
        facts=_facts(overview),
        fleet=_fleet(overview, Selection.of(query)),
        links=_links(overview),
        build=f"Version {escape(overview.version)}{revision}",
    )
    return page.encode("utf-8", errors="replace")


@cache
def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _simulated(overview: Overview) -> str:
    if not overview.simulated:
        return ""
    return (
        '<p class="simulated" role="note"><strong>Simulated data.</strong> '
        "These models come from the built-in simulated API; none of them is real.</p>"
    )


def _state(outcome: PollOutcome | None) -> tuple[str, str, str]:
    if outcome is None:
        return "waiting", "…", "Waiting for the first poll"
    failed = "failing", "!", "The last poll failed"
    return failed if outcome.reason else ("working", "✓", "The last poll succeeded")


def _failure(outcome: PollOutcome | None) -> str:
    if outcome is None or outcome.reason is None:
        return ""
    message = f": {escape(outcome.message)}" if outcome.message else ""
    cause = f'<p class="message"><code>{escape(outcome.reason)}</code>{message}</p>\n'
    return f"{cause}<p>{escape(outcome.advice)}</p>"


def _facts(overview: Overview) -> str:
    outcome, now = overview.outcome, overview.now
    good = overview.last_success_at
    facts = {
        "Last poll": "none finished yet" if outcome is None else moment(outcome.finished_at, now),
        "Last successful poll": "none yet" if good is None else moment(good, now),
        "Polls": f"every {duration(overview.interval)}{_next(overview)}",
        **_calls(overview.calls_left),
        "API": f"<code>{escape(overview.api_url)}</code>",
    }
    return "\n".join(f"<dt>{term}</dt><dd>{fact}</dd>" for term, fact in facts.items())


def _next(overview: Overview) -> str:
    """Return when the next poll comes, if the exporter backs off."""
    if overview.next_poll_at is None or overview.outcome is None or overview.outcome.reason is None:
        return ""
    if overview.next_poll_at - overview.outcome.finished_at <= overview.interval + 1:
        return ""
    return f"; backing off, the next one in {duration(max(overview.next_poll_at - overview.now, 0))}"


def _calls(left: int | None) -> dict[str, str]:
    return {} if left is None else {"Calls left": f"{left:,} of the monthly quota"}


def _fleet(overview: Overview, selection: Selection) -> str:
    snapshot = overview.snapshot
    if snapshot is None:
        return f"<h2>Models</h2>\n<p>{_absence(overview)}</p>"
    total = sum(snapshot.status_counts.values())
    parts = [
        f'<h2 class="total"><strong>{total:,}</strong> {"model" if total == 1 else "models"}</h2>',
        *_remarks(overview, snapshot),
        _statuses(snapshot.status_counts, selection),
    ]
    if len(snapshot.states) > _SEARCHABLE or selection:
        parts.append(_search(selection))
    if snapshot.states:
        found = selection.among(by_urgency(snapshot.states))
        parts += models_table(found, selection, curves=overview.curves, now=overview.now)
    return "\n".join(parts)


def _absence(overview: Overview) -> str:
    if overview.outcome is None:
        return "Models appear here and in the metrics once the first poll has finished."
    if overview.last_success_at is None:
        return "No poll has succeeded yet, so no models are known."
    limit = duration(overview.stale_after)
    return f"Nothing is shown, because the data is stale: the last successful poll was more than {limit} ago."


def _remarks(overview: Overview, snapshot: Snapshot) -> Iterable[str]:
    if overview.outcome is not None and overview.outcome.reason:
        limit = duration(overview.stale_after)
        yield f"<p>These are from the last successful poll; they are dropped as stale {limit} after it.</p>"
    if snapshot.dropped:
        yield (
            f"<p>{snapshot.dropped:,} of them, the oldest, exceed --models.limit and are not exported.</p>"
        )


def _statuses(counts: Mapping[str, int], selection: Selection) -> str:
    bounded = bounded_counts(counts)
    items = []
    for status in statuses_by_urgency(bounded):
        if bounded[status]:
            current = ' aria-current="true"' if status == selection.status else ""
            query = "" if current else urlencode({"status": status}, errors="replace")
            items.append(
                f'<li><a class="chip {tone(status)}" href="./?{escape(query)}"{current}>'
                f"{bounded[status]:,} {status_words(status).removeprefix('! ')}</a></li>"
            )
    return f'<ul class="statuses" aria-label="Models in each status">{"".join(items)}</ul>'


def _search(selection: Selection) -> str:
    status = escape(selection.status)
    kept = f'<input type="hidden" name="status" value="{status}">' if status else ""
    return (
        f'<form action="./" role="search">{kept}'
        f'<input type="search" name="q" value="{escape(selection.text)}" maxlength="200" '
        'placeholder="Name, ID or base model" aria-label="Search models"><button>Search</button></form>'
    )


def _links(overview: Overview) -> str:
    pages = {overview.telemetry_path: "Metrics", "/-/healthy": "Health", "/-/ready": "Readiness"}
    # Relative, so that they work behind a proxy with a path prefix.
    return "".join(f'<li><a href=".{escape(path)}">{label}</a></li>' for path, label in pages.items())
