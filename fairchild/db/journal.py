"""Durable jobs: the journal of what they have called, what a suspended one waits for, signals and timers.

A durable job's function runs from the top again whenever what it waits for has come; the journal gives each earlier
call what it got before. Who writes it:

- the finish of an attempt that suspends, or ends well: all that the attempt added, in the transaction in which its
  children are inserted and the job moves (``record``). What an attempt that fails had not written yet is dropped
  with its children.
- the attempt itself, for what must not be done or drawn twice: a statement of its own, fenced by the claim's row
  (``write``). It may be repeated after a lost reply, since an entry's number is given by whoever holds the claim.

A suspended job has a row in ``waiting`` with ``wake`` set, and edges of the policy 'wake' from the jobs it waits for:

===========  ======================================  =====================================================
waits for    ``wake``, ``deps``                      woken by
===========  ======================================  =====================================================
all of jobs  'all', those that have not ended        the countdown of db/ending.py
any of jobs  'first', 1                              the same: the first of them counts down to zero
a signal     'first', 1; ``signal`` is its name      ``wake_signalled``
a sleep      'first', 1                              ``wake_sleepers``; so is any of the above with a limit
===========  ======================================  =====================================================

Being woken decides nothing: the function runs again and finds what has come, or suspends once more. So a timer that is
left over and a signal that comes twice do no harm; only a wake-up that is missed would. Two transactions that pass each
other unseen (the suspension, and the end of a job or the sending of a signal) could miss one. Both sides therefore look
again after they have committed: ``look_again`` here, ``wake_signalled`` in the sender's. What is left (a signal in
a caller's transaction, an end that takes long) the sweeps of the observers find.

Locks: waiting by job id, as everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import msgspec

from fairchild import codec
from fairchild.db import wake
from fairchild.db.connect import Link
from fairchild.db.enqueue import INSERT_EDGES, unknown_upstreams
from fairchild.db.settle import read_results, recount, settle
from fairchild.db.statement import Sql
from fairchild.errors import UnknownJob
from fairchild.job import Job
from fairchild.rules.replay import Entry, History, Known, Sent, to_json

WAKE_BATCH = 1000


@dataclass(slots=True)
class Wait:
    """What a suspended job waits for: jobs (all, or the ``first``), a signal, a time, or the first of these."""

    jobs: list[UUID] = field(default_factory=list)
    first: bool = False
    signal: str | None = None
    timer: int | None = None
    """The number of the journal's entry whose time it is."""


@dataclass(slots=True)
class Progress:
    """What an attempt of a durable job leaves behind: entries to write, and how it goes on.

    ``wait``: it suspends. ``final``: it ended in this state; recorded as such once its children have ended.
    """

    entries: list[Entry]
    wait: Wait | None = None
    final: str | None = None


# The claimer, once for all durable jobs of a claim: what they called before and what has come of it since. Indexes
# fairchild_journal_pkey, fairchild_journal_by_ref, fairchild_jobs_base_pkey, fairchild_signals_pkey.
READ_HISTORY = Sql(
    "read_history",
    """
SELECT job_id, seq, kind, name, hash, ref, value::text, failed, optional,
       extract(epoch FROM wake_at - statement_timestamp())::float8
  FROM {journal} WHERE job_id = ANY(%(ids)s::uuid[])
UNION ALL
SELECT g.job_id, 0, 'ended', coalesce(c.state, 'missing'), coalesce(c.reason, ''), g.ref,
       CASE WHEN c.state = 'completed' THEN c.result::text ELSE (c.errors -> -1)::text END,
       c.state IS DISTINCT FROM 'completed', false, extract(epoch FROM c.ended_at)::float8
  FROM {journal} g
  LEFT JOIN LATERAL (SELECT state, reason, result, errors, ended_at FROM {jobs} WHERE id = g.ref OFFSET 0) c ON true
 WHERE g.job_id = ANY(%(ids)s::uuid[]) AND g.kind IN ('call', 'await') AND c.state IS DISTINCT FROM 'pending'
   AND (SELECT true FROM {journal} o WHERE o.ref = g.ref AND o.job_id = g.job_id AND o.kind = 'result' LIMIT 1) IS NULL
UNION ALL
SELECT s.job_id, 0, 'sent', s.name, '', s.id, s.payload::text, false, false, NULL
  FROM {signals} s
 WHERE s.job_id = ANY(%(ids)s::uuid[])
   AND (SELECT true FROM {journal} o WHERE o.ref = s.id AND o.job_id = s.job_id LIMIT 1) IS NULL
UNION ALL
SELECT id, 0, 'begun', '', '', NULL, NULL, claim_id IS NOT NULL, false,
       extract(epoch FROM statement_timestamp())::float8
  FROM {jobs} WHERE id = ANY(%(ids)s::uuid[])""",
)

