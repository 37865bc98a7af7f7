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
_PENDING = "pending"
MOST_SPREAD = 10_000
LOOKED_AT = 25_000
PARTS = 24

# A job that was made without a group is grouped by its depth and task.
GROUP_KEY = "coalesce({0}.group_key, hashtextextended({0}.task, {0}.depth))"

# A page or a poll. Index fairchild_jobs_by_workflow; of each job a few columns. A workflow has one job, PostgreSQL
# thinks, where it does not know which, and would sort those of any by their groups, on disk.
HASHING = Sql("hashing", "SELECT set_config('enable_sort', 'off', true)")
GROUPS = Sql(
    "shape_groups",
    f"""
SELECT {GROUP_KEY.format("j")}, j.task, j.depth, j.rank, j.state, j.n, j.sample::uuid, j.inserted_at, j.started_at,
       j.ended_at, j.mean
  FROM (
  SELECT group_key, task, depth, max(coalesce(rank, 0)) AS rank, state, count(*) AS n,
         min(id::text COLLATE "C") AS sample, min(inserted_at) AS inserted_at, min(attempted_at) AS started_at,
         max(ended_at) AS ended_at,
         extract(epoch FROM avg(ended_at - attempted_at) FILTER (WHERE state = 'completed'))::float8 AS mean
    FROM {{jobs}} WHERE workflow_id = %(id)s::uuid AND parent_id IS NOT NULL
   GROUP BY group_key, task, depth, state ORDER BY depth, 4, 7 LIMIT {MOST_GROUPS}) j
 ORDER BY j.depth, j.rank, j.sample""",
)
# With it, if some have not ended: where those are that are not available. Of few such jobs each is looked up, by their
# primary keys; of many the small tables are read, so that the cost is theirs and not that of finding the jobs again.
FEW = 5000
_WAITS = "CASE WHEN j.attempt > 0 THEN 'retrying' ELSE 'scheduled' END"
PLACES_OF_FEW = Sql(
    "shape_places_of_few",
    f"""
SELECT {GROUP_KEY.format("j")}, p.place, count(*), min(p.at)
  FROM (SELECT id, group_key, task, depth, attempt FROM {{jobs}}
         WHERE workflow_id = %(id)s::uuid AND parent_id IS NOT NULL AND state = 'pending') j
 CROSS JOIN LATERAL (
   SELECT 'running' AS place, claimed_at AS at FROM {{claims}} WHERE job_id = j.id
   UNION ALL
   SELECT {_WAITS}, NULL FROM {{due}} WHERE job_id = j.id
   UNION ALL
   SELECT 'waiting', NULL FROM {{waiting}} WHERE job_id = j.id OFFSET 0) p
 GROUP BY 1, 2""",
)
_PLACE = f"""
SELECT {GROUP_KEY.format("j")}, {{0}}, count(*), min({{1}})
  FROM {{{{{{2}}}}}} p CROSS JOIN LATERAL (
    SELECT group_key, task, depth, attempt, workflow_id, parent_id FROM {{{{jobs}}}}
     WHERE id = p.job_id AND state = 'pending' OFFSET 0) j
 WHERE j.workflow_id = %(id)s::uuid AND j.parent_id IS NOT NULL{{3}} GROUP BY 1, 2
"""
# A waiting job of a release before 0009, or without a group, is found by its id.
_OLD = " AND p.group_key IS NULL AND (p.workflow_id IS NULL OR p.workflow_id = %(id)s::uuid)"
PLACES_OF_MANY = Sql(
    "shape_places_of_many",
    _PLACE.format("'running'", "p.claimed_at", "claims", "")
    + "UNION ALL"
    + _PLACE.format(_WAITS, "NULL::timestamptz", "due", "")
    + "UNION ALL"
    + _PLACE.format("'waiting'", "NULL::timestamptz", "waiting", _OLD)
    + """
UNION ALL
SELECT group_key, 'waiting', count(*), NULL FROM {waiting}
 WHERE workflow_id = %(id)s::uuid AND group_key IS NOT NULL AND job_id <> %(id)s::uuid GROUP BY group_key""",
)
# What a job of each group was called by and waits for. Primary keys, and index fairchild_edges_by_downstream.
LINKS = Sql(
    "shape_links",
    f"""
SELECT s.id, CASE WHEN p.parent_id IS NOT NULL THEN {GROUP_KEY.format("p")} END, true
  FROM unnest(%(ids)s::uuid[]) AS s(id)
 CROSS JOIN LATERAL (SELECT parent_id FROM {{jobs}} WHERE id = s.id OFFSET 0) j
 CROSS JOIN LATERAL (SELECT parent_id, group_key, task, depth FROM {{jobs}} WHERE id = j.parent_id OFFSET 0) p
UNION
SELECT e.downstream, CASE WHEN u.parent_id IS NOT NULL THEN {GROUP_KEY.format("u")} END, false
  FROM {{edges}} e
 CROSS JOIN LATERAL (SELECT id, workflow_id, parent_id, group_key, task, depth FROM {{jobs}}
                      WHERE id = e.upstream OFFSET 0) u
 WHERE e.downstream = ANY(%(ids)s::uuid[])
   AND (u.id = %(root)s::uuid OR (u.workflow_id = %(root)s::uuid AND u.parent_id IS NOT NULL))""",
)
# The drawer of a group, a page of it: in one state or in all, in the order in which they were made.
GROUP_JOBS = Sql(
    "shape_group_jobs",
    f"""
SELECT j.id FROM {{jobs}} j
 WHERE j.workflow_id = %(id)s::uuid AND j.parent_id IS NOT NULL AND {GROUP_KEY.format("j")} = %(group)s::bigint
   AND j.id > %(after)s::uuid
   AND CASE %(state)s::text
         WHEN '' THEN true
         WHEN 'completed' THEN j.state = 'completed'
         WHEN 'failed' THEN j.state = 'failed'
         WHEN 'cancelled' THEN j.state = 'cancelled'
         ELSE j.state = 'pending' AND %(state)s::text = (
           SELECT CASE WHEN EXISTS (SELECT FROM {{claims}} c WHERE c.job_id = j.id) THEN 'running'
                       WHEN EXISTS (SELECT FROM {{due}} d WHERE d.job_id = j.id)
                       THEN CASE WHEN j.attempt > 0 THEN 'retrying' ELSE 'scheduled' END
                       WHEN EXISTS (SELECT FROM {{waiting}} w WHERE w.job_id = j.id) THEN 'waiting'
                       ELSE 'available' END)
       END
 ORDER BY j.id LIMIT %(limit)s""",
)
# The timeline of a group: those that failed, then those that ran longest.
SLOWEST = Sql(
    "shape_slowest",
    f"""
SELECT j.id FROM {{jobs}} j
 WHERE j.workflow_id = %(id)s::uuid AND j.parent_id IS NOT NULL AND {GROUP_KEY.format("j")} = %(group)s::bigint
   AND j.attempted_at IS NOT NULL
 ORDER BY j.state = 'failed' DESC, coalesce(j.ended_at, statement_timestamp()) - j.attempted_at DESC, j.id
 LIMIT %(limit)s""",
)
# The drawer's histogram: how long some of the jobs of a group ran.
RUNS = Sql(
    "shape_runs",
    f"""
SELECT extract(epoch FROM j.ended_at - j.attempted_at)::float8 FROM {{jobs}} j
 WHERE j.workflow_id = %(id)s::uuid AND j.parent_id IS NOT NULL AND {GROUP_KEY.format("j")} = %(group)s::bigint
   AND j.state = 'completed' AND j.attempted_at IS NOT NULL LIMIT %(limit)s""",
)
# How long the jobs of each group ran, and when, of at most so many jobs of the workflow, found among the first of it:
# (group, how many, p50, p95, and for each of 24 parts of the time between two moments how many began in it). A page.
SPREAD = Sql(
    "shape_spread",
    f"""
WITH seen AS MATERIALIZED (
  SELECT {GROUP_KEY.format("j")} AS key, j.state, extract(epoch FROM j.ended_at - j.attempted_at)::float8 AS run,
         j.attempted_at
    FROM (SELECT group_key, task, depth, state, attempted_at, ended_at FROM {{jobs}}
           WHERE workflow_id = %(id)s::uuid AND parent_id IS NOT NULL LIMIT {LOOKED_AT}) j
   WHERE j.attempted_at IS NOT NULL AND j.state <> 'pending' LIMIT {MOST_SPREAD}),
parts AS (
  SELECT key, array_agg(ARRAY[part, n] ORDER BY part) AS density FROM (
    SELECT key, count(*)::int AS n,
           width_bucket(extract(epoch FROM attempted_at - %(since)s::timestamptz)::float8, 0,
                        greatest(extract(epoch FROM %(until)s::timestamptz - %(since)s::timestamptz)::float8, 0.001),
                        {PARTS}) AS part
      FROM seen GROUP BY 1, 3) p GROUP BY key)
SELECT s.key, count(*), percentile_disc(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY run)
                          FILTER (WHERE s.state = 'completed'), max(p.density)
  FROM seen s JOIN parts p ON p.key = s.key GROUP BY s.key""",
)
# The way back from a job: what of all that it waited for ended last, and who called it. Primary keys, and index
# fairchild_edges_by_downstream.
_STEP = f"""j.id, j.task, j.parent_id, CASE WHEN j.parent_id IS NOT NULL THEN {GROUP_KEY.format("j")} END,
       j.inserted_at, j.attempted_at, j.ended_at"""
