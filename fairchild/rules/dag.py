"""Graphs of jobs that wait for each other."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

from fairchild.errors import UsageError

N = TypeVar("N", bound=Hashable)


def find_cycle(upstreams: Mapping[N, Iterable[N]]) -> list[N] | None:
    """A circle in the graph, as the nodes on it with the first repeated at the end; None if there is none.

    Depth first, without recursion, in O(nodes + edges).
    """
    done: set[N] = set()
    for start in upstreams:
        if start in done:
            continue
        path: list[N] = [start]
        on_path = {start}
        iterators = [iter(upstreams[start])]
        while iterators:
            node = next(iterators[-1], None)
            if node is None:
                iterators.pop()
                ended = path.pop()
                on_path.discard(ended)
                done.add(ended)
            elif node in on_path:
                return [*path[path.index(node) :], node]
            elif node not in done and node in upstreams:
                path.append(node)
                on_path.add(node)
                iterators.append(iter(upstreams[node]))
    return None


def without_implied(edges: Iterable[tuple[N, N]]) -> list[tuple[N, N]]:
    """The edges of an acyclic graph less those from whose beginning a longer way leads to their end as well."""
    pairs = list(dict.fromkeys(edges))
    below: dict[N, list[N]] = {}
    open_count: dict[N, int] = {}
    for source, target in pairs:
        below.setdefault(source, []).append(target)
        open_count.setdefault(source, 0)
        open_count[target] = open_count.get(target, 0) + 1
    order = [node for node, count in open_count.items() if not count]
    for node in order:
        for target in below.get(node, ()):
            open_count[target] -= 1
            if not open_count[target]:
                order.append(target)
    bits = {node: 1 << number for number, node in enumerate(order)}
    reached: dict[N, int] = {}
    """Of each node those that can be reached from it, itself included."""
    for node in reversed(order):
        reached[node] = bits[node]
        for target in below.get(node, ()):
            reached[node] |= reached[target]
    return [
        (source, target)
        for source, target in pairs
        if not any(other != target and reached[other] & bits[target] for other in below[source])
    ]


def refuse_cycle(upstreams: Mapping[N, Iterable[N]]) -> None:
    """Raise UsageError, showing the circle, if jobs would wait for each other."""
    cycle = find_cycle(upstreams)
    if cycle is not None:
        shown = " -> ".join(str(node) for node in cycle)
        raise UsageError(f"these jobs would wait for each other for ever: {shown}; nothing was enqueued")
