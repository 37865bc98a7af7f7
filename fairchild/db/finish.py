"""Recording what attempts came to, in batches.

The fence is the row in ``claims``: the statement deletes the rows that match (job, claim) and applies only what it
deleted. A job's new state, its result or error, its children and their edges, the counters of those who wait for it:
all of it is one transaction. An outcome whose claim is gone changes nothing and is reported as lost.

Locks, in this order: claims by job id, jobs by id, waiting by job id.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from fairchild.db import wake
from fairchild.db.connect import Link
from fairchild.db.ending import APPEND_ERROR, TAIL, WAKE
from fairchild.db.enqueue import INSERT_EDGES, insert_jobs, unknown_upstreams
from fairchild.db.settle import recount, settle
from fairchild.db.statement import Sql
from fairchild.job import NewJob


@dataclass
class Ended:
    """What one attempt came to, as it is written.

    ``state``: 'completed', 'failed', 'cancelled', or the next place of a job that goes on: 'ready', 'due' (after
    ``delay`` seconds), 'waiting' (for its children, or for jobs whose value it returned).
    """

    job_id: UUID
    claim_id: UUID
    state: str
    spent: bool = True
    reason: str | None = None
    result: bytes | None = None
    """JSON text; None when there is no result."""
    value_refs: list[tuple[tuple[str | int, ...], UUID]] = field(default_factory=list)
    error: dict[str, Any] | None = None
    delay: float = 0.0
    children: list[NewJob] = field(default_factory=list)
    meta: bytes | None = None
    """The job's new meta as JSON text; None leaves it as it is."""

    @property
    def plain(self) -> bool:
        """Whether the one statement does all there is to do, unless it reports jobs to settle."""
        return not self.children and not self.value_refs


class Applied(NamedTuple):
    """What a batch did: claims that no longer held (by job id), jobs ended besides, how many became available."""

    lost: dict[UUID, str]
    settled: list[UUID]
    promoted: int


# Every finisher, for each batch. Each table is reached through its primary key from the batch's own rows; see TAIL.
FINISH = Sql(
    "finish",
    """
WITH input AS MATERIALIZED (
  SELECT * FROM jsonb_to_recordset(%(outcomes)s::jsonb) AS t(
    job_id uuid, claim_id uuid, state text, spent int, reason text, kept boolean, result jsonb, value_refs jsonb,
    error jsonb, delay float8, children int, deps int, meta jsonb)),
mine AS (
  DELETE FROM {claims} c USING input i
   WHERE c.job_id = ANY(ARRAY(SELECT job_id FROM input)) AND c.job_id = i.job_id AND c.claim_id = i.claim_id
  RETURNING c.session, c.claimed_at, i.*),
written AS (
  UPDATE {jobs} t
     SET state = CASE WHEN m.state IN ('completed', 'failed', 'cancelled') THEN m.state ELSE 'pending' END,
         ended_at = CASE WHEN m.state IN ('completed', 'failed', 'cancelled') THEN statement_timestamp() END,
         reason = m.reason,
         attempt = t.attempt + m.spent,
         result = CASE WHEN m.kept THEN coalesce(m.result, 'null'::jsonb) END,
         value_refs = m.value_refs,
         meta = coalesce(m.meta, t.meta),
         errors = """
    + APPEND_ERROR.replace("{entry}", "(m.error || jsonb_build_object('at', statement_timestamp()))")
    + """,
         claim_id = m.claim_id, session = m.session, attempted_at = m.claimed_at
    FROM mine m CROSS JOIN LATERAL (SELECT ctid AS tid FROM {jobs} WHERE id = m.job_id OFFSET 0) x
   WHERE t.ctid = x.tid  -- nobody writes the row of a job whose claim is held
  RETURNING t.id, t.queue, t.priority, t.tenant, t.task, t.parent_id, t.state, m.state AS next, m.delay, m.children,
            m.deps),"""
    + TAIL
    + ","
    + WAKE
    + """
SELECT 'lost', i.job_id, i.claim_id, 0 FROM input i
 WHERE (SELECT count(*) FROM mine) < (SELECT count(*) FROM input)
   AND NOT EXISTS (SELECT 1 FROM mine m WHERE m.job_id = i.job_id AND m.claim_id = i.claim_id)
UNION ALL
SELECT 'settle', job_id, NULL, 0 FROM lowered WHERE settle
UNION ALL
SELECT 'promoted', NULL, NULL, (SELECT count(*) FROM promoted)::int FROM (SELECT count(*) FROM woken) w""",
)

