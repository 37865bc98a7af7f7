"""``job.transaction()``: what a task writes commits with its completion, or not at all."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

from fairchild import Retry, Snooze, current_job
from fairchild.db import unit as unit_module
from fairchild.db.unit import Unit
from fairchild.errors import UsageError
from tests.support.app import PATIENCE, App
from tests.support.eventually import eventually


@pytest.fixture
def ledger(app: App) -> Any:
    """A table of the user's, and what is in it."""
    with psycopg.connect(app.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE ledger (note text UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        yield lambda: sorted(row[0] for row in connection.execute("SELECT note FROM ledger"))


def write(note: str) -> None:
    with current_job().transaction() as connection:
        connection.execute("INSERT INTO ledger VALUES (%s)", [note])


def test_writes_and_completion_are_there_together(app: App, ledger: Any) -> None:
    seen: list[Any] = []

    @app.task
    def child(n: int) -> int:
        return n

    @app.task
    def pay() -> Any:
        write("first")
        write("second")
        seen.append(ledger())
        return child(7)

    app.work()
    job = pay.enqueue()

    assert app.result(job) == 7
    assert seen == [[]]
    assert ledger() == ["first", "second"]
    assert len(app.children(job)) == 1


@pytest.mark.parametrize("ending", [ValueError("no"), Snooze(hours=1), Retry(delay=3600)])
def test_an_attempt_that_does_not_complete_leaves_nothing(app: App, ledger: Any, ending: Exception) -> None:
    ran = threading.Event()

    @app.task(max_attempts=2, backoff=[3600])
    def pay() -> None:
        write("never")
        ran.set()
        raise ending

    worker = app.work()
    job = pay.enqueue()
    assert ran.wait(PATIENCE)
    worker.stop()

    assert app.get(job).state == "scheduled"
    assert ledger() == []


def test_a_block_that_raises_is_undone_alone(app: App, ledger: Any) -> None:
    @app.task
    def pay() -> None:
        write("kept")
        try:
            with current_job().transaction() as connection:
                connection.execute("INSERT INTO ledger VALUES ('undone')")
                raise LookupError
        except LookupError:
            pass
        write("kept too")

    app.work()
    app.wait(pay.enqueue())

    assert ledger() == ["kept", "kept too"]


def test_what_fails_at_the_commit_fails_the_attempt(app: App, ledger: Any) -> None:
    @app.task(max_attempts=2, backoff=[0])
    def pay() -> str:
        write("twice")
        write("twice")
        return "done"

    app.work()
    (job,) = app.wait(pay.enqueue())

    assert (job.state, job.attempt) == ("failed", 2)
    assert [entry["type"] for entry in job.errors] == ["UniqueViolation"] * 2
    assert ledger() == []


def test_an_attempt_that_lost_its_claim_cannot_commit(app: App, ledger: Any) -> None:
    started, go_on = threading.Event(), threading.Event()
    attempts: list[str] = []

    @app.task
    def pay() -> str:
        mine = f"attempt {len(attempts)}"
        attempts.append(mine)
        write(mine)
        if mine == "attempt 0":
            started.set()
            go_on.wait(PATIENCE)
        return mine

    worker = app.work(concurrency=2)
    job = pay.enqueue()
    assert started.wait(PATIENCE)
    # As another worker's rescue does.
    app.store.sql("DELETE FROM {claims} WHERE job_id = %(id)s RETURNING job_id", id=job.id)
    app.store.sql(
        "INSERT INTO {ready} (queue, priority, job_id, task) "
        "SELECT queue, priority, id, task FROM {jobs} RETURNING job_id"
    )
    worker.wake()
    assert app.result(job) == "attempt 1"
    go_on.set()
    worker.stop()

    assert ledger() == ["attempt 1"]
    assert app.result(job) == "attempt 1"
    assert worker.counts["lost"] == 1
    assert worker.counts["completed"] == 1


@pytest.mark.parametrize("committed", [True, False])
def test_f27_a_commit_whose_reply_was_lost_is_resolved(
    app: App, ledger: Any, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    commit = Unit.commit
    lost: list[int] = []

    def without_reply(self: Unit) -> None:
        if lost:
            commit(self)
            return
        lost.append(1)
        if committed:
            commit(self)
        else:
            app.store.sql("SELECT pg_terminate_backend(%(pid)s)", pid=self.connection.info.backend_pid)
            commit(self)
        raise unit_module.CommitUnknown("server closed the connection unexpectedly")

    monkeypatch.setattr(Unit, "commit", without_reply)

    @app.task(max_attempts=1)
    def pay() -> int:
        write(f"attempt {len(lost)}")
        return len(lost)

    worker = app.work()
    job = pay.enqueue()

    assert app.result(job) == (0 if committed else 1)
    assert ledger() == ["attempt 0" if committed else "attempt 1"]
    found = app.get(job)
    assert found.attempt == 1
    assert [entry["kind"] for entry in found.errors] == ([] if committed else ["interrupted"])
    worker.stop()
    assert worker.counts["completed"] == 1


def test_a_statement_of_a_job_past_its_timeout_is_broken_off(app: App, ledger: Any) -> None:
    @app.task(timeout=0.2, max_attempts=1)
    def pay() -> None:
        write("never")
        with current_job().transaction() as connection:
            connection.execute("SELECT pg_sleep(%s)", [PATIENCE])

    app.work()
    (job,) = app.wait(pay.enqueue())

    assert (job.state, job.reason) == ("failed", "timeout")
    assert ledger() == []


def test_a_task_called_directly_has_a_transaction_of_its_own(app: App, ledger: Any) -> None:
    @app.task
    def pay(note: str, job: Any, error: bool = False) -> str:
        with job.transaction() as connection:
            connection.execute("INSERT INTO ledger VALUES (%s)", [note])
            if error:
                raise LookupError(note)
        return note

    call: Any = pay
    with app.client.active():
        assert call("kept") == "kept"
        with pytest.raises(LookupError):
            call("undone", error=True)

    assert ledger() == ["kept"]


def test_after_the_end_there_is_no_transaction(app: App) -> None:
    kept: list[Any] = []

    @app.task
    def keep(job: Any) -> None:
        kept.append(job)

    app.work()
    app.wait(keep.enqueue())

    with pytest.raises(UsageError, match="has ended"), kept[0].transaction():
        pass


def test_the_task_cannot_commit_it_alone(app: App, ledger: Any) -> None:
    @app.task(max_attempts=1)
    def pay() -> None:
        with current_job().transaction() as connection:
            connection.execute("INSERT INTO ledger VALUES ('x')")
            connection.commit()

    app.work()
    (job,) = app.wait(pay.enqueue())

    assert job.errors[0]["type"] == "ProgrammingError"
    assert ledger() == []


def test_connections_come_back(app: App, ledger: Any) -> None:
    """More jobs than connections, some of which fail in every way there is."""

    @app.task(max_attempts=1)
    def pay(n: int) -> None:
        if n % 4 == 0:
            write("once and again")
            write("once and again")
            return
        write(f"note {n}")
        if n % 4 == 1:
            raise ValueError(n)

    jobs = [pay.enqueue(n) for n in range(60)]
    app.work(concurrency=5)
    ended = app.wait(*jobs)

    assert [job.state for job in ended] == ["failed", "failed", "completed", "completed"] * 15
    assert len(ledger()) == 30


def test_connections_that_died_at_rest_are_not_the_tasks_affair(app: App, ledger: Any) -> None:
    @app.task(max_attempts=1)
    def pay(n: int) -> int:
        write(f"note {n}")
        return n

    app.work()
    assert app.result(pay.enqueue(1)) == 1
    app.store.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'fairchild:client' AND datname = current_database()"
    )

    assert app.result(pay.enqueue(2)) == 2
    assert ledger() == ["note 1", "note 2"]


def test_f41_a_transaction_that_the_server_ended_costs_no_attempt(app: App, ledger: Any) -> None:
    runs: list[int] = []

    @app.task(max_attempts=1)
    def pay() -> int:
        runs.append(1)
        with current_job().transaction() as connection:
            connection.execute("INSERT INTO ledger VALUES (%s)", [f"run {len(runs)}"])
            if len(runs) == 1:
                app.store.sql("SELECT pg_terminate_backend(%(pid)s)", pid=connection.info.backend_pid)
                connection.execute("SELECT 1")
        return len(runs)

    app.work()
    job = pay.enqueue()

    assert app.result(job) == 2
    assert ledger() == ["run 2"]
    found = app.get(job)
    assert (found.attempt, [entry["kind"] for entry in found.errors]) == (1, ["interrupted"])


def test_f41_a_task_that_sits_in_its_transaction_is_ended_by_the_server(
    app: App, ledger: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unit_module, "IDLE_SECONDS", 0.2)

    @app.task(max_attempts=1)
    def sits() -> None:
        with current_job().transaction() as connection:
            connection.execute("INSERT INTO ledger VALUES ('half')")
            pid = connection.info.backend_pid
            eventually(lambda: not app.store.sql("SELECT 1 FROM pg_stat_activity WHERE pid = %(pid)s", pid=pid))

    app.work()
    job = app.wait(sits.enqueue())[0]

    assert job.state == "failed"
    assert "idle" in job.errors[0]["message"]
    assert ledger() == []
