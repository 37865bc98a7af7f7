"""Ending jobs that no worker runs: parents whose children have all ended, and jobs whose upstream failed.

Each round takes the marked rows out of ``waiting``, decides what their jobs come to, and ends them; that may mark
others (the parent's parent, the dependents of a job cancelled here), which are the next round. Each round is a
transaction: with all in one, two that go up from leaves of one workflow would wait for each other. A mark that nobody
came to is swept. A width of 10,000 is a row in a batch, a depth of 50 is 50 rounds.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec

from fairchild import codec
from fairchild.db import wake
from fairchild.db.connect import Link, again
from fairchild.db.ending import APPEND_ERROR, PROMOTE, TAIL, UNHANDLED, UNMOVED, WAKE, whole
from fairchild.db.statement import Sql

BATCH = 1000

# Index fairchild_waiting_pkey; locks in order of job id. What a job was marked for may have been retried since: then it
# stays where it is then, and is counted again.
_RETRIED = "(SELECT state FROM {{jobs}} WHERE id = w.{0}) IN ('pending', 'completed')"
TAKE_MARKED = Sql(
    "take_marked",
    """
WITH locked AS MATERIALIZED (
  SELECT w.job_id, w.ran, w.failed_dep, w.failed_child, w.final,
         w.final IS NULL AND (coalesce("""
    + _RETRIED.format("failed_dep")
    + ", false) OR coalesce("
    + _RETRIED.format("failed_child")
    + """, false)) AS retried
    FROM {waiting} w WHERE w.job_id = ANY(%(ids)s::uuid[]) AND w.settle ORDER BY w.job_id FOR UPDATE OF w),
gone AS (
  DELETE FROM {waiting} WHERE job_id = ANY(ARRAY(SELECT job_id FROM locked WHERE NOT retried)))
SELECT l.job_id, l.ran, l.failed_dep, l.failed_child, j.on_child_failure, j.result, j.value_refs, j.attempt, l.final,
       j.reason, l.retried
  FROM locked l CROSS JOIN LATERAL (
    SELECT on_child_failure, result, value_refs, attempt, reason FROM {jobs} WHERE id = l.job_id OFFSET 0) j""",
)

# Index fairchild_waiting_to_settle. The sweep: what a transaction marked and did not come to end.
FIND_MARKED = Sql("find_marked", "SELECT job_id FROM {waiting} WHERE settle ORDER BY job_id LIMIT 1000")

# The values of upstream jobs, for an aggregator or a parent: one statement whatever their number. Of a job that ended
# badly it gives why instead. As text: on a caller's connection JSON comes as whatever that one makes of it.
READ_RESULTS = Sql(
    "read_results",
    """
SELECT id, state,
       (CASE WHEN state IN ('failed', 'cancelled')
             THEN coalesce(errors -> -1, '{{}}'::jsonb) - 'traceback'
                  || jsonb_build_object('state', state, 'reason', reason)
             ELSE result END)::text, task
  FROM {jobs} WHERE id = ANY(%(ids)s::uuid[])""",
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
located AS MATERIALIZED (
  SELECT i.*, x.tid FROM input i
   CROSS JOIN LATERAL (SELECT ctid AS tid, state FROM {jobs} WHERE id = i.job_id OFFSET 0) x
   WHERE x.state = 'pending'),
written AS (
  UPDATE {jobs} t
     SET state = i.state, ended_at = statement_timestamp(), reason = i.reason,
         value_refs = CASE WHEN i.state <> 'completed' THEN t.value_refs END,
         result = CASE WHEN i.kept THEN coalesce(i.result, 'null'::jsonb)
                       WHEN i.state <> 'completed' THEN t.result END,
         errors = """
    + APPEND_ERROR.replace("{entry}", "(i.error || jsonb_build_object('at', statement_timestamp()))")
    + """
    FROM located i
   WHERE t.ctid = i.tid
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
SELECT NULL, true FROM woken
UNION ALL
SELECT NULL, 1 / """
    + UNMOVED
    + " = 1",
)

