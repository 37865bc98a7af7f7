"""The schema: every table, index and check of fairchild, in SQLAlchemy Core.

Where a job is
    A live job (``jobs_base.state = 'pending'``) is in exactly one of four small tables, and that row is what a
    transition has to delete first. Whoever deletes it owns the transition; nobody else can take the job further.

    =========== ================== ====================================================
    row in      the job's state    leaves by
    =========== ================== ====================================================
    ``ready``   available          a worker's claim, a cancellation
    ``claims``  running            the finish of that very claim, the rescue of a dead worker
    ``due``     scheduled          its time has come, a cancellation
    ``waiting`` waiting            its counters reach zero, an upstream failed, a timer, a
                                   signal, a cancellation
    (none)      completed, failed, a retry by hand
                cancelled
    =========== ================== ====================================================

    ``jobs_base`` itself is written when a job is made and when an attempt ends. No index names a column that a
    successful end changes, so that update is heap-only (HOT); the partial index on ``reason`` is touched only by
    jobs that end badly. Its pages are half filled at first: jobs of one batch lie side by side and end together, and
    with a quarter free only 30 % of those updates found room on their page (80 % with half, and less WAL and a smaller
    table in the end: ``fairchild bench --only wal.run``).

``fairchild_jobs`` is the view for readers: all jobs, live and ended, with their true state.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION, JSON, JSONB, UUID

metadata = sa.MetaData(
    naming_convention={"ix": "%(table_name)s_%(column_0_name)s", "pk": "%(table_name)s_pkey"},
)

_EAGER_VACUUM = (
    "autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0"
)

_uuid = UUID(as_uuid=True)
_moment = sa.DateTime(timezone=True)


def _now(name: str) -> sa.Column[object]:
    return sa.Column(name, _moment, nullable=False, server_default=sa.text("now()"))


jobs = sa.Table(
    "fairchild_jobs_base",
    metadata,
    sa.Column("id", _uuid, primary_key=True, comment="UUIDv7 made by the client"),
    sa.Column("task", sa.Text, nullable=False),
    sa.Column("queue", sa.Text, nullable=False, server_default="default"),
    sa.Column("tenant", sa.Text, nullable=False, server_default=""),
    sa.Column("priority", sa.SmallInteger, nullable=False, server_default="5"),
    sa.Column("state", sa.Text, nullable=False, server_default="pending"),
    sa.Column("reason", sa.Text, comment="why it failed or was cancelled; null otherwise"),
    sa.Column("attempt", sa.Integer, nullable=False, server_default="0", comment="attempts spent"),
    sa.Column("max_attempts", sa.Integer, nullable=False, server_default="3"),
    sa.Column("losses", sa.SmallInteger, nullable=False, server_default="0", comment="deaths of a worker it ran in"),
    sa.Column("depth", sa.SmallInteger, nullable=False, server_default="0"),
    sa.Column("rank", sa.Integer, comment="longest path from a source among its siblings"),
    sa.Column("group_key", sa.BigInteger, comment="hash of parent's group, task and upstream groups"),
    sa.Column("workflow_id", _uuid, nullable=False, comment="id of the root job"),
    sa.Column("parent_id", _uuid),
    sa.Column("claim_id", _uuid, comment="the claim whose outcome was recorded last"),
    sa.Column("session", _uuid, comment="the worker session of that claim"),
    sa.Column("on_child_failure", sa.Text, nullable=False, server_default="fail"),
    sa.Column("timeout_seconds", DOUBLE_PRECISION),
    sa.Column("expires_seconds", DOUBLE_PRECISION),
    sa.Column("unique_key", sa.Text),
    _now("inserted_at"),
    _now("scheduled_at"),
    sa.Column("attempted_at", _moment),
    sa.Column("ended_at", _moment),
    sa.Column("tags", ARRAY(sa.Text)),
    sa.Column("args", JSONB, nullable=False),
    sa.Column("refs", JSONB, comment="[[path, upstream id], ...]: where upstream values go in args"),
    sa.Column("meta", JSONB),
    sa.Column("result", JSONB, comment="SQL null: no result; JSON null: the result None"),
    sa.Column("value_refs", JSONB, comment="[[path, upstream id], ...]: where upstream values go in result"),
    sa.Column("errors", JSONB, comment="[{attempt, kind, type, message, traceback, at, worker}, ...]"),
    sa.Column("composed", sa.Boolean, comment="true: root of a workflow made outside of a job, with no function"),
    sa.CheckConstraint("priority BETWEEN 0 AND 9", name="fairchild_jobs_priority"),
    sa.CheckConstraint("state IN ('pending', 'completed', 'failed', 'cancelled')", name="fairchild_jobs_state"),
    sa.CheckConstraint("(ended_at IS NULL) = (state = 'pending')", name="fairchild_jobs_ended"),
    sa.CheckConstraint("on_child_failure IN ('fail', 'ignore')", name="fairchild_jobs_on_child_failure"),
    info={"storage": "fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05"},
)
sa.Index(
    "fairchild_jobs_by_workflow",
    jobs.c.workflow_id,
    jobs.c.parent_id,
    postgresql_where=sa.text("parent_id IS NOT NULL"),
)
sa.Index("fairchild_jobs_by_reason", jobs.c.id, postgresql_where=sa.text("reason IS NOT NULL"))

# One index, on purpose: with a second one led by seq the planner walks seq order and an empty probe costs milliseconds.
ready = sa.Table(
    "fairchild_ready",
    metadata,
    sa.Column("queue", sa.Text, nullable=False),
    sa.Column("priority", sa.SmallInteger, nullable=False),
    sa.Column("seq", sa.BigInteger, sa.Identity(always=False), nullable=False),
    sa.Column("job_id", _uuid, nullable=False),
    _now("at"),
    sa.Column("tenant", sa.Text, nullable=False, server_default=""),
    sa.Column("task", sa.Text, nullable=False),
)
sa.Index("fairchild_ready_for_claim", ready.c.queue, ready.c.priority, ready.c.seq)

claims = sa.Table(
    "fairchild_claims",
    metadata,
    sa.Column("job_id", _uuid, primary_key=True),
    sa.Column("claim_id", _uuid, nullable=False),
    sa.Column("session", _uuid, nullable=False),
    sa.Column(
        "fence", sa.BigInteger, nullable=False, comment="ready.seq of this claim: grows with each claim of a job"
    ),
    sa.Column("queue", sa.Text, nullable=False),
    sa.Column("tenant", sa.Text, nullable=False, server_default=""),
    sa.Column("cancel_reason", sa.Text, comment="somebody asked this attempt to stop"),
    _now("claimed_at"),
)

due = sa.Table(
    "fairchild_due",
    metadata,
    sa.Column("job_id", _uuid, primary_key=True),
    sa.Column("run_at", _moment, nullable=False),
    sa.Column("queue", sa.Text, nullable=False),
    sa.Column("priority", sa.SmallInteger, nullable=False),
    sa.Column("tenant", sa.Text, nullable=False, server_default=""),
    sa.Column("task", sa.Text, nullable=False),
)
sa.Index("fairchild_due_by_time", due.c.run_at)

waiting = sa.Table(
    "fairchild_waiting",
    metadata,
    sa.Column("job_id", _uuid, primary_key=True),
    sa.Column("deps", sa.Integer, nullable=False, server_default="0", comment="upstream jobs that have not ended"),
    sa.Column("children", sa.Integer, nullable=False, server_default="0", comment="children that have not ended"),
    sa.Column("failed_dep", _uuid, comment="an upstream that ended without the value it was needed for"),
    sa.Column("failed_child", _uuid),
    sa.Column("ran", sa.Boolean, nullable=False, server_default=sa.false(), comment="its own function has ended"),
    sa.Column("late", sa.Boolean, nullable=False, server_default=sa.false(), comment="has edges to older jobs"),
    sa.Column("settle", sa.Boolean, nullable=False, server_default=sa.false(), comment="ready to be ended"),
    sa.Column("wake", sa.Text, comment="a suspended job: by all of its wake edges, or by the first thing that comes"),
    sa.Column("signal", sa.Text, comment="the name of the signal that a suspended job waits for"),
    sa.Column("final", sa.Text, comment="the state that its attempt came to, once its children have ended"),
    # As in its job's row, so that waiting jobs are counted without it; null in rows of releases before 0009.
    sa.Column("queue", sa.Text),
    sa.Column("workflow_id", _uuid),
    sa.Column("group_key", sa.BigInteger),
    sa.CheckConstraint("wake IN ('all', 'first')", name="fairchild_waiting_wake"),
    sa.CheckConstraint("final IN ('failed', 'cancelled')", name="fairchild_waiting_final"),
    info={"storage": "fillfactor = 50"},
)
sa.Index("fairchild_waiting_to_settle", waiting.c.job_id, postgresql_where=sa.text("settle"))
sa.Index("fairchild_waiting_late", waiting.c.job_id, postgresql_where=sa.text("late"))
sa.Index("fairchild_waiting_for_signal", waiting.c.job_id, postgresql_where=sa.text("signal IS NOT NULL"))

edges = sa.Table(
    "fairchild_edges",
    metadata,
    sa.Column("upstream", _uuid, primary_key=True),
    sa.Column("downstream", _uuid, primary_key=True),
    sa.Column(
        "policy",
        sa.Text,
        nullable=False,
        server_default="need",
        comment="need: cancelled if it does not complete; any: deals with its failure; after: only comes later",
    ),
    # wake: a suspended job goes on when it ends
    sa.CheckConstraint("policy IN ('need', 'any', 'after', 'wake')", name="fairchild_edges_policy"),
    sa.CheckConstraint("upstream <> downstream", name="fairchild_edges_self"),
)
sa.Index("fairchild_edges_by_downstream", edges.c.downstream)

sessions = sa.Table(
    "fairchild_sessions",
    metadata,
    sa.Column("id", _uuid, primary_key=True, comment="fresh for every start of a worker"),
    sa.Column("beat", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("state", sa.Text, nullable=False, server_default="running"),
    sa.Column("lease_seconds", DOUBLE_PRECISION, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("hostname", sa.Text, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("queues", ARRAY(sa.Text)),
    sa.Column("concurrency", sa.Integer, nullable=False),
    sa.Column("catalog", sa.Text, comment="hash of the tasks it knows"),
    _now("started_at"),
    _now("beat_at"),
    sa.Column("paused_at", _moment),
    sa.Column("ended_at", _moment),
    sa.Column("metadata", JSONB),
    sa.Column("stacks_asked_at", _moment, comment="somebody wants to know where its threads are"),
    sa.Column("stacks_at", _moment, comment="when it answered last"),
    sa.Column("stacks", JSONB, comment="[{name, job, task, attempt, note, frames}, ...]: the answer"),
    sa.Column("vitals", JSONB, comment="{rss, cpu, clock, error}: how its process was at its last beat"),
    sa.CheckConstraint(
        "state IN ('running', 'paused', 'draining', 'stopped', 'dead')", name="fairchild_sessions_state"
    ),
    info={"storage": "fillfactor = 50"},
)

catalogs = sa.Table(
    "fairchild_catalogs",
    metadata,
    sa.Column("hash", sa.Text, primary_key=True),
    sa.Column("schemas", JSONB, nullable=False),
)

counters = sa.Table(
    "fairchild_counters",
    metadata,
    sa.Column("minute", _moment, nullable=False),
    sa.Column("queue", sa.Text, nullable=False),
    sa.Column("task", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("n", sa.BigInteger, nullable=False, comment="jobs that entered (or, negative, left) this final state"),
)
sa.Index("fairchild_counters_by_minute", counters.c.minute)

progress = sa.Table(
    "fairchild_progress",
    metadata,
    sa.Column("job_id", _uuid, primary_key=True),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("value", DOUBLE_PRECISION),
    sa.Column("total", DOUBLE_PRECISION),
    sa.Column("message", sa.Text),
    sa.Column("cursor", JSONB, comment="what the next attempt goes on from"),
    _now("at"),
    info={"storage": "fillfactor = 50"},
)

logs = sa.Table(
    "fairchild_logs",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
    sa.Column("job_id", _uuid, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("at", _moment, nullable=False),
    sa.Column("level", sa.SmallInteger, nullable=False, comment="as in Python's logging: 20 is info"),
    sa.Column("logger", sa.Text, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("fields", JSONB),
)
sa.Index("fairchild_logs_by_job", logs.c.job_id, logs.c.id)
# What a durable job has called and what came of it, in the order of writing; see db/journal.py.
journal = sa.Table(
    "fairchild_journal",
    metadata,
    sa.Column("job_id", _uuid, sa.ForeignKey(jobs.c.id, ondelete="CASCADE", name="fairchild_journal_job")),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False, server_default="", comment="of the call's arguments"),
    sa.Column("ref", _uuid, comment="the job called or awaited, or the signal taken"),
    sa.Column("value", JSON, comment="as text, so that the order of keys stays; SQL null: none kept"),
    sa.Column("failed", sa.Boolean, nullable=False, server_default=sa.false(), comment="value says what was raised"),
    sa.Column("optional", sa.Boolean, nullable=False, server_default=sa.false(), comment="a replay may not come to it"),
    sa.Column("wake_at", _moment, comment="when a sleep or a time limit is over"),
    _now("at"),
    sa.PrimaryKeyConstraint("job_id", "seq", name="fairchild_journal_pkey"),
)
sa.Index("fairchild_journal_by_ref", journal.c.ref, postgresql_where=sa.text("ref IS NOT NULL"))

# Signals as they were sent. One that was taken is named by an entry of the journal.
signals = sa.Table(
    "fairchild_signals",
    metadata,
    sa.Column("job_id", _uuid, sa.ForeignKey(jobs.c.id, ondelete="CASCADE", name="fairchild_signals_job")),
    sa.Column("id", _uuid, nullable=False, comment="UUIDv7: signals of one sender are taken in order"),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("payload", JSONB, nullable=False),
    _now("at"),
    sa.PrimaryKeyConstraint("job_id", "id", name="fairchild_signals_pkey"),
)

# When to wake suspended jobs. The place of such a job is its row in waiting; one that has left it is not woken.
timers = sa.Table(
    "fairchild_timers",
    metadata,
    sa.Column("job_id", _uuid, sa.ForeignKey(jobs.c.id, ondelete="CASCADE", name="fairchild_timers_job")),
    sa.Column("wake_at", _moment, nullable=False),
    sa.PrimaryKeyConstraint("job_id", name="fairchild_timers_pkey"),
)
sa.Index("fairchild_timers_by_time", timers.c.wake_at)

# Values shared inside a workflow; see db/xcom.py.
xcom = sa.Table(
    "fairchild_xcom",
    metadata,
    sa.Column("workflow_id", _uuid, sa.ForeignKey(jobs.c.id, ondelete="CASCADE", name="fairchild_xcom_workflow")),
    sa.Column("namespace", sa.Text, nullable=False, server_default=""),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("value", JSONB, nullable=False, server_default=sa.text("'null'")),
    sa.Column("job_id", _uuid, comment="the value is the result of this job"),
    sa.Column("expires_at", _moment),
    sa.PrimaryKeyConstraint("workflow_id", "namespace", "key", name="fairchild_xcom_pkey"),
)
sa.Index("fairchild_xcom_by_expiry", xcom.c.expires_at, postgresql_where=sa.text("expires_at IS NOT NULL"))

# History. A worker adds rows for what it has run, whoever rolls up adds what was counted; all rows of one minute, queue
# and task belong together and are summed by the reader. Buckets: see rules/histogram.py.
minutes = sa.Table(
    "fairchild_minutes",
    metadata,
    sa.Column("minute", _moment, nullable=False, comment="or the hour, of what is older than two days"),
    sa.Column("queue", sa.Text, nullable=False),
    sa.Column("task", sa.Text, nullable=False),
    sa.Column("inserted", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("completed", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("failed", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("cancelled", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("waits", ARRAY(sa.BigInteger), comment="attempts by how long the job was available before"),
    sa.Column("runs", ARRAY(sa.BigInteger), comment="attempts by how long they ran"),
)
sa.Index("fairchild_minutes_by_minute", minutes.c.minute)

queues = sa.Table(
    "fairchild_queues",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("paused_at", _moment),
    sa.Column("paused_by", sa.Text, comment="who asked for the pause"),
)
sa.Index("fairchild_queues_paused", queues.c.name, postgresql_where=sa.text("paused_at IS NOT NULL"))

tokens = sa.Table(
    "fairchild_tokens",
    metadata,
    sa.Column("id", _uuid, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False, comment="SHA-256 of the secret, which is kept nowhere"),
    sa.Column("rights", ARRAY(sa.Text), nullable=False),
    _now("created_at"),
    sa.Column("expires_at", _moment),
    sa.Column("revoked_at", _moment),
)
sa.Index("fairchild_tokens_by_digest", tokens.c.digest, unique=True)

audit = sa.Table(
    "fairchild_audit",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
    _now("at"),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("number", sa.BigInteger, nullable=False, server_default="1", comment="things that it changed"),
    sa.Column("request_id", sa.Text),
    sa.Column("before", JSONB, comment="what it was, where it was one"),
    sa.Column("after", JSONB, comment="what it became"),
)

# Written only while somebody listens, or has lately: see db/events.py.
events = sa.Table(
    "fairchild_events",
    metadata,
    sa.Column("seq", sa.BigInteger, sa.Identity(always=False), primary_key=True),
    _now("at"),
    sa.Column("jobs", JSONB, nullable=False, comment="[[id, event], ...] of one statement"),
    sa.Column("others", JSONB, comment="[{type, event, ...}, ...] of what is no job"),
)
listeners = sa.Table(
    "fairchild_listeners",
    metadata,
    sa.Column("id", _uuid, primary_key=True),
    sa.Column("until", _moment, nullable=False),
)

muted = sa.Table(
    "fairchild_muted",
    metadata,
    sa.Column("fingerprint", sa.Text, primary_key=True, comment="of an error that nobody wants to be shown"),
    sa.Column("who", sa.Text, nullable=False),
    _now("at"),
)
marks = sa.Table(
    "fairchild_marks",
    metadata,
    sa.Column("name", sa.Text, primary_key=True, comment="what was done last at this time: prune"),
    _now("at"),
    sa.Column("number", sa.BigInteger, nullable=False, server_default="0", comment="things that it changed"),
)

redactions = sa.Table(
    "fairchild_redactions",
    metadata,
    sa.Column("task", sa.Text, primary_key=True, comment="a task's name or alias"),
    sa.Column("path", sa.Text, primary_key=True, comment="the dotted path of an argument that nobody is shown"),
)

cancellations = sa.Table(
    "fairchild_cancellations",
    metadata,
    sa.Column("job_id", _uuid, primary_key=True, comment="who was cancelled, while what it has called still is being"),
    sa.Column("reason", sa.Text, nullable=False),
    _now("asked_at"),  # when somebody last took it up
)

# Storage parameters of the churned tables. They and those in ``info`` are set by the migrations: SQLAlchemy's own
# postgresql_with came with 2.1, and 2.0 refuses a table that has it.
EAGERLY_VACUUMED = (ready, claims, due)
STORAGE_PARAMETERS = _EAGER_VACUUM

VIEW = """
CREATE VIEW {view} AS
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
  FROM {jobs} j
  LEFT JOIN {claims} c ON c.job_id = j.id
  LEFT JOIN {due} d ON d.job_id = j.id
  LEFT JOIN {waiting} w ON w.job_id = j.id
"""
VIEW_NAME = "fairchild_jobs"
