"""A workflow by task: how many jobs of each are in which state, and how long they ran."""

from __future__ import annotations

from typing import Any, NamedTuple

from fairchild.client.insight import MOST_RUNS, TaskRuns
from fairchild.job import Job
from fairchild.rules.query import Query, Term
from fairchild.rules.shape import Group, Shape
from fairchild.web import words
from fairchild.web.pages.site import Site


class Cell(NamedTuple):
    """How many jobs of a task are in a state, which part of all of them, and where they are listed."""

    jobs: int
    share: float
    href: str


class Row(NamedTuple):
    """A task. ``cells`` by state; ``runs`` is None while no job of it has completed, or none was looked at."""

    task: str
    jobs: int
    counts: dict[str, int]
    cells: dict[str, Cell]
    runs: TaskRuns | None


def of_tasks(site: Site, root: Job, shape: Shape) -> dict[str, Any]:
    """The table: its rows, the states that there are, and of how many jobs it says how long they ran if not of all."""
    runs = site.fc.insight.task_runs(root.id)
    seen = sum(each.jobs for each in runs.values())
    return {
        "rows": [_row(site, root, group, runs.get(group.task)) for group in shape.tasks],
        "states": [state for state in words.STATES if shape.counts.get(state)],
        "of": seen if seen >= MOST_RUNS else None,
    }


def _row(site: Site, root: Job, group: Group, runs: TaskRuns | None) -> Row:
    cells = {}
    for state, jobs in group.counts.items():
        query = Query((Term("workflow", (root.id,)), Term("task", (group.task,)), Term("state", (state,))))
        cells[state] = Cell(jobs, 100 * jobs / group.jobs, site.url("jobs", q=str(query)))
    return Row(group.task, group.jobs, group.counts, cells, runs)
