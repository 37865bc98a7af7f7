"""Limits in time: what ends a task that does not end by itself."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from datetime import timedelta
from typing import Any

import pytest

from fairchild import Fairchild, current_job
from fairchild.context import get_current_job
from fairchild.errors import AttemptCancelled, AttemptInterrupted, AttemptTimedOut, Interrupt
from fairchild.worker import watch as module
from tests.support.app import PATIENCE, App
from tests.support.eventually import eventually


def spin(seconds: float = PATIENCE) -> None:
    """Python code that never looks whether it should stop."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(50))


def test_a_task_past_its_timeout_is_interrupted_wherever_it_is(app: App) -> None:
    @app.task(timeout=0.2, max_attempts=1)
    def endless() -> None:
        spin()

    app.work()
    (job,) = app.wait(endless.enqueue())

    assert (job.state, job.reason, job.attempt) == ("failed", "timeout", 1)
    assert job.errors[0]["kind"] == "timeout"
    assert job.errors[0]["type"] == "AttemptTimedOut"
    assert "ran past its timeout of 0.2 s" in job.errors[0]["message"]
    assert "spin" in job.errors[0]["traceback"]


def test_a_tasks_own_handlers_let_it_pass_and_its_cleaning_up_runs(app: App) -> None:
    seen: list[str] = []

    @app.task(timeout=0.1, max_attempts=1)
    def careful() -> None:
        try:
            spin()
        except Exception:  # noqa: BLE001 - as careless tasks have it
            seen.append("except Exception")
        finally:
            seen.append("finally")

    app.work()
    (job,) = app.wait(careful.enqueue())

    assert (job.state, seen) == ("failed", ["finally"])


def test_an_interrupt_that_is_swallowed_comes_again(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0.05)
    swallowed: list[str] = []

    @app.task(timeout=0.1, max_attempts=1)
    def stubborn() -> None:
        while len(swallowed) < 3:
            try:
                spin()
            except AttemptTimedOut as interrupt:
                swallowed.append(str(interrupt))
        spin()

    app.work()
    (job,) = app.wait(stubborn.enqueue())

    assert job.reason == "timeout"
    assert all("timeout of 0.1 s" in each for each in swallowed)


def test_a_cancelled_job_that_never_looks_is_interrupted(app: App) -> None:
    started = threading.Event()
    seen: list[BaseException] = []

    @app.task
    def endless() -> None:
        started.set()
        try:
            spin()
        except Interrupt as interrupt:
            seen.append(interrupt)
            raise

    app.work()
    job = endless.enqueue()
    assert started.wait(PATIENCE)
    job.cancel("not needed")
    (done,) = app.wait(job)

    assert (done.state, done.reason) == ("cancelled", "not needed")
    assert isinstance(seen[0], AttemptCancelled)
    assert str(seen[0]) == "not needed"


def test_a_worker_that_stops_interrupts_what_does_not_end(app: App) -> None:
    started = threading.Event()

    @app.task
    def endless() -> None:
        started.set()
        spin()

    worker = app.work()
    job = endless.enqueue()
    assert started.wait(PATIENCE)

    assert worker.stop(timeout=0)
    found = app.get(job)
    assert (found.state, found.attempt) == ("available", 0)
    assert [entry["kind"] for entry in found.errors] == ["interrupted"]
    assert found.errors[0]["type"] == AttemptInterrupted.__name__


def test_a_coroutine_past_its_timeout_is_cancelled(app: App) -> None:
    seen: list[str] = []

    @app.task(timeout=0.1, max_attempts=1)
    async def endless() -> None:
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    @app.task
    async def short() -> int:
        await asyncio.sleep(0)
        return 1

    app.work()
    (job,) = app.wait(endless.enqueue())

    assert (job.reason, seen) == ("timeout", ["cancelled"])
    assert "ran past its timeout" in job.errors[0]["message"]
    assert app.result(short.enqueue()) == 1


