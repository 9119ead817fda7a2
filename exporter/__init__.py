"""Prometheus exporter for fine-tuning on Cohere's API.

Data flows one way, and each module does one thing with it:

    HTTP bytes → cohere.wire → model → poller's Snapshot → families → exposition → web's /metrics

`app` builds everything and is the only module that sees both ends; `docs/design.md` gives the reasons.
"""

NAME = "cohere-finetune-exporter"
__version__ = "0.1.0"
REVISION = "unknown"  # of the source; a build that knows it writes it here
