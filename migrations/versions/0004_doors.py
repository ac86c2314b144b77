"""limits of a key, and the ids that a client named today

Revision: 0004
Follows: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("api_key", sa.Column("requests_per_minute", sa.Integer(), nullable=True))
    op.add_column("api_key", sa.Column("ids_per_day", sa.BigInteger(), nullable=True))
    op.create_check_constraint(op.f("ck_api_key_positive_rate"), "api_key", "requests_per_minute > 0")
    op.create_check_constraint(op.f("ck_api_key_no_negative_ids"), "api_key", "ids_per_day >= 0")
    op.create_table(
        "daily_ids",
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("ids", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("client", "day", name=op.f("pk_daily_ids")),
    )


def downgrade() -> None:
    op.drop_table("daily_ids")
    op.drop_constraint(op.f("ck_api_key_no_negative_ids"), "api_key")
    op.drop_constraint(op.f("ck_api_key_positive_rate"), "api_key")
    op.drop_column("api_key", "ids_per_day")
    op.drop_column("api_key", "requests_per_minute")
