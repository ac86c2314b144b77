"""The paper's ablation: IA, IA with GC, and both again on a model that was trained with GR."""

from collections.abc import Sequence
from typing import Any

from benchmarks.paper.case import Case
from benchmarks.paper.table import run_seed, summary

PARTS = ("ia", "iau", "iau-released", "iau-calibrated")


def run(trainings: dict[str, Sequence[Case]]) -> dict[str, Any]:
    """For each way of training, its cases by seed; each is held against retrains that were trained the same way."""
    return {
        "trainings": [
            {"training": name, **summary([run_seed(case, PARTS) for case in cases])}
            for name, cases in trainings.items()
        ]
    }
