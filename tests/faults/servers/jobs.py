"""Tasks of workers on another host. Each leaves a row of its own with its completion."""

from __future__ import annotations

import time

from fairchild import current_job, task


@task(name="far.work")
def work(n: int, seconds: float = 0.0) -> int:
    with current_job().transaction() as connection:
        connection.execute("INSERT INTO effects VALUES (%s)", [n])
    if seconds:  # under libfaketime sleep() may raise
        time.sleep(seconds)
    return n
