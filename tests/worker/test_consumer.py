from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fairchild import Fairchild, JobCancelled, Registry
from fairchild.db import lease
from fairchild.errors import LeaseLost, NotSerializable, StoreError, UsageError
from tests.support.app import App
from tests.support.command import environment
from tests.support.eventually import eventually
from tests.support.proxy import Proxy


def test_a_held_job_is_completed_with_its_result(app: App) -> None:
    job = app.client.enqueue("mail.send", {"to": "a@example.com"}, queue="mail")

    with app.client.claim("mail") as (held,):
        assert (held.id, held.task, held.args, held.attempt) == (job.id, "mail.send", {"to": "a@example.com"}, 1)
        assert app.get(job).state == "running"
        held.complete({"sent": True})
        assert held.state == "completed"

    assert app.result(job) == {"sent": True}


def test_none_is_a_result(app: App) -> None:
    job = app.client.enqueue("t")

    with app.client.claim() as (held,):
        held.complete()

    assert app.get(job).has_result


def test_queues_tasks_and_the_limit_choose(app: App) -> None:
    for task, queue in (("a", "one"), ("b", "one"), ("a", "two"), ("a", "one")):
        app.client.enqueue(task, queue=queue)

    with app.client.claim(["one"], limit=10, tasks=["a"]) as jobs:
        assert [(each.task, each.queue) for each in jobs] == [("a", "one")] * 2
    with app.client.claim(limit=3) as jobs:
        assert len(jobs) == 3


def test_lower_priorities_come_first(app: App) -> None:
    for priority in (7, 2, 5):
        app.client.enqueue("t", {"p": priority}, priority=priority)

    taken = []
    for _ in range(3):
        with app.client.claim() as (held,):
            taken.append(held.args["p"])
            held.complete()

    assert taken == [2, 5, 7]


@pytest.mark.parametrize(
    ("end", "state", "attempt"),
    [
        (lambda job: job.release(), "available", 0),
        (lambda job: job.snooze(minutes=5), "scheduled", 0),
        (lambda job: job.retry(delay=60), "scheduled", 1),
        (lambda job: job.fail(ValueError("no")), "scheduled", 1),
        (lambda job: job.fail("no"), "scheduled", 1),
        (lambda job: job.discard("useless"), "failed", 1),
        (lambda job: job.cancel("unwanted"), "cancelled", 1),
    ],
    ids=["release", "snooze", "retry", "fail", "fail by a text", "discard", "cancel"],
)
def test_every_way_to_end_a_held_job(app: App, end: Any, state: str, attempt: int) -> None:
    job = app.client.enqueue("t")

    with app.client.claim() as (held,):
        end(held)
        assert held.state == state

    assert (app.get(job).state, app.get(job).attempt) == (state, attempt)


def test_a_job_without_attempts_left_has_failed_and_says_of_what(app: App) -> None:
    job = app.client.enqueue("t", max_attempts=1)

    with app.client.claim() as (held,):
        held.fail(ValueError("the printer burns"))

    failed = app.get(job)
    assert failed.state == "failed"
    assert (failed.errors[0]["type"], failed.errors[0]["message"]) == ("ValueError", "the printer burns")


def test_the_settings_of_a_task_that_is_registered_here_count(app: App) -> None:
    @app.task(retry_on=(ConnectionError,))
    def fetch() -> None: ...

    job = fetch.enqueue()
    with app.client.claim() as (held,):
        held.fail(ValueError("of no use"))

    assert app.get(job).state == "failed"


def test_a_deleted_job_leaves_nothing_and_those_that_wait_for_it_hear(app: App) -> None:
    gone = app.client.enqueue("t")
    waits = app.client.enqueue("u", {"value": gone})

    with app.client.claim(tasks="t") as (held,):
        held.delete()

    assert app.client.get_job(gone.id) is None
    assert app.get(waits).state == "cancelled"
    assert app.store.sql("SELECT count(*) FROM {edges}") == [(0,)]
    assert app.client.stats()["jobs"]["cancelled"] == 1


def test_values_of_other_jobs_are_in_their_places(app: App) -> None:
    first = app.client.enqueue("first")
    app.client.enqueue("second", {"values": [1, first]})

    with app.client.claim() as (held,):
        held.complete({"n": 7})
    with app.client.claim() as (held,):
        assert held.args == {"values": [1, {"n": 7}]}
        held.complete()


def test_a_job_that_needs_a_value_that_was_not_kept_fails_and_is_not_given(app: App) -> None:
    @app.task(record=False)
    def first() -> None: ...

    job = first.enqueue()
    second = app.client.enqueue("second", {"value": job})
    worker = app.work()
    app.wait(job)
    worker.stop()

    with app.client.claim() as jobs:
        assert jobs == []
    (ended,) = app.wait(second)
    assert (ended.state, ended.reason) == ("failed", "upstream_failed")


