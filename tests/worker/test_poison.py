"""A job that kills its process ends as poison, and nobody who was near it pays for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.app import App
from tests.support.command import started
from tests.support.eventually import eventually

PATIENCE = 120.0
TASKS = """
import ctypes, os, time
from fairchild import task

@task(name="killer")
def killer(path=None):
    if path is not None:
        while not os.path.exists(path):
            time.sleep(0.001)
    ctypes.string_at(0)

@task(name="innocent")
def innocent(n, path):
    while not os.path.exists(path):
        time.sleep(0.01)
    return n

@task(name="short")
def short(n):
    return n
"""


@contextmanager
def crew(app: App, folder: Path, *options: str) -> Iterator[None]:
    """``fairchild worker`` with two processes under a supervisor, which replaces those that die."""
    (folder / "accident.py").write_text(TASKS)
    arguments = ["worker", "--import", "accident", "--lease", "2", "--poll-interval", "0.1", "--processes", "2"]
    with started([*arguments, "--shutdown-timeout", "1", *options], folder=folder, url=app.url) as running:
        yield
        running.process.terminate()
        running.process.wait(PATIENCE)


def deaths(app: App) -> int:
    count: int = app.store.sql("SELECT count(*)::int FROM {sessions} WHERE state = 'dead'")[0][0]
    return count


def all_ended(app: App) -> bool:
    return app.store.sql("SELECT count(*) FROM {jobs} WHERE state = 'pending'") == [(0,)]


def innocents(app: App) -> list[tuple[object, ...]]:
    return app.store.sql(
        "SELECT state, attempt, count(*)::int, max(losses)::int FROM {jobs} WHERE task <> 'killer' GROUP BY 1, 2"
    )


def test_a_job_that_kills_its_worker_kills_one_worker_and_then_two_children(app: App, tmp_path: Path) -> None:
    job = app.client.enqueue("killer")
    with crew(app, tmp_path):
        done = job.wait(PATIENCE)

    assert (done.state, done.reason, done.attempt) == ("failed", "poison", 0)
    assert [entry["kind"] for entry in done.errors] == ["lost"] * 3
    assert "was lost while it held this job" in done.errors[0]["message"]
    assert ["ended with SIGSEGV" in entry["message"] for entry in done.errors[1:]] == [True, True]
    assert deaths(app) == 1


@pytest.mark.parametrize("many", [50, pytest.param(1000, marks=pytest.mark.slow)])
def test_innocent_jobs_beside_one_that_segfaults_all_complete_and_none_is_charged(
    app: App, tmp_path: Path, many: int
) -> None:
    """Some run beside it when it strikes, some have been claimed ahead, some come later."""
    go, strike = tmp_path / "go", tmp_path / "strike"
    running = min(many, 20)
    app.client.enqueue_many("innocent", ({"n": n, "path": str(go)} for n in range(running)))
    killer = app.client.enqueue("killer", {"path": str(strike)})
    app.client.enqueue_many("short", ({"n": n} for n in range(many - running)))
    with crew(app, tmp_path, "--concurrency", "15"):
        eventually(
            lambda: app.store.sql("SELECT count(*) FROM {claims} WHERE job_id = %(id)s", id=killer.id) == [(1,)],
            PATIENCE,
        )
        strike.touch()
        eventually(lambda: deaths(app) == 1, PATIENCE)
        go.touch()
        eventually(lambda: all_ended(app), PATIENCE, what=lambda: innocents(app))

    assert innocents(app) == [("completed", 1, many, 1)]
    done = app.get(killer)
    assert (done.state, done.reason, done.attempt) == ("failed", "poison", 0)
    assert deaths(app) == 1


def test_several_killers_take_nobody_along(app: App, tmp_path: Path) -> None:
    ids = app.client.enqueue_many("short", ({"n": n} for n in range(40)))
    killers = [app.client.enqueue("killer") for _ in range(4)]
    ids += app.client.enqueue_many("short", ({"n": n} for n in range(40)))
    with crew(app, tmp_path):
        eventually(lambda: all_ended(app), PATIENCE, what=lambda: innocents(app))

    assert [row[:3] for row in innocents(app)] == [("completed", 1, len(ids))]
    assert {(app.get(each).reason, app.store.row(each.id, "losses")) for each in killers} == {("poison", (3,))}
