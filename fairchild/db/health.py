"""Whether the tables are in order and work gets done: what health checks ask."""

from __future__ import annotations

from fairchild.db.connect import Link
from fairchild.db.statement import Sql

# Cold: the head of each lane, hopping along fairchild_ready_for_claim. Within a lane the oldest comes first.
OLDEST_AVAILABLE = Sql(
    "oldest_available",
    """
WITH RECURSIVE heads AS (
  (SELECT queue, priority, at, 1 AS n FROM {ready} ORDER BY queue, priority, seq LIMIT 1)
  UNION ALL
  SELECT x.queue, x.priority, x.at, h.n + 1 FROM heads h CROSS JOIN LATERAL (
    SELECT queue, priority, at FROM {ready} WHERE (queue, priority) > (h.queue, h.priority)
     ORDER BY queue, priority, seq LIMIT 1) x
   WHERE h.n < 1000)
SELECT queue, extract(epoch FROM statement_timestamp() - at)::float8 FROM heads ORDER BY at LIMIT 1""",
)


def oldest_available(link: Link) -> tuple[str, float] | None:
    """The queue of the job that has been available for longest, and for how many seconds; None if none is."""
    rows = link.rows(OLDEST_AVAILABLE)
    return None if not rows else (rows[0][0], float(rows[0][1]))
