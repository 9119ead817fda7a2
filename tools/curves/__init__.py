"""How much of a training curve reaches Prometheus: polled from /metrics, and complete from /metrics/steps."""
