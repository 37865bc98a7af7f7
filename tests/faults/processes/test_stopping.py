"""Workers told to stop: a second signal means now, whatever holds the jobs or the database up."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import pytest

from fairchild.errors import UsageError
from fairchild.worker import WorkerPool
from tests.faults.processes.witness import LEASE, PATIENCE, worker
from tests.support.app import App
from tests.support.command import started
from tests.support.eventually import eventually
from tests.support.proxy import proxy_to

SOON = 10.0
"""The promise is 2 seconds; this machine may be busy, and without it these would take half a minute."""
TASKS = """
import time
from pathlib import Path
from fairchild import task

@task(name="sleeps")
def sleeps(path):
    Path(path).touch()
    time.sleep(120)  # in C: no interrupt reaches it

@task(name="sleeps_apart", isolation="process")
def sleeps_apart(path):
    Path(path).touch()
    time.sleep(120)

@task(name="swallows")
def swallows(path):
    Path(path).touch()
    end = time.monotonic() + 120
    while time.monotonic() < end:
        try:
            time.sleep(0.01)
        except BaseException:
            pass
"""
NAMES = ("sleeps", "sleeps_apart", "swallows")


def enqueue_sleepers(app: App, folder: Path) -> list[object]:
    (folder / "sleepers.py").write_text(TASKS)
    return [app.client.enqueue(name, {"path": str(folder / name)}) for name in NAMES]


def command(*options: str) -> list[str]:
    return ["worker", "--import", "sleepers", "--lease", str(LEASE), "--poll-interval", "0.1", *options]


def all_run(folder: Path) -> bool:
    return all((folder / name).exists() for name in NAMES)


@pytest.mark.parametrize("processes", [1, 2])
def test_f09_a_second_signal_gives_everything_back_now_and_more_of_them_do_nothing(
    app: App, tmp_path: Path, processes: int
) -> None:
    enqueue_sleepers(app, tmp_path)
    with started(command("--processes", str(processes)), folder=tmp_path, url=app.url) as running:
        eventually(lambda: all_run(tmp_path), PATIENCE)
        running.process.send_signal(signal.SIGTERM)
        eventually(lambda: app.store.sql("SELECT 1 FROM {sessions} WHERE state = 'draining'"), PATIENCE)
        for _ in range(5):
            if running.process.poll() is None:
                running.process.send_signal(signal.SIGINT if processes == 1 else signal.SIGTERM)
        code = running.process.wait(SOON)

    assert code == 130, running.said()
    assert "Traceback" not in running.said()
    found = [app.get(row[0]) for row in app.store.sql("SELECT id FROM {jobs}")]
    assert [(job.state, job.attempt, job.errors[-1]["kind"]) for job in found] == [("available", 0, "interrupted")] * 3


@pytest.mark.parametrize("signals", [1, 2])
def test_f10_a_worker_stops_in_its_time_while_the_database_is_silent_and_says_that_something_is_open(
    app: App, tmp_path: Path, signals: int
) -> None:
    enqueue_sleepers(app, tmp_path)
    with (
        proxy_to(app.url) as proxy,
        started(command("--shutdown-timeout", "1"), folder=tmp_path, url=proxy.url) as running,
    ):
        eventually(lambda: all_run(tmp_path), PATIENCE)
        proxy.hole = True
        for _ in range(signals):
            running.process.send_signal(signal.SIGTERM)
            time.sleep(0.2)  # for two signals to be two
        code = running.process.wait(2 * SOON)
        said = running.said()

    assert code == 1, said
    # What was not recorded is found by the lease, and nothing was spent.
    with worker(app, tmp_path):
        eventually(lambda: app.store.sql("SELECT count(*) FROM {claims}") == [(0,)], PATIENCE)
    assert app.store.sql("SELECT DISTINCT state, attempt FROM {jobs}") == [("pending", 0)]


def test_f08_what_still_runs_after_its_time_can_be_cancelled_instead_of_given_back(app: App) -> None:
    go_on = threading.Event()

    @app.task
    def looks() -> None:
        go_on.wait(0.01)
        while True:
            time.sleep(0.001)

    @app.task
    def deaf() -> None:
        go_on.wait(60)

    jobs = [looks.enqueue(), deaf.enqueue()]
    active = app.work(concurrency=2)
    for job in jobs:
        app.reaches(job, "running")
    ended = active.stop(timeout=0, cancel=True)
    go_on.set()

    assert not ended
    for job in jobs:
        found = app.get(job)
        assert (found.state, found.reason) == ("cancelled", "its worker was stopped")
        assert found.errors[-1]["kind"] == "cancelled"


def test_several_processes_cannot_be_asked_to_cancel(app: App) -> None:
    with pytest.raises(UsageError, match=r"fc\.cancel"):
        WorkerPool(app.client, processes=2).stop(cancel=True)
