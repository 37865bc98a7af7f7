"""Inserting jobs: the row, the place where the job starts, and the edges it waits for.

A single job or a few hundred go as one JSON document in one statement; a thousand and more are copied. Both run in
whatever transaction the connection is in, and repeat safely: ids are made by the client, and a job that is there
already is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from fairchild import failpoints
from fairchild.codec import plain_refs
from fairchild.db import binary, wake
from fairchild.db.connect import STORE_ERRORS, Link, is_queue_full
from fairchild.db.events import BULK_CREATED, tell
from fairchild.db.settle import recount, settle
from fairchild.db.statement import Sql
from fairchild.errors import UnknownJob
from fairchild.job import NewJob
from fairchild.rules.dag import refuse_cycle
from fairchild.rules.groups import Known, assign_groups

DOCUMENT_ROWS = 1000
COPY_ROWS = 5000
CHUNK_BYTES = 8 * 1024 * 1024
"""Arguments in one chunk, whatever the number of rows: it is in memory several times, and one text on the wire."""

_INPUT = """
input AS MATERIALIZED (
  SELECT * FROM jsonb_to_recordset(%(jobs)s::jsonb) AS t(
    id uuid, task text, queue text, tenant text, priority smallint, max_attempts int, depth smallint,
    workflow_id uuid, parent_id uuid, group_key bigint, rank int, on_child_failure text, timeout float8,
    expires float8, delay float8, scheduled_at timestamptz, tags text[], args jsonb, refs jsonb, meta jsonb,
    deps int, failed_dep uuid, late boolean)),
made AS (
  INSERT INTO {jobs} (id, task, queue, tenant, priority, max_attempts, depth, workflow_id, parent_id, group_key, rank,
                      on_child_failure, timeout_seconds, expires_seconds, inserted_at, scheduled_at, tags, args, refs,
                      meta)
  SELECT id, task, queue, tenant, priority, max_attempts, depth, workflow_id, parent_id, group_key, rank,
         on_child_failure, timeout, expires, statement_timestamp(),
         CASE WHEN delay IS NULL THEN coalesce(scheduled_at, statement_timestamp())
              ELSE statement_timestamp() + delay * interval '1 second' END,
         tags, args, refs, meta
    FROM input
  ON CONFLICT (id) DO NOTHING
  RETURNING id, queue, priority, tenant, task, scheduled_at)"""

_PLACE = (
    "\n"
    + tell("told", "made", "'job_created'")
    + """,
to_ready AS (
  INSERT INTO {ready} (queue, priority, job_id, tenant, task)
  SELECT queue, priority, id, tenant, task FROM placed WHERE scheduled_at <= statement_timestamp()),
to_due AS (
  INSERT INTO {due} (job_id, run_at, queue, priority, tenant, task)
  SELECT id, scheduled_at, queue, priority, tenant, task FROM placed WHERE scheduled_at > statement_timestamp()),
woken AS (
  SELECT pg_notify(%(channel)s, '') FROM (SELECT count(*) AS n FROM placed) p
   WHERE p.n > 0 AND %(notify)s AND (NOT %(gated)s OR pg_try_advisory_xact_lock(%(gate)s)))
SELECT id, scheduled_at, scheduled_at > statement_timestamp(), (SELECT count(*) FROM woken) FROM made"""
)

# The client, one call of .enqueue() each; and chunks of bulk inserts with options of their own. Primary key only.
INSERT_FREE_JOBS = Sql("insert_free_jobs", "WITH" + _INPUT + ", placed AS (SELECT * FROM made)," + _PLACE)

# The client again, for the commonest call: one job, due now, that waits for nothing. A third cheaper than a document.
INSERT_ONE = Sql(
    "insert_one",
    """
WITH made AS (
  INSERT INTO {jobs} (id, task, queue, tenant, priority, max_attempts, depth, workflow_id, parent_id, on_child_failure,
                      timeout_seconds, expires_seconds, inserted_at, scheduled_at, tags, args, meta)
  VALUES (%(id)s, %(task)s, %(queue)s, %(tenant)s, %(priority)s::int, %(max_attempts)s::int, %(depth)s::int,
          %(workflow)s, %(parent)s, %(on_child_failure)s, %(timeout)s::float8, %(expires)s::float8,
          statement_timestamp(), statement_timestamp(), %(tags)s::text[], %(args)s::jsonb, %(meta)s::jsonb)
  ON CONFLICT (id) DO NOTHING
  RETURNING id, queue, priority, tenant, task, scheduled_at),
