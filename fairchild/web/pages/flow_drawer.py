"""What lies behind a node: its jobs by state and page by page, how long they ran, what can be done to them."""

from __future__ import annotations

import math
from typing import Any
from uuid import UUID

from flask import request

from fairchild.job import Job
from fairchild.rules.query import Query, Term
from fairchild.rules.shape import DEEPER, EARLIER, ROOT, Group, Shape
from fairchild.web import charts, words
from fairchild.web.pages.jobs import arguments_of
from fairchild.web.pages.site import Site
from fairchild.web.problems import Problem

ROWS = 30
MOST_KEYS = 40
"""Groups of a merged node that a link to the list of jobs names; of more it names the task."""
BINS = 20


def drawer(site: Site, root: Job, shape: Shape, group: Group) -> dict[str, Any]:
    """What the drawer of a group shows."""
    state = request.args.get("state", "")
    state = state if state in group.counts else ""
    jobs = [root] if group.key == ROOT else []
    single = group.folded == 1 and group.key not in (ROOT, DEEPER, EARLIER)
    if single:
        jobs = site.fc.insight.group_jobs(root.id, group.key, ROWS + 1, state=state, after=_after())
    more, jobs = len(jobs) > ROWS, jobs[:ROWS]
    query = Query(_terms(root, shape, group))
    return {
        "state": state,
        "tabs": [(each, group.counts[each]) for each in words.STATES if group.counts.get(each)],
        "jobs": jobs,
        "shown": {job.id: arguments_of(site, job) for job in jobs},
        "further": site.here(after=jobs[-1].id) if more else None,
        "first": site.here(after=None) if request.args.get("after") else None,
        "all": site.url("jobs", q=str(query)),
        "query": str(query),
        "failed": group.counts.get("failed", 0),
        "open": sum(n for name, n in group.counts.items() if name not in ("completed", "failed", "cancelled")),
        "open_here": _opening(site, group) if not single and group.key != ROOT else None,
        "singly": _singly(site, group) if single and group.jobs > 1 else None,
        "runs": _bins(site.fc.insight.runs(root.id, group.key)) if single and group.jobs > 1 else None,
    }


def _terms(root: Job, shape: Shape, group: Group) -> tuple[Term, ...]:
    """The filter that exactly the jobs of a group pass."""
    if group.key == ROOT:
        return (Term("id", (root.id,)),)
    keys = [key for key, node in shape.inside.items() if node == group.key and key != ROOT]
    where = Term("workflow", (root.id,))
    if len(keys) > MOST_KEYS:
        return (where, Term("task", (group.task,))) if group.key not in (DEEPER, EARLIER) else (where,)
    return (where, Term("group", tuple(map(int, keys))))


def _opening(site: Site, group: Group) -> str:
    """The address at which what a node stands for is drawn."""
    if group.key == EARLIER:
        return site.here(**{"from": None}, group=None)
    if group.key == DEEPER:
        return site.here(**{"from": f"{group.level[0]}.{group.level[1]}"}, group=None)
    return site.here(open=[*request.args.getlist("open"), group.key], group=None)


def _singly(site: Site, group: Group) -> tuple[str, bool]:
    """The address at which the jobs of a group are drawn one by one, or as one again, and whether they are."""
    opened = request.args.getlist("open")
    drawn = group.key in opened
    others = [each for each in opened if each != group.key]
    return site.here(open=others if drawn else [*others, group.key], view=None), drawn


def _after() -> UUID | None:
    text = request.args.get("after", "")
    try:
        return UUID(text) if text else None
    except ValueError:
        raise Problem(422, "after must be the id of a job") from None


def _bins(runs: list[float]) -> dict[str, Any] | None:
    """How many ran how long, from the shortest to the longest in equal steps of their logarithm."""
    runs = sorted(max(run, 0.0005) for run in runs)
    if len(runs) < 2:
        return None
    low, high = math.log(runs[0]), math.log(runs[-1])
    width = max(high - low, 1e-9) / BINS
    counts = [0] * BINS
    for run in runs:
        counts[min(int((math.log(run) - low) / width), BINS - 1)] += 1
    return {
        "counts": counts,
        "bars": charts.sparkline(counts, "completed", 240, 40),
        "low": runs[0],
        "p50": runs[len(runs) // 2],
        "p95": runs[min(int(len(runs) * 0.95), len(runs) - 1)],
        "high": runs[-1],
        "of": len(runs),
    }
