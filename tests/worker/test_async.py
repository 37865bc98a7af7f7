"""Coroutine tasks: one event loop per worker, the same rules as for all others."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from fairchild import Record, Snooze, current_job
from fairchild.context import CurrentJob
from tests.support.app import PATIENCE, App
from tests.support.eventually import eventually


def test_an_async_task_runs_and_its_result_is_kept(app: App) -> None:
    @app.task
    async def work(x: int) -> Any:
        await asyncio.sleep(0)
        return Record(x + 1)

    job = work.enqueue(1)
    app.work()

    assert app.result(job) == 2


def test_many_async_tasks_are_on_their_way_at_once_in_one_thread(app: App) -> None:
    threads: set[int] = set()
    here: list[asyncio.Event] = []

    @app.task
    async def work(n: int) -> int:
        threads.add(threading.get_ident())
        here.append(asyncio.Event())
        if len(here) == 20:
            for event in here:
                event.set()
        await here[0].wait()
        return n

    jobs = [work.enqueue(n) for n in range(20)]
    app.work(concurrency=20)

    assert [app.result(job) for job in jobs] == list(range(20))
    assert len(threads) == 1


def test_calls_inside_a_coroutine_make_children_of_its_own_job(app: App) -> None:
    @app.task
    def double(x: int) -> int:
        return 2 * x

    @app.task
    async def inner(n: int) -> Any:
        await asyncio.sleep(0.001)
        future = double(n)
        await asyncio.sleep(0.001)
        assert current_job().args == {"n": n}
        return future

    @app.task
    async def flow() -> Any:
        async def part(n: int) -> Any:
            await asyncio.sleep(0)
            return inner(n)

        return list(await asyncio.gather(*(part(n) for n in range(10))))

    jobs = [flow.enqueue() for _ in range(3)]
    app.work(concurrency=6)

    assert [app.result(job) for job in jobs] == [[2 * n for n in range(10)]] * 3
    for job in jobs:
        assert [child.args["n"] for child in app.children(job)] == list(range(10))


@pytest.mark.parametrize("raised", [ValueError("x"), SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError()])
def test_what_a_coroutine_raises_fails_its_job_alone(app: App, raised: BaseException) -> None:
    @app.task(max_attempts=1)
    async def bad() -> None:
        await asyncio.sleep(0)
        raise raised

    @app.task
    async def good() -> int:
        await asyncio.sleep(0)
        return 1

    app.work(concurrency=2)
    (done,) = app.wait(bad.enqueue())

    assert (done.state, done.errors[0]["type"]) == ("failed", type(raised).__name__)
    assert app.result(good.enqueue()) == 1


def test_a_coroutine_is_tried_again_and_may_be_put_off(app: App) -> None:
    ran: list[int] = []

    @app.task(backoff="none")
    async def work(job: CurrentJob) -> str:
        ran.append(job.attempt)
        await asyncio.sleep(0)
        if len(ran) == 1:
            raise ValueError("again")
        if len(ran) == 2:
            raise Snooze(0)
        return "done"

    app.work()

    assert app.result(work.enqueue()) == "done"
    assert ran == [1, 2, 2]


def test_a_coroutine_hears_that_it_was_cancelled(app: App) -> None:
    started = threading.Event()

    @app.task
    async def long(job: CurrentJob) -> None:
        started.set()
        while True:
            job.check()
            await asyncio.sleep(0.005)

    app.work(lease=1.2)
    job = long.enqueue()
    assert started.wait(PATIENCE)
    job.cancel("enough")

    assert app.wait(job)[0].reason == "enough"


def test_a_coroutine_that_never_looks_is_cancelled_at_shutdown_and_its_job_given_back(app: App) -> None:
    started, cleaned_up = threading.Event(), threading.Event()

    @app.task
    async def endless() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned_up.set()

    worker = app.work(concurrency=1)
    threads = worker._pool._threads
    job = endless.enqueue()
    assert started.wait(PATIENCE)

    assert worker.stop(timeout=0)
    assert cleaned_up.is_set()
    eventually(lambda: not any(thread.is_alive() for thread in threads))
    back = app.get(job)
    assert (back.state, back.attempt) == ("available", 0)


def test_sync_and_async_tasks_may_call_each_other(app: App) -> None:
    @app.task
    async def a(n: int) -> Any:
        return b(n - 1) if n else "end"

    @app.task
    def b(n: int) -> Any:
        return a(n - 1) if n else "end"

    job = a.enqueue(9)
    app.work(concurrency=1)

    assert app.result(job) == "end"


def test_an_async_task_called_outside_of_a_job_gives_its_value(app: App) -> None:
    @app.task
    async def work(x: int) -> Any:
        await asyncio.sleep(0)
        return Record(x + 1)

    assert work(1) == 2