placed AS (
  INSERT INTO {ready} (queue, priority, job_id, tenant, task) SELECT queue, priority, id, tenant, task FROM made
  RETURNING job_id),
"""
    + tell("told", "made", "'job_created'")
    + """,
woken AS (
  SELECT pg_notify(%(channel)s, '') FROM placed
   WHERE %(notify)s AND (NOT %(gated)s OR pg_try_advisory_xact_lock(%(gate)s)))
SELECT scheduled_at, (SELECT count(*) FROM woken) FROM made""",
    binary=True,
)

# The same for jobs of which some wait for others: those go to waiting, with their counters.
INSERT_JOBS = Sql(
    "insert_jobs",
    "WITH"
    + _INPUT
    + """,
to_waiting AS (
  INSERT INTO {waiting} (job_id, deps, failed_dep, late, settle, queue, workflow_id, group_key)
  SELECT i.id, i.deps, i.failed_dep, i.late, i.failed_dep IS NOT NULL, i.queue, i.workflow_id, i.group_key
    FROM input i JOIN made m ON m.id = i.id WHERE i.deps > 0 OR i.failed_dep IS NOT NULL),
placed AS (
  SELECT m.* FROM made m JOIN input i ON i.id = m.id WHERE NOT (i.deps > 0 OR i.failed_dep IS NOT NULL)),"""
    + _PLACE,
)

# Edges of new jobs. Both columns are ids of rows of this transaction or older ones.
INSERT_EDGES = Sql(
    "insert_edges",
    """
INSERT INTO {edges} (upstream, downstream, policy)
SELECT upstream, downstream, policy
  FROM jsonb_to_recordset(%(edges)s::jsonb) AS t(upstream uuid, downstream uuid, policy text)
ON CONFLICT DO NOTHING""",
)

# Older jobs that new ones wait for. Takes no lock: the caller's transaction may stay open for long, and a worker's
# finish must not wait for it. If one of them ends before that transaction commits, its finish cannot see the new edge;
# such jobs are marked late, and the sweep of db/settle.py counts their upstreams again.
UPSTREAM_STATES = Sql(
    "upstream_states", "SELECT id, state, group_key, rank, parent_id FROM {jobs} WHERE id = ANY(%(ids)s::uuid[])"
)

# The client, for a workflow composed outside of a job, before its jobs. ``now()`` is the transaction's time, so that it
# is not later than that of any of its jobs: by that they are known as its children.
INSERT_ROOT = Sql(
    "insert_root",
    """
WITH made AS (
  INSERT INTO {jobs} (id, task, queue, tenant, priority, workflow_id, on_child_failure, args, tags, meta, composed,
                      inserted_at, scheduled_at, attempted_at)
  VALUES (%(id)s, %(task)s, %(queue)s, %(tenant)s, %(priority)s::int, %(id)s, %(on_child_failure)s, '{{}}',
          %(tags)s::text[], %(meta)s::jsonb, true, now(), now(), now())
  ON CONFLICT (id) DO NOTHING
  RETURNING id)
