"""that a database was restored, and what may come after it

Revision: 0008
Follows: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "restoration",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("backup", sa.Text(), nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("schema", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("restored_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("resolved_by", sa.Text(), nullable=True),
        sa.Column("why", sa.Text(), nullable=True),
        sa.Column("journal_seq", sa.BigInteger(), nullable=True),
        sa.Column("journal_hash", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_restoration")),
    )


def downgrade() -> None:
    """Refused while a restoration is unresolved: older code knows of no lock and would train at once."""
    if op.get_bind().scalar(sa.text("SELECT EXISTS (SELECT FROM restoration WHERE resolved_at IS NULL)")):
        raise RuntimeError(
            "This database was restored and the tickets that came after its back-up are not replayed: run `expunge replay` first."
        )
    op.drop_table("restoration")