# What the counters of a waiting job w (row j of jobs) must be. Its children are those of its last run: one that was
# retried by hand has older ones besides. A durable job's are those in its journal, and failures that it has seen are
# dealt with; while it is suspended its upstreams are those that it waits for (db/journal.py). Indexes
# fairchild_edges_by_downstream, fairchild_jobs_by_workflow and fairchild_journal_by_ref.
_TRUE_DEPS = """
CROSS JOIN LATERAL (
  SELECT CASE WHEN w.wake IS NULL THEN count(*) FILTER (WHERE u.state = 'pending')
              WHEN w.wake = 'all' THEN count(*) FILTER (WHERE u.state = 'pending' AND e.policy = 'wake')
              WHEN count(*) FILTER (WHERE u.state <> 'pending' AND e.policy = 'wake') > 0 THEN 0
              ELSE 1 END::int AS deps,
         (array_agg(e.upstream) FILTER (WHERE u.state IN ('failed', 'cancelled') AND e.policy = 'need'
                                          AND w.wake IS NULL))[1] AS failed_dep
    FROM (SELECT upstream, policy FROM {edges} WHERE downstream = w.job_id OFFSET 0) e
   CROSS JOIN LATERAL (SELECT state FROM {jobs} WHERE id = e.upstream OFFSET 0) u) d"""
_TRUE_CHILDREN = (
    """
CROSS JOIN LATERAL (
  SELECT count(*) FILTER (WHERE c.state = 'pending')::int AS children,
         (array_agg(c.failed) FILTER (WHERE c.failed IS NOT NULL AND (
           SELECT true FROM {journal} o WHERE o.ref = c.failed AND o.job_id = w.job_id AND o.kind = 'result' LIMIT 1)
             IS NULL))[1] AS failed_child
    FROM (SELECT id, state, inserted_at, """
    + UNHANDLED.format(id="s.id", state="s.state")
    + """ AS failed FROM {jobs} s
           WHERE workflow_id = j.workflow_id AND parent_id = w.job_id AND parent_id IS NOT NULL OFFSET 0) c
   WHERE w.ran AND (c.inserted_at >= j.attempted_at OR (
     SELECT true FROM {journal} g WHERE g.ref = c.id AND g.job_id = w.job_id AND g.kind = 'call' LIMIT 1))) k"""
)

# Every worker, once an interval. Jobs with edges to older ones may have missed a countdown: see
# db/enqueue.UPSTREAM_STATES. Reads without a lock; counters and states change together, so what differs is wrong.
FIND_LATE = Sql(
    "find_late",
    "SELECT w.job_id FROM (SELECT * FROM {waiting} WHERE late AND NOT settle ORDER BY job_id) w"
    + _TRUE_DEPS
    + """
 WHERE d.deps <> w.deps OR (d.failed_dep IS NOT NULL AND w.failed_dep IS NULL) LIMIT 500""",
)
# Every worker, a page each interval: jobs whose counters are wrong for whatever reason, and the last job of the page.
FIND_WRONG = Sql(
    "find_wrong",
    """
SELECT (array_agg(w.job_id ORDER BY w.job_id DESC))[1],
       array_agg(w.job_id) FILTER (WHERE NOT w.settle AND (d.deps <> w.deps OR k.children <> w.children
                                         OR (w.deps <= 0 AND w.children <= 0)))
  FROM (SELECT * FROM {waiting} WHERE job_id > %(after)s::uuid ORDER BY job_id LIMIT 500) w
 CROSS JOIN LATERAL (SELECT workflow_id, attempted_at FROM {jobs} WHERE id = w.job_id OFFSET 0) j"""
    + _TRUE_DEPS
    + _TRUE_CHILDREN,
)
LOCK_WAITING = Sql(
    "lock_waiting", "SELECT job_id FROM {waiting} WHERE job_id = ANY(%(ids)s::uuid[]) ORDER BY job_id FOR UPDATE"
)
# A failure noted earlier stays noted, unless that job was retried since.
_STILL_FAILED = """coalesce(%s, CASE WHEN (SELECT state FROM {jobs} WHERE id = %s) IN ('pending', 'completed') THEN NULL
                                  ELSE %s END)"""
RECOUNT = Sql(
    "recount",
    """
WITH counted_down AS MATERIALIZED (
  SELECT w.job_id, w.ran, d.deps, k.children, """
    + _STILL_FAILED % ("d.failed_dep", "w.failed_dep", "w.failed_dep")
    + " AS failed_dep, "
    + _STILL_FAILED % ("k.failed_child", "w.failed_child", "w.failed_child")
    + """ AS failed_child
    FROM (SELECT * FROM {waiting} WHERE job_id = ANY(%(ids)s::uuid[]) OFFSET 0) w
   CROSS JOIN LATERAL (SELECT workflow_id, attempted_at FROM {jobs} WHERE id = w.job_id OFFSET 0) j"""
    + _TRUE_DEPS
    + _TRUE_CHILDREN
    + "),"
    + PROMOTE
    + ","
    + WAKE
    + """
SELECT job_id FROM lowered WHERE settle UNION ALL SELECT NULL FROM woken""",
)


