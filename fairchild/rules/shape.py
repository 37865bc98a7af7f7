"""A workflow as few nodes: groups of jobs with the same place in it, and folded further until they can be drawn.

Where there are more than ``MOST_NODES`` groups, those of one depth, rank and task become one. Every edge leads to a
larger depth or rank, so the drawing stays free of circles; by task alone it would not. If that is not enough, what lies
deepest becomes one node, "deeper", with what has no room of the first level that does not fit.

Either can be opened: what was merged shows its groups as far as there is room, and the window on the levels begins
further down, with what lies before it as one node, "earlier".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

MOST_NODES = 150
ROOT = "root"
DEEPER = "deeper"
EARLIER = "earlier"
_ENDED = frozenset({"completed", "failed", "cancelled"})


@dataclass
class Group:
    """Jobs with one place in the workflow. ``counts`` by state; ``sample`` is one of them, the only one of one."""

    key: str
    task: str
    level: tuple[int, int]
    """Depth, and rank among the siblings."""
    sample: UUID
    counts: dict[str, int] = field(default_factory=dict)
    inserted_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    mean_seconds: float | None = None
    folded: int = 1
    """How many groups it stands for."""

    @property
    def jobs(self) -> int:
        return sum(self.counts.values())

    @property
    def ended(self) -> bool:
        return not set(self.counts) - _ENDED

    def copy(self) -> Group:
        """Another of the same jobs, to be folded by itself."""
        return replace(self, counts=dict(self.counts))

    def take(self, other: Group) -> None:
        """Count the jobs of another group here."""
        done, more = self.counts.get("completed", 0), other.counts.get("completed", 0)
        if other.mean_seconds is not None:
            mine = 0.0 if self.mean_seconds is None else self.mean_seconds * done
            weight = more + (0 if self.mean_seconds is None else done)
            self.mean_seconds = (mine + other.mean_seconds * more) / weight if weight else None
        for state, jobs in other.counts.items():
            self.counts[state] = self.counts.get(state, 0) + jobs
        self.inserted_at = _pick(min, self.inserted_at, other.inserted_at)
        self.started_at = _pick(min, self.started_at, other.started_at)
        self.ended_at = _pick(max, self.ended_at, other.ended_at)


@dataclass(frozen=True)
class Edge:
    """``target`` came from ``source`` or waits for it; ``open`` while ``source`` has jobs that have not ended."""

    source: str
    target: str
    open: bool


@dataclass(frozen=True)
class Shape:
    """What is drawn. ``groups`` are in the order in which they can run."""

    groups: list[Group]
    edges: list[Edge]
    parents: dict[str, str] = field(default_factory=dict)
    """The group that called a group."""
    inside: dict[str, str] = field(default_factory=dict)
    """The group that a group is drawn in: itself, or what it was folded into."""
    tasks: list[Group] = field(default_factory=list)
    """All jobs of each task as one, in the order in which the first of each can run."""

    @property
    def jobs(self) -> int:
        return sum(group.jobs for group in self.groups)

    @property
    def counts(self) -> dict[str, int]:
        """Jobs by state."""
        total: dict[str, int] = {}
        for group in self.groups:
            for state, jobs in group.counts.items():
                total[state] = total.get(state, 0) + jobs
        return total

    def find(self, key: str | None) -> Group | None:
        """The group of this key."""
        return next((group for group in self.groups if group.key == key), None)


def _pick(choose: Any, one: datetime | None, other: datetime | None) -> datetime | None:
    if one is None or other is None:
        return one or other
    picked: datetime = choose(one, other)
    return picked


def build(
    groups: Iterable[Group],
    links: Iterable[tuple[str, str, bool]],
    most: int = MOST_NODES,
    opened: Collection[str] = (),
    start: tuple[int, int] | None = None,
) -> Shape:
    """The shape of ``groups`` and of (source, target, called) between them, with at most ``most`` nodes.

    A group that waits for a sibling is not also joined to what has called it. ``opened``: nodes whose groups are to be
    shown; ``start``: the level from which on they are.
    """
    by_key = {group.key: group for group in groups}
    tasks = _by_task(by_key.values())
    known = [link for link in links if link[0] in by_key and link[1] in by_key]
    waits = {target for _, target, called in known if not called}
    pairs = dict.fromkeys((source, target) for source, target, called in known if not called or target not in waits)
    to = {key: key for key in by_key}
    if len(by_key) > most:
        to = _fold(by_key, most, frozenset(opened), start)
    nodes: dict[str, Group] = {}
    for key, group in by_key.items():
        node = nodes.get(to[key])
        if node is None:
            group.key = to[key]
            nodes[group.key] = group
        else:
            node.take(group)
            node.level = min(node.level, group.level)
            node.folded += 1
    for node in nodes.values():
        if node.key in (DEEPER, EARLIER):
            node.task = f"{node.folded:,} {node.key} groups"
    edges = dict.fromkeys((to[source], to[target]) for source, target in pairs if to[source] != to[target])
    drawn = [Edge(source, target, not nodes[source].ended) for source, target in _forwards(nodes, edges)]
    parents: dict[str, str] = {}
    for source, target, called in known:
        if called and to[source] != to[target]:
            parents.setdefault(to[target], to[source])
    return Shape(list(nodes.values()), drawn, parents, to, tasks)


def _by_task(groups: Iterable[Group]) -> list[Group]:
    """Each task's groups as one."""
    tasks: dict[str, Group] = {}
    for group in sorted(groups, key=lambda each: each.level):
        found = tasks.get(group.task)
        if found is None:
            tasks[group.task] = replace(group.copy(), key=group.task)
        else:
            found.take(group)
            found.folded += 1
    return list(tasks.values())


