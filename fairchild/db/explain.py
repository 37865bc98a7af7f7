"""Why a job does not run: asked of the same tables, by the same conditions, as the claim.

A blocker is named exactly when no claim that is made now would take the job. The facts are read in one statement, so
they belong to one moment.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from fairchild.db.claim import AT_WORK, NOT_PAUSED
from fairchild.db.connect import Link
from fairchild.db.statement import Sql

MOST_AHEAD = 10_000
MOST_ENTRIES = 1000
"""Of the audit log, in which whoever paused the queue is looked for."""

# A person who looks at a job, or a page. Primary keys; fairchild_ready_for_claim for the lane of the job and those
# before it, of which at most ten thousand rows are counted.
READ_FACTS = Sql(
    "read_facts",
    """
WITH job AS (SELECT id, task, queue, priority FROM {jobs} WHERE id = %(id)s::uuid),
lane AS MATERIALIZED (
  SELECT r.queue, r.priority, r.seq, r.at FROM job j
    JOIN {ready} r ON r.queue = j.queue AND r.priority = j.priority AND r.job_id = j.id),
takers AS (
  SELECT s.name, s.queues, j.queue AS queue,
         EXISTS (SELECT FROM jsonb_array_elements(c.schemas) AS t(task)
                  WHERE t.task->>'name' = j.task OR t.task->'aliases' ? j.task) AS knows
    FROM job j CROSS JOIN {sessions} s LEFT JOIN {catalogs} c ON c.hash = s.catalog
   WHERE """
    + AT_WORK
    + """ AND s.beat_at > statement_timestamp() - make_interval(secs => s.lease_seconds))
SELECT v.state, v.task, v.queue, v.reason, v.scheduled_at,
       date_part('epoch', v.scheduled_at - statement_timestamp()),
       v.attempt, v.errors = '[]'::jsonb,
       w.deps, w.children, w.ran,
       ARRAY(SELECT e.upstream FROM {edges} e JOIN {jobs} u ON u.id = e.upstream
              WHERE e.downstream = v.id AND u.state = 'pending' ORDER BY e.upstream LIMIT 20),
       ARRAY(SELECT c.id FROM {jobs} c WHERE c.workflow_id = v.workflow_id AND c.parent_id = v.id
                AND c.parent_id IS NOT NULL AND c.state = 'pending' ORDER BY c.id LIMIT 20),
       """
    + NOT_PAUSED.replace("{queue}", "v.queue")
    + """,
       (SELECT count(*) FROM takers WHERE knows AND (queues IS NULL OR queue = ANY(queues))),
       (SELECT count(*) FROM takers WHERE knows),
       (SELECT count(*) FROM takers),
       (SELECT at FROM lane),
       (SELECT count(*) FROM (
          SELECT FROM lane l CROSS JOIN LATERAL (
            SELECT FROM generate_series(0, l.priority) AS p CROSS JOIN LATERAL (
              SELECT FROM {ready} r WHERE r.queue = l.queue AND r.priority = p::smallint
                 AND (p < l.priority OR r.seq < l.seq) ORDER BY r.seq LIMIT %(most)s::int) x) y
           LIMIT %(most)s::int) z),
       v.worker, s.name, s.hostname, date_part('epoch', statement_timestamp() - s.beat_at),
       q.paused_at,
       (SELECT a.who FROM (SELECT at, who, action, target FROM {audit} ORDER BY id DESC LIMIT %(entries)s::int) a
         WHERE q.paused_at IS NOT NULL AND a.target = v.queue AND a.action IN ('pause queue', 'queues:pause')
           AND a.at BETWEEN q.paused_at AND q.paused_at + interval '10 seconds' ORDER BY a.at LIMIT 1)
  FROM {view} v LEFT JOIN {waiting} w ON w.job_id = v.id LEFT JOIN {sessions} s ON s.id = v.worker
  LEFT JOIN {queues} q ON q.name = v.queue WHERE v.id = %(id)s::uuid""",
)


class Facts(NamedTuple):
    """What is known of a job at one moment. ``takers``: live workers that know its task and take from its queue."""

    state: str
    task: str
    queue: str
    reason: str | None
    scheduled_at: datetime | None
    due_seconds: float | None
    attempt: int
    clean: bool
    """No attempt of it has gone wrong."""
    deps: int | None
    children: int | None
    ran: bool | None
    upstreams: list[UUID]
    open_children: list[UUID]
    active: bool
    """Its queue is not paused."""
    takers: int
    knowing: int
    at_work: int
    available_at: datetime | None
    ahead: int
    worker: UUID | None
    worker_name: str | None
    worker_host: str | None
    beat_seconds: float | None
    paused_at: datetime | None
    paused_by: str | None


def read_facts(link: Link, id: UUID) -> Facts | None:
    """The facts of a job; None if there is no such job."""
    rows: list[Any] = link.rows(READ_FACTS, {"id": id, "most": MOST_AHEAD, "entries": MOST_ENTRIES})
    return Facts(*rows[0]) if rows else None