_ENTRIES = """json_to_recordset(%(entries)s::json) AS e(
  job_id uuid, seq int, kind text, name text, hash text, ref uuid, kept boolean, value json, failed boolean,
  optional boolean, delay float8)"""
_COLUMNS = "(job_id, seq, kind, name, hash, ref, value, failed, optional, wake_at)"
_VALUES = """e.seq, e.kind, e.name, e.hash, e.ref,
       CASE WHEN e.kept THEN coalesce(e.value, 'null'::json) END, e.failed, e.optional,
       statement_timestamp() + e.delay * interval '1 second'"""

# A running durable job, for each step. Index fairchild_claims_pkey; the claim stays where it is until this is
# committed, so no other attempt can have begun before. Whether it was still ours.
WRITE_ENTRIES = Sql(
    "write_entries",
    """
WITH held AS MATERIALIZED (
  SELECT job_id FROM {claims} WHERE job_id = %(job)s::uuid AND claim_id = %(claim_id)s::uuid FOR SHARE),
kept AS (
  INSERT INTO {journal} """
    + _COLUMNS
    + """
  SELECT h.job_id, """
    + _VALUES
    + """
    FROM held h CROSS JOIN """
    + _ENTRIES
    + """
  ON CONFLICT (job_id, seq) DO NOTHING)
SELECT job_id FROM held""",
)

# The finish of durable attempts.
RECORD_ENTRIES = Sql(
    "record_entries", "INSERT INTO {journal} " + _COLUMNS + " SELECT e.job_id, " + _VALUES + " FROM " + _ENTRIES
)
# The rows in waiting are those that the finish has just inserted.
SUSPEND = Sql(
    "suspend",
    """
WITH input AS MATERIALIZED (
  SELECT * FROM jsonb_to_recordset(%(waits)s::jsonb) AS t(
    job_id uuid, ran boolean, wake text, signal text, final text, timer int)),
changed AS (
  UPDATE {waiting} w
     SET ran = i.ran, settle = false, late = true, wake = i.wake, signal = i.signal, final = i.final
    FROM input i WHERE w.job_id = ANY(ARRAY(SELECT job_id FROM input)) AND w.job_id = i.job_id),
old AS (
  DELETE FROM {edges} WHERE downstream = ANY(ARRAY(SELECT job_id FROM input)) AND policy = 'wake'),
gone AS (
  DELETE FROM {timers} WHERE job_id = ANY(ARRAY(SELECT job_id FROM input)))
SELECT 1""",
)
SET_TIMERS = Sql(
    "set_timers",
    """
INSERT INTO {timers} (job_id, wake_at)
SELECT g.job_id, g.wake_at
  FROM jsonb_to_recordset(%(waits)s::jsonb) AS t(job_id uuid, timer int)
 CROSS JOIN LATERAL (
   SELECT job_id, wake_at FROM {journal} WHERE job_id = t.job_id AND seq = t.timer OFFSET 0) g""",
)

# From suspended jobs that hold their place (locked) to available ones.
_RISE = """
locked AS MATERIALIZED (
  SELECT job_id FROM {waiting} WHERE job_id = ANY(ARRAY(SELECT job_id FROM picked)) AND wake IS NOT NULL
   ORDER BY job_id FOR UPDATE),
freed AS (
  DELETE FROM {waiting} WHERE job_id = ANY(ARRAY(SELECT job_id FROM locked)) RETURNING job_id),
promoted AS (
  INSERT INTO {ready} (queue, priority, job_id, tenant, task)
  SELECT queue, priority, id, tenant, task FROM {jobs} WHERE id = ANY(ARRAY(SELECT job_id FROM freed)) ORDER BY id
  RETURNING job_id),
woken AS (
  SELECT pg_notify(%(channel)s, '') FROM (SELECT count(*) AS n FROM promoted) p
   WHERE p.n > %(room)s AND pg_try_advisory_xact_lock(%(gate)s))
SELECT (SELECT count(*) FROM promoted)::int, (SELECT count(*) FROM woken)::int"""

