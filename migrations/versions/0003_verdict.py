"""the reference bank, and what an inconclusive verdict waits for

Revision: 0003
Follows: 0002
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def words(*values: str, name: str) -> sa.Enum:
    return sa.Enum(*values, name=name, native_enum=False, create_constraint=True, length=24)


def upgrade() -> None:
    op.add_column("model", sa.Column("stopped", sa.Text(), nullable=True))
    op.add_column("model", sa.Column("deferral", postgresql.JSONB(none_as_null=True), nullable=True))
    op.create_table(
        "bank",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("model_id", sa.BigInteger(), nullable=False),
        sa.Column("version_id", sa.BigInteger(), nullable=False),
        sa.Column("state", words("building", "ready", "retired", name="bankstate"), nullable=False),
        sa.Column("wanted", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=True),
        sa.Column("facts", postgresql.JSONB(none_as_null=True), nullable=True),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ready_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state <> 'ready' OR digest IS NOT NULL", name=op.f("ck_bank_ready_with_a_table")),
        sa.CheckConstraint("state <> 'retired' OR digest IS NULL", name=op.f("ck_bank_retired_without_one")),
        sa.ForeignKeyConstraint(["model_id"], ["model.id"], name=op.f("fk_bank_model_id")),
        sa.ForeignKeyConstraint(["version_id"], ["version.id"], name=op.f("fk_bank_version_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bank")),
        sa.UniqueConstraint("digest", name=op.f("uq_bank_digest")),
    )
    op.create_index(
        "uq_bank_one_in_use", "bank", ["model_id"], unique=True, postgresql_where=sa.text("state <> 'retired'")
    )
    op.create_table(
        "reference",
        sa.Column("bank_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", words("pending", "running", "done", "failed", name="referencestate"), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("lease_epoch", sa.BigInteger(), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("not_before", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("progress", sa.Float(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=True),
        sa.Column("seconds", sa.Float(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["bank_id"], ["bank.id"], name=op.f("fk_reference_bank_id")),
        sa.PrimaryKeyConstraint("bank_id", "number", name=op.f("pk_reference")),
    )


def downgrade() -> None:
    """The tables' bytes are named by no row afterwards, and are collected like any such artifact.

    Refused while a model is stopped: older code knows of no stop, and would publish approximate updates again.
    """
    if op.get_bind().scalar(sa.text("SELECT EXISTS (SELECT FROM model WHERE stopped IS NOT NULL)")):
        raise RuntimeError("A model is stopped. Look into the reason and run `expunge models resume` first.")
    op.drop_table("reference")
    op.drop_index("uq_bank_one_in_use", table_name="bank")
    op.drop_table("bank")
    op.drop_column("model", "deferral")
    op.drop_column("model", "stopped")
