"""Recording what attempts came to, in batches.

The fence is the row in ``claims``: the statement deletes the rows that match (job, claim) and applies only what it
deleted. A job's new state, its result or error, its children and their edges, the counters of those who wait for it:
all of it is one transaction. An outcome whose claim is gone changes nothing and is reported as lost.

An attempt that somebody asked to stop, and that neither completed nor failed for good, is not tried again and leaves no
children: its job is cancelled with the reason that was given.

Locks, in this order: claims by job id, jobs by id, waiting by job id.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from fairchild import codec, failpoints
from fairchild.db import journal, wake, xcom
from fairchild.db.census import Census
from fairchild.db.connect import REPLY_LOST, Link
from fairchild.db.ending import APPEND_ERROR, TAIL, UNMOVED, WAKE, whole
from fairchild.db.enqueue import INSERT_EDGES, insert_jobs, unknown_upstreams
from fairchild.db.events import tell
from fairchild.db.redactions import add_redactions
from fairchild.db.settle import recount, settle
from fairchild.db.statement import Sql
from fairchild.errors import UsageError
from fairchild.future import Ref
from fairchild.job import NewJob, edges_of


@dataclass(slots=True)
class Ended:
    """What one attempt came to, as it is written.

    ``state``: 'completed', 'failed', 'cancelled', or the next place of a job that goes on: 'ready', 'due' (after
    ``delay`` seconds), 'waiting' (for its children, or for jobs whose value it returned).
    """

    job_id: UUID
    claim_id: UUID
    state: str
    spent: bool = True
    lost: bool = False
    """The process that ran it alone died of it."""
    reason: str | None = None
    result: bytes | None = None
    """JSON text; None when there is no result."""
    value_refs: list[Ref] = field(default_factory=list)
    error: dict[str, Any] | None = None
    delay: float = 0.0
    children: list[NewJob] = field(default_factory=list)
    meta: bytes | None = None
    """The job's new meta as JSON text; None leaves it as it is."""
    progress: journal.Progress | None = None
    """Of a durable job's attempt that suspends or ends. Then ``state`` is 'waiting', or 'completed' if it has never
    called anything."""
    xcom: list[xcom.Change] = field(default_factory=list)
    workflow_id: UUID | None = None
    """The workflow of those changes."""

    @property
    def plain(self) -> bool:
        """Whether the one statement does all there is to do, unless it reports jobs to settle."""
        return not self.children and not self.value_refs and self.progress is None and not self.xcom

    @property
    def is_unsure(self) -> bool:
        """Whether a durable job waits for what others may do in this moment, and not only for its new children."""
        if self.progress is None or self.state != "waiting":
            return False
        wait = self.progress.wait
        return wait is None or wait.signal is not None or not {each.id for each in self.children}.issuperset(wait.jobs)


class Applied(NamedTuple):
    """What a batch did: claims that no longer held (by job id), jobs ended besides, how many became available."""

    lost: dict[UUID, str]
    settled: list[UUID]
    promoted: int
    stopped: tuple[UUID, ...] = ()
    """Jobs that would have gone on and were cancelled instead, because somebody had asked for it."""


