"""Cancelling and retrying by hand: one, many, by filter, with what hangs on them."""

from __future__ import annotations

import threading
import uuid
from typing import Any
from uuid import UUID

import psycopg
import pytest

from fairchild import Record, Task
from fairchild.errors import StateError, TookTooLong, UnknownJob, UsageError
from tests.support.app import App


@pytest.fixture
def add(app: App) -> Task[..., Any]:
    def add(a: int, b: int = 0) -> int:
        return a + b

    return app.task(name="add")(add)


def work(app: App) -> None:
    app.work(concurrency=2, poll_interval=0.05)


def states(app: App, *jobs: Any) -> list[tuple[str, str | None]]:
    return [(str(job.state), job.reason) for job in (app.get(each) for each in jobs)]


def test_what_does_not_run_is_cancelled_at_once(app: App, add: Task[..., Any]) -> None:
    available, scheduled = add.enqueue(1), add.enqueue_in(1, hours=1)
    waiting = add.enqueue(1, _depends_on=add.enqueue_in(1, hours=2))

    for job in (available, scheduled, waiting):
        assert job.cancel("not needed") is job
        assert (job.state, job.reason, job.attempt, job.errors) == ("cancelled", "not needed", 0, [])
        assert job.ended_at is not None
    assert app.store.violations() == []


def test_dependents_of_a_cancelled_job_are_cancelled_because_of_it(app: App, add: Task[..., Any]) -> None:
    first = add.enqueue(1)
    second = add.enqueue(first)
    third = add.enqueue(second, b=first)
    free = add.enqueue(9)

    assert app.client.cancel(first) == [first.id]

    assert states(app, first, second, third, free) == [
        ("cancelled", "cancelled"), ("cancelled", "upstream_failed"), ("cancelled", "upstream_failed"),
        ("available", None),
    ]  # fmt: skip


def test_children_of_a_cancelled_parent_are_cancelled_with_it(app: App) -> None:
    held = threading.Event()
    go = threading.Event()

    @app.task(name="leaf")
    def leaf(n: int) -> int:
        return n

    @app.task(name="middle")
    def middle(n: int) -> Any:
        return [leaf.options(delay=3600)(n)]

    @app.task(name="top")
    def top() -> Any:
        held.set()
        assert go.wait(30)
        return [leaf.options(delay=3600)(1), middle(2)]

    root = top.enqueue()
    work(app)
    assert held.wait(30)
    go.set()
    app.reaches(root, "waiting")
    family = app.children(root)
    below = next(job for job in family if job.task == "middle")
    app.reaches(below, "waiting")
    family += app.children(below)

    cancelled = app.client.cancel(root.id, "all of it")

    assert set(cancelled) == {root.id, *(job.id for job in family)}
    assert [state for state, _ in states(app, root, *family)] == ["cancelled"] * 4
    assert states(app, root) == [("cancelled", "all of it")]


def test_a_running_job_is_asked_to_stop(app: App) -> None:
    running = threading.Event()

    @app.task(name="long")
    def long(job: Any) -> None:
        running.set()
        while not job.cancelled:
            threading.Event().wait(0.01)
        job.check()

    job = long.enqueue()
    app.work(concurrency=1, poll_interval=0.05, heartbeat_interval=0.05)
    assert running.wait(30)

    assert app.client.cancel(job, "stop it") == [job.id]

    (ended,) = app.wait(job)
    assert ended.state == "cancelled"


def test_cancelling_again_changes_nothing(app: App, add: Task[..., Any]) -> None:
    job = add.enqueue(1)
    job.cancel("first")
    ended_at = job.ended_at

    assert app.client.cancel(job, "second") == []
    assert job.cancel("third") is job

    assert (job.reason, job.ended_at) == ("first", ended_at)
    assert app.client.stats()["jobs"]["cancelled"] == 1


def test_a_job_that_has_ended_is_not_cancelled(app: App, add: Task[..., Any]) -> None:
    job = add.enqueue(1)
    work(app)
    app.wait(job)

    assert app.client.cancel(job) == []
    assert job.cancel().state == "completed"


