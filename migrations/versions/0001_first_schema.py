"""first schema

Revision: 0001
Follows:
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


# The log is append-only for everyone, its owner included: a change needs the trigger dropped, which is seen.
REFUSE_CHANGES = """
    CREATE FUNCTION refuse_changes() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$
"""


def upgrade() -> None:
    op.create_table(
        "api_key",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_key")),
        sa.UniqueConstraint("prefix", name=op.f("uq_api_key_prefix")),
    )
    op.create_table(
        "audit_event",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("ticket_id", sa.Uuid(), nullable=True),
        sa.Column("batch_id", sa.Uuid(), nullable=True),
        sa.Column("model_id", sa.BigInteger(), nullable=True),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit_event")),
    )
    op.create_index(
        op.f("ix_audit_event_batch_id"),
        "audit_event",
        ["batch_id"],
        unique=False,
        postgresql_where=sa.text("batch_id IS NOT NULL"),
    )
    op.create_index(
        op.f("ix_audit_event_model_id_audit_event_seq"),
        "audit_event",
        ["model_id", "seq"],
        unique=False,
        postgresql_where=sa.text("model_id IS NOT NULL"),
    )
    op.create_index(
        op.f("ix_audit_event_ticket_id"),
        "audit_event",
        ["ticket_id"],
        unique=False,
        postgresql_where=sa.text("ticket_id IS NOT NULL"),
    )
    op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_audit_head_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_head")),
    )
    op.create_table(
        "dataset",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sample_count", sa.BigInteger(), nullable=False),
        sa.Column("subject_count", sa.BigInteger(), nullable=False),
        sa.Column("manifest_digest", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset")),
        sa.UniqueConstraint("name", name=op.f("uq_dataset_name")),
    )
    op.create_table(
        "installation",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("cursor_key", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_installation_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_installation")),
    )
    op.create_table(
        "sample",
        sa.Column("dataset_id", sa.BigInteger(), nullable=False),
        sa.Column("ordinal", sa.BigInteger(), nullable=False),
        sa.Column("sample_id", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("dataset_id", "ordinal", name=op.f("pk_sample")),
        sa.UniqueConstraint("dataset_id", "sample_id", name=op.f("uq_sample_dataset_id_sample_id")),
        postgresql_partition_by="LIST (dataset_id)",
    )
    op.create_index(op.f("ix_sample_dataset_id_sample_subject"), "sample", ["dataset_id", "subject"], unique=False)
    op.create_table(
        "tombstone",
        sa.Column("dataset_id", sa.BigInteger(), nullable=False),
        sa.Column("ordinal", sa.BigInteger(), nullable=False),
        sa.Column("ticket_id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("dataset_id", "ordinal", "ticket_id", name=op.f("pk_tombstone")),
    )
    op.create_index(op.f("ix_tombstone_ticket_id"), "tombstone", ["ticket_id"], unique=False)
    op.create_table(
        "model",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("dataset_id", sa.BigInteger(), nullable=False),
        sa.Column("current_version_id", sa.BigInteger(), nullable=True),
        sa.Column("flush_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cap_approved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("held", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset.id"], name=op.f("fk_model_dataset_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model")),
        sa.UniqueConstraint("name", name=op.f("uq_model_name")),
    )
    op.create_table(
        "ticket",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("dataset_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "reason",
            sa.Enum(
                "consent_withdrawn",
                "erasure_request",
                "regulator_order",
                "unlawful_training",
                "poisoned",
                "outlier",
                "other",
                name="reason",
                native_enum=False,
                create_constraint=True,
                length=24,
            ),
            nullable=False,
        ),
        sa.Column(
            "risk_tier",
            sa.Enum("low", "standard", "high", name="risktier", native_enum=False, create_constraint=True, length=24),
            nullable=False,
        ),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column(
            "state",
            sa.Enum(
                "pending",
                "working",
                "fulfilled",
                "cancelled",
                "quarantined",
                name="ticketstate",
                native_enum=False,
                create_constraint=True,
                length=24,
            ),
            nullable=False,
        ),
        sa.Column("accepted", sa.Integer(), nullable=False),
        sa.Column("unknown", sa.Integer(), nullable=False),
        sa.Column("already_forgotten", sa.Integer(), nullable=False),
        sa.Column("pending_elsewhere", sa.Integer(), nullable=False),
        sa.Column("deadline_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("data_removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("data_releasable_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset.id"], name=op.f("fk_ticket_dataset_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ticket")),
        sa.UniqueConstraint("client", "external_id", name=op.f("uq_ticket_client_external_id")),
    )
    op.create_index(
        op.f("ix_ticket_client_ticket_created_at_ticket_id"), "ticket", ["client", "created_at", "id"], unique=False
    )
    op.create_index(op.f("ix_ticket_created_at_ticket_id"), "ticket", ["created_at", "id"], unique=False)
    op.create_table(
        "idempotency",
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request_digest", sa.LargeBinary(), nullable=False),
        sa.Column("ticket_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["ticket_id"], ["ticket.id"], name=op.f("fk_idempotency_ticket_id")),
        sa.PrimaryKeyConstraint("client", "key", name=op.f("pk_idempotency")),
    )
    op.create_index(op.f("ix_idempotency_created_at"), "idempotency", ["created_at"], unique=False)
    op.create_table(
        "policy",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("model_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("body", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["model.id"], name=op.f("fk_policy_model_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_policy")),
        sa.UniqueConstraint("model_id", "number", name=op.f("uq_policy_model_id_number")),
    )
    op.create_table(
        "schedule",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("model_id", sa.BigInteger(), nullable=False),
        sa.Column("cron", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["model.id"], name=op.f("fk_schedule_model_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedule")),
    )
    op.create_table(
        "batch",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("model_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                "train", "unlearn", "retrain", name="batchkind", native_enum=False, create_constraint=True, length=24
            ),
            nullable=False,
        ),
        sa.Column(
            "trigger",
            sa.Enum(
                "registration",
                "size",
                "age",
                "deadline",
                "flush",
                "operator",
                "schedule",
                "bisection",
                name="trigger",
                native_enum=False,
                create_constraint=True,
                length=24,
            ),
            nullable=False,
        ),
        sa.Column(
            "state",
            sa.Enum(
                "ready",
                "running",
                "published",
                "split",
                "quarantined",
                "cancelled",
                name="batchstate",
                native_enum=False,
                create_constraint=True,
                length=24,
            ),
            nullable=False,
        ),
        sa.Column("policy_id", sa.BigInteger(), nullable=False),
        sa.Column("policy", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("parent_version_id", sa.BigInteger(), nullable=True),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("split_from_id", sa.Uuid(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("lease_epoch", sa.BigInteger(), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("not_before", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("rung", sa.Text(), nullable=True),
        sa.Column("step", sa.Text(), nullable=True),
        sa.Column("progress", sa.Float(), nullable=False),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["model_id"], ["model.id"], name=op.f("fk_batch_model_id")),
        sa.ForeignKeyConstraint(["policy_id"], ["policy.id"], name=op.f("fk_batch_policy_id")),
        sa.ForeignKeyConstraint(["split_from_id"], ["batch.id"], name=op.f("fk_batch_split_from_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batch")),
    )
    op.create_index(op.f("ix_batch_created_at_batch_id"), "batch", ["created_at", "id"], unique=False)
    op.create_index(
        "ix_batch_open",
        "batch",
        ["model_id", "created_at"],
        unique=False,
        postgresql_where=sa.text("state IN ('ready', 'running')"),
    )
    op.create_index(
        "uq_batch_one_running", "batch", ["model_id"], unique=True, postgresql_where=sa.text("state = 'running'")
    )
    op.create_table(
        "occurrence",
        sa.Column("schedule_id", sa.BigInteger(), nullable=False),
        sa.Column("scheduled_for", sa.DateTime(timezone=True), nullable=False),
        sa.Column("batch_id", sa.Uuid(), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name=op.f("fk_occurrence_batch_id")),
        sa.ForeignKeyConstraint(["schedule_id"], ["schedule.id"], name=op.f("fk_occurrence_schedule_id")),
        sa.PrimaryKeyConstraint("schedule_id", "scheduled_for", name=op.f("pk_occurrence")),
    )
    op.create_table(
        "run",
        sa.Column("batch_id", sa.Uuid(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name=op.f("fk_run_batch_id")),
        sa.PrimaryKeyConstraint("batch_id", "epoch", name=op.f("pk_run")),
    )
    op.create_table(
        "verdict",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("batch_id", sa.Uuid(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("rung", sa.Text(), nullable=False),
        sa.Column("weights_digest", sa.Text(), nullable=False),
        sa.Column(
            "decision",
            sa.Enum(
                "publish",
                "escalate",
                "inconclusive",
                name="decision",
                native_enum=False,
                create_constraint=True,
                length=24,
            ),
            nullable=False,
        ),
        sa.Column("reasons", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("method", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("statistics", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("thresholds", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("seconds", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("truth", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("truth_version_id", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name=op.f("fk_verdict_batch_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_verdict")),
        sa.UniqueConstraint("id", "weights_digest", "decision", name=op.f("uq_verdict_id_weights_digest_decision")),
    )
    op.create_index(op.f("ix_verdict_batch_id"), "verdict", ["batch_id"], unique=False)
    op.create_table(
        "version",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("model_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                "trained",
                "unlearned",
                "retrained",
                name="versionkind",
                native_enum=False,
                create_constraint=True,
                length=24,
            ),
            nullable=False,
        ),
        sa.Column("parent_id", sa.BigInteger(), nullable=True),
        sa.Column("batch_id", sa.Uuid(), nullable=False),
        sa.Column("verdict_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "decision",
            sa.Enum(
                "publish",
                "escalate",
                "inconclusive",
                name="decision",
                native_enum=False,
                create_constraint=True,
                length=24,
            ),
            nullable=False,
        ),
        sa.Column("weights_digest", sa.Text(), nullable=False),
        sa.Column("weights_bytes", sa.BigInteger(), nullable=False),
        sa.Column("manifest_digest", sa.Text(), nullable=False),
        sa.Column("excluded_digest", sa.Text(), nullable=False),
        sa.Column("excluded_count", sa.BigInteger(), nullable=False),
        sa.Column("forgotten", sa.Integer(), nullable=False),
        sa.Column("environment", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("superseded_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("weights_purged_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("gradients_digest", sa.Text(), nullable=True),
        sa.CheckConstraint("decision = 'publish'", name=op.f("ck_version_published_on_a_verdict")),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name=op.f("fk_version_batch_id")),
        sa.ForeignKeyConstraint(["model_id"], ["model.id"], name=op.f("fk_version_model_id")),
        sa.ForeignKeyConstraint(["parent_id"], ["version.id"], name=op.f("fk_version_parent_id")),
        sa.ForeignKeyConstraint(
            ["verdict_id", "weights_digest", "decision"],
            ["verdict.id", "verdict.weights_digest", "verdict.decision"],
            name=op.f("fk_version_verdict_id_weights_digest_decision"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_version")),
        sa.UniqueConstraint("batch_id", name=op.f("uq_version_batch_id")),
        sa.UniqueConstraint("model_id", "number", name=op.f("uq_version_model_id_number")),
        sa.UniqueConstraint(
            "model_id", "parent_id", name=op.f("uq_version_model_id_parent_id"), postgresql_nulls_not_distinct=True
        ),
    )
    op.create_index(
        op.f("ix_version_model_id_version_published_at"), "version", ["model_id", "published_at"], unique=False
    )
    op.create_table(
        "obligation",
        sa.Column("ticket_id", sa.Uuid(), nullable=False),
        sa.Column("model_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "pending",
                "batched",
                "fulfilled",
                "cancelled",
                "quarantined",
                name="obligationstate",
                native_enum=False,
                create_constraint=True,
                length=24,
            ),
            nullable=False,
        ),
        sa.Column("samples", sa.Integer(), nullable=False),
        sa.Column("batch_id", sa.Uuid(), nullable=True),
        sa.Column("version_id", sa.BigInteger(), nullable=True),
        sa.Column("deadline_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("fulfilled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("released_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'fulfilled') = (version_id IS NOT NULL)", name=op.f("ck_obligation_fulfilled_by_a_version")
        ),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name=op.f("fk_obligation_batch_id")),
        sa.ForeignKeyConstraint(["model_id"], ["model.id"], name=op.f("fk_obligation_model_id")),
        sa.ForeignKeyConstraint(["ticket_id"], ["ticket.id"], name=op.f("fk_obligation_ticket_id")),
        sa.ForeignKeyConstraint(["version_id"], ["version.id"], name=op.f("fk_obligation_version_id")),
        sa.PrimaryKeyConstraint("ticket_id", "model_id", name=op.f("pk_obligation")),
    )
    op.create_index(op.f("ix_obligation_batch_id"), "obligation", ["batch_id"], unique=False)
    op.create_index(
        "ix_obligation_pending",
        "obligation",
        ["model_id", "created_at"],
        unique=False,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_foreign_key(op.f("fk_model_current_version_id"), "model", "version", ["current_version_id"], ["id"])
    op.create_foreign_key(op.f("fk_batch_parent_version_id"), "batch", "version", ["parent_version_id"], ["id"])
    op.create_foreign_key(op.f("fk_verdict_truth_version_id"), "verdict", "version", ["truth_version_id"], ["id"])
    op.execute("INSERT INTO audit_head (id, seq, hash) VALUES (1, 0, decode(repeat('00', 32), 'hex'))")
    # 256 random bits from two version-4 identifiers: no extension needed.
    op.execute(
        "INSERT INTO installation (id, cursor_key) VALUES "
        "(1, sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')))"
    )
    op.execute(REFUSE_CHANGES)
    op.execute(
        "CREATE TRIGGER audit_event_append_only BEFORE UPDATE OR DELETE ON audit_event "
        "FOR EACH ROW EXECUTE FUNCTION refuse_changes()"
    )
    op.execute(
        "CREATE TRIGGER audit_event_no_truncate BEFORE TRUNCATE ON audit_event "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_changes()"
    )


def downgrade() -> None:
    """Refused where it would drop what must not be read again, or the log of it."""
    counts = {
        t: op.get_bind().scalar(sa.text(f"SELECT count(*) FROM {t}")) for t in ("tombstone", "ticket", "audit_event")
    }
    if any(counts.values()):
        raise RuntimeError(
            f"{counts['tombstone']} tombstones, {counts['ticket']} tickets and {counts['audit_event']} events would be lost. "
            "If that is meant, drop the database."
        )
    op.drop_constraint(op.f("fk_model_current_version_id"), "model", type_="foreignkey")
    op.drop_constraint(op.f("fk_batch_parent_version_id"), "batch", type_="foreignkey")
    op.drop_constraint(op.f("fk_verdict_truth_version_id"), "verdict", type_="foreignkey")
    op.drop_index("ix_obligation_pending", table_name="obligation", postgresql_where=sa.text("state = 'pending'"))
    op.drop_index(op.f("ix_obligation_batch_id"), table_name="obligation")
    op.drop_table("obligation")
    op.drop_index(op.f("ix_version_model_id_version_published_at"), table_name="version")
    op.drop_table("version")
    op.drop_index(op.f("ix_verdict_batch_id"), table_name="verdict")
    op.drop_table("verdict")
    op.drop_table("run")
    op.drop_table("occurrence")
    op.drop_index("uq_batch_one_running", table_name="batch", postgresql_where=sa.text("state = 'running'"))
    op.drop_index("ix_batch_open", table_name="batch", postgresql_where=sa.text("state IN ('ready', 'running')"))
    op.drop_index(op.f("ix_batch_created_at_batch_id"), table_name="batch")
    op.drop_table("batch")
    op.drop_table("schedule")
    op.drop_table("policy")
    op.drop_index(op.f("ix_idempotency_created_at"), table_name="idempotency")
    op.drop_table("idempotency")
    op.drop_index(op.f("ix_ticket_created_at_ticket_id"), table_name="ticket")
    op.drop_index(op.f("ix_ticket_client_ticket_created_at_ticket_id"), table_name="ticket")
    op.drop_table("ticket")
    op.drop_table("model")
    op.drop_index(op.f("ix_tombstone_ticket_id"), table_name="tombstone")
    op.drop_table("tombstone")
    op.drop_index(op.f("ix_sample_dataset_id_sample_subject"), table_name="sample")
    op.drop_table("sample")
    op.drop_table("installation")
    op.drop_table("dataset")
    op.drop_table("audit_head")
    op.drop_index(
        op.f("ix_audit_event_ticket_id"), table_name="audit_event", postgresql_where=sa.text("ticket_id IS NOT NULL")
    )
    op.drop_index(
        op.f("ix_audit_event_model_id_audit_event_seq"),
        table_name="audit_event",
        postgresql_where=sa.text("model_id IS NOT NULL"),
    )
    op.drop_index(
        op.f("ix_audit_event_batch_id"), table_name="audit_event", postgresql_where=sa.text("batch_id IS NOT NULL")
    )
    op.drop_table("audit_event")
    op.execute("DROP FUNCTION refuse_changes()")
    op.drop_table("api_key")
