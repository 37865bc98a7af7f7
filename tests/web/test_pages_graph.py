from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairchild.errors import UsageError
from fairchild.web.graph import NODE_HEIGHT, NODE_WIDTH, ROW_GAP, Layout, layout


@st.composite
def dags(draw: st.DrawFn) -> tuple[list[str], list[tuple[str, str]]]:
    size = draw(st.integers(1, 24))
    names = [f"n{number}" for number in range(size)]
    pairs = draw(st.lists(st.tuples(st.integers(0, size - 1), st.integers(0, size - 1)), max_size=60))
    return names, [(names[min(a, b)], names[max(a, b)]) for a, b in pairs if a != b]


def overlaps(drawing: Layout) -> list[tuple[str, str]]:
    boxes = sorted(drawing.boxes.items())
    return [
        (a, b)
        for n, (a, one) in enumerate(boxes)
        for b, two in boxes[n + 1 :]
        if abs(one.x - two.x) < NODE_WIDTH and abs(one.y - two.y) < NODE_HEIGHT + ROW_GAP / 2 - 0.2
    ]


@given(dags())
@settings(deadline=None)
def test_no_boxes_overlap_and_edges_run_from_left_to_right(graph: tuple[list[str], list[tuple[str, str]]]) -> None:
    nodes, edges = graph
    drawing = layout(nodes, edges)
    assert set(drawing.boxes) == set(nodes)
    assert overlaps(drawing) == []
    assert [(line.source, line.target) for line in drawing.lines] == list(dict.fromkeys(edges))
    for a, b in edges:
        assert drawing.boxes[a].x + NODE_WIDTH < drawing.boxes[b].x
    for box in drawing.boxes.values():
        assert 0 < box.x < drawing.width - NODE_WIDTH
        assert 0 < box.y < drawing.height - NODE_HEIGHT
    assert layout(nodes, edges) == drawing


@given(dags())
@settings(deadline=None)
def test_downwards_no_boxes_overlap_either_and_edges_run_down(graph: tuple[list[str], list[tuple[str, str]]]) -> None:
    nodes, edges = graph
    drawing = layout(nodes, edges, down=True)
    across = layout(nodes, edges)
    assert {name: box.rank for name, box in drawing.boxes.items()} == {
        name: box.rank for name, box in across.boxes.items()
    }
    boxes = list(drawing.boxes.values())
    for n, one in enumerate(boxes):
        for two in boxes[n + 1 :]:
            assert abs(one.x - two.x) >= NODE_WIDTH + ROW_GAP / 2 - 0.2 or abs(one.y - two.y) >= NODE_HEIGHT
        assert 0 < one.x < drawing.width - NODE_WIDTH
        assert 0 < one.y < drawing.height - NODE_HEIGHT
    for a, b in edges:
        assert drawing.boxes[a].y + NODE_HEIGHT < drawing.boxes[b].y


def test_a_source_stands_just_before_what_needs_it() -> None:
    drawing = layout(["a", "b", "c", "late"], [("a", "b"), ("b", "c"), ("late", "c")])
    assert [drawing.boxes[node].rank for node in ("a", "b", "c", "late")] == [0, 1, 2, 1]


def test_a_fan_is_drawn_without_crossings_and_around_its_middle() -> None:
    leaves = [f"leaf{n}" for n in range(5)]
    drawing = layout(["root", *leaves, "sum"], [*(("root", n) for n in leaves), *((n, "sum") for n in leaves)])
    tops = [drawing.boxes[leaf].y for leaf in leaves]
    assert tops == sorted(tops)
    assert drawing.boxes["root"].y == drawing.boxes["sum"].y == tops[2]


def test_crossed_pairs_are_uncrossed() -> None:
    drawing = layout(["a", "b", "c", "d"], [("a", "d"), ("b", "c")])
    assert (drawing.boxes["a"].y < drawing.boxes["b"].y) == (drawing.boxes["d"].y < drawing.boxes["c"].y)


def test_edges_to_nothing_and_to_oneself_are_left_out() -> None:
    assert layout(["a"], [("a", "a"), ("a", "gone")]).lines == ()
    assert layout([], []).boxes == {}


def test_a_circle_is_shown() -> None:
    with pytest.raises(UsageError, match="a -> b -> a|b -> a -> b"):
        layout(["a", "b"], [("a", "b"), ("b", "a")])
