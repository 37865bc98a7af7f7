"""Cancelling jobs with all that they have called, however many those are.

Cancelling deletes the row that says where a job is (``due``, ``waiting`` or ``ready``): who deletes it owns the job,
so a claim and a cancellation can never both have it. A running job has its claim marked; its worker hears of it at
once, and the job ends as its task decides: it may still complete or fail, but is not tried again and calls nothing.

A family is cancelled from the top down, since who was cancelled calls nothing any more, and of each depth those that
wait for others before those others, so that ending one does not end all that wait for it in the same transaction. That
is done in portions, so that one of a million jobs does not hold locks for long. While it goes on, ``cancellations`` has
a row: what somebody began and does not end, because his process died or his request had no more time, workers end.
Going on is doing it again; any number may do so at once.

Jobs are touched in an order that is not the workers' own, so a deadlock is possible: what was broken off is done again.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from functools import partial
from typing import Any
from uuid import UUID

from fairchild import failpoints
from fairchild.db import wake
from fairchild.db.connect import Link, again
from fairchild.db.settle import end_jobs, settle
from fairchild.db.statement import Sql

PORTION = 10_000
"""Jobs that one transaction cancels, unless it is told otherwise."""
SMALL_PORTION = 500
"""For who may not take longer than a second or two at a time."""
ABANDONED_SECONDS = 5
"""After which nobody seems to go on with one."""
_LOOK = 80_000
_ROUNDS = 5

# Jobs and their descendants that have not ended and were not asked to stop. The first walks the tree, the second is for
# roots and reads their workflows as they lie. Index fairchild_jobs_by_workflow.
_LEFT = """
SELECT t.id FROM tree t LEFT JOIN {claims} c ON c.job_id = t.id
 WHERE t.state = 'pending' AND c.cancel_reason IS NULL
 ORDER BY t.depth, t.rank DESC NULLS LAST, t.id DESC LIMIT %(most)s::bigint"""
FAMILY = Sql(
    "family",
    """
WITH RECURSIVE tree AS (
  SELECT id, workflow_id, state, depth, rank FROM {jobs} WHERE id = ANY(%(ids)s::uuid[])
  UNION
  SELECT j.id, j.workflow_id, j.state, j.depth, j.rank FROM tree t
    JOIN {jobs} j ON j.workflow_id = t.workflow_id AND j.parent_id = t.id WHERE j.parent_id IS NOT NULL)"""
    + _LEFT,
)
WHOLE = Sql(
    "whole",
    """
WITH tree AS (
  SELECT id, state, depth, rank FROM {jobs} WHERE id = ANY(%(ids)s::uuid[])
  UNION ALL
  SELECT id, state, depth, rank FROM {jobs} WHERE workflow_id = ANY(%(ids)s::uuid[]) AND parent_id IS NOT NULL)"""
    + _LEFT,
)
ROOTS = Sql("roots", "SELECT id FROM {jobs} WHERE id = ANY(%(ids)s::uuid[]) AND workflow_id = id")

# The order is that in which a job moves: what is seen in none of them has been claimed or has moved on.
LEAVE_DUE = Sql("leave_due", "DELETE FROM {due} WHERE job_id = ANY(%(ids)s::uuid[]) RETURNING job_id")
LEAVE_WAITING = Sql(
    "leave_waiting",
    """
WITH locked AS MATERIALIZED (
  SELECT job_id FROM {waiting} WHERE job_id = ANY(%(ids)s::uuid[]) ORDER BY job_id FOR UPDATE)
DELETE FROM {waiting} WHERE job_id = ANY(ARRAY(SELECT job_id FROM locked)) RETURNING job_id""",
)
# Reads the lanes of these jobs from end to end: an index of ready by job would cost every job to make this fast. The
# test for the ids is written so that it stays a hashed look-up per row: as a plain IN it became a nested loop, which
# took minutes for 10,000 jobs among 300,000.
LEAVE_READY = Sql(
    "leave_ready",
    """
WITH lanes AS MATERIALIZED (
  SELECT DISTINCT queue, priority FROM {jobs} WHERE id = ANY(%(ids)s::uuid[])),
found AS MATERIALIZED (
  SELECT r.tid FROM lanes l CROSS JOIN LATERAL (
    SELECT ctid AS tid, job_id FROM {ready} WHERE queue = l.queue AND priority = l.priority OFFSET 0) r
   WHERE (r.job_id IN (SELECT unnest(%(ids)s::uuid[]))) IS TRUE),
locked AS MATERIALIZED (
  SELECT ctid AS tid FROM {ready} WHERE ctid = ANY(ARRAY(SELECT tid FROM found)) FOR UPDATE SKIP LOCKED)
DELETE FROM {ready} WHERE ctid = ANY(ARRAY(SELECT tid FROM locked)) RETURNING job_id""",
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

# Part of the first transaction, so that nothing is cancelled of what was told to have failed.
BEGIN = Sql(
    "begin_cancellation",
    """
INSERT INTO {cancellations} (job_id, reason)
SELECT j.id, %(reason)s::text FROM {jobs} j LEFT JOIN {cancellations} n ON n.job_id = j.id
 WHERE j.id = ANY(%(ids)s::uuid[]) AND (j.state = 'pending' OR n.job_id IS NOT NULL) ORDER BY j.id
