"""Worker sessions: beats, and taking back what a dead worker held.

Every start of a worker is a session with a fresh id. Its row counts beats. Nobody compares clocks: whoever watches
notes, on its own monotonic clock, when it last saw the count change. A session whose count has stood still for half
its lease, over at least five looks, is dead. Declaring it so compares and sets on the very count that stood still, so
a worker that beats in the last moment stays alive, and only one observer wins.

A dead session's claims are given back: the claim row is deleted, so that whatever the old worker still writes finds
no claim, and the job becomes available again with a ``lost`` entry and no attempt spent; or is cancelled, if somebody
had asked for that.

Who killed it? A death does not say which of the jobs that a worker held was the cause, nor which of them had begun:
a segmentation fault comes faster than any note of a start. So it only makes suspects of them, and the suspects are
tried one by one:

- ``losses`` 0: never in a death. Runs in a thread, among others.
- ``losses`` >= 1: a suspect. Runs in a child process of its own (worker/isolated.py), whatever its task says, and is
  innocent as soon as it ends there in any way of its own. If its child dies, nobody else can have done it: one more
  loss, written by the worker itself with the outcome (``Ended.lost``).
- ``losses`` = 3: failed as ``poison``.

A worker's death therefore counts against a suspect only if the session held that job alone, as DECLARE_DEAD notes with
``held``: a job that waits ahead, or sits in its own child, while others bring worker after worker down stays at one
loss however often that happens. A session that has stopped in good order and left claims behind (it could not record
them) makes no suspects. No attempt is spent in any of this.

    running --beat--> running --(no beat for lease / 2)--> dead --(its worker wakes up)--> a new session
       \\--stop--> draining --(all jobs given back or ended)--> stopped
"""

from __future__ import annotations

from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from fairchild import failpoints
from fairchild.db import wake
from fairchild.db.connect import Link, again
from fairchild.db.ending import APPEND_ERROR, TAIL, UNMOVED, whole
from fairchild.db.events import ABOUT_WORKER, tell_others
from fairchild.db.settle import settle
from fairchild.db.statement import Sql

MAX_LOSSES = 3

OPEN_SESSION = Sql(
    "open_session",
    """
WITH known AS (
  INSERT INTO {catalogs} (hash, schemas) VALUES (%(catalog)s, %(schemas)s::jsonb) ON CONFLICT (hash) DO NOTHING),
opened AS (
  INSERT INTO {sessions} (id, lease_seconds, name, hostname, pid, queues, concurrency, catalog, metadata)
  VALUES (%(id)s, %(lease)s, %(name)s, %(hostname)s, %(pid)s, %(queues)s::text[], %(concurrency)s, %(catalog)s,
          %(metadata)s::jsonb)
  RETURNING id, name, hostname, metadata),
"""
    + tell_others("told", "opened", "'worker_started'", ABOUT_WORKER, "metadata->>'kind' = 'worker'")
    + "\nSELECT NULL::int",
)

# One per worker process and interval, whatever the number of its jobs. It touches one row of one small table: whoever
# locks the tables of the jobs, to vacuum or to change them, does not silence the workers.
BEAT = Sql(
    "beat",
    """
UPDATE {sessions} SET beat = beat + 1, beat_at = statement_timestamp(), vitals = coalesce(%(vitals)s::jsonb, vitals)
 WHERE id = %(id)s::uuid AND state IN ('running', 'paused', 'draining')
RETURNING state, coalesce(stacks_asked_at > coalesce(stacks_at, '-infinity'), false)""",
)

# After each beat, and at once when somebody has asked for a job to stop. claims holds what runs now.
ASKED = Sql(
    "asked",
    """
SELECT job_id, claim_id, cancel_reason FROM {claims}
 WHERE session = %(id)s::uuid AND cancel_reason IS NOT NULL""",
)

# One that has stopped wakes the others, who may take what it has given back (and its own listener, which then ends).
SET_STATE = Sql(
    "set_session_state",
    """
WITH changed AS (
  UPDATE {sessions}
     SET state = %(state)s,
         ended_at = CASE WHEN %(state)s = 'stopped' THEN statement_timestamp() ELSE ended_at END
   WHERE id = %(id)s::uuid AND state <> 'dead'
  RETURNING id, name, hostname, state),
"""
    + tell_others(
        "told",
        "changed c",
        "CASE state WHEN 'stopped' THEN 'worker_stopped' ELSE 'worker_stopping' END",
        ABOUT_WORKER,
        "NOT EXISTS (SELECT FROM {sessions} b WHERE b.id = c.id AND b.state = c.state)",
    )
    + """
SELECT pg_notify(%(channel)s, '') FROM changed WHERE state = 'stopped'""",
)

