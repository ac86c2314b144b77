"""weights that are withdrawn because of what they would tell beside a later version's

Revision: 0006
Follows: 0005
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("version", sa.Column("weights_fetched_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("version", sa.Column("weights_withdrawn_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("version", sa.Column("disclosure", postgresql.JSONB(none_as_null=True), nullable=True))


def downgrade() -> None:
    """Weights that were withdrawn are purged: the release before this one would hand them out."""
    op.execute(
        "UPDATE version SET weights_purged_at = weights_withdrawn_at"
        " WHERE weights_withdrawn_at IS NOT NULL AND weights_purged_at IS NULL"
    )
    op.drop_column("version", "disclosure")
    op.drop_column("version", "weights_withdrawn_at")
    op.drop_column("version", "weights_fetched_at")