def test_a_job_that_has_not_ended_is_not_retried(app: App, add: Task[..., Any]) -> None:
    job = add.enqueue(1)
    with pytest.raises(StateError, match="available and has not ended"):
        job.retry()
    assert app.client.retry(job) == []


def test_ids_that_no_job_has_cancel_nothing_and_a_single_one_is_named(app: App, add: Task[..., Any]) -> None:
    job = add.enqueue(1)
    app.store.sql("DELETE FROM {ready}")
    app.store.sql("DELETE FROM {jobs}")

    assert app.client.cancel([uuid.uuid4()]) == []
    assert app.client.cancel([]) == []
    with pytest.raises(UnknownJob):
        job.cancel()
    with pytest.raises(UnknownJob):
        job.retry()


def test_many_are_cancelled_by_id_job_and_text(app: App, add: Task[..., Any]) -> None:
    one, two, three, four = (add.enqueue(n) for n in range(4))

    cancelled = app.client.cancel([one, two.id, str(three.id), one], "several")

    assert sorted(cancelled) == sorted([one.id, two.id, three.id])
    assert app.get(four).state == "available"


def test_a_filter_cancels_what_it_finds_however_many(app: App, add: Task[..., Any]) -> None:
    add.enqueue_many(({"a": n} for n in range(2500)), _queue="bulk", _tags=["x"])
    add.enqueue_many(({"a": n} for n in range(3)), _queue="other", _tags=["x"])

    cancelled = app.client.cancel({"queue": "bulk", "tag": "x"}, "bulk")

    assert len(cancelled) == 2500
    assert app.client.stats()["queues"]["bulk"] == {
        **app.client.stats()["queues"]["other"],
        "available": 0,
        "cancelled": 2500,
    }
    assert app.client.cancel({"task": add.name, "state": "available"}) != []
    assert app.store.violations() == []


@pytest.mark.parametrize(
    ("filters", "complaint"),
    [
        ({}, "an empty filter would mean all jobs"),
        ({"queue": None}, "an empty filter would mean all jobs"),
        ({"limit": 5}, "unknown filter 'limit'"),
        ({"quue": "a"}, "unknown filter 'quue'.*filters are|Filters are"),
        ({"state": "done"}, "not a state"),
    ],
)
def test_a_filter_that_could_mean_too_much_is_refused(
    app: App, add: Task[..., Any], filters: dict[str, Any], complaint: str
) -> None:
    job = add.enqueue(1)

    for change in (app.client.cancel, app.client.retry):
        with pytest.raises(UsageError, match=complaint):
            change(filters)
    assert app.get(job).state == "available"


# Retrying


@pytest.fixture
def flaky(app: App) -> Task[..., Any]:
    """Fails as long as its name is in ``app.broken``."""
    broken = {"on"}
    app.broken = broken  # type: ignore[attr-defined]

    def flaky(n: int) -> Any:
        if broken:
            raise LookupError(f"broken {n}")
        return Record(n * 10)

    return app.task(name="flaky", max_attempts=1, tags=["flaky"])(flaky)


def mend(app: App) -> None:
    app.broken.clear()  # type: ignore[attr-defined]


def test_a_failed_job_runs_again_with_an_attempt_more_and_keeps_its_errors(app: App, flaky: Task[..., Any]) -> None:
    job = flaky.enqueue(1)
    work(app)
    app.wait(job)
    mend(app)

    assert app.get(job).retry().state in ("available", "running", "completed")

    assert app.result(job) == 10
    found = app.get(job)
    assert (found.attempt, found.max_attempts, found.reason) == (2, 2, None)
    assert [error["message"] for error in found.errors] == ["broken 1"]


def test_cancelled_and_completed_jobs_run_again_too(app: App, add: Task[..., Any]) -> None:
    cancelled, completed = add.enqueue(1, _queue="later"), add.enqueue(2)
    later = add.enqueue_in(3, hours=1)
    cancelled.cancel()
    later.cancel()
    work(app)
    app.wait(completed)

    assert set(app.client.retry([cancelled, completed.id, str(later.id)])) == {cancelled.id, completed.id, later.id}

    assert [job.result for job in app.wait(cancelled, completed)] == [1, 2]
    assert app.get(completed).attempt == 2


