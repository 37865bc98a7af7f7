"""A runner thread that dies of anything is replaced, and its job has failed."""

from __future__ import annotations

from typing import Any

import pytest

from fairchild import events
from fairchild.worker.attempt import Attempt
from tests.support.app import App
from tests.support.eventually import eventually


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit, SystemExit, MemoryError])
@pytest.mark.parametrize("where", ["run", "forget"])
def test_the_slot_and_the_job_are_not_lost(
    app: App, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], where: str
) -> None:
    heard: list[dict[str, Any]] = []
    usual = getattr(Attempt, where)

    def dying(self: Attempt, *args: Any) -> Any:
        value = usual(self, *args)
        if self.claimed.task == "bad":
            raise error("outside of the task")
        return value

    monkeypatch.setattr(Attempt, where, dying)
    app.task(name="bad")(lambda: 1)
    app.task(name="good")(lambda: 2)
    undo = events.subscribe(lambda _, fields: heard.append(fields), "runner_died")
    try:
        worker = app.work(concurrency=1)
        bad = app.client.enqueue("bad")
        (ended,) = app.wait(bad)
        assert app.result(app.client.enqueue("good")) == 2
    finally:
        undo()

    if where == "run":
        assert ended.state == "failed"
        assert error.__name__ in ended.errors[-1]["message"]
    else:  # what it came to had been handed over before
        assert ended.state == "completed"
    assert (heard[0]["job_id"], heard[0]["task"]) == (bad.id, "bad")
    eventually(lambda: worker._pool.held() == 0)
    assert worker._pool.busy() == 0
    assert worker.alive


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit, SystemExit])
def test_a_task_that_raises_such_a_thing_fails_alone(app: App, error: type[BaseException]) -> None:
    @app.task
    def bad() -> None:
        raise error("in the task")

    job = bad.enqueue()
    worker = app.work(concurrency=1)
    (ended,) = app.wait(job)

    assert ended.state == "failed"
    assert ended.errors[0]["type"] == error.__name__
    assert worker.alive


def test_an_interrupt_that_comes_too_late_ends_no_slot(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    app.task(name="good")(lambda: 2)
    worker = app.work(concurrency=1)
    usual = worker._pool._queue.get
    late = [KeyboardInterrupt("between two jobs")]

    def get(*args: Any, **options: Any) -> Any:
        if late:
            raise late.pop()
        return usual(*args, **options)

    class Queue:
        def __getattr__(self, name: str) -> Any:
            return get if name == "get" else getattr(real, name)

    real = worker._pool._queue
    monkeypatch.setattr(worker._pool, "_queue", Queue())
    jobs = [app.client.enqueue("good") for _ in range(3)]

    assert [each.result for each in app.wait(*jobs)] == [2, 2, 2]
    assert not late
