"""What a ticket, a batch and a training sample leave in the database: rows and bytes, measured on a real one."""

import io
import tempfile
from pathlib import Path
from typing import Any

from sqlalchemy import text

from app import batches, manifests, tickets, versions
from app.cli import service
from app.cli.demo import free_port
from app.config import settings
from app.db import engine, transaction
from app.policy import PolicyBody
from app.tables import Model, Reason, RiskTier, Trigger
from embedded.supervisor import Supervisor

LENIENT = {
    "batching": {"max_wait_seconds": 0},
    "update": {"eta": 1.0},
    "accept_undetectable": True,
    "thresholds": {"mu": 1, "ue": 1, "worst_class": 1},
}
"""Publishes the first rung's update mostly: what a batch writes is measured, not what it decides."""
TICKETS, BATCHES, SAMPLES = 5_000, 10, 100_000
SIZES = """
    SELECT c.relname, pg_total_relation_size(c.oid), greatest(c.reltuples, 0)::bigint
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'public' AND c.relkind = 'r'
"""
Sizes = dict[str, tuple[int, int]]


def measured() -> dict[str, Any]:
    """Rows and bytes, indexes included, that each kind of thing adds."""
    with tempfile.TemporaryDirectory(prefix="ex-") as folder:
        service.configure(Path(folder), "127.0.0.1", free_port())
        engine.cache_clear()
        conf = settings()
        with Supervisor(conf.home / "log", print) as supervisor:
            service.start_servers(supervisor, conf)
            service.upgrade()
            model_id = digits()
            before = sizes()
            pool()
            loaded = sizes()
            for number in range(TICKETS):
                submit("pool", f"s{number:08d}")
            asked = sizes()
            worked_off(model_id)
            done = sizes()
            engine().dispose()
    return {
        "sample": grown(before, loaded, SAMPLES),
        "ticket": grown(loaded, asked, TICKETS),
        "batch": grown(asked, done, BATCHES),
    }


def digits() -> int:
    """A model that workers can update in less than a second: its first version is trained."""
    from workers import pipeline, problems

    train = problems.load("digits").train
    lines = "".join(f"{one},{whose or ''}\n" for one, whose in zip(train.ids, train.subjects, strict=True))
    body = PolicyBody.model_validate(LENIENT)
    with transaction() as session:
        manifests.load(
            session, "digits", manifests.blocks_from_csv(io.BytesIO(f"id,subject\n{lines}".encode())), "bench"
        )
        model = versions.register(session, "digits", "digits", "digits", body, "bench")
        batches.request_retrain(session, model, Trigger.REGISTRATION, "the model was registered", "bench")
        model_id = model.id
    pipeline.work(model_id)
    return model_id


def pool() -> None:
    """A dataset without a problem, for tickets alone."""
    with transaction() as session:
        csv = b"id,subject\n" + b"".join(b"s%08d,u%d\n" % (i, i // 20) for i in range(SAMPLES))
        manifests.load(session, "pool", manifests.blocks_from_csv(io.BytesIO(csv)), "bench")
        versions.register(session, "pool", "pool", "none", PolicyBody(), "bench")


def submit(dataset: str, sample: str) -> None:
    asked = tickets.Submission(dataset, [sample], [], Reason.OTHER, RiskTier.STANDARD, None, None)
    with transaction() as session:
        tickets.submit(session, "bench", asked)


def worked_off(model_id: int) -> None:
    """Batches of one ticket each, by whatever rung."""
    from workers import pipeline, problems

    names = problems.load("digits").train.ids
    for number in range(BATCHES):
        submit("digits", names[number])
        pipeline.work(model_id)
    with transaction() as session:
        assert session.get_one(Model, model_id).current_version_id is not None


def sizes() -> Sizes:
    with engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM FULL"))  # which counts the rows as well
        return {name: (size, count) for name, size, count in connection.execute(text(SIZES))}


def grown(before: Sizes, after: Sizes, count: int) -> dict[str, Any]:
    """What each of `count` things has added."""
    rows = sum(size[1] for size in after.values()) - sum(size[1] for size in before.values())
    size = sum(each[0] for each in after.values()) - sum(each[0] for each in before.values())
    return {"rows": round(rows / count, 2), "bytes": round(size / count)}
