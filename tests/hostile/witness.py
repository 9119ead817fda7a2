"""What people see of the exporter on stage, held to what a row of the table says that they see.

All that can be seen is gathered as it comes: /metrics, the probes, the landing page, the log, `check`. Each
piece of code in a row's text must stand somewhere in what was seen at that time.
"""

import re
from dataclasses import dataclass, field
from html import unescape
from typing import Any, Self

from exporter.exposition import SHARED_FOR
from exporter.model import PollOutcome
from tests.hostile.scenarios import Scenario
from tests.hostile.stage import Checked, Series, Stage

UP = ("cohere_up", frozenset[tuple[str, str]]())
_CODE = re.compile(r"`([^`]+)`")


def models(series: Series) -> Series:
    """Return what is told of the models."""
    return {name: value for name, value in series.items() if name[0].startswith("cohere_finetuned")}


@dataclass
class Witness:
    """Watches the exporter live through a row of the table; `before` is what it first told of the models."""

    stage: Stage
    row: Scenario
    before: Series
    series: Series = field(default_factory=dict)
    log: list[dict[str, Any]] = field(default_factory=list)
    checked: Checked | None = None
    seen: list[str] = field(default_factory=list)

    @classmethod
    async def of(cls, stage: Stage, row: Scenario) -> Self:
        """Begin after a first poll, which must be a good one."""
        outcome = await stage.poll()
        assert outcome.reason is None, outcome
        stage.log()
        return cls(stage, row, models(await stage.series()))

    async def look(self, *, check: bool = True) -> None:
        """See everything there is to be seen now; `log` holds the lines since the last look."""
        stage = self.stage
        await stage.clock.advance(SHARED_FOR + 0.1)
        assert await stage.probe("/-/healthy") == 200
        assert await stage.probe("/-/ready") == 200
        self.log, self.series = stage.log(), await stage.series()
        self.seen += [_shown(name, labels, value) for (name, labels), value in self.series.items()]
        self.seen += [" ".join(f"{name}={value}" for name, value in line.items()) for line in self.log]
        self.seen += [_text(await stage.page("/"))]
        if check:
            self.checked = await stage.check()
            self.seen += [self.checked.out, self.checked.err]

    async def fails(self, reason: str, *, check: bool = True) -> PollOutcome:
        """Live through a poll that fails for this reason, and look: the models stay."""
        outcome = await self.stage.poll()
        assert outcome.reason == reason, outcome
        await self.look(check=check)
        assert self.series[UP] == 0
        assert models(self.series) == self.before
        return outcome

    async def works(self, *, check: bool = False) -> PollOutcome:
        """Live through a good poll, and look: the models are there."""
        outcome = await self.stage.poll()
        assert outcome.reason is None, outcome
        await self.look(check=check)
        assert self.series[UP] == 1
        assert models(self.series) == self.before
        return outcome

    def saw(self, text: str) -> None:
        """Hold a text of the row to what was seen, and begin to gather anew."""
        everything = "\n".join(self.seen)
        missing = [code for code in _CODE.findall(text) if code not in everything]
        words = "\n".join(
            line for line in self.seen if not line.startswith(("cohere_", "process_", "python_"))
        )
        assert not missing, f"{missing} was not to be seen in:\n{words}"
        self.seen.clear()

    def told(self) -> list[str]:
        """Return the messages logged since the look before the last."""
        return [line["msg"] for line in self.log]

    async def recovers(self) -> PollOutcome:
        """Live through the first good poll after it, and hold the end of the row to what is seen."""
        self.saw(self.row.during)
        outcome = await self.works(check=True)
        assert self.checked is not None
        assert self.checked.code == 0
        self.saw(self.row.after)
        return outcome


def _text(page: str) -> str:
    """Return the words of the landing page."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page.split("<main>")[1])).split())


def _shown(name: str, labels: frozenset[tuple[str, str]], value: float) -> str:
    inner = ",".join(f'{label}="{text}"' for label, text in sorted(labels))
    return f"{name}{{{inner}}} {value:g}" if inner else f"{name} {value:g}"