# Why a claim no longer held: its own outcome is there already, another's is, or the job is gone.
WHY_LOST = Sql(
    "why_lost",
    """
SELECT j.id, j.claim_id, c.claim_id FROM {jobs} j LEFT JOIN {claims} c ON c.job_id = j.id
 WHERE j.id = ANY(%(ids)s::uuid[])""",
)


def finish(link: Link, batch: list[Ended], room: int = 0) -> Applied:
    """Apply a batch of outcomes; ``room`` is how many promoted jobs this worker can take itself.

    Raises UnknownJob if a child waits for a job that does not exist; nothing of the batch is applied then.
    """
    batch = sorted(batch, key=lambda ended: ended.job_id)
    if all(ended.plain for ended in batch):
        lost, marked, promoted = _write(link, batch, room)
        settled = settle(link, marked, room) if marked else []
        return Applied(_why(link, lost), settled, promoted)
    with link.atomic():
        foreign = _foreign(batch)
        lost, marked, promoted = _write(link, batch, room, foreign)
        gone = {job_id for job_id, _ in lost}
        kept = [ended for ended in batch if ended.job_id not in gone]
        children = [child for ended in kept for child in ended.children]
        if children:
            promoted += sum(not each.later for each in insert_jobs(link, children, notify=len(children) > room))
        marked += _value_edges(link, kept, foreign)
        settled = settle(link, marked, room) if marked else []
    return Applied(_why(link, lost), settled, promoted)


def find_unknown(link: Link, batch: list[Ended]) -> set[UUID]:
    """Jobs that the batch's children or values refer to and that do not exist."""
    wanted: set[UUID] = set()
    for ended in batch:
        own = {child.id for child in ended.children}
        for child in ended.children:
            wanted.update(each for each in child.upstreams() if each not in own)
        wanted.update(each for _, each in ended.value_refs if each not in own)
    return unknown_upstreams(link, wanted)


def _foreign(batch: list[Ended]) -> dict[UUID, list[UUID]]:
    """For each outcome, the jobs whose value it returned and that are not its own children."""
    found: dict[UUID, list[UUID]] = {}
    for ended in batch:
        if ended.value_refs:
            own = {child.id for child in ended.children}
            found[ended.job_id] = list(dict.fromkeys(each for _, each in ended.value_refs if each not in own))
    return found


def _write(
    link: Link, batch: list[Ended], room: int, foreign: dict[UUID, list[UUID]] | None = None
) -> tuple[list[tuple[UUID, UUID]], list[UUID], int]:
    rows = [_document(ended, len((foreign or {}).get(ended.job_id, ()))) for ended in batch]
    params = {"outcomes": msgspec.json.encode(rows).decode(), **wake.wake_params(link.schema, room)}
    lost: list[tuple[UUID, UUID]] = []
    marked: list[UUID] = []
    promoted = 0
    for kind, job_id, claim_id, count in link.rows(FINISH, params):
        if kind == "lost":
            lost.append((job_id, claim_id))
        elif kind == "settle":
            marked.append(job_id)
        else:
            promoted = count
    promoted += sum(ended.state == "ready" for ended in batch)
    return lost, marked, promoted


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
    if ended.state == "due":
        row["delay"] = ended.delay
    if ended.state == "waiting":
        row["children"] = len(ended.children)
        row["deps"] = foreign
        row["value_refs"] = ended.value_refs or None
    return row


def _value_edges(link: Link, kept: list[Ended], foreign: dict[UUID, list[UUID]]) -> list[UUID]:
    """Edges to jobs outside of the attempt whose value it returned; the jobs that wait for nothing after all."""
    edges = [
        {"upstream": upstream, "downstream": ended.job_id, "policy": "need"}
        for ended in kept
        for upstream in foreign.get(ended.job_id, ())
    ]
    if not edges:
        return []
    link.rows(INSERT_EDGES, {"edges": msgspec.json.encode(edges).decode()})
    return recount(link, list({ended.job_id for ended in kept if foreign.get(ended.job_id)}))


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
