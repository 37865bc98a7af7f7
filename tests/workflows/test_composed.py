"""Workflows composed outside of a job: blocks, plain JSON, and the whole that both make."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from fairchild import Discard, Future
from fairchild.errors import InvalidArguments, JobFailed, UnknownJob, UsageError
from tests.support.app import PATIENCE, App


def _tasks(app: App) -> tuple[Any, Any]:
    @app.task(name="add")
    def add(a: int, b: int = 1) -> int:
        return a + b

    @app.task(name="total")
    def total(values: list[int]) -> int:
        return sum(values)

    return add, total


def test_calls_in_a_block_become_one_workflow_at_its_end(app: App) -> None:
    add, total = _tasks(app)
    with app.client.workflow("sums", tags=["nightly"]) as w:
        first = add(1, 2)
        assert isinstance(first, Future)
        last = total([*add.map([1, 2, 3], b=10), add(first, _priority=1)])
        assert app.client.get_job(w.id) is None
    assert (w.name, w.state, w.progress["total"], app.get(w.id).tags) == ("sums", "waiting", 6, ["nightly"])
    app.work()

    assert w.wait(PATIENCE).state == "completed"
    assert app.client.get_result(last, PATIENCE) == 11 + 12 + 13 + 4
    assert w.progress["states"]["completed"] == w.progress["ended"] == 6
    assert {each.workflow_id for each in w.jobs()} == {w.id}
    assert {(each.parent_id, each.depth) for each in w.jobs()} == {(None, 0), (w.id, 1)}
    assert [each.id for each in app.client.workflows.list()] == [w.id]
    assert app.client.workflows.get(last.job_id).id == w.id


def test_a_block_that_raises_leaves_nothing(app: App) -> None:
    add, _ = _tasks(app)
    w, other = app.client.workflow("no"), app.client.workflow("no")

    def raises() -> None:
        with w:
            add(1)
            raise ZeroDivisionError

    def waits_for_nothing() -> None:
        with other:
            add(1, _depends_on="01900000-0000-7000-8000-000000000001")

    with pytest.raises(ZeroDivisionError):
        raises()
    with pytest.raises(UnknownJob, match="no job has this id"):
        waits_for_nothing()

    assert app.store.sql("SELECT count(*)::int FROM {jobs}") == [(0,)]
    with pytest.raises(UnknownJob):
        _ = w.state
    with pytest.raises(UsageError, match="its block has ended"):
        _ = other.call("add", {"a": 1})


def test_an_empty_block_is_a_workflow_that_has_completed(app: App) -> None:
    with app.client.workflow("empty") as w:
        pass

    assert (w.state, w.progress["total"], list(w.jobs())) == ("completed", 0, [w.root])


@pytest.mark.parametrize("commits", [True, False])
def test_a_block_in_the_callers_transaction_commits_with_it(app: App, commits: bool) -> None:
    add, _ = _tasks(app)
    with psycopg.connect(app.url) as connection:
        with app.client.using(connection).workflow("mine") as w:
            add(add(1))
        assert app.client.get_job(w.id) is None
        (connection.commit if commits else connection.rollback)()

    assert (app.client.get_job(w.id) is not None) is commits
    if commits:
        app.work()
        assert w.wait(PATIENCE).state == "completed"


def test_a_failure_fails_the_workflow_and_a_retry_runs_what_failed_and_what_waited_for_it(app: App) -> None:
    add, total = _tasks(app)
    broken = [True]

    @app.task(max_attempts=1)
    def fragile(n: int) -> int:
        if broken:
            raise Discard("broken")
        return n

    @app.task
    def sub(n: int) -> Any:
        return add(fragile(n))

    with app.client.workflow("w") as w:
        good = add(1)
        last = total([good, sub(5)])
    app.work()
    root = w.wait(PATIENCE)
    assert (root.state, root.reason) == ("failed", "child_failed")
    assert "fragile" in root.errors[0]["message"]
    assert w.progress["states"] | {"completed": 1, "failed": 2, "cancelled": 2} == w.progress["states"]
    broken.clear()
    reopened = w.retry()

    assert [app.get(each).task.rpartition(".")[2] for each in reopened] == ["fragile"]
    assert w.wait(PATIENCE).state == "completed"
    assert app.result(last.job_id) == 2 + 6
    assert app.get(good.job_id).attempt == app.get(w.id).attempt + 1 == 1
    assert w.retry() == []


def test_a_workflow_that_was_cancelled_goes_on_where_it_was(app: App) -> None:
    add, total = _tasks(app)

    @app.task(name="spread")
    def spread(n: int) -> Any:
        return total([add(i, _queue="later") for i in range(n)])

    with app.client.workflow("w") as w:
        last = add(spread(3))
    app.work(queues=["default"])
    app.reaches(next(each for each in w.jobs() if each.task == "spread"), "waiting")
    assert w.cancel("enough") == 7
    assert w.cancel("again") == 0
    root = w.wait(0)
    assert (root.state, root.reason) == ("cancelled", "enough")
    assert {each.reason for each in w.jobs()} == {"enough"}
    w.retry()
    app.work(queues=["later"])

    assert w.wait(PATIENCE).state == "completed"
    assert app.result(last.job_id) == 1 + 1 + 2 + 3
    assert w.progress["total"] == 6


def test_a_retry_of_the_root_itself_is_one_of_the_workflow(app: App) -> None:
    add, _ = _tasks(app)
    with app.client.workflow("w") as w:
        add(1)
    w.root.cancel("no")
    w.root.retry()
    app.work()

    assert w.wait(PATIENCE).state == "completed"


def test_a_block_may_ignore_failures_and_take_jobs_from_outside(app: App) -> None:
    add, total = _tasks(app)

    @app.task
    def bad() -> int:
        raise Discard("no")

    outside = add.enqueue(1)
    with app.client.workflow("w", on_child_failure="ignore") as w:
        last = total([outside, _future(bad()).or_else(5)])
        bad()
    app.work()

    assert w.wait(PATIENCE).state == "completed"
    assert app.result(last.job_id) == 7


def _future(value: object) -> Future:
    assert isinstance(value, Future)
    return value


def test_blocks_do_not_nest_and_do_not_stand_in_jobs(app: App) -> None:
    @app.task(max_attempts=1)
    def inside() -> None:
        with app.client.workflow("no"):
            pass

    with app.client.workflow("outer"), pytest.raises(UsageError, match="inside another one"):
        app.client.workflow("inner").__enter__()
    job = inside.enqueue()
    app.work()

    with pytest.raises(JobFailed, match="inside a task, whose calls are its children anyway"):
        app.result(job)


def test_a_call_whose_chosen_id_is_taken_stands_for_that_job(app: App) -> None:
    add, _ = _tasks(app)
    there = add.enqueue(1)
    with app.client.workflow("w") as w:
        add(5, _id=there.id)
        last = add(there)
    app.work()

    assert w.wait(PATIENCE).state == "completed"
    assert app.result(last.job_id) == 3
    assert w.progress["total"] == 1


def test_a_workflow_from_json(app: App) -> None:
    _tasks(app)

    @app.task(name="show")
    def show(data: Any, outcome: Any) -> Any:
        return [data, outcome.ok]

    w = app.client.workflows.create(
        {
            "name": "etl",
            "nodes": [
                {"key": "sum", "task": "total", "args": {"values": [{"$ref": "a"}, {"$ref": "b", "or_else": 0}]}},
                {"key": "a", "task": "add", "args": {"a": 1}, "priority": 2, "scheduled_at": "2020-01-01T00:00:00Z"},
                {"key": "b", "task": "add", "args": {"a": {"$ref": "a"}}, "depends_on": ["a"], "tags": ["x"]},
                {
                    "key": "end",
                    "task": "show",
                    "args": {"data": {"$value": {"$ref": "#/x"}}, "outcome": {"$ref": "sum", "outcome": True}},
                },
            ],
        }
    )
    app.work()

    assert w.wait(PATIENCE).state == "completed"
    found = {each.task: each.result for each in w.jobs()}
    assert (found["total"], found["show"]) == (5, [{"$ref": "#/x"}, True])


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([{"key": "a", "task": "t", "depends_on": ["b"]}, {"key": "b", "task": "t", "args": {"x": [{"$ref": "a"}]}}],
         "a -> b -> a"),
        ([{"key": "a", "task": "t", "args": {"x": {"$ref": "a"}}}], "a -> a"),
        ([{"key": "a", "task": "t", "args": {"x": {"$ref": "z"}}}], "node 'a': it refers to 'z', and no node"),
        ([{"key": "a", "task": "t"}, {"key": "a", "task": "t"}], "two of this key"),
        ([{"key": "a"}], "task must be the name"),
        ([{"key": "a", "task": "t", "quue": "x"}], "unknown field 'quue'"),
        ([{"key": "a", "task": "t", "args": {"x": {"$ref": "a", "y": 1}}}], "a .ref goes alone"),
        ([{"key": "a", "task": "t", "scheduled_at": "soon"}], "scheduled_at is no time"),
        ([{"key": "a", "task": "add", "args": {"a": "x"}}], "'a'"),
        ([3], "must be an object"),
        ("no", "nodes must be a list"),
    ],
)  # fmt: skip
def test_a_description_that_is_wrong_says_where_and_makes_nothing(app: App, nodes: Any, message: str) -> None:
    _tasks(app)
    with pytest.raises((InvalidArguments, UsageError), match=message):
        app.client.workflows.create({"name": "w", "nodes": nodes})

    assert app.store.sql("SELECT count(*)::int FROM {jobs}") == [(0,)]


def test_the_graph_has_a_node_for_each_group_whatever_its_width(app: App) -> None:
    add, total = _tasks(app)

    @app.task(name="branch")
    def branch(n: int) -> Any:
        return total([add(i) for i in range(n)])

    branched: Any = branch

    with app.client.workflow("w") as w:
        first = add(1)
        total([branched(5, _depends_on=[first]), branched(7, _depends_on=[first])])
    app.work()
    w.wait(PATIENCE)
    graph = w.graph()
    shown = {node["key"]: (node["task"], node["depth"], node["rank"], node["count"]) for node in graph["nodes"]}
    parents = {shown[node["key"]][0]: shown.get(node["parent"], ("root",))[0] for node in graph["nodes"]}
    links = sorted((shown[edge["upstream"]], shown[edge["downstream"]]) for edge in graph["edges"])

    assert sorted(shown.values()) == [
        ("add", 1, 0, 1), ("add", 2, 0, 12), ("branch", 1, 1, 2), ("total", 1, 2, 1), ("total", 2, 1, 2),
    ]  # fmt: skip
    assert parents["branch"] == "root"
    assert parents["add"] == "branch"
    assert links == [
        (("add", 1, 0, 1), ("branch", 1, 1, 2)),
        (("add", 2, 0, 12), ("total", 2, 1, 2)),
        (("branch", 1, 1, 2), ("total", 1, 2, 1)),
    ]
    assert all(node["states"] == {"completed": node["count"]} for node in graph["nodes"])
