"""A job that waits for another holds a thread that the other may need: it is refused at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fairchild import Job, ResultTimeout
from fairchild.errors import WouldDeadlock
from tests.support.app import App

Wait = Callable[[App, Job], Any]


@pytest.mark.parametrize(
    "wait",
    [
        lambda app, job: job.wait(),
        lambda app, job: job.wait(timeout=30),
        lambda app, job: app.client.wait([job]),
        lambda app, job: app.client.get_result(job.id),
        lambda app, job: app.client.get_result(job.id, timeout=1000),
    ],
)
@pytest.mark.parametrize("kind", ["thread", "coroutine"])
def test_f15_a_job_that_waits_for_another_is_told_at_once_what_to_do(app: App, wait: Wait, kind: str) -> None:
    @app.task
    def child() -> int:
        return 1

    def waits() -> str:
        with pytest.raises(
            WouldDeadlock, match=r"cannot wait for job .*would hold a thread.*Pass it to a task"
        ) as said:
            wait(app, child.enqueue())
        return str(said.value)

    async def waits_in_a_coroutine() -> str:
        return waits()

    parent = app.task(name="parent")(waits if kind == "thread" else waits_in_a_coroutine).enqueue()
    app.work(concurrency=1)

    assert str(parent.id) in app.result(parent)


def test_f15_a_job_may_look_and_may_wait_for_what_has_ended(app: App) -> None:
    @app.task
    def child() -> int:
        return 5

    @app.task
    def looks(ended: str) -> int:
        with pytest.raises(ResultTimeout):
            app.client.get_result(child.options(queue="nobody's").enqueue().id, timeout=0)
        value: int = app.client.get_result(ended)
        return value

    first = child.enqueue()
    app.work(queues=["default"], concurrency=1)
    app.wait(first)

    assert app.result(looks.enqueue(str(first.id))) == 5