def test_what_is_left_at_the_end_of_the_block_is_given_back_at_once(app: App) -> None:
    jobs = [app.client.enqueue("t") for _ in range(3)]

    with app.client.claim(limit=3) as held:
        held[0].complete()

    assert sorted(app.get(each).state for each in jobs) == ["available", "available", "completed"]
    assert all(app.get(each).errors == [] for each in jobs)


def test_after_an_error_in_the_block_its_jobs_come_back_later_and_nothing_is_spent(app: App) -> None:
    job = app.client.enqueue("t")

    with pytest.raises(ZeroDivisionError), app.client.claim():
        raise ZeroDivisionError("in the block")

    left = app.get(job)
    assert (left.state, left.attempt) == ("scheduled", 0)
    assert left.errors[0]["kind"] == "interrupted"
    assert "in the block" in left.errors[0]["message"]


def test_who_is_interrupted_gives_its_jobs_back_at_once(app: App) -> None:
    job = app.client.enqueue("t")

    with pytest.raises(KeyboardInterrupt), app.client.claim():
        raise KeyboardInterrupt

    assert app.get(job).state == "available"


def test_a_job_is_ended_once(app: App) -> None:
    app.client.enqueue("t")

    with app.client.claim() as (held,):
        held.complete()
        assert not held.held
        with pytest.raises(UsageError, match="ended already"):
            held.fail("no")


def test_a_result_that_is_not_json_is_refused_and_the_job_still_held(app: App) -> None:
    job = app.client.enqueue("t")

    with app.client.claim() as (held,):
        with pytest.raises(NotSerializable):
            held.complete(object())
        held.complete("better")

    assert app.result(job) == "better"


def test_jobs_claimed_by_hand_are_nobody_elses(app: App) -> None:
    @app.task
    def add(a: int) -> int:
        return a

    job = add.enqueue(a=1)
    with app.client.claim() as (held,), app.other_client().claim() as others:
        assert others == []
        app.work()
        assert app.get(job).state == "running"
        held.complete(2)

    assert app.result(job) == 2


def test_waiting_ends_when_a_job_comes(app: App) -> None:
    timer = threading.Timer(0.2, lambda: app.client.enqueue("t"))
    timer.start()

    with app.client.claim(wait=30) as jobs:
        assert [each.task for each in jobs] == ["t"]
    timer.join()


def test_what_is_due_becomes_available_without_any_worker(app: App) -> None:
    job = app.client.enqueue("t", delay=3600)
    app.make_due(job)

    with app.client.claim() as (held,):
        assert held.id == job.id
        held.complete()


def test_a_loop_of_claims_is_one_session(app: App) -> None:
    for _ in range(20):
        with app.client.claim():
            pass

    assert app.store.sql("SELECT count(*) FROM {sessions}") == [(1,)]


def test_a_session_ends_with_its_client_and_gives_back_what_it_held(app: App) -> None:
    client = app.other_client()
    job = client.enqueue("t")
    block = client.claim()
    block.__enter__()

    client.disconnect()

    assert app.get(job).state == "available"
    assert app.store.sql("SELECT state FROM {sessions}") == [("stopped",)]


def test_a_session_that_lives_keeps_its_jobs(app: App) -> None:
    app.client.enqueue("t")

    with app.client.claim(lease=0.6) as (held,):
        app.work(client=_knowing_nothing(app), lease=0.6)
        beats = _beats(app)
        eventually(lambda: _beats(app) >= beats + 10)
        held.complete()
        assert held.state == "completed"


def _knowing_nothing(app: App) -> Any:
    registry = Registry()
    registry.add(lambda: None, "nothing")
    return app.other_client(registry)


def _beats(app: App) -> int:
    return int(app.store.sql("SELECT beat FROM {sessions} WHERE metadata->>'kind' = 'consumer'")[0][0])


CONSUMER = """
import sys, time
from fairchild import Fairchild
with Fairchild() as client, client.claim(lease=1, wait=30) as jobs:
    print(len(jobs), flush=True)
    time.sleep(600)
"""


