"""Priorities for the journal, which reads `<4>` at the start of a line as "warning" (sd-daemon(3)).

Without them `journalctl -p warning` shows nothing of a service that logs to standard error.
"""

import logging
import os
from collections.abc import Mapping

_PRIORITIES = {logging.CRITICAL: "<2>", logging.ERROR: "<3>", logging.WARNING: "<4>", logging.INFO: "<6>"}


def priority(level: int) -> str:
    """Return what the journal reads as a level of `logging`."""
    return next((prefix for lowest, prefix in _PRIORITIES.items() if level >= lowest), "<7>")


def reads(descriptor: int, environ: Mapping[str, str]) -> bool:
    """Return whether the journal reads an open descriptor: JOURNAL_STREAM names its device and inode."""
    stream = os.fstat(descriptor)
    return environ.get("JOURNAL_STREAM") == f"{stream.st_dev}:{stream.st_ino}"
