"""The tasks that are measured: one that does nothing, and a workflow of one that fans out and in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fairchild.record import Record
from fairchild.tasks import Registry, Task, TaskDecorator


@dataclass(frozen=True)
class Tasks:
    """The tasks, in a registry of their own."""

    registry: Registry
    noop: Task[Any, None]
    root: Task[Any, Any]


def make(hit: Callable[[float], None]) -> Tasks:
    """The tasks; ``hit`` is called at the start of each no-op job."""
    registry = Registry()
    task = TaskDecorator(registry)

    @task(name="bench.noop")
    def noop(i: int, sent: float = 0.0) -> None:  # noqa: ARG001 - a job has arguments
        hit(sent)

    @task(name="bench.child")
    def child(i: int) -> Record[int]:
        return Record(i)

    @task(name="bench.total")
    def total(values: list[int]) -> Record[int]:
        return Record(sum(values))

    @task(name="bench.root")
    def root(n: int) -> Record[Any]:
        return Record(total(values=[child(i=i) for i in range(n)]))

    return Tasks(registry, noop, root)
