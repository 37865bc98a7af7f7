"""The ledger of a storm: every accepted end of a job is noted by the database itself, and held against what must be.

Invariants, by the names of the fault catalogue: I1 every committed enqueue reaches an end; I2 one accepted end for each
job; I3 one transactional effect for each completed job; I6 attempts within their limits, and none spent by a worker's
death; I8 each parent has exactly its children; I9 nothing is left over at rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

import psycopg

SETUP = """
CREATE TABLE fx_tx (job uuid NOT NULL, attempt int NOT NULL);
CREATE TABLE ends (job uuid NOT NULL, claim uuid, state text NOT NULL, at timestamptz DEFAULT clock_timestamp());
CREATE FUNCTION note_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO ends (job, claim, state) VALUES (NEW.id, NEW.claim_id, NEW.state);
  RETURN NULL;
END $$;
CREATE TRIGGER note_end AFTER UPDATE ON fairchild_jobs_base FOR EACH ROW
  WHEN (OLD.state = 'pending' AND NEW.state <> 'pending') EXECUTE FUNCTION note_end();
"""

VIOLATIONS = {
    "I1 not ended": "SELECT id FROM fairchild_jobs_base WHERE state = 'pending'",
    "I1 did not complete": "SELECT id FROM fairchild_jobs_base WHERE state IN ('failed', 'cancelled')",
    "I2 ended more than once": "SELECT job FROM ends GROUP BY job HAVING count(*) <> 1",
    "I2 ended without a note": """SELECT id FROM fairchild_jobs_base j
        WHERE state <> 'pending' AND NOT EXISTS (SELECT FROM ends e WHERE e.job = j.id AND e.state = j.state)""",
    "I3 not one effect": """SELECT j.id FROM fairchild_jobs_base j LEFT JOIN fx_tx f ON f.job = j.id
        WHERE j.state = 'completed' GROUP BY j.id HAVING count(f.job) <> 1""",
    "I3 effect of nobody": "SELECT job FROM fx_tx EXCEPT SELECT id FROM fairchild_jobs_base",
    "I6 attempts": """SELECT id FROM fairchild_jobs_base
        WHERE attempt <> CASE task WHEN 'storm.flaky' THEN 3 ELSE 1 END""",
    "I8 children": """SELECT p.id FROM fairchild_jobs_base p LEFT JOIN fairchild_jobs_base c ON c.parent_id = p.id
        WHERE p.task = 'storm.workflow' GROUP BY p.id, p.args
       HAVING count(c.id) <> (p.args->>'width')::int + 1""",
    "I9 ready": "SELECT job_id FROM fairchild_ready",
    "I9 claims": "SELECT job_id FROM fairchild_claims",
    "I9 due": "SELECT job_id FROM fairchild_due",
    "I9 waiting": "SELECT job_id FROM fairchild_waiting",
}


@dataclass
class Verdict:
    """What was found; nothing in ``violations`` is how it must be."""

    jobs: int
    violations: dict[str, list[UUID]] = field(default_factory=dict)
    histories: list[str] = field(default_factory=list)


def judge(url: str) -> Verdict:
    """Hold the tables against the invariants; the first jobs of each violation come with their history."""
    with psycopg.connect(url, autocommit=True) as connection:
        counted = connection.execute("SELECT count(*) FROM fairchild_jobs_base").fetchone()
        assert counted is not None
        verdict = Verdict(counted[0])
        for name, query in VIOLATIONS.items():
            found = [row[0] for row in connection.execute(query.encode())]
            if found:
                verdict.violations[name] = found
                verdict.histories.extend(f"{name}: {_history(connection, each)}" for each in found[:3])
        return verdict


def _history(connection: psycopg.Connection[tuple[object, ...]], job: UUID) -> str:
    parts = [f"job {job}"]
    for what, query in (
        ("row", "SELECT task, state, reason, attempt, losses, claim_id, errors FROM fairchild_jobs_base WHERE id = %s"),
        ("ends", "SELECT state, claim, at::text FROM ends WHERE job = %s ORDER BY at"),
        ("effects", "SELECT attempt FROM fx_tx WHERE job = %s"),
        ("claim", "SELECT claim_id, session FROM fairchild_claims WHERE job_id = %s"),
    ):
        parts.append(f"{what} {connection.execute(query.encode(), [job]).fetchall()}")
    return "; ".join(parts)
