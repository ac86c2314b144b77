"""A finished table as text on the terminal and as JSON under benchmarks/results/."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.paper.cells import engine_digest
from benchmarks.results import RESULTS, code_digest, machine
from unlearning.problem import Problem

HEADINGS = {
    "mu": "MU",
    "ue": "UE, paper's attack",
    "ue_threshold": "UE, loss threshold",
    "ks": "KS",
    "auc": "per-sample AUC",
    "seconds": "seconds",
    "speedup": "times faster",
}
CHAINS = ("nothing", "retrain", "iau", "iau-calibrated")
SEQUENCE = ("mu", "ue_threshold", "ks", "auc", "seconds")


def figure(name: str, found: dict[str, float]) -> str:
    """Mean and range over seeds; the range is left out where the seeds agree."""
    digits = {"seconds": ".2f", "speedup": ",.0f" if found["mean"] >= 100 else ".1f"}.get(name, ".3f")
    low, mean, high = (format(found[k], digits) for k in ("low", "mean", "high"))
    return mean if low == high else f"{mean} ({low}–{high})"


def cells(record: dict[str, Any]) -> list[list[str]]:
    """One line a row of the table, its name first and its average rank last; methods by rank."""
    lines = []
    for row in sorted(record["rows"], key=lambda row: 0.0 if row["rank"] is None else row["rank"]["mean"]):
        name = "retrain against retrain" if row["name"] == "retrain" else row["name"]
        rank = "–" if row["rank"] is None else f"{row['rank']['mean']:.1f}"
        shown = {key: figure(key, row["figures"][key]) for key in HEADINGS}
        if name == "nothing":
            shown |= {"seconds": "–", "speedup": "–"}
        lines.append([name, *shown.values(), rank])
    return lines


def show(record: dict[str, Any]) -> None:
    """Print a record, whichever command it came from."""
    console = Console(width=170)
    title = f"{record['setting']} ({record['differs']})"
    if "lines" in record:
        _show_lines(console, record, title)
        return
    for part in record.get("trainings", [record]):
        table = Table("method", *HEADINGS.values(), "rank", title=f"{title} {part.get('training', '')}".strip())
        for line in cells(part):
            table.add_row(*line)
        console.print(table)
        for name, reason in part["missing"].items():
            console.print(f"{name} is not in the table: {reason}")


def sequence_cells(record: dict[str, Any], every: int = 5) -> list[list[str]]:
    """Figures after the first deletion and each `every`th, one line a chain and deletion."""
    lines = []
    for name in CHAINS:
        chain = record["lines"][name]
        for number in range(record["deletions"]):
            if number == 0 or (number + 1) % every == 0:
                shown = [figure(key, chain[key][number]) for key in SEQUENCE]
                lines.append(["retrain against retrain" if name == "retrain" else name, str(number + 1), *shown])
    return lines


def _show_lines(console: Console, record: dict[str, Any], title: str) -> None:
    table = Table("chain", "deletions", *(HEADINGS[key] for key in SEQUENCE), title=title)
    for line in sequence_cells(record):
        table.add_row(*line)
    console.print(table)


def write(name: str, record: dict[str, Any], settings: dict[str, Any], problem: Problem) -> None:
    """benchmarks/results/<name>.json: the table, its settings, and digests of code and data."""
    whole = record | {
        "name": name,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": settings,
        "code_sha256": code_digest(),
        "engine_sha256": engine_digest(),
        "data_sha256": data_digest(problem),
        "machine": machine(),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(whole, indent=1, sort_keys=True) + "\n")


def data_digest(problem: Problem) -> str:
    """SHA-256 over the ids, inputs and targets of train, holdout and test."""
    seen = hashlib.sha256()
    for samples in (problem.train, problem.holdout, problem.test):
        inputs, targets = samples.batch(np.arange(len(samples)))
        seen.update("\0".join(samples.ids).encode())
        seen.update(inputs.contiguous().numpy().tobytes() + targets.contiguous().numpy().tobytes())
    return seen.hexdigest()