# Any worker, when the earliest timer's time has come. Index fairchild_timers_by_time.
WAKE_SLEEPERS = Sql(
    "wake_sleepers",
    """
WITH picked AS MATERIALIZED (
  SELECT job_id FROM {timers} WHERE wake_at <= statement_timestamp() ORDER BY wake_at LIMIT %(most)s
     FOR UPDATE SKIP LOCKED),
gone AS (
  DELETE FROM {timers} WHERE job_id = ANY(ARRAY(SELECT job_id FROM picked))),"""
    + _RISE,
)

# Whoever has sent a signal on a connection of ours, and every worker after a suspension. Index fairchild_signals_pkey.
_SIGNALLED = """
    FROM {waiting} w
   WHERE w.signal IS NOT NULL AND %s AND EXISTS (
     SELECT 1 FROM {signals} s WHERE s.job_id = w.job_id AND s.name = w.signal
        AND (SELECT true FROM {journal} o WHERE o.ref = s.id AND o.job_id = s.job_id LIMIT 1) IS NULL)"""
WAKE_SIGNALLED = Sql(
    "wake_signalled",
    """
WITH picked AS MATERIALIZED (
  SELECT w.job_id"""
    + _SIGNALLED % "w.job_id = ANY(%(ids)s::uuid[])"
    + "),"
    + _RISE,
)
# Every worker, once an interval, and when it hears that a signal was sent. Index fairchild_waiting_for_signal.
FIND_SIGNALLED = Sql("find_signalled", "SELECT w.job_id" + _SIGNALLED % "true" + " LIMIT 1000")

# fc.signal(). In a caller's transaction nobody can wake the job before the commit, so the workers are told to look.
SEND_SIGNAL = Sql(
    "send_signal",
    """
WITH sent AS (
  INSERT INTO {signals} (job_id, id, name, payload)
  SELECT id, %(signal)s::uuid, %(name)s, %(payload)s::jsonb FROM {jobs} WHERE id = %(job)s::uuid AND state = 'pending'
  ON CONFLICT DO NOTHING
  RETURNING job_id)
SELECT state, (SELECT count(*) FROM (SELECT pg_notify(%(channel)s, %(told)s) FROM sent WHERE %(tell)s) n)
  FROM {jobs} WHERE id = %(job)s::uuid""",
)


FAST_FORWARD = Sql(
    "fast_forward",
    """
WITH due AS (UPDATE {due} SET run_at = run_at - %(seconds)s * interval '1 second'),
timers AS (UPDATE {timers} SET wake_at = wake_at - %(seconds)s * interval '1 second')
UPDATE {journal} SET wake_at = wake_at - %(seconds)s * interval '1 second' WHERE wake_at IS NOT NULL""",
)
READ_REFS = Sql("read_refs", "SELECT refs FROM {jobs} WHERE id = %(id)s::uuid")


def read(link: Link, ids: Sequence[UUID]) -> dict[UUID, History]:
    """What each of these jobs has called before, and what has come of it; one statement whatever their number."""
    found = {job_id: History() for job_id in ids}
    rows = link.rows(READ_HISTORY, {"ids": list(ids)})
    for job_id, seq, kind, name, digest, ref, text, failed, optional, seconds in rows:
        value = None if text is None else text.encode()
        if kind == "ended":
            found[job_id].ended.append(Known(ref, name, digest or None, value, failed, seconds))
        elif kind == "sent":
            found[job_id].signals.append(Sent(ref, name, value or b"null"))
        elif kind == "begun":
            found[job_id].begun, found[job_id].now = failed, seconds
        else:
            entry = Entry(kind, name, digest, ref, value, failed, None, seq, seconds, optional)
            found[job_id].entries.append(entry)
    for history in found.values():
        history.entries.sort(key=lambda entry: entry.seq)
        history.ended.sort(key=lambda known: (known.at or 0.0, known.job_id.int))
        history.signals.sort(key=lambda sent: sent.id.int)
    return found


def export(link: Link, job: Job) -> dict[str, Any]:
    """A job's history and arguments, with the values of its upstreams in their places, in JSON's own types."""
    stored = job.args
    rows = link.rows(READ_REFS, {"id": job.id})
    refs = [] if not rows or rows[0][0] is None else codec.decode(rows[0][0])
    values = read_results(link, [UUID(reference) for _, reference, *_ in refs]) if refs else {}
    for path, reference, *_ in refs:
        value = values.get(UUID(reference), ("", None, ""))[1]
        stored = codec.place(stored, path, None if value is None else codec.decode(value))
    history = to_json(read(link, [job.id])[job.id])
    return {"job_id": str(job.id), "task": job.task, "args": stored, **history}


