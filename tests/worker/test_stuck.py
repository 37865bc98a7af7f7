"""Threads that do not come back: the process that has too many of them is replaced, or ends and says so."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from fairchild import Job
from tests.support.app import PATIENCE, App
from tests.support.command import Running, started
from tests.support.eventually import eventually

TASKS = """
import os, threading, time
from fairchild import task
from fairchild.worker import watch

watch.STUCK_SECONDS = 0.2

@task(name="deaf")
def deaf(path):
    open(path, "w").write(str(os.getpid()))
    time.sleep(60)

@task(name="pid")
def pid():
    return os.getpid()

@task(name="leave")
def leave():
    threading.Thread(target=time.sleep, args=(60,), name="left-by-a-job", daemon=False).start()
"""


def worker(app: App, folder: Path, *options: str) -> list[str]:
    (folder / "stuck.py").write_text(TASKS)
    return [
        "worker",
        "--import",
        "stuck",
        "--poll-interval",
        "0.1",
        "--lease",
        "2",
        "--shutdown-timeout",
        "0",
        *options,
    ]


def enqueue_deaf(app: App, path: Path) -> Job:
    return app.client.enqueue("deaf", {"path": str(path)}, timeout=0.1, max_attempts=1)


def exit_code(running: Running) -> int:
    """How it ends, by itself or after SIGTERM, and soon: a stuck thread holds nobody up."""
    return running.process.wait(10)


def test_a_process_of_its_own_with_too_many_stuck_threads_ends_and_gives_the_job_back(app: App, tmp_path: Path) -> None:
    job = enqueue_deaf(app, tmp_path / "pid")
    with started(worker(app, tmp_path, "--concurrency", "2", "--max-stuck", "0"), folder=tmp_path, url=app.url) as run:
        assert exit_code(run) == 1
        said = run.said()

    assert "does not stop" in said
    assert "more than 0 threads are stuck" in said
    found = app.get(job)
    assert (found.state, found.attempt, [entry["kind"] for entry in found.errors]) == ("available", 0, ["interrupted"])


def test_below_the_limit_the_worker_goes_on_with_all_its_threads(app: App, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    job = enqueue_deaf(app, path)
    options = worker(app, tmp_path, "--concurrency", "1", "--max-stuck", "1")
    with started(options, folder=tmp_path, url=app.url) as run:
        other = app.client.enqueue("pid")
        assert app.result(other) == int(path.read_text())
        assert app.get(job).state == "running"
        assert run.process.poll() is None
        run.process.send_signal(signal.SIGTERM)
        assert exit_code(run) == 0


def test_a_supervisor_replaces_a_process_with_too_many_stuck_threads(app: App, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    options = worker(app, tmp_path, "--concurrency", "1", "--max-stuck", "0", "--max-jobs-per-process", "1000")
    with started(options, folder=tmp_path, url=app.url) as run:
        job = enqueue_deaf(app, path)
        first = int(eventually(lambda: path.exists() and path.read_text(), PATIENCE))
        app.reaches(job, "running")
        job.cancel("enough")
        eventually(lambda: not _exists(first), PATIENCE)
        assert app.result(app.client.enqueue("pid")) != first
        run.process.send_signal(signal.SIGTERM)
        assert exit_code(run) == 0

    assert app.get(job).state == "cancelled"


def test_a_thread_that_a_job_has_left_behind_does_not_hold_up_the_end(app: App, tmp_path: Path) -> None:
    with started(worker(app, tmp_path), folder=tmp_path, url=app.url) as run:
        app.wait(app.client.enqueue("leave"))
        before = time.monotonic()
        run.process.send_signal(signal.SIGTERM)
        assert exit_code(run) == 0
        assert time.monotonic() - before < 10
        assert "left-by-a-job" in run.said()


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
