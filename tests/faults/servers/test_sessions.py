"""Notifications that do not come: listeners cut off without a word, frozen or refused, and a queue that is full."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import psycopg
import pytest

from fairchild import Fairchild
from fairchild.db.connect import Link
from fairchild.db.wake import channel
from fairchild.worker import listener
from fairchild.worker.listener import Listener
from tests.support.app import PATIENCE, App
from tests.support.cluster import Cluster, cluster
from tests.support.eventually import eventually
from tests.support.proxy import Proxy

LONG = 8000 - 100
"""Bytes of a notification, which has 8,000 at most."""


@pytest.fixture
def line(app: App) -> Iterator[Proxy]:
    made = Proxy(app.url)
    yield made
    made.close()


@pytest.fixture
def far(app: App, line: Proxy) -> Iterator[Fairchild]:
    client = Fairchild(line.url, registry=app.client.registry)
    yield client
    for worker in app.workers:
        worker.stop()
    client.disconnect()


def test_f49_a_listener_cut_off_without_a_word_connects_anew(
    app: App, line: Proxy, far: Fairchild, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listener, "WAIT_SECONDS", 0.3)
    monkeypatch.setattr(listener, "PROBE_SECONDS", 0.5)

    @app.task(name="deaf.work")
    def work() -> int:
        return 1

    worker = app.work(client=far, poll_interval=3600.0)
    eventually(lambda: worker._listener._heard_at > 0)
    line.deaf = b"fairchild:listener"
    job = app.client.enqueue(work)  # its notification is lost, and nobody polls
    eventually(lambda: "arrive no more" in caplog.text, PATIENCE)
    line.deaf = b""

    assert app.result(job) == 1  # found by the look that follows a reconnect
    assert app.result(app.client.enqueue(work)) == 1


def test_f48_without_any_notification_jobs_start_at_the_next_poll(app: App) -> None:
    @app.task(name="silent.work")
    def work() -> int:
        return 1

    worker = app.work(poll_interval=0.2)
    worker._listening.stop()
    worker._listener.interrupt()
    assert worker._listening.join(PATIENCE)
    other = app.other_client()

    assert app.result(other.enqueue(work)) == 1


def test_f49_a_probe_wakes_nobody(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "WAIT_SECONDS", 0.05)
    woken: list[int] = []
    made = Listener(app.client.database, channel(app.client.database.schema), lambda: woken.append(1), lambda: None)
    made.step()  # connects, which wakes
    for _ in range(5):
        made.step()
    made.interrupt()
    made.close()

    assert len(woken) == 1


@contextmanager
def frozen(app: App) -> Iterator[None]:
    """A session that listens, and never reads what comes."""
    made = Listener(app.client.database, channel(app.client.database.schema), lambda: None, lambda: None)
    assert made._open()
    yield
    made.close()


def test_f50_the_server_drops_a_listener_that_does_not_read(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "SESSION", "SET tcp_user_timeout = '3s'")
    listening = (
        "SELECT wait_event FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name = 'fairchild:listener'"
    )
    with frozen(app):
        stop = threading.Event()

        def flood() -> None:
            with psycopg.connect(app.url, autocommit=True) as connection:
                name = channel(app.client.database.schema)
                while not stop.is_set():
                    connection.execute(
                        "SELECT pg_notify(%s, n || repeat('x', %s)) FROM generate_series(1, 20) n", [name, LONG]
                    )

        flooding = threading.Thread(target=flood)
        flooding.start()
        try:
            eventually(lambda: app.store.sql(listening) == [("ClientWrite",)], PATIENCE)
            stop.set()
            began = time.monotonic()
            eventually(lambda: app.store.sql(listening) == [], 2 * PATIENCE, what=lambda: app.store.sql(listening))
            print(f"f50: a frozen listener was dropped after {time.monotonic() - began:.1f} s, of 3")
        finally:
            stop.set()
            flooding.join()


def test_f50_a_listener_sets_its_own_limit(app: App) -> None:
    made = Listener(app.client.database, channel(app.client.database.schema), lambda: None, lambda: None)
    assert made._open()
    assert made._link is not None
    assert made._link.script("SHOW tcp_user_timeout") == [("30000",)]
    made.close()


@pytest.fixture(scope="module")
def narrow() -> Iterator[Cluster]:
    """A server whose queue of notifications is as small as it can be."""
    with cluster() as made:
        if int(str(made.ask("SHOW server_version_num")[0][0])) < 170000:
            pytest.skip("the size of the queue is a setting since PostgreSQL 17")
        made.configure(max_notify_queue_pages="64")
        made.restart()
        Fairchild(made.url).install()
        yield made


def fill_queue(connection: psycopg.Connection[Any], size: int) -> None:
    try:
        while True:
            connection.execute(
                "SELECT pg_notify('fairchild_filler', n || repeat('x', %s)) FROM generate_series(1, 10) n", [size]
            )
    except psycopg.errors.ProgramLimitExceeded:
        return


@contextmanager
def full(server: Cluster) -> Iterator[None]:
    """While somebody's open transaction listens, the queue keeps what comes."""
    with psycopg.connect(server.url) as idle, psycopg.connect(server.url, autocommit=True) as filler:
        idle.execute("LISTEN fairchild_filler")
        idle.commit()
        idle.execute("SELECT 1")
        for size in (LONG, 1):
            fill_queue(filler, size)
        yield
        idle.rollback()


