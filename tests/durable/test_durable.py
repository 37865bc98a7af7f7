"""Durable tasks: what waits holds nothing, and a replay is given what was before."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from fairchild import (
    JobFailed,
    Record,
    ResultTimeout,
    SignalTimeout,
    as_completed,
    current_job,
    gather,
    now,
    random,
    sleep,
    step,
    uuid,
    wait_signal,
)
from fairchild.errors import FutureUsedAsValue, NotDurable, Suspended, UsageError
from tests.support.app import App
from tests.support.eventually import eventually


def test_a_task_waits_for_values_in_plain_control_flow(app: App) -> None:
    runs: list[str] = []

    @app.task
    def price(item: str) -> int:
        runs.append(item)
        return len(item)

    @app.task(durable=True)
    def order(items: list[str]) -> Any:
        total = 0
        for item in items:
            value: Any = price(item)
            total += value.result()
            if total > 7:
                break
        return Record(total)

    job = order.enqueue(items=["pear", "fig", "plum", "kiwi"])
    app.work(concurrency=1)

    assert app.result(job) == 11
    assert runs == ["pear", "fig", "plum"]
    assert len(app.children(job)) == 3
    assert app.get(job).attempt == 1


def test_a_suspended_job_is_waiting_and_holds_no_thread(app: App) -> None:
    go = threading.Event()

    @app.task
    def slow() -> int:
        go.wait(30)
        return 5

    @app.task(durable=True)
    def parent() -> Any:
        value: Any = slow()
        return value.result() + 1

    job = parent.enqueue()
    worker = app.work(concurrency=2)
    app.reaches(job, "waiting")
    eventually(lambda: worker._pool.busy() == 1)
    go.set()

    assert app.result(job) == 6


def test_steps_and_drawn_values_are_kept(app: App) -> None:
    calls: list[int] = []
    seen: list[Any] = []

    def charge(amount: int) -> dict[str, Any]:
        calls.append(amount)
        return {"z": amount, "a": (1, 2)}

    @app.task
    def child() -> int:
        return 1

    @app.task(durable=True)
    def parent() -> Any:
        drawn = [str(uuid()), str(uuid()), random(), now().isoformat()]
        paid = step(charge, 5)
        value: Any = child()
        value.result()
        again = step(charge, 5)
        value = child()
        value.result()
        seen.append([drawn, paid, again])
        return Record([drawn, paid, again])

    job = parent.enqueue()
    app.work()
    result = app.result(job)

    assert result[1] == {"z": 5, "a": [1, 2]}
    assert calls == [5, 5]
    assert result[0][0] != result[0][1]
    assert len(app.children(job)) == 2


def test_a_failed_attempt_keeps_what_was_committed_and_does_not_repeat_it(app: App) -> None:
    steps: list[str] = []
    tries: list[int] = []

    @app.task
    def child(n: int) -> int:
        return n

    @app.task(durable=True, max_attempts=3, backoff="none")
    def parent() -> Any:
        step(steps.append, "first")
        first: Any = child(1)
        value = first.result()
        step(steps.append, "second")
        child(2)  # of an attempt that fails: dropped with it
        tries.append(1)
        if len(tries) < 3:
            raise RuntimeError("not yet")
        return value

    job = parent.enqueue()
    app.work()

    assert app.result(job) == 1
    assert steps == ["first", "second"]
    assert len(app.children(job)) == 2
    assert app.get(job).attempt == 3


def test_a_failure_of_a_child_is_raised_and_may_be_handled(app: App) -> None:
    @app.task(max_attempts=1)
    def bad() -> None:
        raise ValueError("broken")

    @app.task(durable=True)
    def careful() -> Any:
        value: Any = bad()
        try:
            value.result()
        except JobFailed as error:
            return Record(str(error))

    @app.task(durable=True)
    def careless() -> Any:
        value: Any = bad()
        return value.result()

    handled, unhandled = careful.enqueue(), careless.enqueue()
    app.work()

    assert "broken" in app.result(handled)
    ended = app.wait(unhandled)[0]
    assert (ended.state, ended.reason, ended.attempt) == ("failed", "awaited_failed", 1)
    assert ended.errors[-1]["type"] == "JobFailed"


def test_a_failed_child_that_nobody_looked_at_fails_the_parent(app: App) -> None:
    @app.task(max_attempts=1)
    def bad() -> None:
        raise ValueError("broken")

    @app.task
    def good() -> int:
        return 1

    @app.task(durable=True)
    def parent() -> Any:
        bad()
        value: Any = good()
        return value.result()

    job = parent.enqueue()
    app.work()
    ended = app.wait(job)[0]

    assert (ended.state, ended.reason) == ("failed", "child_failed")


def test_a_durable_job_ends_after_children_it_did_not_wait_for(app: App) -> None:
    go = threading.Event()

    @app.task
    def slow() -> int:
        go.wait(30)
        return 1

    @app.task
    def quick() -> int:
        return 2

    @app.task(durable=True)
    def parent() -> Any:
        slow()
        value: Any = quick()
        return value.result()

    @app.task(durable=True, max_attempts=1)
    def failing() -> Any:
        slow()
        value: Any = quick()
        value.result()
        raise RuntimeError("own")

    jobs = [parent.enqueue(), failing.enqueue()]
    app.work()
    eventually(lambda: all(app.store.row(job.id, "attempt")[0] == 1 for job in jobs))
    assert [app.get(job).state for job in jobs] == ["waiting", "waiting"]
    go.set()

    assert app.result(jobs[0]) == 2
    ended = app.wait(jobs[1])[0]
    assert (ended.state, ended.reason) == ("failed", "error")
    assert len(ended.errors) == 1


def test_gather_and_as_completed(app: App) -> None:
    gates = [threading.Event() for _ in range(3)]

    @app.task
    def child(n: int) -> int:
        gates[n].wait(30)
        return n

    order: list[int] = []

    @app.task(durable=True)
    def parent() -> Any:
        futures: list[Any] = [child(n) for n in range(3)]
        found = []
        for future in as_completed(*futures):
            found.append(future.result())
            if len(found) > len(order):
                order.append(found[-1])
                gates[(found[-1] + 1) % 3].set()
        return Record([found, gather(*futures)])

    job = parent.enqueue()
    app.work()
    app.reaches(job, "waiting")
    gates[1].set()

    assert app.result(job) == [[1, 2, 0], [0, 1, 2]]


def test_a_sleep_holds_nothing_and_is_over_when_its_time_has_come(app: App) -> None:
    @app.task(durable=True)
    def nap() -> str:
        sleep(hours=2)
        sleep(0)
        return "rested"

    job = nap.enqueue()
    worker = app.work()
    app.reaches(job, "waiting")
    eventually(lambda: worker._pool.held() == 0)
    worker.stop()
    app.work()
    assert app.get(job).state == "waiting"
    app.store.sql("UPDATE {timers} SET wake_at = wake_at - interval '119 minutes'")
    app.store.sql("UPDATE {journal} SET wake_at = wake_at - interval '119 minutes'")
    assert app.get(job).state == "waiting"
    app.store.sql("UPDATE {timers} SET wake_at = wake_at - interval '1 minute'")
    app.store.sql("UPDATE {journal} SET wake_at = wake_at - interval '1 minute'")

    assert app.result(job) == "rested"


def test_signals_reach_a_job_early_late_and_in_order(app: App) -> None:
    @app.task(durable=True)
    def listen(n: int) -> Any:
        return Record([wait_signal("go") for _ in range(n)])

    early = listen.enqueue(n=3)
    app.client.signal(early, "go", 1)
    app.client.signal(early, "other", 0)
    late = listen.enqueue(n=1)
    app.work()
    app.reaches(early, "waiting")
    app.client.signal(early, "go", 2)
    app.reaches(late, "waiting")
    with app.store.link.connection.transaction():
        app.client.signal(late, "go", {"a": None}, connection=app.store.link.connection)
    app.client.signal(early, "go", 3)

    assert app.result(early) == [1, 2, 3]
    assert app.result(late) == [{"a": None}]
    with pytest.raises(UsageError, match="completed"):
        app.client.signal(early, "go")


def test_time_limits_of_waiting(app: App) -> None:
    go = threading.Event()

    @app.task
    def slow() -> int:
        go.wait(30)
        return 1

    @app.task(durable=True)
    def parent() -> Any:
        found = []
        try:
            wait_signal("never", timeout=0.05)
        except SignalTimeout:
            found.append("signal")
        value: Any = slow()
        try:
            value.result(timeout=0.05)
        except ResultTimeout:
            found.append("result")
        step(go.set)
        return Record([*found, value.result()])

    job = parent.enqueue()
    app.work()

    assert app.result(job) == ["signal", "result", 1]


def test_except_exception_lets_a_suspension_pass_and_swallowing_it_is_of_no_use(app: App) -> None:
    finals: list[bool] = []

    @app.task
    def child() -> int:
        return 3

    @app.task(durable=True)
    def parent() -> Any:
        value: Any = child()
        try:
            number = value.result()
        except Exception:  # noqa: BLE001 - that is what this is about
            return "caught"
        finally:
            finals.append(current_job().suspended)
        return number

    @app.task(durable=True)
    def stubborn() -> Any:
        value: Any = child()
        try:
            return value.result()
        except Suspended:
            return "swallowed"

    jobs = [parent.enqueue(), stubborn.enqueue()]
    app.work()

    assert [app.result(job) for job in jobs] == [3, 3]
    assert finals == [True, False]


def test_waiting_in_a_task_that_is_not_durable_says_so(app: App) -> None:
    @app.task
    def child() -> int:
        return 1

    @app.task(max_attempts=1)
    def parent(what: str) -> Any:
        value: Any = child()
        if what == "result":
            value.result()
        sleep(1)

    jobs = [parent.enqueue(what="result"), parent.enqueue(what="sleep")]
    app.work()
    first, second = app.wait(*jobs)

    assert first.errors[-1]["type"] == FutureUsedAsValue.__name__
    assert "durable=True" in first.errors[-1]["message"]
    assert second.errors[-1]["type"] == NotDurable.__name__


def test_an_async_task_cannot_be_durable(app: App) -> None:
    with pytest.raises(UsageError, match="plain function"):

        @app.task(durable=True)
        async def wrong() -> None: ...


def test_a_durable_task_that_is_called_directly_runs_here_and_now(app: App) -> None:
    done: list[str] = []

    @app.task
    def double(n: int) -> int:
        return n * 2

    @app.task
    def bad() -> int:
        raise ValueError("broken")

    @app.task(durable=True)
    def inner(values: list[int]) -> Any:
        first: Any = double(values[0])
        return Record(first.result() + values[1])

    @app.task(durable=True)
    def parent(n: int, signal: bool = False) -> Any:
        step(done.append, "once")
        futures: list[Any] = [double(n), double(n + 1)]
        found = [future.result() for future in as_completed(*futures)]
        wrong: Any = bad()
        with pytest.raises(JobFailed, match="broken"):
            wrong.result()
        sleep(0.001)
        assert now().tzinfo is not None
        if signal:
            wait_signal("go")
        nested: Any = inner([futures[0], futures[1]])
        return Record([found, gather(*futures), nested.result()])

    assert parent(3) == [[6, 8], [6, 8], 20]
    assert done == ["once"]
    with pytest.raises(NotDurable, match="go"):
        parent(3, signal=True)
