"""Draining: workers in processes of their own, a pile of jobs, and a watch that costs the database nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairchild.bench import tally
from fairchild.bench.arena import Arena, Tables
from fairchild.bench.figures import fifths
from fairchild.bench.processes import Child, Process, until

LOOK_SECONDS = 0.005


@dataclass(frozen=True)
class Drained:
    """What a drain came to, from the start of the first job to the moment when the database had none left."""

    jobs: int
    seconds: float
    first_fifth: float
    last_fifth: float
    worker_us: float | None
    """CPU microseconds of the worker processes for each job."""
    server_us: float | None
    """CPU microseconds of the whole server for each job."""

    @property
    def rate(self) -> float:
        """Jobs per second."""
        return self.jobs / self.seconds


def watch(arena: Arena, workers: Sequence[Process], folder: Path, jobs: int, pending: Callable[[], bool]) -> Drained:
    """Wait until ``jobs`` jobs have started and the database has none left."""
    deadline = time.monotonic() + arena.plan.limit
    samples: list[tuple[float, int]] = []
    before: tuple[float | None, float | None] | None = None
    while not samples or samples[-1][1] < jobs:
        counted = tally.read(folder)
        if counted.jobs:
            if before is None:
                before = _used(arena, workers)
            samples.append((time.monotonic(), counted.jobs))
        for worker in workers:
            worker.check()
        until(deadline, f"draining {jobs} jobs ({counted.jobs} have started)")
        time.sleep(LOOK_SECONDS)
    while pending():
        until(deadline, f"draining {jobs} jobs (all have started)")
        time.sleep(LOOK_SECONDS)
    ended = time.monotonic()
    after = _used(arena, workers)
    first = tally.read(folder).first
    assert before is not None
    each = [
        None if late is None or early is None else (late - early) / jobs * 1e6
        for early, late in zip(before, after, strict=True)
    ]
    return Drained(jobs, ended - first, *fifths(samples, first, ended, jobs), *each)


def drain(
    arena: Arena, tables: Tables, jobs: int, *, workers: int = 1, url: str | None = None, **options: Any
) -> Drained:
    """Enqueue jobs, then start workers on them."""
    tables.enqueue(jobs)
    tables.settle()
    return run_workers(arena, tables, jobs, workers=workers, url=url, **options)


def run_workers(
    arena: Arena, tables: Tables, jobs: int, *, workers: int = 1, url: str | None = None, **options: Any
) -> Drained:
    """Start workers on what is there, and stop them when it is done."""
    with arena.folder() as folder:
        started: list[Child] = []
        try:
            started.extend(tables.worker(folder, url=url, **options) for _ in range(workers))
            for each in started:
                each.get_ready()
            for each in started:
                each.begin()
            return watch(arena, started, folder, jobs, tables.pending)
        finally:
            for each in started:
                each.stop()


def rest(arena: Arena) -> None:
    """Let what has been started come to rest."""
    time.sleep(arena.plan.settle)


def wait_for_delays(arena: Arena, folder: Path, number: int) -> list[float]:
    """The delays that jobs have left in ``folder``, once there are so many."""
    deadline = time.monotonic() + arena.plan.limit
    while len(found := tally.delays(folder)) < number:
        until(deadline, f"measuring {number} delays ({len(found)} were)")
        time.sleep(LOOK_SECONDS)
    return found


def _used(arena: Arena, workers: Sequence[Process]) -> tuple[float | None, float | None]:
    seconds = [worker.cpu_seconds() for worker in workers]
    known = [each for each in seconds if each is not None]
    return (sum(known) if len(known) == len(seconds) else None), arena.server_seconds()
