"""which training samples of a current version have outlying gradients

Revision: 0016
Follows: 0015
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("version", sa.Column("exposure", postgresql.JSONB(none_as_null=True), nullable=True))
    op.create_check_constraint(
        op.f("ck_version_exposure_until_superseded"), "version", "exposure IS NULL OR superseded_at IS NULL"
    )


def downgrade() -> None:
    op.drop_column("version", "exposure")
