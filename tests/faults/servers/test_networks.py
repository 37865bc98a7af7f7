"""Partitions between a worker and its server, each way by itself, and a line that loses much."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from fairchild import Fairchild
from fairchild.tasks import Registry
from tests.faults.servers import jobs
from tests.faults.servers.needs import networks
from tests.support.cluster import Cluster, cluster
from tests.support.command import environment
from tests.support.eventually import eventually
from tests.support.networks import Host, host
from tests.support.store import store_of

pytestmark = networks

NOTICED = 40.0
"""Seconds for what is promised within 25 and 30, on a machine with little time."""
PATIENCE = 90.0
LEASE = 30.0
JOBS = 4000
"""So many that they last until the line has been cut, on a busy machine too."""


@pytest.fixture(scope="module")
def far() -> Iterator[Host]:
    with host() as made:
        yield made


@pytest.fixture(scope="module")
def wide_server(far: Host) -> Iterator[Cluster]:
    """A server that the other host reaches."""
    with cluster(listen_addresses="*") as made:
        yield made


@pytest.fixture
def client(wide_server: Cluster) -> Iterator[Fairchild]:
    with Fairchild(wide_server.url, registry=Registry()) as made:
        made.install()
        wide_server.ask("CREATE TABLE IF NOT EXISTS effects (n int)")
        wide_server.ask("TRUNCATE effects")
        yield made
        made.drop_tables()


@pytest.fixture
def worker(far: Host, wide_server: Cluster, client: Fairchild) -> Iterator[subprocess.Popen[str]]:
    """A worker on the other host, at work."""
    url = wide_server.url.replace(wide_server.host, far.here)
    process = far.python(
        "-m", "fairchild", "worker", "--import", "tests.faults.servers.jobs", "--concurrency", "4",
        "--lease", str(LEASE), "--poll-interval", "0.2", "--shutdown-timeout", "2",
        environment=environment(url), output=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        first = client.enqueue(jobs.work, {"n": -1})
        client.wait([first.id], timeout=PATIENCE)
        yield process
    finally:
        far.heal()
        process.kill()
        process.wait()
        eventually(lambda: sessions(wide_server) == 0, PATIENCE)


def sessions(server: Cluster) -> int:
    """The worker's sessions at the server."""
    rows = server.ask("SELECT count(*) FROM pg_stat_activity WHERE application_name ~ 'claimer|finisher|heartbeat'")
    return int(str(rows[0][0]))


def all_once(client: Fairchild, server: Cluster, ids: list[object]) -> None:
    """Every job has completed, with one effect each."""
    done = client.wait(ids, timeout=2 * PATIENCE)  # type: ignore[arg-type]
    assert {job.state for job in done} == {"completed"}
    assert server.ask("SELECT count(*), count(DISTINCT n) FROM effects WHERE n >= 0") == [(len(ids), len(ids))]
    with store_of(client) as store:
        assert store.violations() == []
        assert store.sql("SELECT count(*) FROM {claims}") == [(0,)]


@pytest.mark.slow
def test_f29_when_nothing_of_a_worker_arrives_both_ends_notice_and_nothing_is_lost_or_done_twice(
    far: Host, wide_server: Cluster, client: Fairchild, worker: subprocess.Popen[str]
) -> None:
    cut_and_heal("f29", far.drop_sent, far, wide_server, client)
    assert worker.poll() is None


@pytest.mark.slow
def test_f31_when_a_worker_hears_nothing_both_ends_notice_and_nothing_is_lost_or_done_twice(
    far: Host, wide_server: Cluster, client: Fairchild, worker: subprocess.Popen[str]
) -> None:
    cut_and_heal("f31", far.drop_received, far, wide_server, client)
    assert worker.poll() is None


def cut_and_heal(fault: str, drop: Callable[[], None], far: Host, wide_server: Cluster, client: Fairchild) -> None:
    """A partition amid work, until the server has noticed."""
    ids: list[object] = list(client.enqueue_many(jobs.work, ({"n": n, "seconds": 0.01} for n in range(JOBS))))
    eventually(lambda: client.stats()["jobs"]["completed"] > 100, PATIENCE)
    drop()
    cut = time.monotonic()
    # The server's own end of it: its sessions, with whatever they held locked, are gone.
    eventually(lambda: sessions(wide_server) == 0, NOTICED, what=lambda: sessions(wide_server))
    print(f"{fault}: the server had ended the sessions of the other side after {time.monotonic() - cut:.1f} s")
    held = wide_server.ask(
        "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE l.mode ~ 'Row'"
    )
    assert held == [(0,)]

    far.heal()
    back = time.monotonic()
    before = client.stats()["jobs"]["completed"]
    assert before < JOBS, "all had been done before the line was cut"
    eventually(lambda: client.stats()["jobs"]["completed"] > before, PATIENCE)
    print(f"{fault}: {time.monotonic() - back:.1f} s after the partition the worker was at work again")
    all_once(client, wide_server, ids)


@pytest.mark.slow
def test_f32_a_line_that_loses_much_slows_work_and_breaks_nothing(
    far: Host, wide_server: Cluster, client: Fairchild, worker: subprocess.Popen[str]
) -> None:
    (before,) = wide_server.ask("SELECT sessions FROM pg_stat_database WHERE datname = 'postgres'")
    began = time.monotonic()
    delayed = far.delay(100)
    far.lose(0.1)
    try:
        ids: list[object] = list(client.enqueue_many(jobs.work, ({"n": n} for n in range(60))))
        all_once(client, wide_server, ids)
    finally:
        far.heal()
        if delayed:
            far.delay(0)
    (after,) = wide_server.ask("SELECT sessions FROM pg_stat_database WHERE datname = 'postgres'")
    print(
        f"f32: {len(ids)} jobs in {time.monotonic() - began:.0f} s, {int(str(after[0])) - int(str(before[0]))} sessions"
    )
    assert worker.poll() is None
