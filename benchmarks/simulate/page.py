"""docs/capacity.md and its plots, from the last simulation. `python -m benchmarks.simulate.page`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.results import RESULTS
from benchmarks.simulate.loads import LOADS, WAITS
from benchmarks.simulate.plot import queues, workers

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
PAGE = DOCS / "capacity.md"
DAYS_A_YEAR, BYTES = 365, 2**30


def write() -> None:
    """The page and its plots."""
    record = json.loads((RESULTS / "simulate.json").read_text())
    PAGE.write_text(page(record))
    for name, drawing in (("workers", workers(record)), ("queue", queues(record))):
        (DOCS / "results" / f"simulate-{name}.svg").write_text(drawing)


def page(record: dict[str, Any]) -> str:
    """The whole page."""
    return "\n".join([introduction(record), costs(record), loads(record), changed(record), limits(record), HOLDS])


def introduction(record: dict[str, Any]) -> str:
    run = record["runs"][0]
    weeks = f"{run['days']} days after a warm-up of {run['warm_days']}"
    return f"""# Capacity

How many workers a load needs, how long tickets wait, how often models retrain, and what the database grows by: from a
simulation of {weeks} (`make simulate`, about three minutes on one core). Tickets come at random,
by day more than by night, on working days more than at week-ends, with a burst a week that is ten times as dense. Workers
fail once in a week of work and are lost without a word. When a batch closes, and whether it must retrain, is decided by the
service's own functions (`app.due`), not by a copy. Everything else about the world is in `benchmarks/simulate/world.py`,
seeds included.

Each model begins somewhere else in its round, so that they do not close together; nothing of the warm-up is counted. What
still waits for a worker at the end counts with its wait so far.

**The seconds are those of a small network on one CPU thread.** A network that takes ten times as long needs ten times the
workers; whatever does not scale with it (deadlines, the database) stays. What to take from this page is which load is of
which kind, and where the next bottleneck lies.
"""


def costs(record: dict[str, Any]) -> str:
    paid, stored = record["costs"], record["stored"]
    rows = [
        ("a retrain, for each training sample", f"{paid['retrain_sample'] * 1e3:.2f} ms", "`make bench-unlearn`"),
        (
            "after a publication, for each training sample",
            f"{paid['prepare_sample'] * 1e6:.0f} µs",
            "an epoch of that retrain",
        ),
        ("the first rung, with its validation", f"{paid['update']:.2f} s", "`make bench-unlearn`"),
        ("and for each forgotten sample", f"{paid['update_sample'] * 1e3:.2f} ms", "`make bench-unlearn`"),
        ("the second rung, with its validation", f"{paid['second']:.2f} s", "`make bench-unlearn`"),
        ("tickets that one API process accepts", f"{paid['intake_rate']:,.0f} a second", "`make bench-intake`"),
        *(
            (
                f"a {thing} in the database",
                f"{stored[thing]['bytes']:,} bytes; rows: {stored[thing]['rows']:g}",
                "this run",
            )
            for thing in ("sample", "ticket", "batch")
        ),
    ]
    return table("## What things cost", ("what", "cost", "measured by"), rows)


def loads(record: dict[str, Any]) -> str:
    rows = []
    for run in enough(record["runs"]):
        load = next(load for load in LOADS if load.name == run["load"])
        rows.append(
            (
                f"**{load.name}**: {load.models:,} models, {load.samples:,} samples",
                f"{run['tickets_a_day']:,.0f}",
                run["waits"].partition(",")[0],
                due(run["deadlines"]),
                f"{run['days']} days after {run['warm_days']}",
                f"**{run['workers']:,}**" if run["enough"] else f"more than {run['workers']:,}",
                f"{run['used']:.0%}",
                f"{run['updates_a_day']:,.0f}",
                f"{run['retrains_a_day']:,.1f}",
                hours(run["longest_retrain_hours"]),
                hours(run["queue_p99_hours"]),
                f"{hours(run['age_p50_hours'])} / {hours(run['age_p99_hours'])}",
                f"{run['missed']:,}",
            )
        )
    heads = (
        *("load", "tickets a day", "tickets wait", "due", "measured", "workers", "used", "updates a day"),
        *("retrains a day", "longest retrain", "queue, p99", "ticket to version, p50 / p99", "batches late"),
    )
    text = """
Tickets wait for their batch an hour at most (the default policy, which also closes a batch at 1,000 samples), a day, or a
week. A batch also closes a day before the nearest of its deadlines, and is late if one of them passes before it is
published. *Measured* is the simulated time that counts, after the warm-up, which does not: the longest deadline lies within.
*Workers* is the smallest number tried with which no batch is late, the queue does not grow, and of a hundred batches one
at most waits longer for a worker than tickets may wait for their batch.

![Workers needed](results/simulate-workers.svg)

What a worker does is retrain. A batch that no rung settles retrains, and the drift budget forces one after so many updates;
both count batches, not tickets. So the longer tickets may wait, the fewer workers are needed, and the number of tickets
hardly matters: **the first thing to set is `batching.max_wait_seconds`**, as long as the deadlines allow. They allow less
than it seems: where a model gets tickets every day of which one in twenty is due in two days, its batches close every day,
whatever the policy says. A week is worth setting where no ticket is urgent.

