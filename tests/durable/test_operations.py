"""Durable jobs in other hands: cancelled, retried, run elsewhere; signals and ends that pass a suspension unseen."""

from __future__ import annotations

import time
from typing import Any

import pytest

from fairchild import Job, JobFailed, Record, gather, sleep, step, wait_signal
from fairchild.db import journal
from fairchild.db.finish import Ended
from fairchild.db.journal import Progress, Wait
from fairchild.errors import UnknownJob, UsageError
from fairchild.ids import uuid7
from fairchild.rules.replay import Entry
from tests.support.app import App
from tests.support.store import child_of, new_job


def suspended_for(app: App, job: Job, signal: str = "go") -> None:
    """Wait until a job waits for a signal."""
    while not app.store.sql("SELECT 1 FROM {waiting} WHERE job_id = %(id)s AND signal = %(s)s", id=job.id, s=signal):
        assert not app.get(job).ended
        time.sleep(0.01)


def test_a_suspended_job_can_be_cancelled_and_comes_back_with_its_children(app: App) -> None:
    steps: list[int] = []

    @app.task(queue="later")
    def child(n: int) -> int:
        return n

    @app.task(durable=True)
    def parent() -> Any:
        step(steps.append, 1)
        futures = [child(n) for n in range(5)]
        return Record(gather(*futures))

    job = parent.enqueue()
    app.work(queues=["default"])
    app.reaches(job, "waiting")
    job.cancel("no longer")
    ended = app.wait(job, *app.children(job))
    assert [each.reason for each in ended] == ["no longer"] * 6

    job.retry()
    app.work(queues=["later"])

    assert app.result(job) == [0, 1, 2, 3, 4]
    assert steps == [1]
    assert len(app.children(job)) == 5


def test_retrying_the_failed_child_brings_back_the_parent_that_failed_of_it(app: App) -> None:
    broken = [True]
    steps: list[str] = []

    @app.task(max_attempts=1)
    def child() -> int:
        if broken:
            raise ValueError("broken")
        return 7

    @app.task(durable=True)
    def parent() -> Any:
        step(steps.append, "before")
        value: Any = child()
        return value.result()

    job = parent.enqueue()
    app.work()
    assert app.wait(job)[0].reason == "awaited_failed"
    broken.clear()
    app.children(job)[0].retry()

    assert app.result(job) == 7
    assert steps == ["before"]
    assert len(app.children(job)) == 1


def test_a_failure_that_was_handled_is_looked_at_anew_when_both_are_retried(app: App) -> None:
    broken = [True]

    @app.task(max_attempts=1)
    def child() -> int:
        if broken:
            raise ValueError("broken")
        return 7

    @app.task(durable=True, max_attempts=1)
    def parent() -> Any:
        value: Any = child()
        try:
            number = value.result()
        except JobFailed:
            step(str, "made up for it")
            wait_signal("go")
            raise RuntimeError("gave up") from None
        return number

    job = parent.enqueue()
    app.work()
    suspended_for(app, job)
    app.client.signal(job, "go")
    assert app.wait(job)[0].reason == "error"
    broken.clear()
    app.client.retry([job, *app.children(job)])

    assert app.result(job) == 7


def test_a_completed_durable_job_that_is_retried_starts_anew(app: App) -> None:
    steps: list[int] = []

    @app.task
    def child(n: int) -> int:
        return n

    @app.task(durable=True)
    def parent() -> Any:
        step(steps.append, 1)
        value: Any = child(len(steps))
        return value.result()

    job = parent.enqueue()
    app.work()
    assert app.result(job) == 1
    job.retry()

    assert app.result(job) == 2
    job.retry()
    assert app.result(job) == 3
    assert len(app.children(job)) == 3


