"""Claiming jobs: one statement takes a batch from ``ready`` into ``claims`` and gives all that is needed to run it.

The floor. Deleted rows of ``ready`` stay in its index until vacuum may remove them, and an old snapshot anywhere in the
database forbids that. A claim that began at the head of the index would wade through all of them. So a worker
remembers, per queue and priority, the highest ``seq`` it has seen claimed, and begins behind it. What enters ``ready``
behind a floor (a transaction that drew its number early and committed late) is found by sweeps, which begin at zero.
"""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

import msgspec

from fairchild.db import wake
from fairchild.db.connect import Link
from fairchild.db.events import tell
from fairchild.db.journal import wake_sleepers
from fairchild.db.statement import Sql

PROMOTE_BATCH = 1000


class Lane(NamedTuple):
    """One priority of one queue, and the seq behind which to look."""

    queue: str
    priority: int
    floor: int


class Claimed(NamedTuple):
    """A job just claimed. JSON columns are text as stored, decoded by whoever runs the job."""

    job_id: UUID
    queue: str
    priority: int
    fence: int
    tenant: str
    task: str
    args: bytes
    refs: bytes | None
    attempt: int
    max_attempts: int
    workflow_id: UUID
    parent_id: UUID | None
    depth: int
    tags: list[str] | None
    meta: bytes | None
    timeout: float | None
    expired: bool
    inserted: float
    scheduled: float
    losses: int
    waited: float
    """Seconds it was available."""
    claim_id: UUID


# Conditions of the claim that db/explain.py names when they are not met. ``{queue}`` is the queue's name.
NOT_PAUSED = "({queue} <> ALL(ARRAY(SELECT name FROM {queues} WHERE paused_at IS NOT NULL)))"
AT_WORK = "s.state = 'running'"

# Every worker, many times a second when busy. Index fairchild_ready_for_claim, once per lane in the order given; locks
# only the rows it returns, skipping those that others hold. The delete goes by ctid through ARRAY(SELECT ...): with
# IN (SELECT ...) or a join the planner has been seen to scan the table. The lateral with OFFSET 0 keeps the look-up of
# the job's row a probe of the primary key per job. A session that was declared dead or paused gets nothing, though its
# worker may not have heard of it yet: what it claimed would be taken from it again, as a loss of each job. Nor does a
# queue that is paused give anything; which are is read once, from an index of those alone.
CLAIM = Sql(
    "claim",
    """
WITH picked AS MATERIALIZED (
  SELECT r.* FROM jsonb_to_recordset(%(lanes)s::jsonb) AS l(queue text, priority smallint, floor bigint)
   CROSS JOIN LATERAL (
     SELECT ctid AS tid, queue, priority, seq, job_id, tenant, at FROM {ready}
      WHERE queue = l.queue AND priority = l.priority AND seq > l.floor AND task = ANY(%(tasks)s::text[])
      ORDER BY seq LIMIT %(room)s::int
        FOR UPDATE SKIP LOCKED) r
   WHERE NOT EXISTS (SELECT 1 FROM {sessions} s WHERE s.id = %(session)s::uuid AND NOT ("""
    + AT_WORK
    + """))
     AND """
    + NOT_PAUSED.replace("{queue}", "l.queue")
    + """
   LIMIT %(room)s::int),
gone AS (DELETE FROM {ready} WHERE ctid = ANY(ARRAY(SELECT tid FROM picked))),
claimed AS (
  INSERT INTO {claims} (job_id, claim_id, session, fence, queue, tenant, claimed_at)
  SELECT job_id, %(claim_id)s::uuid, %(session)s::uuid, seq, queue, tenant, statement_timestamp() FROM picked),
"""
    + tell("told", "picked", "'job_started'", "job_id")
    + """
SELECT p.job_id, p.queue, p.priority, p.seq, p.tenant, j.task, j.args, j.refs, j.attempt + 1, j.max_attempts,
       j.workflow_id, j.parent_id, j.depth, j.tags, j.meta, j.timeout_seconds,
       coalesce(statement_timestamp() > p.at + j.expires_seconds * interval '1 second', false),
       date_part('epoch', j.inserted_at), date_part('epoch', j.scheduled_at), j.losses,
       date_part('epoch', statement_timestamp() - p.at)
  FROM picked p CROSS JOIN LATERAL (
    SELECT task, args, refs, attempt, max_attempts, workflow_id, parent_id, depth, tags, meta, timeout_seconds,
           expires_seconds, inserted_at, scheduled_at, losses
      FROM {jobs} WHERE id = p.job_id OFFSET 0) j""",
    binary=True,
)

# Whoever claims by hand and does not say which tasks: the same without that condition.
CLAIM_ANY = Sql("claim_any", CLAIM.text.replace(" AND task = ANY(%(tasks)s::text[])", ""), binary=True)

# Idle workers, once a poll, and in place of all else: which queues hold anything (by a loose scan of the same index, or
# by a probe of each that is named), and when the next scheduled job is due (by fairchild_due_by_time).
_NEXT_DUE = """
       extract(epoch FROM least((SELECT run_at FROM {due} ORDER BY run_at LIMIT 1),
                                (SELECT wake_at FROM {timers} ORDER BY wake_at LIMIT 1))
                          - statement_timestamp())::float8"""