BEFORE = Sql(
    "shape_before",
    f"""
SELECT {_STEP} FROM {{edges}} e JOIN {{jobs}} j ON j.id = e.upstream
 WHERE e.downstream = %(id)s::uuid AND j.workflow_id = %(root)s::uuid AND j.ended_at IS NOT NULL
 ORDER BY j.ended_at DESC, j.id LIMIT 1""",
)
STEP = Sql("shape_step", f"SELECT {_STEP} FROM {{jobs}} j WHERE j.id = %(id)s::uuid")
# Asked of parents only.
LAST_CHILD = Sql(
    "shape_last_child",
    f"""
SELECT {_STEP} FROM {{jobs}} j
 WHERE j.workflow_id = %(root)s::uuid AND j.parent_id = %(id)s::uuid AND j.parent_id IS NOT NULL
   AND j.ended_at IS NOT NULL
 ORDER BY j.ended_at DESC, j.id LIMIT 1""",
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


class Spread(NamedTuple):
    """Of some jobs of a group: how many, half and 95 % of them ran at most so many seconds, when they began."""

    jobs: int
    p50: float | None
    p95: float | None
    density: dict[int, int]
    """Of the parts of the time, from 1 on, in which some began: how many."""


class StepRow(NamedTuple):
    """A job on the way that led to the end; ``group`` is None for the root."""

    id: UUID
    task: str
    parent_id: UUID | None
    group: int | None
    inserted_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


def groups(link: Link, workflow: UUID) -> list[GroupRow]:
    """The groups of all descendants of a root, a row for each state."""
    with link.atomic():
        link.rows(HASHING)
        found = [GroupRow(*row) for row in link.rows(GROUPS, {"id": workflow})]
    pending = sum(row.jobs for row in found if row.state == _PENDING)
    if not pending:
        return found
    places: dict[int, list[tuple[str, int, datetime | None]]] = {}
    for key, state, jobs, at in link.rows(PLACES_OF_FEW if pending <= FEW else PLACES_OF_MANY, {"id": workflow}):
        places.setdefault(key, []).append((state, jobs, at))
    rows: list[GroupRow] = []
    for row in found:
        if row.state != _PENDING:
            rows.append(row)
            continue
        left = row.jobs
        for state, jobs, at in places.get(row.key, ()):
            jobs = min(jobs, left)  # noqa: PLW2901 - read a moment later, when there may be more
            left -= jobs
            if jobs:
                rows.append(row._replace(state=state, jobs=jobs, started_at=at or row.started_at))
        if left:
            rows.append(row._replace(state="available", jobs=left))
    return rows


def links(link: Link, workflow: UUID, samples: list[UUID]) -> list[LinkRow]:
    """What the groups of these jobs come from."""
    return [LinkRow(*row) for row in link.rows(LINKS, {"ids": samples, "root": workflow})]


def group_jobs(link: Link, workflow: UUID, group: int, state: str, after: UUID, limit: int) -> list[UUID]:
    """Jobs of a group after one of them, in a state or ("") in all."""
    params = {"id": workflow, "group": group, "state": state, "after": after, "limit": limit}
    return [row[0] for row in link.rows(GROUP_JOBS, params)]


def slowest(link: Link, workflow: UUID, group: int, limit: int) -> list[UUID]:
    """Jobs of a group that failed or ran longest."""
    return [row[0] for row in link.rows(SLOWEST, {"id": workflow, "group": group, "limit": limit})]


def runs(link: Link, workflow: UUID, group: int, limit: int) -> list[float]:
    """Seconds that completed jobs of a group ran."""
    return [row[0] for row in link.rows(RUNS, {"id": workflow, "group": group, "limit": limit})]


def spread(link: Link, workflow: UUID, since: datetime, until: datetime) -> dict[int, Spread]:
    """How long the jobs of each group ran and when they began, of some of them."""
    rows = link.rows(SPREAD, {"id": workflow, "since": since, "until": until})
    return {
        key: Spread(jobs, quantiles[0] if quantiles else None, quantiles[1] if quantiles else None, dict(density))
        for key, jobs, quantiles, density in rows
    }


def step(link: Link, job_id: UUID) -> StepRow | None:
    """A job as a step of the way."""
    return next((StepRow(*row) for row in link.rows(STEP, {"id": job_id})), None)


def last_before(link: Link, workflow: UUID, job_id: UUID) -> StepRow | None:
    """What ended last of all that a job waited for."""
    return next((StepRow(*row) for row in link.rows(BEFORE, {"id": job_id, "root": workflow})), None)


def last_child(link: Link, workflow: UUID, job_id: UUID) -> StepRow | None:
    """The child that ended last."""
    return next((StepRow(*row) for row in link.rows(LAST_CHILD, {"id": job_id, "root": workflow})), None)