def _fold(
    by_key: Mapping[str, Group], most: int, opened: frozenset[str], start: tuple[int, int] | None
) -> dict[str, str]:
    """The node that each group becomes part of."""
    to = {key: ROOT if key == ROOT else f"{g.level[0]}.{g.level[1]}.{g.task}" for key, g in by_key.items()}
    levels: dict[tuple[int, int], dict[str, None]] = {}
    for key, group in by_key.items():
        if start is not None and key != ROOT and group.level < start:
            to[key] = EARLIER
        levels.setdefault(group.level, {})[to[key]] = None
    room = most - 1 - any(node == EARLIER for node in to.values())
    kept, partly = {EARLIER}, list[str]()
    for level in sorted(levels):
        own = [node for node in levels[level] if node != EARLIER]
        if len(own) > room:
            partly = own
            break
        room -= len(own)
        kept.update(own)
    inside = {key: node if node in kept else DEEPER for key, node in to.items()}
    for key, group in sorted(by_key.items(), key=lambda each: -each[1].jobs):
        if inside[key] in opened - {ROOT, DEEPER, EARLIER} and room > 0:
            inside[key] = group.key
            room -= 1
    # Of the level that does not fit, those that came first.
    kept = set(partly[: max(room, 0)])
    return {key: to[key] if to[key] in kept else node for key, node in inside.items()}


def _forwards(nodes: Mapping[str, Group], edges: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Edges without those that would close a circle. Those to a higher level cannot; jobs without a rank might."""
    rising = [(source, target) for source, target in edges if nodes[source].level < nodes[target].level]
    others = [(source, target) for source, target in edges if nodes[source].level >= nodes[target].level]
    down: dict[str, list[str]] = {node: [] for node in nodes}
    for source, target in rising:
        down[source].append(target)
    for source, target in others:
        seen, stack = {target}, [target]
        while stack and source not in seen:
            for below in down[stack.pop()]:
                if below not in seen:
                    seen.add(below)
                    stack.append(below)
        if source not in seen:
            down[source].append(target)
            rising.append((source, target))
    return rising
