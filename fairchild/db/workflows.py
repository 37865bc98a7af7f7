"""Reading workflows as a whole: which there are, how far they are, and what waits for what in them."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from fairchild.db.connect import Link
from fairchild.db.statement import Sql

# Pages and lists. A loose scan of fairchild_jobs_by_workflow from the newest on: a step per workflow, however large.
LIST_WORKFLOWS = Sql(
    "list_workflows",
    """
WITH RECURSIVE w AS (
  (SELECT workflow_id AS id, 1 AS n FROM {jobs}
    WHERE parent_id IS NOT NULL AND workflow_id < %(before)s::uuid ORDER BY workflow_id DESC LIMIT 1)
  UNION ALL
  SELECT (SELECT workflow_id FROM {jobs}
           WHERE parent_id IS NOT NULL AND workflow_id < w.id ORDER BY workflow_id DESC LIMIT 1), w.n + 1
    FROM w WHERE w.id IS NOT NULL AND w.n < %(most)s)
SELECT id FROM w WHERE id IS NOT NULL""",
)

# Somebody looks at a workflow. Reads its part of fairchild_jobs_by_workflow, then the small tables by job id.
COUNT_STATES = Sql(
    "count_states",
    """
SELECT workflow_id, state, count(*) FROM {view}
 WHERE workflow_id = ANY(%(ids)s::uuid[]) AND parent_id IS NOT NULL GROUP BY workflow_id, state""",
)
# The roots themselves. Primary keys.
ROOT_STATES = Sql("root_states", "SELECT id, state FROM {view} WHERE id = ANY(%(ids)s::uuid[])")
# Index fairchild_edges_by_downstream.
EDGES_INTO = Sql(
    "edges_into",
    "SELECT upstream, downstream, policy FROM {edges} WHERE downstream = ANY(%(ids)s::uuid[]) ORDER BY 1, 2",
)

# A page of what one job waits for, and of what waits for it. The first reads all edges of that job, as many as it was
# made with; the sub-select keeps it from walking fairchild_edges_pkey in order, which reads those of all jobs.
LIST_UPSTREAMS = Sql(
    "list_upstreams",
    """
SELECT upstream FROM (SELECT upstream FROM {edges} WHERE downstream = %(id)s::uuid OFFSET 0) e
 WHERE upstream > %(after)s::uuid ORDER BY upstream LIMIT %(most)s""",
)
LIST_DOWNSTREAMS = Sql(
    "list_downstreams",
    """
SELECT downstream FROM {edges} WHERE upstream = %(id)s::uuid AND downstream > %(after)s::uuid
 ORDER BY downstream LIMIT %(most)s""",
)
COUNT_RELATIVES = Sql(
    "count_relatives",
    """
SELECT coalesce((SELECT CASE WHEN ran THEN 0 ELSE deps END FROM {waiting} WHERE job_id = %(id)s::uuid), 0),
       (SELECT count(*) FROM (SELECT FROM {edges} WHERE upstream = %(id)s::uuid LIMIT %(most)s) d)""",
)

_NEWEST = UUID(int=2**128 - 1)


class Relatives(NamedTuple):
    """How many jobs a job still waits for, and how many wait or waited for it: no more than were asked for."""

    waits_for: int
    dependents: int


class Edge(NamedTuple):
    """``downstream`` waits for ``upstream``; ``policy`` 'need' if it needs its success."""

    upstream: UUID
    downstream: UUID
    policy: str


def list_workflows(link: Link, before: UUID | None, most: int) -> list[UUID]:
    """Ids of workflows of more than one job, newest first: those before ``before``, at most ``most``."""
    rows = link.rows(LIST_WORKFLOWS, {"before": _NEWEST if before is None else before, "most": most})
    return [row[0] for row in rows]


def count_states(link: Link, ids: list[UUID], *, roots: bool = True) -> dict[UUID, dict[str, int]]:
    """How many jobs of each workflow are in which state, the root among them or not."""
    counts: dict[UUID, dict[str, int]] = {each: {} for each in ids}
    for root, state, number in link.rows(COUNT_STATES, {"ids": ids}):
        counts[root][state] = int(number)
    for root, state in link.rows(ROOT_STATES, {"ids": ids}) if roots else ():
        counts[root][state] = counts[root].get(state, 0) + 1
    return counts


def edges_into(link: Link, ids: list[UUID]) -> list[Edge]:
    """What these jobs wait or waited for."""
    return [Edge(*row) for row in link.rows(EDGES_INTO, {"ids": ids})]


def list_upstreams(link: Link, id: UUID, after: UUID, most: int) -> list[UUID]:
    """What a job waits or waited for, in the order of ids: those behind ``after``."""
    return [row[0] for row in link.rows(LIST_UPSTREAMS, {"id": id, "after": after, "most": most})]


def list_downstreams(link: Link, id: UUID, after: UUID, most: int) -> list[UUID]:
    """What waits or waited for a job, likewise."""
    return [row[0] for row in link.rows(LIST_DOWNSTREAMS, {"id": id, "after": after, "most": most})]


def count_relatives(link: Link, id: UUID, most: int) -> Relatives:
    """How many there are of both; of dependents at most ``most`` are counted."""
    return Relatives(*link.rows(COUNT_RELATIVES, {"id": id, "most": most})[0])
