"""What a server that is there refuses: a full disk, too many connections, cancelled statements, locks, odd settings."""

from __future__ import annotations

import random
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from fairchild import Fairchild, current_job
from fairchild.errors import StoreError
from fairchild.tasks import Registry
from fairchild.testing import databases
from fairchild.worker import Worker
from tests.faults.servers.needs import root
from tests.support.app import PATIENCE, App, once_again
from tests.support.cluster import Cluster, cluster, new_folder
from tests.support.eventually import eventually

SMALL_DISK = "110m"


@contextmanager
def small_disk() -> Iterator[Path]:
    """A folder on a file system of its own that is soon full."""
    folder = new_folder()
    owner = folder.stat()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK},uid={owner.st_uid},gid={owner.st_gid}", "tmpfs", folder],
        check=True,
    )
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
        shutil.rmtree(folder)


@root
def test_f36_a_full_disk_stops_claims_and_keeps_outcomes_until_there_is_room(caplog: pytest.LogCaptureFixture) -> None:
    with small_disk() as folder, cluster(folder=folder, max_wal_size="32MB", wal_recycle="off") as server:
        Fairchild(server.url).install()
        with App(server.url).closing() as app:
            go = threading.Event()
            runs: list[int] = []

            @app.task(name="full.holds")
            def holds(n: int) -> dict[str, Any]:
                runs.append(n)
                assert go.wait(PATIENCE)
                return {"n": n, "text": random.Random(n).randbytes(20_000).hex()}

            worker = app.work(concurrency=2)
            jobs = [holds.enqueue(n) for n in range(4)]
            eventually(lambda: len(runs) == 2)
            # The heap first, then whatever is left: what is in the log's segments stays usable.
            with pytest.raises(psycopg.errors.DiskFull):
                server.ask("CREATE TABLE ballast AS SELECT repeat(md5(n::text), 200) t FROM generate_series(1, 1e7) n")
            ballast = folder / "ballast"
            fill(ballast)
            go.set()
            eventually(lambda: "No space left on device" in caplog.text, PATIENCE)
            assert worker.alive
            assert worker.counts["failed"] == 0

            ballast.unlink()
            app.store = once_again(app)
            assert [app.result(job)["n"] for job in jobs] == [0, 1, 2, 3]
            assert sorted(runs) == [0, 1, 2, 3]  # each once: what had been run was kept
            assert {app.get(job).attempt for job in jobs} == {1}


def fill(path: Path) -> None:
    """Take all room there is."""
    try:
        with path.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 4096)
    except OSError:
        pass


def test_f37_without_a_free_connection_those_there_are_kept_and_the_log_says_it_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with cluster(max_connections="22", superuser_reserved_connections="3") as server:
        server.ask("CREATE ROLE worker LOGIN")
        Fairchild(server.url).install()
        server.ask("GRANT ALL ON ALL TABLES IN SCHEMA public TO worker")
        with App(server.url.replace("postgres@", "worker@")).closing() as app:

            @app.task(name="crowd.work")
            def work(n: int) -> int:
                return n

            worker = app.work(concurrency=2)
            app.result(work.enqueue(0))
            session = worker.session
            with ExitStack() as crowd:
                fill_up(app.url, crowd)
                eventually(lambda: taken_away(server, app.url, crowd), PATIENCE)
                job = work.enqueue(1)  # over the connections that are there
                eventually(lambda: worker._claiming.failures > 3, PATIENCE)
                assert worker.session == session
                assert worker.health()["beats"]["ok"]
                said = [each for each in caplog.messages if "too many" in each or "remaining connection" in each]
                assert 1 <= len(said) <= 6, said
            assert app.result(job) == 1
            assert worker.session == session


def fill_up(url: str, crowd: ExitStack) -> None:
    """Take every connection that is free."""
    try:
        while True:
            crowd.enter_context(psycopg.connect(url))
    except psycopg.OperationalError:
        return