def settle(link: Link, ids: list[UUID], room: int = 0) -> list[UUID]:
    """End the marked jobs among ``ids`` and whatever that entails; the ids of all jobs ended.

    In a transaction of the caller's it is part of that.
    """
    ended: list[UUID] = []
    todo = list(ids)
    while todo:
        done, todo = again(link, lambda todo=todo: _settle_round(link, todo, room))  # type: ignore[misc]
        ended.extend(done)
    return ended


def _settle_round(link: Link, ids: list[UUID], room: int) -> tuple[list[UUID], list[UUID]]:
    with link.atomic():
        rows: list[tuple[Any, ...]] = []
        retried: list[UUID] = []
        for start in range(0, len(ids), BATCH):
            for *row, again_open in link.rows(TAKE_MARKED, {"ids": ids[start : start + BATCH]}):
                if again_open:
                    retried.append(row[0])
                else:
                    rows.append(tuple(row))
        marked = recount(link, retried) if retried else []
        ended, others = end_jobs(link, _outcomes(link, rows), room)
        return ended, [*marked, *others]


def end_jobs(link: Link, outcomes: list[dict[str, Any]], room: int = 0) -> tuple[list[UUID], list[UUID]]:
    """End jobs that hold no place: (ids ended, ids now marked to be settled).

    ``outcomes``: ``{job_id, state, reason, kept, result (msgspec.Raw), error}``.
    """
    done: list[UUID] = []
    marked: list[UUID] = []
    for start in range(0, len(outcomes), BATCH):
        document = msgspec.json.encode(outcomes[start : start + BATCH]).decode()
        with whole():
            rows = link.rows(END_JOBS, {"outcomes": document, **wake.wake_params(link.schema, room)})
        for job_id, was_ended in rows:
            if job_id is not None:
                (done if was_ended else marked).append(job_id)
    return done, list(dict.fromkeys(marked))


def sweep(link: Link) -> int:
    """End what was marked and left, count late jobs again; how many jobs were ended."""
    ended = 0
    marked = [row[0] for row in link.rows(FIND_MARKED)]
    if marked:
        ended += len(settle(link, marked))
    late = [row[0] for row in link.rows(FIND_LATE)]
    if late:
        ended += len(_put_right(link, late))
    return ended


def audit(link: Link, after: UUID) -> tuple[UUID | None, list[UUID]]:
    """Look at the waiting jobs that follow ``after``, a page of them, and put wrong counters right.

    The last job of the page (None: there are no more) and those that were wrong. There are none unless rows were
    changed or deleted by other hands: this keeps a job whose upstream or child was deleted from waiting for ever.
    """
    last, wrong = link.rows(FIND_WRONG, {"after": after})[0]
    if wrong:
        _put_right(link, wrong)
    return last, wrong or []


def _put_right(link: Link, ids: list[UUID]) -> list[UUID]:
    def once() -> list[UUID]:
        with link.atomic():
            return settle(link, recount(link, ids))

    return again(link, once)


def recount(link: Link, ids: list[UUID]) -> list[UUID]:
    """Count the upstreams and children of waiting jobs again, promote those that wait for nothing; those now marked.

    In a transaction of the caller's: the rows are locked by a statement of its own, so that the one that counts sees
    all that was done under those locks before.
    """
    link.rows(LOCK_WAITING, {"ids": ids})
    params = {"ids": ids, **wake.wake_params(link.schema, 0)}
    return [row[0] for row in link.rows(RECOUNT, params) if row[0] is not None]


def read_results(link: Link, ids: list[UUID]) -> dict[UUID, tuple[str, bytes | None, str]]:
    """State, result as JSON text (None: no result kept) and task of each job, in one statement.

    In place of a result, of a job that failed or was cancelled: its last error, with the state and the reason.
    """
    return {
        job_id: (state, text.encode() if isinstance(text, str) else text, task)
        for job_id, state, text, task in link.rows(READ_RESULTS, {"ids": ids})
    }


