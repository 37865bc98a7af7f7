from __future__ import annotations

from itertools import pairwise
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from fairchild.rules.shape import DEEPER, ROOT, Edge, Group, build
from fairchild.web.graph import layout

NOBODY = UUID(int=0)


def group(key: str, task: str = "t", level: tuple[int, int] = (1, 0), **counts: int) -> Group:
    return Group(key, task, level, NOBODY, counts or {"completed": 1})


def root(**counts: int) -> Group:
    return group(ROOT, "root", (-1, 0), **counts)


def test_what_waits_for_a_sibling_is_not_also_joined_to_its_parent() -> None:
    shape = build(
        [root(waiting=1), group("a", "load"), group("b", "sum", (1, 1), waiting=1)],
        [(ROOT, "a", True), (ROOT, "b", True), ("a", "b", False)],
    )
    assert shape.edges == [Edge(ROOT, "a", open=True), Edge("a", "b", open=False)]


def test_groups_that_are_too_many_become_one_by_level_and_task() -> None:
    many = [group(f"{n}", "load" if n % 2 else "save", (1, n % 2), completed=3, failed=1) for n in range(20)]
    shape = build([root(), *many], [(ROOT, each.key, True) for each in many], most=10)
    assert [(g.task, g.jobs, g.folded) for g in shape.groups] == [("root", 1, 1), ("save", 40, 10), ("load", 40, 10)]
    assert shape.counts == {"completed": 61, "failed": 20}
    assert len(shape.edges) == 2


def test_what_lies_deepest_becomes_one_node() -> None:
    chain = [group(f"{n}", f"t{n}", (n, 0)) for n in range(30)]
    links = [(a.key, b.key, True) for a, b in pairwise(chain)]
    shape = build([root(), *chain], [(ROOT, "0", True), *links], most=10)
    assert len(shape.groups) == 10
    deeper = shape.find(DEEPER)
    assert deeper is not None
    assert (deeper.task, deeper.jobs) == ("22 deeper groups", 22)
    assert shape.jobs == 31


def test_what_was_merged_opens_as_far_as_there_is_room_and_the_window_moves_down() -> None:
    def many() -> list[Group]:
        return [root(), *(group(f"{n}", "load" if n % 2 else "save", (1, n % 2)) for n in range(20))]

    links = [(ROOT, f"{n}", True) for n in range(20)]
    opened = build(many(), links, 10, ["1.1.load"])
    assert sorted(g.folded for g in opened.groups) == [1] * 7 + [4, 10]
    assert opened.jobs == 21

    chain = [group(f"{n}", f"t{n}", (n, 0)) for n in range(30)]
    later = build([root(), *chain], [(a.key, b.key, True) for a, b in pairwise(chain)], 10, (), (20, 0))
    assert [g.task for g in later.groups][:3] == ["root", "20 earlier groups", "t20"]
    assert [g.level for g in later.groups if g.key == DEEPER] == [(27, 0)]


keys = st.integers(0, 40).map(str)


@given(
    st.lists(st.tuples(keys, st.sampled_from("abc"), st.integers(0, 4), st.integers(0, 3)), unique_by=lambda g: g[0]),
    st.lists(st.tuples(keys, keys, st.booleans())),
    st.integers(3, 30),
    st.sets(st.sampled_from(["1.0.a", "0.0.b", "2.1.c", "deeper", "root"])),
    st.none() | st.tuples(st.integers(0, 4), st.integers(0, 3)),
)
def test_any_groups_can_be_drawn_and_no_job_is_lost(
    given_groups: list[tuple[str, str, int, int]],
    links: list[tuple[str, str, bool]],
    most: int,
    opened: set[str],
    start: tuple[int, int] | None,
) -> None:
    groups = [root(), *(group(k, task, (depth, rank), completed=2) for k, task, depth, rank in given_groups)]
    shape = build(groups, links, most, opened, start)
    assert len(shape.groups) <= most
    assert set(shape.inside.values()) == {g.key for g in shape.groups}
    assert set(shape.parents) <= set(shape.inside.values())
    assert shape.jobs == 1 + 2 * len(given_groups)
    layout([g.key for g in shape.groups], [(e.source, e.target) for e in shape.edges])


def test_of_a_level_that_does_not_fit_some_are_shown_and_the_others_are_deeper() -> None:
    found = build(
        [group(ROOT, level=(-1, 0)), *(group(f"g{n}", task=f"t{n}", level=(0, 0)) for n in range(30)),
         group("end", task="end", level=(0, 1))],
        [*((ROOT, f"g{n}", True) for n in range(30)), *((f"g{n}", "end", False) for n in range(30))],
        most=12,
    )  # fmt: skip
    keys = [each.key for each in found.groups]
    assert len(keys) == 12
    assert (keys[0], DEEPER in keys) == (ROOT, True)
    assert found.jobs == 32
    assert {(edge.source, edge.target) for edge in found.edges} >= {(ROOT, DEEPER), (keys[1], DEEPER)}
