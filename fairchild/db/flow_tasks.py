"""How long the jobs of each task of a workflow ran."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from fairchild.db.connect import Link
from fairchild.db.statement import Sql

MOST_RUNS = 10_000

# A page, as its table of tasks. Index fairchild_jobs_by_workflow, of so many jobs at most, and the root.
TASK_RUNS = Sql(
    "flow_task_runs",
    f"""
SELECT task, count(*), avg(run), percentile_disc(0.5) WITHIN GROUP (ORDER BY run),
       percentile_disc(0.95) WITHIN GROUP (ORDER BY run)
  FROM ((SELECT task, extract(epoch FROM ended_at - attempted_at)::float8 AS run FROM {{jobs}}
          WHERE workflow_id = %(id)s::uuid AND parent_id IS NOT NULL AND state = 'completed'
            AND attempted_at IS NOT NULL
          LIMIT {MOST_RUNS})
        UNION ALL
        SELECT task, extract(epoch FROM ended_at - attempted_at)::float8 FROM {{jobs}}
         WHERE id = %(id)s::uuid AND state = 'completed' AND attempted_at IS NOT NULL) j
 GROUP BY task""",
)


class TaskRuns(NamedTuple):
    """Of some completed jobs of a task: how many; the seconds that they ran on average, and that half and 95 % took."""

    jobs: int
    mean: float
    p50: float
    p95: float


def task_runs(link: Link, workflow: UUID) -> dict[str, TaskRuns]:
    """By task, of some of a workflow's jobs."""
    return {task: TaskRuns(*row) for task, *row in link.rows(TASK_RUNS, {"id": workflow})}
