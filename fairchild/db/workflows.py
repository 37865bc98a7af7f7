"""Reading workflows as a whole: which there are, how far they are, and their graphs, drawn from aggregates.

A graph has a node for each group of jobs (``rules/groups.py``), so its size is that of the program, not of the data.
All jobs of a group have parents of one group and depend on the same groups: one of them stands for all.
"""

from __future__ import annotations

from typing import Any
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

# Somebody looks at a workflow. Reads its part of fairchild_jobs_by_workflow.
COUNT_STATES = Sql(
    "count_states",
    "SELECT state, count(*) FROM {view} WHERE workflow_id = %(id)s::uuid AND parent_id IS NOT NULL GROUP BY state",
)

# The same, for the graph.
GRAPH_NODES = Sql(
    "graph_nodes",
    """
SELECT j.group_key, j.task, j.depth, j.rank,
       CASE WHEN j.state <> 'pending' THEN j.state
            WHEN c.job_id IS NOT NULL THEN 'running'
            WHEN d.job_id IS NOT NULL THEN 'scheduled'
            WHEN w.job_id IS NOT NULL THEN 'waiting'
            ELSE 'available' END AS state,
       count(*), min(j.id::text)::uuid
  FROM {jobs} j
  LEFT JOIN {claims} c ON c.job_id = j.id
  LEFT JOIN {due} d ON d.job_id = j.id
  LEFT JOIN {waiting} w ON w.job_id = j.id
 WHERE j.workflow_id = %(id)s::uuid AND j.parent_id IS NOT NULL
 GROUP BY 1, 2, 3, 4, 5""",
)
# The parents' and upstreams' groups of some jobs, one of each group. Primary keys and fairchild_edges_by_downstream.
GRAPH_LINKS = Sql(
    "graph_links",
    """
SELECT DISTINCT j.group_key, p.group_key, 'parent' FROM {jobs} j JOIN {jobs} p ON p.id = j.parent_id
 WHERE j.id = ANY(%(ids)s::uuid[])
UNION ALL
SELECT DISTINCT j.group_key, u.group_key, 'upstream'
  FROM {jobs} j JOIN {edges} e ON e.downstream = j.id JOIN {jobs} u ON u.id = e.upstream
 WHERE j.id = ANY(%(ids)s::uuid[]) AND u.workflow_id = j.workflow_id""",
)

_NEWEST = UUID(int=2**128 - 1)
ROOT = "root"


def list_workflows(link: Link, before: UUID | None, most: int) -> list[UUID]:
    """Ids of workflows of more than one job, newest first: those before ``before``, at most ``most``."""
    rows = link.rows(LIST_WORKFLOWS, {"before": _NEWEST if before is None else before, "most": most})
    return [row[0] for row in rows]


def count_states(link: Link, workflow_id: UUID) -> dict[str, int]:
    """``{state: number}`` of the jobs below the root."""
    return {state: int(n) for state, n in link.rows(COUNT_STATES, {"id": workflow_id})}


def read_graph(link: Link, workflow_id: UUID) -> dict[str, list[dict[str, Any]]]:
    """``{"nodes": [{key, parent, task, depth, rank, count, states, example}], "edges": [{upstream, downstream}]}``.

    ``key`` is text; the root's, which has no node here, is "root". ``example`` is the id of the group's oldest job.
    """
    nodes: dict[int, dict[str, Any]] = {}
    for key, task, depth, rank, state, number, example in link.rows(GRAPH_NODES, {"id": workflow_id}):
        node = nodes.setdefault(
            key or 0,
            {"key": str(key or 0), "parent": ROOT, "task": task, "depth": depth, "rank": rank or 0, "count": 0,
             "states": {}, "example": example},
        )  # fmt: skip
        node["count"] += int(number)
        node["states"][state] = node["states"].get(state, 0) + int(number)
        node["example"] = min(node["example"], example)
    edges = []
    for key, other, kind in link.rows(GRAPH_LINKS, {"ids": [node["example"] for node in nodes.values()]}):
        text = ROOT if other is None else str(other)
        if kind == "parent":
            nodes[key or 0]["parent"] = text
        else:
            edges.append({"upstream": text, "downstream": str(key or 0)})
    ordered = sorted(nodes.values(), key=lambda node: (node["depth"], node["rank"], str(node["example"])))
    return {"nodes": ordered, "edges": sorted(edges, key=lambda edge: (edge["upstream"], edge["downstream"]))}