# Every finisher, for each batch. Each table is reached through its primary key from the batch's own rows; see TAIL.
FINISH = Sql(
    "finish",
    """
WITH input AS MATERIALIZED (
  SELECT * FROM jsonb_to_recordset(%(outcomes)s::jsonb) AS t(
    job_id uuid, claim_id uuid, state text, spent int, reason text, kept boolean, result jsonb, value_refs jsonb,
    error jsonb, delay float8, children int, deps int, meta jsonb, lost int)),
mine AS (
  DELETE FROM {claims} c USING input i
   WHERE c.job_id = ANY(ARRAY(SELECT job_id FROM input)) AND c.job_id = i.job_id AND c.claim_id = i.claim_id
  RETURNING c.session, c.claimed_at, i.*,
            CASE WHEN i.state IN ('ready', 'due', 'waiting') THEN c.cancel_reason END AS stop_reason),
located AS MATERIALIZED (
  SELECT m.*, x.tid FROM mine m
   CROSS JOIN LATERAL (SELECT ctid AS tid FROM {jobs} WHERE id = m.job_id OFFSET 0) x),
written AS (
  UPDATE {jobs} t
     SET state = CASE WHEN m.stop_reason IS NOT NULL THEN 'cancelled'
                      WHEN m.state IN ('completed', 'failed', 'cancelled') THEN m.state ELSE 'pending' END,
         ended_at = CASE WHEN m.stop_reason IS NOT NULL OR m.state IN ('completed', 'failed', 'cancelled')
                         THEN statement_timestamp() END,
         reason = coalesce(m.stop_reason, m.reason),
         attempt = t.attempt + m.spent,
         losses = t.losses + coalesce(m.lost, 0),
         result = CASE WHEN m.kept AND m.stop_reason IS NULL THEN coalesce(m.result, 'null'::jsonb) END,
         value_refs = CASE WHEN m.stop_reason IS NULL THEN m.value_refs END,
         meta = coalesce(m.meta, t.meta),
         errors = """
    + APPEND_ERROR.replace("{entry}", "(m.error || jsonb_build_object('at', statement_timestamp()))")
    + """,
         claim_id = m.claim_id, session = m.session, attempted_at = m.claimed_at
    FROM located m
   WHERE t.ctid = m.tid
  RETURNING t.id, t.queue, t.priority, t.tenant, t.task, t.parent_id, t.state, m.state AS next, m.delay, m.children,
            m.deps, t.claim_id),"""
    + TAIL
    + ",\n"
    # PostgreSQL runs what nobody reads from the last to the first, so this is told before what came of the job.
    + tell("told_timeout", "mine", "'job_timeout'", "job_id", "error ->> 'kind' = 'timeout'")
    + ","
    + WAKE
    + """
SELECT 'lost', i.job_id, i.claim_id, 0 FROM input i
 WHERE (SELECT count(*) FROM written) < (SELECT count(*) FROM input)
   AND NOT EXISTS (SELECT 1 FROM written w WHERE w.id = i.job_id AND w.claim_id = i.claim_id)
UNION ALL
SELECT 'stopped', job_id, NULL, 0 FROM mine WHERE stop_reason IS NOT NULL
UNION ALL
SELECT 'settle', job_id, NULL, 0 FROM lowered WHERE settle
UNION ALL
SELECT 'settle', job_id, NULL, 0 FROM to_waiting WHERE settle
UNION ALL
SELECT 'promoted', NULL, NULL, (SELECT count(*) FROM promoted)::int / """
    + UNMOVED
    + " FROM (SELECT count(*) FROM woken) w",
)

# Why a claim no longer held: its own outcome is there already, another's is, or the job is gone.
WHY_LOST = Sql(
    "why_lost",
    """
SELECT j.id, j.claim_id, c.claim_id FROM {jobs} j LEFT JOIN {claims} c ON c.job_id = j.id
 WHERE j.id = ANY(%(ids)s::uuid[])""",
)


# For each batch with children of children, by the primary key.
CANCELLED_ROOTS = Sql(
    "cancelled_roots", "SELECT id, reason FROM {jobs} WHERE id = ANY(%(ids)s::uuid[]) AND state = 'cancelled'"
)

# Who waits, directly or not, for one of these jobs: along edges downstream, and from child to parent. Only for attempts
# that refer to jobs they did not make themselves. Indexes fairchild_edges_pkey and fairchild_jobs_base_pkey.
FIND_WAITERS = Sql(
    "find_waiters",
    """
WITH RECURSIVE walk AS (
  SELECT id AS root, id, NULL::uuid AS waits_for FROM unnest(%(ids)s::uuid[]) AS t(id)
  UNION
  SELECT w.root, x.id, w.id FROM walk w CROSS JOIN LATERAL (
    SELECT downstream AS id FROM {edges} WHERE upstream = w.id
    UNION ALL
    SELECT parent_id FROM {jobs} WHERE id = w.id AND parent_id IS NOT NULL) x)
SELECT root, id, waits_for FROM walk""",
)


class _Taken(Exception):
    """The id that a call chose for its job was taken by another transaction in this very moment."""


@dataclass
class _Written:
    lost: list[tuple[UUID, UUID]] = field(default_factory=list)
    stopped: list[UUID] = field(default_factory=list)
    marked: list[UUID] = field(default_factory=list)
    promoted: int = 0