INSERT INTO {waiting} (job_id, children, ran, settle, queue, workflow_id)
SELECT id, %(children)s::int, true, %(children)s::int = 0, %(queue)s, id FROM made RETURNING job_id""",
)

COPY_JOBS = Sql(
    "copy_jobs",
    "COPY {jobs} (id, task, queue, tenant, priority, max_attempts, depth, on_child_failure, timeout_seconds, "
    "expires_seconds, tags, workflow_id, parent_id, group_key, rank, args, refs, meta) FROM STDIN (FORMAT binary)",
)
COPY_READY = Sql("copy_ready", "COPY {ready} (job_id, queue, priority, tenant, task) FROM STDIN (FORMAT binary)")
COPY_WAITING = Sql(
    "copy_waiting", "COPY {waiting} (job_id, deps, late, queue, workflow_id, group_key) FROM STDIN (FORMAT binary)"
)
COPY_EDGES = Sql("copy_edges", "COPY {edges} (upstream, downstream, policy) FROM STDIN (FORMAT binary)")
NOTIFY = Sql(
    "notify",
    "SELECT pg_notify(%(channel)s, '') WHERE NOT %(gated)s OR pg_try_advisory_xact_lock(%(gate)s)",
)
STATEMENT_TIME = Sql("statement_time", "SELECT statement_timestamp()")


class Inserted(NamedTuple):
    """A job that a call inserted: its time, and whether that lies in the future."""

    id: UUID
    scheduled_at: datetime
    later: bool


class _Placement(NamedTuple):
    deps: int
    failed_dep: UUID | None
    late: bool


_FREE = _Placement(0, None, False)


def insert_jobs(link: Link, jobs: list[NewJob], *, notify: bool = True) -> list[Inserted]:
    """Insert ``jobs`` with their edges; those already there are left alone and missing from the answer.

    Runs in the connection's transaction, or in one of its own. Raises UnknownJob if a job waits for one that does not
    exist, UsageError if they wait for each other in a circle; nothing is inserted then.
    """
    placements = _placements(link, jobs)
    if len(jobs) == 1 and not placements and _is_plain(jobs[0]):
        return _insert_one(link, jobs[0], notify)
    if not placements and len(jobs) <= DOCUMENT_ROWS:
        return _insert_documents(link, jobs, {}, notify)
    with link.atomic():
        if len(jobs) > DOCUMENT_ROWS and link.encoding == "utf-8" and all(_copyable(job, placements) for job in jobs):
            now = link.rows(STATEMENT_TIME)[0][0]
            for chunk in _chunks(jobs, COPY_ROWS):
                _copy(link, chunk, placements)
            link.rows(BULK_CREATED, {"ids": [job.id for job in jobs]})
            inserted = [Inserted(job.id, now, False) for job in jobs]
            if notify:
                link.rows(NOTIFY, {**_wake(link), "gated": link.owned})
        else:
            inserted = _insert_documents(link, jobs, placements, notify)
        failed = [job_id for job_id, placement in placements.items() if placement.failed_dep is not None]
        if failed:
            settle(link, failed)
    return inserted


def insert_workflow(link: Link, root: NewJob, jobs: list[NewJob]) -> None:
    """Insert a workflow composed outside of a job: a root that waits for ``jobs``, which must be its children.

    One that is there already is left alone. Raises as ``insert_jobs``; nothing is inserted then.
    """
    with link.atomic():
        params = {
            "id": root.id,
            "task": root.task,
            "queue": root.queue,
            "tenant": root.tenant,
            "priority": root.priority,
            "on_child_failure": root.on_child_failure,
            "tags": root.tags,
            "meta": None if root.meta is None else root.meta.decode(),
            "children": len(jobs),
        }
        if not link.rows(INSERT_ROOT, params):
            return
        if not jobs:
            settle(link, [root.id])
        elif len(insert_jobs(link, jobs)) < len(jobs):  # some were there already, and are nobody's children
            settle(link, recount(link, [root.id]))


def insert_stream(link: Link, jobs: Iterable[NewJob], *, notify: bool = True) -> list[UUID]:
    """Insert any number of jobs, all or none, holding a few thousand at a time. Ids in the order given."""
    ids: list[UUID] = []
    with link.atomic():
        for chunk in _chunks(jobs, COPY_ROWS):
            insert_jobs(link, chunk, notify=notify and not link.owned and not ids)
            ids.extend(job.id for job in chunk)
        if failpoints.ARMED:
            failpoints.hit("enqueue.before_commit")
    if notify and link.owned and ids:
        # What the jobs were made of is used up, so that they could not be enqueued again without it.
        try:
            link.rows(NOTIFY, {**_wake(link), "gated": True})
        except STORE_ERRORS as error:
            if not is_queue_full(error):
                raise
    return ids


def unknown_upstreams(link: Link, ids: set[UUID]) -> set[UUID]:
    """Those of ``ids`` that no job has."""
    if not ids:
        return set()
    return ids - {row[0] for row in link.rows(UPSTREAM_STATES, {"ids": list(ids)})}


def _chunks(jobs: Iterable[NewJob], size: int) -> Iterator[list[NewJob]]:
    chunk: list[NewJob] = []
    weight = 0
    for job in jobs:
        chunk.append(job)
        weight += len(job.args) + len(job.meta or b"")
        if len(chunk) >= size or weight >= CHUNK_BYTES:
            yield chunk
            chunk, weight = [], 0
    if chunk:
        yield chunk


def _wake(link: Link) -> dict[str, Any]:
    return {"channel": wake.channel(link.schema), "gate": wake.gate(link.schema)}


def _placements(link: Link, jobs: list[NewJob]) -> dict[UUID, _Placement]:
    upstreams = {job.id: found for job in jobs if (found := job.edges())}
    parents = {job.parent_id for job in jobs if job.parent_id is not None}
    if not upstreams and not parents:
        return {}
    here = {job.id for job in jobs}
    refuse_cycle(upstreams)
    chosen = {job.id for job in jobs if job.given_id}  # may be there already, and may have ended
    older = {each for found in upstreams.values() for each in found if each not in here or each in chosen}
    asked = list(older | parents)
    known = {row[0]: Known(*row[1:]) for row in link.rows(UPSTREAM_STATES, {"ids": asked})} if asked else {}
    assign_groups(jobs, known)
    placements = {}
    for job_id, found in upstreams.items():
        deps, late, failed = 0, False, None
        for upstream, policy in found.items():
            state = known[upstream].state if upstream in known else None
            if upstream in here and state is None:
                deps += 1
                late = late or upstream in chosen
                continue
            if state is None:
                raise UnknownJob(
                    f"job {job_id} would wait for {upstream}, but no job has this id (its transaction may not be "
                    "committed, or it was deleted); nothing was enqueued"
                )
            if state == "pending":
                deps += 1
                late = True
            elif state != "completed" and policy == "need" and failed is None:
                failed = upstream
        placements[job_id] = _Placement(deps, failed, late)
    return placements


def _insert_one(link: Link, job: NewJob, notify: bool) -> list[Inserted]:
    params = {
        "id": job.id,
        "task": job.task,
        "queue": job.queue,
        "tenant": job.tenant,
        "priority": job.priority,
        "max_attempts": job.max_attempts,
        "depth": job.depth,
        "workflow": job.workflow_id or job.id,
        "parent": job.parent_id,
        "on_child_failure": job.on_child_failure,
        "timeout": job.timeout,
        "expires": job.expires,
        "tags": job.tags,
        "args": job.args.decode(),
        "meta": None if job.meta is None else job.meta.decode(),
        "notify": notify,
        "gated": link.owned,
        **_wake(link),
    }
    return [Inserted(job.id, row[0], False) for row in link.rows(INSERT_ONE, params)]


def _insert_documents(
    link: Link, jobs: list[NewJob], placements: dict[UUID, _Placement], notify: bool
) -> list[Inserted]:
    inserted: list[Inserted] = []
    for chunk in _chunks(jobs, DOCUMENT_ROWS):
        rows = [_document(job, placements.get(job.id, _FREE)) for job in chunk]
        params = {
            "jobs": msgspec.json.encode(rows).decode(),
            "notify": notify and not inserted,
            "gated": link.owned,
            **_wake(link),
        }
        statement = INSERT_JOBS if placements else INSERT_FREE_JOBS
        inserted.extend(Inserted(row[0], row[1], row[2]) for row in link.rows(statement, params))
    new = {each.id for each in inserted}
    edges = [
        (up, job.id, policy)
        for job in jobs
        if job.id in new and job.id in placements
        for up, policy in job.edges().items()
    ]
    for start in range(0, len(edges), COPY_ROWS):
        part = edges[start : start + COPY_ROWS]
        document = [{"upstream": up, "downstream": down, "policy": policy} for up, down, policy in part]
        link.rows(INSERT_EDGES, {"edges": msgspec.json.encode(document).decode()})
    return inserted


def _document(job: NewJob, placement: _Placement) -> dict[str, Any]:
    return {
        "id": job.id,
        "task": job.task,
        "queue": job.queue,
        "tenant": job.tenant,
        "priority": job.priority,
        "max_attempts": job.max_attempts,
        "depth": job.depth,
        "workflow_id": job.workflow_id or job.id,
        "parent_id": job.parent_id,
        "group_key": job.group_key,
        "rank": job.rank,
        "on_child_failure": job.on_child_failure,
        "timeout": job.timeout,
        "expires": job.expires,
        "delay": job.delay,
        "scheduled_at": job.scheduled_at,
        "tags": job.tags,
        "args": msgspec.Raw(job.args),
        "refs": plain_refs(job.refs),
        "meta": None if job.meta is None else msgspec.Raw(job.meta),
        "deps": placement.deps,
        "failed_dep": placement.failed_dep,
        "late": placement.late,
    }


def _is_plain(job: NewJob) -> bool:
    return job.parent_id is None and job.delay is None and job.scheduled_at is None


def _copyable(job: NewJob, placements: dict[UUID, _Placement]) -> bool:
    placement = placements.get(job.id, _FREE)
    timed = job.delay is not None or job.scheduled_at is not None
    return not timed and not job.given_id and placement.failed_dep is None


def _copy(link: Link, jobs: list[NewJob], placements: dict[UUID, _Placement]) -> None:
    rows: list[bytes] = []
    ready: list[bytes] = []
    waiting: list[bytes] = []
    edges: list[bytes] = []
    options: tuple[Any, ...] = ()
    common = place = b""
    for job in jobs:
        same = (
            job.task, job.queue, job.tenant, job.priority, job.max_attempts, job.depth, job.on_child_failure,
            job.timeout, job.expires, job.tags,
        )  # fmt: skip
        if same != options:
            options, common, place = same, _common(job), _place(job)
        own_id = binary.uuid(job.id)
        workflow = own_id if job.workflow_id is None else binary.uuid(job.workflow_id)
        refs = msgspec.json.encode(plain_refs(job.refs)) if job.refs else None
        rows += (
            _JOB, own_id, common, workflow, binary.optional_uuid(job.parent_id), binary.bigint(job.group_key),
            binary.optional_integer(job.rank), binary.json(job.args), binary.json(refs), binary.json(job.meta),
        )  # fmt: skip
        placement = placements.get(job.id) if placements else None
        if placement is None or not placement.deps:
            ready += (_READY, own_id, place)
        else:
            late = binary.TRUE if placement.late else binary.FALSE
            group = binary.bigint(job.group_key)
            waiting += (_WAITING, own_id, binary.integer(placement.deps), late, binary.text(job.queue), workflow, group)
        if placement is not None:
            edges.extend(
                _EDGE + binary.uuid(upstream) + own_id + _POLICIES[policy] for upstream, policy in job.edges().items()
            )
    for statement, parts in (
        (COPY_JOBS, rows),
        (COPY_READY, ready),
        (COPY_WAITING, waiting),
        (COPY_EDGES, edges),
    ):
        if parts:
            link.copy(statement, b"".join((binary.HEADER, *parts, binary.TRAILER)))


_JOB, _READY, _WAITING, _EDGE = (binary.columns(number) for number in (18, 5, 6, 3))
_POLICIES = {policy: binary.text(policy) for policy in ("need", "any", "after")}


def _common(job: NewJob) -> bytes:
    """What the jobs of a bulk insert mostly share: the columns from task to tags."""
    return b"".join(
        (
            binary.text(job.task), binary.text(job.queue), binary.text(job.tenant), binary.smallint(job.priority),
            binary.integer(job.max_attempts), binary.smallint(job.depth), binary.text(job.on_child_failure),
            binary.double(job.timeout), binary.double(job.expires), binary.texts(job.tags),
        )
    )  # fmt: skip


def _place(job: NewJob) -> bytes:
    """Where the job is to be found in ready: the columns from queue to task."""
    return b"".join(
        (binary.text(job.queue), binary.smallint(job.priority), binary.text(job.tenant), binary.text(job.task))
    )