def test_a_child_may_be_retried_while_its_parent_is_suspended(app: App) -> None:
    broken = [True]

    @app.task(max_attempts=1)
    def child() -> int:
        if broken:
            raise ValueError("broken")
        return 7

    @app.task(durable=True)
    def parent() -> Any:
        value: Any = child()
        with pytest.raises(JobFailed):
            value.result()
        wait_signal("go")
        return "handled"

    job = parent.enqueue()
    app.work()
    suspended_for(app, job)
    broken.clear()
    retried = app.children(job)[0].retry()
    assert app.result(retried) == 7
    app.client.signal(job, "go")

    assert app.result(job) == "handled"


def test_a_deleted_child_fails_the_wait_for_it(app: App) -> None:
    @app.task(queue="nobody")
    def child() -> int:
        return 1

    @app.task(durable=True)
    def parent() -> Any:
        value: Any = child()
        return value.result()

    job = parent.enqueue()
    app.work(queues=["default"])
    app.reaches(job, "waiting")
    app.store.sql("DELETE FROM {ready}")
    app.store.sql("DELETE FROM {jobs} WHERE parent_id = %(id)s", id=job.id)
    journal.look_again(app.store.link, [job.id])
    ended = app.wait(job)[0]

    assert ended.reason == "awaited_failed"
    assert "was deleted" in ended.errors[-1]["message"]


def test_a_transaction_of_a_durable_job_commits_with_the_run_that_ends(app: App) -> None:
    app.store.sql("CREATE TABLE effects (n int)")

    @app.task
    def child() -> int:
        return 1

    @app.task(durable=True)
    def parent(job: Any) -> Any:
        with job.transaction() as connection:
            connection.execute("INSERT INTO effects VALUES (1)")
        value: Any = child()
        return value.result()

    job = parent.enqueue()
    app.work()
    app.result(job)

    assert app.store.sql("SELECT count(*) FROM effects") == [(1,)]


def test_a_job_that_is_not_its_own_can_be_awaited(app: App) -> None:
    @app.task
    def other() -> int:
        return 9

    @app.task(durable=True)
    def parent(id: str) -> Any:
        return gather(Job(id=__import__("uuid").UUID(id), task="other"))[0]

    foreign = other.enqueue_in(hours=1)
    job = parent.enqueue(id=str(foreign.id))
    missing = parent.enqueue(id=str(uuid7()))
    app.work()
    app.reaches(job, "waiting")
    app.make_due(foreign)

    assert app.result(job) == 9
    assert "no job has this id" in app.wait(missing)[0].errors[-1]["message"]


def test_what_expires_is_a_job_that_was_not_started(app: App) -> None:
    @app.task(durable=True, expires=0.5)
    def parent() -> str:
        wait_signal("go")
        return "done"

    job = parent.enqueue()
    worker = app.work()
    suspended_for(app, job)
    worker.stop()
    app.client.signal(job, "go")
    app.store.sql("UPDATE {ready} SET at = at - interval '1 hour'")
    app.work()

    assert app.result(job) == "done"


def test_signals_for_nobody_are_refused(app: App) -> None:
    with pytest.raises(UnknownJob):
        app.client.signal(uuid7(), "go")
    with pytest.raises(UsageError, match="signal"):
        app.client.signal(uuid7(), "")


def suspend(app: App, *children: Any, **wait: Any) -> Any:
    """A job of a claim of our own that suspends."""
    store = app.store
    claimed = store.claim_one(store.add())
    new = [child_of(claimed) for _ in children]
    entries = [Entry("call", "t", str(n), ref=each.id, seq=n + 1) for n, each in enumerate(new)]
    ended = Ended(claimed.job_id, claimed.claim_id, "waiting", spent=False, children=new)
    ended.progress = Progress(entries, wait=Wait([each.id for each in new], **wait))
    store.finish(ended)
    return claimed.job_id, [each.id for each in new]


def test_a_signal_that_a_suspension_could_not_see_is_found_by_the_sweep(app: App) -> None:
    job_id, _ = suspend(app, first=True, signal="go")
    app.store.sql(
        "INSERT INTO {signals} (job_id, id, name, payload) VALUES (%(id)s, %(id)s, 'other', '1'), "
        "(%(id)s, gen_random_uuid(), 'go', '1')",
        id=job_id,
    )

    assert app.store.state(job_id) == "waiting"
    assert journal.sweep(app.store.link) == 1
    assert app.store.state(job_id) == "available"
    assert journal.sweep(app.store.link) == 0


