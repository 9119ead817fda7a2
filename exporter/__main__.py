"""The process: `python -m exporter`, and the console script.

Signals come first, because the imports that follow take longer than the start of any other program of a host
that is shutting down. Before this module nothing but the interpreter itself runs, which no program can guard.
"""

import os
import sys

from exporter.runtime import signals

# Where these ask prometheus_client to share metrics among processes, it writes them into files.
_MULTIPROCESS = ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir")


def run() -> None:
    """Run the command with the process's own arguments and environment, and end the process."""
    # A check that was broken off has found nothing, and a history has no end; all else has ended well.
    signals.end_at_once(None if {"check", "history"}.intersection(sys.argv[1:2]) else 0)
    for name in _MULTIPROCESS:  # as the library is imported, it looks for them
        os.environ.pop(name, None)
    from exporter import cli  # noqa: PLC0415 - a second's work, in which a signal may come

    cli.run()


if __name__ == "__main__":
    run()
