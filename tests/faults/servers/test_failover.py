"""Two servers: the primary goes, the standby is promoted, and everybody finds it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from fairchild import Fairchild, Task
from fairchild.errors import StoreError
from fairchild.worker import listener
from tests.support.app import PATIENCE, App
from tests.support.cluster import Cluster, pair
from tests.support.eventually import eventually

ROLES = {"fairchild:claimer", "fairchild:finisher", "fairchild:heartbeat", "fairchild:listener", "fairchild:client"}


@pytest.fixture
def servers() -> Iterator[tuple[Cluster, Cluster]]:
    with pair() as (primary, standby):
        Fairchild(primary.url).install()
        yield primary, standby


@pytest.fixture
def app(servers: tuple[Cluster, Cluster]) -> Iterator[App]:
    primary, standby = servers
    hosts = f"{primary.host}:{primary.port},{standby.host}:{standby.port}"
    with App(f"postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write").closing() as made:
        yield made


@pytest.fixture
def double(app: App) -> Task[..., Any]:
    def double(n: int) -> int:
        return 2 * n

    return app.task(name="failover.double")(double)


def caught_up(primary: Cluster, standby: Cluster) -> bool:
    (lsn,) = primary.ask("SELECT pg_current_wal_flush_lsn()::text")
    return standby.ask(f"SELECT pg_last_wal_replay_lsn() >= '{lsn[0]}'::pg_lsn")[0][0] is True


def roles(server: Cluster) -> set[str]:
    """The roles of fairchild's sessions on a server, but for those of the tests' own."""
    found = server.ask("SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'fairchild:%'")
    return {str(row[0]) for row in found} - {"fairchild:tests"}


def make_read_only(server: Cluster) -> None:
    server.configure(default_transaction_read_only="on")
    server.reload()
    eventually(lambda: server.ask("SHOW default_transaction_read_only") == [("on",)])


@pytest.mark.parametrize("how", ["stays, read-only", "crashes"])
def test_f33_a_promoted_standby_is_used_by_client_and_worker_alike(
    app: App, servers: tuple[Cluster, Cluster], double: Task[..., Any], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    primary, standby = servers
    monkeypatch.setattr(listener, "WAIT_SECONDS", 1.0)
    worker = app.work(concurrency=2)
    before = [double.enqueue(n) for n in range(20)]
    assert [app.result(job) for job in before] == [2 * n for n in range(20)]
    eventually(lambda: roles(primary) >= ROLES)
    eventually(lambda: caught_up(primary, standby))

    if how == "crashes":
        primary.stop("immediate")
    else:
        make_read_only(primary)
    standby.promote()
    promoted = time.monotonic()
    job = once(lambda: double.enqueue(21))
    enqueued = time.monotonic() - promoted
    done = app.wait(job)[0]
    print(f"failover, the old primary {how}: enqueued after {enqueued:.2f} s, run {time.monotonic() - promoted:.2f} s")

    assert done.result == 42
    assert all(app.get(job).state == "completed" for job in before)
    eventually(lambda: roles(standby) >= ROLES, PATIENCE, what=lambda: roles(standby))
    if how == "stays, read-only":
        eventually(lambda: not roles(primary), PATIENCE, what=lambda: roles(primary))
    assert worker.alive
    app.store = app.store.again()


def once(call: Callable[[], Any]) -> Any:
    """What a call gives, repeated by its caller until the database is there."""

    def tried() -> Any:
        try:
            return call()
        except StoreError as error:
            raise AssertionError(str(error)) from error

    return eventually(tried, PATIENCE)


def test_f33_a_connection_that_only_reads_is_not_used_again(
    app: App, servers: tuple[Cluster, Cluster], double: Task[..., Any]
) -> None:
    primary, standby = servers
    client = app.other_client()
    hosts = f"{standby.host}:{standby.port},{primary.host}:{primary.port}"
    with Fairchild(f"postgresql://postgres@{hosts}/postgres") as other:  # nothing said about which of them
        assert other.stats()["jobs"]["available"] == 0
    first = client.enqueue(double, {"n": 1})
    eventually(lambda: caught_up(primary, standby))
    make_read_only(primary)
    standby.promote()

    # One call: the pool's connection fails, is dropped, and the repetition finds the new primary.
    second = client.enqueue(double, {"n": 2})

    assert {job.id for job in client.jobs()} == {first.id, second.id}
    assert standby.ask("SELECT count(*) FROM fairchild_jobs") == [(2,)]
    assert primary.ask("SELECT count(*) FROM fairchild_jobs") == [(1,)]
    app.store = app.store.again()


def test_f34_commits_that_the_failover_lost_are_missing_and_nobody_is_stuck(
    app: App, servers: tuple[Cluster, Cluster], caplog: pytest.LogCaptureFixture
) -> None:
    primary, standby = servers
    go = threading.Event()
    runs: list[int] = []

    @app.task(name="failover.holds")
    def holds(n: int) -> int:
        runs.append(n)
        if n in {1, 2}:
            go.wait(PATIENCE)
        return n

    app.work(concurrency=2, lease=4.0)
    kept = holds.enqueue(0)
    app.result(kept)
    eventually(lambda: caught_up(primary, standby))
    # From here on nothing reaches the standby, and the primary does not know.
    (receiver,) = standby.ask("SELECT pid FROM pg_stat_activity WHERE backend_type = 'walreceiver'")
    standby.kill(int(str(receiver[0])), signal.SIGSTOP)
    lost = [holds.enqueue(1), holds.enqueue(2)]
    eventually(lambda: sorted(runs) == [0, 1, 2], PATIENCE)
    primary.stop("immediate")
    standby.kill(int(str(receiver[0])), signal.SIGKILL)
    eventually(lambda: standby_answers(standby), PATIENCE)
    standby.promote()
    go.set()

    after = once(lambda: holds.enqueue(3))
    assert app.result(after) == 3
    assert [app.client.get_job(job.id) for job in lost] == [None, None]
    assert app.get(kept).state == "completed"
    eventually(lambda: caplog.text.count("(missing)") == 2, PATIENCE, what=lambda: caplog.text)
    app.store = app.store.again()
    eventually(lambda: app.store.sql("SELECT count(*) FROM {claims}") == [(0,)])


def standby_answers(standby: Cluster) -> bool:
    """A standby whose walreceiver was killed restarts, as after any crash of a process of its own."""
    try:
        return standby.ask("SELECT 1") == [(1,)]
    except psycopg.OperationalError:
        return False
