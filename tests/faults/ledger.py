"""The ledger: the database itself notes every move of every job, and what it noted is held against what must be.

Triggers on all tables that say where a job is write each entering and leaving to ``history``. A transaction's notes of
one job, taken together, are one edge from the state before to the state after. The jobs bear witness of their own
(see jobs.py). Invariants, by the names of the fault catalogue:

I1 every committed enqueue reaches an end; I2 exactly one accepted end for each job; I3 one transactional effect for
each completed job, by the claim that was accepted, and no claim begins twice; I4 result, children and errors are those
of claims that were accepted; I5 only legal edges, each from where the last one led; I6 attempts and losses within their
limits, and nothing spent by a worker's death; I8 each parent has exactly its children; I9 nothing is left over at rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg

from fairchild.db.lease import MAX_LOSSES
from fairchild.job import TRANSITIONS, JobState

WITNESS_TABLES = """
CREATE TABLE fx (start uuid PRIMARY KEY, job uuid NOT NULL, fence bigint NOT NULL, pid int NOT NULL,
                 at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE INDEX fx_by_job ON fx (job);
CREATE TABLE fx_tx (job uuid NOT NULL, attempt int NOT NULL, fence bigint NOT NULL);
"""

HISTORY = """
CREATE TABLE history (
  n bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(), tx bigint NOT NULL DEFAULT txid_current(),
  job uuid NOT NULL, state text NOT NULL, step int NOT NULL, claim uuid, session uuid, fence bigint);
CREATE FUNCTION note_place() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE place record;
BEGIN
  IF TG_OP = 'INSERT' THEN place := NEW; ELSE place := OLD; END IF;
  IF TG_ARGV[0] = 'running' THEN
    INSERT INTO history (job, state, step, claim, session, fence)
    VALUES (place.job_id, 'running', CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END, place.claim_id, place.session,
            place.fence);
  ELSE
    INSERT INTO history (job, state, step)
    VALUES (place.job_id, TG_ARGV[0], CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END);
  END IF;
  RETURN NULL;
END $$;
CREATE FUNCTION note_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.state <> 'pending' THEN INSERT INTO history (job, state, step) VALUES (OLD.id, OLD.state, -1); END IF;
  IF NEW.state <> 'pending' THEN
    INSERT INTO history (job, state, step, claim) VALUES (NEW.id, NEW.state, 1, NEW.claim_id);
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER note_place AFTER INSERT OR DELETE ON fairchild_ready FOR EACH ROW
  EXECUTE FUNCTION note_place('available');
CREATE TRIGGER note_place AFTER INSERT OR DELETE ON fairchild_claims FOR EACH ROW
  EXECUTE FUNCTION note_place('running');
CREATE TRIGGER note_place AFTER INSERT OR DELETE ON fairchild_due FOR EACH ROW
  EXECUTE FUNCTION note_place('scheduled');
CREATE TRIGGER note_place AFTER INSERT OR DELETE ON fairchild_waiting FOR EACH ROW
  EXECUTE FUNCTION note_place('waiting');
CREATE TRIGGER note_end AFTER UPDATE ON fairchild_jobs_base FOR EACH ROW
  WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION note_end();
"""

SETUP = WITNESS_TABLES + HISTORY

# What each transaction did to each job, and where the one before had left it.
EDGES = """
CREATE TEMPORARY TABLE edges AS
WITH net AS (
  SELECT job, tx, state, sum(step) AS step, min(n) AS n FROM history GROUP BY job, tx, state HAVING sum(step) <> 0),
moved AS (
  SELECT job, tx, min(n) AS n, string_agg(state, ' and ') FILTER (WHERE step < 0) AS old,
         string_agg(state, ' and ') FILTER (WHERE step > 0) AS new FROM net GROUP BY job, tx)
SELECT *, lag(new) OVER (PARTITION BY job ORDER BY n) AS before, row_number() OVER (PARTITION BY job ORDER BY n) AS k
  FROM moved;
CREATE INDEX ON edges (job);
CREATE TEMPORARY TABLE taken AS
SELECT job, claim, session, fence, tx, n FROM history WHERE state = 'running' AND step > 0;
CREATE INDEX ON taken (job, fence);
CREATE INDEX ON taken (claim, job);
ANALYZE edges; ANALYZE taken;
"""

_ENDED = "('completed', 'failed', 'cancelled')"
_PLACES = ("ready", "claims", "due", "waiting")

VIOLATIONS = {
    "I1 not ended": "SELECT id FROM fairchild_jobs_base WHERE state = 'pending'",
    "I1 did not complete": "SELECT id FROM fairchild_jobs_base WHERE state IN ('failed', 'cancelled')",
    "I2 not one accepted end": f"""SELECT j.id FROM fairchild_jobs_base j
        LEFT JOIN edges e ON e.job = j.id AND e.new IN {_ENDED}
        WHERE j.state <> 'pending' GROUP BY j.id, j.state HAVING count(e.new) <> 1 OR min(e.new) <> j.state""",
    "I3 not one effect of the accepted claim": """SELECT j.id FROM fairchild_jobs_base j
        JOIN taken t ON t.job = j.id AND t.claim = j.claim_id LEFT JOIN fx_tx f ON f.job = j.id
        WHERE j.state = 'completed' AND j.task NOT IN ('faults.bare', 'faults.fan')
        GROUP BY j.id, t.fence HAVING count(f.job) <> 1 OR min(f.fence) <> t.fence""",
    "I3 effect of nobody": "SELECT job FROM fx_tx EXCEPT SELECT id FROM fairchild_jobs_base WHERE state = 'completed'",
    "I3 a claim began twice": "SELECT job FROM fx GROUP BY job, fence HAVING count(*) > 1",
    "I3 began without a claim": """SELECT f.job FROM fx f
        WHERE NOT EXISTS (SELECT FROM taken t WHERE t.job = f.job AND t.fence = f.fence)""",
    "I3 accepted and never begun": """SELECT j.id FROM fairchild_jobs_base j
        JOIN taken t ON t.job = j.id AND t.claim = j.claim_id
        WHERE NOT EXISTS (SELECT FROM fx f WHERE f.job = j.id AND f.fence = t.fence)""",
    "I4 recorded under no claim": """SELECT id FROM fairchild_jobs_base j WHERE state = 'completed'
        AND NOT EXISTS (SELECT FROM taken t WHERE t.job = j.id AND t.claim = j.claim_id)""",
    "I4 ended by another claim than it left": f"""SELECT e.job FROM edges e
        JOIN history gone ON gone.job = e.job AND gone.tx = e.tx AND gone.state = 'running' AND gone.step < 0
        JOIN history ended ON ended.job = e.job AND ended.tx = e.tx AND ended.state = e.new AND ended.step > 0
        WHERE e.old = 'running' AND e.new IN {_ENDED} AND gone.claim IS DISTINCT FROM ended.claim""",
    "I4 result of another claim": """SELECT j.id FROM fairchild_jobs_base j
        JOIN taken t ON t.job = j.id AND t.claim = j.claim_id
        WHERE j.state = 'completed' AND j.task <> 'faults.workflow'
          AND (j.result->>1)::bigint IS DISTINCT FROM t.fence""",
    "I4 child of another claim": """SELECT c.id FROM fairchild_jobs_base c
        JOIN fairchild_jobs_base p ON p.id = c.parent_id LEFT JOIN taken t ON t.job = p.id AND t.claim = p.claim_id
        WHERE (c.args->>'parent')::bigint IS DISTINCT FROM t.fence""",
    "I4 error of no claim": """SELECT j.id FROM fairchild_jobs_base j, jsonb_array_elements(j.errors) e
        WHERE e->>'kind' = 'error' AND NOT EXISTS (SELECT FROM fx f WHERE f.job = j.id
          AND f.fence::text = e->>'message')""",
    "I5 not where the last edge led": "SELECT job FROM edges WHERE old IS DISTINCT FROM before",
    "I5 edge that is not legal": f"""SELECT job FROM edges WHERE (CASE WHEN k = 1
        THEN old IS NULL AND new IN ('available', 'scheduled', 'waiting')
        ELSE (old, new) IN (VALUES {", ".join(f"('{a}', '{b}')" for a, bs in TRANSITIONS.items() for b in sorted(bs))})
        END) IS NOT TRUE""",
    "I6 attempts": """SELECT id FROM fairchild_jobs_base
        WHERE attempt <> CASE task WHEN 'faults.flaky' THEN 3 ELSE 1 END
        UNION ALL
        SELECT j.id FROM fairchild_jobs_base j, jsonb_array_elements(j.errors) e
        WHERE e->>'kind' NOT IN ('lost', 'interrupted')
        GROUP BY j.id, j.task HAVING count(*) > CASE j.task WHEN 'faults.flaky' THEN 2 ELSE 0 END""",
    "I6 losses": f"SELECT id FROM fairchild_jobs_base WHERE losses >= {MAX_LOSSES}",
    "I8 children": """SELECT p.id FROM fairchild_jobs_base p LEFT JOIN fairchild_jobs_base c ON c.parent_id = p.id
        WHERE p.task IN ('faults.workflow', 'faults.fan') GROUP BY p.id, p.task, p.args
       HAVING count(c.id) <> (p.args->>'width')::int + CASE p.task WHEN 'faults.workflow' THEN 1 ELSE 0 END""",
    "I8 value": """SELECT id FROM fairchild_jobs_base WHERE task = 'faults.workflow' AND state = 'completed'
        AND (result->>0)::int <> (args->>'n')::int * (args->>'width')::int
                                 + (args->>'width')::int * ((args->>'width')::int - 1) / 2""",
    **{f"I9 {place}": f"SELECT job_id FROM fairchild_{place}" for place in _PLACES},
}

# Of the server, once nothing is to do any more and the workers still run. Each row is text.
UNREST = {
    "I9 idle in transaction for more than 5 s": """SELECT application_name || ': ' || query FROM pg_stat_activity
        WHERE datname = current_database() AND state LIKE 'idle in transaction%'
          AND clock_timestamp() - state_change > interval '5 s'""",
    "I9 advisory locks": """SELECT l.pid::text FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
        WHERE l.locktype = 'advisory' AND a.datname = current_database()
          AND clock_timestamp() - a.state_change > interval '1 s'""",
    "I9 claims of sessions that are over": """SELECT c.job_id::text FROM fairchild_claims c
        LEFT JOIN fairchild_sessions s ON s.id = c.session WHERE s.id IS NULL OR s.state IN ('dead', 'stopped')""",
}

# Once they do not run any more.
CONNECTIONS = """SELECT application_name || ': ' || coalesce(query, '') FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'fairchild:%'"""


@dataclass
class Verdict:
    """What was found; nothing in ``violations`` is how it must be."""

    jobs: int
    completed: int = 0
    effects: int = 0
    claims: int = 0
    starts: int = 0
    edges: int = 0
    violations: dict[str, list[Any]] = field(default_factory=dict)
    histories: list[str] = field(default_factory=list)

    def found(self, *names: str) -> int:
        """How many violations of these invariants."""
        return sum(len(found) for each, found in self.violations.items() if each.split()[0] in names)


def judge(url: str, acknowledged: Sequence[UUID] = ()) -> Verdict:
    """Hold the tables against the invariants; the first jobs of each violation come with their history.

    ``acknowledged``: jobs of which somebody was told that they were enqueued.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in EDGES.split(";"):
            if statement.strip():
                connection.execute(statement.encode())
        verdict = Verdict(*_counts(connection))
        for name, query in VIOLATIONS.items():
            found = [row[0] for row in connection.execute(query.encode())]
            if found:
                _note(connection, verdict, name, found)
        there = {row[0] for row in connection.execute("SELECT id FROM fairchild_jobs_base")}
        if lost := [each for each in acknowledged if each not in there]:
            _note(connection, verdict, "I1 acknowledged and not there", lost)
        return verdict


def _counts(connection: psycopg.Connection[Any]) -> Any:
    row = connection.execute(
        """SELECT (SELECT count(*) FROM fairchild_jobs_base),
                  (SELECT count(*) FROM fairchild_jobs_base WHERE state = 'completed'),
                  (SELECT count(*) FROM fx_tx), (SELECT count(*) FROM taken), (SELECT count(*) FROM fx),
                  (SELECT count(*) FROM edges)"""
    ).fetchone()
    assert row is not None
    return row


def _note(connection: psycopg.Connection[Any], verdict: Verdict, name: str, found: list[UUID]) -> None:
    verdict.violations[name] = found
    verdict.histories.extend(f"{name}: {_history(connection, each)}" for each in found[:3])


def _history(connection: psycopg.Connection[Any], job: UUID) -> str:
    parts = [f"job {job}"]
    for what, query in (
        ("row", "SELECT task, state, reason, attempt, losses, claim_id, errors FROM fairchild_jobs_base WHERE id = %s"),
        ("history", "SELECT at::text, tx, state, step, claim, session, fence FROM history WHERE job = %s ORDER BY n"),
        ("starts", "SELECT at::text, fence, pid FROM fx WHERE job = %s ORDER BY at"),
        ("effects", "SELECT attempt, fence FROM fx_tx WHERE job = %s"),
    ):
        parts.append(f"{what} {connection.execute(query.encode(), [job]).fetchall()}")
    return "; ".join(parts)


PENDING = f"SELECT count(*) FROM fairchild_jobs_base WHERE state NOT IN {_ENDED}"
assert {each.value for each in JobState if each.ended} == {"completed", "failed", "cancelled"}
