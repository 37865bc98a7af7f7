"""The claimer by itself: floors and sweeps, lost replies, jobs claimed ahead."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg
import pytest

from fairchild.db.connect import Link
from fairchild.db.finish import Applied, Ended
from fairchild.worker import claimer as module
from fairchild.worker.claimer import Claimer
from fairchild.worker.finisher import Finisher
from fairchild.worker.pool import Pool
from tests.support.app import PATIENCE, App
from tests.support.eventually import eventually


@contextmanager
def claimer_of(app: App, size: int = 10, **options: Any) -> Iterator[tuple[Claimer, Pool, Finisher]]:
    """A claimer whose pool has no threads: what it claims stays in the pool's queue."""
    database = app.client.database
    finisher = Finisher(database, lambda batch, applied: pool.recorded(batch))
    pool = Pool(size, app.client.registry, finisher.put)
    finisher.pool = pool
    made = Claimer(
        database, pool, finisher, app.client.registry, app.client,
        worker="test", queues=options.pop("queues", None), poll_interval=options.pop("poll_interval", 1.0),
    )  # fmt: skip
    made.session = app.store.session
    finisher.start()
    try:
        yield made, pool, finisher
    finally:
        finisher.stop(5.0)
        made.close()


def ids(pool: Pool) -> set[UUID]:
    return {attempt.claimed.job_id for attempt in pool.unfinished()}


def test_it_claims_as_many_jobs_as_there_are_free_threads(app: App) -> None:
    @app.task
    def work() -> None: ...

    work.enqueue_many({} for _ in range(30))
    with claimer_of(app, size=7) as (claimer, pool, _):
        claimer.step()

        assert pool.held() == 7
        before = claimer.statements
        claimer.step()
        assert claimer.statements == before  # nothing is asked without room


def test_it_rests_until_the_next_scheduled_job_or_its_poll(app: App) -> None:
    @app.task
    def work() -> None: ...

    with claimer_of(app, poll_interval=50.0) as (claimer, _, _):
        rest = claimer.step()
        assert rest is not None
        assert 30 < rest <= 50

    work.enqueue_in(seconds=5)
    with claimer_of(app, poll_interval=50.0) as (claimer, _, _):
        rest = claimer.step()
        assert rest is not None
        assert rest <= 5


def test_after_a_wake_up_it_looks_again_soon(app: App) -> None:
    @app.task
    def work() -> None: ...

    with claimer_of(app, poll_interval=50.0) as (claimer, _, _):
        claimer.woken()
        rest = claimer.step()

        assert rest is not None
        assert rest <= module.LOOK_AGAIN[-1]


def test_without_a_session_or_when_paused_it_claims_nothing(app: App) -> None:
    @app.task
    def work() -> None: ...

    work.enqueue()
    with claimer_of(app) as (claimer, pool, _):
        claimer.paused = True
        claimer.step()
        claimer.paused, claimer.session = False, None
        claimer.step()

        assert pool.held() == 0


def test_what_commits_behind_the_floor_is_found_by_a_sweep(app: App) -> None:
    @app.task
    def work() -> None: ...

    other = app.client.database.open("tests")
    with claimer_of(app) as (claimer, pool, _):
        with other.connection.transaction():
            early = app.client.using(other.connection).enqueue(work)
            later = work.enqueue()  # a higher number that is claimed first
            claimer.step()
            assert ids(pool) == {later.id}
        assert claimer._floors
        eventually(lambda: claimer.step() is not None and early.id in ids(pool))
    other.connection.close()


@pytest.mark.parametrize("error", [psycopg.OperationalError("connection lost"), psycopg.DataError("cannot be read")])
def test_jobs_of_a_claim_whose_reply_was_lost_are_given_back_at_once(
    app: App, monkeypatch: pytest.MonkeyPatch, error: psycopg.Error
) -> None:
    @app.task
    def work() -> None: ...

    jobs = [work.enqueue() for _ in range(5)]
    plain = Link.rows

    def loses_the_reply(self: Link, sql: Any, params: Any = None) -> Any:
        rows = plain(self, sql, params)
        if sql.name == "claim" and rows:
            self.connection.close()
            raise error
        return rows

    with claimer_of(app) as (claimer, pool, _):
        monkeypatch.setattr(Link, "rows", loses_the_reply)
        with pytest.raises(type(error)):
            claimer.step()
        monkeypatch.undo()
        assert [app.get(job).state for job in jobs] == ["running"] * 5

        eventually(lambda: claimer.step() is not None and ids(pool) == {job.id for job in jobs})

    assert app.store.sql("SELECT max(losses), max(attempt), bool_or(errors IS NOT NULL) FROM {jobs}") == [(0, 0, False)]


