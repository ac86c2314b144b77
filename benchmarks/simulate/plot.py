"""Two plots of a simulation: workers needed by load and batching, and what too few of them do to the queue."""

from math import ceil, floor, log10
from typing import Any

from benchmarks.paper import svg
from benchmarks.simulate.loads import LOADS, WAITS
from benchmarks.verdict.plot import Frame, key, whole

KINDS = dict(zip(WAITS, "bade", strict=True))
TICKETS = (3.0, 4.0, 5.0, 6.0)
LEFT, BOTTOM, WIDTH = 62, 66 + 340, 640
QUEUES = {"b": "queue_max_hours", "a": "queue_p99_hours", "d": "age_p50_hours"}


def workers(record: dict[str, Any]) -> str:
    """Busy workers against tickets a day, both by powers of ten, a line for each way to batch."""
    last = {(run["load"], run["waits"]): run for run in record["runs"]}
    powers = {place: log10(max(run["busy_workers"], 1e-4)) for place, run in last.items()}
    up = tuple(float(power) for power in range(floor(min(powers.values())), ceil(max(powers.values())) + 1))
    frame = Frame(LEFT, TICKETS, up)
    parts = frame.drawn(
        "busy workers of one thread", "tickets a day", "power of ten", [f"{10 ** int(t):,}" for t in TICKETS]
    )
    for waits, kind in KINDS.items():
        line = [(log10(load.tickets_a_day), powers[load.name, waits]) for load in LOADS]
        parts += frame.path(kind, line)
        for point, load in zip(line, LOADS, strict=True):
            x, y = frame.at(point)
            parts.append(svg.text(x + 8, y + 4, f"{last[load.name, waits]['workers']:,}", kind))
    named = key(LEFT, BOTTOM + 56, [(kind, waits) for waits, kind in KINDS.items()])
    notes = [
        "A colour: how long tickets wait. A day and a week coincide: one in twenty is due in two days.",
        "10 models and a million samples; 100 and fifty million; 1,000 and a billion.",
        "A dot's number: whole workers with which no batch is late and the queue stays short.",
    ]
    return whole(WIDTH, "Workers that a load needs", notes, [*parts, *named], BOTTOM + 56)


def queues(record: dict[str, Any]) -> str:
    """How long batches wait for a worker, against the workers there are: the company's, whose tickets wait an hour."""
    runs = record["crowded"]
    longest = max(run["queue_max_hours"] for run in runs)
    step = svg.nice(max(longest / 5, 0.1))
    up = tuple(round(step * number, 6) for number in range(ceil(longest / step) + 1))
    frame = Frame(LEFT, tuple(range(len(runs))), up)
    parts = frame.drawn(
        "hours that batches wait for a worker", "workers", "hours", [f"{run['workers']:,}" for run in runs]
    )
    for kind, figure in QUEUES.items():
        parts += frame.path(kind, [(place, run[figure]) for place, run in enumerate(runs)])
    named = key(
        LEFT, BOTTOM + 56, [("b", "the longest"), ("a", "one of a hundred waits longer"), ("d", "tickets, p50")]
    )
    busy = runs[-1]["busy_workers"]
    notes = [
        f"100 models, 50,000 tickets a day that wait an hour: {busy:.1f} workers are busy where there are plenty.",
        "With fewer, batches wait so long that there are fewer of them, and larger ones.",
    ]
    return whole(WIDTH, "Too few workers", notes, [*parts, *named], BOTTOM + 56)
