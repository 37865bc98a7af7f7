"""Connecting: forks, servers that are not there, tables that are not there, and no password in any of it."""

from __future__ import annotations

import gc
import os
import socket
import threading
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from fairchild import Fairchild, NoResult, Registry, Task, get_fairchild
from fairchild.db import connect
from fairchild.db.connect import Link, again, retrying
from fairchild.db.deadline import within
from fairchild.db.statement import Sql
from fairchild.errors import ConfigError, DatabaseUnavailable, NotConnected, SchemaError, StoreError, WritesRefused
from fairchild.testing import databases
from tests.support.app import App
from tests.support.eventually import eventually

CANARY = "c4n4ry"


@pytest.fixture
def add(app: App) -> Task[..., Any]:
    def add(a: int) -> int:
        return a

    return app.task(name="add")(add)


@pytest.fixture
def closed_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def in_a_child(act: Callable[[], object]) -> str:
    """What ``act`` gives in a forked child, as text."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads, since Python 3.12
        child = os.fork()
    if child == 0:
        try:
            answer = str(act())
        except BaseException:  # noqa: BLE001 - told to the parent
            answer = traceback.format_exc()
        os.write(write, answer.encode()[:60_000])
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return answer


def test_a_client_that_was_used_before_a_fork_works_in_both_processes(app: App, add: Task[..., Any]) -> None:
    before = add.enqueue(1)

    def act() -> object:
        job = add.enqueue(2)
        gc.collect()  # the parent's connections must not be closed with its objects
        assert app.client.get_job(before.id) is not None
        assert len(app.client.enqueue_many(add, [{"a": 3}])) == 1
        app.client.disconnect()
        return job.id

    answer = in_a_child(act)

    assert {str(job.id) for job in app.client.jobs()} >= {answer, str(before.id)}
    assert add.enqueue(4).refresh().state == "available"
    assert [job.args["a"] for job in app.client.jobs()] == [4, 3, 2, 1]


def test_a_client_that_was_only_made_before_a_fork_works_in_both(fairchild_db: str) -> None:
    client = Fairchild(fairchild_db, registry=Registry())

    answer = in_a_child(lambda: client.enqueue("from.child").id)
    mine = client.enqueue("from.parent")

    assert {str(job.id) for job in client.jobs()} == {answer, str(mine.id)}
    client.disconnect()


def test_one_client_serves_many_threads(app: App, add: Task[..., Any]) -> None:
    errors: list[BaseException] = []

    def enqueue() -> None:
        try:
            for n in range(20):
                add.enqueue(n)
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=enqueue) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    assert app.client.stats()["jobs"]["available"] == 400


def test_lost_connections_do_not_fail_the_next_call(app: App, add: Task[..., Any]) -> None:
    threads = [threading.Thread(target=add.enqueue, args=(n,)) for n in range(8)]  # so that several are open
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert app.kill_backends("fairchild:client%") >= 1
    job = add.enqueue(9)
    assert app.kill_backends("fairchild:client%") >= 1

    assert app.client.get_job(job.id) == job
    assert len(app.client.jobs()) == 9


def test_the_current_client_is_the_one_connected_last(app: App) -> None:
    assert get_fairchild() is app.client
    with app.other_client() as inner:
        assert get_fairchild() is inner
    assert get_fairchild() is app.client
    app.client.disconnect()
    with pytest.raises(NotConnected, match="connect"):
        get_fairchild()


# What is not there


@pytest.mark.parametrize(
    "act",
    [
        Fairchild.connect,
        lambda client: client.enqueue("t"),
        lambda client: client.enqueue_many("t", [{}]),
        lambda client: client.jobs(),
        lambda client: client.stats(),
        lambda client: client.get_job("00000000-0000-7000-8000-000000000001"),
        lambda client: client.cancel("00000000-0000-7000-8000-000000000001"),
        lambda client: client.install(),
    ],
)
def test_a_server_that_is_not_there_is_reported_soon_and_without_the_password(
    closed_port: int, act: Callable[[Fairchild], object], caplog: pytest.LogCaptureFixture
) -> None:
    client = Fairchild(f"postgresql://someone:{CANARY}@127.0.0.1:{closed_port}/db", registry=Registry())
    box: list[BaseException] = []

    def run() -> None:
        try:
            act(client)
        except BaseException as error:  # noqa: BLE001
            box.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "a pool's own patience would be thirty seconds"

    (error,) = box
    assert isinstance(error, DatabaseUnavailable)
    assert str(closed_port) in str(error)
    assert CANARY not in "".join(traceback.format_exception(error))
    assert CANARY not in caplog.text
    client.disconnect()


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:{CANARY}%zz@127.0.0.1:1/db",
        f"postgresql://u:{CANARY}/x@127.0.0.1:1/db",
        f"postgresql://u:{CANARY}@x@127.0.0.1:1/db",
        f"postgresql://u:x@{CANARY}@127.0.0.1:1/db",
        f"postgresql://u:{CANARY}?x@127.0.0.1:1/db",
        f"postgresql://u:{CANARY}@127.0.0.1:{CANARY}/db",
        f"postgresql://u:{CANARY}@127.0.0.1:1/db?nonsense=1",
        f"postgresql://u@127.0.0.1:1/db?password={CANARY}&connect_timeout=x",
        f"host=127.0.0.1 port=1 password={CANARY} nonsense=1",
        f"host=127.0.0.1 port=1 password='{CANARY}",
        f"mysql://u:{CANARY}@h/db",
    ],
)
def test_a_url_that_cannot_be_read_is_refused_without_its_password(url: str) -> None:
    client = Fairchild(url, registry=Registry())

    for act in (client.connect, lambda: client.enqueue("t"), client.install):
        with pytest.raises((ConfigError, StoreError)) as raised:
            act()
        assert CANARY not in "".join(traceback.format_exception(raised.value))
    client.disconnect()


def test_a_client_shows_no_password() -> None:
    client = Fairchild(f"postgresql://someone:{CANARY}@host/db", registry=Registry())

    assert repr(client) == "<Fairchild, not connected>"
    assert client.config.url.startswith("postgresql://someone")
    for shown in (repr(client), str(client), repr(client.config), f"{client.database!r}"):
        assert CANARY not in shown


def test_a_wrong_database_is_reported_by_name(fairchild_server: str) -> None:
    client = Fairchild(databases.database_url(fairchild_server, "there_is_no_such_test"), registry=Registry())

    with pytest.raises(DatabaseUnavailable, match="there_is_no_such_test"):
        client.connect()


@pytest.mark.parametrize(
    "act",
    [
        lambda client: client.enqueue("t"),
        lambda client: client.enqueue_many("t", ({} for _ in range(1500))),
        lambda client: client.jobs(),
        lambda client: client.stats(),
        lambda client: client.get_result("00000000-0000-7000-8000-000000000001"),
        lambda client: client.cancel("00000000-0000-7000-8000-000000000001"),
        lambda client: client.retry({"state": "failed"}),
    ],
)
def test_missing_tables_are_explained(fairchild_server: str, act: Callable[[Fairchild], object]) -> None:
    with (
        databases.copy_of(fairchild_server, "template0") as url,
        Fairchild(url, registry=Registry()) as client,
        pytest.raises(SchemaError, match="run `fairchild install`"),
    ):
        act(client)


def test_a_missing_schema_is_explained(app: App) -> None:
    url = app.url + ("&" if "?" in app.url else "?") + "options=-csearch_path%3Dnowhere"
    client = Fairchild(url, registry=Registry())

    with pytest.raises(SchemaError, match=r"search_path.*FAIRCHILD_SCHEMA"):
        client.connect()
    with Fairchild(url, schema="public", registry=Registry()) as good:
        assert good.enqueue("t").state == "available"


def test_a_pool_that_is_used_up_says_so(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Fairchild(app.url, pool_size=1, registry=Registry())
    try:
        with client.database.link():
            monkeypatch.setattr(connect, "POOL_TIMEOUT", 0.1)
            with pytest.raises(StoreError, match="all 1 connections of this client are in use; raise pool_size"):
                client.enqueue("t")
    finally:
        client.disconnect()


def test_install_may_be_repeated_and_run_by_many(fairchild_server: str) -> None:
    with databases.copy_of(fairchild_server, "template0") as url:
        applied: list[list[str]] = []
        clients = [Fairchild(url, registry=Registry()) for _ in range(4)]
        threads = [threading.Thread(target=lambda each=client: applied.append(each.install())) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert sum(map(bool, applied)) == 1
        assert clients[0].install() == []
        assert clients[0].enqueue("t").state == "available"
        for client in clients:
            client.disconnect()


def test_a_client_leaves_no_session_open_in_a_transaction(app: App, add: Task[..., Any]) -> None:
    add.enqueue(1)
    with pytest.raises(TypeError):
        add.enqueue_many([{"a": 1}, {"b": 1}])
    with pytest.raises(NoResult):
        raise NoResult
    app.client.jobs()

    def open_transactions() -> int:
        with psycopg.connect(app.url, autocommit=True) as connection:
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                "AND state LIKE 'idle in transaction%'"
            ).fetchone()
        assert row is not None
        return int(row[0])

    assert eventually(lambda: open_transactions() == 0)


def test_a_transaction_is_not_tried_again_on_a_connection_that_is_lost(app: App) -> None:
    tries = []

    def lost(link: Link) -> None:
        tries.append(1)
        link.connection.close()
        link.rows(Sql("nothing", "SELECT 1"))

    with pytest.raises(StoreError), app.client.database.link() as link:
        again(link, lambda: lost(link))
    assert tries == [1]


def test_what_a_connection_that_only_reads_refuses_is_not_asked_of_it_again(app: App) -> None:
    tries: list[int] = []

    def write(link: Link) -> None:
        tries.append(1)
        link.rows(Sql("write", "CREATE TABLE refused ()"))

    only_reads = Fairchild(make_conninfo(app.url, options="-c default_transaction_read_only=on"))
    with only_reads, pytest.raises(WritesRefused), only_reads.database.link() as link:
        again(link, lambda: write(link))
    assert tries == [1]


def test_where_time_is_short_the_last_failure_is_told_and_not_that_the_time_is_over() -> None:
    def busy() -> None:
        raise psycopg.errors.DeadlockDetected

    with within(0.3) as deadline, pytest.raises(psycopg.errors.DeadlockDetected):
        retrying(busy, tries=1000)
    assert deadline.left > 0
