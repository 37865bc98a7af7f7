"""Waiting for jobs to end, and for their results."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import pytest

from fairchild import Cancel, Discard, JobCancelled, JobFailed, NoResult, Record, ResultTimeout, Task
from fairchild.errors import TaskError, UnknownJob
from tests.support.app import App


@pytest.fixture
def give(app: App) -> Task[..., Any]:
    def give(value: Any = None) -> Any:
        return Record(value)

    return app.task(name="give")(give)


def work(app: App) -> None:
    app.work(concurrency=2, poll_interval=0.05)


@pytest.mark.parametrize("value", [0, "", [], {"a": [1, None]}, False, 2**80, 1.5, None])
def test_the_result_is_the_value(app: App, give: Task[..., Any], value: Any) -> None:
    job = give.enqueue(value)
    work(app)

    assert app.client.get_result(job.id, timeout=30) == value
    found = app.get(job)
    assert (found.has_result, found.result) == (True, value)


def test_none_is_a_result_and_no_result_is_not_none(app: App, give: Task[..., Any]) -> None:
    none = give.enqueue(None)
    nothing = app.task(name="nothing", record=False)(lambda: 5).enqueue()
    dropped = app.task(name="dropped")(lambda: object()).enqueue()
    work(app)

    assert app.result(none) is None
    for job in (nothing, dropped):
        with pytest.raises(NoResult, match="kept no result; return a value or a Record"):
            app.result(job)
        assert app.get(job).has_result is False


def test_a_failed_job_raises_with_its_last_error(app: App) -> None:
    @app.task(name="broken", max_attempts=2, backoff="none")
    def broken() -> None:
        raise LookupError("not there")

    job = broken.enqueue()
    work(app)

    with pytest.raises(JobFailed, match=r"broken\) failed \(error\): LookupError: not there") as raised:
        app.result(job)
    assert raised.value.job == job
    assert [error["attempt"] for error in raised.value.job.errors] == [1, 2]
    assert isinstance(raised.value, TaskError)


def test_a_discarded_job_raises_with_its_reason(app: App) -> None:
    job = app.task(name="hopeless")(lambda: Discard("no use")).enqueue()
    work(app)

    with pytest.raises(JobFailed, match=r"\(discarded\): error: no use"):
        app.result(job)


def test_a_cancelled_job_raises_with_its_reason(app: App, give: Task[..., Any]) -> None:
    by_hand = give.enqueue()
    by_hand.cancel("changed my mind")
    by_task = app.task(name="stop")(lambda: Cancel("enough")).enqueue()
    work(app)

    for job, reason in ((by_hand, "changed my mind"), (by_task, "enough")):
        with pytest.raises(JobCancelled, match=reason) as raised:
            app.result(job)
        assert raised.value.job.reason == reason


def test_a_timeout_says_that_the_job_goes_on(app: App, give: Task[..., Any]) -> None:
    job = give.enqueue(5)

    for timeout in (0, 0.05):
        with pytest.raises(ResultTimeout, match="1 of 1 jobs have not ended.*they go on"):
            app.client.get_result(job.id, timeout=timeout)
    with pytest.raises(TimeoutError):
        job.wait(timeout=0)
    work(app)

    assert job.wait(timeout=30).result == 5


def test_a_result_that_is_there_needs_no_waiting(app: App, give: Task[..., Any]) -> None:
    job = give.enqueue(5)
    work(app)
    app.wait(job)

    assert app.client.get_result(job.id, timeout=0) == 5
    assert app.client.get_result(str(job.id)) == 5


def test_an_id_that_no_job_has_is_named_at_once(app: App, give: Task[..., Any]) -> None:
    nobody = uuid.uuid4()

    with pytest.raises(UnknownJob, match=str(nobody)):
        app.client.get_result(nobody)
    with pytest.raises(UnknownJob, match=str(nobody)):
        app.client.wait([give.enqueue(), nobody])


def test_a_job_that_is_deleted_meanwhile_does_not_hold_the_one_who_waits(app: App, give: Task[..., Any]) -> None:
    with pytest.raises(LookupError):
        app.client.get_result(uuid.uuid4(), timeout=30)


def test_many_are_waited_for_in_the_order_given(app: App, give: Task[..., Any]) -> None:
    ids = give.enqueue_many({"value": n} for n in range(300))
    work(app)

    jobs = app.client.wait([ids[5], str(ids[3]), *ids, ids[5]], timeout=30)

    assert [job.result for job in jobs] == [5, 3, *range(300), 5]
    assert jobs[0].refresh().state == "completed"


def test_waiting_takes_one_none_and_any_iterable(app: App, give: Task[..., Any]) -> None:
    job = give.enqueue(1)
    work(app)

    assert app.client.wait(job, timeout=30) == [job]
    assert app.client.wait(job.id, timeout=30) == [job]
    assert app.client.wait(each for each in [job]) == [job]
    assert app.client.wait([]) == []


def test_wait_does_not_mind_how_the_jobs_ended(app: App, give: Task[..., Any]) -> None:
    @app.task(name="broken", max_attempts=1)
    def broken() -> None:
        raise ValueError

    good, bad, gone = give.enqueue(), broken.enqueue(), give.enqueue()
    gone.cancel()
    work(app)

    assert [job.state for job in app.client.wait([good, bad, gone], timeout=30)] == ["completed", "failed", "cancelled"]


def test_a_timeout_counts_those_that_are_open(app: App, give: Task[..., Any]) -> None:
    done, later = give.enqueue(1), give.enqueue_in(hours=1)
    work(app)
    app.wait(done)

    with pytest.raises(ResultTimeout, match="2 of 3 jobs"):
        app.client.wait([done, later, give.enqueue_in(hours=2)], timeout=0.05)


def test_many_threads_may_wait_with_a_pool_of_two_connections(app: App, give: Task[..., Any]) -> None:
    from fairchild import Fairchild

    ids = give.enqueue_many({"value": n} for n in range(16))
    results: dict[int, Any] = {}
    with Fairchild(app.url, pool_size=2) as client:

        def wait_for(n: int) -> None:
            results[n] = client.get_result(ids[n], timeout=30)

        threads = [threading.Thread(target=wait_for, args=(n,)) for n in range(16)]
        for thread in threads:
            thread.start()
        work(app)
        for thread in threads:
            thread.join()

    assert results == {n: n for n in range(16)}


def test_who_waits_survives_the_loss_of_the_connections(app: App, give: Task[..., Any]) -> None:
    waiting = app.other_client()
    first, job = give.enqueue(1), give.enqueue_in(5, hours=1)
    box: list[Any] = []
    thread = threading.Thread(target=lambda: box.append(waiting.get_result(job.id, timeout=60)))
    assert waiting.get_job(first.id) is not None
    thread.start()
    app.kill_backends("fairchild:client%")
    app.make_due(job)
    app.work(client=app.other_client(), concurrency=1, poll_interval=0.05)
    thread.join()

    assert box == [5]
