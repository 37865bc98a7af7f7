"""Values shared inside a workflow."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from fairchild import (
    Record,
    Snooze,
    current_job,
    wait_signal,
    xcom_append,
    xcom_clear,
    xcom_incr,
    xcom_keys,
    xcom_pull,
    xcom_push,
)
from fairchild.db import xcom
from fairchild.db.xcom import Change
from fairchild.errors import StoreError, UsageError
from fairchild.ids import uuid7
from tests.support.app import App


def test_a_value_is_shared_inside_the_workflow_and_nowhere_else(app: App) -> None:
    @app.task
    def push(n: int) -> None:
        xcom_push("n", {"value": n})
        assert xcom_pull("n") == {"value": n}

    @app.task
    def pull(after: Any) -> Any:
        return Record([xcom_pull("n"), xcom_pull("other", default=None)])

    @app.task
    def root(n: int) -> Any:
        return pull(push(n))

    jobs = [root.enqueue(n=n) for n in range(3)]
    lonely = pull.enqueue(after=1)
    app.work()

    assert [app.result(job) for job in jobs] == [[{"value": n}, None] for n in range(3)]
    error = app.wait(lonely)[0].errors[-1]
    assert error["type"] == "KeyError"
    assert "no value is shared under 'n'" in error["message"]
    assert app.client.xcom.pull(jobs[1].id, "n") == {"value": 1}


def test_an_attempt_that_fails_leaves_nothing_and_nobody_sees_it_before_the_end(app: App) -> None:
    tries: list[int] = []
    go = threading.Event()
    pushed = threading.Event()

    @app.task(max_attempts=2, backoff="none")
    def push() -> None:
        tries.append(1)
        assert xcom_pull("k", default="nothing") == "nothing"
        xcom_push("k", len(tries))
        xcom_incr("count")
        if len(tries) == 1:
            raise RuntimeError("again")
        if len(tries) == 2:
            raise Snooze(0)
        pushed.set()
        go.wait(30)

    job = push.enqueue()
    app.work()
    assert pushed.wait(30)
    assert app.client.xcom.pull(job.id, "k", default=None) is None
    go.set()
    app.wait(job)

    assert app.client.xcom.pull(job.id, "k") == 3
    assert app.client.xcom.pull(job.id, "count") == 1


def test_all_that_can_be_done_to_a_value_is_seen_by_the_attempt_and_then_by_all(app: App) -> None:
    seen: list[Any] = []

    @app.task
    def work() -> None:
        xcom_push("a", 1)
        xcom_push("a", 2, if_absent=True)
        xcom_push("b", 3, if_absent=True)
        xcom_incr("n", 2)
        xcom_incr("n", 0.5)
        xcom_append("list", "x")
        xcom_append("list", ["y"])
        xcom_push("a", "elsewhere", namespace="other")
        xcom_push("gone", 1)
        xcom_clear("gone")
        xcom_push("null", None)
        xcom_push("n2", 10)
        xcom_incr("n2")
        seen.append([xcom_pull(key) for key in ("a", "b", "n", "list", "null", "n2")])
        seen.append(xcom_keys())
        seen.append([xcom_pull("a", namespace="other"), xcom_keys(namespace="other"), xcom_pull("gone", default=0)])

    job = work.enqueue()
    app.work()
    app.wait(job)
    shared = app.client.xcom

    expected = [1, 3, 2.5, ["x", ["y"]], None, 11]
    assert seen[0] == expected
    assert seen[1] == ["a", "b", "list", "n", "n2", "null"]
    assert seen[2] == ["elsewhere", ["a"], 0]
    assert [shared.pull(job.id, key) for key in ("a", "b", "n", "list", "null", "n2")] == expected
    assert shared.keys(job.id) == seen[1]
    shared.clear(job.id)
    assert shared.keys(job.id) == []
    assert shared.keys(job.id, namespace="other") == ["a"]


def test_attempts_that_count_at_the_same_time_do_not_overwrite_each_other(app: App) -> None:
    @app.task
    def count(n: int) -> None:
        xcom_incr("n")
        xcom_append("seen", n)

    @app.task
    def root() -> None:
        for n in range(50):
            count(n)

    job = root.enqueue()
    app.work(concurrency=4)
    app.work(concurrency=4, client=app.other_client())
    app.wait(job)

    assert app.client.xcom.pull(job.id, "n") == 50
    assert sorted(app.client.xcom.pull(job.id, "seen")) == list(range(50))


def test_a_value_with_a_ttl_is_gone_after_it(app: App) -> None:
    store = app.store
    job_id = store.add()
    app.client.xcom.push(job_id, "k", 1, ttl=timedelta(hours=1))
    app.client.xcom.push(job_id, "stays", 1)
    assert app.client.xcom.keys(job_id) == ["k", "stays"]
    store.sql("UPDATE {xcom} SET expires_at = statement_timestamp()")

    assert app.client.xcom.keys(job_id) == ["stays"] or store.sql("SELECT 1 FROM {xcom} WHERE key = 'stays'")
    with pytest.raises(KeyError):
        app.client.xcom.pull(job_id, "k")
    for kind, value, expected in (("absent", b"2", 2), ("incr", b"3", 3), ("append", b"[4]", [4])):
        store.sql("UPDATE {xcom} SET expires_at = statement_timestamp() WHERE key = 'k'")
        xcom.apply(store.link, job_id, None, [Change(kind, "", "k", value)])
        assert app.client.xcom.pull(job_id, "k") == expected
    store.sql("UPDATE {xcom} SET expires_at = statement_timestamp() WHERE key = 'k'")
    xcom.drop_expired(store.link)
    assert store.sql("SELECT count(*) FROM {xcom} WHERE key = 'k'") == [(0,)]


def test_a_result_is_shared_under_the_key_of_its_task(app: App) -> None:
    @app.task
    def inner() -> int:
        return 5

    @app.task(xcom_key="total")
    def total() -> Any:
        return inner()

    @app.task(xcom_key="bad", max_attempts=1)
    def bad() -> Any:
        raise ValueError

    @app.task
    def pull(after: Any) -> Any:
        return Record([after, xcom_pull("total"), xcom_pull("bad", default="none")])

    @app.task(on_child_failure="ignore")
    def root() -> Any:
        bad()
        return pull(total())

    job = root.enqueue()
    app.work()

    assert app.result(job) == [5, 5, "none"]


def test_a_change_that_cannot_be_made_fails_the_attempt(app: App) -> None:
    @app.task
    def wrong() -> None:
        xcom_push("text", "no number", namespace="n")
        xcom_incr("text", namespace="n")

    @app.task
    def other() -> int:
        return 1

    job, fine = wrong.enqueue(), other.enqueue()
    app.work()
    ended = app.wait(job, fine)

    assert [each.state for each in ended] == ["failed", "completed"]
    assert app.client.xcom.keys(job.id, namespace="n") == []


def test_a_durable_job_shares_with_each_suspension_and_once(app: App) -> None:
    pulled: list[Any] = []

    @app.task
    def child() -> Any:
        return xcom_pull("config")

    @app.task(durable=True)
    def parent() -> Any:
        xcom_push("config", {"a": 1})
        xcom_incr("runs")
        pulled.append(xcom_pull("from outside", default=None))
        value: Any = child()
        found = value.result()
        wait_signal("go")
        return Record(found)

    job = parent.enqueue()
    app.work()
    while not app.store.sql("SELECT 1 FROM {waiting} WHERE signal = 'go'"):
        app.reaches(job, "waiting")
    app.client.xcom.push(job.id, "from outside", 1)
    app.client.signal(job, "go")

    assert app.result(job) == {"a": 1}
    assert app.client.xcom.pull(job.id, "runs") == 1
    assert pulled == [None, None, None]


def test_what_is_wrong_is_said_at_the_call(app: App) -> None:
    @app.task
    def child() -> int:
        return 1

    @app.task
    def wrong() -> Any:
        found = []
        calls: list[Callable[[], Any]] = [
            lambda: xcom_push("", 1),
            lambda: xcom_push("k", 1, ttl=0),
            lambda: xcom_push("k", object()),
            lambda: xcom_push("k", child()),
            lambda: xcom_append("k", child()),
            lambda: xcom_incr("k", True),
        ]
        for call in calls:
            with pytest.raises(UsageError) as caught:
                call()
            found.append(str(caught.value))
        assert current_job().changes == []
        return len(found)

    job = wrong.enqueue()
    app.work()

    assert app.result(job) == 6
    with pytest.raises(UsageError, match="outside of a job"):
        xcom_push("k", 1)
    with pytest.raises(StoreError):
        app.client.xcom.push(uuid7(), "k", 1)
