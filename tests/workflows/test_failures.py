"""When a part of a workflow does not complete: who is cancelled, who fails, and that nobody waits for ever."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from fairchild import Cancel, Discard, Future, Record
from fairchild.errors import JobCancelled, JobFailed
from fairchild.ids import uuid7
from tests.support.app import PATIENCE, App
from tests.support.eventually import eventually


def test_an_upstream_failure_cancels_what_needs_it_and_fails_the_parent(app: App) -> None:
    @app.task(max_attempts=1)
    def bad() -> int:
        raise ValueError("no")

    @app.task
    def use(x: int) -> int:
        return x

    @app.task
    def flow() -> Any:
        return use(use(use(bad())))

    job = flow.enqueue()
    app.work()
    with pytest.raises(JobFailed, match="did not complete"):
        app.result(job)
    first, *others = app.children(job)

    assert (first.state, first.reason) == ("failed", "error")
    assert {(each.state, each.reason) for each in others} == {("cancelled", "upstream_failed")}
    assert all(each.errors[0]["kind"] == "upstream_failed" for each in others)
    assert (app.get(job).state, app.get(job).reason) == ("failed", "child_failed")


def test_the_others_of_a_workflow_still_complete(app: App) -> None:
    @app.task(max_attempts=1)
    def bad() -> None:
        raise ValueError("no")

    @app.task
    def good() -> int:
        return 1

    @app.task
    def flow() -> None:
        bad()
        good()

    job = flow.enqueue()
    app.work()
    app.wait(job)

    assert [each.state for each in app.children(job)] == ["failed", "completed"]


def test_a_parent_that_ignores_failures_completes_with_its_own_value(app: App) -> None:
    @app.task
    def bad() -> None:
        raise Discard("no")

    @app.task(on_child_failure="ignore")
    def flow() -> str:
        bad()
        return "mine"

    job = flow.enqueue()
    app.work()

    assert app.result(job) == "mine"


def test_a_parent_that_ignores_failures_fails_if_its_value_is_that_of_a_failed_child(app: App) -> None:
    @app.task
    def bad() -> int:
        raise Discard("no")

    @app.task(on_child_failure="ignore")
    def flow() -> Any:
        return [1, bad()]

    job = flow.enqueue()
    app.work()
    (done,) = app.wait(job)

    assert (done.state, done.reason) == ("failed", "upstream_failed")
    assert "is failed" in done.errors[0]["message"]


def test_a_failure_goes_up_through_all_parents(app: App) -> None:
    @app.task
    def bad() -> None:
        raise Discard("no")

    @app.task
    def nest(depth: int) -> None:
        if depth:
            nest(depth - 1)
        else:
            bad()

    job = nest.enqueue(6)
    app.work()
    app.wait(job)
    rows = app.store.sql("SELECT state, reason, count(*)::int FROM {jobs} GROUP BY 1, 2 ORDER BY 2")

    assert rows == [("failed", "child_failed", 7), ("failed", "discarded", 1)]


def test_a_middle_that_ignores_failures_stops_them(app: App) -> None:
    @app.task
    def bad() -> None:
        raise Discard("no")

    @app.task(on_child_failure="ignore")
    def middle() -> str:
        bad()
        return "fine"

    @app.task
    def flow() -> Any:
        return middle()

    job = flow.enqueue()
    app.work()

    assert app.result(job) == "fine"


def test_a_task_that_cancels_itself_cancels_what_needs_it(app: App) -> None:
    @app.task
    def gives_up() -> int:
        raise Cancel("nothing to do")

    @app.task
    def use(x: int) -> int:
        return x

    first = gives_up.enqueue()
    second = use.enqueue(first)
    app.work()
    one, two = app.wait(first, second)

    assert (one.state, one.reason) == ("cancelled", "nothing to do")
    assert (two.state, two.reason) == ("cancelled", "upstream_failed")
    with pytest.raises(JobCancelled, match="upstream_failed"):
        app.result(second)


@pytest.mark.parametrize("how", ["fail", "cancel", "no result"])
def test_a_job_made_after_its_upstream_ended_without_a_value_ends_too(app: App, how: str) -> None:
    @app.task(max_attempts=1)
    def upstream() -> Any:
        if how == "fail":
            raise ValueError("no")
        if how == "cancel":
            raise Cancel("no")
        return object()

    @app.task
    def use(x: Any) -> Any:
        return x

    first = upstream.enqueue()
    worker_log_of_dropped_results_is_expected = app.work()
    app.wait(first)
    second = use.enqueue(first)
    (done,) = app.wait(second)

    assert (done.state, done.reason) == (
        ("failed", "upstream_failed") if how == "no result" else ("cancelled", "upstream_failed")
    )
    assert worker_log_of_dropped_results_is_expected.alive


@pytest.mark.parametrize("how", ["failed", "cancelled"])
def test_a_child_that_needs_a_job_which_failed_before_it_was_made_ends_and_so_does_its_parent(
    app: App, how: str
) -> None:
    @app.task(max_attempts=1)
    def upstream() -> int:
        raise (ValueError("no") if how == "failed" else Cancel("no"))

    @app.task
    def use(x: int) -> int:
        return x

    first = upstream.enqueue()
    app.work()
    app.wait(first)

    @app.task
    def flow() -> Any:
        return use(first)  # type: ignore[arg-type]

    (done,) = app.wait(flow.enqueue())

    assert (done.state, done.reason) == ("failed", "child_failed")
    assert app.children(done)[0].reason == "upstream_failed"


def test_a_value_that_was_not_kept_fails_the_job_that_needs_it_and_says_why(app: App) -> None:
    @app.task(record=False)
    def quiet() -> int:
        return 1

    @app.task
    def use(x: int) -> int:
        return x

    @app.task
    def flow() -> Any:
        return use(quiet())

    job = flow.enqueue()
    app.work()
    app.wait(job)
    child = app.children(job)[1]

    assert (child.state, child.reason, child.attempt) == ("failed", "upstream_failed", 1)
    assert "without keeping a result" in child.errors[0]["message"]
    assert "Record" in child.errors[0]["message"]


def test_cancelling_an_upstream_that_waits_ends_the_whole_workflow(app: App) -> None:
    @app.task
    def value() -> int:
        return 1

    @app.task
    def use(x: int) -> int:
        return x

    @app.task
    def flow() -> Any:
        return use(use(value(_queue="nobody")))  # type: ignore[call-arg]

    job = flow.enqueue()
    app.work(queues=["default"])
    app.reaches(job, "waiting")
    app.children(job)[0].cancel("by hand")
    app.wait(job)

    assert [(each.state, each.reason) for each in [app.get(job), *app.children(job)]] == [
        ("failed", "child_failed"),
        ("cancelled", "by hand"),
        ("cancelled", "upstream_failed"),
        ("cancelled", "upstream_failed"),
    ]


def test_cancelling_a_workflow_cancels_its_waiting_jobs_and_asks_the_running_ones(app: App) -> None:
    started, stopped = threading.Event(), threading.Event()

    @app.task
    def long(job: Any) -> None:
        started.set()
        while True:
            try:
                job.check()
            except BaseException:
                stopped.set()
                raise
            threading.Event().wait(0.01)

    @app.task
    def use(x: Any) -> None: ...

    @app.task
    def flow() -> None:
        use(long())  # type: ignore[call-arg]

    job = flow.enqueue()
    app.work(lease=1.2)
    assert started.wait(PATIENCE)
    job.cancel("enough")
    assert stopped.wait(PATIENCE)
    running, waiting = app.children(job)
    app.wait(running)

    assert (app.get(job).state, app.get(job).reason) == ("cancelled", "enough")
    assert (app.get(waiting).state, app.get(running).reason) == ("cancelled", "enough")


def test_a_late_edge_is_found_by_a_running_worker(app: App) -> None:
    @app.task
    def value() -> int:
        return 3

    @app.task
    def use(x: int) -> int:
        return x + 1

    upstream = value.enqueue()
    other = app.client.database.open("tests")
    with other.connection.transaction():
        dependent = app.client.using(other.connection).enqueue(use, {"x": upstream})
        # The upstream completes while this transaction is open: its end cannot see the edge.
        app.work(lease=1.2)
        app.wait(upstream)
    other.connection.close()

    assert app.result(dependent) == 4


def test_a_job_whose_upstream_was_deleted_ends_in_the_hands_of_a_running_worker(app: App) -> None:
    @app.task
    def value() -> int:
        return 3

    @app.task
    def use(x: int) -> int:
        return x

    @app.task
    def flow() -> Any:
        return use(value(_queue="nobody"))  # type: ignore[call-arg]

    job = flow.enqueue()
    app.work(queues=["default"], lease=1.2)
    app.reaches(job, "waiting")
    upstream, dependent = app.children(job)
    with app.store.link.connection.transaction():
        app.store.sql("DELETE FROM {ready} WHERE job_id = %(id)s", id=upstream.id)
        app.store.sql("DELETE FROM {jobs} WHERE id = %(id)s", id=upstream.id)
    app.wait(job)

    assert app.get(dependent).reason == "upstream_failed"
    assert "is missing" in app.get(dependent).errors[0]["message"]
    assert app.get(job).reason == "child_failed"


def test_a_child_that_needs_an_unknown_job_fails_its_parent_alone(app: App) -> None:
    @app.task
    def use(x: int) -> int:
        return x

    unknown = uuid7()

    @app.task
    def bad() -> Any:
        return use(Future(unknown, "somewhere"))  # type: ignore[arg-type]

    @app.task
    def good(n: int) -> Any:
        return use(n)

    jobs = [good.enqueue(n) for n in range(20)]
    broken = bad.enqueue()
    jobs += [good.enqueue(n) for n in range(20)]
    app.work(concurrency=4)
    app.wait(*jobs, broken)

    assert {each.state for each in map(app.get, jobs)} == {"completed"}
    done = app.get(broken)
    assert (done.state, done.reason, done.errors[0]["attempt"]) == ("failed", "error", 1)
    assert str(unknown) in done.errors[0]["message"]


def test_calls_that_would_wait_for_each_other_fail_their_parent_alone(app: App) -> None:
    a, b = uuid7(), uuid7()

    @app.task
    def step() -> None: ...

    @app.task
    def circle() -> None:
        step(_id=a, _depends_on=[b])  # type: ignore[call-arg]
        step(_id=b, _depends_on=[a])  # type: ignore[call-arg]

    job, fine = circle.enqueue(), step.enqueue()
    worker = app.work()
    done, other = app.wait(job, fine)

    assert done.state == "failed"
    assert "wait for each other" in done.errors[0]["message"]
    assert other.state == "completed"
    assert app.wait(step.enqueue())[0].state == "completed"
    assert worker.alive


def test_a_job_that_would_wait_for_its_own_workflow_fails(app: App) -> None:
    @app.task
    def inner() -> Any:
        return app.client.get_job(app.store.sql("SELECT id FROM {jobs} WHERE parent_id IS NULL")[0][0])

    @app.task
    def flow() -> Any:
        return inner()

    job = flow.enqueue()
    app.work(concurrency=1)
    (done,) = app.wait(job)

    assert done.reason == "child_failed"
    assert "wait for each other" in app.children(job)[0].errors[0]["message"]


def test_a_workflow_is_retried_where_it_failed_and_keeps_what_completed(app: App) -> None:
    ran: list[str] = []
    broken = threading.Event()
    broken.set()

    @app.task
    def good() -> int:
        ran.append("good")
        return 1

    @app.task(max_attempts=1)
    def bad(x: int) -> int:
        if broken.is_set():
            raise ValueError("no")
        return x + 1

    @app.task
    def total(x: int, y: int) -> Any:
        return Record(x + y)

    @app.task
    def flow() -> Any:
        ran.append("flow")
        first = good()
        return total(first, bad(first))

    job = flow.enqueue()
    app.work()
    assert app.wait(job)[0].state == "failed"
    broken.clear()
    app.children(job)[1].retry()

    assert app.result(job) == 3
    assert ran == ["flow", "good"]
    assert eventually(lambda: {each.state for each in app.children(job)} == {"completed"})


def test_a_job_cancelled_while_it_ran_does_not_leave_children(app: App) -> None:
    started, go_on = threading.Event(), threading.Event()

    @app.task
    def child() -> None: ...

    @app.task
    def flow() -> Any:
        started.set()
        go_on.wait(PATIENCE)
        return child()

    job = flow.enqueue()
    app.work()
    assert started.wait(PATIENCE)
    job.cancel("too late to look")
    go_on.set()
    (done,) = app.wait(job)

    assert (done.state, done.reason) == ("cancelled", "too late to look")
    assert app.children(job) == []
