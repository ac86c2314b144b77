"""totals for metrics, and indexes for what is counted at a scrape

Revision: 0007
Follows: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "tally",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("model_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", "model_id", "labels", name=op.f("pk_tally")),
    )
    op.create_index("ix_batch_quarantined", "batch", ["model_id"], postgresql_where=sa.text("state = 'quarantined'"))
    op.create_index("ix_version_kept", "version", ["model_id"], postgresql_where=sa.text("weights_purged_at IS NULL"))


def downgrade() -> None:
    op.drop_index("ix_version_kept", "version")
    op.drop_index("ix_batch_quarantined", "batch")
    op.drop_table("tally")
