"""Tasks that run in child processes: what they can do there, what ends them, and who pays when they die."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fairchild.errors import UsageError
from fairchild.tasks import Registry, TaskDecorator
from fairchild.worker import isolated as module
from tests.support import isolated as tasks
from tests.support.app import PATIENCE, App
from tests.support.command import environment
from tests.support.eventually import eventually


@pytest.fixture
def crew(app: App) -> App:
    """An application that knows the tasks of tests/support/isolated.py."""
    for each in tasks.tasks.tasks():
        app.client.registry.register(each)
    return app


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_task_runs_in_a_process_of_its_own_which_is_kept_for_the_next(crew: App) -> None:
    crew.work(concurrency=1)
    first, second = crew.result(tasks.pid.enqueue()), crew.result(tasks.pid.enqueue())

    assert first != os.getpid()
    assert first == second
    assert crew.result(tasks.pid_in_thread.enqueue()) == os.getpid()
    assert crew.result(tasks.pid_of_coroutine.enqueue()) == first


def test_no_process_is_left_when_the_worker_has_stopped(crew: App) -> None:
    worker = crew.work()
    pid = crew.result(tasks.leaves_a_thread.enqueue())
    assert is_alive(pid)

    worker.stop()

    assert not is_alive(pid)


def test_children_results_meta_and_values_go_both_ways(crew: App) -> None:
    crew.work()
    job = tasks.family.enqueue(5)

    assert crew.result(job) == 7
    assert crew.get(job).meta == {"seen": 5}
    assert [each.result for each in crew.children(job)] == [6, 7]
    assert crew.result(tasks.echo.enqueue({"a": [1, None, "\u2603", 1.5]})) == {"a": [1, None, "\u2603", 1.5]}
    assert crew.result(crew.result(tasks.enqueues.enqueue())) == 3


def test_what_a_task_writes_commits_with_its_completion_or_not_at_all(crew: App) -> None:
    crew.store.link.script("CREATE TABLE effects (n int)")
    worker = crew.work()
    jobs = [tasks.writes.enqueue(n) for n in (1, -2, 3)]

    assert [job.state for job in crew.wait(*jobs)] == ["completed", "failed", "completed"]
    assert crew.store.sql("SELECT n FROM effects ORDER BY n") == [(1,), (3,)]
    assert crew.get(jobs[1]).reason == "poison"
    eventually(lambda: worker.counts["completed"] == 2)


def test_called_outside_of_a_worker_it_runs_here(crew: App) -> None:
    assert tasks.pid() == os.getpid()


def test_an_error_spends_an_attempt_and_its_logs_reach_the_workers_handlers(
    crew: App, caplog: pytest.LogCaptureFixture
) -> None:
    crew.work()
    (job,) = crew.wait(tasks.fails.enqueue())

    assert (job.state, job.reason, job.attempt) == ("failed", "error", 1)
    assert job.errors[0]["type"] == "ValueError"
    assert "as it should" in job.errors[0]["traceback"]
    (record,) = [each for each in caplog.records if each.name == "tests.isolated"]
    assert (record.levelno, record.getMessage(), record.__dict__["order"]) == (logging.WARNING, "about to fail", 7)


def test_python_code_past_its_timeout_is_interrupted_in_the_process_which_stays(crew: App) -> None:
    crew.work(concurrency=1)
    before = crew.result(tasks.pid.enqueue())
    (job,) = crew.wait(tasks.spins.enqueue())

    assert (job.state, job.reason, job.attempt, job.errors[0]["kind"]) == ("failed", "timeout", 1, "timeout")
    assert "in spins" in job.errors[0]["traceback"]
    assert crew.result(tasks.pid.enqueue()) == before


def test_code_outside_of_python_past_its_timeout_is_killed(crew: App, tmp_path: Path) -> None:
    crew.work(concurrency=1)
    path = tmp_path / "pid"
    (job,) = crew.wait(tasks.deaf.enqueue(str(path)))

    assert (job.state, job.reason, job.attempt, job.errors[0]["kind"]) == ("failed", "timeout", 1, "timeout")
    assert "its process was killed" in job.errors[0]["message"]
    assert not is_alive(int(path.read_text()))
    assert crew.store.row(job.id, "losses") == (0,)


def test_a_task_that_swallows_interrupts_and_sigterm_is_killed_all_the_same(crew: App) -> None:
    crew.work()
    (job,) = crew.wait(tasks.swallows.enqueue())

    assert (job.state, job.reason) == ("failed", "timeout")


def test_a_cancelled_job_notices_or_is_killed(crew: App, tmp_path: Path) -> None:
    crew.work()
    polite, deaf = tmp_path / "polite", tmp_path / "deaf"
    jobs = [tasks.holds.enqueue(str(polite)), tasks.deaf.options(timeout=60).enqueue(str(deaf))]
    eventually(lambda: polite.exists() and deaf.exists() and deaf.read_text(), PATIENCE)
    for job in jobs:
        job.cancel("not needed")

    assert [(job.state, job.reason) for job in crew.wait(*jobs)] == [("cancelled", "not needed")] * 2
    assert not is_alive(int(deaf.read_text()))


def test_a_worker_that_stops_kills_what_does_not_end_before_it_gives_it_back(crew: App, tmp_path: Path) -> None:
    worker = crew.work()
    path = tmp_path / "pid"
    job = tasks.deaf.options(timeout=60).enqueue(str(path))
    pid = int(eventually(lambda: path.exists() and path.read_text(), PATIENCE))

    worker.stop(timeout=0)

    assert not is_alive(pid)
    found = crew.get(job)
    assert (found.state, found.attempt, found.errors[0]["kind"]) == ("available", 0, "interrupted")
    assert crew.store.row(job.id, "losses") == (0,)


def test_memory_past_its_limit_is_an_error_of_the_task_alone(crew: App) -> None:
    crew.work(concurrency=1)
    before = crew.result(tasks.pid.enqueue())
    (job,) = crew.wait(tasks.eats.enqueue(400))

    assert (job.state, job.attempt, job.errors[0]["type"]) == ("failed", 1, "MemoryError")
    assert crew.result(tasks.eats.enqueue(20)) == 20 * 1024 * 1024
    assert crew.result(tasks.pid.enqueue()) == before


@pytest.mark.parametrize(
    ("how", "said"), [("segfault", "SIGSEGV"), ("exit", "exit code 3"), ("abort", "SIGABRT"), ("kill", "SIGKILL")]
)
def test_a_process_that_dies_three_times_makes_its_job_poison_and_no_other(
    crew: App, how: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    worker = crew.work(concurrency=4)
    others = [tasks.add.enqueue(n, n) for n in range(8)]
    (job,) = crew.wait(tasks.dies.enqueue(how))

    assert (job.state, job.reason, job.attempt) == ("failed", "poison", 0)
    assert [entry["kind"] for entry in job.errors] == ["lost"] * 3
    assert said in job.errors[0]["message"]
    assert crew.store.row(job.id, "losses") == (3,)
    assert [crew.result(each) for each in others] == [n + n for n in range(8)]
    assert all(not each.errors for each in crew.wait(*others))
    assert worker.alive
    assert "last words" in caplog.text


def test_poison_that_is_retried_by_hand_gets_three_lives_again(crew: App) -> None:
    crew.work()
    (job,) = crew.wait(tasks.dies.enqueue("exit"))
    job.retry()
    eventually(lambda: len(crew.get(job).errors) == 6 and crew.get(job).state == "failed", PATIENCE)

    assert crew.get(job).reason == "poison"


def test_sys_exit_is_a_failure_of_the_job(crew: App) -> None:
    crew.work()
    (job,) = crew.wait(tasks.sys_exit.enqueue())

    assert (job.state, job.reason, job.errors[0]["type"]) == ("failed", "error", "SystemExit")


def test_a_child_that_ended_while_idle_is_replaced_without_a_trace(crew: App) -> None:
    crew.work(concurrency=1)
    first = crew.result(tasks.pid.enqueue())
    os.kill(first, signal.SIGKILL)
    job = tasks.pid.enqueue()

    assert crew.result(job) not in (first, os.getpid())
    assert crew.store.row(job.id, "losses") == (0,)


def test_many_processes_that_come_and_go_leave_nothing_behind(crew: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RUNS", 3)
    worker = crew.work(concurrency=4)
    crew.result(tasks.pid.enqueue())
    pids, before = set(), open_descriptors()
    for _ in range(3):
        jobs = [tasks.pid.enqueue() for _ in range(8)]
        crew.wait(tasks.dies.enqueue("segfault"), tasks.dies.enqueue("exit"))
        pids |= {crew.result(job) for job in jobs}
    children = worker._pool.children
    assert children is not None
    eventually(lambda: not any(is_alive(each) for each in pids - {process.pid for process in children._all}))
    assert len(children._all) <= 4
    assert open_descriptors() <= before + 4 * 3  # a wire, a pipe and a pidfd of each child that lives

    worker.stop()
    assert not any(map(is_alive, pids))
    assert children._all == set()


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_worker_that_is_killed_takes_its_processes_along(app: App, tmp_path: Path) -> None:
    script = tmp_path / "crew.py"
    script.write_text(
        "from fairchild import Fairchild\n"
        "from fairchild.worker import WorkerPool\n"
        "from tests.support.isolated import tasks\n"
        "WorkerPool(Fairchild(registry=tasks), concurrency=4, poll_interval=0.1).start()\n"
    )
    worker = subprocess.Popen([sys.executable, str(script)], env=environment(app.url))
    try:
        paths = [tmp_path / name for name in ("deaf", "holds", "grandchild")]
        app.client.enqueue(tasks.deaf.options(timeout=60), {"path": str(paths[0])})
        app.client.enqueue(tasks.holds, {"path": str(paths[1])})
        app.client.enqueue(tasks.holds, {"path": str(paths[2]), "family": True})
        pids = [int(eventually(lambda path=path: path.exists() and path.read_text(), PATIENCE)) for path in paths]  # type: ignore[misc]
        assert all(map(is_alive, pids))
    finally:
        worker.kill()
        worker.wait()

    eventually(lambda: not any(map(is_alive, pids)), PATIENCE)


SCRIPT = """
import os, sys
from fairchild import Fairchild, task
from fairchild.worker import WorkerPool

