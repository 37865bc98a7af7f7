"""What the workers of these sections run, and how it bears witness.

Each start is noted in ``fx`` on a connection of its own, in autocommit, before anything else is done: that a task began
cannot be taken back by whatever becomes of its attempt. Each completion of those of the storm leaves one row in
``fx_tx``, in the transaction that records it. Both name the claim under which the task ran, by its fence.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from typing import Any
from uuid import uuid4

import psycopg

from fairchild import Future, current_job, task

WITNESS = "FAULTS_WITNESS"
"""The environment variable with the way to the database that a task's witness goes."""
WITNESS_SECONDS = 60.0


class _Witness:
    """A connection of a thread's own, closed when the thread ends."""

    def __init__(self) -> None:
        self.connection = psycopg.connect(
            os.environ[WITNESS], autocommit=True, connect_timeout=5, application_name="witness"
        )

    def __del__(self) -> None:
        if hasattr(self, "connection"):
            self.connection.close()


_own = threading.local()


def _connection() -> psycopg.Connection[Any]:
    witness: _Witness | None = getattr(_own, "witness", None)
    if witness is None or witness.connection.closed:
        witness = _own.witness = _Witness()
    return witness.connection


def testify() -> None:
    """Note that this attempt has begun: once, whatever becomes of the replies."""
    job, start = current_job(), uuid4()
    deadline = time.monotonic() + WITNESS_SECONDS
    while True:
        try:
            _connection().execute(
                "INSERT INTO fx (start, job, fence, pid) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
                [start, job.id, job.fence, os.getpid()],
            )
            return
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def starts() -> int:
    """How often this job has begun, this time included."""
    row = _connection().execute("SELECT count(*) FROM fx WHERE job = %s", [current_job().id]).fetchone()
    assert row is not None
    return int(row[0])


def _effect() -> int:
    testify()
    job = current_job()
    with job.transaction() as connection:
        connection.execute(
            "INSERT INTO fx_tx (job, attempt, fence) VALUES (%s, %s, %s)", [job.id, job.attempt, job.fence]
        )
    return job.fence


# Of the storm, and of whatever the storm's ledger judges. The value of each ends in the fence of its own claim, and its
# children are told that of their parent.


@task(name="faults.plain")
def plain(n: int, seconds: float = 0.0, parent: int = 0) -> list[int]:
    """Writes once, takes its time."""
    fence = _effect()
    time.sleep(seconds)
    return [n, fence]


@task(name="faults.bare")
def bare(n: int) -> list[int]:
    """Writes nothing with its completion."""
    testify()
    return [n, current_job().fence]


@task(name="faults.flaky", max_attempts=5, backoff=[0.01])
def flaky(n: int) -> list[int]:
    """Fails twice; what those attempts wrote must not be there."""
    fence = _effect()
    if current_job().attempt < 3:
        raise ValueError(fence)
    return [n, fence]


@task(name="faults.total")
def total(values: list[list[int]], parent: int = 0) -> list[int]:
    """Gathers."""
    fence = _effect()
    return [sum(n for n, _ in values), fence]


@task(name="faults.workflow")
def workflow(n: int, width: int) -> Future:
    """Fans out and in."""
    fence = _effect()
    return total([plain(n + i, parent=fence) for i in range(width)], parent=fence)  # type: ignore[return-value]


@task(name="faults.fan")
def fan(n: int, width: int) -> list[int]:
    """Calls others and does not wait for their values."""
    testify()
    fence = current_job().fence
    for i in range(width):
        plain(n + i, parent=fence)
    return [n, fence]


# Of the other sections.


@task(name="faults.noop", max_attempts=1, record=False)
def noop(n: int) -> None:
    """Does nothing; one in ten does it badly."""
    if n % 10 == 0:
        raise ValueError("as it should")


@task(name="faults.nap")
def nap(seconds: float) -> None:
    """In one piece, which no interrupt can end."""
    time.sleep(seconds)


@task(name="faults.stay")
def stay(seconds: float) -> None:
    """Stays for so long, the first time; in steps, which an interrupt can end. Begun again, it ends at once."""
    testify()
    if starts() == 1:
        _pass(seconds)


@task(name="faults.steps")
def steps(seconds: float) -> None:
    """Takes so long, in steps."""
    testify()
    _pass(seconds)


@task(name="faults.piece")
def piece(seconds: float) -> None:
    """Takes so long, in one piece."""
    testify()
    time.sleep(seconds)


@task(name="faults.gil")
def gil(seconds: float) -> None:
    """Holds Python's lock for so long, in C: no other thread of its process does anything."""
    testify()
    ctypes.PyDLL(None).usleep(int(seconds * 1_000_000))


@task(name="faults.clock")
def clock() -> float:
    """What time it is where this runs."""
    return time.time()


@task(name="faults.killer")
def killer(after: float = 0.0) -> None:
    """Takes its process along."""
    time.sleep(after)
    ctypes.string_at(0)


@task(name="faults.innocent")
def innocent(n: int, seconds: float = 0.0) -> int:
    """Happens to be there."""
    time.sleep(seconds)
    return n


def _pass(seconds: float) -> None:
    end, never = time.monotonic() + seconds, threading.Event()
    while time.monotonic() < end:
        never.wait(0.02)  # libfaketime breaks time.sleep() where a clock jumps meanwhile
