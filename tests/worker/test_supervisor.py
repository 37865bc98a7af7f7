"""Several worker processes under one: replaced when they die or have had their share, drained together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fairchild import Fairchild
from fairchild.errors import UsageError
from fairchild.tasks import Registry
from fairchild.worker import WorkerPool
from tests.support.eventually import eventually

PATIENCE = 30.0
PROGRAM = """
import json, sys
from fairchild import Fairchild, task
from fairchild.worker import WorkerPool

@task(name="supervised.hold")
def hold(path: str):
    import os, time
    open(path, "w").write(str(os.getpid()))
    while not os.path.exists(path + ".go"):
        time.sleep(0.01)
    return os.getpid()

@task(name="supervised.pid")
def pid(i: int):
    import os
    return os.getpid()

client = Fairchild()
WorkerPool(client, name="crew", concurrency=2, lease=2, poll_interval=0.1, **json.loads(sys.argv[1])).start()
"""

Start = Callable[[str], "subprocess.Popen[bytes]"]


@pytest.fixture
def start(tmp_path: Path, fairchild_db: str) -> Iterator[Start]:
    """Start a program with a pool of these options."""
    program = tmp_path / "crew.py"
    program.write_text(PROGRAM)
    started: list[subprocess.Popen[bytes]] = []

    def run(options: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "FAIRCHILD_DATABASE_URL": fairchild_db}
        process = subprocess.Popen([sys.executable, str(program), options], env=environment, start_new_session=True)
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def living(client: Fairchild) -> dict[str, int]:
    """Name and pid of the sessions that are not over."""
    with client.database.link() as link:
        rows = link.script("SELECT name, pid FROM fairchild_sessions WHERE state = 'running'")
    return {row[0]: row[1] for row in rows}


def crew_of(client: Fairchild, size: int) -> dict[str, int]:
    return eventually(lambda: found if len(found := living(client)) == size else {}, PATIENCE)


def test_processes_work_side_by_side_and_drain_together(fairchild: Fairchild, start: Start, tmp_path: Path) -> None:
    process = start('{"processes": 2}')
    crew = crew_of(fairchild, 2)
    paths = [tmp_path / f"job{number}" for number in range(4)]
    jobs = [fairchild.enqueue("supervised.hold", {"path": str(path)}) for path in paths]
    eventually(lambda: all(path.exists() for path in paths), PATIENCE)

    process.send_signal(signal.SIGTERM)
    eventually(lambda: not living(fairchild), PATIENCE)
    for path in paths:
        path.with_name(path.name + ".go").touch()

    done = fairchild.wait(jobs, timeout=PATIENCE)
    assert set(crew) == {"crew.0", "crew.1"}
    assert {job.result for job in done} == set(crew.values())
    assert process.wait(PATIENCE) == 0


def test_a_process_that_dies_is_replaced_and_its_job_runs_elsewhere(
    fairchild: Fairchild, start: Start, tmp_path: Path
) -> None:
    process = start('{"processes": 2}')
    before = crew_of(fairchild, 2)
    path = tmp_path / "job"
    job = fairchild.enqueue("supervised.hold", {"path": str(path)})
    victim = int(eventually(lambda: path.exists() and path.read_text(), PATIENCE))

    path.unlink()
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: path.exists() and path.read_text(), PATIENCE)
    path.with_name("job.go").touch()

    ended = job.wait(timeout=PATIENCE)
    assert ended.result != victim
    assert [error["kind"] for error in ended.errors] == ["lost"]
    eventually(lambda: (now := living(fairchild)).keys() == before.keys() and victim not in now.values(), PATIENCE)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0


def test_a_process_is_replaced_when_it_has_run_its_share_of_jobs(fairchild: Fairchild, start: Start) -> None:
    start('{"max_jobs_per_process": 20}')
    first = crew_of(fairchild, 1)

    ids = fairchild.enqueue_many("supervised.pid", ({"i": number} for number in range(200)))

    pids = {job.result for job in fairchild.wait(ids, timeout=PATIENCE)}
    assert pids >= set(first.values())
    eventually(lambda: set(living(fairchild).values()) - set(first.values()), PATIENCE)


def test_a_process_is_replaced_when_it_holds_too_much_memory(fairchild: Fairchild, start: Start) -> None:
    start('{"max_memory_mb": 1}')  # less than an interpreter takes, so each is replaced after its first look

    seen: set[int] = set()

    def three() -> bool:
        seen.update(living(fairchild).values())
        return len(seen) >= 3

    eventually(three, PATIENCE)


def test_the_children_of_a_killed_parent_drain_on_their_own(fairchild: Fairchild, start: Start) -> None:
    process = start('{"processes": 2}')
    crew_of(fairchild, 2)

    process.kill()

    eventually(lambda: not living(fairchild), PATIENCE)


def test_several_processes_refuse_to_be_embedded() -> None:
    client = Fairchild("postgresql://nowhere.invalid/none", registry=Registry())
    with pytest.raises(UsageError, match="need start\\(\\) to block"):
        WorkerPool(client, processes=2).start(block=False)
    with pytest.raises(UsageError, match="from 1 to"):
        WorkerPool(client, processes=0)
    with pytest.raises(UsageError, match="max_memory_mb must be positive"):
        WorkerPool(client, max_memory_mb=0)
