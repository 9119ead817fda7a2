"""A day beside json_exporter 0.7, which does as much of the job as it can.

Both are scraped once in the same minute, in which this exporter polls once as well; calls and CPU are those
of that one minute times 1,440. The fleets are at rest: of this exporter a model in training costs one more
call a poll. json_exporter asks the API while it is scraped: one target for the list, and one for the step
metrics of each model, whose ids stand in Prometheus's configuration. Lines of configuration are its modules
and the jobs of Prometheus; the API key is counted for neither, and of the hyperparameters, each a line, it
reads one.

What it cannot do: follow page tokens, so it sees the first page only; find the models whose step metrics to
ask for; read times, which the API writes as text; name a metric by a key of the answer, so each training
metric is listed by hand; take an omitted zero for one; serve the last good data while the API fails; keep to
a rate limit or a quota; ask once for two Prometheus servers.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

from tools.benchmarks.api import MODELS
from tools.benchmarks.exporters import Pair, calls, polled
from tools.benchmarks.fleets import FULL, Fleet
from tools.benchmarks.load import PLAIN, headers
from tools.benchmarks.machine import memory
from tools.benchmarks.processes import Process, fetch, find, python, running
from tools.benchmarks.results import Figure, Result
from tools.ports import unused_port

NAME = "json-exporter"
MINUTES_A_DAY = 1440
_MODULES = """\
modules:
  models:
    metrics:
      - name: cohere_model
        type: object
        path: '{ .finetuned_models[*] }'
        help: A fine-tuned model
        labels:
          model_id: '{ .id }'
          model_name: '{ .name }'
          status: '{ .status }'
          base_type: '{ .settings.base_model.base_type }'
          dataset_id: '{ .settings.dataset_id }'
        values:
          status: 1
          learning_rate: '{ .settings.hyperparameters.learning_rate }'
  steps:
    metrics:
      - name: cohere_training
        type: object
        path: '{ .step_metrics[0] }'
        help: The latest step of a model
        labels:
          step_created: '{ .created_at }'
        values:
          step: '{ .step_number }'
          accuracy: '{ .metrics.accuracy }'
          cross_entropy: '{ .metrics.cross_entropy }'
          generation_accuracy: '{ .metrics.generation_accuracy }'
          generation_cross_entropy: '{ .metrics.generation_cross_entropy }'
          loss: '{ .metrics.loss }'
"""
_JOB = """\
  - job_name: cohere-{module}
    metrics_path: /probe
    params: {{module: [{module}]}}
    static_configs:
      - targets:
{targets}
    relabel_configs:
      - {{source_labels: [__address__], target_label: __param_target}}
      - {{source_labels: [__param_target], target_label: instance}}
      - {{target_label: __address__, replacement: "localhost:7979"}}
"""
_OURS = """\
  - job_name: cohere
    static_configs:
      - targets: ["localhost:10220"]
"""


@dataclass(frozen=True)
class Peer:
    """A json_exporter, the API that it asks, and the URLs that Prometheus would scrape it with."""

    process: Process
    api_url: str
    probes: Sequence[str]
    lines: int

    def scrape(self) -> None:
        """Scrape every target once."""
        for probe in self.probes:
            fetch(probe, headers(PLAIN))

    def served(self) -> int:
        """Return how many calls the API has answered."""
        return calls(self.api_url)


@contextmanager
def json_exporter(fleet: Fleet) -> Iterator[Peer]:
    """Run json_exporter with a module for the list and one for the steps of a model."""
    with TemporaryDirectory() as folder, python("tools.benchmarks.api", fleet.kind, str(fleet.count)) as api:
        config = Path(folder) / "config.yml"
        config.write_text(_MODULES, encoding="utf-8")
        address = f"127.0.0.1:{unused_port()}"
        command = [find("json_exporter"), f"--config.file={config}", f"--web.listen-address={address}"]
        targets = {
            "models": [f"{api.url}{MODELS}"],
            "steps": [f"{api.url}{MODELS}/{model}/training-step-metrics" for model in fleet.steps()],
        }
        probes = [
            f"http://{address}/probe?module={module}&target={quote(target, safe='')}"
            for module, asked in targets.items()
            for target in asked
        ]
        with running(command, f"http://{address}/metrics") as process:
            if b"cohere_training_step{" not in fetch(probes[-1], headers(PLAIN)):
                raise RuntimeError("json_exporter does not show the steps")
            yield Peer(process, api.url, probes, len(_MODULES.splitlines()) + _jobs_lines(targets))


def _jobs_lines(targets: dict[str, list[str]]) -> int:
    jobs = [
        _JOB.format(module=module, targets="\n".join(f"          - {target}" for target in asked))
        for module, asked in targets.items()
    ]
    return sum(len(job.splitlines()) for job in jobs)


def run() -> Iterator[Result]:
    """Measure three fleets, all in one minute."""
    return compare([Fleet(FULL, count) for count in (3, 15, 300)], seconds=60)


def compare(fleets: Sequence[Fleet], seconds: int) -> Iterator[Result]:
    """Measure fleets over so many seconds, in which each exporter is scraped once and this one polls once."""
    with ExitStack() as stack:
        ours = [stack.enter_context(polled(fleet, interval=f"{seconds}s", steps=True)) for fleet in fleets]
        peers = [stack.enter_context(json_exporter(fleet)) for fleet in fleets]
        for peer in peers:
            peer.scrape()  # so that both have begun
        before = [_now(pair, peer) for pair, peer in zip(ours, peers, strict=True)]
        begin = time.monotonic()
        for pair, peer in zip(ours, peers, strict=True):
            fetch(pair.exporter.url, headers(PLAIN))
            peer.scrape()
        time.sleep(max(0.0, begin + seconds - time.monotonic()))
        after = [_now(pair, peer) for pair, peer in zip(ours, peers, strict=True)]
        held = [
            (memory(pair.exporter.pid)[0], memory(peer.process.pid)[0])
            for pair, peer in zip(ours, peers, strict=True)
        ]
    for fleet, peer, was, now, memories in zip(fleets, peers, before, after, held, strict=True):
        used = [MINUTES_A_DAY * (end - start) for start, end in zip(was, now, strict=True)]
        yield _result(fleet, "calls a day", "calls", used[0], used[1])
        yield _result(fleet, "CPU a day", "s", used[2], used[3])
        yield _result(fleet, "memory", "MiB", *memories)
        yield _result(fleet, "configuration", "lines", len(_OURS.splitlines()), peer.lines)


def _now(pair: Pair, peer: Peer) -> tuple[float, ...]:
    return calls(pair.api_url), peer.served(), pair.exporter.cpu(), peer.process.cpu()


def _result(fleet: Fleet, what: str, unit: str, ours: float, theirs: float) -> Result:
    figures = Figure.of("this exporter", [ours]), Figure.of("json_exporter", [theirs])
    return Result(NAME, f"{what}, {fleet.count} models", unit, figures[0], figures[1:])