def test_what_a_consumer_that_was_killed_held_runs_elsewhere_and_no_attempt_is_spent(app: App, tmp_path: Path) -> None:
    job = app.client.enqueue("t")
    other = subprocess.Popen(
        [sys.executable, "-c", CONSUMER], env=environment(app.url), cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "1\n"
    finally:
        os.kill(other.pid, signal.SIGKILL)
        other.communicate()

    with app.client.claim(lease=1, wait=30) as (held,):
        assert held.id == job.id
        assert held.attempt == 1
        held.complete("at last")

    assert app.result(job) == "at last"
    assert [each["kind"] for each in app.get(job).errors] == ["lost"]


def test_a_late_write_is_refused_and_overwrites_nothing(app: App) -> None:
    job = app.client.enqueue("t")

    with app.client.claim(lease=300) as (held,):
        _declare_dead(app)
        lease.rescue(app.store.link)
        with app.other_client().claim() as (again,):
            writes: list[Callable[[], None]] = [lambda: held.complete("late"), lambda: held.fail("late"), held.delete]
            for late in writes:
                held._its().ended = False
                with pytest.raises(LeaseLost, match="stale"):
                    late()
            again.complete("in time")

    assert app.result(job) == "in time"


def _declare_dead(app: App) -> None:
    app.store.sql("UPDATE {sessions} SET state = 'dead', ended_at = now()")


def test_who_was_taken_for_dead_hears_it_and_goes_on(app: App) -> None:
    app.client.enqueue("t")

    with app.client.claim(lease=1, wait=30) as (held,):
        _declare_dead(app)
        eventually(lambda: held.cancelled)
        with pytest.raises(LeaseLost):
            held.check()
    eventually(lambda: app.store.sql("SELECT 1 FROM {sessions} WHERE state = 'running'"))
    with app.client.claim(lease=1, wait=30) as (held,):
        held.complete()


def test_a_held_job_that_is_cancelled_hears_of_it(app: App) -> None:
    job = app.client.enqueue("t")

    with app.client.claim(lease=1, wait=30) as (held,):
        app.get(job).cancel("changed our mind")
        eventually(lambda: held.cancelled)

    assert app.get(job).state == "cancelled"
    with pytest.raises(JobCancelled, match="changed our mind"):
        app.result(job)


def test_a_suspect_is_held_alone(app: App) -> None:
    suspect = app.client.enqueue("t", priority=0)
    other = app.client.enqueue("t")
    app.store.sql("UPDATE {jobs} SET losses = 1 WHERE id = %(id)s", id=suspect.id)

    with app.client.claim(limit=10) as (held,):
        assert held.id == suspect.id
        assert app.get(other).state == "available"
        with app.client.claim() as more:
            assert more == []
        held.complete()
    with app.client.claim() as (held,):
        assert held.id == other.id
        held.complete()


def test_a_suspect_waits_while_others_are_held(app: App) -> None:
    app.client.enqueue("t", priority=0)
    suspect = app.client.enqueue("t")
    app.store.sql("UPDATE {jobs} SET losses = 1 WHERE id = %(id)s", id=suspect.id)

    with app.client.claim(), app.client.claim() as more:
        assert more == []
        assert (app.get(suspect).state, app.get(suspect).attempt) == ("scheduled", 0)


def test_children_and_writes_commit_with_the_completion(app: App) -> None:
    @app.task
    def child(n: int) -> int:
        return n

    job = app.client.enqueue("parent")
    app.store.link.script("CREATE TABLE notes (n int)")
    with app.client.claim() as (held,):
        value = held.wrap(lambda: child(n=5))()
        with held.transaction() as connection:
            connection.execute("INSERT INTO notes VALUES (1)")
        assert app.store.link.script("SELECT n FROM notes") == []
        held.complete(value)
        assert held.state == "waiting"
    assert app.store.link.script("SELECT n FROM notes") == [(1,)]
    app.work()

    assert app.result(job) == 5


def test_a_given_back_job_takes_its_writes_along(app: App) -> None:
    app.client.enqueue("t")
    app.store.link.script("CREATE TABLE notes (n int)")

    with app.client.claim() as (held,), held.transaction() as connection:
        connection.execute("INSERT INTO notes VALUES (1)")

    assert app.store.link.script("SELECT n FROM notes") == []


def test_a_paused_session_takes_nothing(app: App) -> None:
    with app.client.claim():
        app.client.enqueue("t")
    app.store.sql("UPDATE {sessions} SET state = 'paused'")

    with app.client.claim() as jobs:
        assert jobs == []


def test_without_the_database_a_job_is_still_held_and_ended_when_it_is_back(app: App) -> None:
    job = app.client.enqueue("t")
    proxy = Proxy(app.url)
    client = Fairchild(proxy.url, registry=Registry())
    try:
        with client.claim() as (held,):
            proxy.cut_before(b"fairchild:finish")
            proxy.down = True
            with pytest.raises(StoreError):
                held.complete("soon")
            assert held.held
            proxy.down = False
            held.complete("now")
    finally:
        client.disconnect()
        proxy.close()

    assert app.result(job) == "now"


def test_children_of_a_fork_have_a_session_of_their_own(app: App) -> None:
    with app.client.claim():
        pass
    job = app.client.enqueue("t")
    pid = os.fork()
    if pid == 0:
        try:
            with app.client.claim() as (held,):
                held.complete("from a child")
        finally:
            os._exit(0)
    os.waitpid(pid, 0)

    assert app.result(job) == "from a child"


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"limit": 501}, {"wait": -1}, {"queues": []}, {"lease": 0}])
def test_wrong_options_are_refused(app: App, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError), app.client.claim(**wrong):
        pass


def test_many_threads_share_the_jobs(app: App) -> None:
    ids = app.client.enqueue_many("t", ({"n": n} for n in range(200)))
    done: list[int] = []

    def work() -> None:
        while True:
            with app.client.claim(limit=7) as jobs:
                if not jobs:
                    return
                for each in jobs:
                    each.complete()
                    done.append(each.args["n"])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    deadline = time.monotonic() + 30
    while len(done) < 200 and time.monotonic() < deadline:
        work()

    assert sorted(done) == list(range(200))
    assert len(ids) == 200
