from __future__ import annotations

import json
import signal
from pathlib import Path

import psycopg
import pytest

from fairchild import Fairchild, Job, JobState
from tests.support.command import TIMEOUT, Running, started
from tests.support.command import fairchild as command
from tests.support.eventually import eventually


def sessions(url: str) -> list[tuple[str, str]]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT name, state FROM fairchild_sessions ORDER BY started_at").fetchall()
        return [(str(name), str(state)) for name, state in rows]


def has_state(client: Fairchild, job: Job, state: JobState) -> bool:
    found = client.get_job(job.id)
    return found is not None and found.state is state


def stop(running: Running, number: signal.Signals = signal.SIGTERM) -> int:
    running.process.send_signal(number)
    return running.process.wait(TIMEOUT)


def test_it_runs_jobs_of_all_queues(fairchild: Fairchild, fairchild_db: str, folder: Path) -> None:
    jobs = [fairchild.enqueue("shop.add", {"a": 1}), fairchild.enqueue("shop.greet", {"name": "Ada"}, queue="mail")]
    with started(["worker", "--import", "shop"], folder=folder, url=fairchild_db) as running:
        ended = fairchild.wait(jobs, timeout=TIMEOUT)
        assert [job.result for job in ended] == [2, {"greeted": "Ada"}]
        assert stop(running) == 0
    assert running.printed() == "greeting Ada\n"
    assert "from all queues" in running.said()


@pytest.mark.parametrize("queues", ["mail,other", "mail:2,other:1", "other, mail:1"])
def test_it_takes_only_from_the_queues_named(
    queues: str, fairchild: Fairchild, fairchild_db: str, folder: Path
) -> None:
    left = fairchild.enqueue("shop.add", {"a": 1})
    taken = fairchild.enqueue("shop.greet", {"name": "Ada"}, queue="mail")
    arguments = ["worker", "-i", "shop", "--queues", queues, "--concurrency", "2", "--name", "worker-7"]
    with started(arguments, folder=folder, url=fairchild_db) as running:
        assert fairchild.wait(taken, timeout=TIMEOUT)[0].state is JobState.COMPLETED
        assert sessions(fairchild_db) == [("worker-7", "running")]
        assert stop(running) == 0
    assert has_state(fairchild, left, JobState.AVAILABLE)
    assert sessions(fairchild_db) == [("worker-7", "stopped")]


def test_several_modules_repeated_and_with_commas(fairchild: Fairchild, fairchild_db: str, folder: Path) -> None:
    for name in ("one", "two", "three"):
        (folder / f"{name}.py").write_text(f"from fairchild import task\n@task\ndef f():\n    return {name!r}\n")
    jobs = [fairchild.enqueue(f"{name}.f") for name in ("one", "two", "three")]
    with started(["worker", "-i", "one, two", "--import", "three"], folder=folder, url=fairchild_db) as running:
        assert [job.result for job in fairchild.wait(jobs, timeout=TIMEOUT)] == ["one", "two", "three"]
        assert stop(running) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_running_jobs_end_and_exits_0(
    number: signal.Signals, fairchild: Fairchild, fairchild_db: str, folder: Path
) -> None:
    job = fairchild.enqueue("shop.until", {"file": "go"})
    with started(["worker", "-i", "shop"], folder=folder, url=fairchild_db) as running:
        eventually(lambda: has_state(fairchild, job, JobState.RUNNING), what=running.said)
        running.process.send_signal(number)
        eventually(lambda: [state for _, state in sessions(fairchild_db)] == ["draining"])
        late = fairchild.enqueue("shop.add", {"a": 1})
        assert running.process.poll() is None
        (folder / "go").touch()
        assert running.process.wait(TIMEOUT) == 0
    assert has_state(fairchild, job, JobState.COMPLETED)
    assert has_state(fairchild, late, JobState.AVAILABLE)


def test_a_second_signal_gives_running_jobs_back(fairchild: Fairchild, fairchild_db: str, folder: Path) -> None:
    job = fairchild.enqueue("shop.until", {"file": "never"})
    with started(["worker", "-i", "shop"], folder=folder, url=fairchild_db) as running:
        eventually(lambda: has_state(fairchild, job, JobState.RUNNING), what=running.said)
        running.process.send_signal(signal.SIGTERM)
        eventually(lambda: [state for _, state in sessions(fairchild_db)] == ["draining"])
        assert stop(running) == 130
    job.refresh()
    assert (job.state, job.attempt, job.errors[-1]["kind"]) == (JobState.AVAILABLE, 0, "interrupted")