def finish(link: Link, batch: list[Ended], room: int = 0, census: Census | None = None) -> Applied:
    """Apply a batch of outcomes; ``room`` is how many promoted jobs this worker can take itself.

    ``census``: who watches that no workflow has too many jobs. Of two outcomes of one attempt the first counts. Raises
    UnknownJob if a child waits for a job that does not exist, UsageError if jobs would wait for each other in a circle
    or a workflow would have too many; nothing of the batch is applied then.
    """
    firsts = {(ended.job_id.int, ended.claim_id.int): ended for ended in reversed(batch)}
    batch = sorted(firsts.values(), key=lambda ended: ended.job_id.int)  # an int's order, and much cheaper
    plain = all(ended.plain for ended in batch)
    written = _write(link, batch, room) if plain else None
    if written is None and census is not None:
        _admit(link, batch, census)
    while written is None:
        try:
            with link.atomic():
                written = _finish_families(link, batch, room)
                if failpoints.ARMED:
                    failpoints.hit("finish.before_commit")
        except _Taken:  # the other transaction has ended by now, so its job is seen
            continue
    if failpoints.ARMED:
        failpoints.hit("finish.before_settle")
    # Not in the same transaction, unless it is the caller's: that would go up a workflow with the locks of its leaves.
    settled = settle(link, written.marked, room) if written.marked else []
    if not plain and link.idle:
        look_again(link, batch)
    return Applied(_why(link, written.lost), settled, written.promoted, tuple(written.stopped))


def look_again(link: Link, batch: list[Ended]) -> None:
    """After the commit: wake durable jobs that what they wait for has passed by unseen; see db/journal.py."""
    unsure = [ended.job_id for ended in batch if ended.is_unsure]
    if unsure:
        try:
            journal.look_again(link, unsure)
        except REPLY_LOST:  # all is written; whoever uses the connection next hears of it, and the sweeps do this
            return


def _admit(link: Link, batch: list[Ended], census: Census) -> None:
    """Raise UsageError if a workflow would have too many jobs."""
    adding: Counter[UUID] = Counter()
    for ended in batch:
        for child in ended.children[:1]:
            if child.workflow_id is not None and (
                child.depth > 1 or len(ended.children) > census.limits.max_descendants
            ):
                adding[child.workflow_id] += len(ended.children)
    if adding:
        census.admit(link, adding)


def _finish_families(link: Link, batch: list[Ended], room: int) -> _Written:
    """Apply a batch with children or with values of other jobs, in a transaction of the caller's."""
    batch = _without_existing(link, _of_cancelled_workflows(link, batch))
    foreign = _foreign(batch)
    written = _write(link, batch, room, foreign)
    gone = {*(job_id for job_id, _ in written.lost), *written.stopped}
    kept = [ended for ended in batch if ended.job_id not in gone]
    children = [child for ended in kept for child in ended.children]
    if children:
        if failpoints.ARMED:
            failpoints.hit("spawn.insert")
        hidden = {row for child in children for row in child.redact} - link.told
        if hidden:
            add_redactions(link, hidden)
        inserted = insert_jobs(link, children, notify=len(children) > room)
        if len(inserted) < len(children):
            raise _Taken
        written.promoted += sum(not each.later for each in inserted)
    written.marked += _value_edges(link, kept, foreign)
    durable = {ended.job_id: ended.progress for ended in kept if ended.progress is not None}
    if durable:
        written.marked += journal.record(link, durable, {ended.job_id for ended in kept if ended.state == "waiting"})
    for ended in kept:
        if ended.xcom and ended.workflow_id is not None:
            xcom.apply(link, ended.workflow_id, ended.job_id, ended.xcom)
    _refuse_circles(link, kept, foreign)
    return written


def _of_cancelled_workflows(link: Link, batch: list[Ended]) -> list[Ended]:
    """The batch, in which attempts that called tasks for a workflow whose root was cancelled are cancelled too.

    So a workflow that grows while it is being cancelled grows no more once its root is; see ``control.cancel_pages``.
    """
    roots = {child.workflow_id for ended in batch for child in ended.children[:1] if child.depth > 1}
    rows = link.rows(CANCELLED_ROOTS, {"ids": list(roots)}) if roots else []
    reasons = {row[0]: row[1] for row in rows}
    if not reasons:
        return batch
    return [
        replace(ended, state="cancelled", reason=reasons[root], result=None, value_refs=[], children=[])
        if ended.children and (root := ended.children[0].workflow_id) in reasons
        else ended
        for ended in batch
    ]


def _without_existing(link: Link, batch: list[Ended]) -> list[Ended]:
    """The batch without calls whose chosen id a job has already: their Futures stand for that job."""
    chosen = {child.id for ended in batch for child in ended.children if child.given_id}
    existing = chosen - unknown_upstreams(link, chosen)
    if not existing:
        return batch
    return [replace(ended, children=[child for child in ended.children if child.id not in existing]) for ended in batch]


def _foreign(batch: list[Ended]) -> dict[UUID, dict[UUID, str]]:
    """For each outcome, the edges to jobs whose value it returned, but those to its own children.

    To a child whose failure it deals with it has an edge nevertheless: that is how the failure is known to be dealt
    with.
    """
    found: dict[UUID, dict[UUID, str]] = {}
    for ended in batch:
        if ended.value_refs:
            own = {child.id for child in ended.children}
            edges = edges_of(ended.value_refs)
            found[ended.job_id] = {each: how for each, how in edges.items() if each not in own or how == "any"}
    return found


