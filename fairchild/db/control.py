"""Cancelling and retrying by hand.

Cancelling deletes the row that says where the job is (``due``, ``waiting`` or ``ready``): who deletes it owns the job,
so a claim and a cancellation can never both have it. A running job has its claim marked; its worker hears of it with
the next heartbeat, and the job ends as its task decides: it may still complete or fail, but is not tried again.

A retry reopens what the failure had ended and counts all of it anew, under the locks of the waiting jobs it touches.

Both touch jobs in an order that is not the workers' own, so a deadlock is possible. On our own connections what was
broken off is done again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar
from uuid import UUID

from fairchild.db import wake
from fairchild.db.connect import Link, retrying
from fairchild.db.enqueue import NOTIFY
from fairchild.db.finish import Applied, Ended, finish
from fairchild.db.settle import LOCK_WAITING, end_jobs, recount, settle
from fairchild.db.statement import Sql
from fairchild.errors import UsageError

T = TypeVar("T")

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
WITH locked AS MATERIALIZED (
  SELECT job_id FROM {claims} WHERE job_id = ANY(%(ids)s::uuid[]) ORDER BY job_id FOR UPDATE),
asked AS (
  UPDATE {claims} SET cancel_reason = coalesce(cancel_reason, %(reason)s)
   WHERE job_id = ANY(ARRAY(SELECT job_id FROM locked)) RETURNING job_id),
told AS (
  SELECT pg_notify(%(channel)s, %(beat)s) FROM (SELECT count(*) AS n FROM asked) c WHERE c.n > 0)
SELECT job_id FROM asked WHERE (SELECT count(*) FROM told) >= 0""",
)
STILL_PENDING = Sql("still_pending", "SELECT id FROM {jobs} WHERE id = ANY(%(ids)s::uuid[]) AND state = 'pending'")

