"""What is set for a queue, and how long its jobs have waited."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from fairchild.db import wake
from fairchild.db.connect import Link
from fairchild.db.enqueue import NOTIFY
from fairchild.db.statement import Sql

PAUSE_QUEUE = Sql(
    "pause_queue",
    """
INSERT INTO {queues} (name, paused_at) VALUES (%(name)s, statement_timestamp())
ON CONFLICT (name) DO UPDATE SET paused_at = coalesce({queues}.paused_at, excluded.paused_at)""",
)
RESUME_QUEUE = Sql("resume_queue", "UPDATE {queues} SET paused_at = NULL WHERE name = %(name)s")

# A page, at most once a second. The oldest of each lane is its first: index fairchild_ready_for_claim.
READ_QUEUES = Sql(
    "read_queues",
    """
SELECT n.name, q.paused_at,
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


class QueueFacts(NamedTuple):
    """What is known of a queue besides its counts."""

    name: str
    paused_at: datetime | None
    oldest_at: datetime | None
    """Since when the job that has been available longest is so."""
    oldest_seconds: float | None
    workers: int


def pause_queue(link: Link, name: str) -> None:
    """Nobody claims from the queue any more. What runs goes on."""
    link.rows(PAUSE_QUEUE, {"name": name})


def resume_queue(link: Link, name: str) -> None:
    """Undo a pause and wake the workers."""
    with link.atomic():
        link.rows(RESUME_QUEUE, {"name": name})
        link.rows(NOTIFY, {"channel": wake.channel(link.schema), "gated": False, "gate": 0})


def read_queues(link: Link, names: list[str]) -> list[QueueFacts]:
    """Those named, and all of which something is set."""
    return [QueueFacts(*row) for row in link.rows(READ_QUEUES, {"names": names})]
