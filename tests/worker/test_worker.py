"""A worker at work: what it claims, in which order, how it is woken, what it costs, and what its loss comes to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from fairchild import Fairchild, current_job
from fairchild.db import lease
from fairchild.errors import LeaseLost, StoreError, UsageError
from fairchild.tasks import Registry
from fairchild.worker import Worker
from tests.support.app import PATIENCE, App
from tests.support.eventually import eventually

ROOT = Path(__file__).resolve().parents[2]


def test_a_worker_claims_only_tasks_that_it_knows(app: App) -> None:
    ran: dict[str, set[str]] = {"a": set(), "b": set()}
    registries = {name: Registry() for name in ran}
    for name, registry in registries.items():
        registry.add(lambda name=name: ran[name].add(name), name=name)
    jobs = [app.client.enqueue(name) for name in ("a", "b") * 20]
    unknown = app.client.enqueue("nobody.knows")

    for registry in registries.values():
        app.work(client=app.other_client(registry))
    app.wait(*jobs)

    assert ran == {"a": {"a"}, "b": {"b"}}
    assert app.get(unknown).state == "available"


def test_a_task_is_found_by_its_old_names(app: App) -> None:
    @app.task(name="new", aliases=["old", "older"])
    def work() -> str:
        return "found"

    jobs = [app.client.enqueue(name) for name in ("new", "old", "older")]
    app.work()

    assert [app.result(job) for job in jobs] == ["found"] * 3


def test_a_worker_serves_only_the_queues_it_was_given(app: App) -> None:
    @app.task
    def work() -> None: ...

    mine = [work.enqueue(_queue=queue) for queue in ("a", "b")]
    other = work.enqueue(_queue="c")
    app.work(queues=["a", "b"])
    app.wait(*mine)

    assert app.get(other).state == "available"


def test_without_queues_a_worker_finds_all_of_them_also_new_ones(app: App) -> None:
    @app.task
    def work() -> None: ...

    app.work()
    for number in range(12):
        app.wait(work.enqueue(_queue=f"queue {number}"))

    assert app.store.sql("SELECT count(*) FROM {jobs} WHERE state = 'completed'") == [(12,)]


def test_a_queue_never_takes_more_than_its_slots(app: App) -> None:
    lock = threading.Lock()
    running: dict[str, int] = {"a": 0, "b": 0}
    most: dict[str, int] = {"a": 0, "b": 0}
    both = threading.Barrier(3)

    @app.task
    def work() -> None:
        queue = current_job().queue
        with lock:
            running[queue] += 1
            most[queue] = max(most[queue], running[queue])
        both.wait(PATIENCE)  # two of a and one of b at once, over and over
        with lock:
            running[queue] -= 1

    jobs = [work.enqueue(_queue="a") for _ in range(12)] + [work.enqueue(_queue="b") for _ in range(6)]
    app.work(queues={"a": 2, "b": 1}, concurrency=8)
    app.wait(*jobs)

    assert most == {"a": 2, "b": 1}


def test_jobs_run_in_the_order_of_priority_then_of_entry(app: App) -> None:
    order: list[int] = []

    @app.task
    def work(n: int) -> None:
        order.append(n)

    priorities = [5, 0, 9, 5, 1, 0]
    jobs = [work.enqueue(n, _priority=priority) for n, priority in enumerate(priorities)]
    app.work(concurrency=1)
    app.wait(*jobs)

    assert order == [1, 5, 4, 0, 3, 2]


def test_scheduled_jobs_run_when_their_time_has_come(app: App) -> None:
    @app.task
    def work() -> None: ...

    later, sooner = work.enqueue_in(hours=2), work.enqueue_in(hours=1)
    app.work()
    app.wait(work.enqueue())
    assert [app.get(job).state for job in (later, sooner)] == ["scheduled", "scheduled"]
    app.make_due(sooner)
    app.wait(sooner)

    assert app.get(later).state == "scheduled"


def test_more_scheduled_jobs_than_one_statement_moves_all_run(app: App) -> None:
    @app.task
    def work() -> None: ...

    ids = work.options(delay=3600).enqueue_many({} for _ in range(2500))
    app.store.sql("UPDATE {due} SET run_at = run_at - interval '2 hours'")
    app.work(poll_interval=3600.0)
    app.wait(*ids)

    assert app.store.sql("SELECT count(*) FROM {due}") == [(0,)]


def test_the_next_scheduled_job_is_not_left_to_the_poll(app: App) -> None:
    @app.task
    def work() -> None: ...

    app.work(poll_interval=3600.0)
    job = work.enqueue_in(seconds=0.2)

    assert app.wait(job)[0].state == "completed"


def test_what_this_process_enqueues_wakes_its_worker(app: App) -> None:
    @app.task
    def work() -> None: ...

    worker = app.work(poll_interval=3600.0)
    worker._listening.stop()
    assert worker._listening.join(PATIENCE)
    for _ in range(5):
        app.wait(work.enqueue())


def test_what_another_program_enqueues_wakes_a_worker_by_notify(app: App) -> None:
    @app.task
    def work() -> None: ...

    app.work(poll_interval=3600.0)
    eventually(
        lambda: app.store.sql(
            "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'LISTEN%%' OR application_name LIKE 'fairchild:listener%%'"
        )
    )
    other = app.other_client()
    for _ in range(5):
        app.wait(other.enqueue(work))


def test_without_listen_a_worker_finds_jobs_by_polling(app: App) -> None:
    @app.task
    def work() -> None: ...

    client = Fairchild(app.url, registry=app.client.registry, pooler=True)
    worker = app.work(client=client, poll_interval=0.05)
    assert not worker._listening.alive()
    for _ in range(5):
        app.wait(app.other_client().enqueue(work))
    worker.stop()
    client.disconnect()


def test_a_listener_that_was_cut_off_listens_again(app: App) -> None:
    @app.task
    def work() -> None: ...

    app.work(poll_interval=3600.0)
    other = app.other_client()
    app.wait(other.enqueue(work))
    for _ in range(3):
        assert eventually(lambda: app.kill_backends("fairchild:listener%"))
        app.wait(other.enqueue(work))


def test_a_thousand_short_jobs_cost_few_statements(app: App) -> None:
    @app.task
    def work() -> None: ...

    ids = work.enqueue_many({} for _ in range(1000))
    worker = app.work()
    app.wait(*ids)

    assert worker.statements <= 200
    assert app.store.sql("SELECT count(*), sum(attempt)::int FROM {jobs} WHERE state = 'completed'") == [(1000, 1000)]


def test_the_statements_of_a_batch_do_not_depend_on_its_size(app: App) -> None:
    from fairchild.db.claim import Lane, claim
    from fairchild.db.finish import finish
    from tests.support.store import outcome

    @app.task(name="t")
    def work() -> None: ...

    found = []
    link, session = app.store.link, app.store.session
    for size in (1, 10, 200):
        work.enqueue_many({} for _ in range(size))
        before = link.statements
        claims = claim(
            link, lanes=[Lane("default", 5, 0)], tasks=["t"], room=500, claim_id=UUID(int=size), session=session
        )
        finish(link, [outcome(each) for each in claims])
        assert len(claims) == size
        found.append(link.statements - before)

    assert found == [2, 2, 2]


def test_two_idle_workers_share_long_jobs_evenly(app: App) -> None:
    everybody = threading.Barrier(21)

    @app.task
    def long() -> str:
        everybody.wait(PATIENCE)
        return str(current_job().fence)

    first = app.work(concurrency=10)
    second = app.work(concurrency=10, client=app.other_client())
    ids = long.enqueue_many({} for _ in range(20))
    everybody.wait(PATIENCE)  # all twenty run at the same time, or nobody goes on
    app.wait(*ids)
    eventually(lambda: first.counts["completed"] + second.counts["completed"] == 20)

    assert (first.counts["completed"], second.counts["completed"]) == (10, 10)


def test_after_many_short_jobs_long_ones_are_still_shared(app: App) -> None:
    everybody = threading.Barrier(9)

    @app.task
    def short() -> None: ...

    @app.task
    def long() -> None:
        everybody.wait(PATIENCE)

    first = app.work(concurrency=4)
    app.wait(*short.enqueue_many({} for _ in range(2000)))
    assert first.counts["completed"] > 0
    ids = long.enqueue_many({} for _ in range(8))
    app.work(concurrency=4, client=app.other_client())
    everybody.wait(PATIENCE)
    app.wait(*ids)


def test_cancelling_a_running_job_reaches_its_check(app: App) -> None:
    started = threading.Event()

    @app.task
    def long() -> None:
        job = current_job()
        started.set()
        while True:
            job.check()
            threading.Event().wait(0.005)

    app.work(lease=400.0, heartbeat_interval=100.0)  # no beat would come in time: it is heard of at once
    job = long.enqueue()
    assert started.wait(PATIENCE)
    job.cancel("not needed")
    (done,) = app.wait(job)

    assert (done.state, done.reason) == ("cancelled", "not needed")
    assert [entry["kind"] for entry in done.errors] == ["cancelled"]


def test_a_task_may_look_whether_it_was_cancelled_and_complete_all_the_same(app: App) -> None:
    started = threading.Event()

    @app.task
    def long() -> str:
        job = current_job()
        started.set()
        while not job.cancelled:
            threading.Event().wait(0.005)
        return "half of it"

    app.work(lease=1.2)
    job = long.enqueue()
    assert started.wait(PATIENCE)
    job.cancel()

    assert app.result(job) == "half of it"


def test_a_job_that_was_asked_to_stop_and_fails_is_not_tried_again(app: App) -> None:
    started, go_on = threading.Event(), threading.Event()

    @app.task(backoff="none")
    def long() -> None:
        started.set()
        go_on.wait(PATIENCE)
        raise ValueError("on its way out")

    app.work()
    job = long.enqueue()
    assert started.wait(PATIENCE)
    job.cancel("enough")
    go_on.set()
    (done,) = app.wait(job)

    assert (done.state, done.reason, done.attempt) == ("cancelled", "enough", 1)


def script(tmp_path: Path, body: str) -> Path:
    file = tmp_path / "program.py"
    file.write_text(textwrap.dedent(body))
    return file


def program(tmp_path: Path, url: str, body: str, **options: Any) -> subprocess.Popen[str]:
    """A worker process with the tasks of ``body``."""
    text = (
        "import os, sys, time, threading\nfrom fairchild import Fairchild, task, current_job\n"
        + textwrap.dedent(body)
        + "\nfrom fairchild.worker import WorkerPool\n"
        + "fc = Fairchild(sys.argv[1]); fc.connect()\n"
        + f"pool = WorkerPool(fc, **{options!r})\npool.start(block=False)\nthreading.Event().wait()\n"
    )
    return subprocess.Popen(
        [sys.executable, str(script(tmp_path, text)), url],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_a_job_whose_worker_was_killed_is_completed_by_another(app: App, tmp_path: Path) -> None:
    victim = program(
        tmp_path, app.url,
        """
        @task(name="long")
        def long():
            print(f"running {current_job().id}", flush=True)
            threading.Event().wait()
        """,
        concurrency=1, lease=2.0, name="victim",
    )  # fmt: skip
    job = app.client.enqueue("long")
    assert victim.stdout is not None
    assert victim.stdout.readline() == f"running {job.id}\n"
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    victim.stdout.close()

    @app.task(name="long")
    def long() -> str:
        return "by another"

    worker = app.work(lease=2.0)
    (done,) = app.wait(job)

    assert (done.state, done.result, done.attempt, done.worker) == ("completed", "by another", 1, worker.session)
    assert [(entry["kind"], entry["worker"]) for entry in done.errors] == [("lost", "victim")]


def declare_dead(app: App, session: UUID | None) -> None:
    def once() -> bool:
        for seen in lease.watch(app.store.link):
            if seen.id == session:
                return lease.declare_dead(app.store.link, seen)
        return False

    eventually(once)


def test_a_worker_that_was_taken_for_dead_goes_on_under_a_new_session(app: App) -> None:
    started, told = threading.Event(), threading.Event()

    @app.task
    def long() -> str:
        if current_job().attempt == 1 and not told.is_set():
            started.set()
            while True:
                try:
                    current_job().check()
                except LeaseLost:
                    told.set()
                    raise
                threading.Event().wait(0.005)
        return "again"

    worker = app.work(lease=1.2)
    old = worker.session
    job = long.enqueue()
    assert started.wait(PATIENCE)
    declare_dead(app, old)
    assert told.wait(PATIENCE)

    assert app.result(job) == "again"
    assert worker.session != old
    assert app.get(job).attempt == 1
    assert app.store.sql("SELECT state FROM {sessions} WHERE id = %(id)s", id=old) == [("dead",)]


def test_what_a_lost_attempt_still_comes_to_is_dropped(app: App, caplog: pytest.LogCaptureFixture) -> None:
    starts: list[int] = []
    first, go_on = threading.Event(), threading.Event()

    @app.task
    def work() -> str:
        starts.append(1)
        if len(starts) == 1:
            first.set()
            go_on.wait(PATIENCE)
            return "late"
        return "in time"

    worker = app.work(lease=1.2, concurrency=2)
    job = work.enqueue()
    assert first.wait(PATIENCE)
    declare_dead(app, worker.session)
    assert app.result(job) == "in time"
    go_on.set()
    eventually(lambda: worker.counts["lost"] == 1)

    assert app.get(job).result == "in time"
    assert "its outcome was dropped and nothing was overwritten" in caplog.text
    # The books are right: there is room for two again.
    eventually(lambda: worker._pool.held() == 0)


def test_jobs_claimed_and_not_started_by_a_worker_taken_for_dead_are_not_run_twice(app: App) -> None:
    ran: list[int] = []
    started, go_on = threading.Event(), threading.Event()

    @app.task
    def work(n: int) -> None:
        ran.append(n)
        if n == 0:
            started.set()
            go_on.wait(PATIENCE)

    jobs = [work.enqueue(n) for n in range(5)]
    worker = app.work(lease=1.2, concurrency=1)
    assert started.wait(PATIENCE)
    declare_dead(app, worker.session)
    eventually(lambda: app.store.sql("SELECT count(*) FROM {sessions} WHERE state = 'running'")[0][0] >= 1)
    go_on.set()
    app.wait(*jobs)

    assert sorted(set(ran)) == [0, 1, 2, 3, 4]
    assert {n: ran.count(n) for n in range(1, 5)} == {1: 1, 2: 1, 3: 1, 4: 1}


def test_cutting_every_connection_again_and_again_loses_and_doubles_nothing(app: App) -> None:
    @app.task
    def leaf(n: int) -> int:
        return n

    @app.task
    def total(values: list[int]) -> int:
        return sum(values)

    @app.task
    def flow(n: int) -> Any:
        return total([leaf(n), leaf(n)])

    jobs = [flow.enqueue(n) for n in range(60)]
    singles = leaf.enqueue_many({"n": n} for n in range(500))
    app.work(concurrency=4)
    app.work(concurrency=4, client=app.other_client())
    for _ in range(12):
        app.kill_backends()
        eventually(lambda: app.store.sql("SELECT count(*) FROM {jobs} WHERE state = 'pending'"))
    pending = "SELECT count(*)::int FROM {jobs} WHERE state = 'pending'"
    eventually(lambda: app.store.sql(pending) == [(0,)], PATIENCE, what=lambda: app.store.sql(pending))

    assert [app.get(job).result for job in jobs] == [2 * n for n in range(60)]
    assert [
        row[0]
        for row in app.store.sql("SELECT result::int FROM {jobs} WHERE id = ANY(%(ids)s) ORDER BY id", ids=singles)
    ] == list(range(500))
    assert app.store.sql("SELECT count(*), max(attempt), max(losses) FROM {jobs}") == [(740, 1, 0)]
    assert app.store.sql("SELECT sum(n)::int FROM {counters} WHERE state = 'completed'") == [(740,)]


@pytest.mark.parametrize("pause", [True, False])
def test_a_worker_that_is_paused_in_the_database_claims_nothing_until_it_is_resumed(app: App, pause: bool) -> None:
    @app.task
    def work() -> None: ...

    worker = app.work(lease=1.2)
    if pause:
        app.store.sql("UPDATE {sessions} SET state = 'paused' WHERE id = %(id)s", id=worker.session)
        eventually(lambda: worker._claimer.paused)
    job = work.enqueue()
    if pause:
        assert app.get(job).state == "available"
        app.store.sql("UPDATE {sessions} SET state = 'running' WHERE id = %(id)s", id=worker.session)

    assert app.wait(job)[0].state == "completed"


def test_a_worker_on_a_database_without_tables_says_what_to_do(fairchild_server: str) -> None:
    import psycopg
    from psycopg import sql

    from fairchild.testing.databases import database_url

    with psycopg.connect(fairchild_server, autocommit=True) as connection:
        name = "fairchild_empty_worker_test_" + os.urandom(4).hex()
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        registry = Registry()
        registry.add(lambda: None, name="t")
        client = Fairchild(database_url(fairchild_server, name), registry=registry)
        try:
            with pytest.raises(StoreError, match="fairchild install"):
                Worker(client).start()
        finally:
            client.disconnect()
            connection.execute(
                sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
                if connection.info.server_version >= 130000
                else sql.SQL("DROP DATABASE {}").format(sql.Identifier(name))
            )


@pytest.mark.parametrize(
    "wrong",
    [
        lambda client: Worker(client, concurrency=0),
        lambda client: Worker(client, concurrency=2.5),  # type: ignore[arg-type]
        lambda client: Worker(client, queues=[]),
        lambda client: Worker(client, queues={"a": 0}),
        lambda client: Worker(client, queues=["a\nb"]),
        lambda client: Worker(client, lease=1, heartbeat_interval=0.5),
        lambda client: Worker(client, poll_interval=0),
        lambda client: Worker(client, shutdown_timeout=-1),
        lambda client: Worker(client).start(),
    ],
)
def test_a_worker_that_cannot_work_is_refused(app: App, wrong: Callable[[Fairchild], Any]) -> None:
    with pytest.raises(UsageError):
        wrong(app.client)


def test_queues_may_be_written_in_several_ways() -> None:
    from fairchild.worker.worker import parse_queues

    assert parse_queues(None) is None
    assert parse_queues(["a", "b:2"]) == {"a": None, "b": 2}
    assert parse_queues({"a": 3}) == {"a": 3}
    assert parse_queues("a, b:2") == {"a": None, "b": 2}
    assert parse_queues(["urn:x"]) == {"urn:x": None}
