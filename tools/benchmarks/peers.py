"""What the exporter stands beside: nginx with a static file, prometheus_client's server, node_exporter."""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tools.benchmarks.exporters import Pair
from tools.benchmarks.load import GZIP, PLAIN, headers
from tools.benchmarks.processes import Process, fetch, find, python, running
from tools.ports import unused_port

# One worker and no master: one process on one core, as the exporter is. Otherwise tuned to win: over the
# loopback large reads and writes are faster than sendfile.
_NGINX = """
daemon off; master_process off; worker_processes 1;
pid {home}/pid; error_log {home}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off; sendfile off; output_buffers 2 512k; keepalive_requests 1000000000; open_file_cache max=10;
  types {{ }} default_type "text/plain; version=0.0.4; charset=utf-8";
  client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;
  server {{ listen 127.0.0.1:{port}{tls}; root {home}; gzip_static on; }}
}}
"""
_TLS = " ssl; ssl_certificate {}; ssl_certificate_key {}"


@contextmanager
def nginx(page: str, tls: tuple[Path, Path] | None = None) -> Iterator[Process]:
    """Serve one scrape of `page`, saved to a file as it was sent, plain and gzipped; `tls` are PEM files."""
    program = find("nginx")
    with TemporaryDirectory() as folder:
        home, port = Path(folder), unused_port()
        (home / "metrics").write_bytes(fetch(page, headers(PLAIN)))
        (home / "metrics.gz").write_bytes(fetch(page, headers(GZIP)))
        # A worker without a master keeps root's rights, but leave the folder open to any other.
        home.chmod(0o755)
        (home / "nginx.conf").write_text(
            _NGINX.format(home=home, port=port, tls=_TLS.format(*tls) if tls else ""), encoding="utf-8"
        )
        command = [program, "-p", folder, "-c", f"{home}/nginx.conf", "-e", f"{home}/error.log"]
        scheme = "https" if tls else "http"
        with running(command, f"{scheme}://127.0.0.1:{port}/metrics") as process:
            yield process


@contextmanager
def client_server(pair: Pair, *, steps: bool = False) -> Iterator[Process]:
    """Run prometheus_client's own server with the same families of the same fleet."""
    arguments = [pair.api_url, *(["steps"] if steps else [])]
    with python("tools.benchmarks.client_server", *arguments, path="/metrics") as process:
        yield process


@contextmanager
def node_exporter() -> Iterator[Process]:
    """Run Prometheus' exporter for machines, with its defaults."""
    address = f"127.0.0.1:{unused_port()}"
    command = [find("prometheus-node-exporter"), f"--web.listen-address={address}"]
    with running(command, f"http://{address}/metrics") as process:
        yield process


def models_part(page: bytes) -> bytes:
    """Return what a page says of the models, without what is live."""
    if page.startswith(b"\x1f\x8b"):
        page = gzip.decompress(page)
    families = page.split(b"# HELP ")
    return b"".join(family for family in families if family.startswith(b"cohere_finetuned_model"))
