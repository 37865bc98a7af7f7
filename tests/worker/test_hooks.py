"""Hooks: told what attempts came to, once that is recorded; slow or broken ones change nothing."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from fairchild import Cancel
from fairchild.client.hooks import JobEvent
from fairchild.errors import UsageError
from fairchild.worker import reporter
from tests.support.app import App
from tests.support.eventually import eventually


def test_each_outcome_is_told_after_it_was_recorded(app: App) -> None:
    told: dict[str, list[JobEvent]] = {}
    states: list[str] = []

    @app.client.on("job_started", "job_completed", "job_failed", "job_retrying", "job_waiting", "job_cancelled")
    def tell(event: JobEvent) -> None:
        if event.event == "job_failed":
            states.append(app.get(event.job_id).state)
        told.setdefault(event.task, []).append(event)

    def seen(task: str) -> list[str]:
        return [each.event.removeprefix("job_") for each in told[task]]

    @app.task(name="leaf")
    def leaf() -> int:
        return 1

    @app.task(name="tree")
    def tree() -> Any:
        return leaf()

    @app.task(name="bad", max_attempts=2, backoff=[0.0])
    def bad() -> None:
        raise ValueError("no")

    @app.task(name="slow", max_attempts=1, timeout=0.05)
    def slow() -> None:
        while True:
            time.sleep(0.005)

    @app.task(name="not_now")
    def not_now() -> None:
        raise Cancel("not now")

    app.work(concurrency=1)
    for name in ("tree", "bad", "slow", "not_now"):
        app.wait(app.client.enqueue(name))
    eventually(lambda: len(told.get("not_now", [])) == 2)
    assert seen("tree") == ["started", "waiting"]
    assert seen("leaf") == ["started", "completed"]
    assert seen("bad") == ["started", "retrying", "started", "failed"]
    assert seen("not_now") == ["started", "cancelled"]
    last = told["slow"][-1]
    assert (last.event, last.attempt, last.reason is not None, last.seconds > 0) == ("job_failed", 1, True, True)
    assert last.error is not None
    assert last.error["kind"] == "timeout"
    assert states == ["failed", "failed"]


def test_a_hook_that_fails_is_logged_and_the_others_are_called(app: App, caplog: pytest.LogCaptureFixture) -> None:
    told = threading.Event()

    @app.client.on("job_completed")
    def broken(event: JobEvent) -> None:
        raise RuntimeError("a hook of no use")

    @app.client.on("job_completed")
    def good(event: JobEvent) -> None:
        told.set()

    app.task(name="t")(lambda: 1)
    app.work()
    assert app.wait(app.client.enqueue("t"))[0].state == "completed"
    assert told.wait(10)
    assert "a hook failed at job_completed" in caplog.text


def test_a_slow_hook_delays_no_job_and_holds_a_bounded_number_of_events(
    app: App, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reporter, "MAX_WAITING", 5)
    go_on = threading.Event()

    @app.client.on("job_completed")
    def slow(event: JobEvent) -> None:
        go_on.wait(60)

    app.task(name="t")(lambda: 1)
    app.work()
    ids = app.client.enqueue_many("t", [{}] * 50)
    assert {job.state for job in app.wait(*ids)} == {"completed"}
    eventually(lambda: "too slow" in caplog.text)
    go_on.set()


def test_an_event_that_is_none_is_refused(app: App) -> None:
    with pytest.raises(UsageError, match="job_exploded"):
        app.client.on("job_exploded")(print)


def test_time_limits_and_discarded_jobs_are_told_besides(app: App) -> None:
    told: list[tuple[str, str]] = []

    @app.client.on("job_timeout", "job_discarded", "job_failed", "job_retrying")
    def tell(event: JobEvent) -> None:
        told.append((event.task, event.event))

    @app.task(name="slow", max_attempts=2, timeout=0.05, backoff=[0.0])
    def slow() -> None:
        while True:
            time.sleep(0.005)

    @app.task(name="useless", max_attempts=5, discard_on=(KeyError,))
    def useless() -> None:
        raise KeyError("no")

    app.work(concurrency=1)
    app.wait(app.client.enqueue("slow"))
    app.wait(app.client.enqueue("useless"))
    eventually(lambda: len(told) == 6)
    assert told == [
        ("slow", "job_timeout"), ("slow", "job_retrying"), ("slow", "job_timeout"), ("slow", "job_failed"),
        ("useless", "job_discarded"), ("useless", "job_failed"),
    ]  # fmt: skip
