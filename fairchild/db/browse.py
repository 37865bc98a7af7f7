"""Reading: jobs one by one, in pages, counted. Everything here goes through the view of jobs with their true state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec

from fairchild import codec
from fairchild.db.connect import Link
from fairchild.db.statement import Sql
from fairchild.job import Job, JobState, Progress

_progress = msgspec.json.Decoder(Progress)

# JSON as text: on a caller's connection it might come as whatever that one makes of it.
_COLUMNS = """v.id, v.task, v.queue, v.state, v.scheduled_at, v.args::text, v.priority, v.tenant, v.attempt,
       v.max_attempts, v.result::text, v.reason, v.errors::text, v.tags, v.meta::text, v.workflow_id, v.parent_id,
       v.depth, v.timeout_seconds, v.worker,
       v.inserted_at, v.attempted_at, v.completed_at, v.ended_at, v.updated_at,
       (SELECT jsonb_build_array(p.value, p.total, p.message, p.attempt, p.at)::text FROM {progress} p
         WHERE p.job_id = v.id AND p.value IS NOT NULL),
       ARRAY(SELECT r.path FROM {redactions} r WHERE r.task = v.task)"""

MOST_IN_A_LIST = 4096
"""Bytes, as stored, of a payload that a short list still shows."""

# Sizes are told by what is stored of a value, without reading the rest of it from where it lies.
_SHORT_COLUMNS = _COLUMNS
for _payload in ("args", "result", "meta"):
    _SHORT_COLUMNS = _SHORT_COLUMNS.replace(
        f"v.{_payload}::text", f"CASE WHEN pg_column_size(v.{_payload}) <= {MOST_IN_A_LIST} THEN v.{_payload}::text END"
    )
_SHORT_COLUMNS = _SHORT_COLUMNS.replace(
    "v.errors::text",
    f"CASE WHEN pg_column_size(v.errors) <= {MOST_IN_A_LIST} THEN v.errors ELSE jsonb_build_array(v.errors -> -1) END"
    "::text",
)
_SHORT_COLUMNS += ", NULL, array_remove(ARRAY[{}], NULL)".format(
    ", ".join(
        f"CASE WHEN pg_column_size(v.{each}) > {MOST_IN_A_LIST} THEN '{each}' END"
        for each in ("args", "result", "meta")
    )
)

GET_JOBS = Sql(
    "get_jobs",
    "SELECT "
    + _COLUMNS
    + """, ARRAY(SELECT upstream FROM {edges} WHERE downstream = v.id ORDER BY upstream)
  FROM {view} v WHERE v.id = ANY(%(ids)s::uuid[])""",
)

# Of these jobs, those that have ended. Asked again and again by whoever waits; primary key only.
FIND_ENDED = Sql("find_ended", "SELECT id FROM {jobs} WHERE id = ANY(%(ids)s::uuid[]) AND state <> 'pending'")
FIND_EXISTING = Sql("find_existing", "SELECT id FROM {jobs} WHERE id = ANY(%(ids)s::uuid[])")

# One fragment per filter. The small tables lead where the state is theirs; failed and cancelled jobs have an index.
_STATES = {
    JobState.RUNNING: "v.id IN (SELECT job_id FROM {claims})",
    JobState.SCHEDULED: "v.id IN (SELECT job_id FROM {due})",
    JobState.WAITING: "v.id IN (SELECT job_id FROM {waiting})",
    JobState.AVAILABLE: "v.state = 'available'",
    JobState.COMPLETED: "v.state = 'completed'",
    JobState.FAILED: "v.reason IS NOT NULL AND v.state = 'failed'",
    JobState.CANCELLED: "v.reason IS NOT NULL AND v.state = 'cancelled'",
}
_FILTERS = {
    "queue": "v.queue = %(queue)s",
    "task": "v.task = %(task)s",
    "tag": "%(tag)s = ANY(v.tags)",
    "tenant": "v.tenant = %(tenant)s",
    "workflow": "(v.id = %(workflow)s::uuid OR (v.workflow_id = %(workflow)s::uuid AND v.parent_id IS NOT NULL))",
    "worker": "v.worker = %(worker)s::uuid",
    "cursor": "v.id < %(cursor)s::uuid",
    "ids": "v.id = ANY(%(ids)s::uuid[])",
    "error_kind": "v.errors -> -1 ->> 'kind' = %(error_kind)s",
    "before": "v.inserted_at < %(before)s::timestamptz",
    "q": "(v.id::text = lower(%(q)s) OR position(lower(%(q)s) IN lower(v.task)) > 0)",
}

# The menu and the API's sums, every two seconds while somebody looks: small rows as they lie. A waiting job of releases
# before 0009 has its queue in its job's row only.
COUNT_LIVE = Sql(
    "count_live",
    """