def test_what_was_cancelled_because_of_a_job_waits_for_it_again(
    app: App, flaky: Task[..., Any], add: Task[..., Any]
) -> None:
    first = flaky.enqueue(1)
    second = add.enqueue(first, b=1)
    third = add.enqueue(second, b=1)
    apart = add.enqueue(second)
    apart.cancel("by hand")
    work(app)
    app.wait(first, second, third)
    assert states(app, second, third) == [("cancelled", "upstream_failed")] * 2
    mend(app)

    assert app.client.retry(first) == [first.id]

    assert app.result(third) == 12
    assert states(app, apart) == [("cancelled", "by hand")]


def test_a_parent_that_failed_because_of_a_child_completes_after_its_retry(app: App, flaky: Task[..., Any]) -> None:
    parent = app.task(name="parent")(lambda: flaky(4))
    root = parent.enqueue()
    work(app)
    (failed,) = app.wait(root)
    assert (failed.state, failed.reason) == ("failed", "child_failed")
    mend(app)

    (child,) = app.children(root)
    child.retry()

    assert app.result(root) == 40


def test_what_has_not_ended_is_not_retried(app: App, add: Task[..., Any]) -> None:
    available, scheduled = add.enqueue(1), add.enqueue_in(1, hours=1)

    assert app.client.retry([available, scheduled]) == []

    assert [app.get(job).state for job in (available, scheduled)] == ["available", "scheduled"]


def test_a_filter_retries_what_it_finds(app: App, flaky: Task[..., Any], add: Task[..., Any]) -> None:
    broken = flaky.enqueue_many({"n": n} for n in range(30))
    fine = add.enqueue(1)
    work(app)
    app.wait(*broken, fine)
    mend(app)

    assert set(app.client.retry({"state": "failed", "tag": "flaky"})) == set(broken)

    assert {job.state for job in app.wait(*broken)} == {"completed"}
    assert app.get(fine).attempt == 1


def test_two_who_retry_the_same_job_reopen_it_once(app: App, add: Task[..., Any]) -> None:
    job = add.enqueue(1)
    job.cancel()

    assert app.client.retry(job) == [job.id]
    assert app.client.retry(job) == []
    assert app.store.sql("SELECT count(*) FROM {ready}") == [(1,)]


def test_a_scheduled_job_is_run_now_by_id_job_or_filter(app: App, add: Task[..., Any]) -> None:
    first, second = add.enqueue_in(1, hours=1), add.enqueue_in(2, hours=1)
    third = add.options(queue="other").enqueue_in(3, hours=1)

    assert first.run_now().state == "available"
    assert first.run_now().state == "available"
    assert app.client.run_now([first, str(second.id)]) == [second.id]
    assert app.client.run_now({"queue": "other", "state": "scheduled"}) == [third.id]

    work(app)
    assert [job.result for job in app.wait(first, second, third)] == [1, 2, 3]


def test_who_runs_out_of_time_between_portions_has_cancelled_and_workers_go_on(app: App) -> None:
    """And where the time is over before the first, nothing is."""
    parent, children = app.store.family(6)
    reached: list[UUID] = []
    with psycopg.connect(app.url) as somebody:  # has a lock on what comes in the second portion
        somebody.execute("SELECT 1 FROM fairchild_jobs_base WHERE id = %s FOR UPDATE", [children[0]])
        with app.client.writing_within(30.0):
            assert app.client.cancel_within(30.0, [parent], "no", reached.extend) is False
        assert reached == [parent]
        assert app.store.state(children[0]) == "available"
        with pytest.raises(TookTooLong), app.client.writing_within(30.0):
            app.client.cancel_within(30.0, [children[0]], "no", reached.extend)
        assert app.store.sql("SELECT job_id FROM {cancellations}") == [(parent,)]
    assert app.client.cancel_within(60.0, [parent], "no", reached.extend) is True
    assert set(app.store.states(parent, *children)) == {"cancelled"}
