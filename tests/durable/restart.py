"""A durable job sleeps two hours while everything is restarted: the worker, its process, and the server."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from fairchild import Fairchild, Record, sleep, step, task
from fairchild.testing import fast_forward
from fairchild.worker import Worker

HOURS = 2
ROOT = Path(__file__).parents[2]


@task(durable=True)
def nap() -> Any:
    before = step(os.getpid)
    sleep(hours=HOURS)
    return Record([before, os.getpid()])


def begin(client: Fairchild) -> str:
    """Enqueue it and work until it sleeps, holding nothing; its id."""
    client.install()
    job = nap.enqueue()
    worker = Worker(client, concurrency=1, poll_interval=0.1).start()
    try:
        while job.refresh().state != "waiting":
            time.sleep(0.01)
        held, busy = worker._pool.held(), worker._pool.busy()
        with client.database.link() as link:
            asleep = link.script(
                "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' OR wait_event = 'PgSleep'"
            )[0][0]
    finally:
        worker.stop()
    assert (held, busy, asleep) == (0, 0, 0), (held, busy, asleep)
    return str(job.id)


def go_on(client: Fairchild, job_id: str, **time_passed: float) -> str:
    """Let time pass and work for a moment; the job's state, and its result if it has one."""
    fast_forward(client, **time_passed)
    with Worker(client, concurrency=1, poll_interval=0.1):
        deadline = time.monotonic() + 5
        job = client.get_job(job_id)
        while job is not None and not job.ended and time.monotonic() < deadline:
            time.sleep(0.05)
            job.refresh()
    assert job is not None
    return f"{job.state} {job.result}"


def nap_across_a_restart(folder: str) -> str:
    """Each part in a process of its own, after which the server of the folder stops. What was seen, in words."""
    job_id = _apart(folder, "begin").strip()
    early = _apart(folder, "go_on", job_id, "minutes", "119")
    late = _apart(folder, "go_on", job_id, "minutes", "1")
    assert early.startswith("waiting"), early
    assert late.startswith("completed"), late
    return f"sleep(hours={HOURS}) held no thread and no transaction, and was over after two restarts of all: {late}"


def _apart(folder: str, *args: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.durable.restart", folder, *args],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def main() -> None:
    """``FOLDER begin`` or ``FOLDER go_on JOB UNIT NUMBER``."""
    folder, what, *rest = sys.argv[1:]
    with Fairchild(f"embedded:{folder}/data") as client:
        print(begin(client) if what == "begin" else go_on(client, rest[0], **{rest[1]: float(rest[2])}))


if __name__ == "__main__":
    main()
