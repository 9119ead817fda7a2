"""The rules of the training steps: what /metrics/steps and a history may show, what must be offered.

Every sample is a row of its model at its own time. Whatever /metrics shows as a model's highest step was on a
page of steps that came soon enough, or is counted as missed.
"""

from collections.abc import Callable, Iterable, Mapping
from io import BytesIO

from exporter.history import ReadSteps, write_history
from exporter.model import FinetunedModel
from tools.soak.fleet import BEGIN, HOUR, SoakFleet
from tools.soak.pages import Step, read_steps
from tools.soak.watch import refuse_secrets

WINDOW = 600.0  # seconds of --training.steps-window
EVERY = WINDOW / 2  # between two visits of the scraper that must get everything
_HISTORY = 6 * HOUR  # before the start; what is older need neither be offered nor counted
_LATE = 120.0  # for the reading that had the step, and for the page to be made


class StepJudge:
    """Judges pages of steps; `find` is told what breaks a rule, `now` gives virtual seconds."""

    def __init__(self, fleet: SoakFleet, *, now: Callable[[], float], find: Callable[[str], None]) -> None:
        self.pages = 0
        self.steps = 0
        self.histories = 0
        self.unseen = 0
        self._fleet = fleet
        self._now = now
        self._find = find
        self._offered: dict[str, int] = {}
        self._awaited: dict[tuple[str, int], float] = {}

    def judge(self, text: str, is_openmetrics: bool, thoroughly: bool) -> None:
        """Read a page of steps, each of which must be a row."""
        refuse_secrets(text, self._find)
        try:
            steps = read_steps(text, is_openmetrics=is_openmetrics, thoroughly=thoroughly)
        except ValueError as error:
            self._find(f"a page of steps makes no sense: {error}")
            return
        self.pages += 1
        self.steps += len(steps)
        self._compare(steps)
        for step in steps:
            self._offered[step.model_id] = max(step.number, self._offered.get(step.model_id, 0))
            self._awaited.pop((step.model_id, step.number), None)

    def shown(self, steps: Mapping[str, float]) -> None:
        """Record the highest steps on a page of /metrics; what nobody was offered in time is unseen."""
        self._offered = {model_id: step for model_id, step in self._offered.items() if model_id in steps}
        for model_id, step in steps.items():
            is_recent = self._fleet.recorded_at(model_id, int(step), BEGIN + self._now()) > BEGIN - _HISTORY
            if is_recent and step > self._offered.get(model_id, -1):
                self._awaited.setdefault((model_id, int(step)), self._now())
        late = [key for key, since in self._awaited.items() if self._now() > since + WINDOW + EVERY + _LATE]
        for model_id, step in late:
            del self._awaited[model_id, int(step)]
            self._offered[model_id] = int(step)
            self.unseen += 1

    def judge_missed(self, missed: float) -> None:
        """Compare what was never offered with what the exporter counted."""
        if self.unseen > missed:
            self._find(f"{self.unseen} steps were never offered, {missed:.0f} counted as missed")

    async def read_history(self, all_steps: ReadSteps, model: FinetunedModel) -> None:
        """Write the history of a model: all that it had when this began, unless the API refuses."""
        begun = self._now()
        out = BytesIO()
        done = await write_history(all_steps, [model], out, labels={"job": "soak"})
        steps = read_steps(out.getvalue().decode(), is_openmetrics=True, thoroughly=True)
        self._compare(steps)
        if not (done.errors or done.ended_by):
            self.histories += 1
            missing = self._fleet.rows(model.id, BEGIN + begun) - {step.number for step in steps}
            if missing and done.models:
                self._find(f"a history lacks steps of {model.id}: {sorted(missing)[:4]}")

    def _compare(self, steps: Iterable[Step]) -> None:
        for step in steps:
            if not self._fleet.has_row(step.model_id, step.number, step.at, BEGIN + self._now()):
                self._find(f"no such step: {step}")
                return