def test_claimed_jobs_whose_values_could_not_be_read_are_handed_over_later(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    @app.task
    def value() -> int:
        return 1

    @app.task
    def use(x: int) -> int:
        return x

    first = value.enqueue()
    worker = app.work()
    app.wait(first)
    worker.stop()
    second = use.enqueue(first)
    plain = Link.rows

    def fails(self: Link, sql: Any, params: Any = None) -> Any:
        if sql.name == "read_results":
            raise psycopg.OperationalError("gone")
        return plain(self, sql, params)

    with claimer_of(app) as (claimer, pool, _):
        monkeypatch.setattr(Link, "rows", fails)
        with pytest.raises(psycopg.OperationalError):
            claimer.step()
        assert pool.held() == 0
        monkeypatch.undo()
        claimer.step()

        assert ids(pool) == {second.id}


def test_claimed_jobs_that_never_got_to_a_runner_are_given_back_at_the_end(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    @app.task
    def value() -> int:
        return 1

    @app.task
    def use(x: int) -> int:
        return x

    first = value.enqueue()
    worker = app.work()
    app.wait(first)
    worker.stop()
    second = use.enqueue(first)
    plain = Link.rows

    def fails(self: Link, sql: Any, params: Any = None) -> Any:
        if sql.name == "read_results":
            raise psycopg.OperationalError("gone")
        return plain(self, sql, params)

    with claimer_of(app) as (claimer, _, _):
        monkeypatch.setattr(Link, "rows", fails)
        with pytest.raises(psycopg.OperationalError):
            claimer.step()
        monkeypatch.undo()
        claimer.give_back()

        eventually(lambda: app.get(second).state == "available")


def test_jobs_claimed_ahead_of_long_ones_go_back_for_others(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STUCK_SECONDS", 0.01)
    started, go_on = threading.Event(), threading.Event()

    @app.task
    def long() -> None:
        started.set()
        go_on.wait(PATIENCE)

    worker = app.work(concurrency=1)
    pool = worker._pool
    first = long.enqueue()
    assert started.wait(PATIENCE)
    pool.pace.note(float("inf"), 1, 1e-6)
    others = [long.enqueue() for _ in range(3)]
    worker.wake()
    eventually(lambda: pool.held() == 4)
    pool.pace.rate = 0.0
    worker.wake()

    eventually(lambda: [app.get(job).state for job in others] == ["available"] * 3)
    assert [app.get(job).attempt for job in others] == [0] * 3
    go_on.set()
    app.wait(first, *others)


def test_queues_take_turns_within_a_priority(app: App) -> None:
    order: list[str] = []

    @app.task
    def work(name: str) -> None:
        order.append(name)

    jobs = [work.enqueue("a", _queue="a") for _ in range(20)] + [work.enqueue("b", _queue="b") for _ in range(20)]
    app.work(queues=["a", "b"], concurrency=1)
    app.wait(*jobs)

    # Neither waits for the other to be empty.
    assert order.index("b") < 19
    assert order.index("a") < 19


def test_outcomes_of_jobs_it_did_not_start_do_not_count_as_speed(app: App) -> None:
    @app.task
    def work() -> None: ...

    work.enqueue_many({} for _ in range(100))
    with claimer_of(app, size=50) as (claimer, pool, finisher):
        for _ in range(5):
            claimer.step()
            for attempt in pool.take_back():
                finisher.put(attempt.give_back())
            eventually(lambda: pool.held() == 0)

        assert pool.pace.rate == 0
        assert pool.room() == 50


def test_a_batch_applied_twice_frees_room_once(app: App) -> None:
    pool = Pool(2, app.client.registry, lambda ended: None)
    ended = Ended(UUID(int=1), UUID(int=2), "completed")

    pool.recorded([ended])
    pool.recorded([ended])

    assert pool.room() == 2
    assert Applied({}, [], 0).stopped == ()
