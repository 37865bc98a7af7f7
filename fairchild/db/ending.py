"""What every end of a job sets in motion, as the common tail of the statements that end jobs.

A statement that ends, defers or releases jobs writes their rows in a CTE named ``written`` and goes on with ``TAIL``:
the jobs enter their next place, dependents and parents are counted down under locks taken in order of job id, and
those that nothing holds back any more become available.

``written`` must give: id, queue, priority, tenant, task, parent_id, state (of the row now), next (where a pending job
goes: 'ready', 'due', 'waiting'), delay (seconds), children, deps.

A waiting job that must be *ended* (a parent whose children have all ended; a job whose upstream failed) is marked
``settle`` and reported: ending it needs values of other jobs and its own policy, and is ``db/settle.py``'s work, in the
same transaction. Should that transaction never come to it, the mark stays, and any worker's sweep ends it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from fairchild.db.events import tell

# Rows for the jobs written, in their next place; one row in counters for each final state and task.
_PLACES = """
to_ready AS (
  INSERT INTO {ready} (queue, priority, job_id, tenant, task)
  SELECT queue, priority, id, tenant, task FROM written WHERE state = 'pending' AND next = 'ready' ORDER BY id),
to_due AS (
  INSERT INTO {due} (job_id, run_at, queue, priority, tenant, task)
  SELECT id, statement_timestamp() + delay * interval '1 second', queue, priority, tenant, task
    FROM written WHERE state = 'pending' AND next = 'due'),
to_waiting AS (
  INSERT INTO {waiting} (job_id, deps, children, ran, late, settle, queue, workflow_id, group_key)
  SELECT t.id, t.deps, t.children, true, t.deps > 0, t.deps = 0 AND t.children = 0, t.queue, j.workflow_id, j.group_key
    FROM written t CROSS JOIN LATERAL (SELECT workflow_id, group_key FROM {jobs} WHERE id = t.id OFFSET 0) j
   WHERE t.state = 'pending' AND t.next = 'waiting'
  RETURNING job_id, settle),
counted AS (
  INSERT INTO {counters} (minute, queue, task, state, n)
  SELECT date_trunc('minute', statement_timestamp()), queue, task, state, count(*)
    FROM written WHERE state <> 'pending' GROUP BY queue, task, state),
"""
_PLACES += tell(
    "told",
    "written",
    """CASE WHEN state <> 'pending' THEN 'job_' || state WHEN next = 'due' THEN 'job_retrying'
                 WHEN next = 'ready' THEN 'job_ready' ELSE 'job_waiting' END""",
)

# A child that ended badly, unless somebody took its value by or_else() or outcome(). A scalar sub-select, which is
# looked up per failure by fairchild_edges_pkey; as EXISTS it might be hashed, which reads the table.
UNHANDLED = """CASE WHEN {state} IN ('failed', 'cancelled') AND
              (SELECT true FROM {{edges}} h WHERE h.upstream = {id} AND h.policy = 'any' LIMIT 1) IS NULL
              THEN {id} END"""

# hit: one row per (ended job, job it holds back). sums: the same per job held back. Tables are reached through
# laterals with OFFSET 0, which stay one probe of the primary key per row whatever the planner believes of a table that
# was empty when it last looked. The lateral that locks runs in the order of sums, so locks are taken by job id.
_COUNT_DOWN = (
    """
ended AS MATERIALIZED (SELECT id, state, parent_id FROM written WHERE state <> 'pending'),
hit AS (
  SELECT e.downstream AS job_id, 1 AS deps, 0 AS children,
         CASE WHEN u.state <> 'completed' AND e.policy = 'need' THEN u.id END AS failed_dep, NULL::uuid AS failed_child
    FROM ended u CROSS JOIN LATERAL (SELECT downstream, policy FROM {edges} WHERE upstream = u.id OFFSET 0) e
  UNION ALL
  SELECT parent_id, 0, 1, NULL, """
    + UNHANDLED.format(id="id", state="state")
    + """ FROM ended WHERE parent_id IS NOT NULL),
sums AS MATERIALIZED (
  SELECT job_id, sum(deps)::int AS deps, sum(children)::int AS children,
         (array_agg(failed_dep) FILTER (WHERE failed_dep IS NOT NULL))[1] AS failed_dep,
         (array_agg(failed_child) FILTER (WHERE failed_child IS NOT NULL))[1] AS failed_child
    FROM hit GROUP BY job_id ORDER BY job_id),
