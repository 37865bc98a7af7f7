"""Retrying, moving, and running ahead of time, by hand.

A retry reopens what the failure had ended and counts all of it anew, under the locks of the waiting jobs it touches.

What is only put off can be run now: it leaves ``due`` as if its time had come. What waits for other jobs, for a signal
or for a limit is not in ``due``, or stands behind the claim, and so nothing else is got around.

All touch jobs in an order that is not the workers' own, so a deadlock is possible. On our own connections what was
broken off is done again.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from uuid import UUID

from fairchild.db import cancel, wake
from fairchild.db.cancel import without
from fairchild.db.connect import Link, again
from fairchild.db.enqueue import NOTIFY
from fairchild.db.events import tell
from fairchild.db.finish import Applied, Ended, finish
from fairchild.db.settle import LOCK_WAITING, recount, settle
from fairchild.db.statement import Sql
from fairchild.errors import StateError

BATCH = 1000

# Somebody who does not want to wait. As PROMOTE_DUE, of named jobs: fairchild_due_pkey. The row of a job says when it
# was due; nobody else changes that row while the job has no place.
RUN_NOW = Sql(
    "run_now",
    """
WITH locked AS MATERIALIZED (
  SELECT job_id FROM {due} WHERE job_id = ANY(%(ids)s::uuid[]) ORDER BY job_id FOR UPDATE),
gone AS (
  DELETE FROM {due} WHERE job_id = ANY(ARRAY(SELECT job_id FROM locked))
  RETURNING job_id, queue, priority, tenant, task, run_at),
promoted AS (
  INSERT INTO {ready} (queue, priority, job_id, tenant, task)
  SELECT queue, priority, job_id, tenant, task FROM gone ORDER BY run_at, job_id
  RETURNING job_id),
moved AS (
  UPDATE {jobs} SET scheduled_at = statement_timestamp()
   WHERE id = ANY(ARRAY(SELECT job_id FROM promoted)) AND scheduled_at > statement_timestamp()),
"""
    + tell("told", "promoted", "'job_ready'", "job_id")
    + """
SELECT job_id FROM promoted""",
)
# Somebody who wants jobs elsewhere. A job that is available goes to the end of its new lane: workers know up to where
# they have looked at one, and would not find what came in before. LEAVE_READY says how it is found.
_NEW_LANE = "coalesce(%(queue)s::text, queue), coalesce(%(priority)s::smallint, priority)"
_MOVED = (
    """
moved AS (
  UPDATE {jobs} SET (queue, priority) = (SELECT """
    + _NEW_LANE
    + """) WHERE id = ANY(ARRAY(SELECT job_id FROM placed)))
SELECT job_id FROM placed"""
)
MOVE_DUE = Sql(
    "move_due",
    """
WITH locked AS MATERIALIZED (
  SELECT job_id FROM {due}
   WHERE job_id = ANY(%(ids)s::uuid[]) AND (queue, priority) IS DISTINCT FROM ("""
    + _NEW_LANE
    + """) ORDER BY job_id FOR UPDATE),
placed AS (
  UPDATE {due} SET (queue, priority) = (SELECT """
    + _NEW_LANE
    + """) WHERE job_id = ANY(ARRAY(SELECT job_id FROM locked)) RETURNING job_id),"""
    + _MOVED,
)
MOVE_READY = Sql(
    "move_ready",
    """
WITH lanes AS MATERIALIZED (
  SELECT DISTINCT queue, priority FROM {jobs}
   WHERE id = ANY(%(ids)s::uuid[]) AND (queue, priority) IS DISTINCT FROM ("""
    + _NEW_LANE
    + """)),
found AS MATERIALIZED (
  SELECT r.tid FROM lanes l CROSS JOIN LATERAL (
    SELECT ctid AS tid, job_id FROM {ready} WHERE queue = l.queue AND priority = l.priority OFFSET 0) r
   WHERE (r.job_id IN (SELECT unnest(%(ids)s::uuid[]))) IS TRUE),
