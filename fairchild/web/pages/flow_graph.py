"""The graph of a workflow as it is drawn: nodes and edges in their places, the way to the end marked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any, NamedTuple
from uuid import UUID

from markupsafe import escape

from fairchild.client.insight import Spread
from fairchild.rules.dag import without_implied
from fairchild.rules.shape import Edge, Group, Shape
from fairchild.web import charts, words
from fairchild.web.graph import NODE_HEIGHT, NODE_WIDTH, Layout, direct, layout

BAR_WIDTH = NODE_WIDTH - 24
MOST_LABEL = 24
MOST_BYTES = 58 * 1024
"""Of SVG, less what is around nodes and edges."""
BYTES_OF_EDGES = 10 * 1024
"""That are left for edges if not all nodes can be drawn."""
SINGLE = "job-"
"""How the key of a job begins that is drawn for itself."""


class Node(NamedTuple):
    """A group where it is drawn, or one job."""

    key: str
    jobs: int
    job: UUID | None
    """The job, if it is drawn for itself."""
    x: int
    y: int
    state: str
    label: str
    sub: str
    said: str
    shares: list[charts.Bar]
    on_way: bool

    @property
    def bytes(self) -> int:
        """About what it takes on the page."""
        texts = sum(map(_length, (self.said, self.label, self.sub)))
        twice = 2 * (len(self.key) + len(self.state))
        bar = 42 * len(self.shares) if len(self.shares) > 1 else 36
        return 120 + texts + twice + len(f"{self.x}{self.y}") + bar + 14 * self.on_way


class Wire(NamedTuple):
    """An edge as it is drawn, between nodes by their numbers."""

    source: int
    target: int
    open: bool
    path: str
    on_way: bool

    @property
    def bytes(self) -> int:
        """About what it takes on the page."""
        return len(self.path) + (53 if self.on_way else 40)


@lru_cache(maxsize=64)
def _placed(nodes: tuple[str, ...], edges: tuple[tuple[str, str], ...], down: bool) -> Layout:
    """The layout depends on nothing but the shape, which seldom changes."""
    return layout(nodes, edges, down=down)


def bytes_left(shape: Shape, link_bytes: int) -> int:
    """What the nodes of a shape leave for others, beside the lines; less than 0 if they do not fit."""
    return MOST_BYTES - BYTES_OF_EDGES - sum(bytes_of(group) + link_bytes for group in shape.groups)


def room_for(shape: Shape, link_bytes: int) -> int:
    """How many nodes of a shape can be drawn with lines between them, whichever those are; at least two."""
    room = MOST_BYTES - BYTES_OF_EDGES
    sizes = sorted((bytes_of(group) + link_bytes for group in shape.groups), reverse=True)
    return max(2, sum(used <= room for used in accumulate(sizes)))


def bytes_of(group: Group) -> int:
    """About what a node takes on the page, and rather more."""
    bar = 42 * len(group.counts) if len(group.counts) > 1 else 36
    return 2 * len(group.key) + _length(_said(group)) + 2 * _length(group.task[:MOST_LABEL]) + bar + 190


def _length(text: str) -> int:
    """In bytes, as it stands in HTML."""
    return len(str(escape(text)).encode())


def draw(
    shape: Shape,
    spread: Mapping[str, Spread],
    way: Collection[str],
    rests: Collection[str] = (),
    *,
    down: bool,
    link_bytes: int = 0,
) -> dict[str, Any]:
    """The drawing. ``way``: the groups that determined the end, in their order.

    ``rests``: groups of which some jobs are drawn for themselves. ``link_bytes``: of what all links have in common.

    Where not all edges have room in ``MOST_BYTES``, those that follow from others are left out, then long ones run
    straight, and what is still too much is left out as well: ``hidden`` counts them.
    """
    placed = _placed(
        tuple(group.key for group in shape.groups), tuple((edge.source, edge.target) for edge in shape.edges), down
    )
    nodes = [_node(group, placed, spread, group.key in way, group.key in rests) for group in shape.groups]
    room = MOST_BYTES - sum(node.bytes + link_bytes for node in nodes)
    wires = _wires(shape, placed, _edges_on(shape, way), room, down=down)
    return {
        "width": placed.width,
        "height": placed.height,
        "nodes": nodes,
        "states": sorted({node.state for node in nodes}),
        "wires": wires,
        "hidden": len(shape.edges) - len(wires),
        "node_width": NODE_WIDTH,
        "node_height": NODE_HEIGHT,
        "down": down,
    }


def _wires(shape: Shape, placed: Layout, steps: set[tuple[str, str]], room: int, *, down: bool) -> list[Wire]:
    """The edges, in at most ``room`` bytes."""
    numbers = {group.key: number for number, group in enumerate(shape.groups)}
    by_pair = {(line.source, line.target): line.path for line in placed.lines}

    def wire(edge: Edge, path: str) -> Wire:
        pair = (edge.source, edge.target)
        return Wire(numbers[edge.source], numbers[edge.target], edge.open, path, pair in steps)

    edges = shape.edges
    wires = [wire(edge, by_pair[edge.source, edge.target]) for edge in edges]
    if sum(each.bytes for each in wires) <= room:
        return wires
    kept = {*without_implied(by_pair), *steps}
    edges = [edge for edge in edges if (edge.source, edge.target) in kept]
    wires = [wire(edge, by_pair[edge.source, edge.target]) for edge in edges]
    used = sum(each.bytes for each in wires)
    for number in sorted(range(len(wires)), key=lambda at: -wires[at].bytes):
        if used <= room:
            return wires
        used -= wires[number].bytes
        wires[number] = wire(edges[number], direct(placed, edges[number].source, edges[number].target, down=down))
        used += wires[number].bytes
    # On the way first, then the shortest: one for each node before any has two.
    given: Counter[int] = Counter()
    ranked = []
    for at in sorted(range(len(wires)), key=lambda at: (not wires[at].on_way, _span(edges[at], placed))):
        ranked.append((not wires[at].on_way, given[wires[at].target], at))
        given[wires[at].target] += 1
    shown = []
    for *_, at in sorted(ranked):
        room -= wires[at].bytes
        if room < 0:
            break
        shown.append(at)
    return [wires[at] for at in sorted(shown)]


def _span(edge: Edge, placed: Layout) -> int:
    return placed.boxes[edge.target].rank - placed.boxes[edge.source].rank


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
    said = _said(group) + (", on the critical path" if on_way else "")
    return Node(
        group.key, group.jobs, group.sample if single else None, box.x, box.y, words.worst(group.counts),
        label, sub, said, charts.shares(group.counts, words.BAR, BAR_WIDTH, 2.0), on_way,
    )  # fmt: skip


def _said(group: Group) -> str:
    states = ", ".join(f"{words.number(n)} {state}" for state, n in group.counts.items())
    return f"{group.task}: {words.plural(group.jobs, 'job')}, {states}"
