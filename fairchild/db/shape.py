"""The shape of a workflow: its jobs in groups, and which groups wait for which, from aggregates alone.

All jobs of a group have the same place in the graph (the group of the parent, the task, the groups depended on), so the
edges of one of them stand for those of all. The size of an answer follows from the program, not from the data.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from fairchild.db.connect import Link
from fairchild.db.statement import Sql

MOST_GROUPS = 5000

# A job that was made without a group is grouped by its depth and task.
_KEY = "coalesce({0}.group_key, hashtextextended({0}.task, {0}.depth))"

# A page or a poll. Index fairchild_jobs_by_workflow; of each job a few columns, of the small tables those it has.
GROUPS = Sql(
    "shape_groups",
    f"""
SELECT {_KEY.format("j")}, j.task, max(j.depth), max(coalesce(j.rank, 0)),
       CASE WHEN j.state <> 'pending' THEN j.state
            WHEN c.job_id IS NOT NULL THEN 'running'
            WHEN d.job_id IS NOT NULL THEN CASE WHEN j.attempt > 0 THEN 'retrying' ELSE 'scheduled' END
            WHEN w.job_id IS NOT NULL THEN 'waiting'
            ELSE 'available' END,
       count(*), (array_agg(j.id ORDER BY j.id))[1], min(j.inserted_at), min(coalesce(c.claimed_at, j.attempted_at)),
       max(j.ended_at),
       extract(epoch FROM avg(j.ended_at - j.attempted_at) FILTER (WHERE j.state = 'completed'))::float8
  FROM {{jobs}} j
  LEFT JOIN {{claims}} c ON c.job_id = j.id
  LEFT JOIN {{due}} d ON d.job_id = j.id
  LEFT JOIN {{waiting}} w ON w.job_id = j.id
 WHERE j.workflow_id = %(id)s::uuid AND j.parent_id IS NOT NULL
 GROUP BY 1, 2, 5 ORDER BY 3, 4, 7 LIMIT {MOST_GROUPS}""",
)
# What a job of each group was called by and waits for. Primary keys, and index fairchild_edges_by_downstream.
LINKS = Sql(
    "shape_links",
    f"""
SELECT s.id, CASE WHEN p.parent_id IS NOT NULL THEN {_KEY.format("p")} END, true
  FROM unnest(%(ids)s::uuid[]) AS s(id) JOIN {{jobs}} j ON j.id = s.id JOIN {{jobs}} p ON p.id = j.parent_id
UNION
SELECT e.downstream, CASE WHEN u.parent_id IS NOT NULL THEN {_KEY.format("u")} END, false
  FROM {{edges}} e JOIN {{jobs}} u ON u.id = e.upstream
 WHERE e.downstream = ANY(%(ids)s::uuid[])
   AND (u.id = %(root)s::uuid OR (u.workflow_id = %(root)s::uuid AND u.parent_id IS NOT NULL))""",
)
# The drawer of a group: those that ended badly first, then in the order in which they were made.
GROUP_JOBS = Sql(
    "shape_group_jobs",
    f"""
SELECT j.id FROM {{jobs}} j
 WHERE j.workflow_id = %(id)s::uuid AND j.parent_id IS NOT NULL AND {_KEY.format("j")} = %(group)s::bigint
 ORDER BY CASE j.state WHEN 'failed' THEN 0 WHEN 'cancelled' THEN 1 WHEN 'pending' THEN 2 ELSE 3 END, j.id
 LIMIT %(limit)s""",
)


class GroupRow(NamedTuple):
    """The jobs of one group in one state; ``sample`` is the first of them."""

    key: int
    task: str
    depth: int
    rank: int
    state: str
    jobs: int
    sample: UUID
    inserted_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    mean_seconds: float | None


class LinkRow(NamedTuple):
    """Where an edge into the group of ``sample`` comes from: another group, or None for the root."""

    sample: UUID
    source: int | None
    called: bool
    """The source is the parent, and not what is waited for."""


def groups(link: Link, workflow: UUID) -> list[GroupRow]:
    """The groups of all descendants of a root, a row for each state."""
    return [GroupRow(*row) for row in link.rows(GROUPS, {"id": workflow})]


def links(link: Link, workflow: UUID, samples: list[UUID]) -> list[LinkRow]:
    """What the groups of these jobs come from."""
    return [LinkRow(*row) for row in link.rows(LINKS, {"ids": samples, "root": workflow})]


def group_jobs(link: Link, workflow: UUID, group: int, limit: int) -> list[UUID]:
    """Some jobs of a group, those that need a look first."""
    return [row[0] for row in link.rows(GROUP_JOBS, {"id": workflow, "group": group, "limit": limit})]