locked AS MATERIALIZED (
  SELECT ctid AS tid FROM {ready} WHERE ctid = ANY(ARRAY(SELECT tid FROM found)) FOR UPDATE SKIP LOCKED),
gone AS (
  DELETE FROM {ready} WHERE ctid = ANY(ARRAY(SELECT tid FROM locked))
  RETURNING queue, priority, seq, job_id, at, tenant, task),
placed AS (
  INSERT INTO {ready} (queue, priority, job_id, at, tenant, task)
  SELECT """
    + _NEW_LANE
    + """, job_id, at, tenant, task FROM gone ORDER BY seq
  RETURNING job_id),"""
    + _MOVED,
)
# Somebody has edited an ended job and tried it again as another. Primary key.
LINK_RETRY = Sql(
    "link_retry",
    """
UPDATE {jobs} SET meta = coalesce(meta, '{{}}') || jsonb_build_object('retried_as', %(new)s::text)
 WHERE id = %(old)s::uuid AND state <> 'pending'""",
)

# Retry. All rows it may touch are locked in order of id first.
LOCK_JOBS = Sql(
    "lock_jobs",
    """
SELECT id, state, composed IS TRUE FROM {jobs}
 WHERE id = ANY(%(ids)s::uuid[]) ORDER BY id FOR NO KEY UPDATE""",
)
# What a workflow's failure began with: jobs that ended badly by themselves, and those who ended so by a person's hand.
# ``ran``: its own function need not run again, since all that was cancelled is that it waited for its children. When
# each parent called last is found for all of them at once: looked up for each job, where one parent has most of the
# jobs, PostgreSQL reads the table for each.
ENDS = """
WITH last AS MATERIALIZED (
  SELECT parent_id, max(inserted_at) AS at FROM {jobs}
   WHERE workflow_id = %(id)s::uuid AND parent_id IS NOT NULL GROUP BY parent_id),
ends AS MATERIALIZED (
  SELECT j.id, j.parent_id, j.state, j.depth, j.ended_at,
         j.composed IS TRUE OR (j.state = 'cancelled' AND coalesce(l.at >= j.attempted_at, false)) AS ran
    FROM {jobs} j LEFT JOIN last l ON l.parent_id = j.id
   WHERE (j.id = %(id)s::uuid OR (j.workflow_id = %(id)s::uuid AND j.parent_id IS NOT NULL))
     AND j.state IN ('failed', 'cancelled') AND j.reason NOT IN ('child_failed', 'upstream_failed'))"""
OWN_ENDS = Sql("own_ends", ENDS + " SELECT id, parent_id, state, ran FROM ends ORDER BY depth DESC, id")
COMPOSED = Sql("composed", "SELECT id FROM {jobs} WHERE id = ANY(%(ids)s::uuid[]) AND composed")
# Jobs that ended badly because one of these did; with those whose own function had run before and only returned the
# other's value. Index fairchild_edges_pkey.
FAILED_WITH = Sql(
    "failed_with",
    """
SELECT DISTINCT id, had_run FROM (
  SELECT j.id, j.state = 'failed' AND j.value_refs IS NOT NULL AS had_run
    FROM unnest(%(ids)s::uuid[]) AS u(id)
   CROSS JOIN LATERAL (SELECT downstream FROM {edges} WHERE upstream = u.id AND policy = 'need' OFFSET 0) e
   CROSS JOIN LATERAL (SELECT id, state, reason, value_refs FROM {jobs} WHERE id = e.downstream OFFSET 0) j
   WHERE j.state IN ('cancelled', 'failed') AND j.reason = 'upstream_failed' LIMIT %(room)s::bigint) found""",
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
WITH p AS MATERIALIZED (
  SELECT id, workflow_id, state FROM {jobs} WHERE id = ANY(%(ids)s::uuid[]) AND attempted_at IS NOT NULL)
SELECT DISTINCT p.id FROM p JOIN {jobs} c ON c.workflow_id = p.workflow_id AND c.parent_id = p.id
 WHERE c.parent_id IS NOT NULL AND c.state = 'pending'
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
# Of jobs that wait, for whom some that they had seen end are open again: that many more, instead of counting all that
# they wait for anew. A parent counts the children of its last run, or those in its journal. Who is suspended counts by
# other rules. Indexes fairchild_edges_pkey and fairchild_waiting_pkey.
COUNT_UP = Sql(
    "count_up",
    """
