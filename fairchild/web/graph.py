"""Where the nodes of a workflow's graph lie, and how its edges run. Pure, and the same for equal input.

Layered, from left to right: a node's rank is the longest way to it, and a source moves up to just before what needs it.
Edges over several ranks get a lane (a small node of their own) in each rank between. Sweeps with barycentres order the
nodes of a rank so that few edges cross; then each rank is pulled towards its neighbours' heights, exactly: the closest
heights at which nothing overlaps (isotonic regression by pooling).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from fairchild.rules.dag import refuse_cycle

NODE_WIDTH = 200
NODE_HEIGHT = 54
COLUMN_GAP = 64
ROW_GAP = 22
LANE_HEIGHT = 8
MARGIN = 24
SWEEPS = 8
RELAXATIONS = 6


@dataclass(frozen=True)
class Box:
    """Where a node lies; ``x`` and ``y`` are its upper left corner."""

    x: int
    y: int
    rank: int


@dataclass(frozen=True)
class Line:
    """An edge as an SVG path, from a box's right side to another's left."""

    source: str
    target: str
    path: str


@dataclass(frozen=True)
class Layout:
    """A drawing of boxes of ``NODE_WIDTH`` by ``NODE_HEIGHT``."""

    width: int
    height: int
    boxes: dict[str, Box]
    lines: tuple[Line, ...]


def layout(nodes: Sequence[str], edges: Iterable[tuple[str, str]], *, down: bool = False) -> Layout:
    """Lay out an acyclic graph. Edges are (from, to); those of a node to itself or to no node are left out.

    From left to right, or ``down``.

    Raises UsageError, showing it, for a circle.
    """
    known = dict.fromkeys(nodes)
    pairs = list(dict.fromkeys((a, b) for a, b in edges if a in known and b in known and a != b))
    if not known:
        return Layout(2 * MARGIN, 2 * MARGIN, {}, ())
    ranks = _ranks(list(known), pairs)
    columns, chains = _columns(ranks, pairs)
    _order(columns, chains)
    way = DOWN if down else ACROSS
    tops = _heights(columns, chains, way)
    lowest = min(tops.values())
    boxes = {}
    for node, rank in ranks.items():
        along, across = way.at(rank), round(tops[node] - lowest + MARGIN)
        boxes[node] = Box(across, along, rank) if down else Box(along, across, rank)
    middles = {each: round(top - lowest + MARGIN + way.size(each) / 2) for each, top in tops.items()}
    lines = tuple(Line(a, b, _path([(way.at(ranks[a] + step), middles[each]) for step, each in enumerate(chain)], way))
                  for (a, b), chain in zip(pairs, chains, strict=True))  # fmt: skip
    broad = round(max(tops[each] + way.size(each) for each in tops) - lowest + 2 * MARGIN)
    long = way.at(len(columns) - 1) + way.length + MARGIN
    return Layout(broad, long, boxes, lines) if down else Layout(long, broad, boxes, lines)


_Lane = tuple[int, int]
"""(number of the edge, rank)"""
_Place = str | _Lane


@dataclass(frozen=True)
class _Way:
    """The direction of the edges: how long a node is along it, and how broad across it."""

    length: int
    breadth: int
    swapped: bool

    def at(self, rank: int) -> int:
        """Where the nodes of a rank begin."""
        return MARGIN + rank * (self.length + COLUMN_GAP)

    def size(self, place: _Place) -> int:
        """How much room a place takes in its rank."""
        return self.breadth if isinstance(place, str) else LANE_HEIGHT


ACROSS = _Way(NODE_WIDTH, NODE_HEIGHT, swapped=False)
DOWN = _Way(NODE_HEIGHT, NODE_WIDTH, swapped=True)


def _ranks(nodes: list[str], pairs: list[tuple[str, str]]) -> dict[str, int]:
    upstreams: dict[str, list[str]] = {node: [] for node in nodes}
    downstreams: dict[str, list[str]] = {node: [] for node in nodes}
    for a, b in pairs:
        upstreams[b].append(a)
        downstreams[a].append(b)
    refuse_cycle(upstreams)
    open_count = {node: len(above) for node, above in upstreams.items()}
    ranks = dict.fromkeys(nodes, 0)
    ready = [node for node in nodes if not open_count[node]]
    for node in ready:
        for below in downstreams[node]:
            ranks[below] = max(ranks[below], ranks[node] + 1)
            open_count[below] -= 1
            if not open_count[below]:
                ready.append(below)
    for node in nodes:
        if not upstreams[node] and downstreams[node]:
            ranks[node] = min(ranks[below] for below in downstreams[node]) - 1
    return ranks


def _columns(
    ranks: Mapping[str, int], pairs: list[tuple[str, str]]
) -> tuple[list[list[_Place]], list[tuple[_Place, ...]]]:
    """The places of each rank, and for each edge the places it runs through, ends included."""
    columns: list[list[_Place]] = [[] for _ in range(max(ranks.values()) + 1)]
    for node, rank in ranks.items():
        columns[rank].append(node)
    chains: list[tuple[_Place, ...]] = []
    for number, (a, b) in enumerate(pairs):
        lanes = [(number, rank) for rank in range(ranks[a] + 1, ranks[b])]
        for lane in lanes:
            columns[lane[1]].append(lane)
        chains.append((a, *lanes, b))
    return columns, chains


def _neighbours(
    chains: list[tuple[_Place, ...]],
) -> tuple[dict[_Place, list[_Place]], dict[_Place, list[_Place]]]:
    left: dict[_Place, list[_Place]] = defaultdict(list)
    right: dict[_Place, list[_Place]] = defaultdict(list)
    for chain in chains:
        for a, b in pairwise(chain):
            right[a].append(b)
            left[b].append(a)
    return left, right


def _order(columns: list[list[_Place]], chains: list[tuple[_Place, ...]]) -> None:
    """Order the places of each rank by the mean place of their neighbours; the best order seen is kept."""
    left, right = _neighbours(chains)
    index = {place: number / len(column) for column in columns for number, place in enumerate(column)}
    best, fewest = [list(column) for column in columns], _crossings(columns, right)
    for sweep in range(SWEEPS):
        if not fewest:
            break
        forwards = sweep % 2 == 0
        sides = left if forwards else right
        for column in columns if forwards else reversed(columns):
            wanted = {p: sum(index[q] for q in sides[p]) / len(sides[p]) if sides[p] else index[p] for p in column}
            column.sort(key=wanted.__getitem__)
            index.update((place, number / len(column)) for number, place in enumerate(column))
        crossings = _crossings(columns, right)
        if crossings < fewest:
            best, fewest = [list(column) for column in columns], crossings
    columns[:] = best


def _crossings(columns: list[list[_Place]], right: Mapping[_Place, list[_Place]]) -> int:
    """How many pairs of edges cross: inversions, counted while a binary indexed tree is filled."""
    total = 0
    for column, following in pairwise(columns):
        at = {place: number for number, place in enumerate(following, 1)}
        ends = [n for place in column for n in sorted(at[b] for b in right.get(place, ()) if b in at)]
        tree = [0] * (len(following) + 1)
        for seen, end in enumerate(ends):
            not_above, here = 0, end
            while here:
                not_above += tree[here]
                here &= here - 1
            total += seen - not_above
            here = end
            while here < len(tree):
                tree[here] += 1
                here += here & -here
    return total


def _heights(columns: list[list[_Place]], chains: list[tuple[_Place, ...]], way: _Way) -> dict[_Place, float]:
    """The upper edge of each place."""
    left, right = _neighbours(chains)
    tops: dict[_Place, float] = {}
    for column in columns:
        # Centred around zero to begin with.
        tops.update(_spread(column, dict.fromkeys(column, 0.0), way))
    for turn in range(RELAXATIONS):
        for column in columns if turn % 2 == 0 else reversed(columns):
            wanted = {}
            for place in column:
                near = [*left[place], *right[place]]
                middle = (
                    sum(tops[q] + way.size(q) / 2 for q in near) / len(near)
                    if near
                    else tops[place] + way.size(place) / 2
                )
                wanted[place] = middle - way.size(place) / 2
            tops.update(_spread(column, wanted, way))
    return tops


def _spread(column: list[_Place], wanted: Mapping[_Place, float], way: _Way) -> dict[_Place, float]:
    """The tops closest to ``wanted`` (least squares) at which places keep their order and do not touch."""
    offsets: list[float] = []
    offset = 0.0
    for place in column:
        offsets.append(offset)
        offset += way.size(place) + (ROW_GAP if isinstance(place, str) else ROW_GAP / 2)
    blocks: list[tuple[float, int]] = []  # (mean, how many)
    for place, moved in zip(column, offsets, strict=True):
        mean, count = wanted[place] - moved, 1
        while blocks and blocks[-1][0] > mean:
            other, many = blocks.pop()
            mean = (mean * count + other * many) / (count + many)
            count += many
        blocks.append((mean, count))
    flat = [mean for mean, count in blocks for _ in range(count)]
    return {place: mean + moved for place, mean, moved in zip(column, flat, offsets, strict=True)}


def direct(drawing: Layout, source: str, target: str, *, down: bool) -> str:
    """The path of an edge that takes no account of what lies between."""
    way, a, b = DOWN if down else ACROSS, drawing.boxes[source], drawing.boxes[target]
    half = way.breadth // 2
    ends = [(box.y, box.x + half) if down else (box.x, box.y + half) for box in (a, b)]
    return _path(ends, way)


def _path(points: list[tuple[int, int]], way: _Way) -> str:
    """From the far side of the first place through the lanes to the near side of the last. In short: relative."""

    def pair(along: int, across: int) -> tuple[int, int]:
        return (across, along) if way.swapped else (along, across)

    along, across = points[0]
    along += way.length
    out = [_command("M", *pair(along, across))]
    for next_along, next_across in points[1:]:
        gap, moved = next_along - along, next_across - across
        out.append(_command("c", *pair(gap // 2, 0), *pair(gap - gap // 2, moved), *pair(gap, moved)))
        along, across = next_along, next_across
        if (next_along, next_across) != points[-1]:
            along += way.length
            out.append(_command("v" if way.swapped else "h", way.length))
    return "".join(out)


def _command(letter: str, *numbers: int) -> str:
    """With no more space between the numbers than they need."""
    return letter + " ".join(map(str, numbers)).replace(" -", "-")
