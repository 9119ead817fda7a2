"""Every number the rules are built on, each with its reason; the index of the runbooks prints them.

A `Threshold` is written into an expression as PromQL reads it: a comparison takes seconds, so times read as
products ("2 * 3600"); the width of a range reads as a duration ("10m"). Change a number here, then run
`make rules`.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Threshold:
    """One number, as PromQL writes it, and why it is this one."""

    value: str
    why: str

    def __str__(self) -> str:
        """Give the number for an expression."""
        return self.value


# How gaps in the data are bridged.

HOLD = Threshold(
    "1h",
    "What was last known of the models holds so long while no exporter delivers a fleet: alerts must not "
    "resolve and fire anew around a restart, a rollout or an outage of the API.",
)
SETTLE = Threshold(
    "10m",
    "After a start the step metrics come later than the statuses; their last values bridge that time.",
)

# Models.

FAILURE_AGE = Threshold(
    "24 * 3600", "A failure older than a day, by the API's own times, is known or will not be acted on."
)
UNTIMED_FAILURE_AGE = Threshold(
    "3 * 24 * 3600",
    "A failure of which the API tells no time counts as new while the model is younger: a day in the queue, "
    "a day in training, a day to act.",
)
QUEUED_IDLE = Threshold(
    "2 * 3600",
    "Jobs of an account run one after another, so waiting behind a training is no fault; waiting so long "
    "while nothing is in training is one.",
)
QUEUED_BUSY = Threshold("24 * 3600", "A training takes from an hour to a day: no queue should cost more.")
STEP_SILENCE = Threshold(
    "3600", "Evaluations come minutes apart at most; the specification's example has 52 seconds."
)
FIRST_STEP_SILENCE = Threshold(
    "4 * 3600",
    "Before the first evaluation stand data preparation and warm-up, 13 minutes in the specification's "
    "example of a tiny job; large ones may take hours.",
)
STEPS_READ = Threshold(
    "3h",
    "How recently some model's step metrics must have been read for a missing step to be one: several polls, "
    "for intervals of up to an hour and a half.",
)
DEPLOYMENT = Threshold("3600", "Deployment takes seconds to minutes.")
BEST_OF = Threshold("6h", "The hours whose best value an evaluation metric is compared with.")
LOSS_RISE = Threshold(
    "0.25", "A loss a quarter above its best is clear of noise, which was seen to reach 13 %."
)
SCORE_FALL = Threshold(
    "0.15", "Scores lie between 0 and 1 and vary less than losses: 15 % below the best is clear."
)
SMALLEST_BEST = Threshold(
    "0.1", "The least that a change is measured against, so that the noise of a loss near 0 is none."
)

# The API and the exporter.

MISSED_POLLS = Threshold(
    "2.5", "Poll intervals without success: two missed polls are tolerated, the third is due."
)
FIRST_POLLS = Threshold("2", "Failed polls tolerated after a start, when there is no success to count from.")
REASON_WINDOW = Threshold(
    "24h",
    "How far back the reason of a failure is looked for: longer than any pause between polls, which is an "
    "hour for a spent quota, and hours where a budget of calls or an idle fleet stretches the interval.",
)
OTHER_REASONS = Threshold(
    "20m",
    "When polls have failed for other reasons so recently, an older reason is not blamed: longer than the "
    "exporter's pauses while an API is down.",
)
READING_WINDOW = Threshold(
    "6h",
    "What stays wrong is told from noise by how often it recurs; the window sees it twice at intervals of up "
    "to 21 minutes.",
)
READINGS_FAILED = Threshold(
    "0.5 * 6 * 3600 / 8.5",
    "Divided by the shortest poll interval of the window, half as many failed readings as one model that "
    "keeps failing yields in it: it is asked about every 8.5 intervals.",
)
SEEN_WITHIN = Threshold(
    "7d",
    "A target that does not answer counts as an exporter when it was one so recently; a week "
    "outlasts any week-end.",
)
KEY_WINDOW = Threshold(
    "1h", "How long an unreadable key file is worth telling; nobody can tell when it is mended."
)
WEB_CONFIG_WINDOW = Threshold(
    "24h",
    "How long an unusable web configuration is worth telling: nobody can tell when it is mended, and an old "
    "certificate serves on for weeks, so the alert must still be there in working hours.",
)
