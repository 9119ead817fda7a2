"""`python -m exporter`."""

import sys

from exporter.cli import run

sys.exit(run())