def taken_away(server: Cluster, url: str, crowd: ExitStack) -> bool:
    """End the connections that claim and finish, and take their places; False if one was there again before us."""
    of_both = "FROM pg_stat_activity WHERE application_name IN ('fairchild:claimer', 'fairchild:finisher')"
    ended = [pid for pid, _ in server.ask(f"SELECT pid, pg_terminate_backend(pid) {of_both}")]
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in ended), PATIENCE)
    fill_up(url, crowd)
    return not server.ask(f"SELECT {of_both}")


def test_f38_in_a_storm_of_cancelled_statements_no_job_fails(app: App) -> None:
    @app.task(name="storm.work")
    def work(n: int) -> int:
        return n

    worker = app.work(concurrency=4)
    stop = threading.Event()
    cancelled: list[int] = []

    def storm() -> None:
        with psycopg.connect(app.url, autocommit=True) as connection:
            while not stop.wait(0.005):
                found = connection.execute(
                    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                    "AND state = 'active' AND pid <> pg_backend_pid() AND application_name ~ "
                    "'fairchild:(claimer|finisher|heartbeat)' AND random() < 0.5"
                ).fetchall()
                cancelled.append(len(found))

    thread = threading.Thread(target=storm)
    thread.start()
    try:
        jobs = [work.enqueue(n) for n in range(200)]
        done = app.wait(*jobs)
    finally:
        stop.set()
        thread.join()

    assert [job.result for job in done] == list(range(200))
    assert {job.attempt for job in done} == {1}
    assert sum(cancelled) > 0
    assert worker.alive


def test_f39_statements_that_were_the_victims_of_a_deadlock_are_done_again(app: App) -> None:
    """Two sessions want a job's row and another, in opposite orders; the finisher's is the one that is broken off."""

    @app.task(name="deadlock.work")
    def work(n: int) -> int:
        return n

    worker = app.work(concurrency=2)
    app.wait(*[work.enqueue(n) for n in range(3)])
    failures: list[str] = []
    write = worker._finisher._write
    states = [psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure]

    def victim(batch: Any) -> Any:
        if len(failures) < 4:
            kind = states[len(failures) % 2]
            failures.append(kind.__name__)
            raise kind("as the server says it")
        return write(batch)

    worker._finisher._write = victim  # type: ignore[method-assign]
    done = app.wait(*[work.enqueue(n) for n in range(20)])

    assert [job.result for job in done] == list(range(20))
    assert {job.attempt for job in done} == {1}
    assert len(failures) == 4


def test_f40_under_an_old_snapshot_claims_go_on_and_nothing_is_run_twice(app: App) -> None:
    runs: list[int] = []

    @app.task(name="old.work")
    def work(n: int) -> None:
        runs.append(n)

    with psycopg.connect(app.url) as old:
        old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT count(*) FROM fairchild_jobs")
        app.work(concurrency=4)
        ids = app.client.enqueue_many(work, ({"n": n} for n in range(3000)))
        app.client.wait(ids, timeout=2 * PATIENCE)
        late = work.enqueue(3000)
        app.wait(late)
        old.rollback()

    assert sorted(runs) == list(range(3001))


def test_f42_a_lock_on_the_tables_of_the_jobs_silences_no_worker(app: App, caplog: pytest.LogCaptureFixture) -> None:
    go = threading.Event()

    @app.task(name="locked.holds")
    def holds() -> int:
        assert go.wait(PATIENCE)
        current_job().check()
        return 1

    workers = [app.work(concurrency=1, lease=2.0) for _ in range(2)]
    sessions = [worker.session for worker in workers]
    jobs = [holds.enqueue() for _ in range(2)]
    for job in jobs:
        app.reaches(job, "running")
    beats = {worker: worker._acknowledged for worker in workers}
    with psycopg.connect(app.url) as connection:
        for table in ("claims", "ready", "jobs_base", "waiting", "due"):
            connection.execute(f"LOCK TABLE fairchild_{table} IN ACCESS EXCLUSIVE MODE".encode())
        began = time.monotonic()
        later = beats
        while time.monotonic() - began < 3 * 2.0:  # three leases
            eventually(lambda: all(each._acknowledged > later[each] for each in workers), PATIENCE)  # noqa: B023
            later = {worker: worker._acknowledged for worker in workers}
        assert not any(worker._claimer.fenced for worker in workers)
        go.set()
        connection.rollback()

    assert [app.result(job) for job in jobs] == [1, 1]
    assert [worker.session for worker in workers] == sessions
    assert [app.get(job).errors for job in jobs] == [[], []]
    assert "taken for dead" not in caplog.text