@pytest.mark.parametrize("first", [False, True])
def test_counters_of_suspended_jobs_are_what_a_recount_makes_of_them(app: App, first: bool) -> None:
    from uuid import UUID

    from fairchild.db import settle

    job_id, children = suspend(app, 1, 2, 3, first=first)
    assert settle.audit(app.store.link, UUID(int=0)) == (job_id, [])
    app.store.end(children[0])
    assert settle.audit(app.store.link, UUID(int=0))[1] == []
    assert app.store.state(job_id) == ("available" if first else "waiting")
    app.store.end(children[1], "failed", error=True)
    app.store.end(children[2], "cancelled", reason="r")

    assert app.store.state(job_id) == "available"
    assert app.store.violations() == []


def test_an_entry_is_written_only_under_the_claim_and_once(app: App) -> None:
    store = app.store
    claimed = store.claim_one(store.add())
    entry = Entry("step", "s", value=b'{"b":1,"a":2}', seq=1)

    assert journal.write(store.link, claimed.job_id, claimed.claim_id, [entry])
    assert journal.write(store.link, claimed.job_id, claimed.claim_id, [entry])
    assert not journal.write(store.link, claimed.job_id, uuid7(), [Entry("step", "s", seq=2)])
    assert store.sql("SELECT seq, value::text FROM {journal}") == [(1, '{"b":1,"a":2}')]
    store.finish(Ended(claimed.job_id, claimed.claim_id, "completed"))
    assert not journal.write(store.link, claimed.job_id, claimed.claim_id, [Entry("step", "s", seq=3)])


def test_a_sleeper_is_woken_once_its_timer_runs_out(app: App) -> None:
    store = app.store
    claimed = store.claim_one(store.add())
    ended = Ended(claimed.job_id, claimed.claim_id, "waiting", spent=False)
    ended.progress = Progress([Entry("sleep", "sleep", delay=3600.0, seq=1)], wait=Wait(first=True, timer=1))
    store.finish(ended)

    assert journal.wake_sleepers(store.link) == 0
    store.sql("UPDATE {timers} SET wake_at = statement_timestamp()")
    assert journal.wake_sleepers(store.link) == 1
    assert store.state(claimed.job_id) == "available"
    assert store.sql("SELECT count(*) FROM {timers}") == [(0,)]
    # One that is left over wakes nobody: not even a job that waits for its upstream.
    waiting = store.add(depends_on=[claimed.job_id])
    store.sql("INSERT INTO {timers} VALUES (%(id)s, statement_timestamp())", id=waiting)
    assert journal.wake_sleepers(store.link) == 0
    assert store.state(waiting) == "waiting"


def test_jobs_take_their_journals_signals_timers_and_values_along(app: App) -> None:
    store = app.store
    job_id = store.insert(new_job())[0]
    store.sql("INSERT INTO {journal} (job_id, seq, kind, name) VALUES (%(id)s, 1, 'step', 's')", id=job_id)
    store.sql("INSERT INTO {signals} (job_id, id, name, payload) VALUES (%(id)s, %(id)s, 's', '1')", id=job_id)
    store.sql("INSERT INTO {timers} VALUES (%(id)s, now())", id=job_id)
    store.sql("INSERT INTO {xcom} (workflow_id, key) VALUES (%(id)s, 'k')", id=job_id)
    store.sql("DELETE FROM {ready}")
    store.sql("DELETE FROM {jobs}")

    for table in ("journal", "signals", "timers", "xcom"):
        assert store.sql(f"SELECT count(*) FROM {{{table}}}") == [(0,)]


def test_a_task_may_be_durable_without_ever_waiting(app: App) -> None:
    @app.task(durable=True)
    def parent() -> int:
        sleep(0)
        return 3

    job = parent.enqueue()
    app.work()

    assert app.result(job) == 3
