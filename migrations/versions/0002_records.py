"""what a version keeps of its training

Revision: 0002
Follows: 0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("version", sa.Column("records_digest", sa.Text(), nullable=True))
    op.add_column("version", sa.Column("records", postgresql.JSONB(none_as_null=True), nullable=True))
    op.create_unique_constraint(op.f("uq_version_records_digest"), "version", ["records_digest"])
    op.create_check_constraint(
        op.f("ck_version_records_until_superseded"),
        "version",
        "records_digest IS NULL OR (superseded_at IS NULL AND records IS NOT NULL)",
    )


def downgrade() -> None:
    """The records' bytes are named by no row afterwards, and are collected like any such artifact."""
    op.drop_constraint(op.f("ck_version_records_until_superseded"), "version", type_="check")
    op.drop_constraint(op.f("uq_version_records_digest"), "version", type_="unique")
    op.drop_column("version", "records")
    op.drop_column("version", "records_digest")