def test_f43_an_index_that_a_failed_build_left_invalid_is_reported_and_rebuilt(fairchild_db: str) -> None:
    with psycopg.connect(fairchild_db, autocommit=True) as connection:
        connection.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'fairchild_ready_for_claim'::regclass"
        )
    with Fairchild(fairchild_db, registry=Registry()) as client:
        assert client.damaged_indexes() == ["fairchild_ready_for_claim"]
        assert client.install() == []
        assert client.damaged_indexes() == []


def test_f44_a_restored_dump_goes_on_where_the_old_database_was(app: App, server: Cluster) -> None:
    running = threading.Event()
    go = threading.Event()
    runs: list[int] = []

    @app.task(name="dump.work")
    def work(n: int) -> int:
        runs.append(n)
        if n == 0:
            running.set()
            go.wait(PATIENCE)
        return n

    worker = app.work(concurrency=1, lease=2.0)
    held = work.enqueue(0)
    assert running.wait(PATIENCE)
    waiting = [work.enqueue(n) for n in range(1, 30)]
    later = app.client.enqueue(work, {"n": 99}, delay=3600)
    dump = server.folder / "dump.sql"
    server.run("pg_dump", "-d", app.url, "-f", str(dump))
    go.set()
    worker.stop()

    with databases.copy_of(server.url, "template0") as url:
        server.run("psql", "-q", "-v", "ON_ERROR_STOP=1", "-d", url, "-f", str(dump))
        runs.clear()
        with App(url).closing() as restored:
            restored.work(client=restored.other_client(app.client.registry), lease=2.0)
            new = restored.client.enqueue(work, {"n": 100})
            done = restored.wait(held, *waiting, new)
            assert [job.result for job in done] == [*range(30), 100]
            assert [job.attempt for job in done] == [1] * 31  # the running one was reaped, and no attempt spent
            assert done[0].errors[0]["kind"] == "lost"
            assert sorted(runs) == [*range(30), 100]
            assert restored.get(later).state == "scheduled"
            seqs = restored.store.sql("SELECT count(*), count(DISTINCT seq) FROM {ready}")
            assert seqs[0][0] == seqs[0][1]


SETTINGS = {
    "default_transaction_isolation": "serializable",
    "search_path": "nowhere, public",
    "TimeZone": "Australia/Lord_Howe",
    "DateStyle": "German, DMY",
    "IntervalStyle": "sql_standard",
    "bytea_output": "escape",
    "standard_conforming_strings": "off",
    "statement_timeout": "2s",
    "lock_timeout": "1s",
    "client_encoding": "LATIN1",
    "default_transaction_deferrable": "on",
    "row_security": "off",
    "lc_messages": "C",
}


def exercise(url: str) -> None:
    """A life of jobs and what is asked about them; their values come back as they were."""
    with Fairchild(url, registry=Registry()) as client:
        value = {"text": "naïve\\ ' \" €", "n": 1.5, "list": [1, None, True]}

        @client.task(name="odd.echo")
        def echo(value: Any) -> Any:
            return value

        @client.task(name="odd.parent")
        def parent(value: Any) -> Any:
            return echo([echo(value), echo(1)])

        @client.task(name="odd.fails", max_attempts=1)
        def fails() -> None:
            raise ValueError("on purpose: \\ '")

        with Worker(client, ["default"], 2, poll_interval=0.1):
            job = client.enqueue(parent, {"value": value})
            bad = client.enqueue(fails)
            later = client.enqueue(echo, {"value": 1}, delay=3600)
            many = client.enqueue_many(echo, ({"value": n} for n in range(1200)), queue="not served")
            assert client.get_result(job.id, timeout=PATIENCE) == [value, 1]
            failed = client.wait([bad.id], timeout=PATIENCE)[0]
        assert failed.state == "failed"
        assert "on purpose: \\ '" in failed.errors[0]["message"]
        found = client.get_job(later.id)
        assert found is not None
        assert found.scheduled_at == later.scheduled_at
        assert found.scheduled_at is not None
        assert job.scheduled_at is not None
        assert (found.scheduled_at - job.scheduled_at).total_seconds() > 3500
        assert client.cancel([later.id])
        assert client.stats()["jobs"]["completed"] == 4
        assert len(client.cancel(many)) == 1200
        with psycopg.connect(url, client_encoding="UTF8") as connection:
            made = client.enqueue("odd.echo", {"value": value}, connection=connection)
            connection.commit()
        again = client.get_job(made.id)
        assert again is not None
        assert again.args == {"value": value}


