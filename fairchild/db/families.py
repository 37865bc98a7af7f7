"""Workflows as wholes: their roots, how far they are, and what waits for what in them."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from fairchild.db.connect import Link
from fairchild.db.statement import Sql

LAST_ID = UUID(int=2**128 - 1)

# A page. Index fairchild_jobs_by_workflow, of jobs with a parent alone: one step for each workflow, newest first,
# however many jobs it has and however many jobs there are without any.
LIST_ROOTS = Sql(
    "list_roots",
    """
WITH RECURSIVE root AS (
  (SELECT workflow_id AS id, 1 AS n FROM {jobs}
    WHERE parent_id IS NOT NULL AND workflow_id < %(cursor)s::uuid ORDER BY workflow_id DESC LIMIT 1)
  UNION ALL
  SELECT (SELECT workflow_id FROM {jobs}
           WHERE parent_id IS NOT NULL AND workflow_id < root.id ORDER BY workflow_id DESC LIMIT 1), n + 1
    FROM root WHERE root.id IS NOT NULL AND n < %(most)s::int)
SELECT id FROM root WHERE id IS NOT NULL ORDER BY id DESC""",
)
# The states of all their jobs. Index fairchild_jobs_by_workflow, then the small tables by job id.
COUNT_STATES = Sql(
    "count_states",
    """
SELECT v.workflow_id, v.state, count(*) FROM {view} v
 WHERE v.workflow_id = ANY(%(ids)s::uuid[]) AND v.parent_id IS NOT NULL GROUP BY v.workflow_id, v.state
UNION ALL
SELECT v.id, v.state, 1 FROM {view} v WHERE v.id = ANY(%(ids)s::uuid[])""",
)
# Index fairchild_edges_by_downstream.
EDGES_INTO = Sql(
    "edges_into",
    "SELECT upstream, downstream, policy FROM {edges} WHERE downstream = ANY(%(ids)s::uuid[]) ORDER BY 1, 2",
)


class Edge(NamedTuple):
    """``downstream`` waits for ``upstream``; ``policy`` 'need' if it needs its success."""

    upstream: UUID
    downstream: UUID
    policy: str


def list_roots(link: Link, cursor: UUID | None, most: int) -> list[UUID]:
    """The roots of workflows with more than one job, newest first, older than ``cursor``."""
    return [row[0] for row in link.rows(LIST_ROOTS, {"cursor": cursor or LAST_ID, "most": most})]


def count_states(link: Link, ids: list[UUID]) -> dict[UUID, dict[str, int]]:
    """How many jobs of each workflow are in which state."""
    counts: dict[UUID, dict[str, int]] = {}
    for root, state, n in link.rows(COUNT_STATES, {"ids": ids}):
        own = counts.setdefault(root, {})
        own[state] = own.get(state, 0) + n
    return counts


def edges_into(link: Link, ids: list[UUID]) -> list[Edge]:
    """What these jobs wait or waited for."""
    return [Edge(*row) for row in link.rows(EDGES_INTO, {"ids": ids})]
