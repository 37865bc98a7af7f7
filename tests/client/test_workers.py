"""Seeing, pausing and stopping workers through the database."""

from __future__ import annotations

import os
import socket
import threading
from uuid import uuid4

import pytest

from fairchild.errors import UnknownWorker
from fairchild.worker import Worker, WorkerPool
from tests.support.app import PATIENCE, App
from tests.support.eventually import eventually


def states(app: App) -> list[str]:
    return [str(each.state) for each in app.client.workers.list(ended=True)]


@pytest.fixture
def worker(app: App) -> Worker:
    app.task(name="add")(_add)
    # A beat comes every four seconds: what is heard sooner was brought by a notification.
    return app.work(name="one", lease=60, heartbeat_interval=4, concurrency=3)


def _add(a: int) -> int:
    return a


def test_workers_are_listed_with_what_they_are(app: App, worker: Worker) -> None:
    (info,) = app.client.workers.list()

    assert (info.id, info.name, info.hostname, info.pid) == (worker.session, "one", socket.gethostname(), os.getpid())
    assert (info.state, info.queues, info.concurrency, info.busy, info.lease) == ("running", None, 3, 0, 60)
    assert info.tasks == ["add"]
    assert info.metadata["kind"] == "worker"
    assert {"version", "python", "platform"} < set(info.metadata)
    assert info.to_dict()["id"] == str(worker.session)


def test_busy_counts_what_a_worker_holds(app: App) -> None:
    go_on = threading.Event()

    @app.task
    def hold() -> None:
        go_on.wait(PATIENCE)

    hold.enqueue_many([{}, {}])
    app.work()
    try:
        eventually(lambda: [each.busy for each in app.client.workers.list()] == [2])
    finally:
        go_on.set()


def test_a_paused_worker_takes_nothing_until_it_is_resumed(app: App, worker: Worker) -> None:
    (info,) = app.client.workers.pause("one")
    assert info.state == "paused"
    assert info.paused_at is not None
    job = app.client.enqueue("add", {"a": 1})
    eventually(lambda: worker._claimer.paused)
    assert worker.healthy
    assert app.get(job).state == "available"

    (info,) = app.client.workers.resume(info)
    assert (info.state, info.paused_at) == ("running", None)
    assert app.result(job) == 1


def test_a_pause_counts_for_claims_from_the_moment_it_is_made(app: App, worker: Worker) -> None:
    app.client.workers.pause("one")
    app.client.enqueue("add", {"a": 1})

    assert app.store.claim(tasks=("add",), session=worker.session) == []


def test_running_jobs_of_a_paused_worker_go_on_and_waiting_ones_are_given_back(app: App) -> None:
    started, go_on = threading.Event(), threading.Event()

    @app.task
    def hold(n: int) -> int:
        started.set()
        go_on.wait(PATIENCE)
        return n

    running = hold.enqueue(1)
    worker = app.work(concurrency=1)
    assert started.wait(PATIENCE)
    worker._pool.pace.note(float("inf"), 1, 1e-6)
    ahead = hold.enqueue(2)
    worker.wake()
    eventually(lambda: worker._pool.held() == 2)
    app.client.workers.pause(worker.session)  # type: ignore[arg-type]
    eventually(lambda: app.get(ahead).state == "available")
    go_on.set()

    assert app.result(running) == 1
    assert app.get(ahead).state == "available"


def test_a_paused_worker_that_was_taken_for_dead_stays_paused(app: App, worker: Worker) -> None:
    app.client.workers.pause("one")
    eventually(lambda: worker._claimer.paused)
    old = worker.session
    app.store.sql("UPDATE {sessions} SET state = 'dead', ended_at = now()")
    worker._beating.wake()
    eventually(lambda: worker.session != old)

    assert sorted(states(app)) == ["dead", "paused"]


def test_a_worker_that_is_stopped_from_afar_drains(app: App) -> None:
    started, go_on = threading.Event(), threading.Event()

    @app.task
    def hold() -> str:
        started.set()
        go_on.wait(PATIENCE)
        return "done"

    job = hold.enqueue()
    worker = app.work(name="one", lease=60, heartbeat_interval=4)
    assert started.wait(PATIENCE)
    (info,) = app.client.workers.stop("one")
    assert info.state == "draining"
    eventually(lambda: worker.asked_to_stop)
    later = hold.enqueue()
    go_on.set()
    eventually(lambda: states(app) == ["stopped"])

    assert app.get(job).state == "completed"
    assert app.get(later).state == "available"
    assert worker.stop() is True
    assert not worker.alive


def test_a_pool_that_blocks_returns_when_it_is_stopped_from_afar(app: App) -> None:
    app.task(name="add")(_add)
    pool = WorkerPool(app.client, name="one", poll_interval=0.1)
    thread = threading.Thread(target=pool.start)
    thread.start()
    eventually(lambda: states(app) == ["running"])
    app.client.workers.stop("one")
    thread.join(PATIENCE)

    assert not thread.is_alive()
    assert pool.asked_to_stop
    assert pool.ended_well
    assert states(app) == ["stopped"]


def test_a_worker_can_start_again_after_it_was_stopped(app: App, worker: Worker) -> None:
    app.client.workers.stop("one")
    eventually(lambda: states(app) == ["stopped"])
    worker.stop()
    job = app.client.enqueue("add", {"a": 1})
    worker.start()

    assert app.result(job) == 1


def test_the_name_of_several_processes_stands_for_all(app: App) -> None:
    app.task(name="add")(_add)
    for name in ("crew.0", "crew.1", "crewmate"):
        app.work(name=name)

    assert [each.name for each in app.client.workers.pause("crew")] == ["crew.0", "crew.1"]
    assert states(app) == ["paused", "paused", "running"]


def test_who_is_not_at_work_is_unknown_and_nothing_is_changed(app: App, worker: Worker) -> None:
    for unknown in ("two", str(uuid4()), uuid4()):
        with pytest.raises(UnknownWorker, match="nothing was changed"):
            app.client.workers.pause(["one", unknown])
    assert states(app) == ["running"]
    worker.stop()
    with pytest.raises(UnknownWorker):
        app.client.workers.resume("one")


def test_pausing_twice_changes_nothing(app: App, worker: Worker) -> None:
    (first,) = app.client.workers.pause("one")
    (second,) = app.client.workers.pause("one")

    assert first.paused_at == second.paused_at


def test_a_worker_whose_last_beat_is_older_than_its_lease_is_shown_as_dead(app: App) -> None:
    app.store.open_session(lease_seconds=30)
    app.store.sql("UPDATE {sessions} SET beat_at = now() - interval '31 seconds'")

    assert states(app) == ["dead"]


def test_programs_that_claim_by_hand_are_listed(app: App) -> None:
    app.client.enqueue("t")
    with app.client.claim():
        (info,) = app.client.workers.list()

    assert (info.metadata["kind"], info.busy, info.tasks) == ("consumer", 1, [])