def _outcomes(link: Link, rows: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    refs = {row[0]: codec.decode(row[6]) for row in rows if row[6] is not None and _wants_value(row)}
    wanted = list({each for found in refs.values() for each in referred(found)})
    values = read_results(link, wanted) if wanted else {}
    why = _Causes(link, rows)
    outcomes = []
    for job_id, ran, failed_dep, failed_child, policy, result, _, attempt, final, reason in rows:
        if final is not None:  # its error has been written
            outcomes.append({**_good(job_id, None), "state": final, "reason": reason})
        elif not ran:
            message = f"upstream job {failed_dep} did not complete"
            outcomes.append(why.told(_bad(job_id, "cancelled", "upstream_failed", message), failed_dep))
        elif failed_child is not None and policy == "fail":
            message = f"child job {failed_child} did not complete"
            outcomes.append(why.told(_bad(job_id, "failed", "child_failed", message, attempt), failed_child))
        elif failed_dep is not None:
            message = f"job {failed_dep}, whose value this job returned, did not complete"
            outcomes.append(why.told(_bad(job_id, "failed", "upstream_failed", message, attempt), failed_dep))
        elif job_id in refs:
            try:
                outcomes.append(_valued(job_id, result, refs[job_id], values, attempt))
            except (
                AttributeError,
                LookupError,
                TypeError,
                ValueError,
            ) as error:  # a row that other hands have changed fails alone
                message = f"the value that this job returned cannot be put together: {type(error).__name__}: {error}"
                outcomes.append(_bad(job_id, "failed", "error", message, attempt, kind="error"))
        else:
            outcomes.append(_good(job_id, result))
    return outcomes


class _Causes:
    """Where the failures that end some waiting jobs began: one statement for them all."""

    def __init__(self, link: Link, rows: list[tuple[Any, ...]]) -> None:
        ids = list({each for row in rows for each in row[2:4] if each is not None})
        self._jobs = read_results(link, ids) if ids else {}

    def told(self, outcome: dict[str, Any], failed: UUID) -> dict[str, Any]:
        """The outcome, with the first cause in its message and, by id, as ``root`` of its error."""
        state, text, task = self._jobs.get(failed, ("deleted", None, "?"))
        error = codec.decode(text) if state in ("failed", "cancelled") and text is not None else {}
        # A job that ended because of others knows the first of them already.
        told = error.get("cause") or {
            "job_id": str(failed),
            "what": f"{task} {failed} {_ended_how(state, error)}",
        }
        entry = outcome["error"]
        entry["message"] += f"; it began with {told['what']}"
        entry["cause"] = told
        return outcome


def _ended_how(state: str, error: dict[str, Any]) -> str:
    detail = ": ".join(str(error[key])[:200] for key in ("type", "message") if error.get(key))
    reason = f" ({error['reason']})" if error.get("reason") else ""
    return f"{state}{reason}{', ' + detail if detail else ''}"


def referred(refs: Any) -> list[UUID]:
    """The jobs that ``[[path, id], ...]`` names; none if it is something else, which its own job will fail of."""
    try:
        return [UUID(reference) for _, reference, *_ in refs]
    except (ValueError, TypeError, AttributeError):
        return []


def _wants_value(row: tuple[Any, ...]) -> bool:
    _, ran, failed_dep, failed_child, policy, *_, final, _ = row
    return bool(final is None and ran and failed_dep is None and (failed_child is None or policy != "fail"))


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


def _bad(
    job_id: UUID, state: str, reason: str, message: str, attempt: int | None = None, *, kind: str = "upstream_failed"
) -> dict[str, Any]:
    error = {"attempt": attempt, "kind": kind, "type": None, "message": message, "traceback": None}
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
    for path, reference, *way in refs:
        state, value, task = values.get(UUID(reference), ("missing", None, "?"))
        if way:
            stand_in = codec.stand_in(way[0], state, value)
            if not path:
                return _good(job_id, msgspec.json.encode(stand_in))
            target = codec.place(target, path, stand_in)
            continue
        if state != "completed" or value is None:
            what = "kept no result" if state == "completed" else f"is {state}"
            message = f"this job returned the value of job {reference} ({task}), which {what}"
            return _bad(job_id, "failed", "upstream_failed", message, attempt)
        if not path:
            return _good(job_id, value)
        target = codec.place(target, path, msgspec.Raw(value))
    return _good(job_id, msgspec.json.encode(target))
