"""Tasks: those that live workers know, and how they have done in the last day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fairchild.rules.query import Query, Term
from fairchild.web import charts, words
from fairchild.web.pages.overview import columns_of
from fairchild.web.pages.site import Shown, Site
from fairchild.web.problems import Problem
from fairchild.web.redact import mask_defaults

DAY = 24 * 60
STEP = 24
DOTS = 60


class Task(NamedTuple):
    """A task in the list. ``workers`` is 0 for one that only jobs know."""

    name: str
    queue: str
    workers: int
    ended: int
    failed: int
    p50: float | None
    p95: float | None


def add_to(site: Site) -> None:
    """Add the list and the page of a task."""

    @site.page("/tasks")
    def page_tasks() -> Shown:
        return Shown("tasks.html", {"tasks": _rows(site.fc.known_tasks(), site.fc.timings(DAY))})

    @site.page("/tasks/<path:name>")
    def page_task(name: str) -> Shown:
        if not name.isprintable():
            raise Problem(404, "there is no such task")
        known = next((each for each in site.fc.known_tasks() if each["name"] == name), None)
        jobs = site.fc.search(Query((Term("task", (name,)),)).bounded(), limit=DOTS, short=True).jobs
        if known is None and not jobs:
            raise Problem(404, f"no live worker knows a task {name[:100]!r}, and no job of it was made in the last day")
        columns, sums = columns_of(site.fc.points(DAY, task=name, step=STEP), STEP)
        return Shown(
            "task.html",
            {
                "name": name,
                "known": known and {**known, "params": mask_defaults(known["params"])},
                "jobs": jobs,
                "chart": charts.stacked(columns, words.STACKED),
                "moments": [label for label, _ in columns],
                "sums": sums,
                "sums_said": f"{words.number(sums['completed'])} completed, {words.number(sums['failed'])} failed",
                "timings": site.fc.timings(DAY, task=name),
                "all_jobs": site.url("jobs", q=str(Query((Term("task", (name,)),)))),
            },
        )


def _rows(known: Sequence[Mapping[str, Any]], timed: Sequence[Mapping[str, Any]]) -> list[Task]:
    rows = []
    named = {each["name"]: each for each in known}
    for name in sorted({*named, *(each["task"] for each in timed)}):
        own = [each for each in timed if each["task"] == name]
        ended = sum(each["completed"] + each["failed"] + each["cancelled"] for each in own)
        fastest = max(own, key=lambda each: each["run"]["count"], default=None)
        task = named.get(name)
        rows.append(
            Task(
                name,
                task["queue"] if task else own[0]["queue"],
                task["workers"] if task else 0,
                ended,
                sum(each["failed"] for each in own),
                fastest["run"]["p50"] if fastest else None,
                fastest["run"]["p95"] if fastest else None,
            )
        )
    return rows
