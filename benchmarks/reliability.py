"""Writes docs/reliability.md from what `make chaos` has left. `python -m benchmarks.reliability`."""

import json
import math
from pathlib import Path
from typing import Any

from benchmarks.results import RESULTS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reliability.md"
KINDS = {
    "kill-api": "`kill -9` of the API",
    "kill-worker": "`kill -9` of a worker and its child",
    "kill-beat": "`kill -9` of beat",
    "kill-postgres": "`kill -9` of Postgres",
    "kill-redis": "`kill -9` of Redis",
    "kill-at-label": "`kill -9` at a labelled point of the pipeline, the API or beat",
    "exit-at-label": "`SystemExit` in the midst of a step, as a cold shutdown raises it",
    "term-worker": "a worker told to stop, as by a deploy",
    "stop-worker": "a worker stopped past its lease, and woken",
    "stop-at-label": "a worker stopped at a labelled point past its lease, and woken",
    "redis-down": "Redis away for up to two seconds",
    "redis-flushed": "Redis emptied",
    "redis-restarted": "Redis restarted",
    "postgres-restarted": "Postgres restarted",
    "postgres-in-publish": "Postgres restarted while a publication was written and not committed",
    "messages-twice": "every message sent twice",
    "two-beats": "a second beat",
    "store-fails": "the artifact store fails to write",
    "store-full": "the artifact store is full",
    "weights-corrupted": "the current weights damaged on disk, restored later",
    "out-of-memory": "`MemoryError` in a worker",
    "problem-raises": "the user's problem raises",
    "problem-hangs": "the user's problem hangs",
    "poison-ticket": "a ticket whose samples cannot be read, in a batch with others",
}
TOP = """# Reliability

What is promised, how it was tried, and what was seen. `make chaos` runs the real processes (API, two workers that
train and the light one, beat, Postgres, Redis) on a small model, sends tickets over HTTP, hurts the processes, lets them
recover, and has an independent checker look at what is left.

## What is promised

1. A ticket that was answered 202 is never lost, and a request repeated with its `Idempotency-Key` makes one ticket.
2. A tombstoned sample is read by no later training.
3. Two versions of a model never share a parent.
4. Nothing is published without a verdict on exactly those bytes, and an artifact has the bytes that its digest names.
5. A model's pointer never moves to a version that still holds a fulfilled ticket's samples.
6. Every change of state and its audit event commit together; the chain of hashes is unbroken.
7. A run that has lost its lease changes nothing.

And every ticket ends: fulfilled by a version whose excluded samples include its own, or cancelled because its client asked for
it. Losing all of Redis costs latency, never a ticket.

Each promise is a check in `tests/chaos/checker.py`, which imports nothing of the service: it reads Postgres by SQL of its own,
the artifacts' files, the clients' notes of what they were answered, and the trainings' notes of what they have read.
That it would notice is tested: a promise broken by hand in a database, and bugs planted into running processes (fencing off,
tombstones skipped, a commit after the answer or none, the pointer left behind, weights written over).
"""
REPLAY = """## How to replay

```sh
make chaos RUNS=500 SEED=1        # so many runs in all; a second call goes on where the first ended
make chaos SEED=1 ONLY=137        # run 137 of the seed alone
make chaos RUNS=50 SEED=2 ARGS="--kinds kill-worker,redis-flushed --tickets 8"
```

What a run asks for, what goes wrong and when follow from the seed and the run's number. How the processes are scheduled
does not: a replay repeats the plan, not the interleaving. A violation ends the runs, is named with its run, and makes the
command fail.

Every labelled point of the pipeline, the publication, the API and beat (`tests/faults/labels.py`) has a test of its own in
`make test`: a process is killed there, and the same checker must find nothing. A step of the pipeline without a label fails a
test.

## What is not covered

- The machine itself: power loss, a disk that loses what it said it had written, a clock that jumps. Postgres runs without
  `fsync` here, since a killed process loses nothing that the kernel has.
- Webhooks, a second person's consent, weights that are withdrawn, back-ups and restores: they have tests of their own, with real
  processes (`tests/test_webhooks.py`, `tests/app/test_consent.py`, `tests/app/test_disclosure.py`, `tests/test_disaster.py`),
  and no part in these runs.
- Code that is newer than the digest above: the runs are repeated now and then, the tests with every change.
- Several hosts and the network between them: the processes of these runs speak over Unix sockets and the loopback. One worker
  cut off from the others in mid-batch, and healed, is a test of its own (`tests/test_hosts.py`).
- Object storage: the artifacts of these runs are a local folder (`tests/app/test_store_s3.py` has an S3 server to talk to). A
  Postgres that fails over to a replica.
- A user's problem that never returns and never raises: its heartbeat goes on, until `EXPUNGE_TASK_SECONDS` ends it.
- Large models: the one here trains in a moment, so that a run takes seconds.
- Weights that are damaged and of which there is no back-up. The batch is held for an operator; the damage is never used.
"""


def page() -> str:
    """The whole page."""
    path = RESULTS / "chaos.json"
    if not path.exists():
        return f"{TOP}\n{REPLAY}"
    record = json.loads(path.read_text())
    return f"{TOP}\n## What was seen\n\n{seen(record)}\n{REPLAY}"


def seen(record: dict[str, Any]) -> str:
    """The sentence and the table."""
    runs, machine = record["runs"], record["machine"]
    broken = [run for run in runs if run["violation"] is not None]
    tickets = sum(run["tickets"] for run in runs)
    lines = [
        f"`make chaos RUNS={len(runs)} SEED={record['settings']['seed']}`: {len(runs)} runs with {tickets:,} tickets,"
        f" **{len(broken)} violations**.",
        "Recovery is the time from the healing of a run's faults to the end of its last ticket; a run with several faults counts",
        "for each of them.",
        "",
        "| fault | runs | recovery, median | worst |",
        "|---|---|---|---|",
    ]
    for kind, text in KINDS.items():
        found = record["kinds"].get(kind)
        if found is not None:
            lines.append(f"| {text} | {found['runs']} | {found['median']:.1f} s | {found['worst']:.1f} s |")
    lines += [f"\nRun {run['run']}: {run['violation'].splitlines()[0]}" for run in broken]
    lines.append(
        f"\nOn {machine['cpu']}, {machine['cores']} cores, with a load of {math.ceil(machine['load'])} at the end;"
        f" leases of 1.5 s and a sweep every 0.5 s. Code `{record['digests']['code'][:12]}`,"
        f" harness `{record['digests']['harness'][:12]}`.\n"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page())