def test_the_time_to_shut_down_is_kept(fairchild: Fairchild, fairchild_db: str, folder: Path) -> None:
    job = fairchild.enqueue("shop.until", {"file": "never"})
    arguments = ["worker", "-i", "shop", "--shutdown-timeout", "0.1"]
    with started(arguments, folder=folder, url=fairchild_db) as running:
        eventually(lambda: has_state(fairchild, job, JobState.RUNNING), what=running.said)
        assert stop(running) == 0
    assert has_state(fairchild, job, JobState.AVAILABLE)


def test_several_processes_drain_together(fairchild: Fairchild, fairchild_db: str, folder: Path) -> None:
    arguments = ["worker", "-i", "shop", "--processes", "2", "--concurrency", "1"]
    with started(arguments, folder=folder, url=fairchild_db) as running:
        eventually(lambda: [state for _, state in sessions(fairchild_db)] == ["running"] * 2, what=running.said)
        jobs = [fairchild.enqueue("shop.until", {"file": "go"}) for _ in range(2)]
        eventually(lambda: all(has_state(fairchild, job, JobState.RUNNING) for job in jobs), what=running.said)
        running.process.send_signal(signal.SIGTERM)
        eventually(lambda: [state for _, state in sessions(fairchild_db)] == ["draining"] * 2)
        (folder / "go").touch()
        assert running.process.wait(TIMEOUT) == 0
    assert all(has_state(fairchild, job, JobState.COMPLETED) for job in jobs)


def test_log_lines_can_be_json(fairchild: Fairchild, fairchild_db: str, folder: Path) -> None:
    (folder / "talk.py").write_text(
        "import logging\nfrom fairchild import task\n"
        "@task\ndef f():\n    logging.getLogger('talk').info('hello', extra={'order': 7})\n"
    )
    job = fairchild.enqueue("talk.f")
    arguments = ["worker", "-i", "talk", "--log-format", "json", "--log-level", "INFO"]
    with started(arguments, folder=folder, url=fairchild_db) as running:
        fairchild.wait(job, timeout=TIMEOUT)
        assert stop(running) == 0
    entries = [json.loads(line) for line in running.said().splitlines()]
    hello = next(entry for entry in entries if entry["logger"] == "talk")
    assert (hello["level"], hello["message"], hello["order"]) == ("info", "hello", 7)
    assert "fairchild.worker" in {entry["logger"] for entry in entries}


def test_the_log_level_is_kept(fairchild: Fairchild, fairchild_db: str, folder: Path) -> None:
    job = fairchild.enqueue("shop.add", {"a": 1})
    with started(["worker", "-i", "shop", "--log-level", "error"], folder=folder, url=fairchild_db) as running:
        fairchild.wait(job, timeout=TIMEOUT)
        assert stop(running) == 0
    assert running.said() == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name the modules with @task functions by --import"),
        (["-i", "empty"], "empty defines no task"),
        (["-i", "no_such_module"], "cannot import no_such_module: ModuleNotFoundError"),
        (["-i", "shop", "--concurrency", "0"], "concurrency is a whole number from 1"),
        (["-i", "shop", "--queues", "mail:0"], "at least 1 slot"),
        (["-i", "shop", "--queues", ","], "queue must not be empty"),
        (["-i", "shop", "--processes", "0"], "processes"),
        (["-i", "shop", "--heartbeat-interval", "20"], "heartbeat_interval"),
        (["-i", "shop", "--poll-interval", "0"], "poll_interval must be positive"),
    ],
)
def test_wrong_use_is_one_line_and_exit_2(arguments: list[str], words: str, fairchild_db: str, folder: Path) -> None:
    (folder / "empty.py").touch()
    done = command("worker", *arguments, folder=folder, url=fairchild_db)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert words in done.stderr


def test_options_come_from_the_environment(fairchild: Fairchild, fairchild_db: str, folder: Path) -> None:
    done = command("worker", folder=folder, url=fairchild_db, FAIRCHILD_IMPORT="shop", FAIRCHILD_WORKER_CONCURRENCY="0")
    assert done.returncode == 2
    assert "concurrency" in done.stderr
