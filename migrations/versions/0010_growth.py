"""indexes for what is read while tickets grow to millions

Revision: 0010
Follows: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

INDEXES = (
    ("ix_ticket_dataset_id_ticket_created_at_ticket_id", "ticket", ["dataset_id", "created_at", "id"], None),
    ("ix_ticket_unfulfilled", "ticket", ["state", "created_at", "id"], "state <> 'fulfilled'"),
    ("ix_ticket_open", "ticket", ["created_at", "id"], "closed_at IS NULL"),
    ("ix_ticket_external_id", "ticket", ["external_id"], "external_id IS NOT NULL"),
    ("ix_obligation_open", "obligation", ["model_id"], "state IN ('pending', 'batched', 'quarantined')"),
    ("ix_obligation_unreleased", "obligation", ["model_id"], "state = 'fulfilled' AND released_at IS NULL"),
    ("ix_obligation_version_id", "obligation", ["version_id"], "version_id IS NOT NULL"),
    ("ix_audit_event_resumed", "audit_event", ["model_id", "seq"], "kind = 'model.resumed'"),
)


def upgrade() -> None:
    for name, table, columns, where in INDEXES:
        op.create_index(name, table, columns, postgresql_where=sa.text(where) if where else None)


def downgrade() -> None:
    for name, table, _, _ in reversed(INDEXES):
        op.drop_index(name, table)