# Retry. All rows it may touch are locked in order of id first.
LOCK_JOBS = Sql(
    "lock_jobs",
    """
SELECT id, state, reason, parent_id FROM {jobs}
 WHERE id = ANY(%(ids)s::uuid[]) ORDER BY id FOR NO KEY UPDATE""",
)
# Jobs that ended badly because one of these did; with those whose own function had run before and only returned the
# other's value. Index fairchild_edges_pkey.
FAILED_WITH = Sql(
    "failed_with",
    """
SELECT DISTINCT j.id, j.state = 'failed' AND j.value_refs IS NOT NULL
  FROM {edges} e JOIN {jobs} j ON j.id = e.downstream
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
LIVE_CHILDREN = Sql(
    "live_children",
    """
SELECT DISTINCT p.id FROM {jobs} p JOIN {jobs} c ON c.workflow_id = p.workflow_id AND c.parent_id = p.id
 WHERE p.id = ANY(%(ids)s::uuid[]) AND c.parent_id IS NOT NULL AND c.state = 'pending'""",
)
WAITING_FOR = Sql(
    "waiting_for",
    """
SELECT DISTINCT w.job_id FROM {edges} e JOIN {waiting} w ON w.job_id = e.downstream
 WHERE e.upstream = ANY(%(ids)s::uuid[])""",
)
# All of them go to waiting, from where the count that follows takes those that wait for nothing. ``ran``: jobs whose
# own function is not to run again; they keep what it returned.
REOPEN = Sql(
    "reopen",
    """
WITH old AS MATERIALIZED (
  SELECT id, queue, task, state FROM {jobs} WHERE id = ANY(%(ids)s::uuid[]) AND state <> 'pending'),
counted AS (
  INSERT INTO {counters} (minute, queue, task, state, n)
  SELECT date_trunc('minute', statement_timestamp()), queue, task, state, -count(*) FROM old
   GROUP BY queue, task, state),
placed AS (
  INSERT INTO {waiting} (job_id, ran) SELECT id, id = ANY(%(ran)s::uuid[]) FROM old),
begun_anew AS (  -- the cursor of one that came to its end leads nowhere
  UPDATE {progress} SET cursor = NULL WHERE job_id = ANY(ARRAY(SELECT id FROM old WHERE state = 'completed')))
UPDATE {jobs} t
   SET state = 'pending', ended_at = NULL, reason = NULL, losses = 0,
       max_attempts = greatest(t.max_attempts, t.attempt + 1),
       scheduled_at = least(t.scheduled_at, statement_timestamp()),
       result = CASE WHEN t.id = ANY(%(ran)s::uuid[]) THEN t.result END,
       value_refs = CASE WHEN t.id = ANY(%(ran)s::uuid[]) THEN t.value_refs END
 WHERE t.id = ANY(ARRAY(SELECT id FROM old))
RETURNING t.id""",
)

# A job that has just been ended, by its primary key, with its edges; it does not count as ended any more.
DELETE_ENDED = Sql(
    "delete_ended",
    """
WITH gone AS (
  DELETE FROM {jobs} WHERE id = %(id)s::uuid AND state <> 'pending' RETURNING id, queue, task, state),
edges AS (
  DELETE FROM {edges} WHERE upstream = (SELECT id FROM gone) OR downstream = (SELECT id FROM gone)),
progress AS (DELETE FROM {progress} WHERE job_id = (SELECT id FROM gone)),
logs AS (DELETE FROM {logs} WHERE job_id = (SELECT id FROM gone))
INSERT INTO {counters} (minute, queue, task, state, n)
SELECT date_trunc('minute', statement_timestamp()), queue, task, state, -1 FROM gone""",
)


def finish_and_delete(link: Link, ended: Ended) -> Applied:
    """Record an outcome, which ends the job for all that wait for it, and delete the job."""
    with link.atomic():
        applied = finish(link, [ended])
        if not applied.lost:
            link.rows(DELETE_ENDED, {"id": ended.job_id})
    return applied


def cancel(link: Link, ids: Iterable[UUID], reason: str) -> tuple[list[UUID], list[UUID]]:
    """Cancel jobs and their descendants: (jobs ended as cancelled, running jobs that were asked to stop).

    Jobs that had ended already are in neither list.
    """
    cancelled: list[UUID] = []
    asked: list[UUID] = []
    left = [row[0] for row in link.rows(FAMILY, {"ids": list(ids)})]
    for _ in range(_ROUNDS):
        if not left:
            break
        # A round is a transaction, so that locks are taken as workers take them: claims first.
        done, running, left = _again(link, lambda left=left: _cancel_round(link, left, reason))  # type: ignore[misc]
        cancelled.extend(done)
        asked.extend(running)
    return cancelled, asked


def _cancel_round(link: Link, ids: list[UUID], reason: str) -> tuple[list[UUID], list[UUID], list[UUID]]:
    """Cancel what can be found: (cancelled, asked to stop, still to be found)."""
    with link.atomic():
        told = {"channel": wake.channel(link.schema), "beat": wake.BEAT}
        running = [row[0] for row in link.rows(ASK_RUNNING, {"ids": ids, "reason": reason, **told})]
        rest = _without(ids, running)
        taken: list[UUID] = []
        for statement in (LEAVE_DUE, LEAVE_WAITING, LEAVE_READY):
            for start in range(0, len(rest), BATCH):
                taken.extend(row[0] for row in link.rows(statement, {"ids": rest[start : start + BATCH]}))
        cancelled, marked = end_jobs(link, [_cancelled(job_id, reason) for job_id in sorted(taken)])
        settle(link, marked)
        rest = _without(rest, taken)
        left = [row[0] for row in link.rows(STILL_PENDING, {"ids": rest})] if rest else []
    return cancelled, running, left


def _without(ids: list[UUID], others: list[UUID]) -> list[UUID]:
    out = set(others)
    return [job_id for job_id in ids if job_id not in out]


def _again(link: Link, step: Callable[[], T]) -> T:
    """Run a step of ours, again if it met a deadlock; in a caller's transaction that is the caller's affair."""
    return retrying(step) if link.owned else step()


def _cancelled(job_id: UUID, reason: str) -> dict[str, Any]:
    return {"job_id": job_id, "state": "cancelled", "reason": reason, "kept": False, "result": None, "error": None}


def retry(link: Link, ids: Iterable[UUID]) -> list[UUID]:
    """Reopen ended jobs: they become available again, with at least one attempt left.

    What ended badly because of them waits for them again, and so do their parents. A job that still needs the value of
    another that failed is cancelled again for that reason. Jobs that have not ended are left alone. Raises UsageError
    for a child whose parent runs anew, and for a parent of which children still run. Gives the ids of the jobs asked
    for that were reopened.
    """
    wanted = list(ids)
    return _again(link, lambda: _retry(link, wanted))


def _retry(link: Link, ids: list[UUID]) -> list[UUID]:
    with link.atomic():
        asked = [row[0] for row in link.rows(LOCK_JOBS, {"ids": ids}) if row[1] != "pending"]
        if not asked:
            return []
        again, ran = _ended_because_of(link, asked)
        parents = _parents_of(link, [*asked, *again, *ran])
        if busy := [row[0] for row in link.rows(LIVE_CHILDREN, {"ids": [*asked, *again]})]:
            raise UsageError(
                f"job {busy[0]} would run anew while jobs that it called before still run; nothing was retried. "
                "Wait for them to end"
            )
        everything = list({*asked, *again, *ran, *parents})
        # A parent that waits could be settled by its last child in this moment. With its row locked it cannot, and if
        # it has been, it is found ended here.
        waiting = [row[0] for row in link.rows(LOCK_WAITING, {"ids": everything})]
        link.rows(LOCK_JOBS, {"ids": _without(everything, waiting)})
        reopened = [row[0] for row in link.rows(REOPEN, {"ids": everything, "ran": list({*ran, *parents})})]
        others = [row[0] for row in link.rows(WAITING_FOR, {"ids": reopened})]
        settle(link, recount(link, list({*everything, *others})))  # also parents that another retry has reopened
        link.rows(NOTIFY, {"channel": wake.channel(link.schema), "gated": False, "gate": 0})
    return asked


def _ended_because_of(link: Link, ids: list[UUID]) -> tuple[list[UUID], list[UUID]]:
    """Jobs that ended badly because of these, directly or not: those to run, and those whose function had run."""
    found: dict[UUID, bool] = {}
    edge = list(ids)
    while edge:
        rows = link.rows(FAILED_WITH, {"ids": edge})
        new = {job_id: ran for job_id, ran in rows if job_id not in found and job_id not in ids}
        found.update(new)
        edge = list(new)
    return [job_id for job_id, ran in found.items() if not ran], [job_id for job_id, ran in found.items() if ran]


def _parents_of(link: Link, ids: list[UUID]) -> set[UUID]:
    """The parents that wait for these jobs, and those that failed because of them."""
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
            if state == "pending":
                parents.add(job_id)
            elif state == "failed" and reason in ("child_failed", "upstream_failed"):
                parents.add(job_id)
                step.append(job_id)
        edge = step
    return parents