def write(link: Link, job_id: UUID, claim_id: UUID, entries: list[Entry]) -> bool:
    """Write entries of a running attempt; whether it still holds its claim, without which nothing is written."""
    params = {"job": job_id, "claim_id": claim_id, "entries": _document([(job_id, each) for each in entries])}
    return bool(link.rows(WRITE_ENTRIES, params))


def record(link: Link, ended: dict[UUID, Progress], waiting: set[UUID]) -> list[UUID]:
    """Write what durable attempts have left behind, in the transaction that has just moved their jobs.

    ``waiting``: those that it moved there. The jobs that are to be settled. Raises UnknownJob if one waits for a job
    that does not exist.
    """
    entries = [(job_id, each) for job_id, progress in ended.items() for each in progress.entries]
    if entries:
        link.rows(RECORD_ENTRIES, {"entries": _document(entries)})
    if not waiting:
        return []
    awaited = {each for progress in ended.values() if progress.wait is not None for each in progress.wait.jobs}
    if missing := unknown_upstreams(link, awaited):
        raise UnknownJob(f"a durable job would wait for {min(missing)}, but no job has this id; it was not suspended")
    waits = []
    edges = []
    for job_id in waiting.intersection(ended):
        progress = ended[job_id]
        wait = progress.wait
        row: dict[str, Any] = {"job_id": job_id, "ran": wait is None, "final": progress.final}
        if wait is not None:
            row["wake"] = "first" if wait.first else "all"
            row["signal"] = wait.signal
            row["timer"] = wait.timer
            edges += [{"upstream": each, "downstream": job_id, "policy": "wake"} for each in wait.jobs]
        waits.append(row)
    document = msgspec.json.encode(waits).decode()
    link.rows(SUSPEND, {"waits": document})
    if edges:
        link.rows(INSERT_EDGES, {"edges": msgspec.json.encode(edges).decode()})
    if any(row.get("timer") is not None for row in waits):
        link.rows(SET_TIMERS, {"waits": document})
    return recount(link, [row["job_id"] for row in waits])


def look_again(link: Link, ids: Sequence[UUID]) -> None:
    """After a commit: wake those of these jobs whose awaited jobs or signals came in the very moment."""
    with link.atomic():
        settle(link, recount(link, list(ids)))
        wake_signalled(link, ids)


def wake_sleepers(link: Link, room: int = 0) -> int:
    """Make a batch of jobs available whose timer has run out; how many."""
    woken: int = link.rows(WAKE_SLEEPERS, {"most": WAKE_BATCH, **wake.wake_params(link.schema, room)})[0][0]
    return woken


def wake_signalled(link: Link, ids: Sequence[UUID]) -> int:
    """Make those of these jobs available for which the signal that they wait for is there; how many."""
    woken: int = link.rows(WAKE_SIGNALLED, {"ids": list(ids), **wake.wake_params(link.schema)})[0][0]
    return woken


def sweep(link: Link) -> int:
    """Wake the jobs whose signal came in a transaction that nobody could see; how many."""
    found = [row[0] for row in link.rows(FIND_SIGNALLED)]
    return wake_signalled(link, found) if found else 0


def fast_forward(link: Link, seconds: float) -> None:
    """As if so much time had passed for what is scheduled and what sleeps. For tests."""
    link.rows(FAST_FORWARD, {"seconds": seconds})


def send(link: Link, job_id: UUID, signal: UUID, name: str, payload: bytes) -> str | None:
    """Keep a signal for a job that has not ended, and wake it if it waits for it.

    The state in the job's row: a job that has ended gets none. None: no job has this id.
    """
    told = {"channel": wake.channel(link.schema), "told": wake.SIGNAL, "tell": not link.owned}
    params = {"job": job_id, "signal": signal, "name": name, "payload": payload.decode(), **told}
    rows = link.rows(SEND_SIGNAL, params)
    if not rows:
        return None
    if link.owned:
        wake_signalled(link, [job_id])
    return str(rows[0][0])


def _document(entries: list[tuple[UUID, Entry]]) -> str:
    rows = [
        {
            "job_id": job_id,
            "seq": each.seq,
            "kind": each.kind,
            "name": each.name,
            "hash": each.hash,
            "ref": each.ref,
            "kept": each.value is not None,
            "value": None if each.value is None else msgspec.Raw(each.value),
            "failed": each.failed,
            "optional": each.optional,
            "delay": each.delay,
        }
        for job_id, each in entries
    ]
    return msgspec.json.encode(rows).decode()
