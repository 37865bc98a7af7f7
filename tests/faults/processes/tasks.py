"""What the workers run that are killed on purpose: tasks that go every way through a worker there is."""

from __future__ import annotations

import os
import time
from pathlib import Path

from fairchild import current_job, task


@task(name="steps.plain")
def plain(n: int) -> int:
    return n


@task(name="steps.writer")
def writer(n: int) -> int:
    """Its one effect commits with its completion."""
    job = current_job()
    with job.transaction() as connection:
        connection.execute("INSERT INTO effects (job) VALUES (%s)", [job.id])
    return n


@task(name="steps.flaky", max_attempts=3, backoff="none")
def flaky(n: int) -> int:
    """Fails once."""
    if current_job().attempt < 2:
        raise ValueError(n)
    return n


@task(name="steps.total")
def total(values: list[int]) -> int:
    return sum(values)


@task(name="steps.family")
def family(n: int) -> int:
    """Three children: two values and their sum."""
    return total([plain(n), writer(n)])


@task(name="steps.held")
def held(folder: str) -> int:
    """Says where it runs, and runs until there is a file ``go``."""
    job = current_job()
    part = Path(folder) / f"{os.getpid()}.part"
    part.write_text(str(job.id))
    part.rename(part.with_suffix(".runs"))
    while not (Path(folder) / "go").exists():
        time.sleep(0.01)
    return os.getpid()
