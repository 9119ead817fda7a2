"""Every number the rules are built on, each with its reason; the index of the runbooks prints them.

The template of the rules names a threshold as `@name@`, and whoever renders it may set another value. All
are whole numbers, in the unit that `unit` says: an expression compares with seconds (`> 3600`) and a range
takes them as well (`[3600s]`).
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Threshold:
    """One number and why it is this one; `name` is that of its field in `Thresholds`."""

    value: int
    why: str
    unit: str = "seconds"
    name: str = ""

    def __str__(self) -> str:
        """Return what stands for the number in the template."""
        return f"@{self.name}@"


_ALL = {
    # Models.
    "hold": Threshold(
        3600,
        "While no exporter delivers the fleet (restart, rollout, outage), what was last known of the models "
        "holds this long, so that their alerts do not resolve and fire again.",
    ),
    "settle": Threshold(
        600, "After a start, step metrics are read later than statuses; their last values bridge that time."
    ),
    "failed_age": Threshold(86400, "A failure older than a day is known or will not be acted on."),
    "queued_idle": Threshold(
        7200,
        "Jobs of an account run one after another: waiting behind a training run is normal, waiting this "
        "long while none runs is not.",
    ),
    "queued_busy": Threshold(
        86400, "A training run takes from an hour to a day: no queue should cost more than that."
    ),
    "deploying": Threshold(3600, "A deployment takes seconds to minutes."),
    "offline": Threshold(900, "A model that is temporarily offline should be back within minutes."),
    "step_silence": Threshold(
        3600, "Evaluations come minutes apart at most; the API's documentation shows 52 seconds."
    ),
    "first_step_silence": Threshold(
        14400,
        "Data preparation and warm-up come before the first evaluation: 13 minutes for a tiny job in the "
        "API's documentation, hours for a large one.",
    ),
    "steps_read": Threshold(
        10800, "A missing step counts only if step metrics of some model were read this recently."
    ),
    # The API and the exporter.
    "recent": Threshold(
        900, "How old a sample may be and still count: scrapes 5 minutes apart, two of them lost."
    ),
    "unseen": Threshold(
        600, "The window without a fleet; `CohereFleetUnseen` fires 5 minutes later, after 15 in all."
    ),
    "remembered": Threshold(
        604800,
        "An exporter that Prometheus scraped this recently, or tried to, is expected to be there: a week.",
    ),
    "down_window": Threshold(1800, "The window over which the availability of a target is measured."),
    "down_percent": Threshold(
        75,
        "Scrapes in the window that must succeed; a target that loses one scrape in three is unreliable, "
        "one that restarts once is not.",
        unit="percent",
    ),
    "api_down_percent": Threshold(
        50,
        "Share of stale-after without a good poll: with the default of 5 intervals two missed polls are "
        "tolerated and the third is due.",
        unit="percent",
    ),
    "api_down_polls": Threshold(
        2, "Failed polls tolerated after a start, when there is no success to count from.", unit="polls"
    ),
    "refused_window": Threshold(
        900, "The window over which refusals are compared with failures of every kind."
    ),
    "refused_percent": Threshold(
        30,
        "Share of the failures in that window that makes them CohereCredentialsRefused instead of "
        "CohereApiDown; neither a timeout among refusals nor a refusal in an outage reaches the other side.",
        unit="percent",
    ),
    "reading_window": Threshold(
        21600,
        "Persistent read failures are told from noise by how often they recur; the window sees one twice at "
        "intervals of up to 21 minutes.",
    ),
    "reading_intervals": Threshold(
        17,
        "A model that cannot be read is retried about every 8.5 intervals; half as many failures as that "
        "yields in the window count as persistent.",
        unit="intervals",
    ),
    "dropped": Threshold(900, "Series left out for less than this are no news."),
}

THRESHOLDS = {name: replace(threshold, name=name) for name, threshold in _ALL.items()}
