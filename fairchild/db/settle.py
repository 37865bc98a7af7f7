"""Ending jobs that no worker runs: parents whose children have all ended, and jobs whose upstream failed.

Each round takes the marked rows out of ``waiting``, decides what their jobs come to, and ends them; that may mark
others (the parent's parent, the dependents of a job cancelled here), which are the next round. All rounds run in one
transaction. A width of 10,000 is a row in a batch, a depth of 50 is 50 rounds.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec

from fairchild import codec
from fairchild.db import wake
from fairchild.db.connect import Link
from fairchild.db.ending import APPEND_ERROR, PROMOTE, TAIL, WAKE
from fairchild.db.statement import Sql

BATCH = 1000

# Index fairchild_waiting_pkey; locks in order of job id.
TAKE_MARKED = Sql(
    "take_marked",
    """
WITH locked AS MATERIALIZED (
  SELECT job_id, ran, failed_dep, failed_child FROM {waiting}
   WHERE job_id = ANY(%(ids)s::uuid[]) AND settle ORDER BY job_id FOR UPDATE),
gone AS (
  DELETE FROM {waiting} WHERE job_id = ANY(ARRAY(SELECT job_id FROM locked)))
SELECT l.job_id, l.ran, l.failed_dep, l.failed_child, j.on_child_failure, j.result, j.value_refs, j.attempt
  FROM locked l CROSS JOIN LATERAL (
    SELECT on_child_failure, result, value_refs, attempt FROM {jobs} WHERE id = l.job_id OFFSET 0) j""",
)

# Index fairchild_waiting_to_settle. The sweep: what a transaction marked and did not come to end.
FIND_MARKED = Sql("find_marked", "SELECT job_id FROM {waiting} WHERE settle ORDER BY job_id LIMIT 1000")

# The values of upstream jobs, for an aggregator or a parent: one statement whatever their number.
READ_RESULTS = Sql(
    "read_results",
    "SELECT id, state, result, task FROM {jobs} WHERE id = ANY(%(ids)s::uuid[])",
)

# Ends jobs that hold no place any more. A parent that fails keeps what its function returned, for a retry of a child.
# Used for settled jobs and for cancelled ones; locks jobs, then waiting, by id.
END_JOBS = Sql(
    "end_jobs",
    """
WITH input AS MATERIALIZED (
  SELECT * FROM jsonb_to_recordset(%(outcomes)s::jsonb) AS t(
    job_id uuid, state text, reason text, kept boolean, result jsonb, error jsonb)
  ORDER BY job_id),
written AS (
  UPDATE {jobs} t
     SET state = i.state, ended_at = statement_timestamp(), reason = i.reason,
         value_refs = CASE WHEN i.state <> 'completed' THEN t.value_refs END,
         result = CASE WHEN i.kept THEN coalesce(i.result, 'null'::jsonb)
                       WHEN i.state <> 'completed' THEN t.result END,
         errors = """
    + APPEND_ERROR.replace("{entry}", "(i.error || jsonb_build_object('at', statement_timestamp()))")
    + """
    FROM input i CROSS JOIN LATERAL (SELECT ctid AS tid FROM {jobs} WHERE id = i.job_id OFFSET 0) x
   WHERE t.ctid = x.tid AND t.state = 'pending'  -- nobody else writes the row of a job whose place we took
  RETURNING t.id, t.queue, t.priority, t.tenant, t.task, t.parent_id, t.state, NULL::text AS next,
            NULL::float8 AS delay, 0 AS children, 0 AS deps),"""
    + TAIL
    + ","
    + WAKE
    + """
SELECT id, true FROM written
UNION ALL
SELECT job_id, false FROM lowered WHERE settle
UNION ALL
SELECT NULL, true FROM woken""",
)

# Jobs with edges to older ones may have missed a countdown: see db/enqueue.UPSTREAM_STATES.
LOCK_LATE = Sql(
    "lock_late",
    "SELECT job_id FROM {waiting} WHERE late ORDER BY job_id LIMIT 500 FOR UPDATE SKIP LOCKED",
)
RECOUNT_LATE = Sql(
    "recount_late",
    """
WITH counted_down AS MATERIALIZED (
  SELECT w.job_id, w.ran, e.deps, w.children, coalesce(w.failed_dep, e.failed_dep) AS failed_dep, w.failed_child
    FROM {waiting} w CROSS JOIN LATERAL (
      SELECT count(*) FILTER (WHERE u.state = 'pending')::int AS deps,
             (array_agg(u.id) FILTER (WHERE u.state IN ('failed', 'cancelled') AND e.policy = 'need'))[1] AS failed_dep
        FROM {edges} e JOIN {jobs} u ON u.id = e.upstream WHERE e.downstream = w.job_id) e
   WHERE w.job_id = ANY(%(ids)s::uuid[])),"""
    + PROMOTE
    + ","
    + WAKE
    + """