def test_an_interrupt_never_reaches_another_job(app: App) -> None:
    """Tasks end just when their time is up: whatever comes of each, it comes of that one alone."""
    inside: dict[int, str] = {}

    @app.task(timeout=0.01, max_attempts=1)
    def close_call(seconds: float) -> str:
        spin(seconds)
        return "in time"

    @app.task
    def bystander(n: int) -> int:
        job = get_current_job()
        assert job is not None
        inside[n] = job.task
        sum(range(2000))
        return n

    jobs, others = [], []
    for n in range(300):
        jobs.append(close_call.enqueue(random.uniform(0.0095, 0.0105)))
        others.append(bystander.enqueue(n))
    worker = app.work(concurrency=3)
    ended = app.wait(*jobs)

    assert {(job.state, job.reason) for job in ended} <= {("completed", None), ("failed", "timeout")}
    assert [app.result(job) for job in others] == list(range(300))
    assert all(not job.errors for job in app.wait(*others))
    assert worker.alive
    assert sum(thread.is_alive() for thread in worker._pool._threads if "runner" in thread.name) == 3


def test_a_thread_that_does_not_come_back_is_replaced_and_its_job_stays_running(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    started, go_on = threading.Event(), threading.Event()

    @app.task(timeout=0.1, max_attempts=1)
    def deaf() -> None:
        started.set()
        go_on.wait(PATIENCE)  # waits outside of Python

    @app.task
    def other() -> str:
        return "done"

    worker = app.work(concurrency=1, max_stuck=0)
    worker._pool.watch.stuck_seconds = 0.1
    job = deaf.enqueue()
    assert started.wait(PATIENCE)
    assert app.result(other.enqueue()) == "done"

    assert app.get(job).state == "running"
    assert "does not stop" in caplog.text
    assert worker.worn_out
    go_on.set()
    (done,) = app.wait(job)
    assert (done.state, done.reason) == ("failed", "timeout")
    eventually(lambda: not worker.worn_out)
    assert worker._pool.ever_stuck == 1
    assert app.result(other.enqueue()) == "done"
    eventually(lambda: sum(each.is_alive() for each in worker._pool._threads if "runner" in each.name) == 1)


def test_nothing_watches_while_nothing_has_a_limit(app: App) -> None:
    @app.task
    def free() -> None: ...

    @app.task(timeout=60)
    def limited() -> float | None:
        return current_job().time_left

    def watches() -> int:
        return sum(thread.name == "fairchild-watch" for thread in threading.enumerate())

    before = watches()
    worker = app.work()
    app.wait(free.enqueue())
    assert watches() == before

    left: Any = app.result(limited.enqueue())
    assert 50 < left <= 60
    assert watches() == before + 1
    worker.stop()
    eventually(lambda: watches() == before)


def test_jobs_that_have_ended_are_not_kept_until_their_time_is_up(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MANY", 50)

    @app.task(timeout=3600)
    def limited() -> None: ...

    worker = app.work()
    app.wait(*limited.enqueue_many({} for _ in range(500)))

    assert len(worker._pool.watch._due) <= 50 + worker.concurrency


def test_a_default_timeout_is_for_jobs_without_one_of_their_own(app: App) -> None:
    @app.task(max_attempts=1)
    def endless() -> None:
        spin()

    @app.task(timeout=60)
    def own() -> float | None:
        return current_job().timeout

    client = Fairchild(app.url, registry=app.client.registry, default_timeout=timedelta(seconds=0.2))
    try:
        jobs = [endless.enqueue(), own.enqueue()]
        app.work(client=client)
        limited, unlimited = app.wait(*jobs)
        assert (limited.state, limited.reason) == ("failed", "timeout")
        assert "timeout of 0.2 s" in limited.errors[0]["message"]
        assert unlimited.result == 60
    finally:
        app.workers[-1].stop()
        client.disconnect()
