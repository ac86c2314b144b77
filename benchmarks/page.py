"""Writes docs/benchmarks.md from the results that runs have left. `python -m benchmarks.page`."""

import json
from pathlib import Path

from benchmarks.results import RESULTS, markdown

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
INTRODUCTION = """# Benchmarks

Every table is what a command printed; `benchmarks/results/` has the same as JSON, with the settings, the seeds, a digest of
the code and the machine. Figures and floors were measured in turns within one run: on another machine, and on a busy one,
the seconds differ more than the ratios. An aim that was missed says so.

Two benchmarks have pages of their own: [Qualification](qualification.md), verdicts on updates whose truth is known
(`make bench-verdict`), and [Experiments](experiments.md), every method against retrains (`make bench-paper`).
"""
SECTIONS = {
    "intake": (
        "make bench-intake",
        "Tickets and manifests against bare psycopg, which writes the same rows as durably and checks, hashes and knows "
        "nothing.",
    ),
    "cycle": (
        "make bench-cycle",
        "From a ticket to its published version on the digits, everything but the queue included. The floor is gradients "
        "on D_f and the new weights' forward passes; with networks this small it is a few milliseconds.",
    ),
    "load": (
        "make bench-load",
        "A minute of mixed traffic, offered at 0.8 of the highest rate that the machine answers; API, Postgres and the "
        "clients share its cores. A latency counts from when a request was due. The comparison with bare psycopg is in "
        "the same run, before the minute and after it.",
    ),
    "scale-reads": (
        "make bench-scale",
        "Reads over HTTP by one client while the history behind them grows from 1,000 tickets to a million: the slowest "
        "in a hundred at the end against the beginning. No statement of theirs may scan a table that grows.",
    ),
    "scale-manifests": (
        "make bench-scale",
        "A manifest of 20 million samples, and what is asked of it, below HTTP, against the barest SQL that answers. "
        "Bare look-ups write the tombstones and nothing else: no ticket, no obligation, no event.",
    ),
    "scale-batching": (
        "make bench-scale",
        "What a ticket of one sample costs in a batch of n, from the closing of the batch to its published version: an "
        "MLP on 200,000 flights, rung `iau-calibrated`, verdict included. What a worker holds: batches whose tickets are worked "
        "off within the deadline even where they wait for the batch before theirs; with a network this small all deadlines "
        "allow the largest batch. [Capacity](capacity.md) has larger ones.",
    ),
    "unlearn-closeness": (
        "make bench-unlearn",
        "`iau-calibrated` against retrains, LeNet-5 on 10,000 images of Fashion-MNIST trained until it memorises. "
        "The floor is the worst of the retrains held against the others, so that at most 1 means: cannot be told from a "
        "retrain by this figure. Medians over three originals; `benchmarks/closeness.py` says more.",
    ),
    "unlearn-speed": (
        "make bench-unlearn",
        "Both rungs on LeNet-5 and 48,000 images with early stopping, against the retrain and against the floor: gradients "
        "on D_f and the new weights' forward passes over D_f and the audit's data.",
    ),
    "gr": (
        "make bench-gr",
        "A training step with the gradient restriction, against a plain one.",
    ),
    "gpu": ("make bench-gpu", "Full-size networks on a CUDA device."),
}


def page() -> str:
    """The whole page, from the results that are there."""
    parts = [INTRODUCTION]
    for name, (command, text) in SECTIONS.items():
        path = RESULTS / f"{name}.json"
        if not path.exists():
            continue
        machine = json.loads(path.read_text())["machine"]
        where = f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, torch {machine['packages']['torch']}"
        parts.append(f"## {name}\n\n`{command}`. {text}\n\n{markdown(name)}\n\nMeasured on {where}.\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
