"""More tickets than a statement takes parameters: a retrain takes over whatever waits."""

import pytest
from sqlalchemy import func, select, text

from app import audit
from app.db import transaction
from app.tables import Obligation, ObligationState, Ticket, TicketState
from tests.app import story

MANY = 66_000
WAITING = text(
    """
    WITH made AS (
        INSERT INTO ticket (id, client, dataset_id, reason, risk_tier, state, accepted, unknown, already_forgotten,
                            pending_elsewhere, data_removed_at)
        SELECT gen_random_uuid(), 'tool', :dataset, 'other', 'low', 'pending', 1, 0, 0, 0, now()
        FROM generate_series(1, :many)
        RETURNING id
    ), buried AS (
        INSERT INTO tombstone (dataset_id, ordinal, ticket_id) SELECT :dataset, row_number() OVER () - 1, id FROM made
    )
    INSERT INTO obligation (ticket_id, model_id, state, samples) SELECT id, :model, 'pending', 1 FROM made
    """
)


@pytest.mark.service
def test_a_retrain_takes_over_and_fulfils_any_number_of_tickets(database: str) -> None:
    dataset, model_id = story.dataset(samples=MANY), story.trained(policy=story.PATIENT)
    with transaction() as session:
        session.execute(WAITING, {"dataset": dataset, "model": model_id, "many": MANY})
        before = session.scalar(select(func.max(audit.AuditEvent.seq))) or 0
    story.retrain(model_id)
    (version,) = story.work(model_id)
    with transaction() as session:
        fulfilled = select(func.count()).select_from(Ticket).where(Ticket.state == TicketState.FULFILLED)
        owed = select(func.count()).select_from(Obligation).where(Obligation.state == ObligationState.FULFILLED)
        assert session.scalar(fulfilled) == MANY
        assert session.scalar(owed.where(Obligation.version_id == version.id)) == MANY
        head = audit.rows(session, 10**9).all()
        told = [row for row in head if row.seq > before and row.kind == "ticket.fulfilled"]
        assert len(told) == MANY
        assert audit.follow(head)[2] is None