ON CONFLICT (job_id) DO UPDATE SET asked_at = statement_timestamp()""",
)
END = Sql("end_cancellation", "DELETE FROM {cancellations} WHERE job_id = ANY(%(ids)s::uuid[])")
# Workers, who hear from LEFT_BEHIND that there are any. Whoever takes one is the only one for a while.
TAKE_ABANDONED = Sql(
    "take_abandoned",
    """
UPDATE {cancellations} SET asked_at = statement_timestamp() WHERE job_id = (
  SELECT job_id FROM {cancellations} WHERE asked_at < statement_timestamp() - make_interval(secs => %(seconds)s)
   ORDER BY asked_at LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING job_id, reason""",
)


def cancel(link: Link, ids: Iterable[UUID], reason: str) -> tuple[list[UUID], list[UUID]]:
    """Cancel jobs and their descendants: (jobs ended as cancelled, running jobs that were asked to stop).

    Jobs that had ended already are in neither list.
    """
    cancelled: list[UUID] = []
    asked: list[UUID] = []
    for done, running in cancel_portions(link, ids, reason):
        cancelled.extend(done)
        asked.extend(running)
    return cancelled, asked


def cancel_portions(
    link: Link, ids: Iterable[UUID], reason: str, size: int | None = None
) -> Generator[tuple[list[UUID], list[UUID]]]:
    """The same, in transactions of ``size`` jobs. Once the first is done all of it will be, if not here.

    It goes on until nothing is left, also of what running jobs call meanwhile: one that was asked to stop leaves no
    children, nor does any of a workflow whose root was cancelled. So roots come first.
    """
    given, size = list(dict.fromkeys(ids)), size or PORTION
    roots = [row[0] for row in link.rows(ROOTS, {"ids": given})]
    others, over = without(given, roots), True
    yield again(link, partial(_begin, link, given, roots[:size], reason, size))
    if failpoints.ARMED:
        failpoints.hit("cancel.begun")
    for start in range(size, len(roots), size):
        yield again(link, partial(_cancel, link, roots[start : start + size], reason))
    for statement, starts in ((WHOLE, roots), (FAMILY, others)):
        idle = 0
        while starts and idle < _ROUNDS and (found := _left(link, statement, starts, _LOOK)):
            reached = 0
            for start in range(0, len(found), size):
                done, running = again(link, partial(_cancel, link, found[start : start + size], reason))
                reached += len(done) + len(running)
                yield done, running
            idle = 0 if reached else idle + 1  # those that were in no place are between two, or others' to end
        over = over and idle < _ROUNDS
    if over:
        again(link, lambda: link.rows(END, {"ids": given}))


def go_on(link: Link) -> Generator[int]:
    """For workers: cancel what somebody began to cancel and does not end. How many jobs each portion has reached."""
    while taken := link.rows(TAKE_ABANDONED, {"seconds": ABANDONED_SECONDS}):
        ((job_id, reason),) = taken
        for done, asked in cancel_portions(link, [job_id], reason, SMALL_PORTION):
            yield len(done) + len(asked)


def forget(link: Link, ids: list[UUID]) -> None:
    """Nobody is to go on: these jobs have been opened again."""
    link.rows(END, {"ids": ids})


def _begin(link: Link, ids: list[UUID], roots: list[UUID], reason: str, size: int) -> tuple[list[UUID], list[UUID]]:
    """The first portion, and the note that there may be others."""
    with link.atomic():
        # Also those that were asked before are named as such, if they were named; other portions are of those that were
        # not.
        running = _ask_running(link, ids, reason)
        link.rows(BEGIN, {"ids": ids, "reason": reason})
        done, more = _cancel(link, without(roots or _left(link, FAMILY, ids, size), running), reason)
    return done, [*running, *more]


def _left(link: Link, statement: Sql, ids: list[UUID], most: int) -> list[UUID]:
    return [row[0] for row in link.rows(statement, {"ids": ids, "most": most})]


def _cancel(link: Link, ids: list[UUID], reason: str) -> tuple[list[UUID], list[UUID]]:
    """Cancel what can be found: (cancelled, asked to stop)."""
    with link.atomic():
        # Locks are taken as workers take them: claims first.
        running = _ask_running(link, ids, reason)
        rest = without(ids, running)
        taken: list[UUID] = []
        for statement in (LEAVE_DUE, LEAVE_WAITING, LEAVE_READY):
            taken.extend(row[0] for row in link.rows(statement, {"ids": without(rest, taken)}))
        cancelled, marked = end_jobs(link, [_cancelled(job_id, reason) for job_id in sorted(taken)])
        settle(link, marked)
    return cancelled, running


def _ask_running(link: Link, ids: list[UUID], reason: str) -> list[UUID]:
    told = {"channel": wake.channel(link.schema), "beat": wake.BEAT}
    return [row[0] for row in link.rows(ASK_RUNNING, {"ids": ids, "reason": reason, **told})]


def without(ids: list[UUID], others: list[UUID]) -> list[UUID]:
    """Those of ``ids`` that are not among ``others``."""
    out = set(others)
    return [job_id for job_id in ids if job_id not in out]


def _cancelled(job_id: UUID, reason: str) -> dict[str, Any]:
    return {"job_id": job_id, "state": "cancelled", "reason": reason, "kept": False, "result": None, "error": None}
