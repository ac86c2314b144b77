"""From a ticket to a published version, against the retrain and against the floor, in one run and one process.

`python -m benchmarks.cycle [--data digits|fashion-mnist]`. The cycle is everything but the queue: accept the ticket, close
the batch, claim, load the parent, update, validate, judge, store, publish; its time is the database's, from the ticket's
to the version's. The floor is what no way of doing it can leave out: gradients on D_f, and forward passes of the new
weights over D_f and both halves of the audit data. The judgement is made as always and then replaced by `publish`, so
that every round takes the same path; whether verdicts are right is another benchmark's question.
"""

import argparse
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import torch
from sqlalchemy import select

from app import batches, manifests, policy, tickets, versions
from app.cli import datasets, service
from app.config import settings
from app.db import engine, transaction
from app.policy import Judgement, PolicyBody
from app.tables import Batch, Decision, Model, Reason, RiskTier, Ticket, Trigger, Verdict, Version
from benchmarks.results import Row, finish
from embedded.supervisor import Supervisor
from unlearning.gradients import gradient_sum, scores
from unlearning.splits import split_unseen
from unlearning.training import restore
from workers import artifacts, pipeline, problems

SEED = 0
WAYS: dict[str, dict[str, Any]] = {
    "iau, eta given": {"update": {"eta": 1e-3}, "ladder": ["iau", "retrain"]},
    "iau, eta searched": {"ladder": ["iau", "retrain"]},
    "iau-calibrated": {"ladder": ["iau-calibrated", "retrain"]},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=["digits", "fashion-mnist"], default="digits")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with private_database(), always_publish():
        bench = Bench(options.data)
        problem = problems.load(options.data)
        rows = []
        for count in (1, len(problem.train) // 20):
            for way in WAYS:
                rows += measure(bench, count, way, options.rounds)
        engine().dispose()
    facts: dict[str, Any] = {
        "training_samples": len(problem.train),
        "holdout": len(problem.holdout),
        "test": len(problem.test),
    }
    facts |= {"retrain_seconds": bench.retrain_seconds, "seed": SEED}
    return finish("cycle" if options.data == "digits" else f"cycle-{options.data}", rows, vars(options) | facts)


@contextmanager
def private_database() -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="ex-") as folder:
        service.configure(Path(folder), None, None)
        engine.cache_clear()
        with Supervisor(settings().home / "log", print) as supervisor:
            service.start_servers(supervisor, settings())
            service.upgrade()
            yield


@contextmanager
def always_publish() -> Iterator[None]:
    """Judge as always, then publish."""
    real = policy.judge

    def judge(policy: PolicyBody, statistics: policy.Statistics, forget_count: int) -> Judgement:
        return Judgement(Decision.PUBLISH, real(policy, statistics, forget_count).reasons)

    policy.judge = judge
    try:
        yield
    finally:
        policy.judge = real


class Bench:
    """A trained model; each ticket takes training samples that no other took."""

    def __init__(self, data: str) -> None:
        self.data = data
        train = problems.load(data).train
        self.left = np.random.default_rng(SEED).permutation(len(train)).tolist()
        with transaction() as session:
            csv = io.BytesIO(b"".join(datasets.from_problem(data)))
            manifests.load(session, data, manifests.blocks_from_csv(csv), "bench")
            model = versions.register(session, "cycle", data, data, body_with({}), "bench")
            batches.request_retrain(session, model, Trigger.REGISTRATION, "benchmark", "bench")
            self.model_id = model.id
        pipeline.work(self.model_id)
        self.retrain_seconds = float(self.newest(Verdict).seconds["train"])

    def newest(self, table: Any) -> Any:
        with transaction() as session:
            return session.scalars(select(table).order_by(table.id.desc()).limit(1)).one()

    def judge_by(self, way: dict[str, Any]) -> None:
        with transaction() as session:
            model = session.get_one(Model, self.model_id)
            present = policy.etag(policy.current(session, model.id))
            policy.replace(session, model, body_with(way), present, "bench")

    def cycle(self, count: int) -> tuple[float, list[int]]:
        """One ticket of `count` samples to its published version: seconds by the database's clock, and the samples."""
        chosen, self.left = self.left[:count], self.left[count:]
        ids = problems.load(self.data).train.ids
        asked = tickets.Submission(self.data, [ids[i] for i in chosen], [], Reason.OTHER, RiskTier.LOW, None, None)
        with transaction() as session:
            ticket_id: UUID = tickets.submit(session, "bench", asked).ticket_id
        pipeline.work(self.model_id)
        with transaction() as session:
            ticket = session.get_one(Ticket, ticket_id)
            version = session.get_one(Version, ticket.obligations[0].version_id)
            assert session.get_one(Batch, version.batch_id).attempt == 1
            return (version.published_at - ticket.created_at).total_seconds(), chosen

    def floor(self, chosen: list[int]) -> float:
        """Seconds for the gradients on D_f and the new weights' forward passes, on what the cycle has just published."""
        problem = problems.load(self.data)
        version = self.newest(Version)
        model = restore(problem, artifacts.load_weights(version.weights_digest))
        _, audit = split_unseen(problem)
        forget = np.sort(np.asarray(chosen, dtype=np.int64))
        begun = time.perf_counter()
        gradient_sum(model, problem, problem.train, forget)
        scores(model, problem, problem.train, forget)
        scores(model, problem, audit.holdout)
        scores(model, problem, audit.test)
        return time.perf_counter() - begun


def body_with(way: dict[str, Any]) -> PolicyBody:
    """A policy under which nothing but the ladder's first rung is ever due."""
    loose = {"drift": {"max_share": 1, "max_updates": 10_000, "false_publishes": 10_000}, "window": {"max_share": 1}}
    return PolicyBody.model_validate(loose | way | {"batching": {"max_wait_seconds": 0}})


def measure(bench: Bench, count: int, way: str, rounds: int) -> list[Row]:
    """Cycle and floor in turns; the medians, and the ratio pair by pair."""
    bench.judge_by(WAYS[way])
    bench.cycle(count)  # warm: first use of kernels, caches and connections
    cycles, floors = [], []
    for _ in range(rounds):
        seconds, chosen = bench.cycle(count)
        cycles.append(seconds)
        floors.append(bench.floor(chosen))
    name = f"{count} sample{'s' if count > 1 else ''}, {way}"
    over = [a / b for a, b in zip(cycles, floors, strict=True)]
    figure, floor = statistics.median(cycles), statistics.median(floors)
    spread = f"{min(over):.1f}–{max(over):.1f}"
    faster = bench.retrain_seconds / figure
    return [
        Row(
            f"{name}: ticket to version",
            f"{figure:.3f} s",
            f"{floor:.3f} s",
            statistics.median(over),
            None,
            True,
            spread,
        ),
        Row(
            f"{name}: times faster than a retrain",
            f"{figure:.3f} s",
            f"{bench.retrain_seconds:.1f} s",
            faster,
            1,
            False,
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
