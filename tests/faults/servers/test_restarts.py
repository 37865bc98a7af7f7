"""The server goes and comes back: restarts, crashes, outages, and what the connections make of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import psycopg
import pytest

from fairchild import Fairchild, Task
from fairchild.db.connect import POOL_TIMEOUT, Database
from fairchild.db.gate import LAST_PAUSE, Gate
from fairchild.errors import DatabaseUnavailable, StoreError
from tests.support.app import PATIENCE, App
from tests.support.cluster import Cluster, cluster, free_port
from tests.support.eventually import eventually


@pytest.fixture
def double(app: App) -> Task[..., Any]:
    def double(n: int) -> int:
        return 2 * n

    return app.task(name="restarts.double")(double)


@pytest.fixture
def own_server() -> Iterator[Cluster]:
    """A server that nobody else uses."""
    with cluster() as made:
        Fairchild(made.url).install()
        yield made


@pytest.fixture
def own_app(own_server: Cluster) -> Iterator[App]:
    with App(own_server.url).closing() as made:
        yield made


def backend(app: App, role: str) -> int:
    """The process at the server that serves a role of the worker."""
    found = eventually(
        lambda: app.store.sql(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = %(role)s",
            role=f"fairchild:{role}",
        )
    )
    return int(found[0][0])


@pytest.mark.parametrize(("fault", "mode"), [("f25", "fast"), ("f26", "immediate")])
def test_f25_after_a_restart_workers_go_on_and_every_job_has_run_once(
    own_app: App, own_server: Cluster, fault: str, mode: str
) -> None:
    app = own_app

    @app.task(name="restarts.work")
    def work(n: int) -> int:
        time.sleep(0.002)
        return n

    worker = app.work(concurrency=4)
    ids = app.client.enqueue_many(work, ({"n": n} for n in range(1000)))
    eventually(lambda: worker.counts["completed"] > 100, PATIENCE)
    own_server.restart(mode)
    back = time.monotonic()
    completed = worker.counts["completed"]
    eventually(lambda: worker.counts["completed"] > completed, PATIENCE)
    print(f"{fault}: the first job after a {mode} restart was recorded after {time.monotonic() - back:.2f} s")

    app.store = app.store.again()
    done = app.client.wait(ids, timeout=2 * PATIENCE)
    assert [job.result for job in done] == list(range(1000))
    assert {job.attempt for job in done} == {1}
    assert worker.alive
    assert app.store.sql("SELECT sum(n)::int FROM {counters}") == [(1000,)]


def test_f26_one_killed_backend_ends_all_sessions_and_nobody_minds(own_app: App, own_server: Cluster) -> None:
    app = own_app

    @app.task(name="restarts.work")
    def work(n: int) -> int:
        return n

    worker = app.work(concurrency=2)
    app.result(work.enqueue(0))
    own_server.kill(backend(app, "claimer"))
    jobs: list[Any] = []

    def enqueued() -> bool:
        try:
            jobs.append(work.enqueue(len(jobs) + 1))
        except StoreError:
            return False
        return len(jobs) == 20

    eventually(enqueued, PATIENCE)
    app.store = app.store.again()
    assert [app.result(job) for job in jobs] == list(range(1, 21))
    assert worker.alive


def test_f55_while_the_server_is_away_a_process_knocks_once_a_second_and_logs_little(
    own_app: App, own_server: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = own_app

    @app.task(name="restarts.work")
    def work() -> int:
        return 1

    worker = app.work(concurrency=2)
    app.result(work.enqueue())
    attempts: list[float] = []
    connect = vars(psycopg.Connection)["connect"].__func__

    def counted(cls: type[psycopg.Connection[Any]], *args: Any, **kwargs: Any) -> Any:
        attempts.append(time.monotonic())
        return connect(cls, *args, **kwargs)

    monkeypatch.setattr(psycopg.Connection, "connect", classmethod(counted))
    own_server.stop()
    calls = [threading.Thread(target=enqueue_or_none, args=(work,)) for _ in range(10)]
    for call in calls:
        call.start()
    eventually(lambda: attempts and attempts[-1] - attempts[0] > 6 * LAST_PAUSE, PATIENCE)
    for call in calls:
        call.join(PATIENCE)
    # Once everybody who was connected has learnt it and the pauses have grown, one knocks for all.
    late = [each for each in attempts if each - attempts[0] > 3 * LAST_PAUSE]
    gaps = [after - before for before, after in pairwise(late)]
    assert min(gaps) >= LAST_PAUSE / 2 - 0.05, attempts
    said = len(caplog.records)
    assert said < 60, caplog.text

    own_server.start()
    back = time.monotonic()
    job = eventually(lambda: enqueue_or_none(work), PATIENCE)
    assert app.result(job) == 1
    print(
        f"f55: after an outage a job was enqueued and run within {time.monotonic() - back:.2f} s of the server's start"
    )
    eventually(lambda: worker.healthy, PATIENCE)
    app.store = app.store.again()


def enqueue_or_none(task: Task[..., Any]) -> Any:
    try:
        return task.enqueue()
    except StoreError:
        return None


def test_f55_a_client_at_rest_during_an_outage_fails_soon_and_recovers_by_itself(
    own_app: App, own_server: Cluster
) -> None:
    app = own_app

    @app.task(name="restarts.work")
    def work(n: int = 0) -> int:
        return n

    threads = [threading.Thread(target=work.enqueue, args=(n,)) for n in range(6)]  # so that several are open
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    own_server.stop()
    began = time.monotonic()
    with pytest.raises(DatabaseUnavailable):  # not OutcomeUnknown: nothing was sent on connections that are closed
        work.enqueue()
    took = time.monotonic() - began
    print(f"f55: a client whose server is away was told after {took:.1f} s")
    assert took < POOL_TIMEOUT / 2

    own_server.start()
    assert work.enqueue(7).state == "available"
    app.store = app.store.again()
    assert app.client.stats()["jobs"]["available"] == 7


# The gate by itself


def test_f55_all_threads_at_the_gate_learn_what_one_attempt_came_to() -> None:
    gate = Gate()
    attempts: list[int] = []
    results: list[str] = []
    at_work = threading.Event()
    go = threading.Event()

    def fail() -> None:
        attempts.append(1)
        at_work.set()
        go.wait(PATIENCE)
        raise psycopg.OperationalError("nobody there")

    def knock() -> None:
        try:
            gate.connect(fail)
        except psycopg.OperationalError as error:
            results.append(str(error))

    first = threading.Thread(target=knock)
    first.start()
    assert at_work.wait(PATIENCE)
    go.set()
    first.join()
    threads = [threading.Thread(target=knock) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert results == ["nobody there"] * 21
    assert len(attempts) < 6  # those who come after an attempt has failed wait for the next
    assert gate.connect(lambda: "in") == "in"
    assert gate.connect(lambda: "at once") == "at once"


def test_f55_an_attempt_that_goes_on_in_the_parent_holds_no_child_of_a_fork_up() -> None:
    gate = Gate()
    with pytest.raises(psycopg.OperationalError):
        gate.connect(lambda: psycopg.connect(f"host=127.0.0.1 port={free_port()}"))
    gate._trying = True  # another thread is at it
    gate._pid -= 1  # and this is another process

    assert gate.connect(lambda: "in") == "in"


def test_f29_connections_of_tcp_are_watched_from_both_ends(server_db: str, fairchild_db: str) -> None:
    database = Fairchild(server_db).database
    for link in (database.open("tests"), database.open("tests", tuned=True)):
        assert settings(link.connection) == ("5", "2", "3", "20000")
        assert link.connection.info.get_parameters()["tcp_user_timeout"] == "20000"
        link.connection.close()
    with database.link() as link:
        assert settings(link.connection) == ("5", "2", "3", "20000")
        assert link.script("SHOW transaction_isolation") == [("read committed",)]
    database.close()
    local = Database(Fairchild(fairchild_db).config).open("tests")  # nothing to watch on a socket of this machine
    assert settings(local.connection) == ("0", "0", "0", "0")
    local.connection.close()


def test_f30_no_transaction_is_open_while_a_task_runs(app: App) -> None:
    go = threading.Event()

    @app.task(name="open.holds")
    def holds() -> None:
        assert go.wait(PATIENCE)

    app.work(concurrency=2)
    jobs = [holds.enqueue() for _ in range(2)]
    for job in jobs:
        app.reaches(job, "running")
    in_transaction = (
        "SELECT application_name FROM pg_stat_activity WHERE datname = current_database() "
        "AND state LIKE 'idle in transaction%%' AND application_name <> 'fairchild:tests'"
    )
    try:
        # So that a session that is cut off holds no lock but that of the statement it was at.
        eventually(lambda: app.store.sql(in_transaction) == [])
    finally:
        go.set()
    app.wait(*jobs)


def settings(connection: psycopg.Connection[Any]) -> tuple[str, ...]:
    names = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout")
    rows = [connection.execute(f"SHOW {name}".encode()).fetchone() for name in names]
    return tuple(str(row[0]) for row in rows if row is not None)


def test_f35_a_commit_whose_wait_for_a_standby_was_broken_off_is_found_and_not_repeated(
    own_app: App, own_server: Cluster
) -> None:
    app = own_app
    app.client.enqueue("t")
    own_server.configure(synchronous_standby_names="nobody", synchronous_commit="on", fsync="off")
    own_server.reload()
    eventually(lambda: own_server.ask("SHOW synchronous_standby_names") == [("nobody",)])
    made: list[Any] = []
    enqueuing = threading.Thread(target=lambda: made.append(app.client.enqueue("t", {"n": 1})))
    enqueuing.start()
    waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    own_server_pid = eventually(lambda: own_server.ask(waiting), PATIENCE)[0][0]

    own_server.configure(synchronous_standby_names="")
    own_server.reload()  # for those to come; the one that waits is ended
    own_server.ask(f"SELECT pg_terminate_backend({own_server_pid})")
    enqueuing.join(PATIENCE)

    assert len(made) == 1
    assert app.get(made[0]).args == {"n": 1}
    assert app.client.stats()["jobs"]["available"] == 2