WITH more AS MATERIALIZED (
  SELECT job_id, sum(deps)::int AS deps, sum(children)::int AS children FROM (
    SELECT e.downstream AS job_id, 1 AS deps, 0 AS children
      FROM unnest(%(ids)s::uuid[]) AS u(id)
     CROSS JOIN LATERAL (SELECT downstream FROM {edges} WHERE upstream = u.id OFFSET 0) e
    UNION ALL
    SELECT c.parent_id, 0, 1
      FROM unnest(%(ids)s::uuid[]) AS u(id)
     CROSS JOIN LATERAL (SELECT id, parent_id, inserted_at FROM {jobs} WHERE id = u.id OFFSET 0) c
     CROSS JOIN LATERAL (SELECT attempted_at FROM {jobs} WHERE id = c.parent_id OFFSET 0) p
     WHERE c.inserted_at >= p.attempted_at OR (
       SELECT true FROM {journal} g WHERE g.ref = c.id AND g.job_id = c.parent_id AND g.kind = 'call' LIMIT 1)) seen
   WHERE job_id NOT IN (SELECT unnest(%(ids)s::uuid[])) GROUP BY job_id)
UPDATE {waiting} w
   SET deps = w.deps + m.deps, children = CASE WHEN w.ran THEN w.children + m.children ELSE w.children END,
       failed_child = CASE WHEN w.failed_child = ANY(%(ids)s::uuid[]) THEN NULL ELSE w.failed_child END,
       failed_dep = CASE WHEN w.failed_dep = ANY(%(ids)s::uuid[]) THEN NULL ELSE w.failed_dep END,
       settle = NOT w.ran AND w.settle AND (w.failed_dep = ANY(%(ids)s::uuid[])) IS NOT TRUE
  FROM more m WHERE w.job_id = m.job_id AND w.job_id = ANY(ARRAY(SELECT job_id FROM more)) AND w.wake IS NULL
RETURNING w.job_id""",
)
# All of them go to waiting, from where the count that follows takes those that wait for nothing. ``ran``: jobs whose
# own function is not to run again; they keep what it returned.
REOPEN = Sql(
    "reopen",
    """
WITH old AS MATERIALIZED (
  SELECT id, queue, task, state, workflow_id, group_key
    FROM {jobs} WHERE id = ANY(%(ids)s::uuid[]) AND state <> 'pending'),
counted AS (
  INSERT INTO {counters} (minute, queue, task, state, n)
  SELECT date_trunc('minute', statement_timestamp()), queue, task, state, -count(*) FROM old
   GROUP BY queue, task, state),
placed AS (
  INSERT INTO {waiting} (job_id, ran, queue, workflow_id, group_key)
  SELECT id, id = ANY(%(ran)s::uuid[]), queue, workflow_id, group_key FROM old),
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


def run_now(link: Link, ids: Iterable[UUID]) -> list[UUID]:
    """Make scheduled jobs, also those that are to be tried again, available: those of ``ids`` that were, in order.

    In batches, a transaction each. Jobs in any other state are left alone.
    """
    wanted, due = list(dict.fromkeys(ids)), set[UUID]()
    for start in range(0, len(wanted), BATCH):
        due.update(again(link, lambda start=start: _run_now(link, wanted[start : start + BATCH])))  # type: ignore[misc]
    return [job_id for job_id in wanted if job_id in due]


def _run_now(link: Link, ids: list[UUID]) -> list[UUID]:
    with link.atomic():
        found = [row[0] for row in link.rows(RUN_NOW, {"ids": ids})]
        if found:
            link.rows(NOTIFY, {"channel": wake.channel(link.schema), "gated": False, "gate": 0})
    return found


