"""Scrapes a second within TLS: the exporter and nginx, with the same certificate and the same bytes.

The certificate is made for the run, for a key on the curve P-256. wrk keeps a few connections open, so what
is compared is the encryption of pages; a handshake costs both about the same.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from tools.benchmarks import peers
from tools.benchmarks.exporters import polled
from tools.benchmarks.fleets import LEAN, Fleet
from tools.benchmarks.load import GZIP, headers, wrk
from tools.benchmarks.processes import Process, fetch, find
from tools.benchmarks.processes import run as run_command
from tools.benchmarks.results import Figure, Goal, Result

NAME = "encrypted"
ROUNDS = 7
CONNECTIONS = 4
_GOAL = 0.5


def run() -> Iterator[Result]:
    """Measure 1,000 models."""
    yield compare(Fleet(LEAN, 1_000), ROUNDS)


def compare(fleet: Fleet, rounds: int) -> Result:
    """Measure a fleet."""
    with TemporaryDirectory() as folder, ExitStack() as stack:
        certificate, key = _certificate(Path(folder))
        config = Path(folder) / "web.yml"
        config.write_text(
            f"tls_server_config: {{cert_file: {certificate}, key_file: {key}}}\n", encoding="utf-8"
        )
        pair = stack.enter_context(polled(fleet, flags=(f"--web.config.file={config}",)))
        nginx = stack.enter_context(peers.nginx(pair.exporter.url, tls=(certificate, key)))
        rates: dict[Process, list[float]] = {pair.exporter: [], nginx: []}
        for _ in range(rounds):
            for one, seen in rates.items():
                seen.append(wrk(one.url, GZIP, connections=CONNECTIONS, seconds=1))
        size = len(fetch(pair.exporter.url, headers(GZIP)))
        return Result(
            NAME,
            f"{fleet.count:,} models, gzip, TLS",
            "scrapes/s",
            Figure.of("this exporter", rates[pair.exporter]),
            (Figure.of("nginx, the same bytes as a file", rates[nginx]),),
            Goal(_GOAL, on_ratio=True, at_least=True),
            f"{fleet.series:,} series, {size / 1024:,.0f} KiB, {CONNECTIONS} connections",
        )


def _certificate(folder: Path) -> tuple[Path, Path]:
    certificate, key = folder / "server.pem", folder / "server.key"
    request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost"
    run_command(find("openssl"), *request.split(), "-keyout", str(key), "-out", str(certificate))
    return certificate, key