![Queue against workers](results/simulate-queue.svg)
"""
    return table("## Loads", heads, rows) + text


def changed(record: dict[str, Any]) -> str:
    base = record["variations"][0]
    rows = [
        (
            run["what"],
            f"{run['workers']:,}" if run["enough"] else f"more than {run['workers']:,}",
            f"{run['busy_workers']:.2f}",
            f"{run['busy_workers'] / base['busy_workers']:.1f}",
            f"{run['updates_a_day']:,.0f}",
            f"{run['retrains_a_day']:,.1f}",
            f"{run['failures']:,}",
            f"{run['missed']:,}",
        )
        for run in record["variations"]
    ]
    heads = (
        "the company, a day",
        "workers",
        "busy",
        "times",
        "updates a day",
        "retrains a day",
        "workers lost",
        "batches late",
    )
    text = """
The deadlines and the time measured are those of the loads above, but for what the first column says. In the last row a
training keeps a checkpoint every ten minutes. The service does so for trainings by several processes alone
(`compute.processes`), and on their host alone: a training by one process keeps none, and one that moves to another host
begins anew. The row counts no speed that several processes gain.

A single ticket that is due at once, or may have no approximate answer, sends its model's whole batch along: a hundredth of
the tickets is enough to decide what all of them cost. Send such tickets to models, or datasets, of their own where you can.
"""
    return table("## What changes it", heads, rows) + text


def limits(record: dict[str, Any]) -> str:
    paid, stored = record["costs"], record["stored"]
    platform = LOADS[-1]
    most = paid["intake_rate"] * 86_400
    batches = next(run for run in enough(record["runs"]) if run["load"] == platform.name and run["waits"] == "a day")
    worked = (batches["updates_a_day"] + batches["retrains_a_day"]) * DAYS_A_YEAR
    rows_a_year = platform.tickets_a_day * DAYS_A_YEAR * stored["ticket"]["rows"] + worked * stored["batch"]["rows"]
    bytes_a_year = platform.tickets_a_day * DAYS_A_YEAR * stored["ticket"]["bytes"] + worked * stored["batch"]["bytes"]
    largest = float(platform.sizes()[0])
    day = 86_400 / paid["retrain_sample"]
    rate, mean = f"{paid['intake_rate']:,.0f}", f"{platform.tickets_a_day / 86_400:.0f}"
    grown = f"{rows_a_year / 1e9:.1f} billion rows and {bytes_a_year / BYTES:,.0f} GiB a year"
    retrain, manifests = largest * paid["retrain_sample"] / 3600, platform.samples * stored["sample"]["bytes"]
    return f"""## Where the design stops

- **One head of the audit log.** Every ticket and every change of state takes its row's lock for the length of a
  transaction: {rate} tickets a second were measured on two cores, {most / 1e6:.0f} million a day, bursts included.
  The platform's mean is {mean} a second. More API processes do not raise it; a ticket that names many
  ids does, since it is one event.
- **One batch a model at a time.** A model's retrain is worked off by one worker, and its tickets wait for it. The platform's
  largest model has {largest:,.0f} samples and takes {hours(retrain)}; one of {day / 1e6:.0f} million samples takes a day.
  Several processes (`compute.processes`) divide that; several hosts for one training are not built.
- **One Postgres.** The platform's tickets and batches add {grown};
  its manifests hold {manifests / BYTES:,.0f} GiB once. Tombstones and the audit log are never deleted.
- **The sweep looks at every model that owes something**, in a short transaction each, every `EXPUNGE_SWEEP_SECONDS`: at a
  thousand models that is 200 a second at the default of five. Raise it to a minute there; batches of an hour do not notice.
"""


HOLDS = """## What comes next

In this order, when a load gets there: longer batches; more workers, then several processes a training; a head of the audit
log for each dataset, with one head over them that a beat seals every second; the audit log and finished tickets in
partitions by month, the old ones on slower storage; several hosts for one training.

## What this does not tell

The share of batches that a rung settles decides more than anything else, and it is an assumption here (half by the first,
six of ten of the rest by the second; the last table has others): take your own from the audit of your models. Memory,
network and the artifact store are not simulated. All models share one policy.

- **Reference banks** are not simulated. Eight references cost six trainings, once for each training or retrain where the
  policy builds one after it (`bank.build: training`): then a retrain costs seven times what it costs here. Workers train them
  between batches, so that they lengthen no queue by more than a moment, but they need workers that are free.
- **One ticket, several models.** Here a ticket concerns one model. A dataset on which several models were trained owes each of
  them an update for the same ticket: count its tickets once for each model.
- **Trainings that move hosts.** A worker that is lost comes back after its lease and begins anew, at no further cost. That
  another host fetches the artifacts again, and finds no checkpoint there, is not told.
- **Hosts that differ.** There is one queue of heavy work, and a worker serves every model: each host needs every problem's
  package and enough memory. Models that need a kind of host of their own get a second service; two smaller services share
  less, and each needs the workers that its own load takes.
"""


def due(deadlines: Sequence[tuple[float, float]]) -> str:
    """`5% in 2 days, 95% in 30 days`, or `all in 30 days`."""
    if len(deadlines) == 1:
        return f"all in {deadlines[0][0]:g} days"
    return ", ".join(f"{share:.0%} in {days:g} days" for days, share in deadlines)


def enough(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each load and batching the run with the most workers, which is the first that has enough."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for run in runs:
        found[run["load"], run["waits"]] = run
    assert set(found) == {(load.name, waits) for load in LOADS for waits in WAITS}
    return list(found.values())


def hours(value: float) -> str:
    """0.02 -> '1 min', 30 -> '30 h', 100 -> '4 days'."""
    if value < 1 / 60:
        return f"{value * 3600:.0f} s"
    if value < 2:
        return f"{value * 60:.0f} min"
    return f"{value:.0f} h" if value < 72 else f"{value / 24:.0f} days"


def table(heading: str, heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [heading, "", f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows), ""])


if __name__ == "__main__":
    write()
