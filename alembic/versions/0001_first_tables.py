"""The first tables, their indexes and the view for readers.

Everything is spelled out here and nothing is taken from ``fairchild.db.tables``: what a database got from this revision
must stay what it was, however the tables grow later. A test compares the outcome of all revisions with that file.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION, JSONB, UUID

revision = "0001"
down_revision = None

# Every job passes through these, so they turn over completely many times a day while they stay small.
EAGER_VACUUM = (
    "autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0"
)
STORAGE = {
    "fairchild_jobs_base": "fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05",
    "fairchild_ready": EAGER_VACUUM,
    "fairchild_claims": EAGER_VACUUM,
    "fairchild_due": EAGER_VACUUM,
    "fairchild_waiting": "fillfactor = 50",
    "fairchild_sessions": "fillfactor = 50",
}

VIEW = """
CREATE VIEW {schema}fairchild_jobs AS
SELECT j.id, j.task, j.task AS task_name, j.queue, j.tenant, j.priority,
       CASE WHEN j.state <> 'pending' THEN j.state
            WHEN c.job_id IS NOT NULL THEN 'running'
            WHEN d.job_id IS NOT NULL THEN 'scheduled'
            WHEN w.job_id IS NOT NULL THEN 'waiting'
            ELSE 'available' END AS state,
       j.reason,
       j.args,
       CASE WHEN j.state = 'completed' THEN j.result END AS result,
       coalesce(j.errors, '[]'::jsonb) AS errors,
       j.attempt + CASE WHEN c.job_id IS NULL THEN 0 ELSE 1 END AS attempt,
       j.max_attempts, j.losses,
       coalesce(j.tags, ARRAY[]::text[]) AS tags,
       coalesce(j.meta, '{{}}'::jsonb) AS meta,
       j.workflow_id, j.parent_id, j.depth, j.unique_key,
       coalesce(c.claim_id, j.claim_id) AS claim_id,
       coalesce(c.session, j.session) AS worker,
       j.timeout_seconds, j.expires_seconds,
       j.inserted_at,
       coalesce(d.run_at, j.scheduled_at) AS scheduled_at,
       coalesce(c.claimed_at, j.attempted_at) AS attempted_at,
       CASE WHEN j.state = 'completed' THEN j.ended_at END AS completed_at,
       j.ended_at,
       coalesce(j.ended_at, c.claimed_at, j.attempted_at, j.inserted_at) AS updated_at
  FROM {schema}fairchild_jobs_base j
  LEFT JOIN {schema}fairchild_claims c ON c.job_id = j.id
  LEFT JOIN {schema}fairchild_due d ON d.job_id = j.id
  LEFT JOIN {schema}fairchild_waiting w ON w.job_id = j.id
"""

TABLES = (
    "fairchild_jobs_base",
    "fairchild_ready",
    "fairchild_claims",
    "fairchild_due",
    "fairchild_waiting",
    "fairchild_edges",
    "fairchild_sessions",
    "fairchild_catalogs",
    "fairchild_counters",
)


def run(sql: str) -> None:
    """Run ``sql`` as it stands. ``text()`` would take a colon, which a schema's name may hold, for a value."""
    op.execute(sa.text(sql.replace(":", r"\:")))


def prefix(schema: str | None) -> str:
    """``"schema".`` for names written by hand; empty when the connection's search path decides."""
    return "" if schema is None else '"' + schema.replace('"', '""') + '".'


