"""Run the demonstration's workflow on a database and count what it did."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from fairchild.client import Fairchild
from fairchild.demo.portfolio import QUEUE, review_portfolio
from fairchild.errors import ResultTimeout
from fairchild.job import ENDED, Job
from fairchild.worker import Worker

CONCURRENCY = 10
LOOK_SECONDS = 0.1
STANDSTILL_SECONDS = 60.0

Progress = Callable[[int, int], None]
"""Called with (jobs ended, jobs known so far)."""


@dataclass(frozen=True)
class TaskCount:
    """The jobs of one task. Times run from claim to end, so those of a parent include its children."""

    task: str
    jobs: int
    states: dict[str, int]
    mean_seconds: float | None
    max_seconds: float | None


@dataclass
class Shown:
    """What the workflow came to."""

    workflow: UUID
    result: Any
    jobs: int
    seconds: float
    jobs_per_second: float
    tasks: list[TaskCount]
    phases: dict[str, float] = field(default_factory=dict)
    """Seconds of each phase, in their order."""


def run(client: Fairchild, symbols: int, progress: Progress) -> Shown:
    """Start a worker, have the portfolio reviewed, stop the worker.

    Raises JobFailed or JobCancelled when the workflow ends badly, ResultTimeout when it stands still for a minute.
    """
    started = time.monotonic()
    with Worker(client, [QUEUE], CONCURRENCY):
        ready = time.monotonic()
        # The counters also count what earlier demonstrations left in this database.
        before = _ended_and_known(client)
        job = client.enqueue(review_portfolio, {"symbols": symbols})
        _watch(client, job, before, progress)
        done = time.monotonic()
        result = client.get_result(job.id, timeout=0)
        jobs = _all_jobs(client, job.id)
        stopping = time.monotonic()
    stopped = time.monotonic()
    return Shown(
        workflow=job.id,
        result=result,
        jobs=len(jobs),
        seconds=done - ready,
        jobs_per_second=len(jobs) / (done - ready),
        tasks=_count(jobs),
        phases={"worker": ready - started, "workflow": done - ready, "stop": stopped - stopping},
    )


def _watch(client: Fairchild, job: Job, before: tuple[int, int], progress: Progress) -> None:
    last = (-1, -1)
    moved = time.monotonic()
    while True:
        try:
            client.wait(job, timeout=LOOK_SECONDS)
        except ResultTimeout:
            ended, known = _ended_and_known(client)
        else:
            ended, known = _ended_and_known(client)
            progress(ended - before[0], known - before[1])
            return
        progress(ended - before[0], known - before[1])
        if (ended, known) != last:
            last, moved = (ended, known), time.monotonic()
        elif time.monotonic() - moved > STANDSTILL_SECONDS:
            raise ResultTimeout(
                f"the workflow has stood still for {STANDSTILL_SECONDS:.0f} s with {ended - before[0]} of "
                f"{known - before[1]} jobs ended"
            )


def _ended_and_known(client: Fairchild) -> tuple[int, int]:
    counts = client.stats()["queues"].get(QUEUE, {})
    return sum(counts.get(state.value, 0) for state in ENDED), sum(counts.values())


def _all_jobs(client: Fairchild, workflow: UUID) -> list[Job]:
    jobs: list[Job] = []
    cursor = None
    while True:
        page = client.jobs(workflow=workflow, limit=1000, cursor=cursor)
        jobs.extend(page.jobs)
        cursor = page.cursor
        if cursor is None:
            return jobs


def _count(jobs: list[Job]) -> list[TaskCount]:
    by_task: dict[str, list[Job]] = {}
    for job in sorted(jobs, key=lambda job: (job.attempted_at is None, job.attempted_at)):
        by_task.setdefault(job.task.rsplit(".", 1)[-1], []).append(job)
    counts = []
    for task, its in by_task.items():
        took = [(job.ended_at - job.attempted_at).total_seconds() for job in its if job.ended_at and job.attempted_at]
        counts.append(
            TaskCount(
                task=task,
                jobs=len(its),
                states=dict(Counter(job.state.value for job in its)),
                mean_seconds=sum(took) / len(took) if took else None,
                max_seconds=max(took, default=None),
            )
        )
    return counts
