"""Durable tasks and shared values: journal, signals, timers, xcom, and what a suspended job waits for.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSON, JSONB, UUID

revision = "0004"
down_revision = "0003"

CHECKS = {
    "fairchild_waiting_wake": "wake IN ('all', 'first')",
    "fairchild_waiting_final": "final IN ('failed', 'cancelled')",
}


def moment(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()"))


def upgrade() -> None:
    schema = op.get_context().version_table_schema
    uuid, at, no = UUID(as_uuid=True), sa.DateTime(timezone=True), sa.false()

    columns = {
        "wake": "a suspended job: by all of its wake edges, or by the first thing that comes",
        "signal": "the name of the signal that a suspended job waits for",
        "final": "the state that its attempt came to, once its children have ended",
    }
    for name, comment in columns.items():
        op.add_column("fairchild_waiting", sa.Column(name, sa.Text, comment=comment), schema=schema)
    for name, condition in CHECKS.items():
        op.create_check_constraint(name, "fairchild_waiting", condition, schema=schema)
    op.create_index(
        "fairchild_waiting_for_signal",
        "fairchild_waiting",
        ["job_id"],
        schema=schema,
        postgresql_where=sa.text("signal IS NOT NULL"),
    )
    _policies(schema, "'need', 'any', 'after', 'wake'")

    op.create_table(
        "fairchild_journal",
        sa.Column("job_id", uuid, nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False, server_default="", comment="of the call's arguments"),
        sa.Column("ref", uuid, comment="the job called or awaited, or the signal taken"),
        sa.Column("value", JSON, comment="as text, so that the order of keys stays; SQL null: none kept"),
        sa.Column("failed", sa.Boolean, nullable=False, server_default=no, comment="value says what was raised"),
        sa.Column("optional", sa.Boolean, nullable=False, server_default=no, comment="a replay may not come to it"),
        sa.Column("wake_at", at, comment="when a sleep or a time limit is over"),
        moment("at"),
        sa.PrimaryKeyConstraint("job_id", "seq", name="fairchild_journal_pkey"),
        schema=schema,
    )
    op.create_index(
        "fairchild_journal_by_ref",
        "fairchild_journal",
        ["ref"],
        schema=schema,
        postgresql_where=sa.text("ref IS NOT NULL"),
    )
    op.create_table(
        "fairchild_signals",
        sa.Column("job_id", uuid, nullable=False),
        sa.Column("id", uuid, nullable=False, comment="UUIDv7: signals of one sender are taken in order"),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("payload", JSONB, nullable=False),
        moment("at"),
        sa.PrimaryKeyConstraint("job_id", "id", name="fairchild_signals_pkey"),
        schema=schema,
    )
    op.create_table(
        "fairchild_timers",
        sa.Column("job_id", uuid, nullable=False),
        sa.Column("wake_at", at, nullable=False),
        sa.PrimaryKeyConstraint("job_id", name="fairchild_timers_pkey"),
        schema=schema,
    )
    op.create_index("fairchild_timers_by_time", "fairchild_timers", ["wake_at"], schema=schema)
    op.create_table(
        "fairchild_xcom",
        sa.Column("workflow_id", uuid, nullable=False),
        sa.Column("namespace", sa.Text, nullable=False, server_default=""),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("value", JSONB, nullable=False, server_default=sa.text("'null'")),
        sa.Column("job_id", uuid, comment="the value is the result of this job"),
        sa.Column("expires_at", at),
        sa.PrimaryKeyConstraint("workflow_id", "namespace", "key", name="fairchild_xcom_pkey"),
        schema=schema,
    )
    op.create_index(
        "fairchild_xcom_by_expiry",
        "fairchild_xcom",
        ["expires_at"],
        schema=schema,
        postgresql_where=sa.text("expires_at IS NOT NULL"),
    )
    for name, table, column in KEYS:
        op.create_foreign_key(
            name,
            table,
            "fairchild_jobs_base",
            [column],
            ["id"],
            source_schema=schema,
            referent_schema=schema,
            ondelete="CASCADE",
        )


KEYS = (
    ("fairchild_journal_job", "fairchild_journal", "job_id"),
    ("fairchild_signals_job", "fairchild_signals", "job_id"),
    ("fairchild_timers_job", "fairchild_timers", "job_id"),
    ("fairchild_xcom_workflow", "fairchild_xcom", "workflow_id"),
)


def _policies(schema: str | None, known: str) -> None:
    op.drop_constraint("fairchild_edges_policy", "fairchild_edges", schema=schema, type_="check")
    op.create_check_constraint("fairchild_edges_policy", "fairchild_edges", f"policy IN ({known})", schema=schema)


def downgrade() -> None:
    schema = op.get_context().version_table_schema
    for table in ("fairchild_xcom", "fairchild_timers", "fairchild_signals", "fairchild_journal"):
        op.drop_table(table, schema=schema)
    _policies(schema, "'need', 'any', 'after'")
    op.drop_index("fairchild_waiting_for_signal", "fairchild_waiting", schema=schema)
    for name in CHECKS:
        op.drop_constraint(name, "fairchild_waiting", schema=schema, type_="check")
    for column in ("wake", "signal", "final"):
        op.drop_column("fairchild_waiting", column, schema=schema)
