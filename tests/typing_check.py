"""What type checkers make of tasks. Never run: mypy and pyright read it, and ``assert_type`` fails there.

A task keeps its parameters and has the type of its value, whether that comes wrapped in a Record or from a coroutine.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from typing_extensions import assert_type

from fairchild import CurrentJob, Fairchild, Job, Record, Task, task


@task
def bare(a: int, b: str = "") -> list[str]:
    return [b] * a


@task(queue="q", priority=1)
def with_options(a: int) -> Record[dict[str, int]]:
    return Record({"a": a})


@task
async def coroutine(a: int) -> float:
    return float(a)


@task
async def coroutine_of_record(a: int) -> Record[bytes]:
    return Record(bytes(a))


@task
def with_job(job: CurrentJob, a: int) -> int:
    return a + job.attempt


def check(client: Fairchild) -> None:
    assert_type(bare(1, b="x"), list[str])
    assert_type(with_options(1), dict[str, int])
    assert_type(coroutine(1), float)
    assert_type(coroutine_of_record(1), bytes)
    assert_type(bare.enqueue(1, "x"), Job)
    assert_type(bare.enqueue(1, _priority=1), Job)
    assert_type(bare.enqueue(bare.enqueue(2)), Job)
    assert_type(with_job.enqueue(1), Job)
    assert_type(bare.options(priority=1).enqueue(1), Job)
    assert_type(bare.enqueue_in(1, minutes=5), Job)
    assert_type(bare.enqueue_many([{"a": 1}]), list[UUID])
    assert_type(client.enqueue(bare, {"a": 1}), Job)
    assert_type(client.get_job(UUID(int=0)), "Job | None")
    assert_type(client.wait(bare.enqueue(1)), list[Job])

    bare("x")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    bare()  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]

    anything: Task[..., Any] = bare
    client.task(lambda: 1)
    del anything