def test_f51_a_full_queue_of_notifications_fails_no_job_and_no_enqueue(
    narrow: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    with App(narrow.url).closing() as app:

        @app.task(name="full.child")
        def child(n: int) -> int:
            return n

        @app.task(name="full.parent")
        def parent(n: int) -> Any:
            return child(n)

        app.work(concurrency=2)
        app.result(child.enqueue(0))
        with full(narrow):
            jobs = [app.client.enqueue(parent, {"n": n}) for n in range(5)]
            many = app.client.enqueue_many(child, ({"n": n} for n in range(1500)))
            assert [app.result(job) for job in jobs] == list(range(5))
            assert {job.state for job in app.client.wait(many, timeout=2 * PATIENCE)} == {"completed"}
            assert app.client.cancel([app.client.enqueue(child, {"n": 1}, delay=3600).id])
        assert "queue of notifications is full" in caplog.text
        assert {job.attempt for job in app.wait(*jobs)} == {1}


def test_f52_many_notifications_wake_an_idle_worker_few_times(app: App) -> None:
    @app.task(name="herd.never")
    def never() -> None: ...

    other = app.other_client()
    worker = app.work(queues=["idle"], poll_interval=10.0)
    eventually(lambda: worker._listener._heard_at > 0)
    before = worker.statements
    other.enqueue_many(never, ({} for _ in range(10)))
    for _ in range(300):
        other.enqueue(never)

    # A look for each notification at most, and four more after the last; not one for each and every wake-up's echoes.
    assert worker.statements - before <= 2 * 310


@pytest.mark.parametrize("error", [psycopg.errors.UndefinedFile, psycopg.errors.InsufficientPrivilege])
def test_f53_a_listen_that_is_refused_leaves_a_worker_that_polls(
    app: App, monkeypatch: pytest.MonkeyPatch, error: type[psycopg.Error], caplog: pytest.LogCaptureFixture
) -> None:
    @app.task(name="refused.work")
    def work() -> int:
        return 1

    script = Link.script

    def refuse(self: Any, text: str) -> Any:
        if text.startswith("LISTEN"):
            raise error("could not access status of transaction 812")
        return script(self, text)

    monkeypatch.setattr(Link, "script", refuse)
    worker = app.work(poll_interval=0.2)
    eventually(lambda: worker._listening.failures > 3, PATIENCE)

    assert app.result(app.other_client().enqueue(work)) == 1
    assert worker.healthy
    assert sum("could not access status" in message for message in caplog.messages) == 1


def test_f54_the_driver_is_one_that_loses_no_notification_between_reads() -> None:
    found = tuple(int(part) for part in version("psycopg").split(".")[:3])

    assert found >= (3, 2, 4)
