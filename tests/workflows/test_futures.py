"""Workflows out of plain calls: Futures as arguments, Futures as results, parents and children."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any
from uuid import UUID

import pytest

from fairchild import Future, Record, current_job
from fairchild.errors import FutureUsedAsValue, SpawnAfterEnd
from tests.support.app import PATIENCE, App
from tests.support.eventually import eventually


def test_a_future_passed_to_a_task_arrives_as_its_value(app: App) -> None:
    @app.task
    def make() -> Any:
        return Record({"n": 20})

    @app.task
    def add(thing: dict[str, int], more: int) -> Any:
        return Record(thing["n"] + more)

    @app.task
    def flow() -> Any:
        return add(make(), more=22)

    job = flow.enqueue()
    app.work()

    assert app.result(job) == 42


def test_futures_arrive_at_any_depth_of_lists_tuples_and_dicts(app: App) -> None:
    @app.task
    def value(x: Any) -> Any:
        return x

    @app.task
    def echo(*args: Any, **named: Any) -> Any:
        return [list(args), named]

    keys = [
        "",
        " ",
        ".",
        "a.b",
        "[0]",
        "$",
        "'",
        '"',
        "\\",
        "0",
        "-1",
        "ключ",
        "🔑",
        "\n",
        "%s",
        "{jobs}",
        "__future__",
    ]

    @app.task
    def flow() -> Any:
        f = value(1)
        deep: Any = value("deep")
        for _ in range(20):
            deep = [{"k": (deep,)}]
        return echo(f, [f, (f, [f])], {"a": {"b": [f, {"c": f}]}}, deep=deep, odd={key: value(key) for key in keys})

    job = flow.enqueue()
    app.work()
    args, named = app.result(job)

    assert args == [1, [1, [1, [1]]], {"a": {"b": [1, {"c": 1}]}}]
    deep = named["deep"]
    for _ in range(20):
        deep = deep[0]["k"][0]
    assert deep == "deep"
    assert named["odd"] == {key: key for key in keys}


def test_one_future_may_be_shared_by_many_and_its_job_runs_once(app: App) -> None:
    ran: list[int] = []

    @app.task
    def source() -> int:
        ran.append(1)
        return 7

    @app.task
    def use(a: int, b: int, n: int) -> int:
        return a + b + n

    @app.task
    def flow() -> Any:
        shared = source()
        return [use(shared, shared, n) for n in range(30)]

    job = flow.enqueue()
    app.work()

    assert app.result(job) == [14 + n for n in range(30)]
    assert ran == [1]


def test_a_value_that_is_shared_is_not_shared_as_an_object(app: App) -> None:
    @app.task
    def make() -> list[int]:
        return [1]

    @app.task
    def use(a: list[int], b: list[int]) -> Any:
        a.append(2)
        return [a, b]

    @app.task
    def flow() -> Any:
        shared = make()
        return use(shared, shared)

    job = flow.enqueue()
    app.work()

    assert app.result(job) == [[1, 2], [1]]


def test_a_job_may_return_futures_in_containers_of_containers(app: App) -> None:
    @app.task
    def value(x: int) -> int:
        return x

    @app.task
    def inner() -> Any:
        return {"list": [value(1), value(2)], "plain": 0}

    @app.task
    def flow() -> Any:
        return Record({"first": inner(), "rest": [(value(3),), {"x": {"y": value(4)}}]})

    job = flow.enqueue()
    app.work()

    assert app.result(job) == {"first": {"list": [1, 2], "plain": 0}, "rest": [[3], {"x": {"y": 4}}]}


def test_a_job_may_return_or_pass_a_job_that_was_enqueued(app: App) -> None:
    @app.task
    def value(x: int) -> int:
        return x

    @app.task
    def double(x: int) -> int:
        return 2 * x

    @app.task
    def returns() -> Any:
        return value.enqueue(5)

    @app.task
    def contains() -> Any:
        return [value.enqueue(5), value(6)]

    @app.task
    def passes() -> Any:
        return double(value.enqueue(8))  # type: ignore[arg-type]

    first, second, third = returns.enqueue(), contains.enqueue(), passes.enqueue()
    outside = double.enqueue(double.enqueue(value.enqueue(1)))
    app.work()

    assert app.result(first) == 5
    assert app.result(second) == [5, 6]
    assert app.result(third) == 16
    assert app.result(outside) == 4


def test_a_job_from_enqueue_is_no_child(app: App) -> None:
    @app.task
    def other() -> None: ...

    @app.task
    def flow() -> str:
        return str(other.enqueue(_queue="nobody").id)

    job = flow.enqueue()
    app.work(queues=["default"])
    done = app.wait(job)[0]

    assert done.state == "completed"
    assert app.get(app.store.sql("SELECT id FROM {jobs} WHERE queue = 'nobody'")[0][0]).parent_id is None


def test_the_value_none_is_passed_on_as_none(app: App) -> None:
    @app.task
    def nothing() -> None: ...

    @app.task
    def use(x: Any) -> Any:
        return ["got", x]

    @app.task
    def flow() -> Any:
        return use(nothing())

    job = flow.enqueue()
    app.work()

    assert app.result(job) == ["got", None]


def test_an_order_without_data_is_kept(app: App) -> None:
    order: list[str] = []

    @app.task
    def step(name: str) -> None:
        order.append(name)

    @app.task
    def flow() -> None:
        a = step("a")
        b = step("b", _depends_on=[a])  # type: ignore[call-arg]
        step("c", _depends_on=[a, b])  # type: ignore[call-arg]

    app.work(concurrency=4)
    app.wait(flow.enqueue())

    assert order == ["a", "b", "c"]


def test_data_that_looks_like_a_reference_stays_data(app: App) -> None:
    @app.task
    def value(x: Any) -> Any:
        return x

    @app.task
    def echo(x: Any, y: Any) -> Any:
        return [x, y]

    @app.task
    def flow() -> Any:
        f = value({"__fairchild_reference__": "x", "job_id": "y"})
        shapes = [
            {"__future__": str(f.job_id)}, {"$ref": str(f.job_id)}, [["x"], str(f.job_id)], [[[], str(f.job_id)]],
            {"refs": [[["x"], str(f.job_id)]]}, None, str(f.job_id),
        ]  # fmt: skip
        return echo(shapes, f)

    job = flow.enqueue()
    app.work()
    shapes, value_back = app.result(job)

    assert value_back == {"__fairchild_reference__": "x", "job_id": "y"}
    assert [type(each) for each in shapes] == [dict, dict, list, list, dict, type(None), str]
    assert shapes[2][0] == ["x"]


def test_values_that_arrive_by_futures_get_the_annotated_type(app: App) -> None:
    moment = datetime(2030, 1, 2, 3, 4, 5, 6, tzinfo=timezone.utc)

    @app.task
    def when() -> Any:
        return Record(moment)

    @app.task
    def use(at: datetime, ids: list[UUID]) -> Any:
        return [at == moment, type(ids[0]).__name__]

    @app.task
    def some_id() -> Any:
        return Record(UUID(int=5))

    @app.task
    def flow() -> Any:
        return use(when(), [some_id()])

    job = flow.enqueue()
    app.work()

    assert app.result(job) == [True, "UUID"]


def test_a_value_of_the_wrong_type_fails_the_job_that_receives_it(app: App) -> None:
    @app.task
    def text() -> Any:
        return "no number"

    @app.task
    def use(x: int) -> int:
        return x

    @app.task
    def flow() -> Any:
        return use(text())

    job = flow.enqueue()
    app.work()
    app.wait(job)
    child = app.children(job)[-1]

    assert (child.state, child.reason, child.errors[0]["kind"]) == ("failed", "invalid_args", "invalid_args")
    assert app.get(job).reason == "child_failed"


@pytest.mark.parametrize(
    "misuse",
    [
        lambda f: f["x"],
        lambda f: f.x,
        lambda f: f + 1,
        lambda f: 1 + f,
        lambda f: bool(f),
        lambda f: list(f),
        lambda f: len(f),
        lambda f: f < 3,
        lambda f: f(),
        lambda f: int(f),
        lambda f: f.result(),
    ],
)
def test_a_future_used_as_a_value_says_what_to_do(app: App, misuse: Callable[[Any], Any]) -> None:
    @app.task
    def value() -> int:
        return 1

    @app.task(max_attempts=1)
    def flow() -> None:
        misuse(value())

    job = flow.enqueue()
    app.work()
    (done,) = app.wait(job)

    assert done.state == "failed"
    assert done.errors[0]["type"] == FutureUsedAsValue.__name__
    assert "Pass the Future to another task" in done.errors[0]["message"]
    assert app.children(job) == []


def test_a_thousand_results_reach_an_aggregator_by_one_statement(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    @app.task
    def multiply(x: int, y: int) -> int:
        return x * y

    @app.task
    def total(values: list[int]) -> int:
        return sum(values)

    @app.task
    def flow() -> Any:
        return total([multiply(n, 2) for n in range(1000)])

    from fairchild.db.connect import Link

    reads: list[int] = []
    plain = Link.rows

    def counting(self: Link, sql: Any, params: Any = None) -> Any:
        if sql.name == "read_results":
            reads.append(len(params["ids"]))
        return plain(self, sql, params)

    monkeypatch.setattr(Link, "rows", counting)
    worker = app.work(concurrency=4)
    job = flow.enqueue()

    assert app.result(job) == 999_000
    assert reads.count(1000) == 1  # by the aggregator's claim
    assert sum(reads) <= 1001  # and by its parent, which takes over the sum
    assert worker.statements < 400


def test_children_of_one_attempt_are_inserted_together(app: App) -> None:
    @app.task
    def leaf(n: int) -> int:
        return n

    @app.task
    def flow() -> Any:
        return [leaf(n) for n in range(3000)]

    job = flow.enqueue()
    app.work(concurrency=8)

    assert app.result(job) == list(range(3000))
    assert app.store.sql("SELECT count(DISTINCT xmin::text) FROM {jobs} WHERE parent_id = %(id)s", id=job.id)[0][0] > 0
    assert app.store.sql("SELECT count(DISTINCT inserted_at) FROM {jobs} WHERE parent_id = %(id)s", id=job.id) == [(1,)]


def test_a_failed_attempt_leaves_no_children_and_its_retry_spawns_once(app: App) -> None:
    attempts: list[int] = []

    @app.task
    def child(n: int) -> int:
        return n

    @app.task(backoff="none")
    def flow() -> Any:
        attempts.append(1)
        made = [child(n) for n in range(5)]
        if len(attempts) < 3:
            raise RuntimeError("not yet")
        return made

    job = flow.enqueue()
    app.work()

    assert app.result(job) == [0, 1, 2, 3, 4]
    assert len(attempts) == 3
    assert len(app.children(job)) == 5


def test_children_are_not_visible_before_their_parent_has_returned(app: App) -> None:
    called, go_on = threading.Event(), threading.Event()

    @app.task
    def child() -> None: ...

    @app.task
    def flow() -> None:
        child()
        called.set()
        go_on.wait(PATIENCE)

    job = flow.enqueue()
    app.work()
    assert called.wait(PATIENCE)

    assert app.children(job) == []
    assert app.get(job).state == "running"
    go_on.set()
    app.wait(job)
    assert len(app.children(job)) == 1


def test_a_finish_that_the_database_breaks_off_is_done_again_and_children_come_once(app: App) -> None:
    @app.task
    def child(x: int) -> int:
        return x

    @app.task
    def flow() -> Any:
        return [child(child(1)), child(2)]

    # Raises, as a lost server would, at the last table that the transaction writes; twice.
    app.store.sql("CREATE SEQUENCE broken")
    app.store.sql(
        "CREATE FUNCTION break_off() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF nextval('broken') <= 2 THEN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(10); END IF; "
        "RETURN NULL; END $$"
    )
    app.store.sql("CREATE TRIGGER break_off AFTER INSERT ON {edges} FOR EACH STATEMENT EXECUTE FUNCTION break_off()")
    job = flow.enqueue()
    app.work()

    assert app.result(job) == [1, 2]
    assert len(app.children(job)) == 3
    assert app.get(job).attempt == 1
    assert app.store.sql("SELECT last_value FROM broken")[0][0] >= 3


def test_a_parent_is_completed_only_when_all_its_descendants_are(app: App) -> None:
    go_on = threading.Event()

    @app.task
    def leaf() -> None:
        assert go_on.wait(PATIENCE)

    @app.task
    def middle() -> None:
        leaf()

    @app.task
    def flow() -> str:
        middle()
        return "own value"

    job = flow.enqueue()
    app.work()
    eventually(lambda: app.store.sql("SELECT 1 FROM {jobs} WHERE depth = 2"), PATIENCE)
    assert app.get(job).state == "waiting"
    go_on.set()

    assert app.result(job) == "own value"


def test_a_job_that_needs_a_whole_workflow_waits_for_all_of_it(app: App) -> None:
    ended: list[str] = []

    @app.task
    def leaf() -> None:
        ended.append("leaf")

    @app.task
    def part() -> str:
        leaf()
        return "part"

    @app.task
    def after(x: str) -> list[str]:
        return [*ended, x]

    @app.task
    def flow() -> Any:
        return after(part())

    job = flow.enqueue()
    app.work()

    assert app.result(job) == ["leaf", "part"]


def test_a_call_in_a_thread_of_the_tasks_own_runs_there_and_wrapped_it_spawns(app: App) -> None:
    import warnings

    @app.task
    def child(x: int) -> int:
        return x + 1

    @app.task
    def flow() -> Any:
        found: list[Any] = []

        def plain() -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                found.append(child(1))

        def wrapped() -> None:
            found.append(child(10))

        for target in (plain, current_job().wrap(wrapped)):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
        assert found[0] == 2
        assert isinstance(found[1], Future)
        return found[1]

    job = flow.enqueue()
    app.work()

    assert app.result(job) == 11
    assert len(app.children(job)) == 1


def test_a_call_after_the_attempt_has_ended_raises_and_makes_nothing(app: App) -> None:
    caught: list[BaseException] = []
    ended, threads = threading.Event(), []

    @app.task
    def child() -> None: ...

    @app.task
    def flow() -> None:
        def late() -> None:
            ended.wait(PATIENCE)
            try:
                child()
            except SpawnAfterEnd as error:
                caught.append(error)

        thread = threading.Thread(target=current_job().wrap(late))
        threads.append(thread)
        thread.start()

    job = flow.enqueue()
    app.work()
    app.wait(job)
    ended.set()
    threads[0].join(PATIENCE)

    assert len(caught) == 1
    assert "has ended" in str(caught[0])
    assert app.children(job) == []


def test_children_of_a_workflow_know_their_root_their_parent_and_their_depth(app: App) -> None:
    @app.task
    def leaf() -> Any:
        job = current_job()
        return [str(job.workflow_id), str(job.parent_id), job.depth]

    @app.task
    def middle() -> Any:
        return leaf()

    @app.task
    def flow() -> Any:
        return middle()

    job = flow.enqueue()
    app.work()
    root, parent, depth = app.result(job)

    assert (root, depth) == (str(job.id), 2)
    assert parent == str(app.children(job)[0].id)


def test_a_child_may_have_options_of_its_own(app: App) -> None:
    @app.task
    def child() -> None: ...

    @app.task
    def flow() -> None:
        child(_queue="other", _priority=1, _tags=["x"], _meta={"a": 1}, _max_attempts=9)  # type: ignore[call-arg]
        child.options(delay=3600)()

    job = flow.enqueue()
    app.work(queues=["default"])
    app.reaches(job, "waiting")
    first, second = app.children(job)

    assert (first.queue, first.priority, first.tags, first.meta, first.max_attempts) == ("other", 1, ["x"], {"a": 1}, 9)
    assert second.state == "scheduled"
    app.work(queues=["other", "default"])
    app.make_due(second)
    assert app.wait(job)[0].state == "completed"


def test_a_finisher_that_dies_with_its_children_in_hand_is_no_half_spawn(app: App) -> None:
    @app.task
    def child() -> None: ...

    @app.task
    def flow() -> None:
        for _ in range(20):
            child()

    jobs = [flow.enqueue() for _ in range(30)]
    app.work(concurrency=4)
    for _ in range(15):
        app.kill_backends("fairchild:finisher%")
        app.kill_backends("fairchild:claimer%")
    app.wait(*jobs)

    counts = app.store.sql("SELECT count(*) FROM {jobs} WHERE parent_id IS NOT NULL GROUP BY parent_id")
    assert counts == [(20,)] * 30
