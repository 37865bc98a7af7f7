"""A workflow: as a graph of groups, a timeline or a list."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from flask import redirect, request
from werkzeug.wrappers import Response as AnyResponse

from fairchild.job import Job
from fairchild.rules.query import Query, Term
from fairchild.rules.shape import ROOT, Edge, Group, Shape
from fairchild.web import charts, words
from fairchild.web.graph import NODE_HEIGHT, NODE_WIDTH, Layout, layout
from fairchild.web.pages import flow_actions, flow_list
from fairchild.web.pages.job import find
from fairchild.web.pages.jobs import arguments_of
from fairchild.web.pages.site import Shown, Site

VIEWS = ("graph", "timeline", "list")
DRAWER_ROWS = 30
BAR_WIDTH = NODE_WIDTH - 24
MOST_LABEL = 24


class Node(NamedTuple):
    """A group where it is drawn."""

    group: Group
    x: float
    y: float
    rank: int
    state: str
    label: str
    sub: str
    said: str
    shares: list[charts.Bar]


class Wire(NamedTuple):
    """An edge as it is drawn."""

    edge: Edge
    path: str


class Span(NamedTuple):
    """A group on the timeline, in hundredths of the whole: its wait and its run, as (x, width)."""

    group: Group
    state: str
    wait: tuple[float, float] | None
    run: tuple[float, float] | None
    took: str


def add_to(site: Site) -> None:
    """Add the page of a workflow, their list, and what can be done to one."""

    @site.page("/workflows/<id>")
    def page_workflow(id: str) -> Shown | AnyResponse:
        job = find(site, id)
        if job.parent_id is not None and job.workflow_id is not None and job.workflow_id != job.id:
            return redirect(site.url("workflow", id=job.workflow_id), 302)
        return Shown("workflow.html", _shown(site, job))

    flow_actions.add_to(site)
    flow_list.add_to(site)


def _shown(site: Site, root: Job) -> dict[str, Any]:
    shape = site.fc.insight.shape(root)
    view = request.args.get("view", "graph")
    view = view if view in VIEWS else "graph"
    chosen = shape.find(request.args.get("group"))
    chosen_jobs = _jobs_of(site, root, chosen) if chosen else []
    counts = shape.counts
    ended = sum(counts.get(state, 0) for state in ("completed", "failed", "cancelled"))
    now = site.now()
    return {
        "root": root,
        "shape": shape,
        "view": view,
        "views": VIEWS,
        "counts": counts,
        "share": ended / max(shape.jobs, 1),
        "eta": _eta(shape, ended, now),
        "live": any(not group.ended for group in shape.groups),
        "drawn": _draw(shape) if view == "graph" else None,
        "spans": _spans(shape, now) if view == "timeline" else [],
        "tree": _tree(shape) if view == "list" else [],
        "chosen": chosen,
        "chosen_jobs": chosen_jobs,
        "shown": {job.id: arguments_of(site, job) for job in chosen_jobs},
        "chosen_all": site.url("jobs", q=f"workflow:{root.id} {Term('task', (chosen.task,))}") if chosen else "",
        "failed": counts.get("failed", 0),
        "cancelled": counts.get("cancelled", 0),
        "open": shape.jobs - ended,
    }


def _jobs_of(site: Site, root: Job, group: Group) -> list[Job]:
    if group.key == ROOT:
        return [root]
    found = site.fc.insight.group_jobs(root.id, group.key, DRAWER_ROWS)
    if found or group.folded == 1:
        return found
    query = Query((Term("workflow", (root.id,)), Term("task", (group.task,))))
    return site.fc.search(query, limit=DRAWER_ROWS, short=True).jobs


def _eta(shape: Shape, ended: int, now: datetime) -> timedelta | None:
    """How long the rest takes at the pace so far, once a tenth is done."""
    starts = [group.started_at for group in shape.groups if group.started_at is not None]
    if not starts or ended < max(shape.jobs // 10, 2) or ended >= shape.jobs:
        return None
    return (now - min(starts)) / ended * (shape.jobs - ended)


@lru_cache(maxsize=64)
def _placed(nodes: tuple[str, ...], edges: tuple[tuple[str, str], ...]) -> Layout:
    """The layout depends on nothing but the shape, which seldom changes."""
    return layout(nodes, edges)


def _draw(shape: Shape) -> dict[str, Any]:
    placed = _placed(
        tuple(group.key for group in shape.groups), tuple((edge.source, edge.target) for edge in shape.edges)
    )
    by_pair = {(line.source, line.target): line.path for line in placed.lines}
    return {
        "width": placed.width,
        "height": placed.height,
        "nodes": [_node(group, placed) for group in shape.groups],
        "wires": [Wire(edge, by_pair[edge.source, edge.target]) for edge in shape.edges],
        "node_width": NODE_WIDTH,
        "node_height": NODE_HEIGHT,
    }


def _node(group: Group, placed: Layout) -> Node:
    box = placed.boxes[group.key]
    name = words.short_task(group.task)
    label = name if len(name) <= MOST_LABEL else name[: MOST_LABEL - 1] + "…"
    sub = "1 job" if group.jobs == 1 else f"×{group.jobs:,}"
    if group.mean_seconds is not None:
        sub += (
            f" · mean {words.duration(group.mean_seconds)}"
            if group.jobs > 1
            else (f" · {words.duration(group.mean_seconds)}")
        )
    states = ", ".join(f"{words.number(n)} {state}" for state, n in group.counts.items())
    return Node(
        group, box.x, box.y, box.rank, words.worst(group.counts), label, sub,
        f"{group.task}: {words.plural(group.jobs, 'job')}, {states}",
        charts.shares(group.counts, words.BAR, BAR_WIDTH, 2.0),
    )  # fmt: skip


def _spans(shape: Shape, now: datetime) -> list[Span]:
    starts = [group.inserted_at for group in shape.groups if group.inserted_at is not None]
    if not starts:
        return []
    start = min(starts)
    end = max((group.ended_at for group in shape.groups if group.ended and group.ended_at), default=now)
    end = now if any(not group.ended for group in shape.groups) else end
    whole = max((end - start).total_seconds(), 0.001)

    def at(moment: datetime) -> float:
        return min(max((moment - start).total_seconds() / whole, 0.0), 1.0) * 100

    def span(first: datetime, last: datetime) -> tuple[float, float]:
        x = min(at(first), 99.6)
        return round(x, 2), round(max(at(last) - x, 0.4), 2)

    spans = []
    for group in shape.groups:
        until = group.ended_at if group.ended and group.ended_at is not None else now
        wait = run = None
        took = ""
        if group.inserted_at is not None:
            wait = span(group.inserted_at, group.started_at or until)
        if group.started_at is not None:
            run = span(group.started_at, until)
            took = words.duration(until - group.started_at)
        spans.append(Span(group, words.worst(group.counts), wait, run, took))
    return spans


def _tree(shape: Shape) -> list[tuple[int, Group, str]]:
    """(level, group, state) in the order of the drawing: by what they wait for."""
    levels = {group.key: 0 for group in shape.groups}
    for _ in shape.groups:
        changed = False
        for edge in shape.edges:
            if levels[edge.target] <= levels[edge.source]:
                levels[edge.target] = levels[edge.source] + 1
                changed = True
        if not changed:
            break
    ordered = sorted(shape.groups, key=lambda group: levels[group.key])
    return [(levels[group.key], group, words.worst(group.counts)) for group in ordered]