WATCH = Sql(
    "watch_sessions",
    "SELECT id, beat, lease_seconds FROM {sessions} WHERE state IN ('running', 'paused', 'draining')",
)

# Compare and set on the beat that stood still. Counts what the session held: RESCUE takes it away in batches.
DECLARE_DEAD = Sql(
    "declare_dead",
    """
WITH dead AS (
  UPDATE {sessions} SET state = 'dead', ended_at = statement_timestamp(),
         metadata = coalesce(metadata, '{{}}') || jsonb_build_object(
           'held', (SELECT count(*) FROM {claims} WHERE session = %(id)s::uuid))
   WHERE id = %(id)s::uuid AND beat = %(beat)s AND state IN ('running', 'paused', 'draining')
  RETURNING id, name, hostname, pid, metadata),
"""
    + tell_others("told", "dead", "'worker_lost'", ABOUT_WORKER + ", 'held', metadata->'held'")
    + "\nSELECT name, hostname, pid FROM dead",
)

# Every worker, once an interval: whether there is anything to rescue, and anything to keep moving. Mostly there is not.
LEFT_BEHIND = Sql(
    "left_behind",
    """
SELECT EXISTS (SELECT FROM {claims} c LEFT JOIN {sessions} s ON s.id = c.session
                WHERE s.id IS NULL OR s.state IN ('dead', 'stopped')),
       EXISTS (SELECT FROM {waiting}), EXISTS (SELECT FROM {cancellations})""",
)

