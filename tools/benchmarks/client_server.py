"""prometheus_client's own server as a process: the same families, rendered anew at each scrape."""

import sys
import threading
from collections import Counter
from collections.abc import Iterable
from http.client import HTTPConnection
from urllib.parse import urlsplit

from prometheus_client import REGISTRY, Metric, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from exporter.cohere import wire
from exporter.cohere.steps import latest
from exporter.families import FAMILIES, PROGRESS_FAMILIES, Family, FleetFamily, Sample
from exporter.model import FinetunedModel, ModelState, Snapshot, Status, TrainingProgress
from tools.benchmarks.api import MODELS


class Collected(Collector):
    """A snapshot as the library would have one written: a custom collector."""

    def __init__(self, snapshot: Snapshot, *, steps: bool) -> None:
        self._snapshot = snapshot
        self._families = [family for family in FAMILIES if steps or family.name not in PROGRESS_FAMILIES]

    def collect(self) -> Iterable[Metric]:
        """Return every family."""
        for family in self._families:
            metric = GaugeMetricFamily(family.name, family.help, labels=family.labels)
            for values, value in samples(family, self._snapshot):
                metric.add_metric(values, value)
            yield metric


def samples(family: Family, snapshot: Snapshot) -> Iterable[Sample]:
    """Return the samples of a family, with the values of all its labels."""
    if isinstance(family, FleetFamily):
        yield from family.samples(snapshot)
        return
    for state in snapshot.states:
        for values, value in family.samples(state):
            yield (state.model.id, state.model.name, *values), value


def snapshot_of(url: str, *, steps: bool) -> Snapshot:
    """Read the fleet from the API at `url` as the exporter does, newest model first."""
    connection = HTTPConnection(urlsplit(url).netloc)

    def get(path: str) -> bytes:
        connection.request("GET", path)
        return connection.getresponse().read()

    def progress(model: FinetunedModel) -> TrainingProgress | None:
        path = f"{MODELS}/{model.id}/training-step-metrics"
        return latest(wire.read_steps(get(path), _never).items) if steps else None

    models: list[FinetunedModel] = []
    query = ""
    while page := wire.read_models(get(MODELS + query), _never):
        models += page.items
        if not page.next_token:
            break
        query = f"?page_token={page.next_token}"
    models.sort(key=lambda model: (-(model.created_at or 0), model.id))
    counts = dict.fromkeys((status.value for status in Status), 0) | Counter(m.status for m in models)
    return Snapshot(states=tuple(ModelState(m, progress(m)) for m in models), status_counts=counts)


def _never(kind: str, name: str) -> None:
    raise AssertionError(f"the fleet has a {kind} that makes no sense: {name}")


def main() -> None:
    """Serve until ended; the first line of standard output is the port."""
    url, steps = sys.argv[1], "steps" in sys.argv[2:]
    REGISTRY.register(Collected(snapshot_of(url, steps=steps), steps=steps))
    server, _ = start_http_server(0, "127.0.0.1")
    print(server.server_port, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