SELECT job_id FROM lowered WHERE settle UNION ALL SELECT NULL FROM woken""",
)


def settle(link: Link, ids: list[UUID], room: int = 0) -> list[UUID]:
    """End the marked jobs among ``ids`` and whatever that entails; the ids of all jobs ended.

    Belongs to the transaction that marked them; opens one if there is none.
    """
    ended: list[UUID] = []
    with link.atomic():
        todo = list(ids)
        while todo:
            rows = []
            for start in range(0, len(todo), BATCH):
                rows.extend(link.rows(TAKE_MARKED, {"ids": todo[start : start + BATCH]}))
            outcomes = _outcomes(link, rows)
            done, todo = end_jobs(link, outcomes, room)
            ended.extend(done)
    return ended


def end_jobs(link: Link, outcomes: list[dict[str, Any]], room: int = 0) -> tuple[list[UUID], list[UUID]]:
    """End jobs that hold no place: (ids ended, ids now marked to be settled).

    ``outcomes``: ``{job_id, state, reason, kept, result (msgspec.Raw), error}``.
    """
    done: list[UUID] = []
    marked: list[UUID] = []
    for start in range(0, len(outcomes), BATCH):
        document = msgspec.json.encode(outcomes[start : start + BATCH]).decode()
        for job_id, was_ended in link.rows(END_JOBS, {"outcomes": document, **wake.wake_params(link.schema, room)}):
            if job_id is not None:
                (done if was_ended else marked).append(job_id)
    return done, list(dict.fromkeys(marked))


def sweep(link: Link) -> int:
    """End what was marked and left, count late jobs again; how many jobs were ended."""
    ended = 0
    marked = [row[0] for row in link.rows(FIND_MARKED)]
    if marked:
        ended += len(settle(link, marked))
    with link.atomic():
        late = [row[0] for row in link.rows(LOCK_LATE)]
        if late:
            todo = recount(link, late)
            ended += len(settle(link, todo)) if todo else 0
    return ended


def recount(link: Link, ids: list[UUID]) -> list[UUID]:
    """Count the upstreams of waiting jobs, whose rows this transaction has locked, again; those now marked."""
    params = {"ids": ids, **wake.wake_params(link.schema, 0)}
    return [row[0] for row in link.rows(RECOUNT_LATE, params) if row[0] is not None]


def read_results(link: Link, ids: list[UUID]) -> dict[UUID, tuple[str, bytes | None, str]]:
    """State, result as JSON text (None: no result kept) and task of each job, in one statement."""
    return {row[0]: (row[1], row[2], row[3]) for row in link.rows(READ_RESULTS, {"ids": ids})}


def _outcomes(link: Link, rows: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    refs = {row[0]: codec.decode(row[6]) for row in rows if row[6] is not None and _wants_value(row)}
    wanted = list({UUID(ref[1]) for found in refs.values() for ref in found})
    values = read_results(link, wanted) if wanted else {}
    outcomes = []
    for job_id, ran, failed_dep, failed_child, policy, result, _, attempt in rows:
        if not ran:
            outcomes.append(_bad(job_id, "cancelled", "upstream_failed", f"upstream job {failed_dep} did not complete"))
        elif failed_child is not None and policy == "fail":
            message = f"child job {failed_child} did not complete"
            outcomes.append(_bad(job_id, "failed", "child_failed", message, attempt))
        elif failed_dep is not None:
            message = f"job {failed_dep}, whose value this job returned, did not complete"
            outcomes.append(_bad(job_id, "failed", "upstream_failed", message, attempt))
        elif job_id in refs:
            outcomes.append(_valued(job_id, result, refs[job_id], values, attempt))
        else:
            outcomes.append(_good(job_id, result))
    return outcomes


def _wants_value(row: tuple[Any, ...]) -> bool:
    _, ran, failed_dep, failed_child, policy, *_ = row
    return bool(ran and failed_dep is None and (failed_child is None or policy != "fail"))


def _good(job_id: UUID, result: bytes | None) -> dict[str, Any]:
    kept = result is not None
    return {
        "job_id": job_id,
        "state": "completed",
        "reason": None,
        "kept": kept,
        "result": msgspec.Raw(result) if result is not None else None,
        "error": None,
    }


def _bad(job_id: UUID, state: str, reason: str, message: str, attempt: int | None = None) -> dict[str, Any]:
    error = {"attempt": attempt, "kind": "upstream_failed", "type": None, "message": message, "traceback": None}
    return {
        "job_id": job_id,
        "state": state,
        "reason": reason,
        "kept": False,
        "result": None,
        "error": {**error, "worker": None},
    }


def _valued(
    job_id: UUID,
    result: bytes | None,
    refs: list[Any],
    values: dict[UUID, tuple[str, bytes | None, str]],
    attempt: int,
) -> dict[str, Any]:
    """The parent's value with its Futures' values in their places; a lone Future's value is taken over as it is."""
    target: Any = None if result is None else codec.decode(result)
    for path, reference in refs:
        state, value, task = values.get(UUID(reference), ("missing", None, "?"))
        if state != "completed" or value is None:
            what = "kept no result" if state == "completed" else f"is {state}"
            message = f"this job returned the value of job {reference} ({task}), which {what}"
            return _bad(job_id, "failed", "upstream_failed", message, attempt)
        if not path:
            return _good(job_id, value)
        target = codec.place(target, path, msgspec.Raw(value))
    return _good(job_id, msgspec.json.encode(target))