SELECT 'available', queue, count(*) FROM {ready} GROUP BY queue
UNION ALL SELECT 'running', queue, count(*) FROM {claims} GROUP BY queue
UNION ALL SELECT 'scheduled', queue, count(*) FROM {due} GROUP BY queue
UNION ALL SELECT 'waiting', queue, count(*) FROM {waiting} WHERE queue IS NOT NULL GROUP BY queue
UNION ALL SELECT 'waiting', j.queue, count(*)
            FROM {waiting} w CROSS JOIN LATERAL (SELECT queue FROM {jobs} WHERE id = w.job_id OFFSET 0) j
           WHERE w.queue IS NULL GROUP BY j.queue
UNION ALL SELECT state, queue, sum(n)::bigint FROM {counters} GROUP BY state, queue""",
)

MOST_OF_TENANTS = 50_000
"""Of each live state, so many jobs are looked at."""
COUNT_TENANTS = Sql(
    "count_tenants",
    """
SELECT tenant, state, count(*) FROM (
  (SELECT tenant, 'available' AS state FROM {ready} LIMIT %(most)s::int)
  UNION ALL (SELECT tenant, 'running' FROM {claims} LIMIT %(most)s::int)
  UNION ALL (SELECT tenant, 'scheduled' FROM {due} LIMIT %(most)s::int)
  UNION ALL (SELECT j.tenant, 'waiting' FROM (SELECT job_id FROM {waiting} LIMIT %(most)s::int) w
              CROSS JOIN LATERAL (SELECT tenant FROM {jobs} WHERE id = w.job_id OFFSET 0) j)) live
 GROUP BY tenant, state""",
)


def count_tenants(link: Link, most: int = MOST_OF_TENANTS) -> tuple[dict[str, dict[str, int]], bool]:
    """``{tenant: {state: number of live jobs}}``, and whether those are all: of each state ``most`` are looked at."""
    counts: dict[str, dict[str, int]] = {}
    looked_at: dict[str, int] = {}
    for tenant, state, n in link.rows(COUNT_TENANTS, {"most": most + 1}):
        counts.setdefault(tenant, {})[state] = int(n)
        looked_at[state] = looked_at.get(state, 0) + int(n)
    return counts, max(looked_at.values(), default=0) <= most


def get_jobs(link: Link, ids: list[UUID], *, short: bool = False) -> dict[UUID, Job]:
    """The jobs that exist, by id, with the ids of the jobs they depend on unless ``short``, as in ``list_jobs``."""
    if short:
        return {job.id: job for job in list_jobs(link, state=None, limit=len(ids), short=True, ids=ids)}
    return {row[0]: _job(row) for row in link.rows(GET_JOBS, {"ids": ids})}


def find_ended(link: Link, ids: list[UUID]) -> set[UUID]:
    """Those of ``ids`` whose jobs have ended."""
    return {row[0] for row in link.rows(FIND_ENDED, {"ids": ids})}


def find_existing(link: Link, ids: list[UUID]) -> set[UUID]:
    """Those of ``ids`` that a job has."""
    return {row[0] for row in link.rows(FIND_EXISTING, {"ids": ids})}


def list_jobs(
    link: Link, *, state: JobState | None, limit: int, offset: int = 0, short: bool = False, **filters: Any
) -> list[Job]:
    """Jobs that pass all filters given (not None), newest first, at most ``limit``.

    ``short``: without payloads of more than 4 KiB, as stored, and with the last error alone if all are larger.
    """
    given = {name: value for name, value in filters.items() if value is not None}
    kind, columns = ("list_short", _SHORT_COLUMNS) if short else ("list_jobs", _COLUMNS + ", NULL")
    statement = _filtered(kind, given, state, columns)
    return [_job(row) for row in link.rows(statement, {**given, "limit": limit, "offset": offset})]


def finding(conditions: list[str], *, oldest_first: bool = False, short: bool = False) -> Sql:
    """The statement for jobs that pass all conditions on the view ``v``, at most ``limit``; see ``find_jobs``."""
    where = " WHERE " + " AND ".join(conditions) if conditions else ""
    order = " ORDER BY v.id" + ("" if oldest_first else " DESC")
    columns = _SHORT_COLUMNS if short else _COLUMNS + ", NULL"
    return Sql("find_jobs", "SELECT " + columns + " FROM {view} v" + where + order + " LIMIT %(limit)s")


def find_jobs(link: Link, statement: Sql, params: dict[str, Any]) -> list[Job]:
    """The jobs that a statement made by ``finding`` gives."""
    return [_job(row) for row in link.rows(statement, params)]


def list_states(
    link: Link, *, state: JobState | None, limit: int, ids: list[UUID] | None, **filters: Any
) -> list[tuple[UUID, JobState]]:
    """Ids and states of jobs that pass all filters given (not None), newest first, at most ``limit``."""
    given = {name: value for name, value in {**filters, "ids": ids}.items() if value is not None}
    statement = _filtered("list_states", given, state, "v.id, v.state")
    return [(row[0], JobState(row[1])) for row in link.rows(statement, {**given, "limit": limit, "offset": 0})]


_cache: dict[str, Sql] = {}


def _filtered(kind: str, given: Mapping[str, Any], state: JobState | None, columns: str) -> Sql:
    """A statement for these filters; each set of them is composed once."""
    name = f"{kind}:" + ",".join([*sorted(given), state.value if state else ""])
    statement = _cache.get(name)
    if statement is None:
        conditions = [_FILTERS[each] for each in sorted(given)]
        if state is not None:
            conditions.append(_STATES[state])
        where = " WHERE " + " AND ".join(conditions) if conditions else ""
        text = "SELECT " + columns + " FROM {view} v" + where + " ORDER BY v.id DESC LIMIT %(limit)s OFFSET %(offset)s"
        statement = _cache[name] = Sql(name, text)
    return statement


def count_by_queue(link: Link) -> dict[str, dict[str, int]]:
    """``{queue: {state: number of jobs}}``. Ended jobs come from counters, so the table's size does not matter."""
    counts: dict[str, dict[str, int]] = {}
    for state, queue, n in link.rows(COUNT_LIVE):
        counts.setdefault(queue, {})[state] = int(n)
    return counts