@task(isolation="process", name="script.whoami")
def whoami():
    return [os.getpid(), __name__, sys.argv]

client = Fairchild()
client.connect()
whoami.enqueue()
{work}
"""


@pytest.mark.parametrize(
    "work",
    [
        'if __name__ == "__main__":\n    WorkerPool(client, poll_interval=0.1).start()',
        "WorkerPool(client, poll_interval=0.1).start()",
    ],
)
def test_tasks_of_a_script_are_found_and_the_script_is_not_run_again(app: App, tmp_path: Path, work: str) -> None:
    script = tmp_path / "my script.py"
    script.write_text(SCRIPT.format(work=work))
    worker = subprocess.Popen([sys.executable, str(script), "an argument"], env=environment(app.url))
    try:
        (job,) = eventually(lambda: app.client.jobs().jobs, PATIENCE)
        pid, name, argv = app.result(job)
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(PATIENCE)

    assert pid != worker.pid
    assert (name, argv) == ("my script", [str(script), "an argument"])
    assert len(app.client.jobs().jobs) == 1


def test_a_task_that_no_child_finds_fails_and_says_so(app: App) -> None:
    made = TaskDecorator(app.client.registry)(isolation="process", max_attempts=1, name="hidden")(hidden)
    app.work()
    (job,) = app.wait(made.enqueue())

    assert (job.state, job.reason, job.errors[0]["type"]) == ("failed", "error", "NotIsolated")
    assert "top level of its module" in job.errors[0]["message"]


def hidden() -> int:
    return os.getpid()


def test_a_suspect_that_no_child_finds_runs_among_others_and_a_warning_says_so(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    made = TaskDecorator(app.client.registry)(name="hidden")(hidden)
    job = made.enqueue()
    app.store.sql("UPDATE {jobs} SET losses = 1")
    app.work()

    assert app.result(job) == os.getpid()
    assert "should run in a process of its own, which its task cannot" in caplog.text


def test_a_suspect_runs_in_a_process_of_its_own_whatever_its_task_says(crew: App) -> None:
    job = tasks.pid_in_thread.enqueue()
    crew.store.sql("UPDATE {jobs} SET losses = 1")
    crew.work()

    assert crew.result(job) != os.getpid()


def test_options_that_cannot_be_are_refused() -> None:
    made = TaskDecorator(Registry())

    def local() -> None: ...

    with pytest.raises(UsageError, match='"thread" or "process"'):
        made(isolation="fibre")(hidden)
    with pytest.raises(UsageError, match="top level of a module"):
        made(isolation="process")(local)
    with pytest.raises(UsageError, match='needs isolation="process"'):
        made(memory_mb=10)(hidden)
    with pytest.raises(UsageError, match="positive number of megabytes"):
        made(isolation="process", memory_mb=0)(hidden)
