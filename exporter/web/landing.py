"""The landing page: what the exporter knows, for a person who opens it in a browser.

`Overview` → HTML, and nothing else: no script, nothing loaded from elsewhere, every text escaped. What is
not known or too old is said in words, never shown as a number; colour only repeats what a word says.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

from exporter.families import bounded_counts
from exporter.model import PollOutcome, Status
from exporter.web.style import STYLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """Everything the page shows.

    Times are in Unix seconds, durations in seconds. `api_url` holds no credentials; `outcome` is None before
    the first poll has finished; `counts` are the models in each status, None when there are none to show or
    the last good ones are too old; `calls_left` is None without a budget of calls.
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
    counts: Mapping[str, int] | None
    dropped: int
    now: float


def content_security_policy() -> str:
    """Give the policy the page is made for: its own style sheet, known by its hash, and nothing else."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    sources = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:"
    return f"{sources}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def render(overview: Overview) -> str:
    """Give the page as HTML."""
    name = escape(overview.name)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{_headline(overview.outcome)} &ndash; {name}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>{name}</h1>
<p>Prometheus exporter for fine-tuned models on Cohere's API</p>
</header>
<main>
{_simulated(overview)}{_poll(overview)}
{_fleet(overview)}
</main>
{_links(overview)}
<footer>{_build(overview)}</footer>
</body>
</html>
"""


def _simulated(overview: Overview) -> str:
    if not overview.simulated:
        return ""
    return (
        '<p class="simulated" role="note"><strong>Simulated data.</strong> '
        "These models come from a built-in imitation of the API; none of them exists.</p>\n"
    )


def _headline(outcome: PollOutcome | None) -> str:
    if outcome is None:
        return "Waiting for the first poll"
    return "The last poll failed" if outcome.reason else "The last poll worked"


def _poll(overview: Overview) -> str:
    outcome = overview.outcome
    kind, mark = (
        ("waiting", "…") if outcome is None else ("failing", "!") if outcome.reason else ("working", "✓")
    )
    return f"""<section class="poll {kind}">
<h2><span class="mark" aria-hidden="true">{mark}</span> {_headline(outcome)}</h2>
{_failure(outcome)}<dl>
{_facts(overview)}
</dl>
</section>"""


def _failure(outcome: PollOutcome | None) -> str:
    if outcome is None or outcome.reason is None:
        return ""
    message = f": {escape(outcome.message)}" if outcome.message else ""
    cause = f'<p class="message"><code>{escape(outcome.reason)}</code>{message}</p>\n'
    return f"{cause}<p>{escape(outcome.advice)}</p>\n"


def _facts(overview: Overview) -> str:
    outcome, now = overview.outcome, overview.now
    facts = {
        "Last poll": "none has finished yet" if outcome is None else _moment(outcome.finished_at, now),
        "Last good poll": "none yet"
        if overview.last_success_at is None
        else _moment(overview.last_success_at, now),
        "Polls": f"every {_duration(overview.interval)}{_next(overview)}",
        **_calls(overview.calls_left),
        "API": f"<code>{escape(overview.api_url)}</code>",
    }
    return "\n".join(f"<dt>{term}</dt><dd>{fact}</dd>" for term, fact in facts.items())


def _next(overview: Overview) -> str:
    """Say when the next poll comes, where that is later than usual: after refusals the API is left alone."""
    if overview.next_poll_at is None or overview.outcome is None or overview.outcome.reason is None:
        return ""
    if overview.next_poll_at - overview.outcome.finished_at <= overview.interval + 1:
        return ""
    return f"; after this failure the next one in {_duration(max(overview.next_poll_at - overview.now, 0))}"


def _calls(left: int | None) -> dict[str, str]:
    return {} if left is None else {"Calls left": f"{left:,} of the month's budget"}


def _fleet(overview: Overview) -> str:
    counts = overview.counts
    if counts is None:
        return f"<section>\n<h2>Models</h2>\n<p>{_absence(overview)}</p>\n</section>"
    total = sum(counts.values())
    every = {**dict.fromkeys(map(str, Status), 0), **counts}
    rows = "\n".join(_row(status, count) for status, count in bounded_counts(every).items())
    return f"""<section>
<h2 class="total"><strong>{total:,}</strong> {"model" if total == 1 else "models"}</h2>
{_remarks(overview)}<table>
<caption>How many are in each status</caption>
<thead><tr><th scope="col">Status</th><th scope="col">Models</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</section>"""


def _absence(overview: Overview) -> str:
    if overview.outcome is None:
        return "They appear here and among the metrics as soon as the first poll has finished."
    if overview.last_success_at is None:
        return "No poll has worked yet, so none are known."
    limit = _duration(overview.stale_after)
    return f"Nothing is shown, because what is known is stale: the last good poll is more than {limit} old."


def _remarks(overview: Overview) -> str:
    remarks = []
    if overview.outcome is not None and overview.outcome.reason:
        limit = _duration(overview.stale_after)
        remarks.append(f"These are from the last good poll; they disappear once it is {limit} old.")
    if overview.dropped:
        remarks.append(
            f"{overview.dropped:,} of them, the oldest, are over the limit and have no metrics of their own."
        )
    return "".join(f"<p>{remark}</p>\n" for remark in remarks)


def _row(status: str, count: int) -> str:
    failed = status == Status.FAILED and count > 0
    kind = "failed" if failed else "some" if count else "none"
    label = ("! " if failed else "") + escape(status.removeprefix("STATUS_").replace("_", " "))
    return f'<tr class="{kind}"><th scope="row"><span class="chip">{label}</span></th><td>{count:,}</td></tr>'


def _links(overview: Overview) -> str:
    pages = {overview.telemetry_path: "Metrics", "/-/healthy": "Health", "/-/ready": "Readiness"}
    items = "".join(f'<li><a href="{escape(path)}">{label}</a></li>' for path, label in pages.items())
    return f'<nav aria-label="Pages"><ul>{items}</ul></nav>'


def _build(overview: Overview) -> str:
    revision = f", revision <code>{escape(overview.revision)}</code>" if overview.revision else ""
    return f"Version {escape(overview.version)}{revision}"


def _moment(at: float, now: float) -> str:
    when = datetime.fromtimestamp(at, UTC)
    moment = f'<time datetime="{when:%Y-%m-%dT%H:%M:%SZ}">{when:%Y-%m-%d %H:%M:%S} UTC</time>'
    return f'{_duration(max(now - at, 0))} ago <span class="none">({moment})</span>'


def _duration(seconds: float) -> str:
    """Give a duration in its one or two largest units: 12 s, 1 min 30 s, 2 h, 3 d 4 h."""
    rest = round(seconds)
    parts = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        parts.append((count, unit))
    while len(parts) > 1 and parts[0][0] == 0:
        del parts[0]
    return " ".join(f"{count} {unit}" for i, (count, unit) in enumerate(parts[:2]) if count or i == 0)