def _job(row: tuple[Any, ...]) -> Job:
    (id_, task, queue, state, scheduled_at, args, priority, tenant, attempt, max_attempts, result, reason, errors,
     tags, meta, workflow_id, parent_id, depth, timeout, worker, inserted_at, attempted_at, completed_at, ended_at,
     updated_at, progress, redacted, deps, *more) = row  # fmt: skip
    left_out: tuple[str, ...] = tuple(more[0]) if more else ()
    return Job(
        id=id_,
        task=task,
        queue=queue,
        state=JobState(state),
        scheduled_at=scheduled_at,
        args={} if args is None else codec.decode(args),
        priority=priority,
        tenant=tenant,
        attempt=attempt,
        max_attempts=max_attempts,
        result=None if result is None else codec.decode(result),
        has_result=result is not None or "result" in left_out,
        reason=reason,
        errors=codec.decode(errors),
        tags=tags,
        meta={} if meta is None else codec.decode(meta),
        workflow_id=workflow_id,
        parent_id=parent_id,
        depth=depth,
        deps=deps or [],
        timeout=timeout,
        worker=worker,
        inserted_at=inserted_at,
        attempted_at=attempted_at,
        completed_at=completed_at,
        ended_at=ended_at,
        updated_at=updated_at,
        left_out=left_out,
        _progress=None if progress is None else _progress.decode(progress),
        _redacted=tuple(redacted),
    )