def move(link: Link, ids: Iterable[UUID], queue: str | None, priority: int | None) -> list[UUID]:
    """Put scheduled and available jobs into another queue, or give them another priority; None leaves it as it is.

    Those of ``ids`` that were moved, in order. In batches, a transaction each.
    """
    wanted, moved = list(dict.fromkeys(ids)), set[UUID]()
    for start in range(0, len(wanted), BATCH):
        batch = wanted[start : start + BATCH]
        moved.update(again(link, lambda batch=batch: _move(link, batch, queue, priority)))  # type: ignore[misc]
    return [job_id for job_id in wanted if job_id in moved]


def _move(link: Link, ids: list[UUID], queue: str | None, priority: int | None) -> list[UUID]:
    with link.atomic():
        found: list[UUID] = []
        for statement in (MOVE_DUE, MOVE_READY):  # in the order in which a job moves
            found += [
                row[0]
                for row in link.rows(statement, {"ids": without(ids, found), "queue": queue, "priority": priority})
            ]
        if found:
            link.rows(NOTIFY, {"channel": wake.channel(link.schema), "gated": False, "gate": 0})
    return found


def link_retry(link: Link, old: UUID, new: UUID) -> None:
    """Note with an ended job which other was made from it."""
    link.rows(LINK_RETRY, {"old": old, "new": new})


def retry(link: Link, ids: Iterable[UUID]) -> list[UUID]:
    """Reopen ended jobs: they become available again, with at least one attempt left.

    What ended badly because of them waits for them again, and so do their parents. A job that still needs the value of
    another that failed is cancelled again for that reason. Jobs that have not ended are left alone. Raises UsageError
    for a child whose parent runs anew, and for a parent of which children still run. Gives the ids of the jobs asked
    for that were reopened.
    """
    wanted = list(ids)
    roots = [row[0] for row in link.rows(COMPOSED, {"ids": wanted})]
    for root in roots:  # there is no function to run again, only what it waits for
        retry_workflow(link, root)
    others = without(wanted, roots)
    return [*roots, *(again(link, lambda: reopen(link, others)) if others else ())]


def retry_workflow(link: Link, root: UUID) -> list[UUID]:
    """Run again what failed in a workflow and what was cancelled because of it; what completed is kept.

    Jobs that a person or their own task cancelled stay so, unless the whole was cancelled or nothing else has failed.
    In batches; the ids of the jobs that the failure began with, reopened. Raises UsageError as ``retry``.
    """
    found = link.rows(OWN_ENDS, {"id": root})
    whole = not any(state == "failed" for _, _, state, _ in found) or any(row[0] == root for row in found)
    wanted = {job_id: ran for job_id, _, state, ran in found if whole or state == "failed"}
    # A parent that runs anew calls its tasks again.
    anew = {job_id for job_id, ran in wanted.items() if not ran}
    ids = [job_id for job_id, parent, _, _ in found if job_id in wanted and parent not in anew]
    if root in wanted:  # while it is cancelled, no job of it may call any
        ids = [root, *(job_id for job_id in ids if job_id != root)]
    reopened: list[UUID] = []
    for start in range(0, len(ids), BATCH):
        batch = ids[start : start + BATCH]
        kept = {job_id for job_id in batch if wanted[job_id]}
        reopened += again(link, lambda batch=batch, kept=kept: reopen(link, batch, kept))  # type: ignore[misc]
    return reopened


