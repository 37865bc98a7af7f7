"""Durable jobs in tests: stored histories against the code of today, without a database; and time that passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from fairchild.client import Fairchild
from fairchild.context import CurrentJob, entered
from fairchild.db import journal
from fairchild.durable import Durable
from fairchild.errors import Suspended
from fairchild.job import JobState
from fairchild.record import Record
from fairchild.rules.replay import from_json
from fairchild.tasks import Task, get_task

NO_LIMIT = 2**40


@dataclass(frozen=True)
class Replayed:
    """How far a replay came: ``completed`` with its ``value``, or up to the call that the history does not have."""

    completed: bool
    value: Any = None


def replay(history: Mapping[str, Any], task: Task[Any, Any] | None = None) -> Replayed:
    """Run a durable task against what a job of it has called before: ``replay(fc.history(job_id))``.

    ``task``: the code to check; by default the registered task of that name. Nothing is run but the function itself:
    a step that the history does not have, or a value that is not there yet, is where the replay ends. Raises
    NonDeterminismError if the code does not do what it did, and what the function raises of its own.
    """
    found = get_task(history["task"]) if task is None else task
    job_id = UUID(history["job_id"])
    durable = Durable(job_id, found.name, from_json(history), None, NO_LIMIT)
    job = CurrentJob(
        id=job_id, task=found.name, state=JobState.RUNNING, args=dict(history["args"]), attempt=1,
        max_attempts=found.settings.max_attempts, workflow_id=job_id, durable=durable,
    )  # fmt: skip
    parameter = None if found.signature.job_parameter is None else job
    positional, keywords = found.signature.call_arguments(dict(history["args"]), parameter)
    try:
        with entered(job):
            value = found.fn(*positional, **keywords)
    except Suspended:
        return Replayed(completed=False)
    durable.finish()
    return Replayed(completed=True, value=value.value if isinstance(value, Record) else value)


def fast_forward(client: Fairchild, **time: float) -> None:
    """``fast_forward(fc, hours=2)``: what is scheduled, and what sleeps, is due that much sooner."""
    with client.database.link() as link:
        journal.fast_forward(link, timedelta(**time).total_seconds())
