"""Write the PrometheusRule from the rules file, word for word; a test holds one to the other.

Run it as `make manifests`. Kustomize can take in whole files, as it does with the dashboards, but not one
YAML document as a part of another: that is why this one manifest is written here and not by kustomize.
"""

from pathlib import Path
from textwrap import indent

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy/prometheus/cohere-finetuning.rules.yml"
MANIFEST = ROOT / "deploy/kubernetes/overlays/prometheus-operator/prometheusrule.yaml"

_HEAD = """\
# Written by `make manifests` from deploy/prometheus/cohere-finetuning.rules.yml; do not edit.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: cohere-finetuning
spec:
"""


def prometheus_rule(rules: str) -> str:
    """Give the manifest that holds the text of a rules file, without the comment at its head."""
    return _HEAD + indent(rules[rules.index("groups:\n") :], "  ")


def main() -> None:
    """Write the manifest."""
    MANIFEST.write_text(prometheus_rule(RULES.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
