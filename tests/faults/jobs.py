"""What the workers of a storm run. Each completion leaves one row of its own, in the transaction that records it."""

from __future__ import annotations

import time

from fairchild import current_job, task


def _effect() -> None:
    job = current_job()
    with job.transaction() as connection:
        connection.execute("INSERT INTO fx_tx (job, attempt) VALUES (%s, %s)", [job.id, job.attempt])


@task(name="storm.plain")
def plain(n: int, seconds: float = 0.0) -> int:
    """Writes once, takes its time."""
    _effect()
    time.sleep(seconds)
    return n


@task(name="storm.flaky", max_attempts=5, backoff=[0.01])
def flaky(n: int) -> int:
    """Fails twice; what those attempts wrote must not be there."""
    _effect()
    if current_job().attempt < 3:
        raise ValueError(n)
    return n


@task(name="storm.total")
def total(values: list[int]) -> int:
    """Gathers."""
    _effect()
    return sum(values)


@task(name="storm.workflow")
def workflow(n: int, width: int) -> int:
    """Fans out and in."""
    _effect()
    return total([plain(n + i) for i in range(width)])
