"""Circles among jobs that wait for each other."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairchild.errors import UsageError
from fairchild.rules.dag import find_cycle, refuse_cycle, without_implied

GRAPHS = st.dictionaries(st.integers(0, 12), st.lists(st.integers(0, 14), max_size=4), max_size=13)


def reaches(graph: dict[int, list[int]], start: int, goal: int) -> bool:
    seen: set[int] = set()
    edge = list(graph.get(start, ()))
    while edge:
        node = edge.pop()
        if node == goal:
            return True
        if node not in seen:
            seen.add(node)
            edge.extend(graph.get(node, ()))
    return False


@given(GRAPHS)
def test_a_circle_is_found_exactly_if_a_node_reaches_itself(graph: dict[int, list[int]]) -> None:
    cycle = find_cycle(graph)

    assert (cycle is not None) == any(reaches(graph, node, node) for node in graph)


@given(GRAPHS)
def test_what_is_found_is_a_circle_of_the_graph(graph: dict[int, list[int]]) -> None:
    cycle = find_cycle(graph)

    if cycle is not None:
        assert cycle[0] == cycle[-1]
        assert all(after in graph[before] for before, after in itertools.pairwise(cycle))
        assert len(set(cycle)) == len(cycle) - 1


def test_a_job_that_waits_for_itself_is_a_circle() -> None:
    assert find_cycle({"a": ["a"]}) == ["a", "a"]


def test_a_diamond_is_none() -> None:
    refuse_cycle({"d": ["b", "c"], "b": ["a"], "c": ["a"], "a": []})


def test_the_refusal_shows_the_circle() -> None:
    with pytest.raises(UsageError, match=r"a -> c -> b -> a; nothing was enqueued"):
        refuse_cycle({"a": ["x", "c"], "b": ["a"], "c": ["b"]})


def test_a_long_chain_needs_no_deep_stack() -> None:
    chain = {n: [n + 1] for n in range(100_000)}

    assert find_cycle(chain) is None
    assert len(find_cycle({**chain, 100_000: [0]}) or ()) == 100_002


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=50))
def test_without_what_other_edges_imply_as_much_is_reached_by_as_few_as_can_be(pairs: list[tuple[int, int]]) -> None:
    edges = list(dict.fromkeys((min(pair), max(pair)) for pair in pairs if pair[0] != pair[1]))
    kept = without_implied(edges)

    def reached(some: list[tuple[int, int]]) -> set[tuple[int, int]]:
        found = set(some)
        while more := {(a, d) for a, b in found for c, d in some if b == c} - found:
            found |= more
        return found

    assert reached(kept) == reached(edges)
    assert all(reached([each for each in kept if each != one]) != reached(edges) for one in kept)
    assert kept == [each for each in edges if each in kept]