# Any worker that has seen some. Claims of sessions that are dead, stopped or gone; a batch at a time.
RESCUE = Sql(
    "rescue",
    """
WITH orphans AS MATERIALIZED (
  SELECT c.job_id, c.claim_id, c.session, c.claimed_at, c.cancel_reason, s.name AS worker,
         CASE WHEN s.state = 'stopped' THEN 'none' WHEN (s.metadata->>'held')::int = 1 THEN 'its own'
              ELSE 'shared' END AS death
    FROM {claims} c LEFT JOIN {sessions} s ON s.id = c.session
   WHERE s.id IS NULL OR s.state IN ('dead', 'stopped')
   ORDER BY c.job_id LIMIT 500
     FOR UPDATE OF c SKIP LOCKED),
mine AS (
  DELETE FROM {claims} c USING orphans o
   WHERE c.job_id = ANY(ARRAY(SELECT job_id FROM orphans)) AND c.job_id = o.job_id AND c.claim_id = o.claim_id
  RETURNING o.*),
located AS MATERIALIZED (
  SELECT m.*, x.tid, x.losses FROM mine m
   CROSS JOIN LATERAL (
     SELECT ctid AS tid, CASE m.death WHEN 'its own' THEN losses + 1 WHEN 'shared' THEN greatest(losses, 1)
                                      ELSE losses END AS losses
       FROM {jobs} WHERE id = m.job_id OFFSET 0) x),
written AS (  -- claim_id stays: it names the claim whose outcome was recorded, and this one's never will be
  UPDATE {jobs} t
     SET losses = m.losses,
         state = CASE WHEN m.losses >= %(most)s THEN 'failed'
                      WHEN m.cancel_reason IS NOT NULL THEN 'cancelled' ELSE 'pending' END,
         ended_at = CASE WHEN m.losses >= %(most)s OR m.cancel_reason IS NOT NULL THEN statement_timestamp() END,
         reason = CASE WHEN m.losses >= %(most)s THEN 'poison' ELSE m.cancel_reason END,
         session = m.session, attempted_at = m.claimed_at,
         errors = """
    + APPEND_ERROR.replace("{entry}", "(x.entry || jsonb_build_object('attempt', t.attempt + 1))")
    + """
    FROM located m
    CROSS JOIN LATERAL (SELECT jsonb_build_object(
      'kind', 'lost', 'type', NULL, 'traceback', NULL, 'worker', m.worker,
      'message', 'worker ' || coalesce(m.worker, m.session::text) || ' was lost while it held this job; no attempt '
                 || 'was spent',
      'at', statement_timestamp()) AS entry) x
   WHERE t.ctid = m.tid
  RETURNING t.id, t.queue, t.priority, t.tenant, t.task, t.parent_id, t.state, 'ready'::text AS next,
            NULL::float8 AS delay, 0 AS children, 0 AS deps),"""
    + TAIL
    + """,
woken AS (
  SELECT pg_notify(%(channel)s, '') FROM (SELECT count(*) AS n FROM written) p
   WHERE p.n > 0 AND pg_try_advisory_xact_lock(%(gate)s))
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

# Sessions that ended an hour ago, and catalogues that no session names.
PRUNE_SESSIONS = Sql(
    "prune_sessions",
    """
DELETE FROM {sessions} s
 WHERE s.state IN ('dead', 'stopped') AND s.ended_at < statement_timestamp() - interval '1 hour'
   AND NOT EXISTS (SELECT 1 FROM {claims} c WHERE c.session = s.id)""",
)
PRUNE_CATALOGS = Sql(
    "prune_catalogs",
    "DELETE FROM {catalogs} c WHERE NOT EXISTS (SELECT 1 FROM {sessions} s WHERE s.catalog = c.hash)",
)


class Session(NamedTuple):
    """A worker's session as it is entered."""

    id: UUID
    name: str
    hostname: str
    pid: int
    queues: list[str] | None
    concurrency: int
    lease: float
    catalog: str
    schemas: list[dict[str, Any]]
    metadata: dict[str, Any]


class Heard(NamedTuple):
    """What a session hears with a beat."""

    state: str
    stacks: bool
    """Somebody wants to know where its threads are; see db/stacks.py."""


class Watched(NamedTuple):
    """A session as an observer sees it."""

    id: UUID
    beat: int
    lease: float


def open_session(link: Link, session: Session) -> None:
    """Enter a session. Repeating it with the same id is an error of the database's primary key."""
    params = session._asdict()
    params["schemas"] = msgspec.json.encode(session.schemas, enc_hook=repr).decode()
    params["metadata"] = msgspec.json.encode(session.metadata).decode()
    link.rows(OPEN_SESSION, params)


def beat(link: Link, session: UUID, vitals: dict[str, Any] | None = None) -> Heard | None:
    """Count one more beat; how the session is, and what is asked of it. None: it was declared dead.

    ``vitals``: how its process is, for people; see worker/vitals.py.
    """
    said = None if vitals is None else msgspec.json.encode(vitals).decode()
    rows = link.rows(BEAT, {"id": session, "vitals": said})
    return Heard(*rows[0]) if rows else None


def asked(link: Link, session: UUID) -> list[tuple[UUID, UUID, str]]:
    """(job, claim, reason) of each attempt of this session that somebody wants stopped."""
    return [(job_id, claim_id, reason) for job_id, claim_id, reason in link.rows(ASKED, {"id": session})]


def set_state(link: Link, session: UUID, state: str) -> None:
    """Move a living session to 'draining' or 'stopped'."""
    link.rows(SET_STATE, {"id": session, "state": state, "channel": wake.channel(link.schema)})


def watch(link: Link) -> list[Watched]:
    """All sessions that are not over."""
    return [Watched(*row) for row in link.rows(WATCH)]


def left_behind(link: Link) -> tuple[bool, bool, bool]:
    """Whether claims are held by sessions that are over, whether any job waits for others, and any is being cancelled
    with all that it has called.
    """
    orphans, waiting, cancelled = link.rows(LEFT_BEHIND)[0]
    return orphans, waiting, cancelled


def declare_dead(link: Link, seen: Watched) -> bool:
    """Declare a session dead unless it has beaten since; whether this call did it."""
    return bool(link.rows(DECLARE_DEAD, {"id": seen.id, "beat": seen.beat}))


def rescue(link: Link) -> list[UUID]:
    """Give back one batch of the claims that dead sessions hold; the jobs given back or failed as poison."""
    return again(link, lambda: _rescue(link))


def _rescue(link: Link) -> list[UUID]:
    with link.atomic():
        params = {"most": MAX_LOSSES, **wake.wake_params(link.schema)}
        with whole():
            rows = [row for row in link.rows(RESCUE, params) if row[0] is not None]
        marked = [row[0] for row in rows if not row[1]]
        if marked:
            settle(link, marked)
        if failpoints.ARMED:
            failpoints.hit("rescue.before_commit")
    return [row[0] for row in rows if row[1]]


def tidy(link: Link) -> None:
    """Prune sessions long over."""
    link.rows(PRUNE_SESSIONS)
    link.rows(PRUNE_CATALOGS)
