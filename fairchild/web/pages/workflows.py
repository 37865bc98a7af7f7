"""A workflow: as a graph of groups, a timeline or a list."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

from flask import redirect, request
from markupsafe import escape
from werkzeug.wrappers import Response as AnyResponse

from fairchild.client.insight import Spread, Step
from fairchild.errors import TookTooLong
from fairchild.job import Job
from fairchild.rules.shape import MOST_NODES, ROOT, Group, Shape
from fairchild.web import words
from fairchild.web.pages import flow_actions, flow_list
from fairchild.web.pages.flow_drawer import drawer
from fairchild.web.pages.flow_graph import bytes_left, bytes_of, draw, room_for
from fairchild.web.pages.flow_singles import on_way, split
from fairchild.web.pages.flow_tasks import of_tasks
from fairchild.web.pages.flow_timeline import Timeline, compare
from fairchild.web.pages.job import find
from fairchild.web.pages.site import Shown, Site

VIEWS = ("graph", "timeline", "list", "tasks")
SLOWEST = 50
MOST_OPEN = 20
MOST_SINGLY = 24
"""Jobs of a group that are drawn one by one; the others stay one node."""
BYTES_OF_A_LINK = 200
"""To a job, with all that its id adds to a node."""


def add_to(site: Site) -> None:
    """Add the page of a workflow, their list, and what can be done to one."""

    @site.page("/workflows/<id>")
    def page_workflow(id: str) -> Shown | AnyResponse:
        job = find(site, id)
        if job.parent_id is not None and job.workflow_id is not None and job.workflow_id != job.id:
            return redirect(site.url("workflow", id=job.workflow_id, group=site.fc.insight.group_of(job.id)), 302)
        return Shown("workflow.html", _shown(site, job))

    flow_actions.add_to(site)
    flow_list.add_to(site)


def _shown(site: Site, root: Job) -> dict[str, Any]:
    opened = request.args.getlist("open")[:MOST_OPEN]
    asked = request.args.get("view", "")
    view = asked if asked in VIEWS else "graph"
    links = len(escape(site.here(group="", state=None, after=None)))
    room = (lambda shape: room_for(shape, links)) if view == "graph" else None
    shape = site.fc.insight.shape(root, opened=opened, start=_level(), room=room)
    group = request.args.get("group", "")
    chosen = shape.find(shape.inside.get(group, group))
    counts = shape.counts
    ended = sum(counts.get(state, 0) for state in ("completed", "failed", "cancelled"))
    now = site.now()
    line = Timeline(shape, now)
    spread = (
        site.fc.insight.spread(root.id, line.start, line.end)
        if view in ("graph", "timeline") and shape.jobs > 1 and ended
        else {}
    )
    marked = view == "timeline" or request.args.get("path") == "1"
    steps, slow = _way(site, root, shape) if marked and view in ("graph", "timeline") else ([], False)
    way = list(dict.fromkeys(shape.inside.get(step.group, step.group) for step in steps))
    return {
        "root": root,
        "shape": shape,
        "view": view,
        "views": VIEWS,
        "both": not asked,
        "marked": marked,
        "counts": counts,
        "share": ended / max(shape.jobs, 1),
        "eta": _eta(shape, ended, now),
        "live": any(not group.ended for group in shape.groups),
        "drawn": _drawn(site, root, shape, spread, way, steps, opened, links) if view == "graph" else None,
        "line": line,
        "spans": line.of_groups(shape, spread, way) if view == "timeline" else [],
        "jobs": line.of_jobs(site.fc.insight.slowest(root.id, chosen.key, SLOWEST))
        if chosen is not None and view == "timeline"
        else [],
        "steps": steps,
        "slow": slow,
        "before": compare(site, root, shape, spread, line) if view == "timeline" else None,
        "tree": _tree(shape),
        "tasks": of_tasks(site, root, shape) if view == "tasks" else None,
        "chosen": chosen,
        "drawer": drawer(site, root, shape, chosen) if chosen is not None else None,
        "failed": counts.get("failed", 0),
        "cancelled": counts.get("cancelled", 0),
        "open": shape.jobs - ended,
    }


def _drawn(
    site: Site,
    root: Job,
    shape: Shape,
    spread: Mapping[str, Spread],
    way: Collection[str],
    steps: Collection[Step],
    opened: Collection[str],
    links: int,
) -> dict[str, Any]:
    """The drawing, with the jobs of opened groups one by one as far as there is room for them."""
    singles: dict[str, list[Job]] = {}
    room, left = MOST_NODES - len(shape.groups), bytes_left(shape, links)
    for group in shape.groups:
        size = bytes_of(group) + BYTES_OF_A_LINK
        most = min(MOST_SINGLY, room, left // size)
        if group.key in opened and group.folded == 1 and group.jobs > 1 and most > 0:
            singles[group.key] = site.fc.insight.group_jobs(root.id, group.key, most)
            room -= len(singles[group.key])
            left -= len(singles[group.key]) * size
    down = request.args.get("dir") == "down"
    return draw(split(shape, singles), spread, on_way(way, steps, singles), singles, down=down, link_bytes=links)


def _level() -> tuple[int, int] | None:
    """The level from which on groups are shown."""
    found = re.fullmatch(r"(\d{1,4})\.(\d{1,6})", request.args.get("from", ""), re.ASCII)
    return None if found is None else (int(found.group(1)), int(found.group(2)))


def _way(site: Site, root: Job, shape: Shape) -> tuple[list[Step], bool]:
    """The critical path, and whether it took too long to find."""
    parents = {key for key, node in shape.inside.items() if node in set(shape.parents.values())}
    try:
        return site.fc.insight.way(root, parents), False
    except TookTooLong:
        return [], True


def _eta(shape: Shape, ended: int, now: datetime) -> timedelta | None:
    """How long the rest takes at the pace so far, once a tenth is done."""
    starts = [group.started_at for group in shape.groups if group.started_at is not None]
    if not starts or ended < max(shape.jobs // 10, 2) or ended >= shape.jobs:
        return None
    return (now - min(starts)) / ended * (shape.jobs - ended)


def _tree(shape: Shape) -> list[tuple[int, Group, str, str]]:
    """(level, group, state, what it waits for), each group under the one that called it."""
    names = {group.key: words.short_task(group.task) for group in shape.groups}
    below: dict[str, list[Group]] = {}
    for group in sorted(shape.groups, key=lambda each: each.level):
        if group.key != ROOT:
            parent = shape.parents.get(group.key, ROOT)
            below.setdefault(parent if parent in names else ROOT, []).append(group)
    waits: dict[str, list[str]] = {}
    for edge in shape.edges:
        if shape.parents.get(edge.target) != edge.source:
            waits.setdefault(edge.target, []).append(names[edge.source])
    rows: list[tuple[int, Group, str, str]] = []
    seen: set[str] = set()
    stack = [(1, group) for group in shape.groups if group.key == ROOT]
    while stack:
        level, group = stack.pop()
        if group.key in seen:
            continue
        seen.add(group.key)
        rows.append((level, group, words.worst(group.counts), ", ".join(dict.fromkeys(waits.get(group.key, ())))))
        stack += [(level + 1, each) for each in reversed(below.get(group.key, ()))]
    rows += [(2, group, words.worst(group.counts), "") for group in shape.groups if group.key not in seen]
    return rows
