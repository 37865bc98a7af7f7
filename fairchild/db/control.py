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
  SELECT pg_notify(%(channel)s, %(cancel)s) FROM (SELECT count(*) AS n FROM asked) c WHERE c.n > 0)
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
SELECT DISTINCT p.id, p.state, p.reason, w.job_id IS NOT NULL AND w.ran,
       (SELECT true FROM {journal} g WHERE g.job_id = p.id AND g.ref = j.id LIMIT 1) IS NOT NULL
  FROM {jobs} j JOIN {jobs} p ON p.id = j.parent_id LEFT JOIN {waiting} w ON w.job_id = p.id
 WHERE j.id = ANY(%(ids)s::uuid[])""",
)
LIVE_CHILDREN = Sql(
    "live_children",
    """
SELECT DISTINCT p.id FROM {jobs} p JOIN {jobs} c ON c.workflow_id = p.workflow_id AND c.parent_id = p.id
 WHERE p.id = ANY(%(ids)s::uuid[]) AND c.parent_id IS NOT NULL AND c.state = 'pending'
   AND (p.state = 'completed'
     OR (SELECT true FROM {journal} g WHERE g.ref = c.id AND g.job_id = p.id LIMIT 1) IS NULL)""",
)
# Durable jobs go on from their journals. What was cancelled with one comes back with it (index fairchild_journal_pkey).
CANCELLED_WITH = Sql(
    "cancelled_with",
    """
SELECT c.id FROM {jobs} p JOIN {journal} g ON g.job_id = p.id JOIN {jobs} c ON c.id = g.ref
 WHERE p.id = ANY(%(ids)s::uuid[]) AND p.state = 'cancelled' AND g.kind = 'call'
   AND c.state = 'cancelled' AND c.reason = p.reason""",
)
# One that had completed starts anew, and calls others than before. In the others a failure of a job that has not failed
# any more is looked at anew; what had followed it may or may not come again.
FORGET = Sql(
    "forget",
    """
WITH done AS (
  DELETE FROM {journal} WHERE job_id = ANY(ARRAY(
    SELECT id FROM {jobs} WHERE id = ANY(%(ids)s::uuid[]) AND state = 'completed'))
  RETURNING job_id, seq),
late AS (
  DELETE FROM {timers} WHERE job_id = ANY(%(ids)s::uuid[]))
SELECT DISTINCT job_id, max(seq) OVER (PARTITION BY job_id) + 1 FROM done""",
)
BEGIN_ANEW = Sql(
    "begin_anew",
    """
INSERT INTO {journal} (job_id, seq, kind, name)
SELECT job_id, seq, 'anew', statement_timestamp()::text
  FROM unnest(%(ids)s::uuid[], %(seqs)s::int[]) AS t(job_id, seq)""",
)
AMEND = Sql(
    "amend",
    """
WITH mended AS MATERIALIZED (
  SELECT g.job_id, g.seq FROM {journal} g JOIN {jobs} c ON c.id = g.ref
   WHERE g.job_id = ANY(%(ids)s::uuid[]) AND g.kind = 'result' AND g.failed
     AND c.state NOT IN ('failed', 'cancelled')),
gone AS (
  DELETE FROM {journal} g USING mended m WHERE g.job_id = m.job_id AND g.seq = m.seq)
UPDATE {journal} g SET optional = true
 WHERE g.job_id = ANY(%(ids)s::uuid[])
   AND g.seq > (SELECT min(m.seq) FROM mended m WHERE m.job_id = g.job_id)
   AND NOT EXISTS (SELECT 1 FROM mended m WHERE m.job_id = g.job_id AND m.seq = g.seq)""",
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
  INSERT INTO {waiting} (job_id, ran) SELECT id, id = ANY(%(ran)s::uuid[]) FROM old)
UPDATE {jobs} t
   SET state = 'pending', ended_at = NULL, reason = NULL, losses = 0,
       max_attempts = greatest(t.max_attempts, t.attempt + 1),
       scheduled_at = least(t.scheduled_at, statement_timestamp()),
       result = CASE WHEN t.id = ANY(%(ran)s::uuid[]) THEN t.result END,
       value_refs = CASE WHEN t.id = ANY(%(ran)s::uuid[]) THEN t.value_refs END
 WHERE t.id = ANY(ARRAY(SELECT id FROM old))
RETURNING t.id""",
)


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
        told = {"channel": wake.channel(link.schema), "cancel": wake.CANCEL}
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
        again = [*again, *_without(_cancelled_with(link, asked), [*asked, *again])]
        parents, resumed = _parents_of(link, [*asked, *again, *ran])
        again = [*again, *resumed]
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
        forgotten = link.rows(FORGET, {"ids": [*asked, *again]})
        if forgotten:
            link.rows(BEGIN_ANEW, {"ids": [row[0] for row in forgotten], "seqs": [row[1] for row in forgotten]})
        reopened = [row[0] for row in link.rows(REOPEN, {"ids": everything, "ran": list({*ran, *parents})})]
        link.rows(AMEND, {"ids": [*asked, *again]})
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


def _cancelled_with(link: Link, ids: list[UUID]) -> list[UUID]:
    """The children of cancelled durable jobs that were cancelled with them, and theirs."""
    found: dict[UUID, None] = {}
    edge = list(ids)
    while edge:
        edge = [row[0] for row in link.rows(CANCELLED_WITH, {"ids": edge}) if row[0] not in found]
        found.update(dict.fromkeys(edge))
    return list(found)


def _parents_of(link: Link, ids: list[UUID]) -> tuple[set[UUID], set[UUID]]:
    """The parents that wait for these jobs or failed because of them; durable ones that were ended by such a failure.

    A durable parent that runs or is suspended goes on as it does: it does not call these jobs again.
    """
    parents: set[UUID] = set()
    resumed: set[UUID] = set()
    edge = list(ids)
    while edge:
        step = []
        for job_id, state, reason, waits, journaled in link.rows(PARENTS, {"ids": edge}):
            if job_id in parents or job_id in resumed or job_id in ids:
                continue
            if journaled and ((state == "pending" and not waits) or reason == "awaited_failed"):
                if state == "failed":
                    resumed.add(job_id)
                    step.append(job_id)
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
    return parents, resumed