def _refuse_circles(link: Link, kept: list[Ended], foreign: dict[UUID, dict[UUID, str]]) -> None:
    """Raise UsageError if an attempt or one of its children now waits for a job that waits for it."""
    wanted: dict[UUID, set[UUID]] = {}
    for ended in kept:
        own = {child.id for child in ended.children}
        others = {each for child in ended.children for each in child.upstreams() if each not in own}
        if others or foreign.get(ended.job_id):
            wanted[ended.job_id] = others.union(foreign.get(ended.job_id, ()))
    if not wanted:
        return
    next_of: dict[tuple[UUID, UUID], UUID | None] = {}
    for root, waiter, waits_for in link.rows(FIND_WAITERS, {"ids": list(wanted)}):
        next_of.setdefault((root, waiter), waits_for)
    for root, others in wanted.items():
        for other in others:
            if (root, other) not in next_of:
                continue
            circle: list[UUID] = [root]
            step: UUID | None = other
            while step is not None and step not in circle:
                circle.append(step)
                step = next_of[root, step]
            shown = " -> ".join(str(each) for each in [*circle, root])
            raise UsageError(f"these jobs would wait for each other for ever: {shown}; nothing was enqueued")


def _write(link: Link, batch: list[Ended], room: int, foreign: dict[UUID, dict[UUID, str]] | None = None) -> _Written:
    rows = [_document(ended, len((foreign or {}).get(ended.job_id, ()))) for ended in batch]
    params = {"outcomes": msgspec.json.encode(rows).decode(), **wake.wake_params(link.schema, room)}
    written = _Written()
    with whole():
        rows_back = link.rows(FINISH, params)
    for kind, job_id, claim_id, count in rows_back:
        if kind == "lost":
            written.lost.append((job_id, claim_id))
        elif kind == "stopped":
            written.stopped.append(job_id)
        elif kind == "settle":
            written.marked.append(job_id)
        else:
            written.promoted = count
    written.promoted += sum(ended.state == "ready" for ended in batch)
    return written


def _document(ended: Ended, foreign: int) -> dict[str, Any]:
    row: dict[str, Any] = {
        "job_id": ended.job_id,
        "claim_id": ended.claim_id,
        "state": ended.state,
        "spent": int(ended.spent),
        "kept": ended.result is not None,
    }
    if ended.result is not None:
        row["result"] = msgspec.Raw(ended.result)
    if ended.meta is not None:
        row["meta"] = msgspec.Raw(ended.meta)
    if ended.reason is not None:
        row["reason"] = ended.reason
    if ended.error is not None:
        row["error"] = ended.error
    if ended.lost:
        row["lost"] = 1
    if ended.state == "due":
        row["delay"] = ended.delay
    if ended.state == "waiting":
        # Of a durable job this is the least it waits for, until its row in waiting has been filled in and counted.
        row["children"] = len(ended.children)
        row["deps"] = foreign if ended.progress is None else max(1, foreign)
        row["value_refs"] = codec.plain_refs(ended.value_refs)
    return row


def _value_edges(link: Link, kept: list[Ended], foreign: dict[UUID, dict[UUID, str]]) -> list[UUID]:
    """Edges of attempts that returned values of jobs; the jobs that wait for nothing after all."""
    edges = [
        {"upstream": upstream, "downstream": ended.job_id, "policy": policy}
        for ended in kept
        for upstream, policy in foreign.get(ended.job_id, {}).items()
    ]
    if not edges:
        return []
    link.rows(INSERT_EDGES, {"edges": msgspec.json.encode(edges).decode()})
    return recount(link, list({ended.job_id for ended in kept if foreign.get(ended.job_id)}))


def was_recorded(link: Link, job_id: UUID, claim_id: UUID) -> bool:
    """Whether the outcome of a claim has been recorded."""
    return _why(link, [(job_id, claim_id)])[job_id] == "already"


def _why(link: Link, lost: list[tuple[UUID, UUID]]) -> dict[UUID, str]:
    if not lost:
        return {}
    now = {row[0]: (row[1], row[2]) for row in link.rows(WHY_LOST, {"ids": [job_id for job_id, _ in lost]})}
    reasons = {}
    for job_id, claim_id in lost:
        if job_id not in now:
            reasons[job_id] = "missing"
        else:
            recorded, held = now[job_id]
            reasons[job_id] = "already" if recorded == claim_id and held != claim_id else "stale"
    return reasons