def reopen(link: Link, ids: list[UUID], keep: AbstractSet[UUID] = frozenset(), room: int | None = None) -> list[UUID]:
    """Reopen jobs and what ended because of them; the function of those in ``keep`` is not run again.

    ``room``: how many of those that needed a value of others come along; the rest stays for who comes after.
    """
    with link.atomic():
        asked = [row[0] for row in link.rows(LOCK_JOBS, {"ids": ids}) if row[1] != "pending"]
        if not asked:
            return []
        # What waits for them, and a parent that waits, could be ended for them in this moment. With its row locked it
        # cannot, and if it has been, it is found ended when looked at again.
        looked_at: set[UUID] = set()
        waiting: list[UUID] = []
        while True:
            along = _cancelled_with(link, asked)
            others = {**dict.fromkeys(along, False), **_ended_because_of(link, [*asked, *along], room)}
            everything = list({*asked, *others})
            new = {*(row[0] for row in link.rows(WAITING_FOR, {"ids": everything})), *everything} - looked_at
            if not new:
                break
            waiting += [row[0] for row in link.rows(LOCK_WAITING, {"ids": list(new)})]
            looked_at |= new
        ran = {*(job_id for job_id, has_run in others.items() if has_run), *(keep & set(asked))}
        anew = [job_id for job_id in (*asked, *others) if job_id not in ran]
        if busy := [row[0] for row in link.rows(LIVE_CHILDREN, {"ids": anew})]:
            raise StateError(
                f"job {busy[0]} would run anew while jobs that it called before still run; nothing was retried. "
                "Wait for them to end"
            )
        link.rows(LOCK_JOBS, {"ids": without(everything, waiting)})
        forgotten = link.rows(FORGET, {"ids": anew})
        if forgotten:
            link.rows(BEGIN_ANEW, {"ids": [row[0] for row in forgotten], "seqs": [row[1] for row in forgotten]})
        reopened = [row[0] for row in link.rows(REOPEN, {"ids": everything, "ran": list(ran)})]
        link.rows(AMEND, {"ids": anew})
        cancel.forget(link, reopened)
        downstream = [row[0] for row in link.rows(WAITING_FOR, {"ids": reopened})]
        counted = {row[0] for row in link.rows(COUNT_UP, {"ids": reopened})}
        settle(link, recount(link, list({*everything, *downstream} - counted)))
        link.rows(NOTIFY, {"channel": wake.channel(link.schema), "gated": False, "gate": 0})
    return asked


def _cancelled_with(link: Link, ids: list[UUID]) -> list[UUID]:
    """The children of cancelled durable jobs that were cancelled with them, and theirs."""
    found: dict[UUID, None] = {}
    edge = list(ids)
    while edge:
        edge = [row[0] for row in link.rows(CANCELLED_WITH, {"ids": edge}) if row[0] not in found]
        found.update(dict.fromkeys(edge))
    return without(list(found), ids)


def _ended_because_of(link: Link, ids: list[UUID], room: int | None = None) -> dict[UUID, bool]:
    """What ended badly because of these jobs, directly or not, and parents that wait; whether its function had run.

    Along edges to those who needed a value, and up to parents, whose own dependents failed with them. Of the first at
    most ``room``.
    """
    given = set(ids)
    found: dict[UUID, bool] = {}
    edge = list(ids)
    while edge:
        step: list[UUID] = []
        left = None if room is None else room - len(found)
        for job_id, ran in link.rows(FAILED_WITH, {"ids": edge, "room": left}) if left is None or left > 0 else ():
            if job_id not in found and job_id not in given:
                found[job_id] = ran
                step.append(job_id)
        for job_id, state, reason, waits, journaled in link.rows(PARENTS, {"ids": edge}):
            if job_id in found or job_id in given:
                continue
            if journaled and ((state == "pending" and not waits) or reason == "awaited_failed"):
                # A durable parent goes on from its journal and does not call these jobs again.
                if state == "failed":
                    found[job_id] = False
                    step.append(job_id)
                continue
            if state == "pending" and not waits:
                raise StateError(
                    f"the parent {job_id} of a job to retry runs anew and will call its tasks again; nothing was "
                    "retried. Wait for it to end"
                )
            if state == "pending":
                found[job_id] = True
            elif state == "failed" and reason in ("child_failed", "upstream_failed"):
                found[job_id] = True
                step.append(job_id)
        edge = step
    return found
