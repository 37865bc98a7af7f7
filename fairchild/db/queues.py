"""What is set for a queue, and how long its jobs have waited."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from fairchild.db import wake
from fairchild.db.connect import Link
from fairchild.db.enqueue import NOTIFY
from fairchild.db.events import tell_others
from fairchild.db.statement import Sql

# The tables as they were before the statement say whether it changes anything.
PAUSE_QUEUE = Sql(
    "pause_queue",
    """
WITH paused AS (
  INSERT INTO {queues} AS q (name, paused_at, paused_by) VALUES (%(name)s, statement_timestamp(), %(who)s)
  ON CONFLICT (name) DO UPDATE
     SET paused_by = CASE WHEN q.paused_at IS NULL THEN excluded.paused_by ELSE q.paused_by END,
         paused_at = coalesce(q.paused_at, excluded.paused_at)
  RETURNING q.name, q.paused_by),
"""
    + tell_others(
        "told", "paused p", "'queue_paused'", "'queue', name, 'by', paused_by",
        "NOT EXISTS (SELECT FROM {queues} b WHERE b.name = p.name AND b.paused_at IS NOT NULL)",
    )
    + "\nSELECT NOT EXISTS (SELECT FROM {queues} WHERE name = %(name)s AND paused_at IS NOT NULL)",
)  # fmt: skip
RESUME_QUEUE = Sql(
    "resume_queue",
    """
WITH resumed AS (
  UPDATE {queues} SET paused_at = NULL, paused_by = NULL WHERE name = %(name)s AND paused_at IS NOT NULL
  RETURNING name),
"""
    + tell_others("told", "resumed", "'queue_resumed'", "'queue', name")
    + "\nSELECT EXISTS (SELECT FROM resumed)",
)

# A page, at most once a second. The oldest of each lane is its first: index fairchild_ready_for_claim.
READ_QUEUES = Sql(
    "read_queues",
    """
SELECT n.name, q.paused_at, q.paused_by,
       (SELECT min(h.at) FROM generate_series(0, 9) AS p CROSS JOIN LATERAL (
          SELECT at FROM {ready} WHERE queue = n.name AND priority = p::smallint ORDER BY seq LIMIT 1) h),
       date_part('epoch', statement_timestamp() - (
        SELECT min(h.at) FROM generate_series(0, 9) AS p CROSS JOIN LATERAL (
          SELECT at FROM {ready} WHERE queue = n.name AND priority = p::smallint ORDER BY seq LIMIT 1) h)),
       (SELECT count(*) FROM {sessions} s
         WHERE s.state = 'running' AND s.beat_at > statement_timestamp() - make_interval(secs => s.lease_seconds)
           AND (s.queues IS NULL OR n.name = ANY(s.queues)))
  FROM (SELECT unnest(%(names)s::text[]) AS name UNION SELECT name FROM {queues}) n
  LEFT JOIN {queues} q ON q.name = n.name ORDER BY n.name""",
)


# The page of a queue. A step of fairchild_ready_for_claim for each priority; in a lane the longest waiting come first.
LONGEST_WAITING = Sql(
    "longest_waiting",
    """
SELECT h.job_id, h.at FROM generate_series(0, 9) AS p CROSS JOIN LATERAL (
  SELECT job_id, at FROM {ready} WHERE queue = %(name)s::text AND priority = p::smallint ORDER BY seq
   LIMIT %(most)s::int) h
 ORDER BY h.at, h.job_id LIMIT %(most)s::int""",
)
COUNT_PRIORITIES = Sql(
    "count_priorities",
    """
SELECT p, (SELECT count(*) FROM (
         SELECT FROM {ready} WHERE queue = %(name)s::text AND priority = p::smallint LIMIT %(most)s::int + 1) x)
  FROM generate_series(0, 9) AS p""",
)


class QueueFacts(NamedTuple):
    """What is known of a queue besides its counts."""

    name: str
    paused_at: datetime | None
    paused_by: str | None
    """Who asked for that, if they said."""
    oldest_at: datetime | None
    """Since when the job that has been available longest is so."""
    oldest_seconds: float | None
    workers: int


def pause_queue(link: Link, name: str, who: str | None = None) -> bool:
    """Nobody claims from the queue any more. What runs goes on. A pause that there is stays whose it is.

    Whether it was not paused before.
    """
    return bool(link.rows(PAUSE_QUEUE, {"name": name, "who": who})[0][0])


def resume_queue(link: Link, name: str) -> bool:
    """Undo a pause and wake the workers. Whether there was one."""
    with link.atomic():
        resumed = bool(link.rows(RESUME_QUEUE, {"name": name})[0][0])
        link.rows(NOTIFY, {"channel": wake.channel(link.schema), "gated": False, "gate": 0})
    return resumed


def read_queues(link: Link, names: list[str]) -> list[QueueFacts]:
    """Those named, and all of which something is set."""
    return [QueueFacts(*row) for row in link.rows(READ_QUEUES, {"names": names})]


def longest_waiting(link: Link, name: str, most: int) -> list[tuple[UUID, datetime]]:
    """The jobs of a queue that have been available for longest, and since when."""
    return [(job_id, at) for job_id, at in link.rows(LONGEST_WAITING, {"name": name, "most": most})]


def count_priorities(link: Link, name: str, most: int) -> dict[int, int]:
    """How many jobs of each priority are available in a queue, of each up to ``most`` and one more."""
    return {int(p): int(n) for p, n in link.rows(COUNT_PRIORITIES, {"name": name, "most": most}) if n}