counted_down AS MATERIALIZED (
  SELECT s.job_id, w.ran, w.deps - s.deps AS deps,
         CASE WHEN w.ran THEN w.children - s.children ELSE 0 END AS children,  -- a suspended job does not count them
         CASE WHEN w.wake IS NULL THEN coalesce(w.failed_dep, s.failed_dep) END AS failed_dep,
         CASE WHEN w.ran THEN coalesce(w.failed_child, s.failed_child) END AS failed_child
    FROM sums s CROSS JOIN LATERAL (
      SELECT ran, deps, children, failed_dep, failed_child, wake FROM {waiting} WHERE job_id = s.job_id OFFSET 0
         FOR UPDATE) w)"""
)

# From the new counters (counted_down, locked in order) to what they mean.
PROMOTE = """
freed AS (
  DELETE FROM {waiting}
   WHERE job_id = ANY(ARRAY(
     SELECT job_id FROM counted_down WHERE NOT ran AND failed_dep IS NULL AND deps <= 0))
  RETURNING job_id),
lowered AS (  -- all of these rows exist and are locked; this form of UPDATE needs no join and sees their last version
  INSERT INTO {waiting} (job_id, deps, children, failed_dep, failed_child, settle)
  SELECT job_id, deps, children, failed_dep, failed_child,
         CASE WHEN ran THEN deps <= 0 AND children <= 0 ELSE failed_dep IS NOT NULL END
    FROM counted_down WHERE ran OR failed_dep IS NOT NULL OR deps > 0
  ON CONFLICT (job_id) DO UPDATE
     SET deps = excluded.deps, children = excluded.children, failed_dep = excluded.failed_dep,
         failed_child = excluded.failed_child, settle = excluded.settle
  RETURNING job_id, settle),
free AS MATERIALIZED (
  SELECT id, queue, priority, tenant, task, scheduled_at FROM {jobs} WHERE id = ANY(ARRAY(SELECT job_id FROM freed))),
promoted AS (
  INSERT INTO {ready} (queue, priority, job_id, tenant, task)
  SELECT queue, priority, id, tenant, task FROM free WHERE scheduled_at <= statement_timestamp() ORDER BY id
  RETURNING job_id),
postponed AS (
  INSERT INTO {due} (job_id, run_at, queue, priority, tenant, task)
  SELECT id, scheduled_at, queue, priority, tenant, task FROM free WHERE scheduled_at > statement_timestamp()),
"""
PROMOTE += tell("told_ready", "promoted", "'job_ready'", "job_id")

TAIL = _PLACES + "," + _COUNT_DOWN + "," + PROMOTE

# Wakes other workers when more was promoted than this one has room for. NOTIFY takes a database-wide lock until
# commit, so at most one transaction at a time does it; who is skipped is covered by that one's wake-up and the polls.
WAKE = """
woken AS (
  SELECT pg_notify(%(channel)s, '') FROM (SELECT count(*) AS n FROM promoted) p
   WHERE p.n > %(room)s AND pg_try_advisory_xact_lock(%(gate)s))"""

# An error entry appended; past 20 entries the first five and the last ones are kept.
APPEND_ERROR = """CASE WHEN {entry} IS NULL THEN t.errors
            WHEN jsonb_array_length(coalesce(t.errors, '[]'::jsonb)) >= 20 THEN (t.errors - 5) || {entry}
            ELSE coalesce(t.errors, '[]'::jsonb) || {entry} END"""

# Rows of jobs are updated by the ctid that a CTE named located found. One that somebody else has changed since the
# statement began is not found there any more, and its job would be in no place at all. Nobody does that to a job whose
# place is held; but rows can be changed by hand. Then this divides by zero, and nothing of the statement is done.
UNMOVED = "CASE WHEN (SELECT count(*) FROM located) > (SELECT count(*) FROM written) THEN 0 ELSE 1 END"


@contextmanager
def whole() -> Iterator[None]:
    """Around a statement with UNMOVED: raises a SerializationFailure, after which the same may be done again."""
    try:
        yield
    except psycopg.errors.DivisionByZero:
        raise psycopg.errors.SerializationFailure(
            "the row of a job was changed by others at the same moment; nothing was written"
        ) from None