def moment(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()"))


def upgrade() -> None:
    schema = op.get_context().version_table_schema
    uuid, at = UUID(as_uuid=True), sa.DateTime(timezone=True)

    op.create_table(
        "fairchild_jobs_base",
        sa.Column("id", uuid, nullable=False, comment="UUIDv7 made by the client"),
        sa.Column("task", sa.Text, nullable=False),
        sa.Column("queue", sa.Text, nullable=False, server_default="default"),
        sa.Column("tenant", sa.Text, nullable=False, server_default=""),
        sa.Column("priority", sa.SmallInteger, nullable=False, server_default="5"),
        sa.Column("state", sa.Text, nullable=False, server_default="pending"),
        sa.Column("reason", sa.Text, comment="why it failed or was cancelled; null otherwise"),
        sa.Column("attempt", sa.Integer, nullable=False, server_default="0", comment="attempts spent"),
        sa.Column("max_attempts", sa.Integer, nullable=False, server_default="3"),
        sa.Column(
            "losses", sa.SmallInteger, nullable=False, server_default="0", comment="deaths of a worker it ran in"
        ),
        sa.Column("depth", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("rank", sa.Integer, comment="longest path from a source among its siblings"),
        sa.Column("group_key", sa.BigInteger, comment="hash of parent's group, task and upstream groups"),
        sa.Column("workflow_id", uuid, nullable=False, comment="id of the root job"),
        sa.Column("parent_id", uuid),
        sa.Column("claim_id", uuid, comment="the claim whose outcome was recorded last"),
        sa.Column("session", uuid, comment="the worker session of that claim"),
        sa.Column("on_child_failure", sa.Text, nullable=False, server_default="fail"),
        sa.Column("timeout_seconds", DOUBLE_PRECISION),
        sa.Column("expires_seconds", DOUBLE_PRECISION),
        sa.Column("unique_key", sa.Text),
        moment("inserted_at"),
        moment("scheduled_at"),
        sa.Column("attempted_at", at),
        sa.Column("ended_at", at),
        sa.Column("tags", ARRAY(sa.Text)),
        sa.Column("args", JSONB, nullable=False),
        sa.Column("refs", JSONB, comment="[[path, upstream id], ...]: where upstream values go in args"),
        sa.Column("meta", JSONB),
        sa.Column("result", JSONB, comment="SQL null: no result; JSON null: the result None"),
        sa.Column("value_refs", JSONB, comment="[[path, upstream id], ...]: where upstream values go in result"),
        sa.Column("errors", JSONB, comment="[{attempt, kind, type, message, traceback, at, worker}, ...]"),
        sa.PrimaryKeyConstraint("id", name="fairchild_jobs_base_pkey"),
        sa.CheckConstraint("priority BETWEEN 0 AND 9", name="fairchild_jobs_priority"),
        sa.CheckConstraint("state IN ('pending', 'completed', 'failed', 'cancelled')", name="fairchild_jobs_state"),
        sa.CheckConstraint("(ended_at IS NULL) = (state = 'pending')", name="fairchild_jobs_ended"),
        sa.CheckConstraint("on_child_failure IN ('fail', 'ignore')", name="fairchild_jobs_on_child_failure"),
        schema=schema,
    )
    op.create_index(
        "fairchild_jobs_by_workflow",
        "fairchild_jobs_base",
        ["workflow_id", "parent_id"],
        schema=schema,
        postgresql_where=sa.text("parent_id IS NOT NULL"),
    )
    op.create_index(
        "fairchild_jobs_by_reason",
        "fairchild_jobs_base",
        ["id"],
        schema=schema,
        postgresql_where=sa.text("reason IS NOT NULL"),
    )

    op.create_table(
        "fairchild_ready",
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("priority", sa.SmallInteger, nullable=False),
        sa.Column("seq", sa.BigInteger, sa.Identity(always=False), nullable=False),
        sa.Column("job_id", uuid, nullable=False),
        moment("at"),
        sa.Column("tenant", sa.Text, nullable=False, server_default=""),
        sa.Column("task", sa.Text, nullable=False),
        schema=schema,
    )
    op.create_index("fairchild_ready_for_claim", "fairchild_ready", ["queue", "priority", "seq"], schema=schema)

    op.create_table(
        "fairchild_claims",
        sa.Column("job_id", uuid, nullable=False),
        sa.Column("claim_id", uuid, nullable=False),
        sa.Column("session", uuid, nullable=False),
        sa.Column(
            "fence", sa.BigInteger, nullable=False, comment="ready.seq of this claim: grows with each claim of a job"
        ),
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False, server_default=""),
        sa.Column("cancel_reason", sa.Text, comment="somebody asked this attempt to stop"),
        moment("claimed_at"),
        sa.PrimaryKeyConstraint("job_id", name="fairchild_claims_pkey"),
        schema=schema,
    )

    op.create_table(
        "fairchild_due",
        sa.Column("job_id", uuid, nullable=False),
        sa.Column("run_at", at, nullable=False),
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("priority", sa.SmallInteger, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False, server_default=""),
        sa.Column("task", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("job_id", name="fairchild_due_pkey"),
        schema=schema,
    )
    op.create_index("fairchild_due_by_time", "fairchild_due", ["run_at"], schema=schema)

    op.create_table(
        "fairchild_waiting",
        sa.Column("job_id", uuid, nullable=False),
        sa.Column("deps", sa.Integer, nullable=False, server_default="0", comment="upstream jobs that have not ended"),
        sa.Column("children", sa.Integer, nullable=False, server_default="0", comment="children that have not ended"),
        sa.Column("failed_dep", uuid, comment="an upstream that ended without the value it was needed for"),
        sa.Column("failed_child", uuid),
        sa.Column("ran", sa.Boolean, nullable=False, server_default=sa.false(), comment="its own function has ended"),
        sa.Column("late", sa.Boolean, nullable=False, server_default=sa.false(), comment="has edges to older jobs"),
        sa.Column("settle", sa.Boolean, nullable=False, server_default=sa.false(), comment="ready to be ended"),
        sa.PrimaryKeyConstraint("job_id", name="fairchild_waiting_pkey"),
        schema=schema,
    )
    op.create_index(
        "fairchild_waiting_to_settle",
        "fairchild_waiting",
        ["job_id"],
        schema=schema,
        postgresql_where=sa.text("settle"),
    )
    op.create_index(
        "fairchild_waiting_late", "fairchild_waiting", ["job_id"], schema=schema, postgresql_where=sa.text("late")
    )

    op.create_table(
        "fairchild_edges",
        sa.Column("upstream", uuid, nullable=False),
        sa.Column("downstream", uuid, nullable=False),
        sa.Column("policy", sa.Text, nullable=False, server_default="need"),
        sa.PrimaryKeyConstraint("upstream", "downstream", name="fairchild_edges_pkey"),
        sa.CheckConstraint("policy IN ('need', 'any')", name="fairchild_edges_policy"),
        sa.CheckConstraint("upstream <> downstream", name="fairchild_edges_self"),
        schema=schema,
    )
    op.create_index("fairchild_edges_by_downstream", "fairchild_edges", ["downstream"], schema=schema)

    op.create_table(
        "fairchild_sessions",
        sa.Column("id", uuid, nullable=False, comment="fresh for every start of a worker"),
        sa.Column("beat", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("state", sa.Text, nullable=False, server_default="running"),
        sa.Column("lease_seconds", DOUBLE_PRECISION, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("hostname", sa.Text, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("queues", ARRAY(sa.Text)),
        sa.Column("concurrency", sa.Integer, nullable=False),
        sa.Column("catalog", sa.Text, comment="hash of the tasks it knows"),
        moment("started_at"),
        moment("beat_at"),
        sa.Column("paused_at", at),
        sa.Column("ended_at", at),
        sa.Column("metadata", JSONB),
        sa.PrimaryKeyConstraint("id", name="fairchild_sessions_pkey"),
        sa.CheckConstraint(
            "state IN ('running', 'paused', 'draining', 'stopped', 'dead')", name="fairchild_sessions_state"
        ),
        schema=schema,
    )

    op.create_table(
        "fairchild_catalogs",
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("schemas", JSONB, nullable=False),
        sa.PrimaryKeyConstraint("hash", name="fairchild_catalogs_pkey"),
        schema=schema,
    )

    op.create_table(
        "fairchild_counters",
        sa.Column("minute", at, nullable=False),
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("task", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column(
            "n", sa.BigInteger, nullable=False, comment="jobs that entered (or, negative, left) this final state"
        ),
        schema=schema,
    )
    op.create_index("fairchild_counters_by_minute", "fairchild_counters", ["minute"], schema=schema)

    for table, parameters in STORAGE.items():
        run(f"ALTER TABLE {prefix(schema)}{table} SET ({parameters})")
    run(VIEW.format(schema=prefix(schema)))


def downgrade() -> None:
    schema = op.get_context().version_table_schema
    run(f"DROP VIEW {prefix(schema)}fairchild_jobs")
    for table in reversed(TABLES):
        op.drop_table(table, schema=schema)
