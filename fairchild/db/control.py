"""Cancelling and retrying by hand.

Cancelling deletes the row that says where the job is (``due``, ``waiting`` or ``ready``): who deletes it owns the job,
so a claim and a cancellation can never both have it. A running job has its claim marked; its worker hears of it with
the next heartbeat, and the job ends as its task decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

import msgspec

from fairchild.db import wake
from fairchild.db.connect import Link
from fairchild.db.settle import end_jobs, settle
from fairchild.db.statement import Sql
from fairchild.errors import UsageError

BATCH = 1000
_ROUNDS = 5

# A job and its descendants that have not ended. Index fairchild_jobs_by_workflow.
FAMILY = Sql(
    "family",
    """
WITH RECURSIVE tree AS (
  SELECT id, workflow_id, state FROM {jobs} WHERE id = ANY(%(ids)s::uuid[])
  UNION
  SELECT j.id, j.workflow_id, j.state FROM tree t
    JOIN {jobs} j ON j.workflow_id = t.workflow_id AND j.parent_id = t.id WHERE j.parent_id IS NOT NULL)
SELECT id FROM tree WHERE state = 'pending' ORDER BY id""",
)

# The order is that in which a job moves: what is seen in none of them has been claimed or has moved on.
LEAVE_DUE = Sql("leave_due", "DELETE FROM {due} WHERE job_id = ANY(%(ids)s::uuid[]) RETURNING job_id")
LEAVE_WAITING = Sql(
    "leave_waiting",
    """
WITH locked AS MATERIALIZED (
  SELECT job_id FROM {waiting} WHERE job_id = ANY(%(ids)s::uuid[]) ORDER BY job_id FOR UPDATE)
DELETE FROM {waiting} WHERE job_id = ANY(ARRAY(SELECT job_id FROM locked)) RETURNING job_id""",
)
# Reads the lanes of these jobs from end to end: an index of ready by job would cost every job to make this fast.
LEAVE_READY = Sql(
    "leave_ready",
    """
WITH wanted AS MATERIALIZED (
  SELECT id, queue, priority FROM {jobs} WHERE id = ANY(%(ids)s::uuid[])),
found AS MATERIALIZED (
  SELECT r.ctid AS tid FROM (SELECT DISTINCT queue, priority FROM wanted) l
    JOIN {ready} r ON r.queue = l.queue AND r.priority = l.priority
   WHERE r.job_id IN (SELECT id FROM wanted)
     FOR UPDATE OF r SKIP LOCKED)
DELETE FROM {ready} WHERE ctid = ANY(ARRAY(SELECT tid FROM found)) RETURNING job_id""",
)
ASK_RUNNING = Sql(
    "ask_running",
    """
UPDATE {claims} SET cancel_reason = coalesce(cancel_reason, %(reason)s)
 WHERE job_id = ANY(%(ids)s::uuid[]) RETURNING job_id""",
)
STILL_PENDING = Sql("still_pending", "SELECT id FROM {jobs} WHERE id = ANY(%(ids)s::uuid[]) AND state = 'pending'")

# Retry. All rows it may touch are locked in order of id first.
LOCK_JOBS = Sql(
    "lock_jobs",
    """
SELECT id, state, reason, parent_id FROM {jobs}
 WHERE id = ANY(%(ids)s::uuid[]) ORDER BY id FOR NO KEY UPDATE""",
)
# Jobs that were cancelled because one of these did not complete. Index fairchild_edges_pkey.
CANCELLED_WITH = Sql(
    "cancelled_with",
    """
SELECT DISTINCT j.id FROM {edges} e JOIN {jobs} j ON j.id = e.downstream
 WHERE e.upstream = ANY(%(ids)s::uuid[]) AND e.policy = 'need'
   AND j.state IN ('cancelled', 'failed') AND j.reason = 'upstream_failed'""",
)
PARENTS = Sql(
    "parents",
    """
SELECT DISTINCT p.id, p.state, p.reason, w.job_id IS NOT NULL AND w.ran
  FROM {jobs} j JOIN {jobs} p ON p.id = j.parent_id LEFT JOIN {waiting} w ON w.job_id = p.id
 WHERE j.id = ANY(%(ids)s::uuid[])""",
)
REOPEN = Sql(
    "reopen",
    """
WITH old AS MATERIALIZED (
  SELECT id, queue, task, state FROM {jobs} WHERE id = ANY(%(ids)s::uuid[]) AND state <> 'pending'),
counted AS (
  INSERT INTO {counters} (minute, queue, task, state, n)
  SELECT date_trunc('minute', statement_timestamp()), queue, task, state, -count(*) FROM old
   GROUP BY queue, task, state)
UPDATE {jobs} t
   SET state = 'pending', ended_at = NULL, reason = NULL, losses = 0,
       max_attempts = greatest(t.max_attempts, t.attempt + 1),
       scheduled_at = least(t.scheduled_at, statement_timestamp()),
       result = CASE WHEN t.id = ANY(%(parents)s::uuid[]) THEN t.result END
 WHERE t.id = ANY(ARRAY(SELECT id FROM old))
RETURNING t.id""",
)
# Counters from the truth, for jobs that go back to waiting. Runs after REOPEN in the same transaction.
WAIT_AGAIN = Sql(
    "wait_again",
    """
