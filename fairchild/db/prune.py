"""Deleting ended jobs, in batches of a transaction each.

A job stays while another may need it: while its parent has not ended (which takes its children's values), one of its
children has not, or a job that waits for it has not. What is deleted is taken off the counters. Its log, progress and
edges go with it here; its journal, signals, timers and shared values by foreign keys.
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from fairchild.db.connect import Link
from fairchild.db.statement import Sql

BATCH = 1000

_FREE = """
   AND NOT EXISTS (SELECT FROM {jobs} p WHERE p.id = j.parent_id AND p.state = 'pending')
   AND NOT EXISTS (SELECT FROM {jobs} c WHERE c.workflow_id = j.workflow_id AND c.parent_id = j.id
                      AND c.parent_id IS NOT NULL AND c.state = 'pending')
   AND NOT EXISTS (SELECT FROM {edges} e JOIN {jobs} d ON d.id = e.downstream
                    WHERE e.upstream = j.id AND d.state = 'pending')"""
_DELETE = """,
gone AS (
  DELETE FROM {jobs} WHERE id = ANY(ARRAY(SELECT id FROM picked)) AND state <> 'pending'
  RETURNING id, queue, task, state),
loose AS (
  DELETE FROM {edges} WHERE downstream = ANY(ARRAY(SELECT id FROM gone))),
looser AS (
  DELETE FROM {edges} WHERE upstream = ANY(ARRAY(SELECT id FROM gone))
     AND downstream <> ALL(ARRAY(SELECT id FROM gone))),
unlogged AS (
  DELETE FROM {logs} WHERE job_id = ANY(ARRAY(SELECT id FROM gone))),
unmarked AS (
  DELETE FROM {progress} WHERE job_id = ANY(ARRAY(SELECT id FROM gone))),
counted AS (
  INSERT INTO {counters} (minute, queue, task, state, n)
  SELECT date_trunc('minute', statement_timestamp()), queue, task, state, -count(*) FROM gone
   GROUP BY queue, task, state)"""

# A person, or a program once a day. Primary key and the indexes of edges and families. Locks the jobs in order of id,
# skipping those that somebody is retrying.
DELETE_JOBS = Sql(
    "delete_jobs",
    """
WITH picked AS MATERIALIZED (
  SELECT j.id FROM {jobs} j WHERE j.id = ANY(%(ids)s::uuid[]) AND j.state <> 'pending'"""
    + _FREE
    + """
   ORDER BY j.id FOR UPDATE OF j SKIP LOCKED)"""
    + _DELETE
    + " SELECT id FROM gone",
)

# By primary key from the oldest on: ids begin with their time, so what was inserted later is not looked at. ``seen``
# is a page of that order, of which those are deleted that may be.
PRUNE_JOBS = Sql(
    "prune_jobs",
    """
WITH seen AS MATERIALIZED (
  SELECT id FROM {jobs}
   WHERE id > %(after)s::uuid
     AND id < (lpad(to_hex(((extract(epoch FROM statement_timestamp()) - %(age)s::float8) * 1000)::bigint), 12, '0')
               || '00000000000000000000')::uuid
   ORDER BY id LIMIT %(most)s::int),
picked AS MATERIALIZED (
  SELECT j.id FROM {jobs} j
   WHERE j.id = ANY(ARRAY(SELECT id FROM seen)) AND j.state = ANY(%(states)s::text[]) AND j.state <> 'pending'
     AND j.ended_at < statement_timestamp() - %(age)s::float8 * interval '1 second'"""
    + _FREE
    + """
   ORDER BY j.id FOR UPDATE OF j SKIP LOCKED)"""
    + _DELETE
    + """
SELECT (SELECT count(*) FROM gone), (SELECT id FROM seen ORDER BY id DESC LIMIT 1),
       (SELECT count(*) FROM seen)""",
)


def delete_jobs(link: Link, ids: Iterable[UUID]) -> list[UUID]:
    """Delete those that have ended and that nothing needs any more; their ids."""
    wanted = list(ids)
    deleted: list[UUID] = []
    for start in range(0, len(wanted), BATCH):
        rows = link.rows(DELETE_JOBS, {"ids": wanted[start : start + BATCH]})
        deleted.extend(row[0] for row in rows)
    return deleted


def prune_page(link: Link, after: UUID, age: float, states: list[str], most: int = BATCH) -> tuple[int, UUID | None]:
    """Look at the ``most`` oldest jobs behind ``after``, and delete those that ended ``age`` seconds ago or earlier.

    How many were deleted, and behind which to go on; None at the end.
    """
    params = {"after": after, "age": age, "states": states, "most": most}
    deleted, last, seen = link.rows(PRUNE_JOBS, params)[0]
    return deleted, last if seen == most else None
