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


def refuse_cycle(upstreams: Mapping[N, Iterable[N]]) -> None:
    """Raise UsageError, showing the circle, if jobs would wait for each other."""
    cycle = find_cycle(upstreams)
    if cycle is not None:
        shown = " -> ".join(str(node) for node in cycle)
        raise UsageError(f"these jobs would wait for each other for ever: {shown}; nothing was enqueued")