LOOK_EVERYWHERE = Sql(
    "look_everywhere",
    """
WITH RECURSIVE q AS (
  (SELECT queue, 1 AS n FROM {ready} ORDER BY queue LIMIT 1)
  UNION ALL
  SELECT (SELECT queue FROM {ready} WHERE queue > q.queue ORDER BY queue LIMIT 1), n + 1
    FROM q WHERE q.queue IS NOT NULL AND n < %(most)s)
SELECT ARRAY(SELECT queue FROM q WHERE queue IS NOT NULL),"""
    + _NEXT_DUE,
)
LOOK_AT = Sql(
    "look_at",
    """
SELECT ARRAY(SELECT queue FROM unnest(%(queues)s::text[]) AS t(queue)
              WHERE (SELECT true FROM {ready} r WHERE r.queue = t.queue ORDER BY r.queue LIMIT 1)),"""
    + _NEXT_DUE,
)

# Any worker, when the earliest known due time has come or once a poll. Indexes fairchild_due_by_time and, for suspended
# jobs, fairchild_timers_by_time: whether any is to be woken is said here, and done by db/journal.py.
PROMOTE_DUE = Sql(
    "promote_due",
    """
WITH picked AS MATERIALIZED (
  SELECT ctid AS tid, job_id, queue, priority, tenant, task, run_at FROM {due}
   WHERE run_at <= statement_timestamp() ORDER BY run_at LIMIT %(most)s FOR UPDATE SKIP LOCKED),
gone AS (DELETE FROM {due} WHERE ctid = ANY(ARRAY(SELECT tid FROM picked))),
promoted AS (
  INSERT INTO {ready} (queue, priority, job_id, tenant, task)
  SELECT queue, priority, job_id, tenant, task FROM picked ORDER BY run_at
  RETURNING job_id),
"""
    + tell("told", "promoted", "'job_ready'", "job_id")
    + """,
woken AS (
  SELECT pg_notify(%(channel)s, '') FROM (SELECT count(*) AS n FROM promoted) p
   WHERE p.n > %(room)s AND pg_try_advisory_xact_lock(%(gate)s))
SELECT (SELECT count(*) FROM promoted)::int, (SELECT count(*) FROM woken)::int,
       extract(epoch FROM least(
         (SELECT run_at FROM {due} WHERE run_at > statement_timestamp() ORDER BY run_at LIMIT 1),
         (SELECT wake_at FROM {timers} WHERE wake_at > statement_timestamp() ORDER BY wake_at LIMIT 1))
                          - statement_timestamp())::float8,
       EXISTS (SELECT 1 FROM {timers} WHERE wake_at <= statement_timestamp() LIMIT 1)""",
)

# After a lost reply: what a claim took that its worker never heard of. Index fairchild_claims_pkey does not serve it;
# the table holds what runs now.
FIND_CLAIM = Sql("find_claim", "SELECT job_id FROM {claims} WHERE claim_id = %(claim_id)s::uuid")


def claim(
    link: Link, *, lanes: list[Lane], tasks: list[str] | None, room: int, claim_id: UUID, session: UUID
) -> list[Claimed]:
    """Up to ``room`` jobs of ``tasks`` (None: any), first those of earlier lanes, each now held under ``claim_id``."""
    document = msgspec.json.encode([each._asdict() for each in lanes]).decode()
    params = {"lanes": document, "tasks": tasks, "room": room, "claim_id": claim_id, "session": session}
    rows = link.rows(CLAIM if tasks is not None else CLAIM_ANY, params)
    return [Claimed._make((*row, claim_id)) for row in rows]


def look(link: Link, queues: list[str] | None = None, most: int = 1000) -> tuple[list[str], float | None]:
    """Those of ``queues`` that hold available jobs, and seconds until the next scheduled job is due.

    None in place of queues: all there are, at most ``most`` of them, in alphabetical order. None in place of seconds:
    nothing is scheduled.
    """
    if queues is None:
        found, left = link.rows(LOOK_EVERYWHERE, {"most": most})[0]
    else:
        found, left = link.rows(LOOK_AT, {"queues": queues})[0]
    return found, left


def promote_due(link: Link, room: int = 0) -> tuple[int, float | None]:
    """Make up to PROMOTE_BATCH jobs whose time has come available: how many, and seconds until the next that has not.

    None in place of the seconds: nothing is scheduled.
    """
    params = {"most": PROMOTE_BATCH, **wake.wake_params(link.schema, room)}
    promoted, _, left, sleepers = link.rows(PROMOTE_DUE, params)[0]
    if sleepers:
        promoted = max(promoted, wake_sleepers(link, room))
    return promoted, left


def find_claim(link: Link, claim_id: UUID) -> list[UUID]:
    """The jobs that a claim took."""
    return [row[0] for row in link.rows(FIND_CLAIM, {"claim_id": claim_id})]
