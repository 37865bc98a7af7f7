"""When an attempt is tried again, when not, and what is counted."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from fairchild import Backoff, Cancel, Discard, Retry, Snooze, current_job
from tests.support.app import App
from tests.support.eventually import eventually


def seconds_until_due(app: App, job: Any) -> float:
    app.reaches(job, "scheduled")
    return float(
        app.store.sql(
            "SELECT extract(epoch FROM d.run_at - j.ended) FROM {due} d CROSS JOIN LATERAL "
            "(SELECT (errors->-1->>'at')::timestamptz AS ended FROM {jobs} WHERE id = d.job_id) j "
            "WHERE job_id = %(id)s",
            id=job.id,
        )[0][0]
    )


@pytest.mark.parametrize(
    ("backoff", "delays"),
    [
        (Backoff.exponential(8, jitter=0), [8, 16, 32]),
        (Backoff.exponential(8, factor=3, limit=30, jitter=0), [8, 24, 30]),
        (Backoff.linear(7), [7, 14, 21]),
        ("linear", [10, 20, 30]),
        ([5, timedelta(minutes=1)], [5, 60, 60]),
        (lambda attempt, error: attempt * 100 + len(str(error)), [104, 204, 304]),
        (lambda attempt, error: timedelta(hours=attempt), [3600, 7200, 10800]),
        (lambda attempt, error: float("inf"), [366 * 86400.0] * 3),
    ],
)
def test_the_next_attempt_is_due_after_the_tasks_backoff(app: App, backoff: Any, delays: list[float]) -> None:
    @app.task(backoff=backoff, max_attempts=4)
    def bad() -> None:
        raise ValueError("text")

    job = bad.enqueue()
    app.work()
    found = []
    for number in range(3):
        eventually(lambda number=number: app.get(job).attempt == number + 1)  # type: ignore[misc]
        found.append(seconds_until_due(app, job))
        app.make_due(job)
    app.wait(job)

    assert found == pytest.approx(delays)
    assert app.get(job).attempt == 4


def test_no_backoff_means_at_once(app: App) -> None:
    ran: list[int] = []

    @app.task(backoff="none", max_attempts=5)
    def bad() -> None:
        ran.append(1)
        raise ValueError("x")

    app.work()
    (done,) = app.wait(bad.enqueue())

    assert (done.state, done.reason, done.attempt, len(ran)) == ("failed", "error", 5, 5)
    assert [entry["attempt"] for entry in done.errors] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("result", ["text", None, ValueError("mine"), SystemExit(1), float("nan")])
def test_a_backoff_function_that_is_wrong_fails_the_job_and_not_the_worker(app: App, result: Any) -> None:
    def backoff(attempt: int, error: BaseException) -> Any:
        if isinstance(result, BaseException):
            raise result
        return result

    @app.task(backoff=backoff, max_attempts=2)
    def bad() -> None:
        raise ValueError("x")

    @app.task
    def good() -> int:
        return 1

    app.work(concurrency=1)
    (done,) = app.wait(bad.enqueue())

    assert done.state == "failed"
    assert app.result(good.enqueue()) == 1


class Temporary(Exception): ...


class Useless(Temporary): ...


@pytest.mark.parametrize(
    ("error", "attempts", "reason"),
    [
        (Temporary("x"), 3, "error"),
        (Useless("x"), 1, "discarded"),
        (ValueError("x"), 1, "error"),
        (Discard("why not"), 1, "discarded"),
        (SystemExit(1), 1, "error"),
    ],
)
def test_what_is_tried_again_is_the_tasks_choice(app: App, error: BaseException, attempts: int, reason: str) -> None:
    @app.task(backoff="none", max_attempts=3, retry_on=(Temporary,), discard_on=Useless)
    def bad() -> None:
        raise error

    app.work()
    (done,) = app.wait(bad.enqueue())

    assert (done.state, done.attempt, done.reason, len(done.errors)) == ("failed", attempts, reason, attempts)


@pytest.mark.parametrize("how", ["raised", "returned"])
def test_a_snooze_runs_again_later_and_costs_nothing(app: App, how: str) -> None:
    ran: list[int] = []

    @app.task(max_attempts=1)
    def work() -> Any:
        ran.append(current_job().attempt)
        if len(ran) <= 3:
            ending = Snooze(minutes=5)
            if how == "raised":
                raise ending
            return ending
        return "done"

    job = work.enqueue()
    app.work()
    for number in range(3):
        app.reaches(job, "scheduled")
        assert len(ran) == number + 1
        app.make_due(job)
        eventually(lambda number=number: len(ran) == number + 2)  # type: ignore[misc]
    (done,) = app.wait(job)

    assert (done.result, done.attempt, done.errors) == ("done", 1, [])
    assert ran == [1, 1, 1, 1]


@pytest.mark.parametrize("how", ["raised", "returned"])
def test_a_retry_spends_an_attempt_and_comes_when_it_says(app: App, how: str) -> None:
    @app.task(max_attempts=2)
    def work() -> Any:
        ending = Retry("not ready", delay=77)
        if how == "raised":
            raise ending
        return ending

    job = work.enqueue()
    app.work()

    assert seconds_until_due(app, job) == pytest.approx(77)
    app.make_due(job)
    (done,) = app.wait(job)
    assert (done.state, done.attempt, done.reason) == ("failed", 2, "error")
    assert [entry["message"] for entry in done.errors] == ["not ready", "not ready"]


@pytest.mark.parametrize("how", ["raised", "returned"])
@pytest.mark.parametrize(
    ("ending", "state", "reason"), [(Cancel("c"), "cancelled", "c"), (Discard("d"), "failed", "discarded")]
)
def test_cancel_and_discard_end_the_job(app: App, how: str, ending: Any, state: str, reason: str) -> None:
    @app.task
    def child() -> None: ...

    @app.task(max_attempts=5)
    def work() -> Any:
        child()
        if how == "raised":
            raise ending
        return ending

    job = work.enqueue()
    app.work()
    (done,) = app.wait(job)

    assert (done.state, done.reason, done.attempt) == (state, reason, 1)
    assert app.children(job) == []


def test_the_list_of_errors_keeps_the_first_and_the_last(app: App) -> None:
    @app.task(backoff="none", max_attempts=50)
    def bad() -> None:
        raise ValueError(f"number {current_job().attempt}")

    app.work()
    (done,) = app.wait(bad.enqueue())

    assert done.attempt == 50
    assert [entry["attempt"] for entry in done.errors] == [1, 2, 3, 4, 5, *range(36, 51)]
    for entry in done.errors:
        assert set(entry) == {"attempt", "kind", "type", "message", "traceback", "at", "worker", "fingerprint"}
        assert entry["message"] == f"number {entry['attempt']}"


def test_an_immediate_retry_is_never_lost_to_the_books_of_its_own_worker(app: App) -> None:
    @app.task(backoff="none", max_attempts=30)
    def flaky() -> int:
        if current_job().attempt < 30:
            raise ValueError("again")
        return 1

    worker = app.work(queues={"default": 4}, concurrency=4)
    jobs = [flaky.enqueue() for _ in range(20)]
    app.wait(*jobs)

    assert {job.attempt for job in map(app.get, jobs)} == {30}
    # Every slot is free again, so four long jobs could run.
    assert worker._pool.held_of("default") == 0
    assert worker._pool.held() == 0
