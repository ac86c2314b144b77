"""approvals of mass deletion, and of policies that loosen what guards a model

Revision: 0005
Follows: 0004
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def words(*values: str, name: str) -> sa.Enum:
    return sa.Enum(*values, name=name, native_enum=False, create_constraint=True, length=24)


def upgrade() -> None:
    """An approval that was given before, and that no batch has used, is void: who gave it is not known."""
    op.create_table(
        "approval",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("model_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "state",
            words("requested", "approved", "refused", "used", "expired", "lapsed", name="approvalstate"),
            nullable=False,
        ),
        sa.Column("samples", sa.BigInteger(), nullable=False),
        sa.Column("share", sa.Float(), nullable=False),
        sa.Column("cap", sa.Float(), nullable=False),
        sa.Column("deadline_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("asked_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("warned_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("why", sa.Text(), nullable=True),
        sa.Column("instead", words("wait", "retrain", name="instead"), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("batch_id", sa.Uuid(), nullable=True),
        sa.CheckConstraint(
            "(state = 'approved') <= (expires_at IS NOT NULL)", name=op.f("ck_approval_approved_for_a_time")
        ),
        sa.CheckConstraint(
            "(state = 'refused') <= (instead IS NOT NULL)", name=op.f("ck_approval_refused_for_something")
        ),
        sa.ForeignKeyConstraint(["model_id"], ["model.id"], name=op.f("fk_approval_model_id")),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name=op.f("fk_approval_batch_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_approval")),
    )
    op.create_index(
        "uq_approval_one_open",
        "approval",
        ["model_id"],
        unique=True,
        postgresql_where=sa.text("state = 'requested' OR (state = 'refused' AND instead = 'wait')"),
    )
    op.add_column("obligation", sa.Column("approval_id", sa.BigInteger(), nullable=True))
    op.create_foreign_key(op.f("fk_obligation_approval_id"), "obligation", "approval", ["approval_id"], ["id"])
    op.create_index(
        op.f("ix_obligation_approval_id"),
        "obligation",
        ["approval_id"],
        postgresql_where=sa.text("approval_id IS NOT NULL"),
    )
    op.drop_column("model", "cap_approved_at")
    op.add_column("policy", sa.Column("approved_by", sa.Text(), nullable=True))
    op.create_check_constraint(op.f("ck_policy_approved_by_another"), "policy", "approved_by <> author")
    op.create_table(
        "proposal",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("model_id", sa.BigInteger(), nullable=False),
        sa.Column("state", words("proposed", "approved", "refused", "overtaken", name="proposalstate"), nullable=False),
        sa.Column("base", sa.Integer(), nullable=False),
        sa.Column("body", postgresql.JSONB(), nullable=False),
        sa.Column("loosens", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("why", sa.Text(), nullable=True),
        sa.CheckConstraint("state <> 'approved' OR decided_by <> author", name=op.f("ck_proposal_approved_by_another")),
        sa.ForeignKeyConstraint(["model_id"], ["model.id"], name=op.f("fk_proposal_model_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_proposal")),
    )
    op.create_index(op.f("ix_proposal_model_id"), "proposal", ["model_id"])


def downgrade() -> None:
    """Tickets that were approved are asked for again."""
    op.drop_index(op.f("ix_proposal_model_id"), table_name="proposal")
    op.drop_table("proposal")
    op.drop_constraint(op.f("ck_policy_approved_by_another"), "policy")
    op.drop_column("policy", "approved_by")
    op.add_column("model", sa.Column("cap_approved_at", sa.DateTime(timezone=True), nullable=True))
    op.drop_index(op.f("ix_obligation_approval_id"), table_name="obligation")
    op.drop_constraint(op.f("fk_obligation_approval_id"), "obligation", type_="foreignkey")
    op.drop_column("obligation", "approval_id")
    op.drop_index("uq_approval_one_open", table_name="approval")
    op.drop_table("approval")
