"""Starting and stopping: nothing is lost, nothing is spent, nothing is left behind."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from fairchild import current_job
from fairchild.errors import AttemptInterrupted, Interrupt, UsageError
from fairchild.loop import Complaints, Loop
from fairchild.worker import Worker, WorkerPool
from tests.support.app import PATIENCE, App
from tests.support.eventually import eventually

ROOT = Path(__file__).resolve().parents[2]


def test_stopping_waits_for_running_jobs_and_gives_unstarted_ones_back(app: App) -> None:
    started, go_on = threading.Event(), threading.Event()

    @app.task
    def work(n: int) -> int:
        started.set()
        go_on.wait(PATIENCE)
        return n

    worker = app.work(concurrency=1)
    running = work.enqueue(0)
    assert started.wait(PATIENCE)
    # As if they had been claimed ahead of a thread that turned out busy.
    others = [work.enqueue(n) for n in (1, 2, 3)]
    worker._pool.pace.note(float("inf"), 1, 1e-6)
    worker.wake()
    eventually(lambda: worker._pool.held() == 4)
    outcome: list[bool] = []
    stopping = threading.Thread(target=lambda: outcome.append(worker.stop()))
    stopping.start()
    eventually(lambda: [app.get(job).state for job in others] == ["available"] * 3)
    assert app.get(running).state == "running"
    go_on.set()
    stopping.join(PATIENCE)

    assert outcome == [True]
    assert app.get(running).state == "completed"
    assert [(app.get(job).attempt, app.get(job).errors) for job in others] == [(0, [])] * 3


def test_a_job_that_looks_is_interrupted_at_shutdown_and_no_attempt_is_spent(app: App) -> None:
    started = threading.Event()

    @app.task(max_attempts=1)
    def long() -> str:
        if current_job().fence == first_fence:
            started.set()
            while True:
                current_job().check()
                threading.Event().wait(0.005)
        return "second run"

    job = long.enqueue()
    first_fence = app.store.sql("SELECT seq FROM {ready}")[0][0]
    worker = app.work()
    assert started.wait(PATIENCE)

    assert worker.stop(timeout=0) is True
    after = app.get(job)
    assert (after.state, after.attempt) == ("available", 0)
    assert [(entry["kind"], entry["attempt"]) for entry in after.errors] == [("interrupted", 1)]
    app.work()
    assert app.result(job) == "second run"
    assert app.get(job).attempt == 1


def test_a_job_that_does_not_look_is_given_back_and_what_it_still_comes_to_is_dropped(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    started, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    @app.task
    def child() -> None: ...

    @app.task(max_attempts=1)
    def stubborn() -> str:
        started.set()
        try:
            go_on.wait(PATIENCE)  # waits outside of Python, where no interrupt reaches it
            threading.Event().wait(0)
        except Interrupt:
            pass
        child()
        ended.set()
        return "late"

    worker = app.work()
    job = stubborn.enqueue()
    assert started.wait(PATIENCE)
    threads = list(worker._pool._threads)

    assert worker.stop(timeout=0) is False
    given_back = app.get(job)
    go_on.set()
    assert ended.wait(PATIENCE)
    for thread in threads:
        thread.join(PATIENCE)

    assert (given_back.state, given_back.attempt, given_back.errors[0]["kind"]) == ("available", 0, "interrupted")
    assert app.get(job).state == "available"
    assert app.children(job) == []
    assert "was given back and no attempt was spent" in caplog.text
    assert app.store.sql("SELECT state FROM {sessions}") == [("stopped",)]


def test_quitting_gives_running_jobs_back_at_once(app: App) -> None:
    started, go_on = threading.Event(), threading.Event()

    @app.task
    def stubborn() -> None:
        started.set()
        go_on.wait(PATIENCE)

    worker = app.work(shutdown_timeout=3600)
    job = stubborn.enqueue()
    assert started.wait(PATIENCE)
    outcome: list[bool] = []
    stopping = threading.Thread(target=lambda: outcome.append(worker.stop()))
    stopping.start()
    eventually(lambda: app.store.sql("SELECT 1 FROM {sessions} WHERE state = 'draining'"))
    worker.quit()
    stopping.join(PATIENCE)
    go_on.set()

    assert outcome == [False]
    assert app.get(job).state == "available"


def test_a_draining_worker_claims_nothing_more(app: App) -> None:
    started, go_on = threading.Event(), threading.Event()

    @app.task
    def first() -> None:
        started.set()
        go_on.wait(PATIENCE)

    @app.task
    def second() -> None: ...

    worker = app.work(concurrency=4)
    job = first.enqueue()
    assert started.wait(PATIENCE)
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    eventually(lambda: app.store.sql("SELECT 1 FROM {sessions} WHERE state = 'draining'"))
    left = second.enqueue()
    go_on.set()
    stopping.join(PATIENCE)

    assert app.get(job).state == "completed"
    assert app.get(left).state == "available"


def test_it_goes_on_beating_while_it_drains_so_that_nobody_takes_its_jobs(app: App) -> None:
    started, go_on = threading.Event(), threading.Event()
    ran: list[int] = []

    @app.task
    def long() -> None:
        ran.append(1)
        started.set()
        go_on.wait(PATIENCE)

    worker = app.work(lease=1.2)
    job = long.enqueue()
    assert started.wait(PATIENCE)
    app.work(lease=1.2, client=app.other_client())
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    before = app.store.sql("SELECT beat FROM {sessions} WHERE id = %(id)s", id=worker.session)[0][0]
    # Twice as many beats as make half a lease: the other one has looked often enough to have judged.
    eventually(
        lambda: app.store.sql("SELECT beat FROM {sessions} WHERE id = %(id)s", id=worker.session)[0][0] >= before + 8
    )
    go_on.set()
    stopping.join(PATIENCE)

    assert app.get(job).state == "completed"
    assert ran == [1]


def test_stop_before_start_and_stop_twice_do_nothing(app: App) -> None:
    @app.task
    def work() -> None: ...

    pool = WorkerPool(app.client)
    assert pool.stop() is True
    pool.start(block=False)
    app.wait(work.enqueue())
    assert pool.stop() is True
    assert pool.stop() is True
    assert pool.join(0)


def test_starting_twice_is_refused_and_starting_again_after_a_stop_works(app: App) -> None:
    @app.task
    def work() -> None: ...

    worker = Worker(app.client)
    for _ in range(3):
        with worker:
            with pytest.raises(UsageError, match="has been started already"):
                worker.start()
            app.wait(work.enqueue())
    assert app.store.sql("SELECT count(*), count(DISTINCT id) FROM {sessions} WHERE state = 'stopped'") == [(3, 3)]


def test_an_embedded_pool_starts_and_stops_twenty_times_and_leaves_nothing(app: App) -> None:
    @app.task
    def work(n: int) -> int:
        return n

    pool = WorkerPool(app.client, concurrency=4)
    jobs = []
    for n in range(20):
        with pool:
            jobs.append(work.enqueue(n))
            if n % 2:
                app.wait(jobs[-1])
    with pool:
        app.wait(*jobs)

    assert [app.get(job).result for job in jobs] == list(range(20))
    assert app.store.sql("SELECT max(losses), max(attempt) FROM {jobs}") == [(0, 1)]
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("fairchild-runner")] == []
    assert app.store.sql("SELECT state, count(*)::int FROM {sessions} GROUP BY state") == [("stopped", 21)]
    connections = (
        "SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() "
        "AND application_name ~ '^fairchild:(claimer|finisher|heartbeat|listener)'"
    )
    eventually(lambda: app.store.sql(connections) == [(0,)])


def test_stopping_from_many_threads_at_once_stops_once(app: App) -> None:
    @app.task
    def work() -> None: ...

    worker = app.work()
    app.wait(work.enqueue())
    threads = [threading.Thread(target=worker.stop) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)

    assert not any(thread.is_alive() for thread in threads)
    assert app.store.sql("SELECT state FROM {sessions}") == [("stopped",)]


def test_a_stopped_worker_leaves_no_living_session(app: App) -> None:
    @app.task
    def work() -> None: ...

    for _ in range(10):
        worker = app.work(lease=0.4, heartbeat_interval=0.005)  # beats all the time, also while it stops
        app.wait(work.enqueue())
        worker.stop()

    assert app.store.sql("SELECT state, count(*)::int FROM {sessions} GROUP BY state") == [("stopped", 10)]


def test_a_worker_stops_also_when_the_database_is_gone(app: App, caplog: pytest.LogCaptureFixture) -> None:
    @app.task
    def work() -> None: ...

    worker = app.work()
    app.wait(work.enqueue())
    name = app.store.sql("SELECT current_database()")[0][0]
    import psycopg

    with psycopg.connect(app.url, dbname="postgres", autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'.encode())
        try:
            app.kill_backends()
            with caplog.at_level(logging.CRITICAL, "fairchild"):
                worker.stop(timeout=0)
        finally:
            connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'.encode())

    assert not worker.alive


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_a_program_and_a_second_one_quits(app: App, tmp_path: Path, number: signal.Signals) -> None:
    file = tmp_path / "program.py"
    file.write_text(
        textwrap.dedent(
            """
            import sys, threading
            from fairchild import Fairchild, task
            from fairchild.worker import WorkerPool

            @task(name="short")
            def short():
                return "done"

            @task(name="endless")
            def endless():
                print("running", flush=True)
                threading.Event().wait()

            fc = Fairchild(sys.argv[1]); fc.connect()
            WorkerPool(fc, concurrency=2).start()
            fc.disconnect()
            print("stopped", flush=True)
            """
        )
    )
    program = subprocess.Popen(
        [sys.executable, str(file), app.url], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert program.stdout is not None
    job = app.client.enqueue("endless")
    assert program.stdout.readline() == "running\n"
    assert app.result(app.client.enqueue("short")) == "done"
    program.send_signal(number)
    eventually(lambda: app.store.sql("SELECT 1 FROM {sessions} WHERE state = 'draining'"))
    program.send_signal(number)

    assert program.stdout.readline() == "stopped\n"
    assert program.wait(PATIENCE) == 0
    program.stdout.close()
    back = app.get(job)
    assert (back.state, back.attempt, back.errors[0]["kind"]) == ("available", 0, "interrupted")


def test_a_loop_may_be_stopped_before_its_start_twice_and_from_itself() -> None:
    steps: list[int] = []
    loop = Loop("test", lambda: steps.append(1))
    loop.stop()
    loop.stop()
    assert loop.join(1)
    loop.start()
    eventually(lambda: steps)
    loop.stop()
    loop.stop()
    assert loop.join(PATIENCE)

    def end() -> None:
        itself.stop()
        assert itself.join()

    itself = Loop("itself", end)
    itself.start()
    assert itself.join(PATIENCE)


def test_a_loop_whose_step_raises_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    steps: list[int] = []

    def step() -> float:
        steps.append(1)
        if len(steps) < 4:
            raise ValueError("postgresql://user:secret@host/db")
        return 60.0

    loop = Loop("test", step, max_pause=0.01)
    loop.start()
    eventually(lambda: len(steps) >= 4)
    loop.stop()

    assert loop.join(PATIENCE)
    assert loop.failures == 0
    assert caplog.text.count("test: ValueError: ") == 1  # an outage of hours must not fill a disk
    assert "secret" not in caplog.messages[0]
    assert "works again after 3 failures" in caplog.text


def test_a_failure_that_goes_on_is_said_again_each_minute_and_others_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    complaints = Complaints()

    assert [complaints.worth("a"), complaints.worth("a"), complaints.worth("b")] == [True, False, True]
    now += 61
    assert [complaints.worth("a"), complaints.worth("a")] == [True, False]
    assert [complaints.worth(f"port {n}") for n in range(20)].count(True) == 3
    assert complaints.over()
    assert not complaints.over()
    assert complaints.worth("a")


def test_a_step_may_be_taken_by_whoever_calls_while_the_loop_rests() -> None:
    takers: list[threading.Thread] = []

    def step() -> float:
        takers.append(threading.current_thread())
        return 60.0

    loop = Loop("test", step)
    loop.take()
    assert takers == []  # it has not been started
    loop.start()
    eventually(lambda: takers and not loop._turn.locked())

    loop.take()
    assert takers[1:] == [threading.current_thread()]
    loop.wake()
    eventually(lambda: len(takers) == 3)
    assert takers[0] is takers[2]

    loop.stop()
    assert loop.join(PATIENCE)
    loop.take()
    assert len(takers) == 3


def test_steps_never_overlap_and_no_call_is_lost() -> None:
    entered, go_on = threading.Event(), threading.Event()
    inside: list[int] = []
    most: list[int] = []

    def step() -> float:
        inside.append(1)
        most.append(len(inside))
        entered.set()
        go_on.wait(PATIENCE)
        inside.pop()
        return 60.0

    loop = Loop("test", step)
    loop.start()
    assert entered.wait(PATIENCE)
    loop.take()  # the loop is busy, so it will look again
    go_on.set()

    eventually(lambda: len(most) == 2)
    callers = [threading.Thread(target=loop.take) for _ in range(20)]
    for each in callers:
        each.start()
    for each in callers:
        each.join()
    loop.stop()
    assert loop.join(PATIENCE)
    assert set(most) == {1}


def test_an_interrupt_is_what_a_task_sees_at_shutdown(app: App) -> None:
    seen: list[Any] = []
    started = threading.Event()

    @app.task
    def long() -> None:
        started.set()
        try:
            while True:
                current_job().check()
                threading.Event().wait(0.005)
        except AttemptInterrupted as interrupt:
            seen.append(str(interrupt))
            raise

    worker = app.work()
    long.enqueue()
    assert started.wait(PATIENCE)
    worker.stop(timeout=0)

    assert seen == ["the worker is shutting down"]
