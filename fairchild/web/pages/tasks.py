"""Tasks: those that live workers know, and how they have done in the last day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fairchild.rules.query import Query, Term
from fairchild.web import charts
from fairchild.web.pages.overview import throughput
from fairchild.web.pages.parts import Parts
from fairchild.web.pages.site import Shown, Site
from fairchild.web.problems import Problem
from fairchild.web.redact import mask_defaults

DAY = 24 * 60
STEP = 24
MOST_JOBS = 10


class Task(NamedTuple):
    """A task in the list. ``workers`` is 0 for one that only jobs know."""

    name: str
    queue: str
    workers: int
    ended: int
    failed: int
    p50: float | None
    p95: float | None

    @property
    def failing(self) -> float | None:
        """Of a hundred that ended, how many had failed."""
        return 100 * self.failed / self.ended if self.ended else None


def add_to(site: Site) -> None:
    """Add the list and the page of a task."""

    @site.page("/tasks")
    def page_tasks() -> Shown:
        parts = Parts(site.fc)
        known = parts.rows("rows", site.fc.known_tasks)
        timed = parts.rows("timings", lambda: site.fc.timings(DAY))
        return Shown("tasks.html", {"tasks": _rows(known, timed), "late": parts.late})

    @site.page("/tasks/<path:name>")
    def page_task(name: str) -> Shown:
        if not name.isprintable():
            raise Problem(404, "there is no such task")
        fc, parts = site.fc, Parts(site.fc)
        known = next((each for each in fc.known_tasks() if each["name"] == name), None)
        query = Query((Term("task", (name,)),))
        jobs = parts.rows("jobs", lambda: fc.search(query.bounded(), limit=MOST_JOBS, short=True).jobs)
        if known is None and not jobs and "jobs" not in parts.late:
            raise Problem(404, f"no live worker knows a task {name[:100]!r}, and no job of it was made in the last day")
        points = parts.rows("throughput", lambda: fc.points(DAY, task=name, step=STEP))
        timings = parts.rows("timings", lambda: fc.timings(DAY, task=name))
        return Shown(
            "task.html",
            {
                "name": name,
                "known": known and {**known, "params": mask_defaults(known)},
                "jobs": jobs,
                **throughput(points, STEP, "24h", []),
                "timings": timings,
                "figures": _row(name, known, timings),
                "waited": charts.histogram([each["wait"]["buckets"] for each in timings]),
                "ran": charts.histogram([each["run"]["buckets"] for each in timings]),
                "all_jobs": site.url("jobs", q=str(query)),
                "late": parts.late,
            },
        )


def _rows(known: Sequence[Mapping[str, Any]], timed: Sequence[Mapping[str, Any]]) -> list[Task]:
    named = {each["name"]: each for each in known}
    own: dict[str, list[Mapping[str, Any]]] = {}
    for each in timed:
        own.setdefault(each["task"], []).append(each)
    return [_row(name, named.get(name), own.get(name, [])) for name in sorted({*named, *own})]


def _row(name: str, task: Mapping[str, Any] | None, timed: Sequence[Mapping[str, Any]]) -> Task:
    ran = charts.histogram([each["run"]["buckets"] for each in timed])
    return Task(
        name,
        task["queue"] if task else timed[0]["queue"] if timed else "",
        task["workers"] if task else 0,
        sum(each["completed"] + each["failed"] + each["cancelled"] for each in timed),
        sum(each["failed"] for each in timed),
        None if ran is None else ran.p50,
        None if ran is None else ran.p95,
    )
