"""The subcommands, and the flags and operands that only one of them takes: one row each.

Flags of this kind are questions asked once, at a terminal; they have no variable and no YAML key.
"""

import sys
from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Subcommand(StrEnum):
    """What the program is to do."""

    SERVE = "serve"
    DEMO = "demo"
    CHECK = "check"
    HISTORY = "history"
    DASHBOARDS = "dashboards"
    RULES = "rules"


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag and the word for its value: none for a switch, with a `|` in it a choice.

    A flag that belongs to a `group` is an option, which also has a variable and a YAML key.
    """

    flag: str
    meaning: str
    metavar: str = ""
    repeatable: bool = False
    default: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """What a subcommand is for, what it takes beside the options, and the groups of options that it reads.

    `operands` is as `--help` writes them, and `counts` how many there may be. Options that are not read are
    still accepted and validated, because they may be in the file that configures `serve`; a subcommand that
    reads none accepts none.
    """

    meaning: str
    flags: Sequence[Flag] = ()
    operands: str = ""
    counts: Container[int] = (0,)
    reads: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """A subcommand as it was called."""

    subcommand: Subcommand
    operands: tuple[str, ...] = ()
    flags: Mapping[str, Any] = field(default_factory=dict)

    @property
    def simulated(self) -> bool:
        """Whether the API is a simulated one inside this process."""
        return self.subcommand is Subcommand.DEMO or "--demo" in self.flags


# What would point at an API is refused beside a simulated one.
REAL_API = ("cohere.base-url", "cohere.api-key-file")

_API = ("config", "cohere", "training", "log")
_SERVED = (*_API, "poll", "models", "metrics", "web")

SUBCOMMANDS: Mapping[Subcommand, Row] = {
    Subcommand.SERVE: Row("poll and serve the metrics until SIGTERM (the default)", reads=_SERVED),
    Subcommand.DEMO: Row("the same with a simulated API: no key, no network", reads=(*_SERVED, "demo")),
    Subcommand.CHECK: Row(
        "poll once and print the models, or what is wrong",
        (
            Flag(
                "--output",
                "Print a table that fits the terminal, all columns in full (wide), or JSON.",
                "table|wide|json",
                default="table",
            ),
            Flag("--config-only", "Validate the configuration and its files; do not call the API."),
            Flag("--demo", "Check the simulated API; needs no key and no network."),
        ),
        reads=(*_API, "models", "metrics", "demo"),
    ),
    Subcommand.HISTORY: Row(
        "write every training step, for a backfill",
        (
            Flag(
                "--label",
                "Label added to each series, such as job or instance; repeatable.",
                "NAME=VALUE",
                repeatable=True,
            ),
            Flag("--since", "Leave out steps up to this time (RFC 3339, or Unix seconds).", "TIME"),
            Flag("--output", "Write to this file, replaced once complete (default: stdout).", "FILE"),
            Flag("--demo", "Read the simulated API; needs no key and no network."),
        ),
        operands="[MODEL_ID ...]",
        counts=range(sys.maxsize),
        reads=(*_API, "demo"),
    ),
    Subcommand.DASHBOARDS: Row("write the Grafana dashboards of this version", operands="DIR", counts=(1,)),
    Subcommand.RULES: Row(
        "write the Prometheus rules of this version",
        (
            Flag("--values", "YAML file with thresholds, severities, labels and links.", "FILE"),
            Flag("--recording", "Write the recording rules instead of the alerts."),
        ),
        operands="[FILE]",
        counts=(0, 1),
    ),
}
