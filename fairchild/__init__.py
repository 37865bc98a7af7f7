"""fairchild: a PostgreSQL-backed job queue and workflow engine for synchronous Python.

Call tasks inside a task, get futures, pass them around, and the workflow is there.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fairchild.client import Fairchild, get_fairchild
    from fairchild.context import CurrentJob, current_job
    from fairchild.errors import (
        FairchildError,
        JobCancelled,
        JobFailed,
        NoResult,
        ResultTimeout,
        UnknownTask,
    )
    from fairchild.future import Future, Outcome
    from fairchild.job import Job, JobState
    from fairchild.record import Cancel, Discard, Record, Retry, Snooze
    from fairchild.rules.retry import Backoff
    from fairchild.tasks import Registry, Task, get_task, get_task_schemas, registry, task

_HOMES = {
    "Backoff": "fairchild.rules.retry",
    "Cancel": "fairchild.record",
    "CurrentJob": "fairchild.context",
    "Discard": "fairchild.record",
    "Fairchild": "fairchild.client",
    "FairchildError": "fairchild.errors",
    "Future": "fairchild.future",
    "Job": "fairchild.job",
    "JobCancelled": "fairchild.errors",
    "JobFailed": "fairchild.errors",
    "JobState": "fairchild.job",
    "NoResult": "fairchild.errors",
    "Outcome": "fairchild.future",
    "Record": "fairchild.record",
    "Registry": "fairchild.tasks",
    "ResultTimeout": "fairchild.errors",
    "Retry": "fairchild.record",
    "Snooze": "fairchild.record",
    "Task": "fairchild.tasks",
    "UnknownTask": "fairchild.errors",
    "current_job": "fairchild.context",
    "get_fairchild": "fairchild.client",
    "get_task": "fairchild.tasks",
    "get_task_schemas": "fairchild.tasks",
    "registry": "fairchild.tasks",
    "task": "fairchild.tasks",
}

__all__ = [
    "Backoff",
    "Cancel",
    "CurrentJob",
    "Discard",
    "Fairchild",
    "FairchildError",
    "Future",
    "Job",
    "JobCancelled",
    "JobFailed",
    "JobState",
    "NoResult",
    "Outcome",
    "Record",
    "Registry",
    "ResultTimeout",
    "Retry",
    "Snooze",
    "Task",
    "UnknownTask",
    "current_job",
    "get_fairchild",
    "get_task",
    "get_task_schemas",
    "registry",
    "task",
]


def __getattr__(name: str) -> Any:
    """Names are imported when first used: ``fairchild --help`` need not load a database driver."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'fairchild' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
