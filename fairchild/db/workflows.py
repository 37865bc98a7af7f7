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

# The list of workflows, a stretch of it, from one on back or forth, and which of them pass. The same steps, and of each
# root its primary key. Who asks bounds how many are looked at: what few have in common is not found at once.
_WALK = """
WITH RECURSIVE w AS (
  (SELECT workflow_id AS id, 1 AS n FROM {{jobs}}
    WHERE parent_id IS NOT NULL AND workflow_id {0} %(from)s::uuid AND workflow_id >= %(floor)s::uuid
    ORDER BY workflow_id {1} LIMIT 1)
  UNION ALL
  SELECT (SELECT workflow_id FROM {{jobs}}
           WHERE parent_id IS NOT NULL AND workflow_id {0} w.id AND workflow_id >= %(floor)s::uuid
           ORDER BY workflow_id {1} LIMIT 1), w.n + 1
    FROM w WHERE w.id IS NOT NULL AND w.n < %(most)s)
SELECT w.id,
       v.id IS NOT NULL AND v.task ILIKE coalesce(%(name)s::text, '%%') AND v.task = coalesce(%(task)s::text, v.task)
         AND v.tenant = coalesce(%(tenant)s::text, v.tenant) AND v.state = coalesce(%(state)s::text, v.state)
  FROM w LEFT JOIN LATERAL (SELECT id, task, tenant, state FROM {{view}} WHERE id = w.id OFFSET 0) v ON true
 WHERE w.id IS NOT NULL ORDER BY w.n"""
WALK_OLDER = Sql("walk_older_workflows", _WALK.format("<", "DESC"))
WALK_NEWER = Sql("walk_newer_workflows", _WALK.format(">", "ASC"))
# The same list: of each workflow so many jobs as are looked at, not all.
COUNT_SOME = Sql(
    "count_some",
    """
SELECT w.id, j.state, count(*), max(j.depth)
  FROM unnest(%(ids)s::uuid[]) AS w(id)
 CROSS JOIN LATERAL (
   SELECT CASE WHEN b.state <> 'pending' THEN b.state
               WHEN c.job_id IS NOT NULL THEN 'running'
               WHEN d.job_id IS NOT NULL THEN CASE WHEN b.attempt > 0 THEN 'retrying' ELSE 'scheduled' END
               WHEN q.job_id IS NOT NULL THEN 'waiting'
               ELSE 'available' END AS state, b.depth
     FROM (SELECT id, state, attempt, depth FROM {jobs}
            WHERE workflow_id = w.id AND parent_id IS NOT NULL LIMIT %(most)s::bigint) b
     LEFT JOIN {claims} c ON c.job_id = b.id
     LEFT JOIN {due} d ON d.job_id = b.id
     LEFT JOIN {waiting} q ON q.job_id = b.id) j
 GROUP BY w.id, j.state""",
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


class Wanted(NamedTuple):
    """Which workflows: all that have these, where they are not None. ``name`` is a part of the root's task."""

    name: str | None = None
    task: str | None = None
    tenant: str | None = None
    state: str | None = None
    since: UUID = UUID(int=0)
    """Those of this id and later."""


class Some(NamedTuple):
    """Jobs of a workflow by state, of all or of as many as were looked at, and how deep they go."""

    counts: dict[str, int]
    depth: int
    capped: bool


def walk(link: Link, wanted: Wanted, start: UUID | None, most: int, *, newer: bool) -> list[tuple[UUID, bool]]:
    """The next ``most`` workflows from ``start`` on, back or forth, and whether each is wanted."""
    escape = str.maketrans({"\\": r"\\", "%": r"\%", "_": r"\_"})
    params = {
        "from": _NEWEST if start is None else start, "floor": wanted.since, "most": most, "task": wanted.task,
        "name": None if wanted.name is None else f"%{wanted.name.translate(escape)}%", "tenant": wanted.tenant,
        "state": wanted.state,
    }  # fmt: skip
    return [(row[0], row[1]) for row in link.rows(WALK_NEWER if newer else WALK_OLDER, params)]


def count_some(link: Link, ids: list[UUID], most: int) -> dict[UUID, Some]:
    """How many jobs below each root are in which state: of at most ``most`` of each."""
    found = {each: Some({}, 0, capped=False) for each in ids}
    for root, state, number, depth in link.rows(COUNT_SOME, {"ids": ids, "most": most}):
        found[root].counts[state] = int(number)
        found[root] = found[root]._replace(depth=max(found[root].depth, depth))
    return {root: some._replace(capped=sum(some.counts.values()) >= most) for root, some in found.items()}


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
