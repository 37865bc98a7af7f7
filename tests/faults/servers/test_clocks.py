"""Clocks that are wrong or jump: those of workers, and the server's own; and an outage longer than a lease."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from fairchild import Fairchild
from fairchild.tasks import Registry
from tests.faults.servers import jobs
from tests.faults.servers.needs import CLOCKS, clocks
from tests.support.app import App, once_again
from tests.support.cluster import Cluster, cluster, new_folder
from tests.support.command import environment
from tests.support.eventually import eventually

PATIENCE = 60.0


def faked(offset: str) -> dict[str, str]:
    """The environment of a process whose calendar is wrong; its stopwatch is not."""
    return {"LD_PRELOAD": str(CLOCKS[0]), "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


@pytest.fixture
def client(server_db: str) -> Iterator[Fairchild]:
    with Fairchild(server_db, registry=Registry()) as made:
        with made.database.link() as link:
            link.script("CREATE TABLE effects (n int)")
        yield made


@clocks
@pytest.mark.parametrize("offset", ["+1h", "-1h", "+1d", "-1d"])
def test_f61_a_worker_with_a_wrong_clock_and_zone_does_everything_at_the_right_time(
    client: Fairchild, server_db: str, offset: str
) -> None:
    arguments = ["-m", "fairchild", "worker", "--import", "tests.faults.servers.jobs", "--lease", "2",
                 "--poll-interval", "0.1", "--shutdown-timeout", "1"]  # fmt: skip
    processes = [
        subprocess.Popen(
            [sys.executable, *arguments],
            env=environment(server_db, TZ="America/New_York", **more),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for more in (faked(offset), {})  # half of the fleet
    ]
    try:
        ids = client.enqueue_many(jobs.work, ({"n": n} for n in range(200)))
        soon = client.enqueue(jobs.work, {"n": 200}, delay=1.0)
        later = client.enqueue(jobs.work, {"n": 201}, delay=1800)
        done = client.wait([*ids, soon.id], timeout=PATIENCE)
        eventually(lambda: len(client.live_workers()) == 2, PATIENCE)
        assert all(process.poll() is None for process in processes)
    finally:
        for process in processes:
            process.kill()
            process.wait()

    assert [job.errors for job in done if job.errors] == []
    assert {(job.state, job.attempt) for job in done} == {("completed", 1)}
    found = client.get_job(later.id)
    assert found is not None
    assert found.state == "scheduled"
    now = datetime.now(timezone.utc)
    assert all(abs(job.ended_at - now) < timedelta(minutes=5) for job in done if job.ended_at is not None)


@clocks
def test_f62_when_the_servers_clock_jumps_nobody_is_taken_for_dead(caplog: pytest.LogCaptureFixture) -> None:
    folder = new_folder()
    offset = folder / "offset"
    offset.write_text("+0\n")
    offset.chmod(0o644)
    lying = {
        "LD_PRELOAD": str(CLOCKS[0]),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    with cluster(folder=folder, environment=lying) as server:
        Fairchild(server.url).install()
        with App(server.url).closing() as app:
            go = threading.Event()
            runs: list[int] = []

            @app.task(name="jump.holds")
            def holds(n: int) -> int:
                runs.append(n)
                assert go.wait(PATIENCE)
                return n

            workers = [app.work(concurrency=3, lease=2.0) for _ in range(2)]
            sessions = [worker.session for worker in workers]
            held = [holds.enqueue(n) for n in range(4)]
            for job in held:
                app.reaches(job, "running")
            later = app.client.enqueue(holds, {"n": 4}, delay=1800)
            for jump in ("+3600", "-1800", "+7200", "+0"):
                before = [worker._acknowledged for worker in workers]
                set_offset(server, offset, jump)
                # Three beats and looks of everybody, and as long as a lease.
                for _ in range(8):
                    eventually(lambda: all(w._acknowledged > b for w, b in zip(workers, before)), PATIENCE)  # noqa: B023, B905
                    before = [worker._acknowledged for worker in workers]
            assert app.reaches(later, "running").attempt == 1  # it became due by the first jump, once
            go.set()

            assert [job.result for job in app.wait(*held, later)] == [0, 1, 2, 3, 4]
            assert sorted(runs) == [0, 1, 2, 3, 4]
            assert [worker.session for worker in workers] == sessions
            assert all(job.errors == [] for job in app.wait(*held, later))
    assert "taken for dead" not in caplog.text
    assert "is dead" not in caplog.text


def set_offset(server: Cluster, file: Path, offset: str) -> None:
    """Have the server's clock jump, and see that it did."""
    file.write_text(offset + "\n")
    wanted = float(offset)

    def jumped() -> bool:
        (row,) = server.ask("SELECT extract(epoch FROM clock_timestamp())::float8")
        return abs(float(str(row[0])) - datetime.now(timezone.utc).timestamp() - wanted) < 60

    eventually(jumped, PATIENCE)


def test_f63_an_outage_longer_than_a_lease_makes_nobody_dead(caplog: pytest.LogCaptureFixture) -> None:
    with cluster() as server:
        Fairchild(server.url).install()
        with App(server.url).closing() as app:
            go = threading.Event()
            runs: list[int] = []

            @app.task(name="outage.holds")
            def holds(n: int) -> int:
                runs.append(n)
                while not go.is_set():
                    go.wait(0.02)
                return n

            workers = [app.work(concurrency=1, lease=4.0) for _ in range(3)]
            sessions = [worker.session for worker in workers]
            held = [holds.enqueue(n) for n in range(3)]
            for job in held:
                app.reaches(job, "running")
            server.stop()
            # Longer than anything that is measured in leases; the workers have given up on being heard.
            eventually(lambda: all(worker._claimer.fenced for worker in workers), PATIENCE)
            threading.Event().wait(4.0)
            server.start()
            eventually(lambda: not any(worker._claimer.fenced for worker in workers), PATIENCE)
            app.store = once_again(app)
            go.set()
            done = app.wait(*held)

            assert [job.result for job in done] == [0, 1, 2]
            assert [worker.session for worker in workers] == sessions
            assert {job.attempt for job in done} == {1}
            assert app.store.sql("SELECT count(*) FROM {sessions} WHERE state = 'dead'") == [(0,)]
    assert "taken for dead" not in caplog.text