@contextmanager
def role_with(server: str, url: str, **settings: str) -> Iterator[str]:
    """The URL of a database for a role that has settings of its own."""
    name = f"odd_{random.randrange(10**9)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN SUPERUSER").format(sql.Identifier(name)))
        for setting, value in settings.items():
            values = sql.SQL(", ").join(sql.Literal(each.strip()) for each in value.split(", "))
            if setting != "search_path":
                values = sql.SQL("{}").format(sql.Literal(value))
            connection.execute(
                sql.SQL("ALTER ROLE {} SET {} = {}").format(sql.Identifier(name), sql.Identifier(setting), values)
            )
        try:
            yield url.replace("postgres@", f"{name}@", 1)
        finally:
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@pytest.mark.parametrize("setting", SETTINGS)
def test_f45_settings_of_a_role_change_nothing(server: Cluster, server_db: str, setting: str) -> None:
    with role_with(server.url, server_db, **{setting: SETTINGS[setting]}) as url:
        exercise(url)


def test_f45_all_odd_settings_at_once_change_nothing(server: Cluster, server_db: str) -> None:
    with role_with(server.url, server_db, **SETTINGS) as url:
        exercise(url)


@pytest.mark.parametrize(
    "act",
    [
        lambda client: client.enqueue("t"),
        lambda client: client.enqueue_many("t", [{}]),
        lambda client: Worker(client).start(),
    ],
)
def test_f45_a_role_that_only_reads_is_refused_with_one_clear_message(
    server: Cluster, server_db: str, act: Callable[[Fairchild], object]
) -> None:
    with (
        role_with(server.url, server_db, default_transaction_read_only="on") as url,
        Fairchild(url, registry=Registry()) as client,
    ):
        client.task(name="odd.nothing")(lambda: None)
        assert client.stats()["jobs"]["available"] == 0  # reading is all right
        with pytest.raises(StoreError, match=r"this database only reads.*default_transaction_read_only") as caught:
            act(client)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_f45_a_database_of_another_encoding_takes_what_it_can_hold_and_says_what_it_cannot(
    server: Cluster, encoding: str
) -> None:
    name = f"odd_{encoding.lower()}_test"
    server.ask(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'")
    try:
        with Fairchild(server.url_of(name), registry=Registry()) as client:
            client.install()

            @client.task(name="odd.echo", max_attempts=1)
            def echo(text: str, euro: bool = False) -> str:
                return text + "€" if euro else text

            with Worker(client, concurrency=1, poll_interval=0.1):
                assert client.get_result(client.enqueue(echo, {"text": "naïve"}).id, timeout=PATIENCE) == "naïve"
                if encoding == "SQL_ASCII":
                    assert client.get_result(client.enqueue(echo, {"text": "€"}).id, timeout=PATIENCE) == "€"
                    return
                with pytest.raises(StoreError, match='encoding "LATIN1"'):
                    client.enqueue(echo, {"text": "€"})
                refused = client.wait([client.enqueue(echo, {"text": "", "euro": True}).id], timeout=PATIENCE)[0]
            assert refused.state == "failed"
            assert "LATIN1" in refused.errors[0]["message"]
    finally:
        server.ask(f"DROP DATABASE {name} WITH (FORCE)")
