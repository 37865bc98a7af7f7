"""The graph of a workflow as it is drawn: nodes and edges in their places, the way to the end marked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple
from uuid import UUID

from fairchild.client.insight import Spread
from fairchild.rules.shape import Group, Shape
from fairchild.web import charts, words
from fairchild.web.graph import NODE_HEIGHT, NODE_WIDTH, Layout, layout

BAR_WIDTH = NODE_WIDTH - 24
MOST_LABEL = 24
SINGLE = "job-"
"""How the key of a job begins that is drawn for itself."""


class Node(NamedTuple):
    """A group where it is drawn, or one job."""

    key: str
    jobs: int
    job: UUID | None
    """The job, if it is drawn for itself."""
    x: float
    y: float
    rank: int
    state: str
    label: str
    sub: str
    said: str
    shares: list[charts.Bar]
    on_way: bool


class Wire(NamedTuple):
    """An edge as it is drawn."""

    source: str
    target: str
    open: bool
    path: str
    on_way: bool


@lru_cache(maxsize=64)
def _placed(nodes: tuple[str, ...], edges: tuple[tuple[str, str], ...], down: bool) -> Layout:
    """The layout depends on nothing but the shape, which seldom changes."""
    return layout(nodes, edges, down=down)


def draw(
    shape: Shape, spread: Mapping[str, Spread], way: Collection[str], rests: Collection[str] = (), *, down: bool
) -> dict[str, Any]:
    """The drawing. ``way``: the groups that determined the end, in their order.

    ``rests``: groups of which some jobs are drawn for themselves.
    """
    placed = _placed(
        tuple(group.key for group in shape.groups), tuple((edge.source, edge.target) for edge in shape.edges), down
    )
    by_pair = {(line.source, line.target): line.path for line in placed.lines}
    steps = _edges_on(shape, way)
    return {
        "width": placed.width,
        "height": placed.height,
        "nodes": [_node(group, placed, spread, group.key in way, group.key in rests) for group in shape.groups],
        "wires": [
            Wire(
                edge.source,
                edge.target,
                edge.open,
                by_pair[edge.source, edge.target],
                (edge.source, edge.target) in steps,
            )
            for edge in shape.edges
        ],
        "node_width": NODE_WIDTH,
        "node_height": NODE_HEIGHT,
        "down": down,
    }


def _edges_on(shape: Shape, way: Collection[str]) -> set[tuple[str, str]]:
    """The edges that the way takes; out of a group that was called it may go on from what has called it."""
    edges = {(edge.source, edge.target) for edge in shape.edges}
    found = set()
    for source, target in pairwise(way):
        from_: str | None = source
        while from_ is not None and (from_, target) not in edges:
            from_ = shape.parents.get(from_)
        if from_ is not None:
            found.add((from_, target))
    return found


def _node(group: Group, placed: Layout, spread: Mapping[str, Spread], on_way: bool, rest: bool) -> Node:
    box = placed.boxes[group.key]
    name = words.short_task(group.task)
    label = name if len(name) <= MOST_LABEL else name[: MOST_LABEL - 1] + "…"
    single = group.key.startswith(SINGLE)
    seen = spread.get(group.key)
    if single:
        sub = f"…{str(group.sample)[-6:]}"
    elif rest:
        sub = f"+{group.jobs:,} more"
    else:
        sub = "1 job" if group.jobs == 1 else f"×{group.jobs:,}"
    if group.jobs > 1 and seen is not None and seen.p95 is not None:
        sub += f" · p95 {words.duration(seen.p95)}"
    elif group.mean_seconds is not None:
        sub += f" · {'mean ' if group.jobs > 1 else ''}{words.duration(group.mean_seconds)}"
    states = ", ".join(f"{words.number(n)} {state}" for state, n in group.counts.items())
    said = f"{group.task}: {words.plural(group.jobs, 'job')}, {states}" + (", on the critical path" if on_way else "")
    return Node(
        group.key, group.jobs, group.sample if single else None, box.x, box.y, box.rank, words.worst(group.counts),
        label, sub, said, charts.shares(group.counts, words.BAR, BAR_WIDTH, 2.0), on_way,
    )  # fmt: skip
