"""A worker that nobody hears: it stops its jobs before others start them, and says how it is."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

from fairchild import clock, current_job
from fairchild.db import lease
from fairchild.errors import LeaseLost
from fairchild.worker import WorkerPool
from tests.support.app import PATIENCE, App
from tests.support.eventually import eventually


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """While it is set, no beat reaches the database."""
    silent = threading.Event()
    beat = lease.beat

    def maybe(link: Any, session: Any, vitals: Any = None) -> Any:
        if silent.is_set():
            raise psycopg.OperationalError("no route to host")
        return beat(link, session, vitals)

    monkeypatch.setattr(lease, "beat", maybe)
    return silent


def test_a_worker_whose_beats_are_not_heard_stops_its_jobs_and_takes_no_more(
    app: App, deaf: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    started = threading.Event()
    seen: list[str] = []

    @app.task
    def long() -> int:
        started.set()
        try:
            while deaf.is_set() or not seen:
                current_job().check()
                threading.Event().wait(0.005)
        except LeaseLost as lost:
            seen.append(str(lost))
            raise
        return len(seen)

    worker = app.work(lease=2.0)
    first = worker.session
    job = long.enqueue()
    assert started.wait(PATIENCE)
    deaf.set()
    eventually(lambda: seen)

    assert "lost touch with the database" in seen[0]
    assert worker._claimer.fenced
    later = long.enqueue()
    eventually(lambda: not worker.health()["beats"]["ok"])
    assert not worker.healthy
    assert app.get(later).state == "available"

    deaf.clear()
    (done, _) = app.wait(job, later)
    assert (done.state, done.attempt) == ("completed", 1)  # the interrupted attempt was not spent
    assert worker.session == first  # nobody had taken over, so it is alive as it was
    assert "acknowledged again" in caplog.text
    eventually(lambda: worker.healthy)


def test_who_wakes_up_late_asks_before_it_stops_anything(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    @app.task
    def work() -> None: ...

    worker = app.work(lease=8.0)
    worker._fencing.stop()
    assert worker._fencing.join(PATIENCE)
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now + 60)
    worker._acknowledged = now

    worker._fence()
    assert not worker._claimer.fenced

    worker._fence()  # it has been awake for a look, and still nobody has answered
    assert worker._claimer.fenced


def test_health_says_what_does_not_work(app: App) -> None:
    @app.task
    def work() -> None: ...

    worker = app.work()
    assert worker.healthy
    assert {name: check["ok"] for name, check in worker.health().items()} == {
        "loops": True, "beats": True, "claims": True, "threads": True
    }  # fmt: skip

    worker._claiming.stop()
    assert worker._claiming.join(PATIENCE)
    worker._claimer.last_round -= 3600
    health = worker.health()
    assert not health["claims"]["ok"]
    assert not health["loops"]["ok"]
    worker._claimer.paused = True
    assert worker.health()["claims"] == {"ok": True, "detail": "paused"}
    worker.stop()
    assert not worker.healthy


def test_a_pool_may_end_when_the_database_stays_away(
    app: App, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @app.task
    def work() -> None: ...

    pool = WorkerPool(app.client, exit_when_unhealthy=0.5, poll_interval=0.1)

    def fail() -> None:
        raise psycopg.OperationalError("no route to host")

    ended = threading.Thread(target=pool.start)
    ended.start()
    eventually(lambda: pool.worker.alive)
    monkeypatch.setattr(pool.worker._claimer, "_round", fail)
    pool.worker.wake()
    ended.join(PATIENCE)

    assert not ended.is_alive()
    assert not pool.ended_well
    assert "no look for jobs has succeeded" in caplog.text
