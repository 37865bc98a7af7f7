"""Workers that stand still for a while, and workers that come back under a name that was there before."""

from __future__ import annotations

import gc
import logging
import signal
import sys
import time
import weakref
from pathlib import Path

import pytest

from fairchild import Job, clock
from tests.faults.processes.witness import PATIENCE, all_is_well, enqueue_some, note_ends, worker
from tests.support.app import App
from tests.support.eventually import eventually


def enqueue_held(app: App, folder: Path) -> Job:
    return app.client.enqueue("steps.held", {"folder": str(folder)})


def running_in(folder: Path, *others: int) -> int:
    """The process in which ``faults.held`` runs, besides those known."""

    def found() -> list[int]:
        return [int(file.stem) for file in folder.glob("*.runs") if int(file.stem) not in others]

    return eventually(found, PATIENCE)[0]


@pytest.mark.slow
def test_f02_a_worker_frozen_past_its_lease_changes_nothing_of_what_others_did_meanwhile(
    app: App, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    job = enqueue_held(app, tmp_path)
    with worker(app, first) as frozen:
        before = running_in(tmp_path)
        assert before == frozen.process.pid
        (session,) = app.store.sql("SELECT id FROM {sessions}")[0]
        frozen.process.send_signal(signal.SIGSTOP)
        with worker(app, second):
            after = running_in(tmp_path, before)
            (tmp_path / "go").touch()
            (done,) = app.wait(job)
            frozen.process.send_signal(signal.SIGCONT)
            # It hears of it, says so, and goes on as another.
            eventually(lambda: "was taken for dead" in frozen.said(), PATIENCE, what=frozen.said)
            assert app.store.sql("SELECT state FROM {sessions} WHERE id = %(id)s", id=session) == [("dead",)]
        assert app.result(app.client.enqueue("steps.plain", {"n": 7})) == 7

    assert (done.result, done.attempt) == (after, 1)
    assert app.get(job).result == after
    assert [entry["kind"] for entry in done.errors] == ["lost"]


@pytest.mark.slow
def test_f03_a_worker_frozen_for_less_than_its_lease_keeps_its_job(app: App, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with worker(app, first, "", "--lease", "12") as frozen:
        job = enqueue_held(app, tmp_path)
        running_in(tmp_path)
        with worker(app, second, "", "--lease", "12"):
            for _ in range(2):
                frozen.process.send_signal(signal.SIGSTOP)
                time.sleep(1.5)  # of the six seconds after which it would be taken for dead
                frozen.process.send_signal(signal.SIGCONT)
            (tmp_path / "go").touch()
            (done,) = app.wait(job)

    assert (done.state, done.result, done.errors) == ("completed", frozen.process.pid, [])
    assert app.store.sql("SELECT count(*) FROM {sessions} WHERE state = 'dead'") == [(0,)]


@pytest.mark.slow
def test_f24_a_worker_that_starts_again_under_its_own_name_does_not_keep_its_old_jobs_from_being_rescued(
    app: App, tmp_path: Path
) -> None:
    note_ends(app)
    jobs = enqueue_some(app)
    with worker(app, tmp_path, "claim.after=kill", "--name", "same") as killed:
        assert killed.process.wait(PATIENCE) == -signal.SIGKILL

    with worker(app, tmp_path, "", "--name", "same"):
        all_is_well(app, jobs)

    assert app.store.sql("SELECT DISTINCT name FROM {sessions}") == [("same",)]
    assert app.store.sql("SELECT count(*) FROM {sessions} WHERE state = 'dead'") == [(1,)]


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="this system has no clock that goes on while it sleeps")
def test_f23_silence_is_measured_by_a_clock_that_goes_on_while_the_machine_sleeps() -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    now = clock.now()

    assert before <= now <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_f19_nothing_that_a_failed_task_held_is_kept(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    # A handler may keep the record of the error, and pytest's does.
    monkeypatch.setattr(logging.getLogger("fairchild.worker"), "disabled", True)

    class Large:
        pass

    held: list[weakref.ref[Large]] = []

    @app.task(max_attempts=1)
    def bad() -> None:
        local = Large()
        held.append(weakref.ref(local))
        raise ValueError(sys.getrefcount(local))

    app.work(concurrency=1)
    app.wait(*(bad.enqueue() for _ in range(20)))

    def gone() -> bool:
        gc.collect()
        return all(each() is None for each in held)

    assert len(held) == 20
    eventually(gone)
