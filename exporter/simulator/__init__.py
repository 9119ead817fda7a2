"""A simulated fine-tuning API: a believable fleet on a clock, and faults on demand.

It speaks the wire as Cohere's backend does (Go protobuf JSON: zero values omitted), for the demo, tests and
benchmarks. What it answers is a pure function of the seed, the start time, the present time and the faults
set: no tasks, no threads. It imports nothing of the exporter, so it can judge the exporter from outside.

    curves → jobs → catalogue → account → fleet → protojson → api, which pages (paging) and fails (faults)
"""

from exporter.simulator.account import Account
from exporter.simulator.api import DEMO_API_KEY, Simulator
from exporter.simulator.catalogue import WANDB_API_KEY
from exporter.simulator.faults import LIST_MODELS, LIST_STEPS
from exporter.simulator.fleet import Fleet, at_rest, demo_fleet
from exporter.simulator.jobs import Job, Plan, Recipe, Status, start_job

__all__ = [
    "DEMO_API_KEY",
    "LIST_MODELS",
    "LIST_STEPS",
    "WANDB_API_KEY",
    "Account",
    "Fleet",
    "Job",
    "Plan",
    "Recipe",
    "Simulator",
    "Status",
    "at_rest",
    "demo_fleet",
    "start_job",
]
