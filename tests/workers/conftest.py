"""A small model on a database of its own, worked on in this very process: no Celery, no waiting."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import func, select, update

from app import batches, manifests, tickets, versions
from app.db import transaction
from app.policy import PolicyBody
from app.tables import Batch, BatchState, Model, Reason, RiskTier, Ticket, Trigger, Version
from workers import pipeline, problems

PROBLEMS = Path(__file__).parent.parent / "problems"
EAGER = {"max_wait_seconds": 0}
LENIENT = PolicyBody.model_validate(
    {
        "batching": EAGER,
        "accept_undetectable": True,
        "thresholds": {"mu": 1, "ue": 1, "worst_class": 1, "retrain_accuracy_drop": 1},
        "update": {"eta": 2.0},
    }
)
"""Publishes an update whatever it costs, as long as it forgets: a step of 2 does. For tests of everything but the verdict."""
STRICT = PolicyBody.model_validate({"batching": EAGER, "thresholds": {"mu": 0.001, "ue": 0.001}})
"""Publishes no update."""


@pytest.fixture(autouse=True)
def test_problems(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make the test problems' entry points visible, and start with nothing cached."""
    monkeypatch.syspath_prepend(str(PROBLEMS))
    problems.load.cache_clear()
    problems.manifest_digest.cache_clear()
    yield
    problems.load.cache_clear()
    problems.manifest_digest.cache_clear()


@dataclass(frozen=True)
class Line:
    """A registered model and what tests do with it."""

    name: str
    model_id: int

    def work(self) -> None:
        pipeline.work(self.model_id)

    def submit(
        self, ordinals: range | list[int], tier: RiskTier = RiskTier.STANDARD, reason: Reason = Reason.OTHER
    ) -> UUID:
        ids = [f"train-{ordinal:04d}" for ordinal in ordinals]
        asked = tickets.Submission("clusters", ids, [], reason, tier, None, None)
        with transaction() as session:
            return tickets.submit(session, "client", asked).ticket_id

    def versions(self) -> list[Version]:
        with transaction() as session:
            return versions.line(session, session.get_one(Model, self.model_id))

    def batches(self) -> list[Batch]:
        with transaction() as session:
            query = select(Batch).where(Batch.model_id == self.model_id).order_by(Batch.created_at, Batch.id)
            return list(session.scalars(query))

    def batch(self) -> Batch:
        return self.batches()[-1]

    def ticket(self, ticket_id: UUID) -> Ticket:
        with transaction() as session:
            return tickets.get(session, None, ticket_id)

    def retrain(self) -> None:
        with transaction() as session:
            batches.request_retrain(
                session, session.get_one(Model, self.model_id), Trigger.OPERATOR, "asked", "operator"
            )
        self.work()

    def expire_lease(self) -> None:
        """Let the running batch's lease be over, as if its worker had been silent for long."""
        with transaction() as session:
            session.execute(
                update(Batch)
                .where(Batch.model_id == self.model_id, Batch.state == BatchState.RUNNING)
                .values(lease_until=func.now() - timedelta(seconds=1))
            )


def load_clusters() -> None:
    train = problems.load("clusters").train
    lines = [f"{sample},{subject}\n" for sample, subject in zip(train.ids, train.subjects, strict=True)]
    with transaction() as session:
        source = io.BytesIO("".join(["id,subject\n", *lines]).encode())
        manifests.load(session, "clusters", manifests.blocks_from_csv(source), "test")


def register(name: str, policy: PolicyBody, problem: str = "clusters") -> Line:
    with transaction() as session:
        model = versions.register(session, name, "clusters", problem, policy, "test")
        batches.request_retrain(session, model, Trigger.REGISTRATION, "the model was registered", "test")
        return Line(name, model.id)


@pytest.fixture
def lenient(database: object) -> Line:
    """A trained model whose policy lets any update pass."""
    load_clusters()
    line = register("lenient", LENIENT)
    line.work()
    return line


@pytest.fixture
def strict(database: object) -> Line:
    """A trained model whose policy lets no update pass."""
    load_clusters()
    line = register("strict", STRICT)
    line.work()
    return line