INSERT INTO {waiting} AS old (job_id, deps, children, ran, late, settle)
SELECT j.id, d.deps, CASE WHEN p.ran THEN c.children ELSE 0 END, p.ran, d.deps > 0,
       p.ran AND d.deps = 0 AND c.children = 0
  FROM jsonb_to_recordset(%(jobs)s::jsonb) AS p(id uuid, ran boolean)
  JOIN {jobs} j ON j.id = p.id
 CROSS JOIN LATERAL (
   SELECT count(*)::int AS deps FROM {edges} e JOIN {jobs} u ON u.id = e.upstream
    WHERE e.downstream = j.id AND u.state = 'pending' AND (NOT p.ran OR u.parent_id IS DISTINCT FROM j.id)) d
 CROSS JOIN LATERAL (
   SELECT count(*)::int AS children FROM {jobs} k
    WHERE k.workflow_id = j.workflow_id AND k.parent_id = j.id AND k.parent_id IS NOT NULL
      AND k.state = 'pending') c
    ON CONFLICT (job_id) DO UPDATE
       SET deps = excluded.deps, children = excluded.children, failed_dep = NULL, failed_child = NULL,
           settle = excluded.settle, late = old.late OR excluded.late""",
)
MAKE_READY = Sql(
    "make_ready",
    """
WITH again AS (
  INSERT INTO {ready} (queue, priority, job_id, tenant, task)
  SELECT queue, priority, id, tenant, task FROM {jobs}
   WHERE id = ANY(%(ids)s::uuid[]) AND NOT EXISTS (SELECT 1 FROM {waiting} w WHERE w.job_id = id)
   ORDER BY id
  RETURNING job_id)
SELECT pg_notify(%(channel)s, '') FROM (SELECT count(*) AS n FROM again) a WHERE a.n > 0""",
)
FREE_AGAIN = Sql(
    "free_again",
    """
DELETE FROM {waiting} WHERE job_id = ANY(%(ids)s::uuid[]) AND NOT ran AND deps = 0 RETURNING job_id""",
)


def cancel(link: Link, ids: Iterable[UUID], reason: str) -> tuple[list[UUID], list[UUID]]:
    """Cancel jobs and their descendants: (jobs ended as cancelled, running jobs that were asked to stop).

    Jobs that had ended already are in neither list.
    """
    cancelled: list[UUID] = []
    asked: list[UUID] = []
    with link.atomic():
        left = [row[0] for row in link.rows(FAMILY, {"ids": list(ids)})]
        for _ in range(_ROUNDS):
            if not left:
                break
            taken: list[UUID] = []
            for statement in (LEAVE_DUE, LEAVE_WAITING, LEAVE_READY):
                for start in range(0, len(left), BATCH):
                    taken.extend(row[0] for row in link.rows(statement, {"ids": left[start : start + BATCH]}))
            outcomes = [_cancelled(job_id, reason) for job_id in sorted(taken)]
            done, marked = end_jobs(link, outcomes) if outcomes else ([], [])
            cancelled.extend(done)
            if marked:
                settle(link, marked)
            rest = [job_id for job_id in left if job_id not in set(taken)]
            running = {row[0] for row in link.rows(ASK_RUNNING, {"ids": rest, "reason": reason})} if rest else set()
            asked.extend(sorted(running))
            rest = [job_id for job_id in rest if job_id not in running]
            left = [row[0] for row in link.rows(STILL_PENDING, {"ids": rest})] if rest else []
    return cancelled, asked


def _cancelled(job_id: UUID, reason: str) -> dict[str, Any]:
    return {"job_id": job_id, "state": "cancelled", "reason": reason, "kept": False, "result": None, "error": None}


def retry(link: Link, ids: Iterable[UUID]) -> list[UUID]:
    """Reopen ended jobs: they become available again, with at least one attempt left.

    What was cancelled because of them waits for them again, and so do their parents. Jobs that have not ended are left
    alone. Raises UsageError for a child whose parent runs anew. Gives the ids of the jobs asked for that were reopened.
    """
    with link.atomic():
        asked = [row[0] for row in link.rows(LOCK_JOBS, {"ids": list(ids)}) if row[1] != "pending"]
        if not asked:
            return []
        again = _cancelled_because_of(link, asked)
        parents = _parents_of(link, [*asked, *again])
        link.rows(LOCK_JOBS, {"ids": sorted({*asked, *again, *parents})})
        everything = list({*asked, *again, *parents})
        link.rows(REOPEN, {"ids": everything, "parents": list(parents)})
        order = [*({"id": job_id, "ran": False} for job_id in {*asked, *again} - parents)]
        order += [{"id": job_id, "ran": True} for job_id in parents]
        link.rows(WAIT_AGAIN, {"jobs": msgspec.json.encode(order).decode()})
        free = [row[0] for row in link.rows(FREE_AGAIN, {"ids": list({*asked, *again} - parents)})]
        link.rows(MAKE_READY, {"ids": free, "channel": wake.channel(link.schema)})
    return asked


def _cancelled_because_of(link: Link, ids: list[UUID]) -> list[UUID]:
    found: dict[UUID, None] = {}
    edge = list(ids)
    while edge:
        rows = [row[0] for row in link.rows(CANCELLED_WITH, {"ids": edge})]
        edge = [job_id for job_id in rows if job_id not in found and job_id not in ids]
        found.update(dict.fromkeys(edge))
    return list(found)


def _parents_of(link: Link, ids: list[UUID]) -> set[UUID]:
    parents: set[UUID] = set()
    edge = list(ids)
    while edge:
        step = []
        for job_id, state, reason, waits in link.rows(PARENTS, {"ids": edge}):
            if job_id in parents or job_id in ids:
                continue
            if state == "pending" and not waits:
                raise UsageError(
                    f"the parent {job_id} of a job to retry runs anew and will call its tasks again; nothing was "
                    "retried. Wait for it to end"
                )
            if state == "completed" or (state == "cancelled" and reason != "upstream_failed"):
                continue
            parents.add(job_id)
            if state != "pending":
                step.append(job_id)
        edge = step
    return parents
